"""What a spiking network is called with: batches of images that fit it, or one clear sentence."""

from torch import Tensor, fx

from ..graph.image_size import check_image_size
from ..graph.inputs import known_shapes


def by_place(count: int, given: tuple, *named) -> tuple[tuple, tuple]:
    """The inputs, and the arguments behind them, which may be given by place, too: snn(images, 32).

    Args:
        count: number of inputs.
        named: the other arguments in order, as they were given by name.
    """
    inputs, others = given[:count], given[count:]
    if any(isinstance(one, Tensor) for one in others) or len(others) > len(named):
        return given, named
    if others and named[0] is not None:
        raise ValueError(
            f"timesteps is given twice, as {others[0]!r} and as timesteps={named[0]!r}; give it once"
        )
    return inputs, (*others, *named[len(others) :])


def checked_inputs(
    network: fx.GraphModule, names: tuple[str, ...], inputs: tuple
) -> tuple[Tensor, ...]:
    """The inputs, each a batch of as many images that fits the network, or ValueError.

    Args:
        network: the graph of a spiking network.
        names: of its inputs.
    """
    if len(inputs) != len(names):
        raise ValueError(
            f"{len(inputs)} inputs were given to a network of {len(names)}: call "
            f"snn({', '.join(names)}, timesteps=T)"
        )
    made_for = known_shapes(network) or [None] * len(inputs)
    for name, images, shape in zip(names, inputs, made_for, strict=True):
        _check_images(network, images, shape)
        if len(images) != len(inputs[0]):
            raise ValueError(
                f"input {name!r} has {len(images)} images and {names[0]!r} has "
                f"{len(inputs[0])}; give as many of each"
            )
    return inputs


def _check_images(
    network: fx.GraphModule, images: Tensor, made_for: tuple[int, ...] | None
) -> None:
    if not isinstance(images, Tensor) or images.dim() < 2 or len(images) == 0:
        raise ValueError(
            f"images of shape {getattr(images, 'shape', None)} must be a batch "
            "[B, C, H, W] with at least one image"
        )
    weight = next(network.parameters(), None)
    if weight is not None and (weight.dtype, weight.device) != (images.dtype, images.device):
        raise ValueError(
            f"images are {images.dtype} on {images.device}, the network is {weight.dtype} on "
            f"{weight.device}; give images.to(device={str(weight.device)!r}, "
            f"dtype={weight.dtype})"
        )
    if images.is_floating_point() and not bool(images.isfinite().all()):
        bad = [i for i, image in enumerate(images) if not bool(image.isfinite().all())]
        raise ValueError(
            f"image {bad[0]} of the batch ({len(bad)} of {len(images)}) holds NaN or infinity, "
            "which neurons would turn into spikes; check how the images are read and normalised"
        )
    if made_for and images.dim() != len(made_for) + 1:
        raise ValueError(
            f"images of shape {tuple(images.shape)} must be a batch "
            f"[B, {', '.join(map(str, made_for))}]"
        )
    if network.meta.get("fixed_image_size") and made_for:
        check_image_size(images, made_for)

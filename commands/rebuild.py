"""A run's networks for another image size than the one they were trained with."""

from ..convert import convert_model
from ..snn import SpikingNetwork
from ..train import build_network


def for_size(run, img_size: int):
    """The trained network, built for `img_size` pixels, in eval mode.

    Parameters must fit; buffers that depend on the size (shift masks, position indices) are the
    new network's own.

    Raises:
        ValueError: the size cannot be built, or a parameter depends on it.
    """
    network = build_network({**run.build, "img_size": img_size})
    weights = run.checkpoint.get("model_ema") or run.checkpoint["model"]
    own = network.state_dict()
    fitting = {
        name: tensor
        for name, tensor in weights.items()
        if name in own and own[name].shape == tensor.shape
    }
    lost = [name for name, _ in network.named_parameters() if name not in fitting]
    if lost:
        raise ValueError(
            f"run {run.folder} cannot be evaluated at {img_size} pixels: "
            f"{', '.join(lost[:3])} depend on the size it was trained with, "
            f"{run.build['img_size']}; leave --img-size out"
        )
    network.load_state_dict(fitting, strict=False)
    return network.eval()


def convert_as(snn: SpikingNetwork, network) -> SpikingNetwork:
    """`network` converted with the settings of `snn`."""
    info = snn.info
    if info.calibration_text:
        raise ValueError(
            "this conversion was calibrated for its own image size; convert again for "
            "the new one, or leave --img-size out"
        )
    other = convert_model(
        network,
        neuron=info.neuron,
        attention=info.attention,
        mask=info.mask,
        mask_scaling=info.mask_scaling,
        mask_sites=info.mask_sites or None,
        readout=info.readout,
        seed=info.seed,
    )
    other.info.timesteps = info.timesteps
    return other

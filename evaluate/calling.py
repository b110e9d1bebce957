"""How a model is called: an ANN, one of our spiking networks, or anybody's."""

import contextlib
import inspect
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..support.structure import inputs_of, structure_of


def takes_timesteps(model) -> bool | None:
    """Whether a model can be called as model(images, timesteps=T); None if it does not say."""
    forward = model.forward if isinstance(model, nn.Module) else model
    try:
        parameters = inspect.signature(forward).parameters
    except (TypeError, ValueError):  # no signature to be had, such as of a built-in
        return None
    if "timesteps" in parameters:
        return True
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    return None if anything else False


def is_converted(model) -> bool:
    """Whether a model is a `SpikingNetwork` (the only one that is given `first_index`)."""
    return all(hasattr(model, name) for name in ("sites", "info", "set_aside"))


def reset_spikingjelly(model) -> None:
    """Reset the state of SpikingJelly's modules, and of nothing else that is called `reset`."""
    if not isinstance(model, nn.Module):
        return
    for module in model.modules():
        ours = any(cls.__module__.startswith("spikingjelly.") for cls in type(module).__mro__)
        if ours and callable(getattr(module, "reset", None)):
            module.reset()


class Caller:
    """Calls a model in the one way that fits it.

    Args:
        model: module or callable.
        timesteps: T, or None for the model's own.
        chunk: steps that run as one batch; converted networks only.
        task: of `evaluate`.
        output: name of the one tensor that counts, where the model gives several.

    Attributes:
        kind: "ann", "converted" or "direct".
    """

    def __init__(
        self,
        model,
        timesteps: int | None,
        chunk: int | None = None,
        task: str = "classify",
        output: str | None = None,
    ):
        self.model, self.timesteps, self.chunk = model, timesteps, chunk
        self.task, self.output = task, output
        self.converted = is_converted(model)
        self.timed = True if self.converted else takes_timesteps(model)
        self.kind = "converted" if self.converted else "direct" if self.timed else "ann"

    def __call__(self, images, first_index: int, around=contextlib.nullcontext) -> list[Tensor]:
        """Outputs [B, ...] of an ANN, readouts [T, B, ...] of a spiking network.

        Args:
            images: [B, ...]; of a model of several inputs a tuple of them.
            around: context manager of the model's own work; gives the images to pass on.
        """
        reset_spikingjelly(self.model)
        arguments = {}
        if self.timed and self.timesteps is not None:
            arguments["timesteps"] = self.timesteps
        if self.converted:
            arguments.update(chunk=self.chunk, first_index=first_index)
        with around(images) as given:
            out = self.model(*inputs_of(given), **arguments)
        outputs = self.chosen(out)
        spiking = self.task == "classify" and outputs[0].dim() == 3
        if self.timed is None and spiking and self.timesteps is not None:
            self.timed, self.kind = True, "direct"  # takes anything, and is no ANN
            return self(images, first_index, around)
        if self.kind == "ann" and spiking:
            self.kind = "direct"
        for x in outputs:
            self._check(x, inputs_of(images)[0], first_index)
        return outputs

    def chosen(self, out) -> list[Tensor]:
        """The tensors that count of what a model gives: of a classifier one, its logits."""
        structure, leaves = structure_of(out)
        named = zip(structure.names(), leaves, strict=True)
        found = {name: leaf for name, leaf in named if isinstance(leaf, Tensor)}
        wanted = self.output
        if wanted is None and self.task == "classify":
            wanted = "logits" if len(found) > 1 else next(iter(found), None)
        whole = len(found) == len(leaves) > 0
        if wanted is None and whole:
            return list(found.values())
        if wanted in found and whole:
            return [found[wanted]]
        if not whole:
            raise ValueError(
                f"the model returns {type(out).__name__}; it must return a tensor, "
                "[T, B, classes] (spiking) or [B, classes] (ANN)"
            )
        names = ", ".join(repr(name) for name in found)
        what = "none is called 'logits'" if self.output is None else f"none is {self.output!r}"
        raise ValueError(f"the model gives the outputs {names}; {what}: give output=NAME")

    def _check(self, out: Tensor, images: Tensor, first_index: int) -> None:
        classes = self.task == "classify"
        dims, what = (2, "[B, classes]") if self.kind == "ann" else (3, "[T, B, classes]")
        what = what if classes else what.replace("classes", "...")
        shape = tuple(out.shape)
        fits = out.dim() == dims if classes else out.dim() >= dims - 1
        if not fits or shape[dims - 2] != len(images):
            raise ValueError(
                f"the model returns a tensor of shape {shape} for {len(images)} "
                f"images; it must be {what}, the readout after each step"
            )
        event_frames = images.dim() == 5
        if (
            dims == 3
            and self.timesteps is not None
            and shape[0] != self.timesteps
            and not event_frames
        ):
            raise ValueError(
                f"the model returns {shape[0]} time steps for timesteps="
                f"{self.timesteps}; return the readout after every step"
            )
        if classes and shape[-1] < 2:
            raise ValueError(
                f"the model tells {shape[-1]} class apart; accuracy needs at least two"
            )
        bad = ~torch.isfinite(out)
        if bool(bad.any()):
            where = bad.nonzero()[0].tolist()
            step = f", step {where[0] + 1}" if dims == 3 else ""
            value, place = float(out[tuple(where)]), where[dims - 1 :]
            place = f", class {place[0]}" if classes else f", at {place}"
            raise ValueError(
                f"the model's output is {value} for image {first_index + where[dims - 2]}"
                f"{step}{place}; look for a division by zero, an "
                "overflow or uninitialised statistics in the network"
            )


@contextlib.contextmanager
def prepared(*models, device=None) -> Iterator[None]:
    """Models in eval mode on a device, without gradients; afterwards as they were.

    Recordings and observers of a converted network do not see what is simulated meanwhile.
    """
    modules = [model for model in models if isinstance(model, nn.Module)]
    training = [(m, m.training) for model in modules for m in model.modules()]
    homes = [(model, device_of(model)) for model in modules]
    try:
        for model in modules:
            model.eval()
            if device is not None:
                model.to(device)
        with torch.no_grad(), contextlib.ExitStack() as stack:
            for model in filter(is_converted, modules):
                stack.enter_context(model.set_aside())
            yield
    finally:
        for model, home in homes:
            if device is not None:
                model.to(home)
        for module, flag in training:
            module.training = flag


def device_of(model) -> torch.device:
    """Where a model computes: the device of its first parameter or buffer, else the CPU."""
    if isinstance(model, nn.Module):
        for tensor in (*model.parameters(), *model.buffers()):
            return tensor.device
    return torch.device("cpu")

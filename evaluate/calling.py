"""How a model is called: an ANN, one of our spiking networks, or anybody's."""

import contextlib
import inspect
from collections.abc import Iterator

import torch
from torch import Tensor, nn


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

    Attributes:
        kind: "ann", "converted" or "direct".
    """

    def __init__(self, model, timesteps: int | None, chunk: int | None = None):
        self.model, self.timesteps, self.chunk = model, timesteps, chunk
        self.converted = is_converted(model)
        self.timed = True if self.converted else takes_timesteps(model)
        self.kind = "converted" if self.converted else "direct" if self.timed else "ann"

    def __call__(self, images: Tensor, first_index: int, around=contextlib.nullcontext) -> Tensor:
        """Logits [B, K] of an ANN, readout [T, B, K] of a spiking network.

        Args:
            around: context manager of the model's own work; gives the images to pass on.
        """
        reset_spikingjelly(self.model)
        arguments = {}
        if self.timed and self.timesteps is not None:
            arguments["timesteps"] = self.timesteps
        if self.converted:
            arguments.update(chunk=self.chunk, first_index=first_index)
        with around(images) as given:
            out = self.model(given, **arguments)
        spiking = isinstance(out, Tensor) and out.dim() == 3
        if self.timed is None and spiking and self.timesteps is not None:
            self.timed, self.kind = True, "direct"  # takes anything, and is no ANN
            return self(images, first_index, around)
        return self._checked(out, images, first_index)

    def _checked(self, out, images: Tensor, first_index: int) -> Tensor:
        if not isinstance(out, Tensor):
            raise ValueError(
                f"the model returns {type(out).__name__}; it must return a tensor, "
                "[T, B, classes] (spiking) or [B, classes] (ANN)"
            )
        if self.kind == "ann" and out.dim() == 3:
            self.kind = "direct"
        dims, what = (2, "[B, classes]") if self.kind == "ann" else (3, "[T, B, classes]")
        shape = tuple(out.shape)
        if out.dim() != dims or shape[-2] != len(images):
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
        if shape[-1] < 2:
            raise ValueError(
                f"the model tells {shape[-1]} class apart; accuracy needs at least two"
            )
        bad = ~torch.isfinite(out)
        if bool(bad.any()):
            where = bad.nonzero()[0].tolist()
            step = f", step {where[0] + 1}" if dims == 3 else ""
            value = float(out[tuple(where)])
            raise ValueError(
                f"the model's output is {value} for image {first_index + where[-2]}"
                f"{step}, class {where[-1]}; look for a division by zero, an "
                "overflow or uninitialised statistics in the network"
            )
        return out


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

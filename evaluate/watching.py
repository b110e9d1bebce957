"""Watches the neurons of a spiking network while it runs on a few images."""

import contextlib
import dataclasses

import torch
from torch import Tensor

from ..counting.modules import is_spikingjelly_neuron
from ..neurons import broadcast_threshold
from .calling import Caller

_SAMPLE = 512  # neurons of the first image that are watched step by step


@dataclasses.dataclass
class Watched:
    """One neuron layer. Tensors of [B, ...] hold one value per neuron of each image.

    Attributes:
        steps: T.
        spikes: [B, ...] nonzero values sent.
        sample: int8 [T, S] what neurons of the first image sent, in units.
        membranes: [T, S] their potential after each step over the threshold, or None.
        sent, read: [B, ...] what was sent and received, per step of the window (or in all, for a
            running sum); None for a direct-trained network.
        threshold: broadcasts to `sent`.
    """

    name: str
    steps: int
    spikes: Tensor
    sample: Tensor
    membranes: Tensor | None = None
    sent: Tensor | None = None
    read: Tensor | None = None
    threshold: Tensor | None = None


@dataclasses.dataclass
class Run:
    """All layers of one simulation.

    Attributes:
        window: first and last step of the mean that is compared with the ANN; None: a sum.
        map_site, map_spikes: the layer of the maps, and |spikes| of the first image there,
            [T, C, h, w]; None if no layer has places.
        skipped: layers that could not be read, with their reasons.
    """

    layers: dict[str, Watched]
    steps: int
    window: tuple[int, int] | None
    skipped: list[str] = dataclasses.field(default_factory=list)
    map_site: str | None = None
    map_spikes: Tensor | None = None
    map_axis: int = 1


def chosen_neurons(count: int) -> Tensor:
    """Indices of a sample of `count` neurons, always the same one."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:_SAMPLE]


def places(shape: tuple[int, ...], batch: int, axis: int) -> tuple[int, int] | None:
    """Height and width of the places of a layer [B, C, H, W], [B, H, W, C] or [B, N, C]."""
    if len(shape) not in (3, 4) or shape[0] != batch:
        return None
    if len(shape) == 3:
        side = round(shape[1] ** 0.5)
        height, width = (side, side) if side * side == shape[1] else (0, 0)
    else:
        height, width = shape[2:] if axis == 1 else shape[1:3]
    return (height, width) if min(height, width) >= 4 else None


def as_maps(x: Tensor, axis: int) -> Tensor:
    """[B, C, H, W], [B, H, W, C] or [B, N, C] -> [B, C, H, W]."""
    if x.dim() == 4:
        return x if axis == 1 else x.permute(0, 3, 1, 2)
    side = round(x.shape[1] ** 0.5)
    return x.transpose(1, 2).unflatten(2, (side, side))


# ---- converted networks -------------------------------------------------------------------------


class _Watcher:
    """Observer of a `SpikingNetwork` that runs step by step."""

    def __init__(self, model, batch: int, window: tuple[int, int] | None):
        self.model, self.batch, self.window = model, batch, window
        self.names = {id(site.neuron): name for name, site in model.sites.items()}
        self.layers: dict[str, Watched] = {}
        self.rows: dict[str, tuple[list, list]] = {}
        self.shapes: dict[str, tuple[tuple[int, ...], int]] = {}
        self.map_site: str | None = None
        self.maps: list[Tensor] = []

    def __call__(self, node, module, args, kwargs, output, clock) -> None:
        name = self.names.get(id(module))
        if name is None:
            return
        step = clock.start + 1
        units = module.to_integers(output)
        self.shapes[name] = tuple(output.shape), module.axis
        if name not in self.layers:
            zeros = torch.zeros_like(output)
            threshold = broadcast_threshold(module.threshold, module.axis, output.dim())
            self.layers[name] = Watched(
                name, 0, zeros, zeros, None, zeros.clone(), zeros.clone(), threshold
            )
            self.rows[name] = [], []
        found = self.layers[name]
        found.steps = step
        found.spikes = found.spikes + units.ne(0)
        inside = self.window is None or self.window[0] <= step <= self.window[1]
        if inside:
            found.sent = found.sent + output
        if module.running_input:  # the mean, or the sum, of all steps so far
            total = module.coding.total(args[0], step)
            before = self.window is not None and step == self.window[0] - 1
            if before:
                found.sample = total
            if self.window is None or step == self.window[1]:
                found.read = total - (found.sample if self.window and self.window[0] > 1 else 0)
        elif inside:
            found.read = found.read + args[0]
        neurons = chosen_neurons(output.numel() // self.batch)
        height = module.threshold.clamp(min=1e-12)
        level = module.membrane() / broadcast_threshold(height, module.axis, output.dim())
        self.rows[name][0].append(units.reshape(self.batch, -1)[0, neurons].cpu())
        self.rows[name][1].append(level.reshape(self.batch, -1)[0, neurons].float().cpu())
        if name == self.map_site:
            self.maps.append(as_maps(units, module.axis)[0].abs().float().cpu())

    def finish(self) -> None:
        for name, found in self.layers.items():
            spikes, membranes = self.rows[name]
            found.sample = torch.stack(spikes).clamp(-127, 127).to(torch.int8)
            found.membranes = torch.stack(membranes)
            if self.window is not None:
                length = self.window[1] - self.window[0] + 1
                found.sent, found.read = found.sent / length, found.read / length


def watch_converted(caller: Caller, images: Tensor, first_index: int, map_site: str | None) -> Run:
    """Run a `SpikingNetwork` step by step."""
    model = caller.model
    if map_site is not None and map_site not in model.sites:
        raise ValueError(
            f"no layer is called {map_site!r}; layers: {', '.join(list(model.sites)[-10:])}"
        )
    batch = len(images)
    steps = caller.timesteps or model.info.timesteps
    if not steps:
        raise ValueError("timesteps is missing: give the number T of steps to watch")
    window = model.coding.window(model.info.readout, steps)
    watcher = _Watcher(model, batch, window)
    with model.observe(watcher):
        model(images, timesteps=1, first_index=first_index)  # what shapes there are
    shapes = watcher.shapes
    watcher = _Watcher(model, batch, window)
    watcher.map_site = _map_site(shapes, batch, map_site)
    caller.timesteps = steps
    with model.observe(watcher):
        caller(images, first_index)
    watcher.finish()
    run = Run(watcher.layers, steps, window, map_site=watcher.map_site)
    if watcher.maps:
        run.map_spikes = torch.stack(watcher.maps)
        run.map_axis = shapes[watcher.map_site][1]
    return run


def _map_site(shapes: dict, batch: int, wanted: str | None) -> str | None:
    """The wanted layer, else the last one with 8 x 8 places, else the last one that has places.

    Token layers go before [B, C, H, W], which may be the attention of a transformer.
    """
    sizes = {name: places(shape, batch, axis) for name, (shape, axis) in shapes.items()}
    fitting = {name: len(shapes[name][0]) for name, size in sizes.items() if size}
    if wanted is not None:
        if wanted not in fitting:
            raise ValueError(
                f"layer {wanted!r} of shape {list(shapes[wanted][0])} has no places "
                f"(at least 4 x 4); layers that have: {', '.join(list(fitting)[-5:])}"
            )
        return wanted
    tokens = [name for name, dims in fitting.items() if dims == 3] or list(fitting)
    fine = [name for name in tokens if min(sizes[name]) >= 8]
    return (fine or tokens or [None])[-1]


# ---- networks with SpikingJelly neurons ---------------------------------------------------------


def watch_direct(caller: Caller, images: Tensor, first_index: int, map_site: str | None) -> Run:
    """Run a network whose neurons are SpikingJelly's, all in multi-step mode."""
    neurons = {
        name: module
        for name, module in caller.model.named_modules()
        if is_spikingjelly_neuron(module)
    }
    if not neurons:
        raise ValueError(
            f"{type(caller.model).__name__} has no neurons that are known; observe "
            "takes converted networks and those with SpikingJelly neurons"
        )
    outputs: dict[str, list[Tensor]] = {}
    voltages: dict[str, Tensor] = {}
    with contextlib.ExitStack() as stack:
        for name, module in neurons.items():
            stack.enter_context(_storing(module))
            hook = module.register_forward_hook(_keeper(name, outputs, voltages))
            stack.callback(hook.remove)
        (readout,) = caller(images, first_index)
    steps, batch = readout.shape[0], len(images)
    run = Run({}, steps, None)
    for name in outputs:
        found = _direct_layer(name, outputs[name], voltages.get(name), neurons[name], steps, batch)
        if isinstance(found, str):
            run.skipped.append(f"{name}: {found}")
        else:
            run.layers[name] = found
    if not run.layers:
        raise ValueError("no neuron layer sends [T, B, ...]: " + "; ".join(run.skipped[:3]))
    _map_of_direct(run, outputs, batch, map_site)
    return run


def _keeper(name: str, outputs: dict, voltages: dict):
    def hook(module, args, out):
        outputs.setdefault(name, []).append(out.detach())
        stored = getattr(module, "v_seq", None)
        if isinstance(stored, Tensor):
            voltages[name] = stored.detach().clone()

    return hook


@contextlib.contextmanager
def _storing(module):
    """A neuron keeps its membrane after each step while the context lasts, if it can."""
    old = getattr(module, "store_v_seq", None)
    if old is not None:
        module.store_v_seq = True
    try:
        yield
    finally:
        if old is not None:
            module.store_v_seq = old
        if old is False and hasattr(module, "v_seq"):
            module.reset()


def _direct_layer(
    name: str, calls: list[Tensor], voltage: Tensor | None, module, steps: int, batch: int
) -> Watched | str:
    """One layer, or why it cannot be read."""
    if len(calls) == 1 and calls[0].shape[:2] == (steps, batch):
        sent = calls[0]
    elif len(calls) == steps and all(out.shape[0] == batch for out in calls):
        sent, voltage = torch.stack(calls), None  # one call per step
    else:
        shapes = ", ".join(str(list(out.shape)) for out in calls[:2])
        return f"sends {shapes}, which does not start with [T, B] = [{steps}, {batch}]"
    neurons = chosen_neurons(sent[0, 0].numel())
    flat = sent.flatten(2)[:, 0, neurons]
    membranes = None
    if voltage is not None and voltage.shape == sent.shape:
        threshold = float(getattr(module, "v_threshold", 1.0)) or 1.0
        membranes = voltage.flatten(2)[:, 0, neurons].float().cpu() / threshold
    return Watched(
        name,
        steps,
        sent.ne(0).sum(0).float(),
        flat.round().clamp(-127, 127).to(torch.int8).cpu(),
        membranes,
    )


def _map_of_direct(run: Run, outputs: dict, batch: int, wanted: str | None) -> None:
    fitting = [
        name
        for name in run.layers
        if len(outputs[name]) == 1
        and outputs[name][0].dim() == 5
        and places(tuple(outputs[name][0].shape[1:]), batch, 1)
    ]
    if wanted is not None and wanted not in fitting:
        raise ValueError(
            f"layer {wanted!r} has no places [T, B, C, H, W]; layers that have: "
            f"{', '.join(fitting[-5:])}"
        )
    if fitting:
        run.map_site = wanted or fitting[-1]
        run.map_spikes = outputs[run.map_site][0][:, 0].abs().float().cpu()

"""Which layer loses the accuracy: each site of the original network against its neurons at T."""

import torch
from torch import Tensor, nn

from ..graph import Prepared, prepare
from ..neurons import QCFS, ClippedReLU, quantise
from ..neurons.qcfs import broadcast_threshold, clip
from ..support.precision import full_precision
from ..support.structure import inputs_of, tensors_of
from .reference import reference_network


@full_precision
@torch.no_grad()
def layer_errors(network, model: nn.Module | Prepared, images, timesteps: int) -> list[dict]:
    """Compare every site of a QCFS network with the spiking network made of it, after T steps.

    Errors are norms relative to the norm of the activation in `reference_network`.

    Args:
        network: the spiking network.
        model: the QCFS network that it was made of, as `insert_qcfs` gives it.
        images: [B, C, H, W] of real data; of a network of several inputs a tuple of them.

    Returns:
        A row per site, in the order of the data flow: name; ann (root mean square of the reference);
        error; clipping (relu against clip of what the reference reads); quantisation (clip against
        QCFS); unevenness (what this site itself adds: its mean output against clip or QCFS of its
        mean input). What is left of the error comes from the layers before.
    """
    prepared = prepare(model)
    reference = reference_network(network, prepared)
    coding = network.coding
    sites = reference.network
    read, gave = {}, {}
    for name, module in sites.named_modules():
        if isinstance(module, (QCFS, ClippedReLU)) and name in network.sites:
            module.register_forward_hook(_keep(read, gave, name))
    reference(*inputs_of(images))
    sums = _simulate(network, images, timesteps)
    rows = []
    for name, site in network.sites.items():
        if name not in read:
            continue
        x, target = read[name], gave[name]
        neuron = site.neuron
        current, sent = sums[name]
        threshold = broadcast_threshold(neuron.threshold, neuron.axis, x.dim())
        trained = broadcast_threshold(
            sites.get_submodule(name).threshold.detach(), sites.get_submodule(name).axis, x.dim()
        )
        count = prepared.levels.get(name, network.sites[name].levels)
        ideal = x if neuron.signed else x.clamp(min=0)
        clipped = clip(x, trained, neuron.signed)
        level = quantise(x, trained, count, neuron.signed) * (trained / count)
        sent = coding.running(sent, timesteps)
        own = coding.running(current, timesteps)
        own = coding.activation(own, threshold, count, neuron.signed)
        rows.append(
            {
                "name": name,
                "ann": _rms(target),
                "error": _relative(sent, target, target),
                "clipping": _relative(clipped, ideal, target),
                "quantisation": _relative(level, clipped, target),
                "unevenness": _relative(sent, own, target),
            }
        )
    return rows


def _keep(read: dict, gave: dict, name: str):
    def hook(module, inputs, output):
        read[name], gave[name] = inputs[0], output

    return hook


def _simulate(network, images, timesteps: int) -> dict[str, tuple[Tensor, Tensor]]:
    """{site: (sum of what it read, sum of what it sent)} after T steps, [B, ...] each."""
    neurons = {id(site.neuron): name for name, site in network.sites.items()}
    sums: dict[str, tuple[Tensor, Tensor]] = {}

    def observe(node, module, args, kwargs, output, clock) -> None:
        name = neurons.get(id(module))
        if name is None:
            return
        x, sent = clock.split(args[0]), clock.split(output).sum(0)
        if module.running_input:
            x = module.coding.total(x[-1], clock.start + clock.steps)
            before = 0
        else:
            x, before = x.sum(0), sums[name][0] if name in sums else 0
        bias = getattr(module, "step_bias", None)
        sums[name] = (x + before, sent + (sums[name][1] if name in sums else 0))
        if bias is not None and not module.running_input:
            part = bias[clock.start : clock.start + clock.steps].sum(0)
            sums[name] = (sums[name][0] + part, sums[name][1])

    with network.set_aside(), network.observe(observe):
        network(*inputs_of(images), timesteps=timesteps, readout="mean")
    return sums


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def _relative(a: Tensor, b: Tensor, reference: Tensor) -> float:
    """|a - b| / |reference|; 0 where all three are 0."""
    error, size = float((a - b).norm()), float(reference.norm())
    return error / size if size else (0.0 if error == 0 else float("inf"))


@full_precision
@torch.no_grad()
def logit_errors(
    network, model: nn.Module | Prepared, images, timesteps: int, readout: str | None = None
) -> dict[int, float]:
    """Relative error of the logits {t: error} at t = T/4, T/2 and T, on a batch of images.

    Against `reference_network`; the mean over images is left in. Of several outputs all values
    together.
    """
    target = _joined(reference_network(network, model)(*inputs_of(images)), 0)
    with network.set_aside():
        readout = network(*inputs_of(images), timesteps=timesteps, readout=readout)
    logits = _joined(readout, 1)
    steps = sorted({max(1, timesteps // 4), max(1, timesteps // 2), timesteps})
    return {t: _relative(logits[t - 1], target, target) for t in steps}


def _joined(output, axis: int) -> Tensor:
    """All values of an output in one row, or in one row for each step."""
    return torch.cat([x.flatten(axis) for x in tensors_of(output)], -1)


def convergence_sentence(errors: dict[int, float], reference: str) -> str:
    """In one sentence: the errors, and whether they are still falling."""
    steps = sorted(errors)
    values = ", ".join(f"{errors[t]:.3g} at T={t}" for t in reversed(steps))
    last, before = errors[steps[-1]], errors[steps[max(0, len(steps) - 2)]]
    if last <= 1e-6:
        state = "which is exact"
    elif last < 0.8 * before:
        state = "and it is still falling"
    else:
        state = "and it is no longer falling"
    return f"Relative error of the logits against the {reference}: {values}, {state}."


def reference_name(network) -> str:
    return network.coding.limit

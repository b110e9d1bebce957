"""SpikingJelly's multi-step neurons with a lean path for inference on a CPU.

Each class is its SpikingJelly parent; only where no gradient is asked for, on a CPU, from rest,
do the T steps run in place and in pieces that stay in the cache. Same operations, same order,
bit-equal spikes and membranes.
"""

import math

import torch
from spikingjelly.activation_based import neuron

PIECE = 1 << 17  # elements of a membrane that run through all steps at once: 512 KiB in float32


def _is_lean(node, x_TB: torch.Tensor) -> bool:
    """Whether the lean path may stand in for SpikingJelly's own."""
    wants_gradient = torch.is_grad_enabled() and (
        x_TB.requires_grad or any(weight.requires_grad for weight in node.parameters()))
    return (not wants_gradient and not node.store_v_seq and isinstance(node.v, float)
            and node.v_reset == 0.0 and node.v == 0.0 and x_TB.device.type == "cpu"
            and x_TB.dtype in (torch.float32, torch.float64) and x_TB.numel() > 0
            and type(x_TB) in (torch.Tensor, torch.nn.Parameter) and x_TB[0].is_contiguous()
            and not torch.compiler.is_compiling())


def _run(x_TB: torch.Tensor, threshold: float, charge_) -> tuple[torch.Tensor, torch.Tensor]:
    """Spikes `[T, ...]` and last membrane `[...]` of a neuron that starts at 0 and resets to 0.

    `charge_(v, x, h)` writes the charged membrane into `h`; `v` is None at rest.
    """
    steps = x_TB.shape[0]
    spikes = torch.empty(x_TB.shape, dtype=x_TB.dtype)
    membrane = torch.empty(x_TB.shape[1:], dtype=x_TB.dtype)
    flat_x = [x.view(-1) for x in x_TB]
    flat_spikes, flat_membrane = spikes.view(steps, -1), membrane.view(-1)
    spare = torch.empty(min(PIECE, flat_membrane.numel()), dtype=x_TB.dtype)
    for start in range(0, flat_membrane.numel(), PIECE):
        end = min(start + PIECE, flat_membrane.numel())
        v, h = None, spare[: end - start]
        other = flat_membrane[start:end]
        if steps % 2:
            h, other = other, h  # the last step's membrane shall lie in `membrane`
        for t in range(steps):
            charge_(v, flat_x[t][start:end], h)
            fired = torch.ge(h, threshold, out=flat_spikes[t, start:end])
            v = h.addcmul_(h, fired, value=-1)
            h, other = other, h
    return spikes, membrane


class LIFNode(neuron.LIFNode):
    """SpikingJelly's LIF: v += (x - v) / tau."""

    def multi_step_forward(self, x_seq: torch.Tensor, *args, **kwargs):
        if not (self.decay_input and _is_lean(self, x_seq)):
            return super().multi_step_forward(x_seq, *args, **kwargs)
        tau = self.tau
        power_of_two = math.frexp(tau)[0] == 0.5  # then 1 / tau is exact

        def charge_(v, x, h):
            if v is None:
                torch.div(x, tau, out=h)
            elif power_of_two:
                torch.add(v, torch.sub(x, v, out=h), alpha=1 / tau, out=h)
            else:
                torch.sub(x, v, out=h).div_(tau).add_(v)

        spikes, self.v = _run(x_seq, self.v_threshold, charge_)
        return spikes


class ParametricLIFNode(neuron.ParametricLIFNode):
    """SpikingJelly's PLIF: v += (x - v) * sigmoid(w), w learnt."""

    def multi_step_forward(self, x_seq: torch.Tensor, *args, **kwargs):
        if not (self.decay_input and self.w.dtype == x_seq.dtype and _is_lean(self, x_seq)):
            return super().multi_step_forward(x_seq, *args, **kwargs)
        rate = self.w.detach().sigmoid()

        def charge_(v, x, h):
            if v is None:
                torch.mul(x, rate, out=h)
            else:
                torch.sub(x, v, out=h).mul_(rate).add_(v)

        spikes, self.v = _run(x_seq, self.v_threshold, charge_)
        return spikes


class IFNode(neuron.IFNode):
    """SpikingJelly's IF: v += x."""

    def multi_step_forward(self, x_seq: torch.Tensor, *args, **kwargs):
        if not _is_lean(self, x_seq):
            return super().multi_step_forward(x_seq, *args, **kwargs)

        def charge_(v, x, h):
            if v is None:
                h.copy_(x)
            else:
                torch.add(v, x, out=h)

        spikes, self.v = _run(x_seq, self.v_threshold, charge_)
        return spikes

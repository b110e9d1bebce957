"""SpikingJelly's multi-step neurons with a lean path for the CPU.

Each class is its SpikingJelly parent; only on a CPU, and from rest, do the T steps run here: in
pieces that stay in the cache, with a backward pass written out. Same operations in the same
order: spikes and membranes are bit-equal to the parent's, gradients equal to rounding.
"""

import math

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch.autograd.function import once_differentiable

# Elements of a membrane that run through all steps at once. PyTorch splits an operation among
# threads above 32768 elements: on two threads that gains less than their meeting costs as soon as
# somebody else uses the cores.
PIECE, PIECE_FOR_MANY_THREADS = 1 << 15, 1 << 18


def _sigmoid_slope(u: torch.Tensor, alpha: float) -> torch.Tensor:
    s = (u * alpha).sigmoid_()
    return (1 - s).mul_(s).mul_(alpha)


def _atan_slope(u: torch.Tensor, alpha: float) -> torch.Tensor:
    z = u * (math.pi / 2 * alpha)
    return z.mul_(z).add_(1).reciprocal_().mul_(alpha / 2)


SLOPES = {surrogate.Sigmoid: _sigmoid_slope, surrogate.ATan: _atan_slope}


class Lif:
    """h = v + (x - v) / tau."""

    def __init__(self, tau: float):
        self.tau, self.keep = tau, 1 - 1 / tau
        self.power_of_two = math.frexp(tau)[0] == 0.5  # then 1 / tau is exact

    def charge_(self, v, x, h) -> None:
        """Write the charged membrane into `h`; `v` is None at rest."""
        if v is None:
            torch.div(x, self.tau, out=h)
        elif self.power_of_two:
            torch.add(v, torch.sub(x, v, out=h), alpha=1 / self.tau, out=h)
        else:
            torch.sub(x, v, out=h).div_(self.tau).add_(v)

    def to_input(self, grad_h: torch.Tensor, out: torch.Tensor) -> None:
        torch.div(grad_h, self.tau, out=out)


class Plif:
    """h = v + (x - v) * sigmoid(w)."""

    def __init__(self, w: torch.Tensor):
        self.rate = w.detach().sigmoid()
        self.keep = 1 - self.rate

    def charge_(self, v, x, h) -> None:
        if v is None:
            torch.mul(x, self.rate, out=h)
        else:
            torch.sub(x, v, out=h).mul_(self.rate).add_(v)

    def to_input(self, grad_h: torch.Tensor, out: torch.Tensor) -> None:
        torch.mul(grad_h, self.rate, out=out)


class If:
    """h = v + x."""

    keep = 1.0

    def charge_(self, v, x, h) -> None:
        if v is None:
            h.copy_(x)
        else:
            torch.add(v, x, out=h)

    def to_input(self, grad_h: torch.Tensor, out: torch.Tensor) -> None:
        out.copy_(grad_h)


def _pieces(count: int) -> list[slice]:
    size = PIECE if torch.get_num_threads() <= 2 else PIECE_FOR_MANY_THREADS
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _run(x_T: torch.Tensor, dynamics, threshold: float, charged_T: torch.Tensor | None = None):
    """(spikes `[T, ...]`, last membrane `[...]`); fills `charged_T` with what met the threshold."""
    steps = x_T.shape[0]
    spikes = torch.empty(x_T.shape, dtype=x_T.dtype)
    membrane = torch.empty(x_T.shape[1:], dtype=x_T.dtype)
    flat_x = [x.view(-1) for x in x_T]
    flat_spikes, flat_membrane = spikes.view(steps, -1), membrane.view(-1)
    pieces = _pieces(flat_membrane.numel())
    spare = torch.empty(2, pieces[0].stop, dtype=x_T.dtype)
    flat_charged = None if charged_T is None else charged_T.view(steps, -1)
    for piece in pieces:
        size = piece.stop - piece.start
        v = None
        for t in range(steps):
            h = spare[t % 2, :size] if charged_T is None else flat_charged[t, piece]
            dynamics.charge_(v, flat_x[t][piece], h)
            fired = torch.ge(h, threshold, out=flat_spikes[t, piece])
            v = flat_membrane[piece] if t == steps - 1 else spare[t % 2, :size]
            torch.addcmul(h, h, fired, value=-1, out=v)
    return spikes, membrane


class _Trained(torch.autograd.Function):
    """`_run` with the surrogate gradient, backwards through time."""

    @staticmethod
    def forward(ctx, x_T, w, dynamics, threshold, slope, detach_reset):
        charged = torch.empty(x_T.shape, dtype=x_T.dtype)
        spikes, membrane = _run(x_T, dynamics, threshold, charged)
        ctx.save_for_backward(charged)
        ctx.arguments = dynamics, threshold, slope, detach_reset
        ctx.set_materialize_grads(False)
        return spikes, membrane

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_spikes, grad_membrane):
        (charged,) = ctx.saved_tensors
        dynamics, threshold, slope, detach_reset = ctx.arguments
        steps = charged.shape[0]
        flat_charged = charged.view(steps, -1)
        flat_grad = None if grad_spikes is None else grad_spikes.reshape(steps, -1)
        carried = None if grad_membrane is None else grad_membrane.reshape(-1)
        grad_x = torch.empty(charged.shape, dtype=charged.dtype)
        flat_grad_x = grad_x.view(steps, -1)
        grad_rate = charged.new_zeros(())
        for piece in _pieces(flat_charged.shape[1]):
            carry = None if carried is None else carried[piece]
            for t in reversed(range(steps)):
                h = flat_charged[t, piece]
                to_spike = slope(h - threshold)
                grad_h = (
                    torch.zeros_like(h) if flat_grad is None else flat_grad[t, piece] * to_spike
                )
                if carry is not None:
                    silent = h < threshold
                    grad_h.addcmul_(carry, silent)
                    if not detach_reset:
                        grad_h.addcmul_(carry, to_spike.mul_(h), value=-1)
                dynamics.to_input(grad_h, flat_grad_x[t, piece])
                if ctx.needs_input_grad[1]:
                    before = flat_charged[t - 1, piece] if t else torch.zeros_like(h)
                    grad_rate += (grad_h * (h - before * (before < threshold))).sum()
                carry = grad_h.mul_(dynamics.keep)
        grad_w = grad_rate * dynamics.keep if ctx.needs_input_grad[1] else None
        return grad_x, grad_w, None, None, None, None


class _Lean:
    """Mixed into a SpikingJelly neuron: takes the lean path where it may."""

    def _lean_dynamics(self):
        raise NotImplementedError

    def multi_step_forward(self, x_seq: torch.Tensor, *args, **kwargs):
        w = getattr(self, "w", None)
        trained = torch.is_grad_enabled() and (
            x_seq.requires_grad or (w is not None and w.requires_grad)
        )
        if not self._may_run_lean(x_seq, trained):
            return super().multi_step_forward(x_seq, *args, **kwargs)
        if trained:
            function, alpha = SLOPES[type(self.surrogate_function)], self.surrogate_function.alpha
            spikes, self.v = _Trained.apply(
                x_seq,
                w,
                self._lean_dynamics(),
                self.v_threshold,
                lambda u: function(u, alpha),
                self.detach_reset,
            )
        else:
            spikes, self.v = _run(x_seq.detach(), self._lean_dynamics(), self.v_threshold)
        return spikes

    def _may_run_lean(self, x_seq: torch.Tensor, trained: bool) -> bool:
        gradient = self.surrogate_function
        return (
            x_seq.device.type == "cpu"
            and x_seq.dtype in (torch.float32, torch.float64)
            and x_seq.numel() > 0
            and x_seq[0].is_contiguous()
            and isinstance(self.v, float)
            and self.v == 0.0
            and self.v_reset == 0.0
            and not self.store_v_seq
            and getattr(self, "decay_input", True)
            and getattr(self, "w", x_seq).dtype == x_seq.dtype
            and getattr(gradient, "spiking", True)
            and (not trained or type(gradient) in SLOPES)
            and not torch.compiler.is_compiling()
        )


class LIFNode(_Lean, neuron.LIFNode):
    """SpikingJelly's LIF."""

    def _lean_dynamics(self):
        return Lif(self.tau)


class ParametricLIFNode(_Lean, neuron.ParametricLIFNode):
    """SpikingJelly's PLIF; `w` is learnt."""

    def _lean_dynamics(self):
        return Plif(self.w)


class IFNode(_Lean, neuron.IFNode):
    """SpikingJelly's IF."""

    def _lean_dynamics(self):
        return If()

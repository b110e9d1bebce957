"""From the graph of a spiking network to the layers that leave, or a refusal of all without a form.

A value of the graph is a sum of layers, each times a factor per channel, and an offset. Factors (spike
heights, pooling divisors, affine scales) move into the next weights; those in front of a neuron, with
its threshold, into the last.
"""

import dataclasses
import math

import torch
from torch import Tensor, fx, nn

from ..graph.domains import Domain
from ..graph.errors import Offence
from ..graph.nodes import place_of, words_of
from ..graph.outputs import output_nodes
from ..neurons import IF, ChannelAffine, Present, SeededMask, SpikingNeuron
from ..ops import Kind, module_of, operation_of
from ..ops.as_modules import argument
from ..snn import SpikingNetwork
from .arguments import channels, dims, pair, pool_module, same, times_inputs
from .layers import Exportable, Flatten, Image, Layer, Neurons, Pool, Readout, Weighted
from .passes import merge_scales
from .values import Term, Value, by_factor, per_channel


class UnexportableError(ValueError):
    """A network that has no form at the target; lists every offending node (`offences`)."""

    def __init__(self, offences: list[Offence]):
        self.offences = offences
        count = f"{len(offences)} operations have" if len(offences) != 1 else "1 operation has"
        lines = "\n".join(f"  {offence}" for offence in offences)
        super().__init__(f"{count} no form outside:\n{lines}")


_NO_FORM = "only sums, convolutions, linear layers, average pooling and neurons have a form in NIR"
_SIGNED = "it sends signed or multi-level spikes; convert with --neuron if"
_BIAS = "its bias differs from step to step; convert with --calibrate thresholds"
_MASK = "random spike masks have no form in NIR; convert with --mask 0"
_MEANS = (
    "it acts on means over time, which no node of NIR does; train the network without it (average "
    "pooling for max-pooling, batch norm for layer norm, no attention)"
)
_PADDING = "an average that leaves padding out, or windows that do not fit, have no form in NIR"
_ZERO = torch.zeros((), dtype=torch.float64)
_ONE = torch.ones((), dtype=torch.float64)


def lower(
    snn: SpikingNetwork, example: Tensor, averages: bool = False, bias_steps: int | None = None
) -> Exportable:
    """The layers of a spiking network for images of the size of an example.

    Args:
        example: [B, C, H, W].
        averages: pools average their windows, not sum them.
        bias_steps: T over which a bias brings the charge that neurons would start with; None: they
            start with it.

    Raises:
        UnexportableError: operations without a form, all at once.
    """
    work = _Lowering(snn, _results(snn, example), averages, bias_steps)
    for node in snn.network.graph.nodes:
        if node.op != "output":
            work.lower(node)
    outputs = output_nodes(snn.network)
    if work.refused:
        raise UnexportableError(work.refused)
    if any(work.values[node] is None for node in outputs):
        raise ValueError("the output is computed from means over time; export takes sums of spikes")
    if len(outputs) != 1 or len(snn.inputs) != 1:
        raise ValueError(
            f"the network has {len(snn.inputs)} inputs and {len(outputs)} outputs; export takes "
            "networks of one image and one output"
        )
    work.end(outputs[0])
    network = Exportable(work.layers, snn.info.readout)
    merge_scales(network)
    return network


def _results(snn: SpikingNetwork, example: Tensor) -> dict[fx.Node, object]:
    """What each node gives in a first step on one image."""
    found: dict[fx.Node, object] = {}

    def keep(node, module, args, kwargs, output, clock):
        found[node] = output

    with snn.set_aside(), snn.observe(keep):
        snn(example[:1], timesteps=1, chunk=1)
    found.update(dict.fromkeys(snn.executor.inputs, example[:1]))
    return found


class _Lowering:
    def __init__(self, snn: SpikingNetwork, results: dict, averages: bool, bias_steps: int | None):
        self.gm, self.results = snn.network, results
        self.averages, self.bias_steps = averages, bias_steps
        self.values: dict[fx.Node, Value | Tensor | None] = {}  # None: refused, or a number
        self.layers: dict[str, Layer] = {}
        self.refused: list[Offence] = []

    # -- one node ----------------------------------------------------------------------------

    def lower(self, node: fx.Node) -> None:
        domain, result = node.meta["domain"], self.results.get(node)
        if node.op == "placeholder":
            self.values[node] = self.layer(Image("input", [], self.shape(node)))
        elif domain in (Domain.SIZE, Domain.PARAMETER) or not isinstance(result, Tensor):
            self.values[node] = result if isinstance(result, Tensor) else None
        else:
            self.values[node] = self.call(node)

    def call(self, node: fx.Node) -> Value | None:
        module, row = module_of(self.gm, node), operation_of(self.gm, node)
        remedy = self.remedy(node, module, row)
        if remedy:
            return self.refuse(node, remedy)
        given = [self.values[n] for n in self.of_image(node)]
        running = node.meta["domain"] is Domain.RUNNING and not isinstance(module, Present)
        if None in given or running or getattr(module, "running_input", False):
            return None  # what makes it act on means is refused
        return self.form(node, module, row, given)

    def of_image(self, node: fx.Node) -> list[fx.Node]:
        """What a node reads that the image decides."""
        decided = (Domain.STREAM, Domain.CONSTANT, Domain.RUNNING)
        return [n for n in node.all_input_nodes if n.meta["domain"] in decided]

    def refuse(self, node: fx.Node, remedy: str) -> None:
        self.refused.append(
            Offence(place_of(node), words_of(self.gm, node), node.meta.get("source"), remedy)
        )

    def remedy(self, node: fx.Node, module: nn.Module | None, row) -> str:
        """What to do about a node that has no form whatever it reads; empty for others."""
        if isinstance(module, SpikingNeuron):
            if not isinstance(module, IF) or type(module).step is not IF.step:
                return _SIGNED
            return _BIAS if module.step_bias is not None else ""
        if isinstance(module, SeededMask):
            return _MASK
        if isinstance(module, Present):
            return ""
        if row.kind is Kind.PRODUCT:
            return _MEANS if len(self.of_image(node)) > 1 else ""
        return "" if row.kind in (Kind.LINEAR, Kind.ADDITIVE, Kind.TIMED) else _MEANS

    def form(self, node: fx.Node, module, row, given: list[Value]) -> Value | None:
        x, shape = given[0], self.shape(node)
        if isinstance(module, IF):
            return self.neurons(node, module, x)
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            return self.weights(node, module, x)
        if isinstance(module, ChannelAffine) and module.axis in (1, 1 - len(shape) - 1):
            return self.affine(module, x)
        if row.name in ("avg_pool2d", "adaptive_avg_pool2d", "mean"):
            return self.pool(node, module, row, x)
        if row.kind is Kind.ADDITIVE:
            return self.sum(node, row, x, shape)
        if row.kind is Kind.PRODUCT:
            return self.product(node, row, x)
        if (row.in_order or isinstance(module, Present)) and shape == x.shape:
            return x
        if row.in_order and len(shape) == 1:
            return self.flat(node, x)
        if row.name == "cat" and argument(node, 1, "dim", 0) in (1, -len(shape)):
            return self.joined(node, given, shape)
        return self.refuse(node, _NO_FORM)

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        result = self.results[node]
        return tuple(result.shape[1:]) if isinstance(result, Tensor) else ()

    # -- the forms ---------------------------------------------------------------------------

    def layer(self, layer: Layer) -> Value:
        name, number = layer.name, 1
        while layer.name in self.layers:
            number += 1
            layer.name = f"{name}_{number}"
        self.layers[layer.name] = layer
        return Value((Term(layer.name, _ONE),), _ZERO, layer.shape)

    def weights(self, node: fx.Node, module: nn.Module, x: Value) -> Value | None:
        weight = module.weight.detach().cpu().double()
        bias = None if module.bias is None else module.bias.detach().cpu().double()
        more = {}
        if isinstance(module, nn.Conv2d):
            padding = module.padding
            if isinstance(padding, str):
                padding = same(module) if padding == "same" else (0, 0)
            if padding is None or module.padding_mode != "zeros":
                return self.refuse(node, "pad with zeros, the same on both sides")
            more = {
                "stride": tuple(module.stride),
                "padding": tuple(padding),
                "dilation": tuple(module.dilation),
                "groups": module.groups,
            }
            if any(padding) and x.offset.any():
                x = self.carried(node, x)  # a border of zeros ends the offset
        elif len(x.shape) != 1:
            return self.refuse(node, "a linear layer on one axis of several has no form in NIR")
        if x.offset.any():
            each = x.offset.expand(x.shape[0])
            more_bias = times_inputs(weight, each, module).sum(tuple(range(1, weight.dim())))
            bias = more_bias if bias is None else bias + more_bias
        terms = []
        for factor, names in by_factor(x):
            w = times_inputs(weight, factor.expand(x.shape[0]), module)
            made = self.layer(Weighted(_name(node), names, self.shape(node), w, bias, **more))
            bias = None
            terms += made.terms
        return Value(tuple(terms), _ZERO, self.shape(node))

    def neurons(self, node: fx.Node, module: IF, x: Value) -> Value | None:
        height = channels(module, x.shape)
        if height is None:
            return self.refuse(node, "a threshold of its own for each position has no form here")
        inverse = torch.where(height > 0, 1 / height.clamp_min(1e-300), 0.0)
        current = x.scaled(inverse)
        start = module.starts_at
        if self.bias_steps is not None:
            current = dataclasses.replace(current, offset=current.offset + start / self.bias_steps)
            start = 0.0
        current = self.carried(node, current, always=True)
        names = [term.layer for term in current.terms]
        made = Neurons(_name(node), names, x.shape, node.target, start)
        return self.layer(made).scaled(height)

    def carried(self, node: fx.Node, x: Value, always: bool = False) -> Value:
        """The same value, of layers that send it without factors and offset.

        Args:
            always: spikes and pooled spikes go through weights, too.
        """
        offset, terms = x.offset, []
        for factor, names in by_factor(x):
            plain = not offset.any() and bool((factor == 1).all())
            if plain and not (always and any(self.sends_spikes(name) for name in names)):
                terms += [Term(name, _ONE) for name in names]
                continue
            weight = factor.expand(x.shape[0]).clone()
            bias = offset.expand(x.shape[0]).clone() if offset.any() else None
            terms += self.layer(_scale(f"{_name(node)}_scale", names, x.shape, weight, bias)).terms
            offset = _ZERO
        return Value(tuple(terms), _ZERO, x.shape)

    def sends_spikes(self, name: str) -> bool:
        return not isinstance(self.layers[name], Weighted)

    def affine(self, module: ChannelAffine, x: Value) -> Value:
        scaled = x.scaled(module.scale.cpu().double())
        if module.offset is None:
            return scaled
        return dataclasses.replace(scaled, offset=scaled.offset + module.offset.cpu().double())

    def sum(self, node: fx.Node, row, x: Value, shape: tuple[int, ...]) -> Value | None:
        """a + alpha b, or its difference; an operand that no image decides is an offset."""
        total = Value((), _ZERO, shape)
        alpha = node.kwargs.get("alpha", 1)
        reversed_, minus = row.alpha == 0, row.name != "add"
        for position, operand in enumerate(node.args[:2]):
            sign = (-1 if minus else 1) * alpha if position == (0 if reversed_ else 1) else 1
            value = self.values[operand] if isinstance(operand, fx.Node) else operand
            if isinstance(value, Value):
                if value.shape != shape:
                    return self.refuse(node, "a sum of two sizes has no form in NIR")
                more = value.scaled(sign * _ONE)
            else:
                offset = per_channel(value, shape)
                if offset is None:
                    return self.refuse(node, "an offset of its own for each position has no form")
                more = Value((), sign * offset, shape)
            total = total.plus(more)
        return total

    def product(self, node: fx.Node, row, x: Value) -> Value | None:
        factors = []
        for operand in node.args[:2]:
            value = self.values[operand] if isinstance(operand, fx.Node) else operand
            if not isinstance(value, Value):
                factors.append(per_channel(value, x.shape))
        if len(factors) != 1 or factors[0] is None or row.name not in ("mul", "div"):
            return self.refuse(node, "a factor of its own for each position has no form in NIR")
        return x.scaled(factors[0] if row.name == "mul" else 1 / factors[0])

    def pool(self, node: fx.Node, module: nn.Module | None, row, x: Value) -> Value | None:
        shape, padding = self.shape(node), (0, 0)
        flat = len(shape) == 1 and shape[:1] == x.shape[:1]  # a mean without keepdim
        if len(x.shape) != 3 or not (flat or (len(shape) == 3 and shape[0] == x.shape[0])):
            return self.refuse(node, _PADDING)
        if row.name == "mean" and {d % 4 for d in dims(argument(node, 1, "dim"))} != {2, 3}:
            return self.refuse(node, _PADDING)
        sides = (1, 1) if flat else shape[1:]
        if row.name == "avg_pool2d":
            given = module or pool_module(node)
            kernel, stride, padding = (
                pair(side) for side in (given.kernel_size, given.stride, given.padding)
            )
            divisor = given.divisor_override or math.prod(kernel)
            whole = (
                (n + 2 * p - k) // s + 1
                for n, p, k, s in zip(x.shape[1:], padding, kernel, stride, strict=True)
            )
            if tuple(whole) != sides or (any(padding) and not given.count_include_pad):
                return self.refuse(node, _PADDING)
        else:
            if any(n % m for n, m in zip(x.shape[1:], sides, strict=True)):
                return self.refuse(node, _PADDING)
            kernel = stride = tuple(n // m for n, m in zip(x.shape[1:], sides, strict=True))
            divisor = math.prod(kernel)
        if any(padding) and x.offset.any():
            x = self.carried(node, x)
        pooled = (shape[0], *sides)
        terms = []
        for factor, names in by_factor(x):
            if math.prod(kernel) == 1 and stride == (1, 1):
                terms += [Term(name, factor / divisor) for name in names]
                continue
            pool = Pool(_name(node), names, pooled, kernel, stride, padding, self.averages)
            by = divisor / pool.size if pool.average else divisor
            terms.append(Term(self.layer(pool).terms[0].layer, factor / by))
        found = Value(tuple(terms), x.offset, pooled)
        return self.flat(node, found) if flat else found

    def flat(self, node: fx.Node, x: Value) -> Value:
        size, shape = math.prod(x.shape[1:]), (math.prod(x.shape),)
        spread = lambda v: v.repeat_interleave(size) if v.dim() else v  # noqa: E731
        terms = []
        for factor, names in by_factor(x):
            made = self.layer(Flatten(f"{_name(node)}_flat", names, shape))
            terms.append(Term(made.terms[0].layer, spread(factor)))
        return Value(tuple(terms), spread(x.offset), shape)

    def joined(self, node: fx.Node, given: list[Value], shape: tuple[int, ...]) -> Value | None:
        """Channels beside each other: every part goes through weights to its place."""
        order = node.args[0] if node.args else node.kwargs["tensors"]
        parts = [self.values[n] for n in order]
        if len(shape) not in (1, 3) or not all(isinstance(part, Value) for part in parts):
            return self.refuse(node, _NO_FORM)
        terms, start, offset = [], 0, torch.zeros(shape[0], dtype=torch.float64)
        for part in parts:
            stop = start + part.shape[0]
            offset[start:stop] = part.offset
            for factor, names in by_factor(part):
                weight = torch.zeros(shape[0], part.shape[0], dtype=torch.float64)
                weight[start:stop] = torch.diag(factor.expand(part.shape[0]))
                weight = weight.view(*weight.shape, *[1] * (len(shape) - 1))
                made = Weighted(_name(node), names, shape, weight, identity=True)
                terms += self.layer(made).terms
            start = stop
        return Value(tuple(terms), offset, shape)

    def end(self, node: fx.Node) -> None:
        value = self.values[node]
        if not isinstance(value, Value):
            raise ValueError("the output of the network does not depend on the image")
        value = self.carried(node, value, always=True)
        self.layer(Readout("output", [t.layer for t in value.terms], value.shape))


def _scale(name, inputs, shape, factor: Tensor, bias: Tensor | None) -> Weighted:
    if len(shape) == 1:
        return Weighted(name, inputs, shape, torch.diag(factor), bias, identity=True)
    weight = factor.view(-1, 1, *[1] * (len(shape) - 1))
    return Weighted(name, inputs, shape, weight, bias, groups=len(factor), identity=True)


def _name(node: fx.Node) -> str:
    return (node.target if node.op == "call_module" else node.name).replace(".", "_")

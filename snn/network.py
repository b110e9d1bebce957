"""The spiking network that a conversion gives."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator

import torch
from torch import Tensor, fx, nn

from ..counting import NodeCounter, Report, report_of, settle
from ..graph.image_size import is_about_shapes
from ..graph.inputs import as_batch, known_shapes, shapes_of
from ..neurons import NEURONS, Clock, SeededMask, SpikingNeuron, Timed
from ..support.lock import Lock
from ..support.precision import without_tf32
from ..support.structure import inputs_of
from ..support.whole_numbers import whole_number
from .checked_inputs import by_place, checked_inputs
from .executor import Executor
from .info import ConversionInfo
from .readout import Outputs, Readouts
from .recorder import Recording

log = logging.getLogger(__name__)

CHUNK_BYTES = {"cpu": 16 * 2**20, "cuda": 512 * 2**20}  # size of the largest tensor of a chunk


class Site:
    """One activation site of a spiking network (attributes of its neuron, and `unit`)."""

    def __init__(self, name: str, neuron: SpikingNeuron):
        self.name = name
        self.neuron = neuron
        self.kind = neuron.kind
        self.levels = neuron.levels
        self.alphabet = neuron.alphabet

    @property
    def threshold(self) -> Tensor:
        return self.neuron.threshold

    @property
    def unit(self) -> Tensor:
        """Value of one spike, shaped to multiply recorded spikes [T, B, ...]."""
        unit = self.neuron.unit
        if unit.numel() == 1:
            return unit.reshape(())
        if unit.dim() == 1 and self.neuron.axis == 1:
            return unit.view(-1, *[1] * (self.neuron.dims - 2))
        return unit

    def __repr__(self) -> str:
        return f"Site({self.name!r}, kind={self.kind!r}, levels={self.levels})"


class SpikingNetwork(nn.Module):
    """A network of spiking neurons: `snn(images, timesteps=T)` -> readout [T, B, classes].

    A network of several inputs is called with all of them, `snn(a, b, timesteps=T)`. One that gives a
    structure (tuple, list, dictionary, named tuple, dataclass) gives its readout in the same one.

    Attributes:
        inputs: names of the inputs.
        outputs: what is known of its outputs (`readout.Outputs`).
        network: the graph, with its modules under the paths that they had in the original model.
        coding: how its neurons code values (`neurons.Coding`).
        sites: {name: `Site`}, in the order of the data flow.
        masks: {name of the masked site: its mask module}.
        info: how it was made (`ConversionInfo`).
    """

    def __init__(self, network: fx.GraphModule, info: ConversionInfo):
        super().__init__()
        self.network = network
        self.info = info
        self.coding = NEURONS[info.neuron].coding
        self.clock = Clock()
        self.executor = Executor(network)
        self.inputs = tuple(node.target for node in self.executor.inputs)
        self.outputs = Outputs.of(network)
        self.sites: dict[str, Site] = {}
        self.masks: dict[str, SeededMask] = {}
        for node in network.graph.nodes:
            module = network.get_submodule(node.target) if node.op == "call_module" else None
            if isinstance(module, Timed):
                module.clock = self.clock
            if isinstance(module, SpikingNeuron):
                self.sites[node.target] = Site(node.target, module)
                module.dims = len(node.meta.get("shape") or (0, 0, 0, 0))
            if isinstance(module, SeededMask):
                self.masks[module.site] = module
        self._one_at_a_time = Lock()  # all units share one state
        self._recordings: list[Recording] = []
        self._largest: dict[tuple, int] = {}  # image shapes: elements per image and step
        self._told_of_the_end = False  # of a step-wise bias

    @torch.no_grad()
    def forward(
        self,
        *inputs: Tensor,
        timesteps: int | None = None,
        chunk: int | None = None,
        first_index: int = 0,
        readout: str | None = None,
    ):
        """Simulate `timesteps` steps from rest.

        Args:
            inputs: images [B, C, H, W], of the type and on the device of the network; of a network of
                several inputs all of them, each [B, ...].
            timesteps: T (default: the T of the conversion).
            chunk: steps that run as one batch (default: chosen from memory); changes no result.
            first_index: number of the first image; images have the masks that belong to their
                number, wherever they stand in a batch.
            readout: "mean" or "second-half" (default: the one of the conversion).

        Returns:
            [T, B, classes]: the estimate of the logits after each step; a structure of tensors
            [T, B, ...] of a network that gives one. A softmax, tanh or the like behind the last
            neurons acts on the estimate of what it reads (`readout.Readouts`).
        """
        inputs, (timesteps, chunk, first_index, readout) = by_place(
            len(self.inputs), inputs, timesteps, chunk, first_index, readout
        )
        steps = self._steps(timesteps)
        inputs = checked_inputs(self.network, self.inputs, inputs)
        chunk = None if chunk is None else whole_number("chunk", chunk)
        readout = readout or self.info.readout
        collected = Readouts(self.outputs, self.network, self.coding, readout)
        with self._one_at_a_time, without_tf32():
            self._run(inputs, steps, chunk, int(first_index), collected)
        return collected.result()

    def _run(
        self, inputs: tuple, steps: int, chunk: int | None, first_index: int, collected: Readouts
    ) -> None:
        """A simulation from rest to rest, with what is recorded of it."""
        self.reset()
        for recording in self._recordings:
            recording.begin()
        self.clock.batch, self.clock.first_index = len(inputs[0]), first_index
        self.clock.start, self.clock.steps = 0, 1
        collected.begin()
        try:
            self._simulate(inputs, steps, chunk, collected)
        except RuntimeError as error:
            if self._fits(inputs) or not is_about_shapes(error):
                raise
            sizes = " and ".join(str(shape) for shape in shapes_of(inputs))
            raise ValueError(
                f"the network failed on images of size {sizes}: {error}; if they "
                "do not fit, give images of the size that it is made for"
            ) from error
        finally:  # also after a failure: the next simulation starts from rest
            collected.end()
            self.reset()
            self.clock.start, self.clock.steps = 0, 1
        for recording in self._recordings:
            recording.finish()

    def _simulate(self, inputs: tuple, steps: int, chunk: int | None, collected: Readouts) -> None:
        fixed = self.executor.prepare(inputs, self.clock)
        size, batch = tuple(shapes_of(inputs)), len(inputs[0])
        while self.clock.start < steps:
            self.clock.steps = min(self._chunk(inputs, chunk), steps - self.clock.start)
            outputs, largest = self.executor.chunk(fixed, self.clock)
            collected.add(outputs, self.clock.steps)
            self._largest[size] = largest // (self.clock.steps * batch)
            self.clock.start += self.clock.steps

    def _fits(self, inputs: tuple) -> bool:
        """Whether images of this size are known to pass through the network."""
        size = shapes_of(inputs)
        return tuple(size) in self._largest or size == known_shapes(self.network)

    def reset(self) -> None:
        """Forget the state of all units."""
        for module in self.network.modules():
            if isinstance(module, Timed):
                module.reset()

    def record(
        self, *names: str, analog: bool = False, membrane: bool = False
    ) -> contextlib.AbstractContextManager[Recording]:
        """Context manager; the simulation inside fills the `Recording` that it gives.

        Args:
            names: sites to record (default: all).
            analog, membrane: keep what each neuron reads and its membrane potential, too.
        """
        unknown = [name for name in names if name not in self.sites]
        if unknown:
            raise ValueError(
                f"no site is called {unknown[0]!r}; sites: {', '.join(list(self.sites)[:10])} ..."
            )
        return self._record(Recording(set(names or self.sites), analog, membrane))

    @contextlib.contextmanager
    def _record(self, recording: Recording) -> Iterator[Recording]:
        self._recordings.append(recording)
        try:
            with self.executor.observe(recording.observe):
                yield recording
        finally:
            self._recordings.remove(recording)

    def observe(self, observer, before=None):
        """Context manager; calls `observer` after every node, `before` in front (see `Executor`)."""
        return self.executor.observe(observer, before)

    @contextlib.contextmanager
    def set_aside(self):
        """Context manager for readers: what is simulated inside leaves nothing behind.

        Recordings and observers that are open do not see it; they, the training flags, the clock and
        the measured sizes are afterwards as they were.
        """
        with self._one_at_a_time:
            clock = dataclasses.replace(self.clock)
            training = [(module, module.training) for module in self.modules()]
            kept = self._recordings, self._largest, self.executor.observers
            self._recordings, self._largest, self.executor.observers = [], dict(self._largest), []
            self.eval()
            try:
                yield self
            finally:
                self._recordings, self._largest, self.executor.observers = kept
                vars(self.clock).update(vars(clock))
                for module, flag in training:
                    module.training = flag

    @property
    def report(self) -> Report:
        """What was swapped, what reads spikes and what does not, from the graph alone."""
        return report_of(self)

    def audit(
        self,
        *inputs: Tensor,
        timesteps: int | None = None,
        chunk: int | None = None,
        first_index: int = 0,
    ) -> Report:
        """The report with the counts of a simulation, as `evaluate` has them.

        Args: see `forward`.
        """
        inputs, (timesteps, chunk, first_index) = by_place(
            len(self.inputs), inputs, timesteps, chunk, first_index
        )
        steps = self._steps(timesteps)
        inputs = checked_inputs(self.network, self.inputs, inputs)
        counter = NodeCounter(self)
        with self.set_aside(), counter.attached(), counter.forward(as_batch(inputs)) as marked:
            self(*inputs_of(marked), timesteps=steps, chunk=chunk, first_index=first_index)
        counter.close(len(inputs[0]), steps)
        return report_of(self, steps, settle(counter.ledger, spiking=True))

    @property
    def layer_errors(self) -> list[dict] | None:
        """The layer-error table of the conversion, if one was made (`convert.layer_error`)."""
        return self.info.layer_errors

    def save(
        self, folder, leaf_modules: bool = False, report: Report | None = None, **made
    ) -> None:
        """Write snn.safetensors and conversion.json into a folder (see `saved`).

        Args:
            leaf_modules: leave out the user's own leaf modules (refused otherwise).
            report: an audit to store (default: the report, without counts).
            made: further entries for conversion.json.
        """
        from .saved import save  # noqa: PLC0415  (saved.py builds networks)

        save(self, folder, made, leaf_modules, report or self.report)

    def extra_repr(self) -> str:
        return ", ".join(
            f"{k}={getattr(self.info, k)!r}" for k in ("neuron", "attention", "readout", "mask")
        )

    # -- checks ------------------------------------------------------------------------------

    def _steps(self, timesteps) -> int:
        if timesteps is None:
            timesteps = self.info.timesteps
            if timesteps is None:
                raise ValueError(
                    "timesteps is missing: give the number T of steps to simulate, "
                    "e.g. timesteps=32"
                )
        steps = whole_number("timesteps", timesteps)
        fitted = self.info.calibration.steps if self.info.calibration else None
        if fitted is not None and steps > fitted and not self._told_of_the_end:
            self._told_of_the_end = True
            log.warning(
                "simulating %d steps; the step-wise bias was fitted for %d and ends there: its gain "
                "fades slowly after that (calibration_steps=%d fits a longer one)",
                steps,
                fitted,
                steps,
            )
        return steps

    def _chunk(self, inputs: tuple, chunk: int | None) -> int:
        if any(recording.single_steps for recording in self._recordings):
            return 1
        if chunk is not None:
            return chunk
        per_step, images = self._largest.get(tuple(shapes_of(inputs))), inputs[0]
        if per_step is None:
            return 1
        budget = CHUNK_BYTES["cuda" if images.is_cuda else "cpu"]
        return max(1, budget // max(1, per_step * len(images) * images.element_size()))

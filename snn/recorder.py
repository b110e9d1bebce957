"""Keeps what chosen sites did in every step of a simulation."""

import torch
from torch import Tensor

from ..neurons import Clock, SpikingNeuron


class Recording(dict):
    """{site: [T, B, ...]} of the latest call; spikes are integers in units of the site.

    Attributes:
        analog: {site: what the neuron read in each step [T, B, ...]}, if asked for.
        membrane: {site: membrane potential after each step}, if asked for.
    """

    def __init__(self, names: set[str], analog: bool = False, membrane: bool = False):
        super().__init__()
        self.names = names
        self.analog: dict[str, Tensor] = {}
        self.membrane: dict[str, Tensor] = {}
        self._wants_analog, self._wants_membrane = analog, membrane
        self._parts: dict[tuple[str, str], list[Tensor]] = {}

    @property
    def single_steps(self) -> bool:
        """Membranes are seen after each step only when a chunk is one step."""
        return self._wants_membrane

    def begin(self) -> None:
        self.clear()
        self.analog.clear()
        self.membrane.clear()
        self._parts.clear()

    def observe(self, node, module, args, kwargs, output, clock: Clock) -> None:
        if not isinstance(module, SpikingNeuron) or node.target not in self.names:
            return
        self._keep("spikes", node.target, clock.split(module.to_integers(output)))
        if self._wants_analog:
            self._keep("analog", node.target, clock.split(args[0]).clone())
        if self._wants_membrane:
            self._keep("membrane", node.target, module.membrane().clone().unsqueeze(0))

    def _keep(self, what: str, name: str, part: Tensor) -> None:
        self._parts.setdefault((what, name), []).append(part)

    def finish(self) -> None:
        for (what, name), parts in self._parts.items():
            target = self if what == "spikes" else getattr(self, what)
            target[name] = torch.cat(parts)
        self._parts.clear()

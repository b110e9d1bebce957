"""From a model to an fx graph, behind one function: `trace`."""

from .tracer import trace

__all__ = ["trace"]

"""From a model to an fx graph, behind one function: `trace`.

The one room of tricks; nobody outside knows of them. Each names a network of the tests that needs it.
"""

from .tracing import trace

__all__ = ["trace"]

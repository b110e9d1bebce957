"""What a network cannot be converted for, told in one piece."""

import dataclasses

from torch import fx

# What a forward function may raise, on an image that does not fit or when it is traced.
FAILURES = (
    TypeError,
    ValueError,
    RuntimeError,
    AttributeError,
    NameError,
    LookupError,
    ArithmeticError,
    AssertionError,
)


def module_path(node: fx.Node) -> str:
    """Dotted path of the module that a node lies in, "" at the root."""
    return node.meta.get("module_path", "").split("@")[0]


@dataclasses.dataclass(frozen=True)
class Offence:
    """One node that cannot be converted.

    Attributes:
        module_path: dotted path of the module (or of the module that holds the operation).
        operation: what it does there.
        source: file and line in the user's model, or None.
        remedy: what to do about it.
    """

    module_path: str
    operation: str
    source: tuple[str, int] | None
    remedy: str

    def __str__(self) -> str:
        place = f" ({self.source[0]}:{self.source[1]})" if self.source else ""
        return f"{self.module_path}: {self.operation}{place}; {self.remedy}"


class UnconvertibleError(ValueError):
    """A network that cannot be converted; lists every offending node (`offences`)."""

    def __init__(self, offences: list[Offence]):
        self.offences = offences
        count = f"{len(offences)} operations" if len(offences) != 1 else "1 operation"
        super().__init__(
            f"{count} cannot be converted:\n" + "\n".join(f"  {offence}" for offence in offences)
        )

"""Where a network can go: one row a target, with what decides the form of its file."""

import dataclasses

from ..support.choices import TARGETS


@dataclasses.dataclass(frozen=True)
class Target:
    """What a target makes of a NIR file.

    Attributes:
        name: of the target, and of its reader in `readers/`.
        words: which version the row was tried with.
        packages: {module that its check needs: how to install it}.
        fires: ">=": a neuron fires at its threshold; ">": above it, so that the file holds the next
            smaller number.
        resistance: r of every neuron in the file.
        averages: it reads average pools and no sum pools.
        flattens: it reads Flatten as NIR means it; otherwise matrices leave as convolutions.
        refuses: why no setting of it keeps the meaning of soft-reset neurons; empty if one does.
    """

    name: str
    words: str
    packages: dict[str, str]
    fires: str = ">="
    resistance: float = 1.0
    averages: bool = False
    flattens: bool = True
    refuses: str = ""

    @property
    def reader(self) -> str:
        """Name of the script in `readers/` that reads its file."""
        return f"read_{self.name}"


_NIR = {"nir": "pip install 'nir>=1.0.7'"}

TARGETS.update(
    {
        row.name: row
        for row in (
            Target("nir", "nir 1.0.4 to 1.0.8", _NIR, ">"),
            Target("sinabs", "sinabs 3.1.3", {"sinabs": "make deploy-check"}),
            Target(
                "snntorch",
                "snntorch 1.0.0",
                {"snntorch": "pip install snntorch nirtorch", **_NIR},
                ">",
                averages=True,
                flattens=False,
            ),
            Target(
                "spikingjelly",
                "spikingjelly 2.0.0",
                {"nirtorch": "pip install 'spikingjelly[nir]'", **_NIR},
                resistance=1e4,
                averages=True,
            ),
            Target(
                "norse",
                "not tried",
                {
                    "norse": "install norse from its repository: the packages have no from_nir",
                    **_NIR,
                },
                ">",
                refuses="norse resets integrate-and-fire neurons to 0, and no setting subtracts the "
                "threshold",
            ),
        )
    }
)

"""The energy conventions of published networks, so that their figures come out as arithmetic.

Each leaves something out or counts it in its own way (docs/energy.md); our records do not use them.
"""

import dataclasses
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ..counting import OperationCounter, settle
from ..counting.published import PublishedRow, PublishedRows
from ..support.messages import near_names
from .calling import prepared, reset_spikingjelly

MAC_PICOJOULES, AC_PICOJOULES = 4.6, 0.9  # 45 nm, 32-bit float: Horowitz, ISSCC 2014


@dataclasses.dataclass(frozen=True)
class Recount:
    """A network's figures under a published convention, per image.

    Attributes:
        rows: {layer: (MACs, ACs)} of what enters the energy.
        macs, acs: their sums.
        millijoules: the energy.
    """

    convention: str
    rows: dict[str, tuple[float, float]]
    macs: float
    acs: float
    millijoules: float


@dataclasses.dataclass(frozen=True)
class Convention:
    """A published way of counting: its source, and the function that recounts a network."""

    name: str
    source: str
    recount: Callable[[nn.Module, Tensor, int], Recount]


def spikingformer_attention(
    rates: Sequence[Sequence[float]], timesteps: int, heads: int, tokens: int, dim: int
) -> float:
    """ACs of k^T v and q (k^T v) of all blocks: T h N d^2 (min(r_k, r_v) + r_q) each.

    Args:
        rates: (r_q, r_k, r_v) of each block: mean output rates of its q, k and v neurons.
        tokens: N.
        dim: D = heads x d.
    """
    width = dim // heads
    return sum(timesteps * heads * tokens * width**2 * (min(k, v) + q) for q, k, v in rates)


def spikingformer_energy(
    rows: Sequence[tuple[str, float, float]], attention_acs: float
) -> tuple[float, float, float]:
    """(MACs, ACs, millijoules) from rows (layer, AC, MAC), as the published script adds them up.

    Only layers with "conv" or "head" in their name enter; norms, neurons, pooling, residual adds
    do not.
    """
    counted = [(ac, mac) for name, ac, mac in rows if "conv" in name or "head" in name]
    macs = sum(mac for _, mac in counted)
    acs = sum(ac for ac, _ in counted) + attention_acs
    return macs, acs, (MAC_PICOJOULES * macs + AC_PICOJOULES * acs) / 1e9


def _published_rows(model: nn.Module, images: Tensor, timesteps: int) -> PublishedRows:
    collector = PublishedRows(model, timesteps)
    with prepared(model):
        reset_spikingjelly(model)
        with collector.collect(len(images)):
            model(images, timesteps=timesteps)
    return collector


def _block_rates(rows: dict[str, PublishedRow], collector: PublishedRows) -> list:
    """(r_q, r_k, r_v) of every attention, and the shape of its tokens."""
    blocks = [name[: -len("q_lif")] for name in rows if name.endswith("q_lif")]
    if not blocks:
        raise ValueError(
            "the network has no neurons named q_lif, k_lif and v_lif; this convention "
            "is for Spikingformer and the Spike-driven Transformer"
        )
    return [tuple(rows[f"{block}{part}_lif"].rate for part in "qkv") for block in blocks]


def _spikingformer(model: nn.Module, images: Tensor, timesteps: int) -> Recount:
    collector = _published_rows(model, images, timesteps)
    rows = {row.name: row for row in collector.per_image()}
    rates = _block_rates(rows, collector)
    first = next(name for name in rows if name.endswith("q_lif"))
    _, _, dim, tokens = collector.outputs[first]
    heads = next(m.num_heads for m in model.modules() if hasattr(m, "num_heads"))
    attention = spikingformer_attention(rates, timesteps, heads, tokens, dim)
    counted = {
        name: (row.mac, row.ac)
        for name, row in rows.items()
        if row.kind in ("conv", "linear") and ("conv" in name or "head" in name)
    }
    macs, acs, energy = spikingformer_energy(
        [(name, ac, mac) for name, (mac, ac) in counted.items()], attention
    )
    return Recount("spikingformer", {**counted, "attention": (0.0, attention)}, macs, acs, energy)


def _sdt(model: nn.Module, images: Tensor, timesteps: int) -> Recount:
    """E_MAC of the first conv, E_AC T R FL of the others, E_AC T R N D of each attention core.

    The mapping of rates to layers was never published: here a layer's rate is the one of what it
    really receives, and the attention's is the mean of q, k and v.
    """
    collector = _published_rows(model, images, timesteps)
    rows = {row.name: row for row in collector.per_image()}
    counted = {
        name: (row.mac, row.ac) for name, row in rows.items() if row.kind in ("conv", "linear")
    }
    first = next(name for name in rows if name.endswith("q_lif"))
    shape = collector.outputs[first]
    elements = shape[2] * shape[3] * (shape[4] if len(shape) > 4 else 1)  # N D
    core = sum(timesteps * elements * sum(rates) / 3 for rates in _block_rates(rows, collector))
    counted["attention"] = (0.0, core)
    macs, acs = (sum(pair[i] for pair in counted.values()) for i in (0, 1))
    energy = (MAC_PICOJOULES * macs + AC_PICOJOULES * acs) / 1e9
    return Recount("sdt", counted, macs, acs, energy)


def _spikingresformer(model: nn.Module, images: Tensor, timesteps: int) -> Recount:
    """Every spike times its exact fan-out, without the stem and the classifier; 0.9 pJ each."""
    counter = OperationCounter(model, spiking=True)
    with prepared(model), counter.attached():
        reset_spikingjelly(model)
        with counter.forward(images, timesteps) as marked:
            model(marked, timesteps=timesteps)
        counter.close(len(images), timesteps)
    counted = {
        op.name: (0.0, op.acs)
        for op in settle(counter.ledger, True).operations
        if not op.name.startswith(("prologue", "classifier"))
    }
    acs = sum(ac for _, ac in counted.values())
    return Recount("spikingresformer", counted, 0.0, acs, AC_PICOJOULES * acs / 1e9)


CONVENTIONS: dict[str, Convention] = {
    c.name: c
    for c in (
        Convention(
            "spikingformer",
            'C. Zhou et al., "Spikingformer", arXiv 2304.11954, energy '
            "script of the authors' repository (a modified syops-counter)",
            _spikingformer,
        ),
        Convention("sdt", 'M. Yao et al., "Spike-driven Transformer", NeurIPS 2023, table 1', _sdt),
        Convention(
            "spikingresformer",
            'X. Shi et al., "SpikingResformer", CVPR 2024, operation '
            "monitor of the authors' repository",
            _spikingresformer,
        ),
    )
}


def recount(model: nn.Module, images: Tensor, convention: str, timesteps: int = 4) -> Recount:
    """A network's operations and energy under a published convention.

    Args:
        model: a direct-trained network, called as model(images, timesteps=T).
        images: one batch [B, C, H, W]; figures are the mean over it.
        convention: "spikingformer", "sdt" or "spikingresformer".
    """
    if convention not in CONVENTIONS:
        raise ValueError(
            f"unknown convention {convention!r}; {near_names(convention, CONVENTIONS)}"
        )
    return CONVENTIONS[convention].recount(model, images, timesteps)

"""The networks in the box. Each is a run folder: recipe, training curve, weights, conversions, card."""

from pathlib import Path

from torch import nn

from ..snn import load
from ..support.files import read_json
from ..support.messages import near_names
from ..train import checkpoint_of, conversions_of, load_checkpoint, restore_network

_BOX = Path(__file__).parent / "box"


def list_pretrained() -> list[str]:
    """Names of all networks in the box."""
    return sorted(path.parent.name for path in _BOX.glob("*/card.json"))


def pretrained_run(name: str) -> Path:
    """The run folder of a network in the box. It belongs to the package: copy it, do not write there.

    Raises:
        ValueError: no network of that name.
    """
    if name not in list_pretrained():
        raise ValueError(
            f"there is no pretrained network {name!r}; {near_names(str(name), list_pretrained())}"
        )
    return _BOX / name


def pretrained_card(name: str) -> dict:
    """How it was made and how good it is: data, seed, commands, versions, records, SHA-256 of files."""
    return read_json(pretrained_run(name) / "card.json", "card", "install spikeswap again")


def load_pretrained(name: str, neuron: str | None = None) -> nn.Module:
    """A trained network of the box, or a conversion of it. Nothing is downloaded.

    Args:
        name: one of `list_pretrained()`, e.g. "swin_nano_bn_mnist5k".
        neuron: None for the network as it was trained, with QCFS activations: [B, C, H, W] ->
            [B, classes]. "if" or "multi" for the spiking network made of it: called with
            timesteps=T -> [T, B, classes]; its own T without.

    Returns:
        The network on the CPU, in eval mode. Images are prepared as
        `load_dataset(...).eval_loader(...)` does it for the data set and image size of its card.

    Raises:
        ValueError: unknown name, or no conversion with that neuron.
    """
    folder = pretrained_run(name)
    if neuron is None:
        return restore_network(load_checkpoint(checkpoint_of(folder)))
    found = {tag.partition("-")[0]: folder / "snn" / tag for tag in conversions_of(folder)}
    if neuron not in found:
        raise ValueError(
            f"pretrained network {name!r} has no conversion with neuron {neuron!r}; "
            f"known: {', '.join(sorted(found))}"
        )
    return load(found[neuron])

"""Conversions on disk: snn.safetensors (tensors) and conversion.json (graph, modules, how made).

No code is stored. The graph is a list of nodes that name functions, methods and module classes of
an allow-list; everything else is refused when saving, and again when loading.
"""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as as_bytes
from torch import fx, nn

from ..support.atomic import write_file
from .network import SpikingNetwork
from .restoring import build
from .storing import plain, write_modules, write_node

SCHEMA = 1
TENSORS, DESCRIPTION = "snn.safetensors", "conversion.json"


def save(network: SpikingNetwork, folder, made: dict, leaf_modules: bool = False) -> None:
    """Write a conversion; both files appear whole or not at all.

    Args:
        folder: made if missing.
        made: further entries for conversion.json (how it was made).
        leaf_modules: leave the user's own leaf modules out; `load(leaf_modules=)` wants them again.

    Raises:
        ValueError: the network holds modules of the user's own, which are named.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    gm = network.network
    description = {
        "schema": SCHEMA,
        "info": plain(network.info),
        "made": plain(made),
        "graph": [write_node(gm, node) for node in gm.graph.nodes],
        "modules": write_modules(network, leaf_modules),
        "image_shape": gm.meta.get("image_shape"),
        "fixed_image_size": bool(gm.meta.get("fixed_image_size")),
        "report": network.report.as_dict(),
    }
    tensors = {
        key: value.detach().cpu().contiguous().clone() for key, value in _all_tensors(gm).items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    description = json.loads(json.dumps(description))
    write_file(folder / TENSORS, as_bytes(tensors))
    description["checksums"] = {
        TENSORS: _file_checksum(folder / TENSORS),
        DESCRIPTION: _content_checksum(description),
    }
    text = json.dumps(description, indent=1)
    write_file(folder / DESCRIPTION, text)


def _all_tensors(gm: fx.GraphModule) -> dict[str, torch.Tensor]:
    """Parameters and buffers, those too that a state_dict leaves out (`persistent=False`)."""
    return {**dict(gm.named_buffers(remove_duplicate=False)), **gm.state_dict()}


def _file_checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def _content_checksum(description: dict) -> str:
    """SHA-256 of a description as it is read back, its own checksums apart."""
    content = {key: value for key, value in description.items() if key != "checksums"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check_sums(description: dict, folder: Path) -> None:
    """ValueError if a file is not what was saved; conversions without checksums pass."""
    sums = description.get("checksums", {})
    if not isinstance(sums, dict):
        sums = {DESCRIPTION: None}
    if sums.get(DESCRIPTION, ...) not in (..., _content_checksum(description)):
        raise ValueError(
            f"{folder / DESCRIPTION} is damaged or was edited (its checksum is another); "
            "convert again"
        )
    if TENSORS in sums and sums[TENSORS] != _file_checksum(folder / TENSORS):
        raise ValueError(
            f"{folder / TENSORS} is damaged or does not belong to its {DESCRIPTION} (its checksum "
            "is another); convert again"
        )


def load(folder, leaf_modules: dict[str, nn.Module] | None = None) -> SpikingNetwork:
    """Read a conversion back, in a process that knows nothing of the original network.

    Args:
        folder: what `SpikingNetwork.save` wrote.
        leaf_modules: {name: module} for the user's own leaf modules, which are not stored.

    Raises:
        ValueError: a missing, truncated, damaged, foreign or newer file, which is named.
    """
    folder = Path(folder)
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(
            f"{path} does not exist; give the folder of a conversion, such as runs/latest/snn/<tag>"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}); convert again") from error
    if not isinstance(description, dict) or "schema" not in description:
        raise ValueError(f"{path} is no conversion of spikeswap; it has no schema")
    if description["schema"] != SCHEMA:
        raise ValueError(
            f"{path} has schema {description['schema']}, this version reads {SCHEMA}; "
            "install a newer spikeswap or convert again"
        )
    tensors = _read_tensors(folder / TENSORS)
    _check_sums(description, folder)
    try:
        wanted = [n["target"] for n in description["graph"] if n["op"] == "get_attr"]
        missing = [name for name in wanted if name not in tensors]
        network = None if missing else build(description, tensors, leaf_modules or {})
    except (
        LookupError,
        TypeError,
        AttributeError,
        ValueError,
        AssertionError,
        RuntimeError,
    ) as error:
        raise ValueError(
            f"{path} cannot be built ({error}); it is damaged or was made by something "
            "else: convert again"
        ) from error
    if missing:
        raise ValueError(
            f"{folder / TENSORS} does not belong to its {DESCRIPTION}: it holds no {missing[0]!r}; "
            "convert again"
        )
    _fill(network.network, tensors, folder / TENSORS)
    return network.eval()


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; convert again") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is truncated or damaged ({error}); convert again") from error


def _fill(gm: fx.GraphModule, tensors: dict[str, torch.Tensor], path: Path) -> None:
    expected = _all_tensors(gm)
    wrong = [k for k in gm.state_dict() if k not in tensors]
    wrong += [k for k in tensors if k not in expected or tensors[k].shape != expected[k].shape]
    if wrong:
        raise ValueError(
            f"{path} does not belong to its {DESCRIPTION}: {sorted(wrong)[:4]}; convert again"
        )
    for key, value in tensors.items():
        owner, _, last = key.rpartition(".")
        store = gm.get_submodule(owner)
        if last in store._parameters:
            store._parameters[last] = nn.Parameter(value, requires_grad=False)
        else:
            store._buffers[last] = value

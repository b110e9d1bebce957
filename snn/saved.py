"""Conversions on disk: snn.safetensors (tensors) and conversion.json (graph, modules, how made).

No code is stored. The graph is a list of nodes that name functions, methods and module classes of
an allow-list; everything else is refused when saving, and again when loading.
"""

import contextlib
import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as as_bytes
from torch import nn

from ..counting import Report
from ..support.atomic import write_file
from ..support.files import open_file
from ..support.messages import reason, shown
from .description import DESCRIPTION, TENSORS, check
from .network import SpikingNetwork
from .restoring import all_tensors, build, check_values, fill
from .storing import plain, write_modules, write_node
from .strict_json import need, parse, read_json

SCHEMA = 1


def save(network: SpikingNetwork, folder, made: dict, leaf_modules: bool, report: Report) -> None:
    """Write a conversion; both files appear whole or not at all.

    Of a network that gives tuples, lists or dictionaries the structure is stored, too; a named tuple
    or dataclass (a `ModelOutput`) is stored by its name and fields, and `load` gives it back as a named
    tuple: `out.logits` works on both.

    Args:
        folder: made if missing.
        made: further entries for conversion.json (how it was made).
        leaf_modules: leave the user's own leaf modules out; `load(leaf_modules=)` wants them again.
        report: what its operations read and cost.

    Raises:
        ValueError: the network holds modules of the user's own, or what `load` would refuse.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    gm = network.network
    description = {
        "schema": SCHEMA,
        "info": plain(network.info.as_dict()),
        "made": plain(made),
        "graph": [write_node(gm, node) for node in gm.graph.nodes],
        "modules": write_modules(network, leaf_modules),
        "image_shape": gm.meta.get("image_shape"),
        "fixed_image_size": bool(gm.meta.get("fixed_image_size")),
        "report": report.as_dict(),
    }
    if gm.meta.get("more_shapes"):
        description["more_shapes"] = gm.meta["more_shapes"]
    if "output" in gm.meta:
        description["output"] = gm.meta["output"].as_json()
    tensors = {
        key: value.detach().cpu().contiguous().clone() for key, value in all_tensors(gm).items()
    }
    try:
        description = parse(json.dumps(description))
        check(description)
        check_values(gm)
    except ValueError as error:
        raise ValueError(f"the network cannot be stored: {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / TENSORS, as_bytes(tensors))
    description["checksums"] = {
        TENSORS: _file_checksum(folder / TENSORS),
        DESCRIPTION: _content_checksum(description),
    }
    write_file(folder / DESCRIPTION, json.dumps(description, indent=1))


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


def _check_sums(content: dict, description: Path, tensors: Path) -> None:
    """ValueError if a file is not what was saved; conversions without checksums pass."""
    sums = content.get("checksums")
    if type(sums) is not dict:
        return
    if DESCRIPTION in sums:
        same = sums[DESCRIPTION] == _content_checksum(content)
        with _blaming(description, "is damaged or was edited: "):
            need(same, "its checksum is another")
    if TENSORS in sums:
        same = sums[TENSORS] == _file_checksum(tensors)
        with _blaming(tensors, f"is damaged or does not belong to its {DESCRIPTION}: "):
            need(same, "its checksum is another")


def load(folder, leaf_modules: dict[str, nn.Module] | None = None) -> SpikingNetwork:
    """Read a conversion back, in a process that knows nothing of the original network.

    A stranger's folder runs nothing while it is read, and takes no more memory than some tens of
    times the size of conversion.json (of `strict_json.LARGEST_FILE` bytes at most) and a few times
    that of snn.safetensors. What the network computes when it is called is the stranger's choice
    among the operations of a conversion.

    Args:
        folder: what `SpikingNetwork.save` wrote.
        leaf_modules: {name: module} for the user's own leaf modules, which are not stored.

    Raises:
        ValueError: a missing, truncated, damaged, foreign or newer file, which is named.
    """
    description, tensors = Path(folder) / DESCRIPTION, Path(folder) / TENSORS
    given = dict(leaf_modules or {})
    advice = "give the folder of a conversion, such as runs/latest/snn/<tag>, or convert again"
    content = read_json(description, "conversion", advice)
    with _blaming(description, remedy=advice):
        need(type(content) is dict and "schema" in content, "is no conversion: it has no schema")
    with _blaming(description, remedy="install a newer spikeswap or convert again"):
        schema = content["schema"]
        same = type(schema) is int and schema == SCHEMA
        need(same, f"has schema {{}}, this version reads {SCHEMA}", schema)
    open_file(tensors, "file", "convert again").close()
    _check_sums(content, description, tensors)
    with _blaming(description, "is damaged or was made by something else: "):
        check(content, given)
    _check_given(description, content["modules"], given)
    with _blaming(tensors, "is truncated or damaged: "):
        values = load_file(tensors)
    with _blaming(description, "is damaged or was made by something else: "):
        network = build(content, values, given)
    with _blaming(tensors):
        fill(network.network, values)
    return network.eval()


def _check_given(path: Path, modules: dict, given: dict[str, nn.Module]) -> None:
    for name, written in modules.items():
        if name in given and not isinstance(given[name], nn.Module):
            raise ValueError(f"leaf_modules[{name!r}] is no module; give a torch.nn.Module")
        if name not in given and "leaf" in written:
            raise ValueError(
                f"{path} leaves out module {name!r} ({shown(written['leaf'])}), the user's own; "
                f"give it as load(folder, leaf_modules={{{name!r}: module}})"
            )


_FAILURES = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    RuntimeError,
    SyntaxError,
    OSError,
    SafetensorError,
)


@contextlib.contextmanager
def _blaming(path: Path, what: str = "", remedy: str = "convert again"):
    """Whatever fails on the content of a file becomes one ValueError that names it."""
    try:
        yield
    except _FAILURES as error:
        raise ValueError(f"{path} {what}{reason(error)}; {remedy}") from error

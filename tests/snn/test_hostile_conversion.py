"""A stranger's conversion folder: whatever stands in it, it is loaded or refused in one sentence.

Two real conversions are changed in every place and every way that their JSON has, checksums and all
(a stranger can compute them). Nothing may run, hang, end in a traceback or take memory.
"""

import collections
import copy
import functools
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

import spikeswap
from spikeswap.convert import convert_model, insert_qcfs

MARK = "mark-of-a-stranger"
CODE = f"__import__('pathlib').Path('{MARK}').touch()"
PAYLOADS = [
    f"x={CODE}",
    f"x):\n    {CODE}\n    def g(self",
    f"a; {CODE}; b",
    f"a\n    {CODE}\n    a",
    f'a", {CODE}) #',
    f'weight")+{CODE}+("',
    f"{CODE}.x",
    f"[{CODE}]",
    "lambda",
    "class.weight",
    "__class__",
    "__init__.__globals__",
    "self",
    "forward",
    "_modules.head",
    "*args",
    "os.system",
    "builtins.eval",
    "builtins.exec",
    "torch.load",
    "torch.nn.functional.boolean_dispatch",
    "_operator.methodcaller",
    "torch.nn.modules.container.Sequential",
    "subprocess.Popen",
    "../../etc",
    "\ud800\x00\x1b[31m",
    "",
    "{} {0}",
    "a" * 100_000,
]
NUMBERS = [
    0,
    -1,
    1,
    1.5,
    10**6,
    2**31,
    10**12,
    10**30,
    1e300,
    float("nan"),
    float("inf"),
    True,
    "8",
]
THINGS = [None, [], {}, [[]], {"node": "x"}, {"tuple": []}, "text", 3, -0.5, False]


class Small(nn.Module):
    """Convolutions with a residual stream and pooling."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1))
        self.pool, self.head = nn.AvgPool2d(2), nn.Linear(4, 5)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = self.pool(F.relu(x + self.body(x)))
        return self.head(x.flatten(2).mean(-1))


class Attends(nn.Module):
    """Attention with sizes, slices, a gate and a position table."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 2, stride=2), nn.LayerNorm(8)
        self.qkv, self.head = nn.Linear(8, 24), nn.Linear(8, 5)
        self.position = nn.Parameter(torch.randn(1, 16, 8))

    def forward(self, x):
        batch = x.shape[0]
        x = F.relu(self.conv(x)).clamp(0, 6)
        x = x * torch.sigmoid(x.mean((2, 3), keepdim=True)) - 0.1
        x = self.norm(x.flatten(2).transpose(1, 2) + self.position)
        q, k, v = self.qkv(F.relu(x)).reshape(batch, 16, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        x = (F.relu(q) @ F.relu(k).transpose(-2, -1)).softmax(-1) @ v
        x = torch.roll(F.relu(x), 1, 2).masked_fill(torch.zeros(4, dtype=torch.bool), -float("inf"))
        return self.head(x.transpose(1, 2).flatten(2)[..., :8].amax(1))


Heads = collections.namedtuple("Heads", "logits boxes")


class Several(nn.Module):
    """Two inputs; a dictionary, a named tuple, a list and None in the output."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(1, 4, 3, padding=1)
        self.head, self.boxes = nn.Linear(4, 5), nn.Conv2d(4, 4, 1)

    def forward(self, left, right):
        x = F.relu(self.left(left)) + F.relu(self.right(right))
        heads = Heads(self.head(x.mean((2, 3))), self.boxes(x))
        return {"heads": heads, 3: [F.interpolate(heads.boxes, scale_factor=2.0), None]}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of three conversions: {name: folder}."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("saved")
    quantised = insert_qcfs(Small().eval(), levels=4, threshold=1.0)
    snn = convert_model(
        quantised, calibration=[torch.rand(4, 3, 8, 8)], calibrate="bias", calibration_steps=3
    )
    snn.save(root / "cnn", weights="somewhere")
    quantised = insert_qcfs(Attends().eval(), levels=8, threshold=1.0)
    convert_model(quantised, neuron="multi", mask=0.25, seed=4).save(root / "attention")
    pair = torch.rand(2, 3, 8, 8), torch.rand(2, 1, 8, 8)
    convert_model(insert_qcfs(Several().eval(), example_inputs=pair)).save(root / "several")
    return {name: root / name for name in ("cnn", "attention", "several")}


@pytest.fixture
def folder(saved, tmp_path, monkeypatch):
    """A function: name -> a copy of that conversion. Nothing may leave a mark; nothing may hang."""
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("loading hangs"))

    def get(name="cnn"):
        shutil.copytree(saved[name], tmp_path / name, dirs_exist_ok=True)
        signal.alarm(60)
        return tmp_path / name

    yield get
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    assert not list(tmp_path.rglob(f"*{MARK}*"))


def read(folder) -> dict:
    return json.loads((folder / "conversion.json").read_text())


def write(folder, description) -> None:
    """Write a description with the checksums that belong to it, if it has the place for them."""
    sums = description.get("checksums") if isinstance(description, dict) else None
    if isinstance(sums, dict) and all(isinstance(value, str) for value in sums.values()):
        content = {key: value for key, value in description.items() if key != "checksums"}
        text = json.dumps(content, sort_keys=True)
        description["checksums"] = {
            "conversion.json": hashlib.sha256(text.encode()).hexdigest(),
            "snn.safetensors": hashlib.sha256(
                (folder / "snn.safetensors").read_bytes()
            ).hexdigest(),
        }
    (folder / "conversion.json").write_text(json.dumps(description))


def refusal(folder, **arguments) -> str | None:
    """The sentence with which a folder is refused, or None if it is loaded."""
    try:
        spikeswap.load(folder, **arguments)
    except ValueError as error:
        text = str(error)
        assert str(folder) in text and "; " in text, text
        assert text.isprintable() and len(text) < 500 + len(str(folder)), text
        return text
    return None


# -- every place in every way ------------------------------------------------------------------------


def places(value, path=()):
    """Paths to everything inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in inside:
        yield (*path, key)
        if isinstance(part, (dict, list)) and path[:1] not in (("report",), ("made",)):
            yield from places(part, (*path, key))


def changes_at(owner, key):
    """(what, change of the owner) for each way in which one place can be changed."""
    value = owner[key]
    yield "delete", lambda o: o.pop(key)
    for new in THINGS:
        yield "type", functools.partial(_set, key=key, value=new)
    if isinstance(value, str):
        for new in PAYLOADS:
            yield "text", functools.partial(_set, key=key, value=new)
    if isinstance(value, (int, float)):
        for new in NUMBERS:
            yield "number", functools.partial(_set, key=key, value=new)
    if isinstance(owner, dict):
        for new in PAYLOADS:
            yield "key", lambda o, new=new: o.update({new: o.pop(key)})
    else:
        yield "twice", lambda o: o.insert(key, copy.deepcopy(o[key]))
        yield "order", lambda o: o.append(o.pop(key))
    if key == "op":
        for new in "placeholder get_attr call_module call_function call_method output".split():
            yield "op", functools.partial(_set, key=key, value=new)


def _set(owner, key, value) -> None:
    owner[key] = copy.deepcopy(value)


def mutations(description: dict) -> dict[str, list]:
    """{kind of change: [(place, change)]}"""
    found: dict[str, list] = {}
    for path in places(description):
        owner = functools.reduce(lambda o, k: o[k], path[:-1], description)
        for kind, change in changes_at(owner, path[-1]):
            found.setdefault(kind, []).append((path, change))
    return found


def mutated(description: dict, path, change) -> dict:
    description = copy.deepcopy(description)
    change(functools.reduce(lambda o, k: o[k], path[:-1], description))
    return description


EACH = 60  # changes of a kind


@pytest.mark.parametrize("name", ["cnn", "attention", "several"])
def test_whatever_is_changed_nothing_runs_and_refusals_are_one_sentence(folder, name):
    where = folder(name)
    original = read(where)
    refused, tried = {}, {}
    for kind, changes in mutations(original).items():
        for path, change in random.Random(kind).sample(changes, min(EACH, len(changes))):
            write(where, mutated(original, path, change))
            tried[kind] = tried.get(kind, 0) + 1
            refused[kind] = refused.get(kind, 0) + (refusal(where) is not None)
    assert set(tried) == {"delete", "type", "text", "number", "key", "twice", "order", "op"}
    assert all(refused.values()) and sum(refused.values()) > sum(tried.values()) / 2, refused


def structure(description, *parts):
    """A part of the stored structure of the output."""
    return functools.reduce(lambda o, k: o["parts"][k], parts, description["output"])


STRUCTURES = {
    "code as a field": lambda d: structure(d, 0).update(keys=[f"a={CODE}", "b"]),
    "a private field": lambda d: structure(d, 0).update(keys=["_a", "b"]),
    "a keyword as a field": lambda d: structure(d, 0).update(keys=["class", "b"]),
    "code as a name": lambda d: structure(d, 0).update(name=f"A;{CODE}"),
    "no name": lambda d: structure(d, 0).pop("name"),
    "a field twice": lambda d: structure(d, 0).update(keys=["a", "a"]),
    "a key too few": lambda d: structure(d).update(keys=["heads"]),
    "a key too many": lambda d: structure(d).update(keys=["heads", 3, 4]),
    "a list with keys": lambda d: structure(d, 1).update(keys=[0, 1]),
    "a tensor with parts": lambda d: structure(d, 0, 0).update(parts=[{"kind": "none"}]),
    "another kind": lambda d: structure(d, 0).update(kind="object"),
    "a tensor too many": lambda d: structure(d, 1, 1).update(kind="tensor"),
    "a tensor too few": lambda d: structure(d, 0, 0).update(kind="none"),
    "no structure": lambda d: d.pop("output"),
    "a size too many": lambda d: d["more_shapes"].append([1, 8, 8]),
    "a huge size": lambda d: d.update(more_shapes=[[10**6, 10**6]]),
}


@pytest.mark.parametrize("what", STRUCTURES)
def test_a_structure_that_no_output_has(folder, what):
    where = folder("several")
    description = read(where)
    STRUCTURES[what](description)
    write(where, description)
    assert "conversion.json" in refusal(where)


# -- faults that have a name -------------------------------------------------------------------------


def node(description, op, number=0):
    return [n for n in description["graph"] if n["op"] == op][number]


def call(description, target, *args, **kwargs):
    """Put a call of a function whose value nothing reads in front of the output."""
    description["graph"].insert(
        -1,
        {
            "name": "added",
            "op": "call_function",
            "target": target,
            "args": {"tuple": list(args)},
            "kwargs": {"dict": kwargs},
            "domain": "size",
        },
    )


def module(description, cls):
    return next(m for m in description["modules"].values() if m["class"].endswith(f".{cls}"))


def arguments(cls, **values):
    return lambda d: module(d, cls)["arguments"].update(values)


def replaced(cls, new, **values):
    """One module becomes another."""
    return lambda d: module(d, cls).update({"class": new, "arguments": values})


def info(**values):
    return lambda d: d["info"].update(values)


X = {"node": "x"}
HUGE = 4 * 10**4
NAMED = {
    "code in a placeholder": lambda d: node(d, "placeholder").update(target=f"x={CODE}"),
    "code in a node's name": lambda d: node(d, "call_module").update(name=f"a;{CODE};b"),
    "code in a keyword": lambda d: node(d, "call_function")["kwargs"]["dict"].update({CODE: 1}),
    "code in a method": lambda d: node(d, "call_method").update(target=f"mean();{CODE};x.mean"),
    "code in a tensor's path": lambda d: node(d, "call_module").update(
        op="get_attr", target=f'a"+{CODE}+"'
    ),
    "code in a dtype": lambda d: call(d, "torch.add", X, {"dtype": CODE}),
    "code in a device": lambda d: call(d, "torch.add", X, {"device": CODE}),
    "a private attribute": lambda d: call(d, "builtins.getattr", X, "__class__"),
    "an attribute of text": lambda d: call(d, "builtins.getattr", "x", "shape"),
    "a default for an attribute": lambda d: call(d, "builtins.getattr", X, "shape", X),
    "a method that is private": lambda d: node(d, "call_method").update(target="_backward_hooks"),
    "a method of text": lambda d: node(d, "call_method").update(args={"tuple": ["x"]}),
    "a function that makes functions": lambda d: call(d, "_operator.methodcaller", "mean"),
    "a type for a function": lambda d: call(d, "torch.float", X),
    "a text that is formatted": lambda d: call(d, "_operator.mod", "%999999999d", X),
    "a method of Python's own": lambda d: node(d, "call_method").update(target="__len__"),
    "a module for a function": lambda d: call(d, "builtins.__spec__", X),
    "a module of torch that runs": replaced("Linear", "torch.nn.modules.container.Sequential"),
    "a module of timm's that is not known": replaced("Linear", "timm.layers.mlp.Mlp"),
    "a module's device": arguments("Linear", device={"device": "cpu"}),
    "an attribute of a module": lambda d: module(d, "Linear").update(attributes={"forward": "x"}),
    "running input of a layer": lambda d: module(d, "Linear").update(
        attributes={"running_input": True}
    ),
    "two outputs": lambda d: d["graph"].append({**d["graph"][-1], "name": "again"}),
    "no output": lambda d: d["graph"].pop(),
    "an output that is not last": lambda d: d["graph"].insert(-2, d["graph"].pop()),
    "a tuple as output": lambda d: d["graph"][-1].update(args={"tuple": [{"tuple": [X]}]}),
    "no input": lambda d: d["graph"].pop(0),
    "a node that reads itself": lambda d: call(d, "torch.add", {"node": "added"}, 1),
    "a name twice": lambda d: d["graph"].insert(-1, dict(node(d, "call_module"))),
    "a module that is not called": lambda d: d["modules"].update(more=module(d, "Linear")),
    "a Linear of 40,000 x 40,000": arguments("Linear", in_features=HUGE, out_features=HUGE),
    "a kernel of 10**9": arguments("Conv2d", kernel_size={"tuple": [10**9, 10**9]}),
    "a padding of 10**6": arguments("Conv2d", padding={"tuple": [10**6, 10**6]}),
    "a huge norm": replaced(
        "Linear", "torch.nn.modules.batchnorm.BatchNorm2d", num_features=10**12
    ),
    "a huge fold": replaced(
        "Linear", "torch.nn.modules.fold.Fold", output_size=10**6, kernel_size=10**6
    ),
    "a huge pooling": replaced(
        "Linear",
        "torch.nn.modules.pooling.AdaptiveAvgPool2d",
        output_size={"tuple": [10**5, 10**5]},
    ),
    "10**9 recurrent layers": replaced(
        "Linear", "torch.nn.modules.rnn.GRU", input_size=4, hidden_size=4, num_layers=10**9
    ),
    "10**9 encoders": replaced(
        "Linear", "torch.nn.modules.transformer.Transformer", num_encoder_layers=10**9
    ),
    "a huge scale": replaced(
        "Linear", "torch.nn.modules.upsampling.Upsample", size=None, scale_factor=1e12
    ),
    "a huge threshold": lambda d: next(
        m for m in d["modules"].values() if "threshold" in m["arguments"]
    )["arguments"].update(threshold={"shape": [10**9, 10**9]}),
    "arange(3e9)": lambda d: call(d, "torch.arange", 3e9),
    "arange(0, 1, 1e-12)": lambda d: call(d, "torch.arange", 0, 1, 1e-12),
    "zeros(10**12)": lambda d: call(d, "torch.zeros", 10**12),
    "zeros(10**6, 10**6)": lambda d: call(d, "torch.zeros", 10**6, 10**6),
    "repeat": lambda d: node(d, "call_method").update(
        target="repeat", args={"tuple": [X, 10**6, 10**6]}
    ),
    "pow(10, 10**9)": lambda d: call(d, "_operator.pow", 10, 10**9),
    "size << 10**6": lambda d: call(d, "_operator.lshift", X, 10**6),
    "pow(size, 10**6)": lambda d: call(d, "_operator.pow", X, 10**6),
    "interpolate by 1e9": lambda d: call(d, "torch.nn.functional.interpolate", X, None, 1e10),
    "a huge image": lambda d: d.update(image_shape=[3, 10**5, 10**5]),
    "an image without sizes": lambda d: d.update(image_shape=[]),
    "levels 0": arguments("IF", levels=0),
    "levels 10**12": arguments("IF", levels=10**12),
    "levels true": arguments("IF", levels=True),
    "levels -1": info(levels=-1),
    "a neuron unknown": info(neuron="lif"),
    "a neuron that is another": info(neuron="stbif"),
    "no such attention": info(attention="none"),
    "mask 7": info(mask=7),
    "mask true": info(mask=True),
    "a readout unknown": info(readout="last"),
    "timesteps x": info(timesteps="x"),
    "timesteps 0": info(timesteps=0),
    "timesteps 10**12": info(timesteps=10**12),
    "seed list": info(seed=[1]),
    "calibrated for -1 steps": lambda d: d["info"]["calibration"].update(steps=-1),
    "layer errors of text": info(layer_errors=["x"]),
    "checksums of a list": lambda d: d.update(checksums=[]),
    "checksums of numbers": lambda d: d.update(checksums={"snn.safetensors": 3}),
    "a text that is no Unicode": lambda d: d["made"].update(weights="half a pair: \ud800"),
    "schema true": lambda d: d.update(schema=True),
    "a file unknown": lambda d: d.update(more=1),
}


@pytest.mark.parametrize("fault", NAMED)
def test_a_fault_is_refused_in_one_sentence(folder, fault):
    where = folder()
    description = read(where)
    NAMED[fault](description)
    write(where, description)
    assert refusal(where)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 5_000 + "1" + "}" * 5_000,
        '{"schema": 1, "info": ' + "[" * 80 + "]" * 80 + "}",
        '{"schema": 1, "schema": 1}',
        '{"schema": NaN}',
        '{"schema": 1e999}',
        '{"schema": ' + "9" * 5_000 + "}",
        "[1]",
        "1",
        '"\\ud800"',
        "\ufeff{}",
        "",
    ],
)
def test_json_that_is_none_of_ours_is_refused(folder, text):
    where = folder()
    (where / "conversion.json").write_text(text, encoding="utf-8")
    assert refusal(where)


def test_a_description_beyond_all_bounds_is_not_read(folder):
    where = folder()
    os.truncate(where / "conversion.json", 2**40)  # takes no space on the disk
    assert "16 MiB" in refusal(where)


# -- tensors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key, change",
    [
        ("head.weight", lambda t: t.to(torch.complex64)),
        ("head.weight", lambda t: t.to(torch.int32)),
        ("head.weight", lambda t: t.to(torch.float8_e4m3fn)),
        ("head.weight", lambda t: t * float("nan")),
        ("head.weight", lambda t: t.flatten()),
        ("relu.threshold", lambda t: -t),
        ("relu.threshold", lambda t: t * float("inf")),
        ("relu.threshold", lambda t: t * float("nan")),
        ("relu.threshold", lambda t: t.bool()),
    ],
)
def test_tensors_that_no_conversion_has_are_refused(folder, key, change):
    where = folder()
    tensors = load_file(where / "snn.safetensors")
    tensors[key] = change(tensors[key]).contiguous()
    save_file(tensors, where / "snn.safetensors")
    write(where, read(where))
    assert "snn.safetensors" in refusal(where)


def test_a_network_that_could_not_be_loaded_is_not_saved(saved, tmp_path):
    snn = spikeswap.load(saved["cnn"])
    snn.network.head.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="head.weight"):
        snn.save(tmp_path / "new")
    assert not (tmp_path / "new").exists()


# -- files that are none ---------------------------------------------------------------------------


FILES = {
    "pipe": lambda path: os.mkfifo(path),
    "folder": lambda path: path.mkdir(),
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to a pipe": lambda path: (os.mkfifo(f"{path}.pipe"), path.symlink_to(f"{path}.pipe")),
}


@pytest.mark.parametrize("file", ["conversion.json", "snn.safetensors"])
@pytest.mark.parametrize("kind", FILES)
def test_only_regular_files_are_read(folder, file, kind):
    where = folder()
    (where / file).unlink()
    FILES[kind](where / file)
    assert file in refusal(where)


def test_links_to_regular_files_are_read(folder):
    where = folder()
    for file in ("conversion.json", "snn.safetensors"):
        (where / file).rename(where / f"real-{file}")
        (where / file).symlink_to(f"real-{file}")
    assert refusal(where) is None


# -- memory ------------------------------------------------------------------------------------------

LIMITED = """
import pathlib, resource, sys
import torch, spikeswap
spikeswap.load(sys.argv[1])  # all that is imported on the way
size = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 2**28, size + 2**28))
for folder in sys.argv[2:]:
    try:
        spikeswap.load(folder)
    except ValueError as error:
        assert folder in str(error)
    else:
        sys.exit(f"{folder} was loaded")
print("bounded")
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads Linux' /proc")
def test_sizes_in_a_file_take_no_memory(folder, saved, tmp_path):
    """256 MB more than the process has must do for every fault that asks for gigabytes."""
    folders = []
    for number, change in enumerate(NAMED.values()):
        where = tmp_path / f"fault{number}"
        shutil.copytree(saved["cnn"], where)
        description = read(where)
        change(description)
        write(where, description)
        folders.append(str(where))
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, str(saved["cnn"]), *folders],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )
    assert result.stdout == "bounded\n", result.stderr

"""Conversions on disk: the same readouts in a process that knows nothing, or a named refusal."""

import json
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from timm.layers import BlurPool2d
from torch import nn

import spikeswap
from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.models import create_model

FILES = {"snn.safetensors", "conversion.json"}


class OwnClass(nn.Module):
    """Functional activations, attention, sizes, slices, a gate: all that a graph may hold."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 2, stride=2), nn.BatchNorm2d(8)
        self.qkv, self.head = nn.Linear(8, 24), nn.Linear(8, 5)
        self.position = nn.Parameter(torch.randn(1, 16, 8))

    def forward(self, x):
        batch = x.shape[0]
        x = F.relu(self.norm(self.conv(x))).clamp(0, 6)
        x = x * torch.sigmoid(x.mean((2, 3), keepdim=True)) - 0.1
        x = x.flatten(2).transpose(1, 2) + self.position
        q, k, v = self.qkv(F.relu(x)).reshape(batch, 16, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        x = (F.relu(q) @ F.relu(k).transpose(-2, -1)).softmax(-1) @ v
        return self.head(F.relu(x).transpose(1, 2).flatten(2)[..., :8].amax(1))


@pytest.fixture
def images():
    return torch.randn(3, 3, 8, 8)


@pytest.fixture
def snn():
    return convert_model(
        insert_qcfs(OwnClass().eval(), levels=8, threshold=1.0), neuron="multi", mask=0.3, seed=4
    )


READ = """
import sys, torch, spikeswap
assert "tests.convert.test_saved" not in sys.modules
folder, images, out = sys.argv[1:]
snn = spikeswap.load(folder)
with snn.record() as spikes:
    readout = snn(torch.load(images), timesteps=9, first_index=5, chunk=4)
torch.save({"readout": readout, "spikes": dict(spikes), "info": dict(snn.info),
            "report": str(snn.report)}, out)
"""


@pytest.mark.parametrize("neuron", ["if", "stbif", "multi"])
def test_another_process_gives_the_same_readouts(neuron, images, tmp_path):
    snn = convert_model(
        insert_qcfs(OwnClass().eval(), levels=8, threshold=1.0), neuron=neuron, mask=0.3, seed=4
    )
    snn.info["timesteps"] = 9
    snn.save(tmp_path / "snn", weights="somewhere")
    torch.save(images, tmp_path / "images.pt")
    subprocess.run(
        [sys.executable, "-c", READ, tmp_path / "snn", tmp_path / "images.pt", tmp_path / "out.pt"],
        check=True,
        cwd=tmp_path,
    )
    found = torch.load(tmp_path / "out.pt", weights_only=True)
    with snn.record() as spikes:
        readout = snn(images, timesteps=9, first_index=5, chunk=4)
    torch.testing.assert_close(found["readout"], readout)
    assert found["spikes"].keys() == spikes.keys()
    assert all(torch.equal(found["spikes"][name], spikes[name]) for name in spikes)
    assert found["info"] == snn.info and found["info"]["timesteps"] == 9
    assert found["report"] == str(snn.report)


@pytest.mark.parametrize(
    "name, arguments",
    [
        (
            "swin_bn",
            {
                "img_size": 16,
                "patch_size": 2,
                "embed_dim": 8,
                "depths": (2, 2),
                "num_heads": (2, 2),
                "window_size": 4,
            },
        ),
        (
            "swin_bn",
            {
                "img_size": 16,
                "patch_size": 2,
                "embed_dim": 8,
                "depths": (1,),
                "num_heads": (2,),
                "norm": "ln",
            },
        ),
        (
            "mst",
            {"img_size": 16, "patch_size": 2, "embed_dim": 8, "depths": (2,), "num_heads": (2,)},
        ),
        ("resnet20", {"widths": (4, 4, 4), "depths": (1, 1, 1)}),
        ("vgg16", {"stages": ((4,), (4,)), "hidden": 8, "img_size": 16}),
    ],
)
def test_our_models_come_back(name, arguments, tmp_path):
    model = create_model(name, num_classes=5, in_chans=1, **arguments).eval()
    snn = convert_model(insert_qcfs(model, levels=8, threshold=1.0, mask=0.5))
    x = torch.randn(2, 1, 16, 16)
    snn.save(tmp_path)
    found = spikeswap.load(tmp_path)
    assert torch.equal(found(x, timesteps=5, chunk=2), snn(x, timesteps=5, chunk=2))
    assert found.sites.keys() == snn.sites.keys() and found.masks.keys() == snn.masks.keys()
    found.save(tmp_path / "again")
    assert torch.equal(
        spikeswap.load(tmp_path / "again")(x, timesteps=5, chunk=2), snn(x, timesteps=5, chunk=2)
    )


def test_two_files_of_text_and_tensors_and_nothing_else(snn, images, tmp_path):
    snn.save(tmp_path / "snn", weights="run 3")
    assert {p.name for p in (tmp_path / "snn").iterdir()} == FILES
    text = (tmp_path / "snn/conversion.json").read_text()
    description = json.loads(text)
    assert isinstance(description["schema"], int) and description["made"] == {"weights": "run 3"}
    assert "OwnClass" not in text and "lambda" not in text
    assert load_file(tmp_path / "snn/snn.safetensors").keys() == snn.network.state_dict().keys()
    raw = (tmp_path / "snn/snn.safetensors").read_bytes()
    assert b"PK\x03\x04" not in raw[:4] and not raw.startswith(b"\x80")


def test_saving_leaves_the_network_and_its_numbers_alone(snn, images, tmp_path):
    before = snn(images, timesteps=5, chunk=1)
    snn.save(tmp_path)
    snn.save(tmp_path)
    assert torch.equal(snn(images, timesteps=5, chunk=1), before)


def test_float64_stays_float64(images, tmp_path):
    model = insert_qcfs(OwnClass().double().eval(), levels=8, threshold=1.0)
    snn = convert_model(model, neuron="multi")
    snn.save(tmp_path)
    found = spikeswap.load(tmp_path)(images.double(), timesteps=30)
    assert found.dtype is torch.float64
    torch.testing.assert_close(found[-1], model(images.double()).detach(), rtol=0, atol=1e-9)


def test_buffers_that_a_state_dict_leaves_out_are_stored(images, tmp_path):
    class Blurs(OwnClass):
        def __init__(self):
            super().__init__()
            self.register_buffer("blur", torch.rand(3, 1, 3, 3), persistent=False)
            self.pool = BlurPool2d(3)

        def forward(self, x):
            return super().forward(F.conv2d(self.pool(x), self.blur, padding=1, groups=3))

    large = F.interpolate(images, scale_factor=2)
    snn = convert_model(insert_qcfs(Blurs().eval(), levels=8, threshold=1.0))
    snn.save(tmp_path)
    found = spikeswap.load(tmp_path)(large, timesteps=6, chunk=2)
    assert torch.equal(found, snn(large, timesteps=6, chunk=2))


def test_image_size_of_control_flow_is_remembered(images, tmp_path):
    class Pads(OwnClass):
        def forward(self, x):
            return super().forward(F.pad(x, (0, 1, 0, 1)) if x.shape[-1] % 2 else x)

    convert_model(insert_qcfs(Pads(), example_inputs=images), example_inputs=images).save(tmp_path)
    found = spikeswap.load(tmp_path)
    found(images, timesteps=1)
    with pytest.raises(ValueError, match=r"\(3, 7, 7\)"):
        found(torch.zeros(1, 3, 7, 7), timesteps=1)


# -- files that must be refused ----------------------------------------------------------------


def refused(folder, file, **arguments):
    with pytest.raises(ValueError) as caught:
        spikeswap.load(folder, **arguments)
    assert str(folder / file) in str(caught.value), str(caught.value)
    return str(caught.value)


@pytest.fixture
def saved(snn, tmp_path):
    snn.save(tmp_path / "snn")
    return tmp_path / "snn"


def edit(saved, change):
    """Change the description as one would who knows that checksums may be left out."""
    path = saved / "conversion.json"
    description = json.loads(path.read_text())
    description.pop("checksums", None)
    change(description)
    path.write_text(json.dumps(description))


@pytest.mark.parametrize("file", sorted(FILES))
def test_a_missing_file_is_named(saved, file):
    (saved / file).unlink()
    refused(saved, file)


def test_a_missing_folder_is_named(tmp_path):
    refused(tmp_path / "nothing", "conversion.json")


@pytest.mark.parametrize("file", sorted(FILES))
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused_by_name(saved, file, share):
    path = saved / file
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refused(saved, file)


@pytest.mark.parametrize("file", sorted(FILES))
@pytest.mark.parametrize("place", [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_flipped_byte_is_noticed(saved, file, place):
    path = saved / file
    data = bytearray(path.read_bytes())
    at = int(len(data) * place)
    while data[at : at + 1].isspace():  # white space means nothing in JSON
        at += 1
    data[at] ^= 1
    path.write_bytes(data)
    refused(saved, file)


def test_an_edited_number_is_noticed(saved):
    path = saved / "conversion.json"
    text = path.read_text()
    assert '"levels": 8' in text
    path.write_text(text.replace('"levels": 8', '"levels": 9', 1))
    assert "checksum" in refused(saved, "conversion.json")


@pytest.mark.parametrize("content", [b"\x00\xff\xfe\x80" * 50, b"[]", b'"text"', b"{}", b"null"])
@pytest.mark.parametrize("file", sorted(FILES))
def test_foreign_files_are_refused_by_name(saved, file, content):
    (saved / file).write_bytes(content)
    refused(saved, file)


def test_a_pickle_is_not_opened(saved):
    torch.save({"a": torch.ones(1)}, saved / "snn.safetensors")
    refused(saved, "snn.safetensors")


@pytest.mark.parametrize("schema", [2, 999, "1", None, 0])
def test_another_schema_is_refused(saved, schema):
    edit(saved, lambda d: d.update(schema=schema))
    assert "newer spikeswap" in refused(saved, "conversion.json")


def tensors_of_another_conversion(saved):
    other = convert_model(insert_qcfs(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())))
    other.save(saved.parent / "other")
    (saved.parent / "other/snn.safetensors").rename(saved / "snn.safetensors")


def tensor_missing(saved):
    tensors = load_file(saved / "snn.safetensors")
    tensors.pop("head.weight")
    save_file(tensors, saved / "snn.safetensors")


def tensor_of_another_shape(saved):
    tensors = load_file(saved / "snn.safetensors")
    tensors["head.weight"] = torch.ones(5, 9)
    save_file(tensors, saved / "snn.safetensors")


def tensor_too_many(saved):
    tensors = load_file(saved / "snn.safetensors")
    tensors["more.weight"] = torch.ones(5)
    save_file(tensors, saved / "snn.safetensors")


@pytest.mark.parametrize(
    "mismatch",
    [tensors_of_another_conversion, tensor_missing, tensor_of_another_shape, tensor_too_many],
)
@pytest.mark.parametrize("checksums", [True, False])
def test_tensors_that_do_not_belong_are_refused(saved, mismatch, checksums):
    if not checksums:
        edit(saved, lambda _: None)
    mismatch(saved)
    with pytest.raises(ValueError) as caught:
        spikeswap.load(saved)
    assert str(saved) in str(caught.value) and "snn.safetensors" in str(caught.value)


def node(description, op):
    return next(n for n in description["graph"] if n["op"] == op)


DAMAGE = {
    "no graph": lambda d: d.pop("graph"),
    "empty graph": lambda d: d["graph"].clear(),
    "no info": lambda d: d.pop("info"),
    "no modules": lambda d: d.pop("modules"),
    "a module missing": lambda d: d["modules"].pop("head"),
    "a node missing": lambda d: d["graph"].pop(3),
    "a domain unknown": lambda d: node(d, "call_module").update(domain="future"),
    "an operation unknown": lambda d: node(d, "call_module").update(op="jump"),
    "an argument unknown": lambda d: node(d, "call_module").update(args={"tuple": [{"what": 1}]}),
    "a neuron unknown": lambda d: d["info"].update(neuron="lif"),
    "arguments wrong": lambda d: d["modules"]["head"]["arguments"].update(size=3),
    "a number for a list": lambda d: d.update(graph=3),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_descriptions_are_refused_by_name(saved, damage):
    edit(saved, DAMAGE[damage])
    refused(saved, "conversion.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: node(d, "call_function").update(target="os.system"),
        lambda d: node(d, "call_function").update(target="builtins.eval"),
        lambda d: node(d, "call_function").update(target="torch.load"),
        lambda d: node(d, "call_function").update(target="torch.save"),
        lambda d: node(d, "call_function").update(target="torch.hub.load"),
        lambda d: node(d, "call_method").update(target="__reduce__"),
        lambda d: d["modules"]["head"].update({"class": "subprocess.Popen"}),
        lambda d: d["modules"]["head"].update({"class": "builtins.eval"}),
        lambda d: d["modules"]["head"].update({"class": "torch.nn.utils.parametrize.importlib"}),
    ],
)
def test_a_description_cannot_call_what_it_likes(saved, change):
    """The allow-list holds when loading, too."""
    edit(saved, change)
    refused(saved, "conversion.json")


# -- leaf modules of the user's own ------------------------------------------------------------


class Odd(nn.Module):
    def __init__(self, gain):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(float(gain)))

    def forward(self, x):
        return torch.special.erf(x) * self.gain


@pytest.fixture
def with_leaf():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Odd(2), nn.Flatten(), nn.Linear(144, 5))
    quantised = insert_qcfs(model.eval(), leaf_modules=[Odd], levels=8, threshold=1.0)
    return convert_model(quantised, neuron="multi", leaf_modules=[Odd])


def test_own_leaf_modules_are_refused_by_name_or_given_again(with_leaf, images, tmp_path):
    """Contract, section 4: refused at saving with their names, or given again when loading."""
    try:
        with_leaf.save(tmp_path)
    except ValueError as error:
        assert "2" in str(error) and "Odd" in str(error)
        assert not list(tmp_path.iterdir())
        return
    assert "Odd" in refused(tmp_path, "conversion.json")
    found = spikeswap.load(tmp_path, leaf_modules={"2": Odd(7)})
    assert torch.equal(found(images, timesteps=6, chunk=2), with_leaf(images, timesteps=6, chunk=2))


def test_nothing_is_left_behind_when_saving_fails(snn, tmp_path, monkeypatch):
    snn.save(tmp_path / "snn")
    before = {p.name: p.read_bytes() for p in (tmp_path / "snn").iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="space"):
        snn.save(tmp_path / "snn")
    assert {p.name: p.read_bytes() for p in (tmp_path / "snn").iterdir()} == before


def test_loading_needs_no_compiler():
    code = (
        "import sys, spikeswap; spikeswap.load; "
        "print([m for m in sys.modules if m.startswith(('spikeswap.convert', 'spikeswap.calibrate'))])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"

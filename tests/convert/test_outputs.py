"""Networks of any shape: what they give keeps its structure, and equals that of their network."""

import collections
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import spikeswap
from spikeswap.convert import (
    clipped,
    convert_model,
    insert_qcfs,
    layer_errors,
    logit_errors,
    reference_network,
)
from spikeswap.support.structure import tensors_of

Heads = collections.namedtuple("Heads", "logits features")


@dataclasses.dataclass
class ModelOutput(collections.OrderedDict):
    """As in Hugging Face's library: a dataclass that is a dictionary without its None."""

    logits: torch.Tensor | None = None
    hidden_states: tuple | None = None

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if getattr(self, field.name) is not None:
                self[field.name] = getattr(self, field.name)


class Net(nn.Module):
    """Logits [B, 5] and two feature maps, in the structure that `wrap` makes of them."""

    def __init__(self, wrap):
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2)
        self.head, self.wrap = nn.Linear(4, 5), wrap

    def forward(self, x):
        low = F.relu(self.stem(x))
        high = F.relu(self.body(low))
        return self.wrap(self.head(high.mean((2, 3))), low, high)


WRAPS = {
    "one in a tuple": lambda y, a, b: (y,),
    "one in a dictionary": lambda y, a, b: {"logits": y},
    "tuple": lambda y, a, b: (y, b),
    "list of lists": lambda y, a, b: [y, [a, b]],
    "dictionary": lambda y, a, b: collections.OrderedDict(out=y, aux=b),
    "dictionary with None": lambda y, a, b: {"out": y, "loss": None, 0: (a,)},
    "named tuple": lambda y, a, b: Heads(y, b - 1),
    "dataclass": lambda y, a, b: ModelOutput(y, (a, b)),
    "dataclass with one": lambda y, a, b: ModelOutput(y),
    "an answer beside it": lambda y, a, b: (y, y.argmax(1)),
    "the same twice": lambda y, a, b: (y, y),
    "a tensor": lambda y, a, b: y,
}


@pytest.fixture
def images():
    return torch.randn(3, 3, 8, 8, dtype=torch.double)


@pytest.mark.parametrize("name", WRAPS)
def test_the_readout_has_the_structure_of_the_output(name, images, tmp_path):
    model = Net(WRAPS[name]).double().eval()
    qcfs = insert_qcfs(model, levels=8, threshold=1.5).eval()
    with torch.no_grad():
        expected, plain = qcfs(images), model(images)
        assert type(expected) is type(plain)
        limits = {"multi": expected, "if": clipped(qcfs)(images)}
    for neuron, limit in limits.items():
        snn = convert_model(qcfs, neuron=neuron)
        steps = 24 if neuron == "multi" else 600
        readout = snn(images, timesteps=steps)
        assert type(readout) is type(plain)
        if isinstance(plain, dict):
            assert list(readout) == list(plain)
        found, wanted = tensors_of(readout), tensors_of(limit)
        assert len(found) == len(wanted)
        for value, target in zip(found, wanted, strict=True):
            assert value.shape == (steps, *target.shape)
            near = {"rtol": 0, "atol": 1e-9 if neuron == "multi" else 0.1}
            if target.is_floating_point():
                torch.testing.assert_close(value[-1], target, **near)
        errors = logit_errors(snn, qcfs, images, 8)
        assert set(errors) == {2, 4, 8} and errors[8] < 2
        assert len(layer_errors(snn, qcfs, images, 8)) == 2
        alone = reference_network(snn, qcfs)(images)
        assert type(alone) is type(plain) and torch.equal(tensors_of(alone)[0], wanted[0])
        snn.save(tmp_path / neuron)
        again = spikeswap.load(tmp_path / neuron)(images, timesteps=9, chunk=2)
        for one, other in zip(
            tensors_of(again), tensors_of(snn(images, timesteps=9, chunk=2)), strict=True
        ):
            assert torch.equal(one, other)
        if isinstance(plain, (ModelOutput, Heads)):  # loaded without the user's class
            assert type(again).__name__ == type(plain).__name__ and again.logits is again[0]


def test_chunks_batches_and_recordings_know_of_no_structure(images):
    snn = convert_model(insert_qcfs(Net(WRAPS["dataclass"]).double().eval()), neuron="multi")
    whole = snn(images, timesteps=10, chunk=10)
    with snn.record() as spikes:
        parts = snn(images, timesteps=10, chunk=3)
    torch.testing.assert_close(whole.logits, parts.logits, rtol=0, atol=1e-9)
    assert {name: x.shape[:2] for name, x in spikes.items()} == dict.fromkeys(snn.sites, (10, 3))
    alone = [snn(images[i : i + 1], timesteps=10).hidden_states[1] for i in range(3)]
    torch.testing.assert_close(torch.cat(alone, 1), whole.hidden_states[1], rtol=0, atol=1e-9)


def test_a_quantised_network_can_be_trained_saved_and_prepared_again():
    qcfs = insert_qcfs(Net(WRAPS["dataclass"])).train()
    out = qcfs(torch.randn(2, 3, 8, 8))
    assert type(out) is ModelOutput
    (out.logits.sum() + out.hidden_states[0].sum()).backward()
    assert qcfs.get_submodule("stem").weight.grad is not None
    again = Net(WRAPS["dataclass"])
    insert_qcfs(again).load_state_dict(qcfs.state_dict())


def test_several_tensors_of_one_operation_are_taken_apart_by_an_example(images):
    model = Net(lambda y, a, b: y.split(2, 1)).double().eval()
    qcfs = insert_qcfs(model, levels=8, example_inputs=images).eval()
    readout = convert_model(qcfs, neuron="multi")(images, timesteps=20)
    for value, target in zip(readout, qcfs(images), strict=True):
        torch.testing.assert_close(value[-1], target, rtol=0, atol=1e-9)


# ---- the last operation ---------------------------------------------------------------------------

LAST = {
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "sigmoid": torch.sigmoid,
    "softmax": lambda y: y.softmax(-1),
    "log_softmax": lambda y: y.log_softmax(-1),
    "module": nn.Tanh(),
}


@pytest.mark.parametrize("name", LAST)
def test_the_last_operation_acts_on_the_readout(name, images):
    """On the estimate of what it reads, not on each step; also of a network with plain ReLU."""
    last = LAST[name]
    model = Net(lambda y, a, b: last(y)).double().eval()
    bare = Net(lambda y, a, b: y).double().eval()
    bare.load_state_dict(model.state_dict())
    for neuron, readout in (("multi", "mean"), ("if", "mean"), ("if", "second-half")):
        made = {"neuron": neuron, "readout": readout, "calibration": [images]}
        found = convert_model(model, **made)(images, timesteps=21)
        logits = convert_model(bare, **made)(images, timesteps=21)
        torch.testing.assert_close(found, last(logits), rtol=0, atol=1e-12)
        chunked = convert_model(model, **made)(images, timesteps=21, chunk=4)
        torch.testing.assert_close(found, chunked, rtol=0, atol=1e-9)


def test_a_running_value_that_neurons_read_too_stays_the_mean_of_all_steps(images):
    """Then the readout is the mean over steps of t f(m(t)) - (t-1) f(m(t-1)), which tends to f."""

    class Shares(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.norm = nn.Linear(8, 6), nn.LayerNorm(6)
            self.head, self.last = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x):
            normed = self.norm(self.head(F.relu(self.stem(x))))
            return normed, self.last(F.relu(normed)).tanh()

    x = images.flatten(0, 2)[:5]
    qcfs = insert_qcfs(Shares().double().eval(), threshold=3.0).eval()
    snn = convert_model(qcfs, neuron="if", readout="second-half")
    assert [bool(last) for last in snn.outputs.last] == [False, True]
    errors = []
    for value, target in zip(snn(x, timesteps=2000), clipped(qcfs)(x), strict=True):
        errors.append([(value[t - 1] - target).norm().item() for t in (20, 200, 2000)])
    assert all(e[2] < 0.3 * e[1] < 0.3 * e[0] for e in errors), errors


# ---- sizes --------------------------------------------------------------------------------------


class Segments(nn.Module):
    """A pyramid: what is small is enlarged to the size of another map, and to that of the image."""

    def __init__(self, mode):
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(c, 6, 3, 2, 1) for c in (3, 6, 6))
        self.side = nn.ModuleList(nn.Conv2d(6, 5, 1) for _ in range(3))
        self.out, self.mode = nn.Conv2d(5, 4, 3, padding=1), mode

    def forward(self, x):
        size, maps = x.shape[-2:], []
        for down in self.down:
            x = F.relu(down(x))
            maps.append(x)
        x = self.side[2](maps[2])
        for side, low in zip((self.side[1], self.side[0]), (maps[1], maps[0]), strict=True):
            x = side(low) + F.interpolate(x, size=low.shape[-2:], mode=self.mode)
        x = F.relu(self.out(x))
        smooth = {} if self.mode == "nearest" else {"align_corners": False}
        return {"out": F.interpolate(x, size=size, mode=self.mode, **smooth), "small": x}


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_a_map_that_is_enlarged_to_a_size_of_the_image(mode, images):
    qcfs = insert_qcfs(Segments(mode).double().eval(), levels=8, threshold=2.0).eval()
    snn = convert_model(qcfs, neuron="multi")
    for size in ((16, 16), (18, 27)):
        x = torch.randn(2, 3, *size, dtype=torch.double)
        for chunk in (1, 5, None):
            readout = snn(x, timesteps=25, chunk=chunk)
            for name, target in qcfs(x).items():
                torch.testing.assert_close(readout[name][-1], target, rtol=0, atol=1e-9)

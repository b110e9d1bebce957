"""Tasks beside classification: dense outputs, regression and plain counts."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikeswap.convert import convert_model
from spikeswap.evaluate import check_record, evaluate
from spikeswap.evaluate.records import KEYS
from spikeswap.report import write_report


class Dense(nn.Module):
    """A map of 4 classes, anchors with 3 classes each, and one number an image."""

    def __init__(self, wrap=None):
        super().__init__()
        self.stem, self.map = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.Conv2d(6, 4, 1)
        self.anchors, self.number = nn.Linear(6, 3), nn.Linear(6, 1)
        self.wrap = wrap or (lambda out, anchors, number: out)

    def forward(self, x):
        low = F.relu(self.stem(x))
        out = F.interpolate(self.map(low), size=x.shape[-2:], mode="bilinear")
        mean = low.mean((2, 3))
        anchors = self.anchors(low.flatten(2).transpose(1, 2))
        return self.wrap(out, anchors, self.number(mean).squeeze(-1))


def several(out, anchors, number):
    return {"out": out, "anchors": anchors, "number": number}


@pytest.fixture
def photos():
    return torch.randn(7, 3, 8, 8)


@pytest.fixture
def network(photos):
    """A function: wrap, neuron -> (the network itself, what it was converted to)."""

    def make(wrap=None, neuron="multi"):
        ann = Dense(wrap).eval()
        return ann, convert_model(ann, neuron=neuron, calibration=[photos])

    return make


def by_hand(readout, target, t):
    error = (readout[t] - target).double()
    return (error.norm() / target.double().norm()).item(), error.square().mean().sqrt().item()


@pytest.mark.parametrize("neuron", ["multi", "if"])
def test_a_dense_output_is_compared_at_every_step(network, photos, neuron):
    ann, snn = network(neuron=neuron)
    record = evaluate(snn, photos.split(3), timesteps=6, ann=ann, task="dense")
    readout, target = snn(photos, timesteps=6), ann(photos).detach()
    for t in range(6):
        relative, rms = by_hand(readout, target, t)
        assert record["error_by_timestep"][t] == pytest.approx(relative, rel=1e-5)
        assert record["rms_error_by_timestep"][t] == pytest.approx(rms, rel=1e-5)
        same = (readout[t].argmax(1) == target.argmax(1)).double().mean().item()
        assert record["agreement_by_timestep"][t] == pytest.approx(100 * same, rel=1e-9)
    assert record["error_to_ann"] == record["error_by_timestep"][-1]
    assert record["agreement_with_ann"] == record["agreement_by_timestep"][-1]
    assert (record["task"], record["images"], record["timesteps"]) == ("dense", 7, 6)
    check_record(record)


def test_all_outputs_count_or_the_one_that_is_named(network, photos):
    ann, snn = network(several)
    readout, target = snn(photos, timesteps=4), ann(photos)
    records = {
        name: evaluate(snn, [photos], timesteps=4, ann=ann, task="dense", output=name)
        for name in (None, *target)
    }
    for name in target:
        relative, _ = by_hand(readout[name], target[name].detach(), 3)
        assert records[name]["error_to_ann"] == pytest.approx(relative, rel=1e-5)
    same = {
        name: (readout[name][-1].argmax(axis) == target[name].argmax(axis)).flatten()
        for name, axis in (("out", 1), ("anchors", -1))
    }
    for name, agree in same.items():
        assert records[name]["agreement_with_ann"] == 100 * agree.double().mean().item()
    both = torch.cat(list(same.values())).double().mean().item()
    assert records[None]["agreement_with_ann"] == pytest.approx(100 * both, rel=1e-12)
    assert records["number"]["agreement_with_ann"] is None  # one number has no classes
    assert len({record["energy_millijoules"] for record in records.values()}) == 1


def test_regression_has_errors_and_no_agreement(network, photos):
    ann, snn = network(lambda out, anchors, number: number)
    record = evaluate(snn, [photos], timesteps=5, ann=ann, task="regression")
    relative, rms = by_hand(snn(photos, timesteps=5), ann(photos).detach(), 4)
    assert record["error_to_ann"] == pytest.approx(relative, rel=1e-5)
    assert record["rms_error_by_timestep"][-1] == pytest.approx(rms, rel=1e-5)
    assert record["agreement_with_ann"] is record["agreement_by_timestep"] is None


@pytest.mark.parametrize("task", ["dense", "regression", "counts"])
def test_what_a_task_does_not_have_is_null_with_its_reason(network, photos, task):
    ann, snn = network(several)
    for model, other in ((snn, None), (snn, ann), (ann, None)):
        record = evaluate(model, [photos], timesteps=3, task=task, ann=other)
        check_record(record)
        assert list(record)[: len(KEYS)] == list(KEYS)
        for key in (*KEYS, "error_to_ann"):
            reasons = [text for text in record["uncounted"] if text.startswith(f"{key}: ")]
            assert (record[key] is None) == bool(reasons), (key, reasons)
        assert record["macs"] > 0 and record["energy_millijoules"] > 0
        assert record["batch_independent"] is True
        assert all(record[key] is None for key in ("top1", "top5", "top1_by_timestep"))


def test_counts_are_those_of_the_audit_and_need_no_labels(network, photos):
    _, snn = network(several)
    records = [
        evaluate(snn, loader, timesteps=4, task="counts")
        for loader in ([photos], photos.split(2), [(photos, torch.zeros(7))], [[photos]])
    ]
    audit = snn.audit(photos, timesteps=4).totals
    for record in records:
        assert (record["macs"], record["acs"]) == (audit.macs, audit.acs)
        assert record["energy_to_quantised"] > 0


def test_a_classifier_that_gives_a_structure(images, labels, loader):
    """A dataclass with logits alone, or logits among other things."""

    @dataclasses.dataclass
    class Output:
        logits: torch.Tensor
        hidden: torch.Tensor | None = None

    class Classifier(nn.Module):
        def __init__(self, hidden):
            super().__init__()
            self.conv, self.head, self.hidden = nn.Conv2d(1, 4, 3), nn.Linear(16, 3), hidden

        def forward(self, x):
            x = F.relu(self.conv(x))
            return Output(self.head(x.flatten(1)), x if self.hidden else None)

    for hidden in (False, True):
        ann = Classifier(hidden).eval()
        snn = convert_model(ann, neuron="multi", calibration=[images])
        record = evaluate(snn, loader, timesteps=8, ann=ann)
        answers = snn(images, timesteps=8).logits.argmax(-1)
        assert record["top1"] == 10 * int((answers[-1] == labels).sum())
        agree = 10 * (answers == ann(images).logits.argmax(-1)).sum(1)
        assert record["agreement_by_timestep"] == agree.double().tolist()
        assert evaluate(ann, loader)["kind"] == "ann"


def test_a_model_of_two_inputs(photos):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.line, self.head = nn.Conv2d(3, 4, 3), nn.Linear(5, 4), nn.Linear(4, 3)

        def forward(self, image, vector):
            x = F.relu(self.conv(image)).mean((2, 3)) + F.relu(self.line(vector))
            return self.head(F.relu(x))

    vectors, labels = torch.randn(7, 5), torch.arange(7) % 3
    ann = Two().eval()
    snn = convert_model(ann, neuron="multi", calibration=(photos, vectors))
    names = {"image": photos, "vector": vectors, "labels": labels}
    for loader in ([(photos, vectors, labels)], [((photos, vectors), labels)], [names]):
        for model in (snn, ann):
            record = evaluate(model, loader, timesteps=8, ann=ann if model is snn else None)
            out = model(photos, vectors, **({"timesteps": 8} if model is snn else {}))
            right = (out.reshape(-1, 7, 3)[-1].argmax(-1) == labels).sum()
            assert record["top1"] == pytest.approx(100 * int(right) / 7)
            assert record["batch_independent"] is True
            assert record["macs"] == 36 * 27 * 4 + 5 * 4 + (3 * 4 if model is ann else 0)
    with pytest.raises(ValueError, match="input 'vector' is not among them"):
        evaluate(snn, [{"image": photos, "labels": labels}], timesteps=2)


BAD = {
    "an unknown task": ({"task": "segment"}, "task 'segment' is unknown; known: classify, dense"),
    "early exit": (
        {"task": "dense", "early_exit": 0.9},
        "early_exit=0.9 goes with task='classify'",
    ),
    "no such output": ({"task": "dense", "output": "mask"}, "'out', 'anchors'.*none is 'mask'"),
    "no logits": ({}, "none is called 'logits': give output=NAME"),
    "no classes": ({"output": "number"}, r"must be \[T, B, classes\]"),
    "another network": ({"task": "dense", "ann": nn.Conv2d(3, 4, 1)}, "that it was converted from"),
    "bytes": ({"task": "counts", "loader": [torch.zeros(2, 3, 8, 8).byte()]}, "are torch.uint8"),
    "no images": ({"task": "counts", "loader": []}, "the loader gives no images"),
    "a text": ({"task": "counts", "loader": [["cat"]]}, "gives a str as input; give tensors"),
    "no labels": ({"loader": [torch.zeros(2, 3, 8, 8)], "output": "out"}, "task='counts'"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_does_not_fit_is_refused(network, photos, what):
    arguments, message = BAD[what]
    _, snn = network(several)
    loader = arguments.pop("loader", [(photos, torch.arange(7) % 3)])
    with pytest.raises(ValueError, match=message):
        evaluate(snn, loader, timesteps=2, **arguments)


def test_a_report_of_a_task_without_accuracy(network, photos, tmp_path):
    ann, snn = network()
    records = [
        evaluate(ann, [photos], task="dense", name="net"),
        evaluate(snn, [photos], timesteps=4, ann=ann, task="dense", name="spikes"),
    ]
    write_report(records, tmp_path, data="photos", split="val", images=7)
    page = (tmp_path / "report.html").read_text()
    assert "spikes" in page and "relative error" in page and "None" not in page

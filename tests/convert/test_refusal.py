"""What cannot be converted is refused at once, in full, with place and remedy."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikeswap.calibrate import activation_thresholds
from spikeswap.convert import UnconvertibleError, convert_model, insert_qcfs
from spikeswap.neurons import QCFS

THIS = open(__file__).read().splitlines()


class Block(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 3, 3, padding=1), act

    def forward(self, x):
        return self.act(self.conv(x))


class Wrong(nn.Module):
    """Four offences in three modules, beside two good activations."""

    def __init__(self):
        super().__init__()
        self.a, self.b = Block(nn.ReLU()), Block(nn.GELU())
        self.inner = nn.Sequential(Block(nn.SiLU()), nn.ReLU(), Block(nn.PReLU()))
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        x = self.inner(self.b(self.a(x)))
        x = F.leaky_relu(x, 0.1)
        return self.head(x.mean((2, 3)))


def test_every_offence_is_listed_with_path_operation_line_and_remedy():
    with pytest.raises(UnconvertibleError) as caught:
        insert_qcfs(Wrong())
    offences = {o.module_path: o for o in caught.value.offences}
    assert set(offences) == {"b.act", "inner.0.act", "inner.2.act", "(the model itself)"}
    text = str(caught.value)
    assert text.startswith("4 operations cannot be converted")
    for path, operation in (
        ("b.act", "GELU"),
        ("inner.0.act", "SiLU"),
        ("inner.2.act", "PReLU"),
        ("(the model itself)", "leaky_relu"),
    ):
        offence = offences[path]
        assert operation in offence.operation and "ReLU" in offence.remedy
        file, line = offence.source
        assert file == __file__ and f"{file}:{line}" in text
        expected = "F.leaky_relu" if operation == "leaky_relu" else "self.act(self.conv(x))"
        assert expected in THIS[line - 1]
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "module",
    [
        nn.LeakyReLU(),
        nn.PReLU(),
        nn.RReLU(),
        nn.GELU(),
        nn.SiLU(),
        nn.Mish(),
        nn.ELU(),
        nn.Tanh(),
        nn.Hardswish(),
        nn.Softplus(),
        nn.Hardtanh(),
        nn.Threshold(0.1, 0.0),
    ],
    ids=lambda m: type(m).__name__,
)
def test_no_other_activation_is_taken_for_relu(module):
    last = nn.Conv2d(3, 3, 1)  # behind the last layer it would act on the readout
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 3), module, last)
    for call in (insert_qcfs, lambda m: convert_model(m, calibration=[torch.zeros(1, 3, 8, 8)])):
        with pytest.raises(UnconvertibleError, match=f"3: {type(module).__name__}") as caught:
            call(model)
        assert len(caught.value.offences) == 1


class Recurrent(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.embed, self.rnn, self.head = nn.Linear(3, 4), layer, nn.Linear(4, 2)

    def forward(self, x):
        x = F.relu(self.embed(x))
        x, _ = self.rnn(x)
        return self.head(x[:, -1])


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.attn = nn.Linear(3, 4), nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        x = F.relu(self.embed(x))
        return self.attn(x, x, x, need_weights=False)[0].mean(1)


@pytest.mark.parametrize(
    "model, path",
    [
        (Recurrent(nn.LSTM(4, 4, batch_first=True)), "rnn"),
        (Recurrent(nn.GRU(4, 4, batch_first=True)), "rnn"),
        (Transformer(), "attn"),
    ],
)
def test_recurrent_and_packed_attention_layers_are_refused(model, path):
    with pytest.raises(UnconvertibleError) as caught:
        insert_qcfs(model)
    (offence,) = caught.value.offences
    assert offence.module_path == path and offence.remedy


def test_nothing_to_swap_is_refused():
    for model in (nn.Sequential(nn.Conv2d(3, 3, 3), nn.Flatten()), nn.Linear(3, 2)):
        for call in (insert_qcfs, convert_model):
            with pytest.raises(UnconvertibleError, match="ReLU"):
                call(model)


class TwoImages(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)

    def forward(self, left, right):
        return F.relu(self.conv(left) - self.conv(right)).mean((2, 3))


class Output(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.conv, self.wrap = nn.Conv2d(3, 3, 3), wrap

    def forward(self, x):
        return self.wrap(F.relu(self.conv(x)).mean((2, 3)), x)


def test_two_inputs_without_an_example_are_refused():
    for given in (None, torch.randn(2, 3, 8, 8), [torch.randn(2, 3, 8, 8)]):
        with pytest.raises(UnconvertibleError, match=r"example_inputs=\(left, right\)"):
            insert_qcfs(TwoImages(), example_inputs=given)


OUTPUTS = {
    "None": (lambda y, x: None, "returns None"),
    "nothing": (lambda y, x: (), "returns no tensor"),
    "a number": (lambda y, x: {"logits": y, "count": 3}, "a value of type int as 'count'"),
    "a text": (lambda y, x: "cat", "a value of type str"),
    "an object": (lambda y, x: [y, object()], r"a value of type object as '\[1\]'"),
    "a size": (lambda y, x: (y, x.shape[0]), r"returns a number as '\[1\]'"),
    "a shape": (lambda y, x: (y, x.shape), r"returns a number as '\[1\]'"),
    "a constant": (lambda y, x: torch.ones(2, 3), "does not depend on the image"),
    "zeros": (lambda y, x: {"z": torch.zeros(x.shape[0], 3)}, "not depend on the image as 'z'"),
    "another batch axis": (lambda y, x: y.t(), "batch lies on axis 1"),
    "several at once": (lambda y, x: y.split(1, 1), "several tensors at once.*example_inputs"),
}


@pytest.mark.parametrize("what", OUTPUTS)
def test_an_output_that_is_no_tensor_of_the_image_is_refused(what):
    wrap, message = OUTPUTS[what]
    with pytest.raises(UnconvertibleError, match=message) as caught:
        insert_qcfs(Output(wrap))
    assert [offence.module_path for offence in caught.value.offences] == ["(output)"]


class Decides(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)

    def forward(self, x):
        x = F.relu(self.conv(x))
        if x.mean() > 0.5:  # a decision on pixels
            x = x * 2
        return x.mean((2, 3))


def test_control_flow_on_values_is_explained():
    for arguments in ({}, {"example_inputs": torch.zeros(2, 3, 8, 8)}):
        with pytest.raises(UnconvertibleError, match="if x.mean") as caught:
            insert_qcfs(Decides(), **arguments)
        (offence,) = caught.value.offences
        assert "# a decision on pixels" in THIS[offence.source[1] - 1]
        assert "leaf_modules" in offence.remedy


class DecidesBetweenOthers(Decides):
    def __init__(self):
        super().__init__()
        self.before, self.behind = nn.GELU(), nn.ModuleList([nn.ReLU(), nn.PReLU(), nn.LSTM(3, 3)])

    def forward(self, x):
        return self.behind[1](super().forward(F.silu(self.before(x))))


def test_where_the_trace_stops_everything_else_is_listed_too():
    with pytest.raises(UnconvertibleError) as caught:
        insert_qcfs(DecidesBetweenOthers())
    found = [(o.module_path, o.operation.split(",")[0]) for o in caught.value.offences]
    assert "if x.mean" in found[0][1]
    assert found[1:] == [
        ("before", "GELU"),
        ("(the model itself)", "silu()"),
        ("behind.1", "PReLU"),
        ("behind.2", "LSTM"),
    ]


def test_behind_a_stopped_trace_a_qcfs_network_may_have_smooth_activations():
    model = DecidesBetweenOthers()
    model.behind[0] = QCFS(16, 2.0)
    with pytest.raises(UnconvertibleError) as caught:
        convert_model(model)
    assert [o.module_path for o in caught.value.offences] == ["(the model itself)", "behind.2"]


class Random(Decides):
    def __init__(self, noise):
        super().__init__()
        self.noise = noise

    def forward(self, x):
        x = F.relu(self.conv(x))
        return (x + self.noise(x)).mean((2, 3))


NOISES = {
    "of a size": lambda x: torch.rand(x.shape[0], 1, 1, 1),
    "like a tensor": lambda x: torch.randn_like(x),
    "drawn from values": lambda x: torch.bernoulli(x.clamp(0, 1)),
    "a constant": lambda x: torch.rand(1),
}


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES.keys())
def test_a_network_that_is_random_in_eval_mode_is_refused(noise):
    with pytest.raises(UnconvertibleError, match="random in eval mode"):
        insert_qcfs(Random(noise), example_inputs=torch.randn(2, 3, 8, 8))


MIXERS = {
    "mean over the batch": lambda x: x - x.mean(0, keepdim=True),
    "mean over all": lambda x: x - x.mean(),
    "softmax over the batch": lambda x: x.softmax(0),
    "sum over the batch": lambda x: x + x.sum(dim=0, keepdim=True),
    "largest of the batch": lambda x: x - x.amax(0),
    "the first image": lambda x: x + x[:1],
    "reversed": lambda x: x + x.flip(0),
    "rolled": lambda x: x + x.roll(1, 0),
    "joined to the batch": lambda x: torch.cat([x, x.flip(3)], 0),
    "normalised together": lambda x: x / x.norm(),
    "batch behind rows": lambda x: x.permute(2, 0, 1, 3).reshape(-1, 3, 1, x.shape[3]),
}


@pytest.mark.parametrize("mixer", MIXERS)
def test_what_mixes_images_is_refused(mixer):
    """Simulated steps lie along the batch axis: such a network would mix steps, silently."""

    class Mixes(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.again = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            x = F.relu(self.conv(x))
            return F.relu(self.again(MIXERS[mixer](x))).mean((2, 3))

    with pytest.raises(UnconvertibleError, match="batch"):
        insert_qcfs(Mixes(), example_inputs=torch.randn(2, 3, 6, 6))
    with pytest.raises(UnconvertibleError, match="batch"):
        insert_qcfs(Mixes())


def test_after_a_refusal_nothing_else_is_told_of_the_batch():
    class WindowsFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x):
            windows = self.conv(x).view(-1, 4, 4, 16).permute(1, 0, 2, 3)
            return F.relu(windows).permute(1, 0, 2, 3).mean((1, 2))

    with pytest.raises(UnconvertibleError, match="1 operation .*\n.*finds the batch on axis 1"):
        insert_qcfs(WindowsFirst(), example_inputs=torch.randn(2, 3, 8, 8))


def test_a_part_of_which_a_size_is_read_mixes_nothing():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)

        def forward(self, x):
            x = F.relu(self.conv(x))
            return (x / x[0].numel()).mean((2, 3)) * x[:1].size(1)

    assert insert_qcfs(Scaled(), example_inputs=torch.randn(2, 3, 8, 8))


def test_tokens_before_the_batch_are_refused_at_conversion():
    class SequenceFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, 4)

        def forward(self, x):
            x = self.conv(x).flatten(2).permute(2, 0, 1)
            return F.relu(self.linear(F.relu(x))).mean(0)

    with pytest.raises(UnconvertibleError, match="batch"):
        insert_qcfs(SequenceFirst())


def test_batch_norm_without_statistics_is_refused():
    model = nn.Sequential(
        nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3, track_running_stats=False), nn.ReLU()
    )
    with pytest.raises(UnconvertibleError, match="track_running_stats"):
        insert_qcfs(model)


def test_refusal_comes_before_any_calibration_work():
    seen = []

    class Loader:
        def __len__(self):
            return 3

        def __iter__(self):
            for _ in range(3):
                seen.append(1)
                yield torch.zeros(2, 3, 8, 8)

    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.GELU(), nn.Conv2d(3, 3, 1))
    with pytest.raises(UnconvertibleError):
        convert_model(model, calibration=Loader())
    assert len(seen) <= 1, "one batch may be read as the example"


def test_an_unknown_operation_may_be_a_leaf_that_runs_on_running_values(relative_error):
    class Odd(nn.Module):
        def forward(self, x):
            return torch.special.erf(x).cummax(2)[0]

    model = (
        nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.ReLU(),
            Odd(),
            nn.Conv2d(4, 4, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, 5),
        )
        .double()
        .eval()
    )
    x = torch.randn(2, 3, 8, 8, dtype=torch.double)
    with pytest.raises(UnconvertibleError, match="leaf_modules"):
        insert_qcfs(model)
    for leaf in (Odd, "2", model[2]):
        thresholds = activation_thresholds(model, [x], leaf_modules=[leaf])
        quantised = insert_qcfs(model, 16, thresholds=thresholds, leaf_modules=[leaf])
        snn = convert_model(quantised, neuron="multi", leaf_modules=["2"])
        assert relative_error(snn(x, timesteps=20)[-1], quantised(x)) < 1e-9


def test_smooth_activations_are_allowed_in_a_qcfs_network(relative_error):
    """Its owner has trained it so; they stay analog and the audit says it."""
    model = (
        nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.GELU(),
            QCFS(16, 0.5),
            nn.Conv2d(4, 4, 3),
            QCFS(16, 0.5),
            nn.Flatten(),
            nn.Linear(64, 5),
        )
        .double()
        .eval()
    )
    x = torch.randn(2, 3, 8, 8, dtype=torch.double)
    snn = convert_model(model, neuron="multi")
    assert relative_error(snn(x, timesteps=20)[-1], model(x)) < 1e-9


@pytest.mark.parametrize("leftover", [nn.ReLU(), nn.ReLU6()])
def test_plain_relu_beside_qcfs_is_right_or_refused(leftover, relative_error):
    model = (
        nn.Sequential(
            nn.Conv2d(3, 4, 3),
            QCFS(16, 0.5),
            nn.Conv2d(4, 4, 3),
            leftover,
            nn.Flatten(),
            nn.Linear(64, 5),
        )
        .double()
        .eval()
    )
    x = torch.randn(2, 3, 8, 8, dtype=torch.double)
    try:
        snn = convert_model(model, neuron="multi")
    except ValueError as error:
        assert "3" in str(error)
        return
    assert relative_error(snn(x, timesteps=30)[-1], model(x)) < 1e-9

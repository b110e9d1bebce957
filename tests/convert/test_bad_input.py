"""Unusual models and arguments: each works or gives one clear error, and no model is changed."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikeswap.calibrate import activation_thresholds
from spikeswap.convert import clipped, convert_model, insert_qcfs


def network():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )


@pytest.fixture
def images():
    return torch.randn(4, 3, 8, 8)


@pytest.fixture
def model():
    return insert_qcfs(network(), levels=8, threshold=1.0).eval()


def state(model):
    return {
        "tensors": copy.deepcopy(model.state_dict()),
        "training": [m.training for m in model.modules()],
        "grad": [p.requires_grad for p in model.parameters()],
        "hooks": [
            len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
            for m in model.modules()
        ],
    }


def assert_same(model, before):
    now = state(model)
    assert all(torch.equal(v, now["tensors"][k]) for k, v in before["tensors"].items())
    assert {k: v for k, v in now.items() if k != "tensors"} == {
        k: v for k, v in before.items() if k != "tensors"
    }


@pytest.mark.parametrize("training", [True, False])
def test_no_function_changes_the_callers_model(training, images):
    source = network().train(training)
    source[3].weight.requires_grad_(False)
    source[0].register_forward_hook(lambda *_: None)
    before = state(source)
    thresholds = activation_thresholds(source, [images])
    quantised = insert_qcfs(source, levels=8, thresholds=thresholds, mask=0.5)
    convert_model(source, calibration=[images], neuron="multi")
    assert_same(source, before)
    before = state(quantised)
    for neuron in ("if", "stbif", "multi"):
        convert_model(quantised, neuron=neuron)(images, timesteps=3)
    clipped(quantised)
    assert_same(quantised, before)


def test_train_mode_is_converted_as_evaluation(images):
    source = network()
    source(images)
    quantised = insert_qcfs(source.train(), levels=8)
    assert quantised.training
    first = convert_model(quantised, neuron="multi")(images, timesteps=12)
    quantised.eval()
    assert torch.equal(convert_model(quantised, neuron="multi")(images, timesteps=12), first)
    assert torch.allclose(first[-1], quantised(images), atol=1e-5)


def test_data_parallel_is_unwrapped(model, images):
    wrapped = nn.DataParallel(network())
    quantised = insert_qcfs(wrapped, levels=8)
    assert "2.threshold" in quantised.state_dict()
    expected = convert_model(model)(images, timesteps=4)
    assert torch.equal(convert_model(nn.DataParallel(model))(images, timesteps=4), expected)
    assert activation_thresholds(wrapped, [images]).keys() == {"2", "4"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused_with_the_remedy(dtype, images):
    for call in (
        lambda: insert_qcfs(network().to(dtype)),
        lambda: convert_model(network().to(dtype), calibration=[images]),
    ):
        with pytest.raises(ValueError, match=r"float\(\)"):
            call()


def test_hooks_neither_fire_nor_travel_nor_vanish(images):
    source, seen = network().eval(), []
    for module in source:
        module.register_forward_hook(lambda *_: seen.append("forward"))
        module.register_forward_pre_hook(lambda *_: seen.append("pre"))
        module.register_full_backward_hook(lambda *_: seen.append("backward"))
    quantised = insert_qcfs(source, levels=8)
    quantised(images).sum().backward()
    convert_model(quantised)(images, timesteps=2)
    convert_model(source, calibration=[images])(images, timesteps=2)
    assert seen == []
    source(images).sum().backward()
    assert len(seen) == 3 * len(source)


def test_a_hook_on_a_qcfs_network_does_not_travel_either(model, images):
    seen = []
    model.get_submodule("2").register_forward_hook(lambda *_: seen.append(1))
    convert_model(model)(images, timesteps=2)
    clipped(model)(images)
    assert seen == []


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
def test_weight_norm_after_a_step_of_training(images):
    """Its weight is then no leaf of autograd, which a plain deep copy refuses."""
    source = network()
    source[3] = nn.utils.weight_norm(source[3])
    source(images).sum().backward()
    source.eval()
    thresholds = activation_thresholds(source, [images])
    quantised = insert_qcfs(source, levels=2**16, thresholds=thresholds)
    assert torch.allclose(quantised(images), source(images), atol=1e-3)
    convert_model(quantised, neuron="multi")
    source(images), quantised(images)


@pytest.mark.parametrize(
    "make", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm]
)
def test_parametrised_models_still_work_after_conversion(make, images):
    source = network().eval()
    source[3] = make(source[3]).eval()
    expected = source(images)
    quantised = insert_qcfs(source, levels=8)
    outputs = [convert_model(quantised, neuron="multi")(images, timesteps=12) for _ in range(2)]
    assert torch.equal(*outputs)
    assert torch.equal(source(images), expected)
    assert torch.allclose(outputs[0][-1], quantised(images), atol=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value, images):
    source = network()
    with torch.no_grad():
        source[3].weight[0, 0, 0, 0] = value
    for call in (insert_qcfs, lambda m: convert_model(m, calibration=[images])):
        with pytest.raises(ValueError, match=r"3\.weight"):
            call(source)
    source = network()
    source[1].running_var[0] = value
    with pytest.raises(ValueError, match=r"1\.running_var"):
        insert_qcfs(source)


def test_a_model_without_parameters_is_refused():
    with pytest.raises(ValueError, match="no parameters"):
        insert_qcfs(nn.Sequential(nn.ReLU(), nn.Flatten()))


@pytest.mark.parametrize("thing", [None, "resnet18", 3, {"weight": 1}])
def test_what_is_no_module_is_refused(thing):
    with pytest.raises(ValueError, match="Module"):
        insert_qcfs(thing)


def test_a_compiled_or_scripted_class_of_its_own_still_converts(images):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = network()

        def forward(self, x):
            return self.body(x)

    quantised = insert_qcfs(Model().eval(), levels=8)
    assert torch.equal(quantised(images), insert_qcfs(quantised)(images))


def test_frozen_weights_stay_frozen_and_thresholds_train():
    source = network().requires_grad_(False)
    quantised = insert_qcfs(source)
    trainable = {name for name, p in quantised.named_parameters() if p.requires_grad}
    assert trainable == {"2.threshold", "4.threshold"}


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"levels": 0}, "levels"),
        ({"levels": 2.5}, "levels"),
        ({"levels": "many"}, "levels"),
        ({"threshold": -1.0}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"mask": 1.0}, "ratio"),
        ({"mask": -0.1}, "ratio"),
        ({"mask": float("nan")}, "ratio"),
        ({"mask": 0.5, "mask_sites": ["5"]}, "mask site"),
        ({"thresholds": {}}, "missing"),
        ({"thresholds": {"2": torch.ones(1), "4": torch.ones(1), "9": torch.ones(1)}}, "unknown"),
    ],
)
def test_impossible_arguments_of_insert_qcfs(arguments, words):
    with pytest.raises(ValueError, match=words):
        insert_qcfs(network(), **arguments)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"neuron": "lif"}, "if, stbif, multi"),
        ({"attention": "exact"}, "accumulated, per-step"),
        ({"readout": "last"}, "mean, second-half"),
        ({"mask_scaling": "half"}, "none, inverse"),
        ({"readout": "second-half", "neuron": "multi"}, "running sum"),
        ({"mask": 1.5}, "ratio"),
        ({"levels": 8}, "leave levels out"),
        ({"mask": 0.5, "mask_sites": ["x"]}, "mask site"),
        ({"neuron": "multi", "calibration": [torch.zeros(1, 3, 8, 8)]}, "calibration"),
        ({"seed": "a"}, "seed"),
    ],
)
def test_impossible_arguments_of_convert_model(model, arguments, words):
    with pytest.raises(ValueError, match=words):
        convert_model(model, **arguments)


@pytest.mark.parametrize(
    "loader, words",
    [([], "no"), (iter([]), "no"), ([["a", "b"]], "tensor"), ([{"image": 1}], "tensor")],
)
def test_loaders_without_images_are_refused(loader, words):
    with pytest.raises(ValueError, match=words):
        convert_model(network(), calibration=loader)
    with pytest.raises(ValueError, match=words):
        activation_thresholds(network(), [] if not isinstance(loader, list) else loader)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: [x],
        lambda x: [(x, torch.zeros(4))],
        lambda x: [[x, torch.zeros(4)]],
        lambda x: iter([x[:2], x[2:]]),
        lambda x: (part for part in (x[:2], x[2:])),
    ],
)
def test_loaders_of_images_alone_pairs_and_iterators(make, images):
    source = network().eval()
    found = convert_model(source, calibration=make(images), neuron="multi")
    expected = convert_model(source, calibration=[images], neuron="multi")
    assert torch.equal(found(images, timesteps=5), expected(images, timesteps=5))


def test_a_loader_that_gives_nan_is_refused(images):
    with pytest.raises(ValueError, match="NaN"):
        convert_model(network(), calibration=[images * float("nan")])


@pytest.mark.parametrize("neuron", ["if", "stbif", "multi"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_images_that_are_not_finite_make_no_spikes(neuron, value, model, images):
    """A comparison with NaN is false: a neuron would stay silent and the logits look fine."""
    snn = convert_model(model, neuron=neuron)
    images = images.clone()
    images[1, 0, 0, 0] = value
    with pytest.raises(ValueError, match="image 1 of the batch .* NaN or infinity"):
        snn(images, timesteps=3)


def test_dead_and_zero_activations(images):
    """Threshold 0: silent neurons, no NaN, and still exact."""
    source = network().double().eval()
    with torch.no_grad():
        source[1].weight[:2] = 0
        source[1].bias[:2] = -1
        source[3].weight.zero_()
        source[3].bias.fill_(-1.0)
    images = images.double()
    for per_channel in (True, False):
        thresholds = activation_thresholds(source, [images], per_channel=per_channel)
        assert (thresholds["4"] == 0).all()
        quantised = insert_qcfs(source, levels=8, thresholds=thresholds)
        for neuron in ("if", "stbif", "multi"):
            snn = convert_model(quantised, neuron=neuron)
            with snn.record() as spikes:
                readout = snn(images, timesteps=20)
            assert readout.isfinite().all() and not spikes["4"].any()
            torch.testing.assert_close(readout[-1], quantised(images), rtol=0, atol=1e-9)


class SizeDependent(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = network()

    def forward(self, x):
        if x.shape[-1] % 2:
            x = F.pad(x, (0, 1, 0, 1))
        return self.body(x)


def test_another_image_size_than_traced_works_without_control_flow_on_it(model, images):
    snn = convert_model(model, neuron="multi", example_inputs=images)
    for size in (6, 8, 13):
        x = torch.randn(2, 3, size, size)
        assert torch.allclose(snn(x, timesteps=12)[-1], model(x), atol=1e-5)


def test_another_image_size_than_traced_is_refused_where_control_flow_read_it(images):
    quantised = insert_qcfs(SizeDependent(), example_inputs=images)
    snn = convert_model(quantised, neuron="multi", example_inputs=images)
    snn(images, timesteps=2)
    with pytest.raises(ValueError, match=r"\(3, 9, 9\).*\(3, 8, 8\)"):
        snn(torch.randn(2, 3, 9, 9), timesteps=2)


def test_a_qcfs_network_remembers_the_size_it_was_traced_for(images):
    """Converted later, in another process perhaps, with no example given."""
    quantised = insert_qcfs(SizeDependent(), example_inputs=images)
    snn = convert_model(quantised, neuron="multi")
    snn(images, timesteps=2)
    with pytest.raises(ValueError, match="example_inputs"):
        snn(torch.randn(2, 3, 9, 9), timesteps=2)


def test_a_qcfs_network_refuses_other_sizes_itself(images):
    quantised = insert_qcfs(SizeDependent(), example_inputs=images)
    for network in (quantised, clipped(quantised), copy.deepcopy(quantised)):
        network(images)
        with pytest.raises(ValueError, match=r"\(3, 9, 9\).*\(3, 8, 8\).*example_inputs"):
            network(torch.randn(2, 3, 9, 9))
    with pytest.raises(ValueError, match=r"\(3, 9, 9\).*\(3, 8, 8\)"):
        convert_model(quantised, example_inputs=torch.randn(2, 3, 9, 9))


@pytest.mark.parametrize(
    "make",
    [lambda x: x.double(), lambda x: x.half(), lambda x: x.to(torch.uint8), lambda x: x.long()],
)
def test_images_of_another_type_are_refused_clearly(model, images, make):
    with pytest.raises(ValueError, match="float32"):
        convert_model(model)(make(images), timesteps=2)


@pytest.mark.parametrize(
    "make", [lambda x: x[:0], lambda x: x.numpy(), lambda x: [x], lambda x: None]
)
def test_what_is_no_batch_of_images_is_refused(model, images, make):
    with pytest.raises(ValueError, match="images"):
        convert_model(model)(make(images), timesteps=2)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8", float("nan")])
@pytest.mark.parametrize("name", ["timesteps", "chunk"])
def test_impossible_numbers_of_steps(model, images, name, value):
    with pytest.raises(ValueError, match=name):
        convert_model(model)(images, **{"timesteps": 2, name: value})


def test_timesteps_must_be_given_once(model, images):
    snn = convert_model(model)
    with pytest.raises(ValueError, match="timesteps is missing"):
        snn(images)
    snn.info["timesteps"] = 3
    assert len(snn(images)) == 3


def test_one_image_and_many(model, images):
    snn = convert_model(model, neuron="multi")
    many = snn(images, timesteps=10)
    one = snn(images[2:3], timesteps=10)
    assert many.shape == (10, 4, 5) and one.shape == (10, 1, 5)
    torch.testing.assert_close(one[:, 0], many[:, 2], rtol=1e-4, atol=1e-5)

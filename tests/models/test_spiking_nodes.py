"""The lean neurons are SpikingJelly's: same spikes, same membranes, same gradients."""

import pytest
import torch
from spikingjelly.activation_based import neuron, surrogate

from spikeswap.models import spiking_nodes

GRADIENTS = {
    "sigmoid": surrogate.Sigmoid(alpha=4.0),
    "atan": surrogate.ATan(alpha=2.0),
}
KINDS = {
    "lif": ("LIFNode", {"tau": 2.0}),
    "lif-1.5": ("LIFNode", {"tau": 1.5}),
    "plif": ("ParametricLIFNode", {"init_tau": 1.7}),
    "if": ("IFNode", {}),
}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(spiking_nodes, "PIECE", 100)


def pair(kind, dtype=torch.float32, gradient="sigmoid", detach_reset=True, **more):
    """SpikingJelly's neuron and ours, alike."""
    name, arguments = KINDS[kind]
    arguments = {**arguments, "detach_reset": detach_reset, "step_mode": "m", **more}
    arguments["surrogate_function"] = GRADIENTS[gradient]
    return [getattr(home, name)(**arguments).to(dtype) for home in (neuron, spiking_nodes)]


def currents(steps, dtype):
    x = 2 * torch.randn(steps, 2, 9, 5, 5, dtype=dtype)
    x[:2] = x[:2].round()  # many exact ties with the threshold
    return x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_inference_is_bit_equal(kind, steps, dtype):
    theirs, ours = pair(kind, dtype)
    x = currents(steps, dtype)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))
        assert torch.equal(ours.v, theirs.v)
        assert torch.equal(ours(x), theirs(x))  # from the membrane of the first call
        ours.reset()
        theirs.reset()
        constant = x[0].expand(3, *x[0].shape)
        assert torch.equal(ours(constant), theirs(constant))


@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_training_is_equal(kind, gradient, detach_reset):
    theirs, ours = pair(kind, torch.float64, gradient, detach_reset)
    x = currents(4, torch.float64)
    to_spikes, to_membrane = torch.randn_like(x), torch.randn_like(x[0])
    found = []
    for node in (theirs, ours):
        given = x.clone().requires_grad_()
        spikes = node(given)
        ((spikes * to_spikes).sum() + (node.v * to_membrane).sum()).backward()
        w = node.w.grad if kind == "plif" else torch.zeros(())
        found.append((spikes.detach(), node.v.detach(), given.grad, w))
    assert torch.equal(found[0][0], found[1][0])
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)


def test_only_the_weight_of_a_plif_wants_a_gradient():
    theirs, ours = pair("plif", torch.float64)
    x = currents(3, torch.float64)
    for node in (theirs, ours):
        node(x).sum().backward()
    torch.testing.assert_close(ours.w.grad, theirs.w.grad)


@pytest.mark.parametrize("kind", KINDS)
def test_spikingjelly_s_own_path_where_ours_does_not_reach(kind):
    theirs, ours = pair(kind, store_v_seq=True)
    x = currents(4, torch.float32)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.v_seq, theirs.v_seq)
    theirs, ours = pair(kind)
    columns = currents(4, torch.float32).transpose(1, 2)  # a step is not contiguous
    assert torch.equal(ours(columns), theirs(columns))
    for node in (theirs, ours):
        node.reset()
        node.step_mode = "s"
    assert torch.equal(ours(x[0]), theirs(x[0]))


def test_they_are_spikingjelly_neurons():
    for kind in KINDS:
        theirs, ours = pair(kind)
        assert isinstance(ours, type(theirs))
        assert type(ours).__name__ == type(theirs).__name__
        assert list(ours.state_dict()) == list(theirs.state_dict())


def test_a_nan_does_not_fire():
    _, ours = pair("lif")
    with torch.no_grad():
        spikes = ours(torch.full((2, 1, 3), float("nan")))
    assert not spikes.any()

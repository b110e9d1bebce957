"""Attention: its mechanism, its masks, and the two ways to simulate it."""

import pytest
import torch
from torch import nn

from spikeswap.convert import clipped, convert_model, insert_qcfs


class Lookup(nn.Module):
    """Output = softmax(q k^T) v with fixed, simple weights: all information is in the attention.

    Tokens [B, 3, 4]; q and k are the first two entries, v the last two, times constants.
    """

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(4, 2, bias=False) for _ in range(3))
        self.q_act, self.k_act, self.v_act = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.scores_act = nn.ReLU()
        with torch.no_grad():
            for layer, start in ((self.q, 0), (self.k, 0), (self.v, 2)):
                layer.weight.zero_()
                layer.weight[0, start] = layer.weight[1, start + 1] = 1.0

    def forward(self, x):
        q, k, v = self.q_act(self.q(x)), self.k_act(self.k(x)), self.v_act(self.v(x))
        scores = self.scores_act(q @ k.transpose(-2, -1) * 3)
        return (scores.softmax(-1) @ v).flatten(1)


def tokens():
    """The first token asks for the key of the third one."""
    return torch.tensor(
        [[[1.0, 0.0, 0.2, 0.9], [0.0, 1.0, 0.9, 0.1], [1.0, 0.1, 0.5, 0.3]]], dtype=torch.double
    )


def network():
    return insert_qcfs(Lookup().double().eval(), levels=32, threshold=1.0).double()


@pytest.mark.parametrize("neuron", ["stbif", "multi"])
def test_accumulated_attention_is_exact(neuron):
    model = insert_qcfs(Lookup().double().eval(), levels=32, threshold=4.0)
    readout = convert_model(model, neuron=neuron)(tokens(), timesteps=80)
    torch.testing.assert_close(readout[-1], model(tokens()).detach(), rtol=0, atol=1e-9)


def test_output_depends_on_q_and_k_and_follows_their_masks():
    """Masking q or k nearly always makes the attention flat; the readout must show it."""
    model = network()
    plain = model(tokens()).detach()
    for site in ("q_act", "k_act", "scores_act"):
        snn = convert_model(model, neuron="multi", mask=0.999, mask_sites=[site], seed=3)
        masked = snn(tokens(), timesteps=40)[-1]
        assert (masked - plain).abs().max() > 0.05, site
        values = model.v_act(model.v(tokens())).detach()
        flat = values.mean(1, keepdim=True).expand_as(values).flatten(1)
        torch.testing.assert_close(masked, flat, rtol=0, atol=0.02)


def test_accumulated_rate_coding_converges_and_per_step_does_not(relative_error):
    model = network()
    with torch.no_grad():
        expected = clipped(model)(tokens())
    errors = {}
    for attention in ("accumulated", "per-step"):
        readout = convert_model(model, attention=attention)(tokens(), timesteps=2048)
        errors[attention] = [relative_error(readout[t - 1], expected) for t in (32, 2048)]
    assert errors["accumulated"][1] < min(0.003, errors["accumulated"][0] / 10)
    assert errors["per-step"][1] > 0.015


def test_per_step_is_what_the_published_code_does():
    """Softmax and products of the spikes of each step, re-made from the recorded spikes."""
    model = network()
    snn = convert_model(model, attention="per-step")
    with snn.record() as spikes:
        readout = snn(tokens(), timesteps=9)
    q, k, v = (spikes[name] * snn.sites[name].unit for name in ("q_act", "k_act", "v_act"))
    scores = spikes["scores_act"] * snn.sites["scores_act"].unit
    steps = (scores.softmax(-1) @ v).flatten(2)
    expected = steps.cumsum(0) / torch.arange(1, 10).view(-1, 1, 1)
    torch.testing.assert_close(readout, expected, rtol=0, atol=1e-12)
    membrane, fired = 0.5, []
    for step in q @ k.transpose(-2, -1) * 3:
        membrane = membrane + step
        fired.append((membrane >= 1).double())
        membrane = membrane - fired[-1]
    assert torch.equal(torch.stack(fired), scores)


def test_the_report_says_whether_it_converges():
    model = network()
    assert "does not converge" in str(convert_model(model, attention="per-step").report)
    assert "does not converge" not in str(convert_model(model).report)


@pytest.mark.parametrize("neuron", ["stbif", "multi"])
def test_per_step_is_for_rate_coding_alone(neuron):
    with pytest.raises(ValueError, match="accumulated"):
        convert_model(network(), neuron=neuron, attention="per-step")

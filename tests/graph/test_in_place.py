"""Changes in place: what eager torch computes is what conversion keeps, or it is refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.graph import UnconvertibleError, normal_form

LEVELS = 32


class Net(nn.Module):
    """Two convolutions, a ReLU in place, a head; `body(net, x)` gives [B, 6, H, W]."""

    def __init__(self, body):
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.r, self.l = nn.ReLU(inplace=True), nn.Linear(6, 5)
        self.body = body

    def forward(self, x):
        return self.l(self.body(self, x).mean((2, 3)))


@pytest.fixture
def x():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()


def error(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def check(body, x, **arguments):
    """Fine QCFS is the eager network; `multi` reaches the coarse QCFS network."""
    torch.manual_seed(0)
    net = Net(body).double().eval()
    with torch.no_grad():
        eager = net(x.clone())
        fine = insert_qcfs(net, levels=2**20, threshold=16.0, **arguments)
        assert error(fine(x.clone()), eager) < 1e-4
        coarse = insert_qcfs(net, levels=LEVELS, threshold=16.0, **arguments)
        snn = convert_model(coarse, neuron="multi")
        readout = snn(x, timesteps=2 * LEVELS + 16)[-1]
        assert error(readout, coarse(x)) < 1e-9
    assert net.r.inplace, "the caller's model stays as it was"


BODIES = {}


def body(function):
    BODIES[function.__name__] = function
    return function


@body
def a_shared_module(s, x):
    h = s.c2(s.r(s.c1(x)))
    o = s.r(h)
    return h + s.c2(o)


@body
def a_shared_module_called_three_times(s, x):
    a = s.c1(x)
    s.r(a)
    b = s.c2(a)
    s.r(b)
    c = s.c2(b + a)
    s.r(c)
    return a + b + c


@body
def a_chain_on_a_part(s, x):
    b = s.c1(x)
    b[:, 1:3].mul_(2).add_(1)
    return s.r(b)


@body
def a_long_chain_on_a_part_of_a_part(s, x):
    b = s.c1(x)
    b[:, 1:4][:, :, 2:].mul_(2).relu_().add_(1).sub_(0.25)
    return F.relu(s.c2(b)) + b


@body
def a_part_kept_and_changed_again(s, x):
    b = s.r(s.c1(x))
    p = b[:, 1:3]
    p += 1
    p *= 2
    p.relu_()
    return s.c2(b)


@body
def parts_changed_one_after_the_other(s, x):
    b = s.r(s.c1(x))
    for i in range(3):
        b[:, i : i + 2] += i
        b[:, i].mul_(0.5).sub_(1)
    return s.c2(b)


@body
def parts_that_share_nothing(s, x):
    h = s.c1(x)
    a = h[:, :3].relu_()
    b = h[:, 3:].mul_(2).relu_()
    return torch.cat([b, a], 1) + h


@body
def parts_taken_before_either_changes(s, x):
    h = s.c1(x)
    a, b = h[:, :3], h[:, 3:]
    a.relu_()
    b.mul_(2).relu_()
    a.add_(1)
    return torch.cat([b, a], 1) + s.c2(h)


@body
def rows_that_share_nothing(s, x):
    h = s.r(s.c1(x))
    a = h[:, 1, 2:4].mul_(2)
    b = h[:, 1, 4].sub_(1)
    return h + a[:, None, :1] + b[:, None, None]


@body
def a_power_of_an_alias(s, x):
    h = s.r(s.c1(x))
    y = h
    y **= 2
    return h + y


@body
def a_copy(s, x):
    h = s.r(s.c1(x))
    y = h
    y.copy_(s.c2(h))
    return h + F.relu(y)


@body
def a_copy_into_a_part(s, x):
    h = s.r(s.c1(x))
    h[:, :2].copy_(h[:, 2:4])
    h[:, 4].copy_(torch.zeros(1).double())
    return s.c2(h)


@body
def numbers_are_no_tensors(s, x):
    h = s.r(s.c1(x))
    size = old = h.shape[1]
    size //= 2
    size += 1
    return F.relu(s.c2(h)) * size + old


@pytest.mark.parametrize("given", [False, True], ids=["no example", "example"])
@pytest.mark.parametrize("name", BODIES)
def test_changes_in_place_keep_the_numbers(name, given, x):
    check(BODIES[name], x, **({"example_inputs": x} if given else {}))


REFUSED = {}


def refused(function):
    REFUSED[function.__name__] = function
    return function


@refused
def a_part_read_after_its_whole_changed(s, x):
    b = s.r(s.c1(x))
    p = b[:, :2].mul_(2)
    b.add_(1)
    return b + p.mean(1, keepdim=True)


@refused
def a_part_changed_after_an_overlapping_part(s, x):
    b = s.r(s.c1(x))
    p = b[:, :2].mul_(2)
    b[:, 1:].add_(1)
    p.mul_(3)
    return b


@refused
def parts_that_share_a_row(s, x):
    h = s.r(s.c1(x))
    a = h[:, :3, 1].mul_(2)
    h[:, 2:, 1].add_(1)
    return h + a.flatten(1).mean(1)[:, None, None, None]


@refused
def a_part_left_alone_whose_whole_changes_later(s, x):
    h = s.r(s.c1(x))
    a = h[:, :3].mul_(2)
    h[:, 3:].mul_(2)
    h.add_(1)
    return h + a.mean(1, keepdim=True)


@refused
def a_part_taken_before_whose_whole_changes_later(s, x):
    h = s.r(s.c1(x))
    a, b = h[:, :3], h[:, 3:]
    a.mul_(2)
    h.add_(1)
    return h + b.mean(1, keepdim=True)


@refused
def parts_counted_from_the_end(s, x):
    h = s.r(s.c1(x))
    a = h[:, :-1].mul_(2)
    h[:, 3:].add_(1)
    return h + a.flatten(1).mean(1)[:, None, None, None]


@refused
def the_images_through_a_view(s, x):
    x.flatten(1).mul_(2)
    return s.r(s.c1(x))


@refused
def no_plain_form(s, x):
    h = s.r(s.c1(x))
    h.erf().log_normal_(0, 1)
    return h


@pytest.mark.parametrize("given", [False, True], ids=["no example", "example"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_wrong_is_refused(name, given, x):
    arguments = {"example_inputs": x} if given else {}
    with pytest.raises(UnconvertibleError, match="without in-place operations") as info:
        insert_qcfs(Net(REFUSED[name]).double().eval(), **arguments)
    assert any(o.source and o.source[0] == __file__ for o in info.value.offences)


AUGMENTED = {
    "//=": lambda y: y.__ifloordiv__(0.3),
    "%=": lambda y: y.__imod__(0.3),
    "**=": lambda y: y.__ipow__(3),
}


@pytest.mark.parametrize("sign", AUGMENTED)
def test_every_augmented_assignment_shows_in_an_alias(sign, x):
    def change(s, x):
        h = s.r(s.c1(x))
        y = h
        y = AUGMENTED[sign](y)
        return h + y

    net = Net(change).double().eval()
    with torch.no_grad():
        torch.testing.assert_close(normal_form(net)(x), net(x))


@pytest.mark.parametrize("sign", ["and", "or", "xor"])
def test_masks(sign, x):
    def change(s, x):
        h = s.r(s.c1(x))
        low, high = h > 0.1, h > 0.5
        both = low & high  # changes neither
        kept = low
        if sign == "and":
            low &= high
        elif sign == "or":
            low |= ~high
        else:
            low ^= high
        return h * kept + h * both + h * low

    net = Net(change).double().eval()
    with torch.no_grad():
        torch.testing.assert_close(normal_form(net)(x), net(x))

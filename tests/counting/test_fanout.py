"""Fan-out of each input position, against explicit loops and a transposed convolution of ones."""

import pytest
import torch

from spikeswap.counting import axis_fanout, conv_fanout

GEOMETRIES = [
    # size, kernel, stride, padding, dilation
    ((7, 9), (3, 3), (1, 1), (1, 1), (1, 1)),
    ((8, 8), (3, 2), (2, 3), (1, 0), (1, 1)),
    ((11, 6), (3, 3), (2, 1), (2, 2), (2, 2)),
    ((5, 5), (5, 5), (1, 1), (0, 0), (1, 1)),
    ((16, 16), (4, 4), (4, 4), (0, 0), (1, 1)),
    ((9, 9), (1, 1), (2, 2), (0, 0), (1, 1)),
]


@pytest.mark.parametrize("size, kernel, stride, padding, dilation", GEOMETRIES)
def test_conv_fanout_is_what_a_transposed_convolution_of_ones_gives(
    size, kernel, stride, padding, dilation
):
    weight = torch.ones(1, 1, *kernel)
    image = torch.zeros(1, 1, *size, requires_grad=True)
    out = torch.conv2d(image, weight, None, stride, padding, dilation)
    out.sum().backward()
    fan = conv_fanout(size, out.shape[2:], kernel, stride, padding, dilation)
    assert torch.equal(fan, image.grad[0, 0].long())


@pytest.mark.parametrize("stride, padding, dilation", [(1, 0, 1), (2, 1, 1), (3, 2, 2)])
def test_transposed_convolutions_reach_forwards(stride, padding, dilation):
    image = torch.zeros(1, 1, 6, 5, requires_grad=True)
    weight = torch.ones(1, 1, 3, 3)
    out = torch.conv_transpose2d(image, weight, None, stride, padding, 0, 1, dilation)
    out.sum().backward()
    fan = conv_fanout(
        (6, 5),
        out.shape[2:],
        (3, 3),
        (stride,) * 2,
        (padding,) * 2,
        (dilation,) * 2,
        transposed=True,
    )
    assert torch.equal(fan, image.grad[0, 0].long())


def test_one_axis_by_hand():
    # size 4, kernel 3, stride 1, padding 1: borders reach 2 outputs, the others 3
    assert axis_fanout(4, 4, 3, 1, 1, 1) == (2, 3, 3, 2)
    # size 4, kernel 2, stride 2: each position reaches one output
    assert axis_fanout(4, 2, 2, 2, 0, 1) == (1, 1, 1, 1)
    # size 5, kernel 1, stride 2: every second position reaches nothing
    assert axis_fanout(5, 3, 1, 2, 0, 1) == (1, 0, 1, 0, 1)

"""Assigning to a part of a tensor, without changing the tensor."""

import torch
from torch.overrides import handle_torch_function, has_torch_function


def set_part(x: torch.Tensor, index, value) -> torch.Tensor:
    """A copy of `x` in which `x[index]` is `value`: what `x[index] = value` leaves in x."""
    if has_torch_function((x, value)):  # proxies: the assignment becomes a node
        return handle_torch_function(set_part, (x, value), x, index, value)
    copy = x.clone()
    copy[index] = value
    return copy

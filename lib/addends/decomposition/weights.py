"""Reading linear maps off modules, however the family stores them: nn.Linear, GPT-2's Conv1D, fused projections.

What is read from a model in half precision is widened to float32, which changes no value: sums of many terms are not
carried in half precision.
"""

from __future__ import annotations

import torch
from torch import nn

from addends.decomposition.architectures import Attention
from addends.errors import UnsupportedModelError


def widened(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """The tensor in float32 if it is in half precision, else itself; None stays None."""
    return tensor.float() if tensor is not None and tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def linear_map(module: nn.Module) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The weight, of shape (out, in), and the bias, of shape (out,) or None, of y = W x + b.

    Raises
    ------
    UnsupportedModelError
        If the module is no linear map that is known.
    """
    if isinstance(module, nn.Linear):
        return widened(module.weight), widened(module.bias)
    if type(module).__name__ == "Conv1D":  # GPT-2's: y = x W + b
        return widened(module.weight).T, widened(module.bias)
    raise UnsupportedModelError(
        f"A {type(module).__name__} stands where a linear map was expected; nn.Linear and Conv1D can be read. Check "
        "the paths of the model's row in the architectures table."
    )


def value_map(place: Attention, module: nn.Module, heads: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """W_V, of shape (heads * inner, dim), and b_V of an attention whose ``value`` module this is.

    ``heads`` is the number of query heads: it is needed where query, key and value are interleaved by head.
    """
    weight, bias = linear_map(module)
    if place.rows == "thirds":
        return weight.chunk(3)[2], None if bias is None else bias.chunk(3)[2]
    if place.rows == "heads":
        # (head * 3 * inner, dim) -> (head * inner, dim)
        weight = weight.unflatten(0, (heads, 3, -1))[:, 2].flatten(0, 1)
        return weight, None if bias is None else bias.unflatten(0, (heads, 3, -1))[:, 2].flatten()
    return weight, bias

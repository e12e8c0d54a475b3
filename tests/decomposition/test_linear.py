"""A map's weights are its module's, widened from half precision, and what is no map is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from addends.decomposition.linear import linear_map, widened
from addends.errors import UnsupportedModelError


@pytest.mark.parametrize("module", [nn.Linear(6, 4), nn.Linear(6, 4, bias=False), Conv1D(4, 6)], ids=str)
def test_a_linear_map_is_its_module(module):
    if getattr(module, "bias", None) is not None:
        nn.init.normal_(module.bias)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    weight, bias = linear_map(module)
    assert weight.shape == (4, 6)
    torch.testing.assert_close(nn.functional.linear(x, weight, bias), module(x))


def test_what_is_no_linear_map_is_refused_by_its_class():
    with pytest.raises(UnsupportedModelError, match="A LayerNorm stands where a linear map was expected"):
        linear_map(nn.LayerNorm(4))


def test_half_precision_is_widened_and_nothing_else():
    for dtype in (torch.float16, torch.bfloat16):
        assert widened(torch.ones(2, dtype=dtype)).dtype == torch.float32
    for dtype in (torch.float32, torch.float64):
        tensor = torch.ones(2, dtype=dtype)
        assert widened(tensor) is tensor
    assert widened(None) is None
    weight, bias = linear_map(nn.Linear(2, 2).half())
    assert weight.dtype == bias.dtype == torch.float32

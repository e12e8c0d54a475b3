"""Linear maps read off modules do what the modules do; a bias that is not there is None, and costs nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from addends.decomposition.architectures import Attention, architecture_of
from addends.decomposition.capture import capture
from addends.decomposition.sublayers import constant_output
from addends.decomposition.weights import linear_map, value_map, widened
from addends.errors import UnsupportedModelError
from tests.decomposition.small_models import batch_for, make


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


@pytest.mark.parametrize("bias", [True, False])
def test_values_are_cut_out_of_fused_projections(bias):
    """Numbered rows: value rows of "thirds" are 8..11; of "heads", two of every six."""
    module = nn.Linear(1, 12, bias=bias)
    with torch.no_grad():
        module.weight.copy_(torch.arange(12.0)[:, None])
        if bias:
            module.bias.copy_(100 + torch.arange(12.0))
    expected = {"all": list(range(12)), "thirds": [8, 9, 10, 11], "heads": [4, 5, 10, 11]}
    for rows, numbers in expected.items():
        place = Attention("T", "own", "attn", "attn.value", "attn.output", "norm", rows=rows)
        weight, found = value_map(place, module, heads=2)
        assert weight.flatten().tolist() == numbers
        assert (found is None) if not bias else found.tolist() == [100 + number for number in numbers]


def test_half_precision_is_widened_and_nothing_else():
    for dtype in (torch.float16, torch.bfloat16):
        assert widened(torch.ones(2, dtype=dtype)).dtype == torch.float32
    for dtype in (torch.float32, torch.float64):
        tensor = torch.ones(2, dtype=dtype)
        assert widened(tensor) is tensor
    assert widened(None) is None
    weight, bias = linear_map(nn.Linear(2, 2).half())
    assert weight.dtype == bias.dtype == torch.float32


@pytest.mark.parametrize(("name", "expected"), [("t5", False), ("llama", False), ("marian", True), ("opt", True)])
def test_the_constant_output_is_none_exactly_without_biases(name, expected):
    model = make(name)
    for layer in capture(model, batch_for(model)).main.layers:
        for sublayer in layer:
            assert (constant_output(sublayer) is not None) == expected


@pytest.mark.parametrize("name", ["marian", "gpt2", "gpt_neox", "llama: biases", "distilbert", "opt", "bert"])
def test_the_constant_output_is_what_a_sublayer_writes_without_its_inputs(name):
    """With W_V = 0 (W_2 = 0) a sublayer writes its constant output, whatever it reads."""
    model = make(name, torch.float64)
    expected = [
        [constant_output(sublayer) for sublayer in layer] for layer in capture(model, batch_for(model)).main.layers
    ]
    heads = 4
    with torch.no_grad():
        for layer in capture(model, batch_for(model)).main.layers:
            for sublayer in layer:
                if "second" in sublayer.modules:
                    linear_map(sublayer.modules["second"])[0].zero_()
                else:
                    weight = linear_map(sublayer.modules["value"])[0]
                    rows = torch.arange(len(weight))
                    kind = sublayer.place.rows
                    inner = len(weight) // (3 * heads)
                    values = {"all": rows >= 0, "thirds": rows >= 2 * len(weight) // 3}
                    values["heads"] = rows // max(inner, 1) % 3 == 2
                    weight[values[kind]] = 0
    assert architecture_of(model.config).stack.sublayers
    batch = batch_for(model)
    for layer, constants in zip(capture(model, batch).main.layers, expected, strict=True):
        for sublayer, constant in zip(layer, constants, strict=True):
            written = sublayer.written[batch.mask]
            torch.testing.assert_close(written, constant.expand_as(written))

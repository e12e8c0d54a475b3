"""A sublayer knows its own maps: its values' rows, its constant, and it lets go of what it widened."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import addends
from addends.decomposition import Attention, architecture_of, record
from addends.decomposition.capture import capture
from addends.decomposition.linear import LinearMap, linear_map
from addends.decomposition.record import value_rows
from tests.decomposition.small_models import batch_for, make


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
        weight = value_rows(place, module.weight, heads=2)
        found = value_rows(place, module.bias, heads=2) if bias else None
        assert weight.flatten().tolist() == numbers
        assert (found is None) if not bias else found.tolist() == [100 + number for number in numbers]


@pytest.mark.parametrize(("name", "expected"), [("t5", False), ("llama", False), ("marian", True), ("opt", True)])
def test_the_constant_output_is_none_exactly_without_biases(name, expected):
    model = make(name)
    for layer in capture(model, batch_for(model)).main.layers:
        for sublayer in layer:
            assert (sublayer.constant is not None) == expected


@pytest.mark.parametrize("name", ["marian", "gpt2", "gpt_neox", "llama: biases", "distilbert", "opt", "bert"])
def test_the_constant_output_is_what_a_sublayer_writes_without_its_inputs(name):
    """With W_V = 0 (W_2 = 0) a sublayer writes its constant output, whatever it reads."""
    model = make(name, torch.float64)
    expected = [[sublayer.constant for sublayer in layer] for layer in capture(model, batch_for(model)).main.layers]
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


@pytest.mark.parametrize(
    "options", [{"by": "sublayer"}, {"by": "token"}, {"by": "token", "tokens": "each", "chunk": 1}]
)
def test_in_half_precision_each_map_is_widened_once_a_decomposition_and_let_go_of(options, monkeypatch):
    model = make("marian", torch.bfloat16)
    batch = batch_for(model)
    addends.decompose(model, batch, **options)  # with the proofs, which read maps of their own
    read, kept = [], []
    monkeypatch.setattr(record, "linear_map", lambda module: read.append(module) or linear_map(module))
    forget = record.Sublayer.forget

    def watched(sublayer):
        kept.append([name for name, value in vars(sublayer).items() if isinstance(value, LinearMap)])
        forget(sublayer)
        assert not any(isinstance(value, LinearMap) for value in vars(sublayer).values())

    monkeypatch.setattr(record.Sublayer, "forget", watched)
    addends.decompose(model, batch, **options)
    assert len(read) == len(set(read)) == sum(map(len, kept))
    assert len(kept) == 2 * 3  # layer, sublayer


def test_maps_are_read_anew_after_they_were_let_go_of():
    model = make("marian", torch.bfloat16)
    sublayer = capture(model, batch_for(model)).main.sublayers[0]
    first = sublayer.output_map
    assert sublayer.output_map is first
    sublayer.forget()
    assert sublayer.output_map is not first
    assert torch.equal(sublayer.output_map.weight, first.weight)

"""One part a layer and head, or a layer and kind: they sum to their terms, and each holds what its own wrote."""

from __future__ import annotations

import pytest
import torch

import addends
from addends.errors import InputError
from tests.decomposition import small_models
from tests.decomposition.test_by_token import at_real_tokens, grouped
from tests.rounding import allowed

CENTERINGS = pytest.mark.parametrize("centering", ["own", "constant"])


@pytest.mark.parametrize("name", small_models.NAMES)
@CENTERINGS
def test_heads_sum_to_their_attention(name, centering):
    model = small_models.make(name)
    batch = small_models.batch_for(model)
    whole = addends.decompose(model, batch, centering=centering)
    heads = addends.decompose(model, batch, centering=centering, heads=True)
    attentions = [term for term in whole.terms if term in "ST"]
    layers = len(whole.states) - 1
    assert len(heads.terms) == len(whole.terms) - len(attentions) + 4 * layers * len(attentions)
    gap = at_real_tokens(grouped(heads, whole.terms) - whole.vectors, whole.mask).norm(dim=-1)
    relative = (gap / at_real_tokens(whole.states[:, None], whole.mask).norm(dim=-1)).max()
    assert relative <= allowed(heads, longest_sum=64)


def test_a_head_is_zero_until_its_layer():
    parts = addends.decompose(model := small_models.make("bert"), small_models.batch_for(model), heads=True)
    second = [k for k, term in enumerate(parts.terms) if term.startswith("T2.")]
    assert parts.vectors[1, second].abs().sum() == 0
    assert parts.vectors[2, second].abs().sum() > 0


def test_silencing_a_head_silences_its_part():
    model = small_models.make("marian", torch.float64)
    with torch.no_grad():
        model.model.decoder.layers[0].encoder_attn.out_proj.weight[:, 8:16] = 0  # of four heads of 8, the second
    parts = addends.decompose(model, small_models.batch_for(model), heads=True)
    assert parts.vectors[:, parts.terms.index("S1.1")].abs().sum() == 0
    assert parts.vectors[1, parts.terms.index("S1.0")].abs().sum() > 0


# --- one part a layer and kind of sublayer ---


@pytest.mark.parametrize("name", small_models.NAMES)
@CENTERINGS
def test_sublayers_sum_to_their_kind(name, centering):
    model = small_models.make(name)
    batch = small_models.batch_for(model)
    whole = addends.decompose(model, batch, centering=centering)
    each = addends.decompose(model, batch, centering=centering, sublayers="each")
    kinds = [term for term in whole.terms if term in "STF"]
    assert each.terms == ("I", *(f"{kind}{layer}" for kind in kinds for layer in (1, 2)), "C")
    gap = at_real_tokens(grouped(each, whole.terms) - whole.vectors, whole.mask).norm(dim=-1)
    relative = (gap / at_real_tokens(whole.states[:, None], whole.mask).norm(dim=-1)).max()
    assert relative <= allowed(each, longest_sum=64)


def test_a_sublayer_is_zero_until_its_layer_and_silent_where_it_is_silenced():
    model = small_models.make("marian", torch.float64)
    with torch.no_grad():
        model.model.decoder.layers[0].fc2.weight.zero_()
    parts = addends.decompose(model, small_models.batch_for(model), sublayers="each")
    at = parts.terms.index
    for kind in "STF":
        assert parts.vectors[1, at(f"{kind}2")].abs().sum() == 0
        assert parts.vectors[2, at(f"{kind}2")].abs().sum() > 0
    assert parts.vectors[:, at("F1")].abs().sum() == 0
    assert parts.vectors[1, at("S1")].abs().sum() > 0


@pytest.mark.parametrize("options", [{"by": "token"}, {"heads": True}])
def test_sublayers_are_those_of_the_method_by_sublayer(options):
    model = small_models.make("marian")
    with pytest.raises(InputError, match="sublayers='each' needs"):
        addends.decompose(model, small_models.batch_for(model), sublayers="each", **options)

"""Importance sums to 1; what is undefined is missing; padding has no rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import addends
from addends.decomposition import architecture_of, with_places
from addends.decomposition.indicators import of_vectors
from addends.errors import InputError
from addends.tables import INDICATORS
from tests.conftest import SOURCES, TARGETS
from tests.decomposition.small_models import alone, batch_for, make


@pytest.fixture(scope="module", params=["sublayer", "token"])
def parts(request, make_marian, tokenizer):
    model = make_marian()
    return addends.decompose(model, addends.encode(model, tokenizer, SOURCES, TARGETS), by=request.param)


def test_importance_sums_to_one_over_the_terms(parts):
    sums = addends.indicators(parts).groupby(["layer", "sentence", "position"])["importance"].sum()
    np.testing.assert_allclose(sums, 1, atol=2e-6)


def test_one_row_a_layer_term_and_real_token(parts):
    frame = addends.indicators(parts)
    assert list(frame.columns) == ["layer", "term", "sentence", "position", *INDICATORS]
    assert len(frame) == len(parts.states) * len(parts.terms) * int(parts.mask.sum())
    assert not frame.duplicated(["layer", "term", "sentence", "position"]).any()
    lengths = frame.groupby("sentence")["position"].nunique().to_numpy()
    assert (lengths == parts.mask.sum(dim=1).numpy()).all()


def test_rows_hold_the_definitions(parts):
    frame = addends.indicators(parts).set_index(["layer", "term", "sentence", "position"])
    for layer, term, sentence, position in [(1, "S", 0, 0), (2, "C", 2, 5), (0, "T", 3, 1)]:
        x = parts.vectors[layer, parts.terms.index(term), sentence, position].double().numpy()
        e = parts.states[layer, sentence, position].double().numpy()
        row = frame.loc[(layer, term, sentence, position)]
        assert row["importance"] == pytest.approx(x @ e / (e @ e), abs=1e-5)
        assert row["norm_ratio"] == pytest.approx(np.linalg.norm(x) / np.linalg.norm(e), abs=1e-5)
        assert row["distance"] == pytest.approx(np.linalg.norm(x - e), rel=1e-5, abs=1e-5)
        if x.any():
            assert row["cosine"] == pytest.approx(x @ e / np.linalg.norm(x) / np.linalg.norm(e), abs=1e-5)


def test_the_cosine_of_a_zero_vector_is_missing_and_nothing_else_is(parts):
    frame = addends.indicators(parts)
    zero = frame["norm_ratio"] == 0
    assert zero.any()
    assert (frame["layer"][zero] == 0).all()
    assert frame["cosine"].isna().equals(zero)
    assert frame[["importance", "norm_ratio", "distance"]].notna().all(axis=None)


def test_a_whole_state_is_its_own_part():
    state = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    importance, cosine, norm_ratio, distance = of_vectors(state[None], state)
    for values in (importance, cosine, norm_ratio):
        torch.testing.assert_close(values, torch.ones(1, 5))
    assert distance.abs().max() == 0


def test_scale_and_rotation_leave_all_but_distance_alone():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 8, 16, generator=generator, dtype=torch.float64)  # (term, position, dim)
    e = x.sum(dim=0)
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=generator, dtype=torch.float64)).Q
    before, after = of_vectors(x, e), of_vectors(3 * x @ rotation, 3 * e @ rotation)
    torch.testing.assert_close(before[:3], after[:3])
    torch.testing.assert_close(3 * before[3], after[3])


# --- what is zero ---


def bound_of_zero(e, *parts):
    """u sqrt(d) (|e| + sum |x|), which is what the documentation says."""
    unit = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}[e.dtype]
    return unit * e.shape[-1] ** 0.5 * (e.norm() + sum(x.norm() for x in parts))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_part_no_longer_than_rounding_is_zero_and_a_longer_one_is_not(dtype):
    generator = torch.Generator().manual_seed(2)
    e, direction = torch.randn(2, 64, generator=generator, dtype=dtype)
    direction = direction / direction.norm()
    for factor, is_zero in ((0.5, True), (2.0, False)):
        part = factor * bound_of_zero(e, e) * direction
        importance, cosine, norm_ratio, distance = of_vectors(torch.stack([e - part, part]), e)[:, 1].tolist()
        assert distance == pytest.approx(e.norm().item(), rel=1e-5)
        if is_zero:
            assert (importance, norm_ratio) == (0, 0)
            assert np.isnan(cosine)
        else:
            assert norm_ratio == pytest.approx((part.norm() / e.norm()).item(), rel=1e-6)
            assert importance == pytest.approx((part @ e / (e @ e)).item(), rel=1e-5)
            assert cosine == pytest.approx((direction @ e / e.norm()).item(), rel=1e-5)


def test_a_state_that_its_parts_cancel_to_has_distances_alone():
    part = torch.randn(64, generator=torch.Generator().manual_seed(3))
    for state in (torch.zeros(64), 0.1 * bound_of_zero(part, part) * torch.ones(64) / 8):
        values = of_vectors(torch.stack([part, state - part]), state)
        assert values[:3].isnan().all()
        torch.testing.assert_close(values[3], part.norm().expand(2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rounding_of_a_sublayer_that_writes_its_constant_alone_is_no_part(make_marian, tokenizer, dtype):
    """Its value map is zero and its biases are not: what it writes, less its constant, is rounding."""
    model = make_marian(dtype=dtype)
    with torch.no_grad():
        for layer in model.model.decoder.layers:
            layer.encoder_attn.v_proj.weight.zero_()
    frames = {}
    for name, rows in {"all": slice(None), "one": slice(2, 3)}.items():
        parts = addends.decompose(model, addends.encode(model, tokenizer, SOURCES[rows], TARGETS[rows]))
        frames[name] = addends.indicators(parts).query("term == 'S'")
        assert parts.vectors[:, parts.terms.index("S"), parts.mask].abs().max() == 0  # the rounding is C's
        size = parts.states[:, parts.mask].norm(dim=-1).flatten()
        assert frames[name]["cosine"].isna().all()
        assert (frames[name][["importance", "norm_ratio"]] == 0).all(axis=None)
        np.testing.assert_allclose(frames[name]["distance"], size, rtol=1e-6)


@pytest.mark.parametrize("name", ["opt", "llama: biases", "mbart"])
def test_nor_is_it_where_the_constant_is_long_and_cancelled_later(name):
    """Attention writes a constant a hundred times longer than the state, and the feed-forward takes it back."""
    model = make(name, torch.float64)
    place = {sublayer.term: sublayer for sublayer in architecture_of(model.config).stack.sublayers}
    own, forward = place["T"], place["F"]
    layers = model.base_model.get_submodule(architecture_of(model.config).stack.layers)
    with torch.no_grad():
        for layer in layers:
            layer.get_submodule(own.value).weight.zero_()
            bias = layer.get_submodule(own.output).bias
            far = 100 * torch.linspace(-1, 1, len(bias), dtype=torch.float64).cos()
            bias.add_(far)
            layer.get_submodule(forward.second).bias.sub_(far)
    batch = batch_for(model)
    for each in (batch, *(alone(batch, sentence) for sentence in range(len(batch)))):
        parts = addends.decompose(model, each)
        rows = addends.indicators(parts).query("term == 'T'")
        assert rows["cosine"].isna().all()
        assert (rows[["importance", "norm_ratio"]] == 0).all(axis=None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_squares_do_not_overflow_in_half_precision(dtype):
    """The square of a norm of 320 is beyond float16."""
    state = torch.full((1, 256), 20.0, dtype=dtype)
    importance, cosine, norm_ratio, distance = of_vectors(state[None] / 2, state)
    assert importance.dtype == torch.float32
    assert [importance.item(), cosine.item(), norm_ratio.item()] == pytest.approx([0.5, 1, 0.5])
    assert distance.item() == pytest.approx(160)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("by", ["sublayer", "token"])
def test_a_model_with_long_states_in_half_precision_has_importances_that_sum_to_one(make_marian, tokenizer, dtype, by):
    model = make_marian()
    with torch.no_grad():
        for layer in model.model.decoder.layers:
            layer.final_layer_norm.weight *= 100  # |e| is about 100 * sqrt(32) > 256
    model = model.to(getattr(torch, dtype))
    parts = addends.decompose(model, addends.encode(model, tokenizer, SOURCES, TARGETS), by=by)
    assert parts.states[1:, parts.mask].norm(dim=-1).min() > 256
    sums = addends.indicators(parts).groupby(["layer", "sentence", "position"])["importance"].sum()
    np.testing.assert_allclose(sums, 1, atol=0.05)


def test_terms_of_single_tokens_are_taken_apart_into_group_and_place(make_marian, tokenizer):
    model = make_marian()
    batch = addends.encode(model, tokenizer, SOURCES[:2], TARGETS[:2])
    groups = addends.indicators(addends.decompose(model, batch, by="token"))
    frame = with_places(addends.indicators(addends.decompose(model, batch, by="token", tokens="each")))
    assert list(frame.columns[:4]) == ["layer", "term", "group", "place"]
    assert (frame["group"] + frame["place"].astype("string").fillna("") == frame["term"]).all()
    assert frame.groupby("group")["place"].nunique().to_dict() == {
        "C": 0,
        "S": batch.input_ids.shape[1],
        "T": batch.decoder_input_ids.shape[1],
    }
    keys = ["layer", "group", "sentence", "position"]
    sums = frame.groupby(keys)["importance"].sum()  # importance is linear: single tokens sum to their group
    expected = groups.rename(columns={"term": "group"}).set_index(keys)["importance"]
    np.testing.assert_allclose(sums.loc[expected.index], expected, atol=2e-6)


def test_terms_of_single_heads_have_no_place():
    frame = pd.DataFrame({"term": ["I", "T2.0"], "importance": [0.5, 0.5]})
    with pytest.raises(InputError, match=r"'T2\.0' is no group with one place"):
        with_places(frame)

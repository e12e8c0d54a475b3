"""Effects: nothing removed changes nothing, all removed leaves the bias, and edited weights say the same."""

from __future__ import annotations

import copy
import dataclasses
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import addends
from addends.decomposition import logit_shares
from addends.decomposition.logits import linear_head
from addends.errors import InputError, UnsupportedModelError
from addends.interventions import Means, beside_effects, head, intervene, rewriting, take_means, weights_sha256
from addends.interventions.reading import Reading
from addends.interventions.replacing import derangement
from tests.decomposition import small_models
from tests.interventions.labelled import WITH_HEAD, batch_for, column, make, moved_right, next_tokens, of_logits, said

COLUMNS = ["effect", "by", "layer", "term", "sentence", "position", "logprob", "logit"]
FAMILIES = pytest.mark.parametrize("name", WITH_HEAD)
METHOD = pytest.mark.parametrize("by", ["sublayer", "token"])


def of_changed_states(model, batch, states):
    """What the model's head says of other last states, by its own weights: log-probabilities and logits, (token,)."""
    weight, scale = model.get_output_embeddings().weight, 1.0
    if model.config.model_type in ("t5", "mt5", "umt5", "longt5"):
        scale = linear_head(model)[1]
    logits = scale * states @ weight.T
    for bias in (model.get_output_embeddings().bias, getattr(model, "final_logits_bias", None)):
        logits = logits if bias is None else logits + bias
    return of_logits(logits, *next_tokens(model, batch))


@FAMILIES
@METHOD
def test_a_direct_effect_is_minus_the_share_and_that_of_a_head_that_reads_the_rest(name, by):
    model = make(name)
    batch = batch_for(model)
    frame = intervene(model, batch, by=by, replace="zero")
    assert list(frame) == COLUMNS
    parts = addends.decompose(model, batch, by=by)
    labels, mask = next_tokens(model, batch)
    shares = logit_shares(parts, model, labels.where(mask, 0)[..., None])[..., 0][:, mask].detach()
    bias = linear_head(model)[2]
    if bias is not None:
        shares[-1] -= bias[labels[mask]].detach()
    before = of_changed_states(model, batch, parts.states[-1])
    for k, term in enumerate(parts.terms):
        found = column(frame, "logit", term=term)
        torch.testing.assert_close(found, -shares[k].double(), rtol=1e-5, atol=1e-5 * float(shares.abs().max()))
        after = of_changed_states(model, batch, parts.states[-1] - parts.vectors[-1, k])
        for column_name, was, becomes in zip(("logprob", "logit"), before, after, strict=True):
            room = 1e-5 * float(1 + becomes.detach().abs().max())
            found = column(frame, column_name, term=term)
            torch.testing.assert_close(found, (becomes - was).detach().double(), rtol=1e-4, atol=room)


@METHOD
def test_in_float64_the_share_is_met_to_rounding(by):
    model = make("marian", torch.float64)
    batch = batch_for(model)
    frame = intervene(model, batch, by=by, replace="zero").merge(beside_effects(model, batch, by=by))
    labels, mask = next_tokens(model, batch)
    bias = linear_head(model)[2][labels[mask]].numpy()
    for term, rows in frame.groupby("term"):
        share = rows["share"].to_numpy() - (bias if term == "C" else 0)
        np.testing.assert_allclose(rows["logit"], -share, rtol=1e-10, atol=1e-13)


def test_removing_all_parts_leaves_the_distribution_of_the_bias():
    model = make("marian")
    batch = batch_for(model)
    for by, every in (("sublayer", "I+S+T+F+C"), ("token", "S+T+C")):
        frame = intervene(model, batch, by=by, replace="zero", terms=every)
        bias = model.final_logits_bias[0].expand(*batch.labels.shape, -1)
        left = of_logits(bias, *next_tokens(model, batch))
        for name, was, remains in zip(("logprob", "logit"), said(model, batch), left, strict=True):
            torch.testing.assert_close(was.double() + column(frame, name), remains.double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_removing_a_part_that_is_zero_changes_nothing(dtype):
    model = make("t5", dtype)  # without biases
    frame = intervene(model, batch_for(model), replace="zero")
    assert (frame.loc[frame["term"] == "C", ["logprob", "logit"]] == 0).all(axis=None)
    assert (frame.loc[frame["term"] != "C", ["logprob", "logit"]] != 0).all(axis=None)


def test_removing_a_sublayer_that_writes_nothing_changes_nothing():
    model = make("marian")
    with torch.no_grad():
        for layer in model.model.decoder.layers:
            layer.encoder_attn.out_proj.weight.zero_()
            layer.encoder_attn.out_proj.bias.zero_()
    batch = batch_for(model)
    for effect in ("direct", "total"):
        for replace in ("zero", "mean", "sentence"):
            frame = intervene(model, batch, effect=effect, replace=replace)
            assert (frame.loc[frame["term"] == "S", ["logprob", "logit"]] == 0).all(axis=None), (effect, replace)
            assert (frame.loc[frame["term"] != "S", ["logprob", "logit"]] != 0).all(axis=None), (effect, replace)


@FAMILIES
def test_replacing_what_is_there_by_itself_changes_nothing(name):
    model = make(name)
    batch = batch_for(model).sentence(0)
    means = take_means(model, [batch], positions=20)  # one token at each place: its own values
    total = intervene(model, batch, effect="total", means=means)
    single = intervene(model, batch, means=means, sublayers="each")
    by_token = intervene(model, batch, by="token", means=means)
    for frame in (total, single, by_token):
        assert (frame[["logprob", "logit"]] == 0).all(axis=None)
    assert (intervene(model, batch, effect="total", replace="zero")[["logprob", "logit"]] != 0).all(axis=None)
    grouped = intervene(model, batch, means=means)  # sums of the means of single sublayers, in another order
    assert grouped[["logprob", "logit"]].abs().max(axis=None) < 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_too_replacing_what_is_there_changes_nothing(dtype):
    model = make("marian", dtype)
    batch = batch_for(model).sentence(0)
    means = take_means(model, [batch], positions=20)
    for options in ({"effect": "total"}, {"sublayers": "each"}, {"by": "token"}):
        assert (intervene(model, batch, means=means, **options)[["logprob", "logit"]] == 0).all(axis=None)
        zero = intervene(model, batch, replace="zero", **options)
        assert np.isfinite(zero[["logprob", "logit"]]).all(axis=None)


# --- total effects ---


def edited(model, kinds: str, layer: int | None, constants) -> nn.Module:
    """A copy whose sublayers of these kinds write a constant: no weight, and the constant for a bias."""
    other = copy.deepcopy(model)
    stack = addends.decomposition.architecture_of(model.config).stack
    for number, block in enumerate(other.base_model.get_submodule(stack.layers), start=1):
        for place in stack.sublayers:
            if place.term in kinds and layer in (None, number):
                module = block.get_submodule(place.output if hasattr(place, "output") else place.second)
                module.weight = nn.Parameter(torch.zeros_like(module.weight))
                module.bias = nn.Parameter(constants[f"{place.term}{number}"].to(module.weight.dtype))
    return other


def constant_means(model, seed: int) -> tuple[dict[str, torch.Tensor], Means]:
    row = addends.decomposition.architecture_of(model.config)
    generator = torch.Generator().manual_seed(seed)
    names = [f"{kind}{layer}" for kind in row.terms[1:-1] for layer in (1, 2)]
    constants = {name: torch.randn(32, generator=generator).to(model.dtype) for name in names}
    values = {f"output {name}": value.expand(2, -1).contiguous() for name, value in constants.items()}
    return constants, Means(weights_sha256(model), 0, 1, 1, values)


@FAMILIES
def test_a_total_effect_is_that_of_edited_weights(name):
    """A sublayer set to a constant is one without weights whose bias is the constant: the model itself then says."""
    model = make(name)
    batch = batch_for(model)
    constants, means = constant_means(model, seed=3)
    zeros = {key: torch.zeros_like(value) for key, value in constants.items()}
    before = said(model, batch)
    for replace, given, values in (("mean", means, constants), ("zero", None, zeros)):
        frame = intervene(model, batch, effect="total", replace=replace, means=given)
        assert list(frame) == COLUMNS
        kinds = sorted({key[0] for key in constants})
        assert sorted(frame["term"].unique()) == kinds
        assert frame["layer"].dtype == "Int64"
        for kind in kinds:
            for layer in (None, 1, 2):
                after = said(edited(model, kind, layer, values), batch)
                for column_name, was, becomes in zip(("logprob", "logit"), before, after, strict=True):
                    found = column(frame, column_name, term=kind, layer=layer)
                    expected = (becomes - was).double()
                    room = 1e-5 * float(1 + becomes.abs().max() + was.abs().max())
                    torch.testing.assert_close(found, expected, rtol=1e-4, atol=room)


@pytest.mark.parametrize("name", ["marian", "t5", "phi"])
def test_two_kinds_of_sublayer_are_replaced_at_once(name):
    model = make(name, torch.float64)
    batch = batch_for(model)
    constants, means = constant_means(model, seed=4)
    frame = intervene(model, batch, effect="total", means=means, terms="T+F", layers=[2, None])
    assert frame["layer"].drop_duplicates().tolist() == [2, pd.NA]
    for layer in (None, 2):
        after = said(edited(model, "TF", layer, constants), batch)[0]
        found = column(frame, "logprob", layer=layer)
        torch.testing.assert_close(found, after - said(model, batch)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "gpt_neox"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_padding_on_the_left_changes_nothing(name, dtype):
    """Labels are next tokens, places count from a sentence's first token, and eager attention has rows of NaN."""
    model = make(name, dtype)
    model.set_attn_implementation("eager")
    left = moved_right(model, right := batch_for(model))
    means = take_means(model, [right], positions=3)
    for options in ({"effect": "total"}, {"effect": "direct"}, {"by": "token"}):
        frames = [intervene(model, batch, means=means, **options) for batch in (right, left)]
        gap = frames[1]["position"] - frames[0]["position"]
        assert gap.groupby(frames[0]["sentence"]).unique().map(list).tolist() == [[0], [3], [1]]
        for name_of in ("logprob", "logit"):
            np.testing.assert_allclose(frames[1][name_of], frames[0][name_of], rtol=1e-3, atol=1e-5)


@FAMILIES
def test_a_pass_that_replaces_nothing_gives_the_models_own_states(name):
    model = make(name)
    batch = batch_for(model)
    expected = small_models.transformers_states(model, batch)[-1]
    if name.startswith("opt: "):  # has no last norm, and transformers names the same state
        assert expected.shape == (*batch.mask.shape, 32)
    found = rewriting.last_states(Reading(model, batch), {})
    torch.testing.assert_close(found[batch.mask], expected[batch.mask], rtol=1e-5, atol=1e-5)


def test_layers_and_terms_may_be_those_of_a_frame():
    model = make("marian")
    batch = batch_for(model)
    whole = intervene(model, batch, effect="total")
    for layers, terms in ((whole["layer"].unique(), whole["term"]), ([None, 1, 1, 2], ["S", "T", "F", "S"])):
        pd.testing.assert_frame_equal(intervene(model, batch, effect="total", layers=layers, terms=terms), whole)
    one = intervene(model, batch, effect="total", layers=np.int64(1)).reset_index(drop=True)
    pd.testing.assert_frame_equal(one, whole[(whole["layer"] == 1).fillna(False)].reset_index(drop=True))


# --- replacements ---


@METHOD
def test_a_part_is_replaced_by_the_mean_of_the_batch(by):
    model = make("marian", torch.float64)
    batch = batch_for(model)
    frame = intervene(model, batch, by=by)
    parts = addends.decompose(model, batch, by=by)
    weight = model.lm_head.weight[batch.labels[batch.mask]]
    for k, term in enumerate(parts.terms):
        real = parts.vectors[-1, k][batch.mask]
        expected = (weight * (real.mean(dim=0) - real)).sum(dim=-1).detach()
        torch.testing.assert_close(column(frame, "logit", term=term), expected)
    pooled = intervene(model, batch, by=by, replace="pooled")
    pd.testing.assert_frame_equal(pooled, frame)


@METHOD
def test_a_part_is_replaced_by_its_mean_at_the_place_and_by_that_over_places(by):
    model = make("marian", torch.float64)
    batch = batch_for(model)
    means = take_means(model, [batch], positions=2)
    parts = addends.decompose(model, batch, by=by)
    weight = model.lm_head.weight[batch.labels[batch.mask]]
    place = batch.mask.nonzero()[:, 1].clamp(max=2)
    frames = {name: intervene(model, batch, by=by, replace=name, means=means) for name in ("mean", "pooled")}
    for k, term in enumerate(parts.terms):
        real = parts.vectors[-1, k][batch.mask]
        at_place = torch.stack([real[place == each].mean(dim=0) for each in place.tolist()])
        for name, means_here in (("mean", at_place), ("pooled", real.mean(dim=0))):
            expected = (weight * (means_here - real)).sum(dim=-1).detach()
            torch.testing.assert_close(column(frames[name], "logit", term=term), expected)
    by_hand = intervene(model, batch, by=by, means=means.pooled())
    pd.testing.assert_frame_equal(by_hand, frames["pooled"])


@pytest.mark.parametrize("left", [False, True])
def test_a_part_is_replaced_by_that_of_another_sentence(left):
    model = make("llama", torch.float64)
    batch = batch_for(model, left)
    parts = addends.decompose(model, batch)
    frame = intervene(model, batch, replace="sentence", seed=5)
    assert not frame.equals(intervene(model, batch, replace="sentence", seed=6))  # there are two derangements of three
    donor = derangement(3, seed=5).tolist()
    lengths = batch.attention_mask.sum(dim=1).tolist()
    first = [int(batch.attention_mask[each].argmax()) for each in range(3)]
    labels, _ = next_tokens(model, batch)
    weight = model.lm_head.weight.detach()
    for row in frame.itertuples():
        k, other = parts.terms.index(row.term), donor[row.sentence]
        place = min(row.position - first[row.sentence], lengths[other] - 1)
        change = parts.vectors[-1, k, other, first[other] + place] - parts.vectors[-1, k, row.sentence, row.position]
        expected = float(weight[labels[row.sentence, row.position]] @ change)
        assert row.logit == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_sublayer_is_given_what_it_writes_in_an_equal_sentence():
    model = make("marian", torch.float64)
    single = batch_for(model).sentence(0)
    twice = {name: tensor.repeat(2, 1) for name, tensor in single.tensors.items()}
    frame = intervene(model, dataclasses.replace(single, **twice), effect="total", replace="sentence")
    assert frame[["logprob", "logit"]].abs().max(axis=None) < 1e-12


@pytest.mark.parametrize("count", [2, 3, 17])
def test_nobody_keeps_its_place(count):
    for seed in range(20):
        drawn = derangement(count, seed)
        assert sorted(drawn.tolist()) == list(range(count))
        assert not (drawn == torch.arange(count)).any()
    assert torch.equal(derangement(count, 3), derangement(count, 3))


# --- single tokens and sublayers ---


@pytest.mark.parametrize("name", ["marian", "t5", "llama", "gpt2"])
def test_effects_of_single_tokens_on_the_logit_sum_to_their_groups(name):
    model = make(name, torch.float64)
    batch = batch_for(model)
    each = intervene(model, batch, by="token", tokens="each", replace="zero")
    grouped = intervene(model, batch, by="token", replace="zero")
    keys = ["term", "sentence", "position"]
    sums = each.assign(term=each["term"].str[0]).groupby(keys)["logit"].sum()
    expected = grouped[grouped["term"] != "C"].set_index(keys)["logit"].sort_index()
    pd.testing.assert_series_equal(sums, expected, rtol=1e-9)
    place = each["term"].str[1:].astype(int)
    own, lengths = each["term"].str[0] == "T", batch.attention_mask.sum(dim=1).numpy()
    assert (place[own] <= each["position"][own]).all()
    assert (place[~own] < lengths[each["sentence"][~own]]).all()
    counts = each.groupby(["sentence", "position"]).size()
    for (sentence, position), count in counts.items():
        assert count == position + 1 + (lengths[sentence] if name in ("marian", "t5") else 0)


def test_tokens_of_one_word_are_removed_at_once():
    model = make("marian", torch.float64)
    batch = batch_for(model)
    options = {"by": "token", "tokens": "each", "replace": "zero"}
    both = intervene(model, batch, **options, terms="S1+S2")
    apart = intervene(model, batch, **options, terms=["S1", "S2"]).groupby(["sentence", "position"])["logit"].sum()
    np.testing.assert_allclose(both["logit"], apart, rtol=1e-9)


@pytest.mark.parametrize("replace", ["zero", "mean"])
def test_effects_of_single_sublayers_on_the_logit_sum_to_their_kinds(replace):
    model = make("bart", torch.float64)
    batch = batch_for(model)
    each = intervene(model, batch, sublayers="each", replace=replace)
    assert each["term"].unique().tolist() == ["I", "S1", "S2", "T1", "T2", "F1", "F2", "C"]
    keys = ["term", "sentence", "position"]
    sums = each.assign(term=each["term"].str[0]).groupby(keys)["logit"].sum()
    expected = intervene(model, batch, replace=replace).set_index(keys)["logit"].sort_index()
    pd.testing.assert_series_equal(sums, expected, rtol=1e-9)


# --- a batch is its sentences ---


@pytest.mark.parametrize("name", ["marian", "t5", "mbart", "llama", "opt"])
@pytest.mark.parametrize("options", [{"effect": "total"}, {}, {"by": "token"}, {"sublayers": "each"}])
def test_a_batch_is_its_sentences(name, options):
    model = make(name)
    batch = batch_for(model)
    means = take_means(model, [batch], positions=2)
    whole = intervene(model, batch, means=means, **options)
    for index in range(3):
        alone = intervene(model, batch.sentence(index, padded=False), means=means, **options)
        rows = whole[whole["sentence"] == index].drop(columns="sentence").reset_index(drop=True)
        pd.testing.assert_frame_equal(alone.drop(columns="sentence"), rows, rtol=1e-3, atol=2e-5)


@METHOD
def test_how_many_logits_are_held_changes_nothing(by, monkeypatch):
    model = make("marian")
    batch = batch_for(model)
    options = {"by": by, "replace": "zero", "tokens": "each" if by == "token" else "grouped"}
    whole = intervene(model, batch, **options)
    monkeypatch.setattr(head, "_FLOATS", 3 * small_models.VOCABULARY)
    pd.testing.assert_frame_equal(intervene(model, batch, **options), whole, rtol=1e-4, atol=1e-5)


# --- beside ---


@METHOD
def test_what_stands_beside_a_direct_effect_is_what_the_indicators_say(by):
    model = make("marian")
    batch = batch_for(model)
    beside = beside_effects(model, batch, by=by)
    rows = addends.indicators(parts := addends.decompose(model, batch, by=by))
    rows = rows[rows["layer"] == 2]
    keys = ["layer", "term", "sentence", "position"]
    expected = beside[keys].astype({"layer": "int64"}).merge(rows, on=keys)
    for name in ("importance", "cosine", "norm_ratio"):
        np.testing.assert_allclose(beside[name], expected[name], rtol=1e-6)
    shares = logit_shares(parts, model, batch.labels[..., None])[..., 0][:, batch.mask].detach()
    np.testing.assert_allclose(beside["share"], shares.flatten(), rtol=1e-6)


def test_what_stands_beside_a_total_effect_is_said_of_the_layers_own_part():
    model = make("marian", torch.float64)
    batch = batch_for(model)
    beside = beside_effects(model, batch, effect="total")
    each = beside_effects(model, batch, sublayers="each")
    grouped = beside_effects(model, batch)
    values = ["share", "importance", "cosine", "norm_ratio"]
    for kind in "STF":
        for layer in (None, 1, 2):
            there = beside[
                (beside["term"] == kind) & (beside["layer"].isna() if layer is None else beside["layer"] == layer)
            ]
            same = grouped[grouped["term"] == kind] if layer is None else each[each["term"] == f"{kind}{layer}"]
            np.testing.assert_array_equal(there[values], same[values])


def test_what_is_said_of_two_parts_is_said_of_their_sum():
    model = make("marian", torch.float64)
    batch = batch_for(model)
    both = beside_effects(model, batch, terms="S+T")
    apart = beside_effects(model, batch)
    for name in ("share", "importance"):  # which are linear in the part
        expected = apart[apart["term"] == "S"][name].to_numpy() + apart[apart["term"] == "T"][name].to_numpy()
        np.testing.assert_allclose(both[name], expected, rtol=1e-9)
    parts = addends.decompose(model, batch)
    vectors = (parts.vectors[-1, 1] + parts.vectors[-1, 2])[batch.mask]
    states = parts.states[-1][batch.mask]
    np.testing.assert_allclose(both["norm_ratio"], (vectors.norm(dim=-1) / states.norm(dim=-1)).detach(), rtol=1e-9)


@pytest.mark.parametrize("options", [{}, {"effect": "total"}, {"by": "token", "tokens": "each", "replace": "zero"}])
def test_effects_and_what_stands_beside_them_join_row_by_row(options):
    model = make("marian")
    batch = batch_for(model)
    effects = intervene(model, batch, **options)
    beside = beside_effects(model, batch, **{name: value for name, value in options.items() if name != "replace"})
    joined = effects.merge(beside)
    assert len(joined) == len(effects) == len(beside)
    pd.testing.assert_frame_equal(joined[COLUMNS], effects)


# --- the model is left as it was ---


def hooks_of(model) -> int:
    return sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in model.modules())


def test_the_model_is_as_it_was():
    model = make("marian")
    before, digest = said(model, batch_for(model)), weights_sha256(model)
    grad = torch.is_grad_enabled()
    for effect in ("direct", "total"):
        intervene(model, batch_for(model), effect=effect)
    assert hooks_of(model) == 0
    assert addends.provenance.content_sha256(model.state_dict()) == digest
    assert torch.is_grad_enabled() == grad
    assert all(torch.equal(one, other) for one, other in zip(said(model, batch_for(model)), before, strict=True))


def test_hooks_are_gone_after_an_exception():
    model = make("marian")
    batch = batch_for(model)
    passes = []

    def fails(_module, _inputs, output):
        passes.append(hooks_of(model))
        if len(passes) == 2:
            raise RuntimeError("out of memory, say")

    # The sublayer's own map was replaced already when the last layer's last norm fails, in the second replaced pass.
    intervene(model, batch, effect="total")  # proven, so that the passes to come are replaced ones
    handle = model.model.decoder.layers[-1].final_layer_norm.register_forward_hook(fails)
    with pytest.raises(RuntimeError, match="out of memory, say"):
        list(rewriting.rewritten(reading := Reading(model, batch), _zero(reading), [(("S",), 1)]))
    assert passes[-1] > 1
    handle.remove()
    assert hooks_of(model) == 0
    assert model.config.return_dict is True


def _zero(reading):
    from addends.interventions.replacing import Replacement

    reading.capture  # noqa: B018 - its own pass comes before those that are replaced
    return Replacement(reading, "zero")


def test_another_threads_pass_is_left_alone(monkeypatch):
    model = make("marian")
    batch = batch_for(model)
    expected, heard = said(model, batch), []
    own = rewriting.run

    def run(stack, base, inputs):
        thread = threading.Thread(target=lambda: heard.append(said(model, batch)))
        thread.start()
        thread.join()
        return own(stack, base, inputs)

    monkeypatch.setattr(rewriting, "run", run)
    frame = intervene(model, batch, effect="total", replace="zero")
    assert (frame["logprob"] != 0).all()
    assert len(heard) == 10  # nothing replaced, and three kinds in all layers and in two
    for one in heard:
        assert all(torch.equal(got, want) for got, want in zip(one, expected, strict=True))


# --- bad input ---


@pytest.fixture(scope="module")
def marian():
    model = make("marian")
    return model, batch_for(model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "head"}, "by='head'"),
        ({"effect": "indirect"}, "effect='indirect'"),
        ({"replace": "median"}, "replace='median'"),
        ({"tokens": "some"}, "tokens='some'"),
        ({"sublayers": "some"}, "sublayers='some'"),
        ({"terms": ["S", "X"]}, r"'X' is none of those .* \('I', 'S', 'T', 'F', 'C'\)"),
        ({"terms": "I", "by": "token"}, "'I' is none"),
        ({"terms": "C", "effect": "total"}, r"'C' is none .* \('S', 'T', 'F'\)"),
        ({"terms": "S3", "sublayers": "each"}, "'S3' is none"),
        ({"terms": []}, "names nothing to replace"),
        ({"terms": "S+S"}, "names a part twice"),
        ({"layers": [3], "effect": "total"}, r"3 is none .* \(None, 1, 2\)"),
        ({"layers": 0, "effect": "total"}, "0 is none"),
        ({"layers": [], "effect": "total"}, "names nothing to replace"),
        ({"layers": 1}, r"1 is none .* \(2,\)"),
        ({"effect": "total", "by": "token"}, "needs by='sublayer'"),
        ({"effect": "total", "sublayers": "each"}, "needs by='sublayer' and sublayers='grouped'"),
        ({"tokens": "each"}, "needs by='token'"),
        ({"by": "token", "sublayers": "each"}, "needs by='sublayer'"),
        ({"by": "token", "tokens": "each"}, "Pass replace='zero'"),
        ({"by": "token", "tokens": "each", "replace": "sentence"}, "Pass replace='zero'"),
        ({"means": 3.0}, "Means are wanted"),
    ],
)
def test_what_is_not_allowed_is_refused_in_words(marian, options, message):
    with pytest.raises(InputError, match=message):
        intervene(*marian, **options)


@pytest.mark.parametrize("replace", ["mean", "pooled", "sentence"])
@pytest.mark.parametrize("effect", ["direct", "total"])
def test_one_sentence_has_no_mean_and_no_other(marian, replace, effect):
    model, batch = marian
    with pytest.raises(InputError, match="the batch has one"):
        intervene(model, batch.sentence(0), effect=effect, replace=replace)
    assert len(intervene(model, batch.sentence(0), effect=effect, replace="zero"))


def test_means_of_another_model_are_refused(marian):
    model, batch = marian
    other = make("marian")
    assert len(intervene(model, batch, means=take_means(other, [batch])))  # the same weights
    with torch.no_grad():
        other.model.decoder.layers[0].fc1.bias[0] += 1e-3
    with pytest.raises(InputError, match="those of another model"):
        intervene(model, batch, means=take_means(other, [batch]))
    with pytest.raises(InputError, match="those of another model"):
        intervene(make("marian", torch.float64), batch, means=take_means(model, [batch]))


def test_means_without_a_use_are_refused(marian):
    model, batch = marian
    with pytest.raises(InputError, match="leave them out"):
        intervene(model, batch, replace="zero", means=take_means(model, [batch]))


@pytest.mark.parametrize("name", small_models.ENCODERS)
def test_an_encoder_has_nothing_to_say(name):
    model = small_models.make(name)
    with pytest.raises(UnsupportedModelError, match="no output head"):
        intervene(model, small_models.batch_for(model))


def test_a_head_with_layers_of_its_own_is_refused():
    import transformers

    model = transformers.BertForMaskedLM(small_models.make("bert").config).eval()
    with pytest.raises(UnsupportedModelError, match="encoders' heads have layers"):
        intervene(model, small_models.batch_for(model), effect="total")


def test_a_head_that_bends_its_logits_is_refused():
    model = make("marian")
    model.lm_head.register_forward_hook(lambda _module, _inputs, output: 0.1 * torch.tanh(output / 0.1))
    for effect in ("direct", "total"):
        with pytest.raises(UnsupportedModelError, match="do not sum to the logits"):
            intervene(model, batch_for(model), effect=effect)


def test_a_batch_without_labels_is_refused(marian):
    model, batch = marian
    with pytest.raises(InputError, match="no labels"):
        intervene(model, dataclasses.replace(batch, labels=None))
    of_one_token = addends.Batch(torch.tensor([[5], [6]]), torch.ones(2, 1, dtype=torch.long))
    with pytest.raises(InputError, match="No row of the batch counts"):
        intervene(make("llama"), of_one_token)

"""Removals and rank agreement: a plain re-implementation, exact effects of a linear model, Spearman by scipy.

The control is held against every permutation of rows that leaves none in its place.
"""

from __future__ import annotations

import dataclasses
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

import addends
from addends.errors import InputError
from addends.interventions import (
    intervene,
    mean_source_embedding,
    part_removals,
    rank_agreement,
    source_attributions,
    source_removals,
)
from addends.interventions.attributions import gradients
from addends.interventions.reading import Reading
from tests.decomposition import small_models
from tests.interventions.labelled import batch_for, make, said
from tests.interventions.linear_toy import linear_toy
from tests.interventions.test_source_pass import state_of

PLACE = ["sentence", "position", "source"]
KEY = ["sentence", "method", "yardstick", "sense", "special_tokens"]


def values_of(frame: pd.DataFrame, yardstick: str) -> pd.Series:
    return frame[frame["yardstick"] == yardstick].set_index(PLACE)["logprob"].sort_index()


@pytest.mark.parametrize("name", small_models.PAIRS)
def test_removals_are_what_the_model_says_of_other_masks_and_other_embeddings(name):
    model = make(name)
    batch = batch_for(model)
    mean = mean_source_embedding(model, [batch])
    state = state_of(model)
    frame = source_removals(model, batch)
    assert state_of(model) == state
    assert list(frame) == ["sentence", "position", "source", "special", "yardstick", "logprob"]
    assert len(frame) == 2 * (5 * 7 + 6 * 4 + 1 * 6)
    before, sentence = said(model, batch)[0], batch.mask.nonzero()[:, 0]
    for place in range(7):
        mask = batch.attention_mask.clone()
        mask[:, place] = 0
        masked = said(model, dataclasses.replace(batch, attention_mask=mask))[0] - before

        def averaged(_module, inputs, output, place=place):
            if inputs[0].shape == batch.input_ids.shape and torch.equal(inputs[0], batch.input_ids):
                output = output.clone()
                output[:, place] = mean
            return output

        handle = model.base_model.encoder.get_input_embeddings().register_forward_hook(averaged)
        replaced = said(model, batch)[0] - before
        handle.remove()
        real = batch.attention_mask.bool()[sentence, place]
        for yardstick, expected in (("mask", masked), ("embedding", replaced)):
            found = values_of(frame, yardstick).xs(place, level="source")
            np.testing.assert_allclose(found, expected[real], rtol=1e-3, atol=2e-5)
            assert (found.abs() > 1e-6).any()


def test_in_a_linear_model_an_embedding_of_zero_is_minus_the_gradient():
    model, batch = linear_toy()
    frame = source_removals(model, batch, embedding_mean=torch.zeros(32, dtype=torch.float64))
    expected = gradients(Reading(model, batch))["gradient"]
    found = values_of(frame, "embedding")
    at = [torch.tensor(found.index.get_level_values(name).to_numpy()) for name in PLACE]
    np.testing.assert_allclose(found, -expected[tuple(at)], rtol=1e-8, atol=1e-10)


def test_more_padding_changes_nothing():
    model = make("marian", torch.float64)
    batch = batch_for(model)
    wider = {
        name: torch.nn.functional.pad(getattr(batch, name), (0, 2), value=value)
        for name, value in (("input_ids", 1), ("attention_mask", 0))
    }
    padded = source_removals(model, dataclasses.replace(batch, **wider))
    pd.testing.assert_frame_equal(padded, source_removals(model, batch), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["marian", "t5", "mbart"])
def test_a_batch_says_what_its_sentences_say(name):
    model = make(name, torch.float64)
    batch = batch_for(model)
    mean = mean_source_embedding(model, [batch])
    together = source_removals(model, batch).set_index([*PLACE, "yardstick"])["logprob"]
    for index in range(3):
        single = small_models.alone(batch, index)
        single = dataclasses.replace(single, labels=batch.labels[index : index + 1, batch.mask[index]])
        alone = source_removals(model, single, embedding_mean=mean).set_index([*PLACE[1:], "yardstick"])["logprob"]
        np.testing.assert_allclose(alone, together.loc[index].reindex(alone.index), rtol=1e-4, atol=1e-6)


def test_of_a_source_of_one_token_the_masks_effect_is_missing_and_others_keep_theirs():
    model = make("marian")
    batch = batch_for(model)
    mask = batch.attention_mask.clone()
    mask[1, 1:] = 0
    frame = source_removals(model, dataclasses.replace(batch, attention_mask=mask), torch.zeros(32))
    masked, embedded = (values_of(frame, each) for each in ("mask", "embedding"))
    assert masked.loc[1].isna().all()
    assert masked.loc[[0, 2]].notna().all()
    assert embedded.notna().all()
    whole = values_of(source_removals(model, batch, torch.zeros(32)), "mask")
    np.testing.assert_allclose(masked.loc[[0, 2]], whole.loc[[0, 2]], rtol=1e-4, atol=1e-6)


def test_after_an_error_the_model_is_as_it_was():
    model = make("marian")
    batch = batch_for(model)
    before = state_of(model)

    def fails(*_given):
        raise KeyboardInterrupt

    handle = model.model.encoder.layers[1].register_forward_hook(fails)
    with pytest.raises(KeyboardInterrupt):
        source_removals(model, batch)
    handle.remove()
    assert state_of(model) == before


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_a_single_stack_is_refused_in_words(name):
    model = small_models.make(name)
    with pytest.raises(InputError, match=f"A {name} has one stack only.*Give an encoder-decoder"):
        source_removals(model, small_models.batch_for(model))


def test_a_mean_that_cannot_be_had_or_does_not_fit_is_refused():
    model = make("marian")
    batch = batch_for(model)
    with pytest.raises(InputError, match=r"the batch has one sentence.*mean_source_embedding\(model, batches\)"):
        source_removals(model, batch.sentence(0))
    for wrong in (torch.zeros(31), torch.zeros(1, 32), torch.full((32,), torch.nan), [0.0] * 32):
        with pytest.raises(InputError, match=r"a finite tensor of shape \(32,\) is wanted"):
            source_removals(model, batch, embedding_mean=wrong)
    with pytest.raises(InputError, match="has no labels"):
        source_removals(model, dataclasses.replace(batch, labels=None))


# --- rank agreement ---


def tables(seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two sentences of three rows and of two, six source tokens each, the last special."""
    generator = np.random.default_rng(seed)
    places = [(s, p, j) for s, rows in ((0, 3), (1, 2)) for p in range(rows) for j in range(6)]
    frame = pd.DataFrame(places, columns=PLACE)
    frame["special"] = frame["source"] == 5
    attributions = [frame.assign(method=m, value=generator.normal(size=len(frame)).round(1)) for m in ("one", "two")]
    removals = [frame.assign(yardstick=y, logprob=generator.normal(size=len(frame))) for y in ("mask", "embedding")]
    return pd.concat(attributions, ignore_index=True), pd.concat(removals, ignore_index=True)


def test_agreement_is_the_mean_of_spearmans_correlations():
    attributions, removals = tables()
    found = rank_agreement(attributions, removals)
    assert list(found) == [*KEY, "agreement", "permuted", "rows"]
    assert len(found) == 2 * 2 * 2 * 2 * 2
    shuffled = rank_agreement(attributions.sample(frac=1, random_state=1), removals.sample(frac=1, random_state=2))
    pd.testing.assert_frame_equal(shuffled, found)
    for row in found.itertuples():
        a = attributions[(attributions["sentence"] == row.sentence) & (attributions["method"] == row.method)]
        r = removals[(removals["sentence"] == row.sentence) & (removals["yardstick"] == row.yardstick)]
        values = []
        for position in a["position"].unique():
            x, y = a[a["position"] == position], r[r["position"] == position]
            keep = np.ones(6, dtype=bool) if row.special_tokens else ~x["special"].to_numpy()
            x, y = x["value"].to_numpy()[keep], y["logprob"].to_numpy()[keep]
            values.append(spearmanr(abs(x), abs(y))[0] if row.sense == "size" else spearmanr(x, -y)[0])
        assert row.agreement == pytest.approx(np.mean(values), abs=1e-12)
        assert row.rows == len(values)


def rows_of(frame: pd.DataFrame, column: str, special_tokens: bool = True) -> np.ndarray:
    """(row, source)"""
    kept = frame if special_tokens else frame[~frame["special"]]
    return kept.pivot(index="position", columns="source", values=column).to_numpy()


@pytest.mark.parametrize("special_tokens", [True, False])
def test_the_control_is_the_mean_over_all_permutations_of_rows_that_leave_none_in_its_place(special_tokens):
    attributions, removals = tables()
    found = rank_agreement(attributions, removals).set_index(KEY)["permuted"]
    for sentence, rows in ((0, 3), (1, 2)):
        said = rows_of(attributions.query("sentence == @sentence and method == 'one'"), "value", special_tokens)
        done = -rows_of(removals.query("sentence == @sentence and yardstick == 'mask'"), "logprob", special_tokens)
        orders = [order for order in permutations(range(rows)) if all(k != order[k] for k in range(rows))]
        signed = [spearmanr(said[order[k]], done[k])[0] for order in orders for k in range(rows)]
        size = [spearmanr(abs(said[order[k]]), abs(done[k]))[0] for order in orders for k in range(rows)]
        assert found[sentence, "one", "mask", "signed", special_tokens] == pytest.approx(np.mean(signed), abs=1e-12)
        assert found[sentence, "one", "mask", "size", special_tokens] == pytest.approx(np.mean(size), abs=1e-12)


def test_what_is_the_same_in_all_rows_tells_nothing_beyond_the_control():
    attributions, removals = tables()
    of_first = attributions[attributions["position"] == 0].set_index(["sentence", "source", "method"])["value"]
    places = pd.MultiIndex.from_frame(attributions[["sentence", "source", "method"]])
    same = attributions.assign(value=of_first.loc[places].to_numpy())
    # Of a sentence's R rows, the mean over t != u of rho(v, d_t) is the mean over t of rho(v, d_t).
    found = rank_agreement(same, removals)
    np.testing.assert_allclose(found["permuted"], found["agreement"], rtol=0, atol=1e-12)
    other = rank_agreement(attributions, removals)
    assert (other["permuted"] - other["agreement"]).abs().max() > 0.1


def test_a_method_agrees_with_itself_wholly_and_with_itself_in_another_row_less():
    removals = tables()[1]
    itself = removals[removals["yardstick"] == "mask"].rename(columns={"yardstick": "method"})
    itself = itself.assign(value=-itself["logprob"]).drop(columns="logprob")
    found = rank_agreement(itself, removals).query("yardstick == 'mask'")
    np.testing.assert_allclose(found["agreement"], 1, rtol=0, atol=1e-12)
    assert (found["permuted"] < 1 - 1e-6).all()


def test_a_sentence_of_one_row_has_no_control():
    attributions, removals = (each[(each["sentence"] == 0) | (each["position"] == 0)] for each in tables())
    found = rank_agreement(attributions, removals)
    assert found.loc[found["sentence"] == 1, "rows"].eq(1).all()
    assert (found["permuted"].isna() == found["sentence"].eq(1)).all()
    assert found["agreement"].notna().all()


def test_rows_that_tell_no_tokens_apart_or_have_a_missing_value_are_left_out():
    attributions, removals = tables()
    first = (attributions["sentence"] == 0) & (attributions["position"] == 0) & (attributions["method"] == "one")
    attributions.loc[first, "value"] = 0.25
    gone = (removals["sentence"] == 1) & (removals["yardstick"] == "mask")
    removals.loc[gone & (removals["source"] == 2), "logprob"] = np.nan
    found = rank_agreement(attributions, removals)
    # A row that is left out is no other row's control either: as if it were not there.
    kept = [each[(each["sentence"] != 0) | (each["position"] != 0)] for each in (attributions, removals)]
    pd.testing.assert_frame_equal(
        found.query("sentence == 0 and method == 'one'").reset_index(drop=True),
        rank_agreement(*kept).query("sentence == 0 and method == 'one'").reset_index(drop=True),
    )
    rows = found.groupby(["sentence", "method", "yardstick"])["rows"].unique().map(list)
    assert rows[0, "one"].tolist() == [[2], [2]]
    assert rows[0, "two"].tolist() == [[3], [3]]
    assert list(rows[1].index.get_level_values("yardstick").unique()) == ["embedding"]


def test_a_yardstick_agrees_with_itself_and_a_models_tables_fit():
    model = make("marian")
    batch = batch_for(model)
    attributions, removals = source_attributions(model, batch), source_removals(model, batch)
    own = removals[removals["yardstick"] == "mask"].rename(columns={"yardstick": "method", "logprob": "value"})
    own["value"] *= -1
    found = rank_agreement(pd.concat([attributions, own]), removals)
    itself = found[(found["method"] == "mask") & (found["yardstick"] == "mask")]
    np.testing.assert_allclose(itself["agreement"], 1)
    assert found["agreement"].abs().max() <= 1 + 1e-12
    assert found["method"].nunique() == 13


@pytest.mark.parametrize("name", ["marian", "t5", "mbart"])
def test_the_removal_of_a_part_is_what_the_head_says_of_the_rest(name):
    model = make(name, torch.float64)
    batch = batch_for(model)
    before = state_of(model)
    frame = part_removals(model, batch)
    assert state_of(model) == before
    assert list(frame) == ["sentence", "position", "source", "special", "method", "value"]
    assert frame["method"].unique().tolist() == ["removal, part"]
    assert len(frame) == 5 * 7 + 6 * 4 + 1 * 6
    parts = addends.decompose(model, batch, by="token", tokens="each")
    weight, bias = model.lm_head.weight.detach(), getattr(model, "final_logits_bias", 0)
    scale = model.config.d_model**-0.5 if name == "t5" else 1
    for sentence, position in ((0, 2), (1, 5), (2, 0)):
        state, label = parts.states[-1, sentence, position], batch.labels[sentence, position]
        here = frame.query("sentence == @sentence and position == @position").set_index("source")["value"]
        for place in here.index:
            rest = state - parts.vectors[-1, parts.terms.index(f"S{place}"), sentence, position]
            said, left = ((scale * each @ weight.T + bias).flatten().log_softmax(-1)[label] for each in (state, rest))
            assert here[place] == pytest.approx(float(said - left), rel=1e-7, abs=1e-10)


def test_it_is_the_same_as_intervening_in_each_token():
    model = make("marian")
    batch = batch_for(model)
    asked = intervene(model, batch, by="token", tokens="each", replace="zero")
    asked = asked[asked["term"].str.startswith("S")]
    asked = asked.assign(source=asked["term"].str[1:].astype(int)).set_index(PLACE)["logprob"].sort_index()
    found = part_removals(model, batch).set_index(PLACE)["value"].sort_index()
    pd.testing.assert_series_equal(-found, asked, check_names=False)


def test_tables_that_do_not_fit_are_refused():
    attributions, removals = tables()
    short = [~((each["sentence"] == 0) & (each["position"] == 1) & (each["source"] == 4)) for each in tables()]
    with pytest.raises(InputError, match="sentence 0 has 3 rows, and its source token 4 stands in 2 of them"):
        rank_agreement(attributions[short[0]], removals[short[1]])
    with pytest.raises(InputError, match="'special'"):
        rank_agreement(attributions, removals.drop(columns="special"))
    with pytest.raises(InputError, match="value"):
        rank_agreement(attributions.drop(columns="value"), removals)
    with pytest.raises(InputError, match="more than once"):
        rank_agreement(pd.concat([attributions, attributions]), removals)
    with pytest.raises(InputError, match=r"stand in one table alone, the first being \(0, 0, 5\)"):
        rank_agreement(attributions[~attributions["special"]], removals)

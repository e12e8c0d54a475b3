"""Floors: by hand, the same however sentences are batched and padded, and chance agrees with nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from addends.errors import InputError
from addends.interventions import rank_agreement, source_attributions, source_floors
from addends.interventions.floors import FLOORS
from tests.decomposition import small_models
from tests.interventions.labelled import batch_for, make

PLACE = ["sentence", "position", "source"]


def values_of(frame: pd.DataFrame, method: str, sentence: int) -> np.ndarray:
    """(row, source)"""
    here = frame[(frame["method"] == method) & (frame["sentence"] == sentence)]
    return here.pivot(index="position", columns="source", values="value").to_numpy()


def test_places_and_columns_are_those_of_the_attributions():
    model = make("marian")
    batch = batch_for(model)
    floors, attributions = source_floors(model, batch, {}), source_attributions(model, batch)
    assert list(floors) == list(attributions)
    assert floors["method"].unique().tolist() == list(FLOORS)
    alti = attributions[attributions["method"] == "alti"].reset_index(drop=True)
    for _, part in floors.groupby("method"):
        pd.testing.assert_frame_equal(part.reset_index(drop=True)[[*PLACE, "special"]], alti[[*PLACE, "special"]])


def test_the_diagonal_is_one_less_the_distance_of_relative_places():
    model = make("marian")
    frame = source_floors(model, batch_for(model), {})  # the second sentence: 6 rows, 4 source tokens
    expected = [[1 - abs(i / 4 - t / 6) for i in range(4)] for t in range(6)]
    np.testing.assert_allclose(values_of(frame, "diagonal", 1), expected, rtol=1e-15)
    assert values_of(frame, "diagonal", 1)[0, 0] == 1
    np.testing.assert_allclose(values_of(frame, "diagonal", 2), [[1 - i / 6 for i in range(6)]], rtol=1e-15)


def test_rarity_is_minus_the_log_of_the_relative_frequency_with_one_more_of_each():
    model = make("marian")
    batch = batch_for(model)
    first, second = batch.input_ids[0, :2].tolist()
    assert first != second
    frame = values_of(source_floors(model, batch, {first: 7, 39: 8}), "rarity", 0)
    absent = [piece not in (first, 39) for piece in batch.input_ids[0].tolist()]
    assert absent[1]
    np.testing.assert_allclose(frame[:, 0], np.log(2), rtol=1e-15)  # -log(8 / 16)
    np.testing.assert_allclose(frame[:, absent], np.log(16), rtol=1e-15)  # -log(1 / 16)


def test_no_floor_is_negative_so_that_its_size_is_its_value():
    model = make("marian")
    frame = source_floors(model, batch_for(model), {5: 1000, 6: 1})
    assert (frame["value"] >= 0).all()
    assert frame.loc[frame["method"] == "diagonal", "value"].max() <= 1
    assert frame.loc[frame["method"] == "random", "value"].between(0, 1, inclusive="left").all()


@pytest.mark.parametrize("name", ["marian", "t5"])
def test_neither_other_sentences_nor_padding_changes_a_number(name):
    model = make(name)
    batch, counts = batch_for(model), {3: 4, 5: 2}
    whole = source_floors(model, batch, counts, seed=3)
    wider = {
        each: torch.nn.functional.pad(getattr(batch, each), (0, 2), value=value)
        for each, value in (("input_ids", 1), ("attention_mask", 0))
    }
    pd.testing.assert_frame_equal(source_floors(model, dataclasses.replace(batch, **wider), counts, seed=3), whole)
    for index in range(3):
        single = small_models.alone(batch, index)
        single = dataclasses.replace(single, labels=batch.labels[index : index + 1, batch.mask[index]])
        alone = source_floors(model, single, counts, seed=3)
        for method in FLOORS:
            np.testing.assert_array_equal(values_of(alone, method, 0), values_of(whole, method, index))


def test_chance_is_drawn_by_its_seed_and_leaves_torchs_state_alone():
    model = make("marian")
    batch = batch_for(model)
    state = torch.get_rng_state()
    one, same, other = (values_of(source_floors(model, batch, {}, seed), "random", 0) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(one, same)
    assert (one != other).all()
    assert len(np.unique(one)) == one.size  # each row and token has a number of its own


def test_chance_agrees_with_nothing():
    """Of n tokens a correlation of random ranks has mean 0 and variance 1 / (n - 1); of independent rows the mean of R
    has 1 / (R (n - 1)). Four of its deviations are passed once in 16,000 times, and the seeds are fixed."""
    model = make("marian")
    batch = batch_for(model)
    yardstick = source_attributions(model, batch).query("method == 'alti'")
    removals = yardstick.drop(columns="method").assign(yardstick="mask", logprob=-yardstick["value"])
    found = [rank_agreement(source_floors(model, batch, {}, seed), removals) for seed in range(100)]
    found = pd.concat(found).query("method == 'random' and sense == 'signed' and special_tokens")
    for sentence, rows, tokens in ((0, 5, 7), (1, 6, 4)):
        here = found[found["sentence"] == sentence]
        assert here["rows"].eq(rows).all()
        bound = 4 / np.sqrt(100 * rows * (tokens - 1))
        assert abs(here["agreement"].mean()) < bound
        # A random row meets the mean of the others' ranks, which is no longer than one row's: no more varies.
        assert abs(here["permuted"].mean()) < bound
        assert here["agreement"].std() > 0.1


def test_what_is_no_count_or_no_seed_is_refused():
    model = make("marian")
    batch = batch_for(model)
    for wrong in (-1, 0.5, True, "many"):
        with pytest.raises(InputError, match=r"counts\[5\]=.*whole numbers of 0 or more"):
            source_floors(model, batch, {5: wrong})
    with pytest.raises(InputError, match="seed=-1"):
        source_floors(model, batch, {}, seed=-1)
    with pytest.raises(InputError, match="one stack only"):
        source_floors(small_models.make("gpt2"), batch_for(small_models.make("gpt2")), {})
    with pytest.raises(InputError, match="has no labels"):
        source_floors(model, dataclasses.replace(batch, labels=None), {})

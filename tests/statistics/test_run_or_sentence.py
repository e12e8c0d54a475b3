"""Run or sentence: the split is the closed form's, what does not vary is left out, and checkpoints are no runs."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from addends.errors import InputError
from addends.statistics import models_in_words, shares_of_models
from crossed import crossed_shares, sd_multipliers


def measured(of_run: float = 0.1, of_sentence: float = 1.0, runs: int = 3, sentences: int = 12) -> pd.DataFrame:
    """Two layers with two terms each, and a term that is zero everywhere."""
    generator = np.random.default_rng(3)
    frames = []
    for layer, term in itertools.product((1, 2), ("S", "F", "C")):
        cells = list(itertools.product(range(runs), range(sentences)))
        frame = pd.DataFrame(cells, columns=["run", "sentence"]).assign(by="sublayer", layer=layer, term=term)
        value = np.add.outer(generator.normal(0, of_run, runs), generator.normal(0, of_sentence, sentences)).ravel()
        frame["importance"] = 0.0 if term == "C" else value + generator.normal(0, 0.1, len(frame))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def test_the_shares_are_those_of_the_closed_form_and_sum_to_one():
    frame = measured()
    found = shares_of_models(frame)
    one = frame.query("layer == 2 and term == 'S'")
    wanted = crossed_shares(one, "importance", "run", "sentence", draws=20_000)
    mine = found.query("layer == 2 and term == 'S'")
    for column in ("share", "share_lower", "share_upper"):
        np.testing.assert_allclose(mine[column], wanted[column], rtol=1e-12)
    assert np.allclose(found.groupby(["by", "layer", "term"])["share"].sum(), 1)


def test_a_term_that_does_not_vary_is_left_out():
    frame = measured()
    rows = frame["term"] == "C"
    frame.loc[rows, "importance"] = 1 + 1e-7 * (np.arange(rows.sum()) % 2)  # what float32 makes of 1
    assert set(shares_of_models(frame)["term"]) == {"S", "F"}
    with pytest.raises(InputError, match="'importance' varies in no layer and term"):
        shares_of_models(frame[frame["term"] == "C"])


def test_a_cell_with_a_missing_value_is_left_out():
    frame = measured().rename(columns={"importance": "cosine"})
    frame.loc[frame.query("layer == 1 and term == 'S'").index[0], "cosine"] = np.nan
    kept = shares_of_models(frame, "cosine")[["layer", "term"]].drop_duplicates()
    assert kept.to_numpy().tolist() == [[1, "F"], [2, "S"], [2, "F"]]


def test_checkpoints_have_the_same_shares_and_no_interval():
    frame = measured()
    runs = shares_of_models(frame)
    checkpoints = shares_of_models(frame.rename(columns={"run": "checkpoint"}), unit="checkpoint")
    np.testing.assert_array_equal(checkpoints["share"], runs["share"])
    assert checkpoints["share_lower"].isna().all()
    assert checkpoints["share_upper"].isna().all()
    assert runs["share_lower"].notna().all()
    assert checkpoints["component"].iloc[0] == "checkpoint"


def test_the_words_have_the_counts_the_interval_and_what_few_runs_can_say():
    shares = shares_of_models(measured())
    said = " ".join(models_in_words(shares))
    lower, upper = (float(factor[0]) for factor in sd_multipliers([3]))
    assert said.startswith("3 runs and 12 sentences.")
    assert "for 2 of 2 by sublayer; in the layers below for 2 of 2 by sublayer" in said
    assert f"within the factors {lower:.2f} and {upper:.2g}" in said
    most = shares.query("layer == 2 and component == 'run'").sort_values("share").iloc[-1]
    assert f"{most['term']} by sublayer: {most['share']:.2f} (95 % interval {most['share_lower']:.2f} to" in said


def test_the_words_follow_the_numbers():
    said = " ".join(models_in_words(shares_of_models(measured(of_run=3.0, of_sentence=0.1))))
    assert "for 0 of 2 by sublayer" in said


def test_an_interval_that_says_nothing_is_not_shown():
    shares = shares_of_models(measured())
    own = shares["component"] == "run"
    shares.loc[own, ["share_lower", "share_upper"]] = np.nan
    assert "(no interval)" in " ".join(models_in_words(shares))


def test_of_checkpoints_the_words_claim_nothing_about_runs():
    frame = measured().rename(columns={"run": "checkpoint"})
    said = " ".join(models_in_words(shares_of_models(frame, unit="checkpoint"), "checkpoint"))
    assert said.startswith("3 checkpoints and 12 sentences.")
    assert "Checkpoints of one run add no run" in said
    assert "interval 0" not in said
    assert "factors" not in said


def test_one_layer_alone_has_nothing_below_it():
    frame = measured().query("layer == 2")
    assert "in the layers below for nothing (there is one layer alone)" in models_in_words(shares_of_models(frame))[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"unit": "seed"}, "unit='seed' is not one of"), ({"indicator": "size"}, "indicator='size' is not one of")],
)
def test_other_units_and_indicators_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        shares_of_models(measured(), **options)

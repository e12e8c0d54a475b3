"""Agreement over tokens: what classes alone give, what an indicator adds, parity with scipy, bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from addends.errors import InputError
from addends.interventions import classes_of, token_agreement

COUNTS = {label: 2**label for label in range(12)}


def tokens(seed=0, rows=4_000, own=0.0):
    """Tokens whose indicator and effect both follow their piece; ``own`` is what they share beyond it."""
    generator = np.random.default_rng(seed)
    label, position = generator.integers(0, 12, size=rows), generator.integers(0, 9, size=rows)
    frame = pd.DataFrame({"label": label, "position": position})
    codes = classes_of(frame, COUNTS)
    common = generator.normal(size=16)[codes] + own * generator.normal(size=rows)
    said = common + 0.5 * generator.normal(size=rows)
    effect = -common + 0.5 * generator.normal(size=rows)
    question = {"effect": "direct", "replace": "mean", "by": "token", "layer": 3, "term": "S"}
    return frame.assign(
        **question, logprob=effect, share=said, importance=said**3, cosine=np.nan, norm_ratio=1.0
    ), codes


def test_an_indicator_that_tells_the_class_alone_agrees_no_better_than_its_permutation():
    found = token_agreement(*tokens()).set_index("said")
    assert found.loc["share", "rho"] > 0.5
    assert found.loc["share", "rho"] - found.loc["share", "permuted"] == pytest.approx(0, abs=0.05)


def test_an_indicator_that_tells_more_agrees_better():
    found = token_agreement(*tokens(own=1.0)).set_index("said")
    assert found.loc["share", "rho"] - found.loc["share", "permuted"] > 0.2


def test_rho_is_scipys_and_only_ranks_count():
    frame, codes = tokens(seed=3)
    found = token_agreement(frame, codes).set_index("said")
    expected = stats.spearmanr(frame["share"], -frame["logprob"]).statistic
    assert found.loc["share", "rho"] == pytest.approx(expected, rel=1e-12)
    assert found.loc["importance", "rho"] == pytest.approx(expected, rel=1e-12)  # a monotone function of it
    assert found.loc[["cosine", "norm_ratio"], ["rho", "permuted"]].isna().all(axis=None)
    assert set(found["tokens"]) == {4_000}


def test_questions_are_apart_and_a_missing_layer_stays_missing():
    frame, codes = tokens(rows=200)
    total = frame.assign(effect="total", by="sublayer", layer=pd.NA)
    found = token_agreement(pd.concat([frame, total]), np.concatenate([codes, codes]))
    assert len(found) == 8
    assert found["layer"].isna().tolist() == [False] * 4 + [True] * 4
    assert found["layer"].dtype == "Int64"


def test_seeds_decide():
    one, two, three = (token_agreement(*tokens(rows=300), draws=2, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, two)
    assert not one["permuted"].equals(three["permuted"])


def test_classes_have_quarters_of_the_tokens_and_never_split_a_count():
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"label": np.arange(1_000), "position": generator.integers(0, 30, size=1_000)})
    codes = classes_of(frame, {label: label for label in range(1_000)})
    assert np.bincount(codes // 4).tolist() == [250, 250, 250, 250]
    assert sorted(set(codes % 4)) == [0, 1, 2, 3]
    alike = classes_of(frame, {})
    assert len(set(alike // 4)) == 1


def test_bad_input():
    frame, codes = tokens(rows=50)
    with pytest.raises(InputError, match="49 classes for 50 rows"):
        token_agreement(frame, codes[1:])
    with pytest.raises(InputError, match="'share'"):
        token_agreement(frame.drop(columns="share"), codes)
    with pytest.raises(InputError, match="'label'"):
        classes_of(frame.drop(columns="label"), {})

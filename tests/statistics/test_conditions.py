"""Quality without time: correlation over runs at one step, and conditions compared pair by pair."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from addends.errors import InputError
from addends.statistics import across_runs, contrast_conditions


def runs(count: int, slope: float = 0.5, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    quality = generator.normal(size=count)
    indicator = slope * quality + generator.normal(size=count)
    return pd.DataFrame({"layer": 1, "nll": quality, "importance": indicator})


def test_the_correlation_and_its_interval_are_scipys():
    frame = runs(18)
    (row,) = across_runs(frame, "importance", "nll", "layer", reliability=0.81, draws=99).to_dict("records")
    expected = stats.pearsonr(frame["importance"], frame["nll"])
    assert row["r"] == pytest.approx(expected.statistic, abs=1e-12)
    interval = expected.confidence_interval(0.95)
    assert (row["r_lower"], row["r_upper"]) == pytest.approx(tuple(interval), abs=1e-12)
    assert row["r_disattenuated"] == pytest.approx(expected.statistic / 0.9, abs=1e-12)
    assert row["runs"] == 18


def test_the_permutations_reject_a_null_as_often_as_they_say():
    rejected = [
        across_runs(runs(8, 0.0, s), "importance", "nll", "layer", draws=99)["p"].item() <= 0.1 for s in range(100)
    ]
    assert 2 <= sum(rejected) <= 21  # binomial(100, .1), all but 1e-3 of it


@pytest.mark.parametrize("reliability", [0.0, 1.2])
def test_a_reliability_out_of_range_is_refused(reliability):
    with pytest.raises(InputError, match=f"reliability={reliability}: above 0 and at most 1"):
        across_runs(runs(8), "importance", "nll", "layer", reliability=reliability)


def test_too_few_runs_are_refused():
    with pytest.raises(InputError, match=r"has 3 run\(s\), 4 without missing"):
        across_runs(runs(3), "importance", "nll", "layer")


def sizes() -> pd.DataFrame:
    generator = np.random.default_rng(1)
    seeds = generator.normal(size=4)
    rows = [
        (condition, seed, shift + of_seed + 0.1 * generator.normal())
        for condition, shift in (("small", 0.0), ("middle", 1.0), ("large", 1.5))
        for seed, of_seed in enumerate(seeds)
    ]
    return pd.DataFrame(rows, columns=["condition", "init_seed", "importance"])


def test_paired_within_seed_is_the_paired_t_test():
    frame = sizes()
    table = contrast_conditions(frame, "importance", pair="init_seed").set_index(["a", "b"])
    wide = frame.pivot(index="init_seed", columns="condition", values="importance")
    expected = stats.ttest_rel(wide["large"], wide["small"])
    row = table.loc[("small", "large")]
    assert row["p"] == pytest.approx(expected.pvalue, rel=1e-9)
    assert (row["lower"], row["upper"]) == pytest.approx(tuple(expected.confidence_interval()), rel=1e-9)
    assert row["difference"] == pytest.approx((wide["large"] - wide["small"]).mean())
    assert row["df"] == 3
    assert list(table.index) == [("small", "middle"), ("small", "large"), ("middle", "large")]
    assert (table["p_holm"] >= table["p"]).all()


def test_without_pairs_it_is_welchs_t_test():
    frame = sizes()
    table = contrast_conditions(frame, "importance").set_index(["a", "b"])
    groups = {name: rows["importance"] for name, rows in frame.groupby("condition")}
    expected = stats.ttest_ind(groups["large"], groups["small"], equal_var=False)
    assert table.loc[("small", "large"), "p"] == pytest.approx(expected.pvalue, rel=1e-9)
    assert table.loc[("small", "large"), "df"] == pytest.approx(expected.df, rel=1e-9)


def test_a_run_without_a_partner_is_named():
    with pytest.raises(InputError, match=r"no pairs; alone are \[3\]"):
        contrast_conditions(sizes().iloc[:-1], "importance", pair="init_seed")


def test_one_run_is_no_condition():
    frame = sizes()
    with pytest.raises(InputError, match="2 are the fewest"):
        contrast_conditions(frame[~((frame["condition"] == "large") & (frame["init_seed"] > 0))], "importance")

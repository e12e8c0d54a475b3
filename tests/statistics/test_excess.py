"""An indicator's excess: its own run's quality against that of other runs."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest

from addends.errors import InputError
from addends.statistics import correlate_checkpoints, excess_over_others, with_quality_of_others

STEPS = (10, 20, 40, 80, 160, 320)


def curves(runs: int, own: float, seed: int = 0) -> pd.DataFrame:
    """Runs whose quality saturates alike; the indicator follows what is a run's own in it by the weight ``own``."""
    generator = np.random.default_rng(seed)
    shared = np.log(STEPS)
    rows = []
    for run in range(runs):
        wobble = generator.normal(size=len(STEPS)).cumsum()
        indicator = shared + own * wobble + generator.normal(size=len(STEPS))
        rows += [(f"r{run}", step, x, q) for step, x, q in zip(STEPS, indicator, shared + wobble, strict=True)]
    return pd.DataFrame(rows, columns=["run", "checkpoint", "importance", "chrf"]).assign(layer=1)


def decimals(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers with one decimal, of which many changes are tied that differ in their last binary digits."""
    return frame.assign(importance=frame["importance"].round(1), chrf=frame["chrf"].round(1))


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame,
        decimals,
        lambda frame: decimals(frame).astype({"importance": "float32", "chrf": "float32"}),
        lambda frame: decimals(frame).assign(importance=lambda d: d["importance"] + 1e4),
    ],
    ids=["many digits", "one decimal", "one decimal, float32", "one decimal and a large constant"],
)
@pytest.mark.parametrize("coefficient", ["rho_levels", "rho_differences", "rho_given_step"])
def test_own_and_other_are_the_means_of_the_correlations_pair_by_pair(coefficient, change):
    frame = change(curves(5, own=0.5, seed=2))
    (row,) = excess_over_others(frame, "importance", "chrf", "layer", coefficient, draws=9).to_dict("records")
    own = correlate_checkpoints(frame, "importance", "chrf", "run").set_index("run")[coefficient].abs()
    others = correlate_checkpoints(with_quality_of_others(frame, "chrf"), "importance", "chrf", ["run", "other"])
    other = others.groupby("run")[coefficient].agg(lambda r: r.abs().mean())
    assert row["own"] == pytest.approx(own.mean(), abs=1e-12)
    assert row["other"] == pytest.approx(other.mean(), abs=1e-12)
    each = own - other
    assert row["excess"] == pytest.approx(each.mean(), abs=1e-12)
    assert (row["smallest"], row["largest"]) == pytest.approx((each.min(), each.max()), abs=1e-12)
    assert (row["runs"], row["checkpoints"]) == (5, len(STEPS))


def test_the_interval_is_the_jackknifes():
    frame = curves(6, own=0.5)

    def excess(rows: pd.DataFrame) -> float:
        return excess_over_others(rows, "importance", "chrf", "layer", draws=1)["excess"].item()

    whole, runs = excess(frame), frame["run"].unique()
    pseudo = [6 * whole - 5 * excess(frame[frame["run"] != run]) for run in runs]
    margin = 2.5705818366147395 * np.std(pseudo, ddof=1) / np.sqrt(6)  # t, 5 degrees of freedom, .975
    (row,) = excess_over_others(frame, "importance", "chrf", "layer", draws=1).to_dict("records")
    assert row["excess_upper"] - row["excess"] == pytest.approx(margin, rel=1e-9)
    assert row["excess"] - row["excess_lower"] == pytest.approx(margin, rel=1e-9)


def test_what_is_of_the_run_is_found_and_what_is_shared_is_not():
    known = excess_over_others(curves(12, own=2.0), "importance", "chrf", "layer", draws=999)
    assert known["excess_lower"].item() > 0
    assert known["p"].item() == 1 / 1000  # no permutation reaches it
    rejected = [
        excess_over_others(curves(6, own=0.0, seed=seed), "importance", "chrf", "layer", draws=99)["p"].item() <= 0.1
        for seed in range(100)
    ]
    assert 2 <= sum(rejected) <= 21  # binomial(100, .1), all but 1e-3 of it


def test_a_constant_series_has_no_excess_and_says_why():
    frame = pd.concat([curves(4, 0.5), curves(4, 0.5).assign(layer=2, importance=1.0)])
    table = excess_over_others(frame, "importance", "chrf", "layer", draws=9).set_index("layer")
    assert np.isfinite(table.loc[1, "excess"])
    assert np.isnan(table.loc[2, "excess"])
    assert "constant" in table.loc[2, "note"]


def test_a_series_that_changes_evenly_has_changes_of_one_size_and_no_excess():
    frame = curves(5, 0.5).assign(importance=lambda d: 0.1 + 0.1 * d.groupby("run").cumcount())
    (row,) = excess_over_others(frame, "importance", "chrf", "layer", draws=9).to_dict("records")
    assert np.isnan(row["excess"])
    assert np.isnan(row["p"])
    assert "its changes constant" in row["note"]


def test_few_runs_are_permuted_in_every_way_and_no_p_is_below_what_they_allow():
    frame = curves(3, own=3.0, seed=1)
    (row,) = excess_over_others(frame, "importance", "chrf", "layer", "rho_levels").to_dict("records")
    pairs = with_quality_of_others(frame, "chrf")
    r = correlate_checkpoints(pairs, "importance", "chrf", ["run", "other"]).pivot(
        index="run", columns="other", values="rho_levels"
    )
    own = correlate_checkpoints(frame, "importance", "chrf", "run").set_index("run")["rho_levels"]
    r = r.to_numpy().copy()
    np.fill_diagonal(r, own)
    sums = [sum(abs(r[run, other]) for run, other in enumerate(order)) for order in permutations(range(3))]
    assert row["p"] == pytest.approx(np.mean(np.array(sums) >= sums[0] - 1e-12), abs=1e-15)
    assert row["p"] >= 1 / 6


def test_a_row_without_a_group_is_not_dropped():
    frame = curves(4, 0.5)
    with pytest.raises(InputError, match=r"6 row\(s\) have no value of \['layer'\]"):
        excess_over_others(frame.assign(layer=frame["layer"].where(frame["run"] > "r0")), "importance", "chrf", "layer")


def test_a_curve_that_only_rises_has_nothing_left_once_the_step_is_held_fixed():
    frame = curves(4, 0.5, seed=2)
    rising = frame["chrf"].where(frame["run"] != "r1", frame["checkpoint"])
    table = excess_over_others(frame.assign(chrf=rising), "importance", "chrf", "layer", "rho_given_step", draws=9)
    assert np.isnan(table["excess"].item())
    assert "monotone" in table["note"].item()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame[frame["run"] < "r2"], "2 run.s. at 6 checkpoint"),
        (lambda frame: frame[frame["checkpoint"] < 80], r"at 3 checkpoint\(s\)"),
        (lambda frame: frame.iloc[1:], "not saved at the same steps"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        excess_over_others(change(curves(4, 0.5)), "importance", "chrf", "layer")


def test_an_unknown_coefficient_is_named():
    with pytest.raises(InputError, match="coefficient='rho' is not one of"):
        excess_over_others(curves(4, 0.5), "importance", "chrf", "layer", coefficient="rho")

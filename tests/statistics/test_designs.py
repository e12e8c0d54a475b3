"""Designs: standard errors that simulated suites show, their inverse, and intervals that hold the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import crossed
from addends.errors import InputError
from addends.statistics import design_coverage, design_table, runs_needed
from addends.statistics.designs import QUANTITIES, enough_runs, mean_squares, standard_errors

STORED = Path(__file__).parents[2] / "data" / "statistics" / "designs.parquet"


def simulated(suites, runs, sentences, variances, seed=0):
    """(suite, run, sentence)"""
    generator = np.random.default_rng(seed)
    a, b, c = np.sqrt(variances)
    values = generator.normal(0, a, (suites, runs, 1)) + generator.normal(0, b, (suites, 1, sentences))
    return values + generator.normal(0, c, (suites, runs, sentences))


def cells(values):
    data = pd.DataFrame(values).rename_axis("run").reset_index()
    return data.melt("run", var_name="sentence", value_name="y")


def variances_of(values):
    return crossed.crossed_shares(cells(values), "y", "run", "sentence", draws=1_000)


@pytest.mark.parametrize("variances", [(0.3, 0.5, 0.4), (0.0, 0.5, 0.4), (0.02, 0.1, 1.0)])
def test_standard_errors_are_those_of_simulated_suites(variances):
    """The SD of an estimate over n suites has a relative standard error of sqrt((kurtosis - 1) / 4 n); here at most
    1 / sqrt(n), since no estimate has a kurtosis above 5: 4.5 of these are allowed."""
    suites, r, s = 40_000, 4, 10
    values = simulated(suites, r, s, variances)
    others = simulated(suites, r, s, variances, seed=1)
    sentences = values.mean(axis=1, keepdims=True)
    rest = values - values.mean(axis=2, keepdims=True) - sentences + values.mean(axis=(1, 2), keepdims=True)
    between = s * values.mean(axis=2).var(axis=1, ddof=1)
    sd = np.sqrt(((between - (rest**2).sum(axis=(1, 2)) / ((r - 1) * (s - 1))) / s).clip(min=0))
    # The same sentences in both conditions: their effects cancel.
    a, _, c = variances
    fresh = simulated(2 * suites, r, s, (a, 0, c), seed=2).mean(axis=(1, 2))
    found = {"mean": others.mean(axis=(1, 2)).std(), "SD of the run": sd.std()}
    found["difference, independent"] = (fresh[:suites] - fresh[suites:]).std()
    said = standard_errors(np.array([variances]), r, s, shared=0.5)
    for name, value in found.items():
        assert said[name][0] == pytest.approx(value, rel=4.5 / np.sqrt(suites)), name
    assert said["difference, paired"][0] == pytest.approx(said["difference, independent"][0] / np.sqrt(2))


def test_a_paired_difference_is_that_of_runs_that_share_half_of_what_they_have():
    suites, r, s, a, c = 40_000, 3, 8, 0.4, 0.9
    shared = simulated(suites, r, s, (a / 2, 0, c / 2)).mean(axis=(1, 2))
    own = simulated(2 * suites, r, s, (a / 2, 0, c / 2), seed=1).mean(axis=(1, 2))
    difference = (shared + own[:suites]) - (shared + own[suites:])
    said = standard_errors(np.array([[a, 0.5, c]]), r, s, shared=0.5)["difference, paired"][0]
    assert said == pytest.approx(difference.std(), rel=4.5 / np.sqrt(2 * suites))  # normal: 1 / sqrt(2 n)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_the_runs_needed_are_those_whose_standard_error_is_the_target(quantity):
    variances = np.array([[0.1, 0.3, 0.4], [0.0, 0.1, 0.4], [0.6, 0.2, 0.2], [0.01, 0.01, 0.98]])
    for runs, sentences in ((3, 300), (12, 50), (200, 300)):
        for case in variances:
            target = standard_errors(case[None], runs, sentences, 0.3)[quantity][0]
            found = enough_runs(case[None], quantity, target, sentences, 0.3)[0]
            assert found == pytest.approx(runs, rel=5e-3)  # of the SD: summed and looked up


def test_the_sd_of_many_runs_without_error_is_known_as_the_chi_distribution_says():
    """Known within what is left of C: with 10^6 sentences, none."""
    for runs in (2, 3, 12):
        df = runs - 1
        expected = np.sqrt(1 - stats.chi.mean(df) ** 2 / df)
        found = standard_errors(np.array([[1.0, 1.0, 1.0]]), runs, 1_000_000, 0.5)["SD of the run"][0]
        assert found == pytest.approx(expected, rel=2e-3)


def test_sentences_that_are_too_few_for_a_mean_need_infinitely_many_runs():
    few = enough_runs(np.array([[0.1, 0.3, 0.4]]), "mean", 0.05, 100, 0.5)  # sqrt(.3 / 100) = .055
    enough = enough_runs(np.array([[0.1, 0.3, 0.4]]), "mean", 0.05, 200, 0.5)
    assert np.isinf(few[0])
    assert 0 < enough[0] < np.inf
    assert np.isinf(enough_runs(np.array([[0.1, 0.3, 0.4]]), "SD of the run", 1e-4, 100, 0.5)[0])


def test_the_table_is_that_of_the_estimated_variances_group_by_group():
    parts = {name: variances_of(simulated(1, 6, 40, (0.3, 0.5, 0.4), seed)[0]) for seed, name in enumerate("ST")}
    variances = pd.concat(part.assign(term=name) for name, part in parts.items())
    found = design_table(variances, runs=[3, 12], sentences=[40, 300], by="term", shared=0.2)
    assert list(found.columns[:4]) == ["term", "runs", "sentences", "quantity"]
    assert len(found) == 2 * 2 * 2 * len(QUANTITIES)
    for row in found.itertuples():
        estimates = parts[row.term]["variance"].to_numpy()[None]
        said = standard_errors(estimates, row.runs, row.sentences, 0.2)[row.quantity][0]
        assert row.standard_error == pytest.approx(said)
        assert 0 < row.lower < row.standard_error < row.upper
    wide = found[(found["term"] == "S") & (found["sentences"] == 300)].pivot(
        index="runs", columns="quantity", values="standard_error"
    )
    assert (wide.loc[12] < wide.loc[3]).all()
    needed = runs_needed(variances, {"difference, paired": 0.1, "SD of the run": 0.1}, [300], by="term", shared=0.2)
    assert list(needed["quantity"]) == ["difference, paired", "SD of the run"] * 2
    assert ((needed["lower"] < needed["runs"]) & (needed["runs"] < needed["upper"])).all()


def test_the_mean_squares_are_those_of_the_balanced_table():
    table = variances_of(simulated(1, 5, 12, (0.3, 0.5, 0.4))[0])
    df, weights = mean_squares(5, 12)
    assert df.tolist() == table["df"].tolist()
    np.testing.assert_allclose((weights @ table["mean_square"]).clip(min=0), table["variance"])


def test_intervals_from_tables_of_simulated_suites_hold_the_truth():
    """From made-up values to the interval; the run has a share, so that its variance is seldom estimated as 0."""
    suites, variances = 200, (0.3, 0.3, 0.4)
    truth = standard_errors(np.array([variances]), 12, 100, 0.5)
    held = pd.Series(0, index=QUANTITIES)
    for values in simulated(suites, 6, 20, variances, seed=8):
        found = design_table(variances_of(values), [12], [100], draws=1_000).set_index("quantity")
        for name in QUANTITIES:
            held[name] += found.loc[name, "lower"] <= truth[name][0] <= found.loc[name, "upper"]
    assert within(held / suites, suites).all()


@pytest.fixture(scope="module")
def covered():
    return design_coverage(simulations=200, draws=400, seed=5, progress=False)


def within(coverage, simulations, low=0.85, high=0.95):
    """Whether a count is what a coverage from ``low`` to ``high`` may give, but for once in 10,000 times."""
    least, most = stats.binom.ppf(5e-5, simulations, low), stats.binom.ppf(1 - 5e-5, simulations, high)
    return (least <= coverage * simulations) & (coverage * simulations <= most)


def test_intervals_hold_the_truth_in_85_to_95_of_100_simulated_suites(covered):
    assert len(covered) == 9 * 2 * len(QUANTITIES)
    assert within(covered["coverage"], 200).all()
    pooled = covered.groupby(["asked", "quantity"])["coverage"].mean()  # over nine cases drawn apart
    assert within(pooled, 9 * 200).all()
    np.testing.assert_allclose(covered["coverage"] + covered["below"] + covered["above"], 1)


def test_an_interval_that_is_too_short_would_be_seen():
    """Intervals at 50 % hold the truth half of the time."""
    found = design_coverage(
        pilots=[(6, 40)], shares=[(0.1, 0.5)], simulations=400, draws=400, level=0.5, progress=False
    )
    assert not within(found["coverage"], 400).any()
    assert within(found["coverage"], 400, 0.45, 0.55).all()


def test_the_stored_coverage_is_what_is_asked_of_it_and_what_is_simulated_now(covered):
    stored = pd.read_parquet(STORED)
    assert stored["coverage"].between(0.85, 0.95).all()
    key = ["pilot_runs", "pilot_sentences", "run", "sentence", "asked", "quantity"]
    both = stored.merge(covered, on=key, suffixes=("", "_now"), validate="one_to_one")
    assert len(both) == len(stored) == len(covered)
    np.testing.assert_allclose(both["truth"], both["truth_now"])
    # 144 differences, of cases of which 9 are independent: 4.5 standard errors.
    errors = np.sqrt(0.9 * 0.1 * (1 / both["simulations"] + 1 / both["simulations_now"]))
    assert ((both["coverage"] - both["coverage_now"]).abs() < 4.5 * errors).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"runs": [1]}, "runs=1"),
        ({"sentences": [2.5]}, r"sentences=2\.5"),
        ({"shared": 1.0}, r"shared=1\.0 must be from 0 to below 1"),
        ({"level": 90}, "level"),
        ({"draws": 10}, "draws=10"),
        ({"by": "term"}, "no column 'term'"),
    ],
)
def test_designs_that_cannot_be_meant_are_refused(given, message):
    variances = variances_of(simulated(1, 4, 10, (0.3, 0.5, 0.4))[0])
    with pytest.raises(InputError, match=message):
        design_table(variances, **({"runs": [3], "sentences": [10]} | given))


def test_variances_of_another_kind_are_refused():
    values = cells(simulated(1, 4, 10, (0.3, 0.5, 0.4))[0])
    twice = pd.concat(values.assign(checkpoint=k, y=values["y"] + 0.1 * k * (values.index % 3)) for k in (0, 1))
    replicated = crossed.crossed_shares(twice, "y", "run", "sentence", "checkpoint", draws=1_000)
    with pytest.raises(InputError, match=r"'interaction', 'residual'\]; run, sentence.*Average repeated values"):
        design_table(replicated, [3], [10])
    one = variances_of(simulated(1, 4, 10, (0.3, 0.5, 0.4))[0])
    with pytest.raises(InputError, match="name the columns of groups"):
        design_table(pd.concat([one, one]), [3], [10])
    for targets in ({"means": 0.1}, {"mean": 0.0}):
        with pytest.raises(InputError, match=r"targets=.*above 0.*'mean'"):
            runs_needed(one, targets, [10])
    with pytest.raises(InputError, match=r"shares=.*residual"):
        design_coverage(shares=[(0.5, 0.5)], simulations=1, progress=False)


def test_a_table_without_residual_is_refused():
    rows = [(run, sentence, float(run + 10 * sentence)) for run in range(4) for sentence in range(6)]
    exact = pd.DataFrame(rows, columns=["run", "sentence", "y"])
    variances = crossed.crossed_shares(exact, "y", "run", "sentence", draws=1_000)
    for ask in (lambda: design_table(variances, [3], [10]), lambda: runs_needed(variances, {"mean": 0.1}, [10])):
        with pytest.raises(InputError, match="without interaction and residual"):
            ask()

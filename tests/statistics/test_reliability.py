"""Reliability: what it is by its definition, what it is on known variances, and what it refuses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from addends.errors import InputError
from addends.statistics import reliability_between_runs


def scores(runs: int, sentences: int, between: float, seed: int = 0, noise: float = 1.0) -> pd.DataFrame:
    """Runs and sentences crossed, with a standard deviation of ``between`` between runs."""
    generator = np.random.default_rng(seed)
    values = (
        between * generator.standard_normal((runs, 1))
        + 3 * generator.standard_normal((1, sentences))
        + noise * generator.standard_normal((runs, sentences))
    )
    index = pd.MultiIndex.from_product([range(runs), range(sentences)], names=["run", "sentence"])
    return pd.DataFrame({"chrf": values.ravel()}, index=index).reset_index()


def test_f_is_that_of_the_additive_model():
    import statsmodels.api as sm
    import statsmodels.formula.api as smf

    frame = scores(4, 12, 0.5)
    table = sm.stats.anova_lm(smf.ols("chrf ~ C(run) + C(sentence)", frame).fit())
    row = reliability_between_runs(frame, "chrf").iloc[0]
    assert row["f"] == pytest.approx(table.loc["C(run)", "F"], rel=1e-9)
    assert row["p"] == pytest.approx(table.loc["C(run)", "PR(>F)"], rel=1e-6)
    assert (row["df_runs"], row["df_residual"]) == (3, 33)
    assert row["reliability"] == pytest.approx(1 - 1 / row["f"])


def test_it_is_the_correlation_with_the_means_on_other_sentences():
    between, noise, sentences = 0.1, 1.0, 100
    frame = scores(2000, 2 * sentences, between, noise=noise)
    first = frame["sentence"] < sentences
    halves = [part.groupby("run")["chrf"].mean() for part in (frame[first], frame[~first])]
    expected = between**2 / (between**2 + noise**2 / sentences)
    assert np.corrcoef(*halves)[0, 1] == pytest.approx(expected, abs=4 * (1 - expected**2) / np.sqrt(2000))
    assert reliability_between_runs(frame[first], "chrf")["reliability"].item() == pytest.approx(expected, abs=0.05)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    between, sentences, runs, tables = 0.1, 100, 8, 200
    truth = between**2 / (between**2 + 1 / sentences)
    frames = (scores(runs, sentences, between, seed) for seed in range(tables))
    rows = pd.concat([reliability_between_runs(frame, "chrf", level=0.9) for frame in frames])
    held = ((rows["reliability_lower"] <= truth) & (truth <= rows["reliability_upper"])).sum()
    assert stats.binomtest(int(held), tables, 0.9).pvalue > 1e-4


def test_a_row_for_each_part():
    frame = pd.concat([scores(3, 9, 0.0).assign(set="a"), scores(3, 9, 20.0).assign(set="b")])
    table = reliability_between_runs(frame, "chrf", by="set")
    assert table["set"].tolist() == ["a", "b"]
    assert table["runs"].tolist() == [3, 3]
    assert table["reliability"].iloc[1] > 0.9
    assert (table["reliability_lower"] <= table["reliability"]).all()
    assert (table["reliability"] <= table["reliability_upper"]).all()


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda frame: frame.iloc[1:], {}, "cell run=0, sentence=0 is missing"),
        (lambda frame: frame[frame["run"] == 0], {}, "'run' has 1 level"),
        (lambda frame: frame.assign(chrf=1.0), {}, "constant"),
        (lambda frame: frame, {"level": 1.0}, "level=1.0 must be a number and lie strictly"),
        (lambda frame: frame, {"by": "sets"}, "no column 'sets'"),
    ],
)
def test_what_cannot_be_answered_is_refused(change, options, message):
    with pytest.raises(InputError, match=message):
        reliability_between_runs(change(scores(3, 5, 1.0)), "chrf", **options)


def test_runs_and_sentences_that_leave_no_residual_are_refused():
    rows = [(run, sentence, float(run + 10 * sentence)) for run in range(4) for sentence in range(6)]
    with pytest.raises(InputError, match="there is no residual to hold the runs against"):
        reliability_between_runs(pd.DataFrame(rows, columns=["run", "sentence", "nll"]), "nll")

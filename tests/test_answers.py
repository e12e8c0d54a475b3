"""The claims that the book's pages make in words and numbers, computed from the tables they rest on.

Every claim is computed here by another way than on its page.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import crossed
from addends import tables
from addends.statistics import correlate_checkpoints, with_quality_of_others
from crossed import replicated_shares

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data" / "european"
RUNS = tables.runs_in(DATA, "independent")
"""The runs that the pages rest on: they differ in all their seeds."""


def read(name: str) -> pd.DataFrame:
    return tables.read_suite(DATA, name, RUNS)


def text_of(path: str) -> str:
    """The words of a page, with single spaces."""
    file = ROOT / path
    if file.suffix == ".ipynb":
        cells = nbformat.read(file, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    else:
        text = file.read_text(encoding="utf-8")
    return " ".join(text.split())


def says(path: str, words: str) -> bool:
    return words in text_of(path)


# The first question: does geometry track quality?


@pytest.fixture(scope="module")
def curves():
    """chrF on the held-out sentences: (checkpoint, run)."""
    quality = read("quality").query("metric == 'chrf' and set == 'held_out'")
    return quality.pivot(index="checkpoint", columns="run", values="score").astype(float)


@pytest.fixture(scope="module")
def sizes(curves):
    """The size of rho by run, layer and term: with the own run's chrF, and its mean with that of the others."""
    trajectories = read("trajectories").query("by == 'sublayer' and target == 'own' and layer > 0")
    joined = trajectories.merge(curves.melt(ignore_index=False, value_name="chrf").reset_index())
    own = correlate_checkpoints(joined, "importance", "chrf")
    swapped = with_quality_of_others(joined, "chrf")
    others = correlate_checkpoints(swapped, "importance", "chrf", by=["run", "other", "layer", "term"])
    columns, key = ["rho_levels", "rho_differences", "rho_given_step"], ["run", "layer", "term"]
    return own.set_index(key)[columns], others.set_index([*key, "other"])[columns]


def test_indicators_go_with_another_runs_quality_nearly_as_with_their_own(sizes):
    own, others = (frame.abs() for frame in sizes)
    assert own["rho_levels"].median() == pytest.approx(0.7, abs=0.05)  # "with rank correlations of .7 in the median"
    assert others["rho_levels"].median() > 0.95 * own["rho_levels"].median()  # "nearly as well"
    assert own["rho_differences"].median() == pytest.approx(0.25, abs=0.03)  # "weakly (about .25)"
    excess = own - others.groupby(["run", "layer", "term"]).mean()
    assert excess["rho_differences"].median() == pytest.approx(0.025, abs=0.01)  # ".03 more in the median"
    assert excess["rho_given_step"].median() < 0.03
    by_run = excess.groupby("run")[["rho_differences", "rho_given_step"]].median()
    assert by_run.min().min() < 0.01  # not in every run
    assert by_run.max().max() < 0.15


def test_the_control_has_no_power_for_levels_and_some_for_differences(curves):
    """A control that correlates with the thing itself cannot tell them apart: the page has to say so."""
    pairs = list(itertools.combinations(RUNS, 2))
    levels = [stats.spearmanr(curves[a], curves[b]).statistic for a, b in pairs]
    changes = [stats.spearmanr(curves[a].diff()[1:], curves[b].diff()[1:]).statistic for a, b in pairs]
    assert 0.95 < min(levels) < 0.965
    assert 0.3 < min(changes) <= max(changes) < 0.85
    assert says("notebooks/05_compare_runs_and_quality.ipynb", "so that levels cannot tell runs apart")


def test_the_signs_of_partial_correlations_agree_least_often(sizes):
    signs = np.sign(sizes[0]).groupby(["layer", "term"]).sum().abs().eq(len(RUNS)).sum()
    assert signs["rho_given_step"] < 5
    assert min(signs["rho_levels"], signs["rho_differences"]) > signs["rho_given_step"]


def test_runs_differ_more_than_a_run_moves(curves):
    plateau = curves[curves.index >= 0.95 * curves.index.max()]
    assert plateau.mean().max() - plateau.mean().min() == pytest.approx(2.7, abs=0.3)
    assert (plateau.max() - plateau.min()).mean() == pytest.approx(0.75, abs=0.1)


# The second question: run or sentence?


@pytest.fixture(scope="module")
def largest():
    """The component with the largest estimated share of one checkpoint, by layer and term."""
    measured = read("measurements").query("by == 'sublayer' and target == 'reference' and layer > 0")
    final = measured[measured["checkpoint"] == measured["checkpoint"].max()]
    found = {}
    for key, rows in final.groupby(["layer", "term"]):
        shares = crossed.crossed_shares(rows, "importance", "run", "sentence", draws=1_000).set_index("component")
        found[key] = shares["share"].idxmax(), shares.loc["run", "share_upper"] - shares.loc["run", "share_lower"]
    return found


def test_after_the_last_layer_the_sentence_has_the_largest_share_and_below_it_in_half(largest):
    last = max(layer for layer, _ in largest)
    won = {key: component == "sentence" for key, (component, _) in largest.items()}
    assert [won[last, term] for term in "ISTFC"] == [True] * 5
    assert sum(won[layer, term] for layer in range(1, last) for term in "ISTFC") == 5


def test_the_runs_share_is_known_from_so_many(largest):
    widths = sorted(width for _, width in largest.values())
    assert widths[len(widths) // 2] < 0.25


def of_plateau() -> pd.DataFrame:
    measured = read("measurements").query("target == 'reference' and layer > 0")
    measured = measured[measured["checkpoint"] >= 0.95 * measured["checkpoint"].max()]
    return measured.merge(tables.read_suite(DATA, "sentences")[["sentence", "target_tokens"]], on="sentence")


def shares_of(rows: pd.DataFrame, indicator: str) -> pd.Series:
    """The estimated shares; as few draws as are allowed, for no interval is looked at."""
    factors = ("run", "sentence", "checkpoint")
    found = replicated_shares(rows, indicator, *factors, "target_tokens", rows="these", draws=1_000)
    return found.set_index("component")["share"]


@pytest.fixture(scope="module")
def shares():
    """One row an indicator, by, layer and term; a column a component."""
    measured, found = of_plateau(), {}
    for indicator in tables.INDICATORS:
        for key, rows in measured.groupby(["by", "layer", "term"]):
            found[indicator, *key] = shares_of(rows, indicator)
    return pd.DataFrame(found).T.rename_axis(["indicator", "by", "layer", "term"])


def test_the_sentence_against_all_that_belongs_to_a_model(shares):
    won = shares.idxmax(axis=1) == "sentence"
    assert (won.sum(), len(won)) == (53, 96)
    beats = (shares["sentence"] > shares["run"] + shares["run:sentence"])["importance"]
    assert beats.groupby("layer").agg(["sum", "size"]).to_numpy().tolist() == [[1, 8], [5, 8], [8, 8]]


def test_the_estimate_and_interval_of_the_runs_share():
    rows = of_plateau().query("by == 'sublayer' and layer == 3 and term == 'S'")
    factors = ("run", "sentence", "checkpoint")
    found = replicated_shares(rows, "importance", *factors, "target_tokens", rows="any", draws=4_000)
    found = found.set_index("component")
    assert found.loc["run", "share"] == pytest.approx(0.02, abs=0.005)
    assert found.loc["run", "share_lower"] == pytest.approx(0.01, abs=0.005)
    assert found.loc["run", "share_upper"] == pytest.approx(0.05, abs=0.005)
    first = replicated_shares(
        rows[rows["run"].isin(RUNS[:3])], "importance", *factors, "target_tokens", rows="any", draws=4_000
    ).set_index("component")
    assert first.loc["run", ["share_lower", "share_upper"]].tolist() == pytest.approx([0.01, 0.60], abs=0.03)


def test_leaving_a_run_out_moves_the_estimate_by_the_distance_from_it(shares):
    """Not by the distance between two of the estimates with one run left out."""
    measured, moved = of_plateau().query("by == 'sublayer' and layer == 3"), {}
    for term, rows in measured.groupby("term"):
        spared = [shares_of(rows[rows["run"] != run], "importance")["run"] for run in RUNS]
        moved[term] = np.abs(np.array(spared) - shares.loc[("importance", "sublayer", 3, term), "run"]).max()
    assert max(moved, key=moved.get) == "T"
    assert moved["T"] == pytest.approx(0.04, abs=0.01)  # no run carries the result


def test_length_explains_little_of_the_example_and_much_of_other_terms():
    measured = of_plateau().query("by == 'sublayer' and layer == 3")
    means = measured.groupby(["term", "sentence"])[["importance", "target_tokens"]].mean()
    squared = {term: np.corrcoef(rows.to_numpy(dtype=float).T)[0, 1] ** 2 for term, rows in means.groupby("term")}
    assert squared["S"] < 0.02
    assert max(squared, key=squared.get) == "C"
    assert squared["C"] > 0.3


# Quality of single sentences


def test_the_correlation_within_sentences_is_in_the_last_layer_and_small():
    measured = read("measurements").query("by == 'token' and target == 'own' and layer > 0")
    measured = measured[measured["checkpoint"] >= 0.95 * measured["checkpoint"].max()]
    measured = measured.merge(read("translations")[["run", "checkpoint", "sentence", "chrf"]])
    cells = measured.groupby(["layer", "term", "run", "sentence"])[["importance", "chrf"]].mean()
    cells = cells - cells.groupby(["layer", "term", "sentence"]).transform("mean")
    r = {key: rows["importance"].corr(rows["chrf"]) for key, rows in cells.groupby(["layer", "term", "run"])}
    last = {term: [r[3, term, run] for run in RUNS] for term in "STC"}
    mean = {term: np.mean(values) for term, values in last.items()}
    assert 0.08 < mean["S"] < 0.15
    assert -0.15 < mean["T"] < -0.08
    assert 0.02 < mean["C"] < 0.07
    assert max(abs(value) for values in last.values() for value in values) < 0.25
    for layer, term in itertools.product((1, 2), "STC"):  # a median over layers would hide the last
        assert abs(np.mean([r[layer, term, run] for run in RUNS])) < 0.06


def test_runs_that_end_better_give_the_source_a_larger_part_of_the_last_state():
    """One of 24 cells, counted by Holm: by token, S after the last layer."""
    quality = read("quality").query("metric == 'nll' and set == 'further' and checkpoint == 3000")
    nll = quality.set_index("run")["score"].astype(float)
    found = read("trajectories").query("target == 'reference' and checkpoint == 3000 and layer > 0")
    r, p = {}, {}
    for key, rows in found.groupby(["by", "layer", "term"]):
        both = pd.concat([rows.set_index("run")["importance"].astype(float), nll], axis=1, join="inner")
        r[key], p[key] = stats.pearsonr(both["importance"], both["score"])
    assert len(r) == 24
    assert min(p, key=p.get) == ("token", 3, "S")
    assert r["token", 3, "S"] == pytest.approx(-0.82, abs=0.02)
    assert sorted(p.values())[0] < 0.05 / 24 < sorted(p.values())[1] * 24 / 23


def test_the_page_on_slopes_says_what_its_t_test_needs():
    page = "notebooks/07_predict_quality_within_runs.ipynb"
    assert says(page, "finding needs $|t|$ above {glue:text}`t_needed:.1f`")
    for hiding in ("between_size", "within_size"):  # medians over layers
        assert not says(page, hiding)


# Intervals


def test_the_profile_is_slightly_short_with_three_runs_and_the_generalised_interval_is_not():
    coverage = pd.read_parquet(ROOT / "data" / "statistics" / "coverage.parquet")
    few = coverage.query("quantity == 'share' and true_share > 0 and runs == 3").groupby("method")["coverage"]
    assert 0.92 < few.min()["REML profile"] <= few.max()["REML profile"] < 0.945
    assert few.min()["generalised"] > 0.94
    assert not says("notebooks/08_split_run_and_sentence.ipynb", "too narrow")
    assert says("book/intervals.ipynb", "Medians, over the simulated tables, of the limits")


# Pages


def test_the_introduction_has_no_number_that_could_fall_behind_the_data():
    prose = re.sub(r"\]\([^)]*\)|```.*?```|\{cite:.\}`[^`]*`", "", text_of("book/intro.md"))
    assert re.findall(r"\d+", prose) == []


def test_the_released_analysis_has_two_bugs_a_latent_one_four_choices_and_a_finding():
    page = text_of("notebooks/13_replicate_published_results.ipynb")
    assert len(re.findall(r"### \d\. ", page)) == 2 + 1 + 4 + 1
    assert "## Two bugs, a latent bug, four choices and a finding" in page
    assert "defects" not in page


def test_the_released_median_over_sentences_is_that_of_pairs():
    """What was released is over pairs: .13. Pooled over sentences it is .11, which is another number."""
    sentences = pd.read_parquet(ROOT / "data" / "published_results" / "sentences.parquet")
    medians = sentences[["rho_sentence_pairs", "rho_pooled", "rho_within"]].abs().median()
    assert medians["rho_sentence_pairs"] == pytest.approx(0.129, abs=0.001)
    assert medians["rho_pooled"] < 0.115
    assert says(
        "notebooks/13_replicate_published_results.ipynb", "falls from {glue:text}`items_median_pairs:.2f` as released"
    )

"""The findings: each headline holds of the tables and fails of a distorted copy; effects are the statistics'."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import crossed
from addends.errors import DataError, InputError
from addends.findings import DISTORTIONS, HEADLINES, answers, board, checked, distorted, read_evidence
from addends.findings.effects import NOT_YET, OF_RUNS
from addends.statistics import excess_over_others, mean_over_runs, verdict

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def evidence():
    return read_evidence(ROOT / "data", ROOT / "book" / "claims.yaml")


@pytest.fixture(scope="module")
def rows(evidence):
    return board(evidence, draws=2_000)


@pytest.fixture(scope="module")
def where_it_fails(evidence):
    """For each headline, the distortions in which it does not hold."""
    copies = {name: distorted(evidence, name) for name in DISTORTIONS}
    return {
        name: [which for which, copy in copies.items() if not one.holds(one.numbers(copy))]
        for name, one in HEADLINES.items()
    }


def test_every_headline_holds_of_the_data(evidence):
    found = checked(evidence)
    assert found["name"].tolist() == list(HEADLINES)
    assert set(found["claim"]) == set(evidence.claims.claims)
    for row in found.itertuples():
        assert "{" not in row.sentence
        assert "nan" not in row.sentence


@pytest.mark.parametrize("name", HEADLINES)
def test_every_headline_fails_of_a_copy_that_says_something_else(where_it_fails, name):
    assert where_it_fails[name], f"{name} holds whatever is done to the data: it says nothing of them"


def test_every_distortion_breaks_a_headline(where_it_fails):
    assert {which for broken in where_it_fails.values() for which in broken} == set(DISTORTIONS)


def test_a_build_on_other_data_names_the_sentence(evidence):
    with pytest.raises(DataError, match=r"no longer say(.|\n)*D1: 'Parts do something(.|\n)*lower > 1"):
        checked(distorted(evidence, "signs flipped"))


@pytest.mark.parametrize("name", HEADLINES)
def test_no_number_of_a_headline_is_typed(name):
    words = re.sub(r"\{[^}]*\}", "", HEADLINES[name].sentence)
    assert not re.search(r"\d", words)
    used = set(re.findall(r"\{(\w+)", HEADLINES[name].sentence))
    assert used, "a sentence without a number"


def test_a_missing_number_asserts_nothing():
    one = HEADLINES["D1"]
    assert one.holds({"lower": 2.0})
    assert not one.holds({"lower": np.nan})
    assert not one.holds({"lower": np.inf})


@pytest.mark.parametrize("name", DISTORTIONS)
def test_a_distorted_copy_has_the_rows_and_leaves_the_evidence_alone(evidence, name):
    before = {frame: getattr(evidence, frame).copy() for frame in ("paths", "cells", "pairs", "effects", "agreement")}
    copy = distorted(evidence, name)
    for frame, was in before.items():
        pd.testing.assert_frame_equal(getattr(evidence, frame), was)
        assert getattr(copy, frame).shape == was.shape
        keys = [column for column in was if column not in ("importance", "chrf", "logprob", "rho", "permuted", "cka")]
        pd.testing.assert_frame_equal(getattr(copy, frame)[keys], was[keys])


def test_permuted_values_are_the_same_values_within_their_group(evidence):
    copy = distorted(evidence, "runs permuted")
    group = ["by", "layer", "term", "sentence"]
    sums = [frame.cells.groupby(group)["importance"].sum() for frame in (evidence, copy)]
    np.testing.assert_allclose(*sums, rtol=1e-5, atol=1e-6)
    assert (copy.cells["importance"] != evidence.cells["importance"]).mean() > 0.8
    copy = distorted(evidence, "sentences permuted")
    sums = [frame.cells.groupby(["by", "layer", "term", "run"])["importance"].sum() for frame in (evidence, copy)]
    np.testing.assert_allclose(*sums, rtol=1e-4, atol=1e-4)


def test_the_board_has_what_the_statistics_give(evidence, rows):
    primary = rows[rows["primary"]].set_index("claim")
    assert primary.index.tolist() == list(evidence.claims.claims)
    cell = evidence.claims.claims["A"].primary
    places = {"by": cell.method, "layer": cell.layer, "term": cell.term}
    paths = evidence.paths[(evidence.paths[list(places)] == pd.Series(places)).all(axis=1)]
    found = excess_over_others(paths, "importance", "chrf", ["by", "layer", "term"], "rho_differences", draws=2_000)
    limits = ["excess_lower", "excess", "excess_upper"]
    assert primary.loc["A", ["lower", "estimate", "upper"]].tolist() == found.loc[0, limits].tolist()
    cells = evidence.cells.query("by == 'sublayer' and layer == 3 and term == 'S'").astype({"importance": float})
    found = crossed.factorial_contrast(cells, "importance", OF_RUNS, ["sentence"], draws=2_000).iloc[0]
    assert primary.loc["B", "estimate"] == pytest.approx(found["estimate"], rel=1e-12)
    alone = evidence.agreement.query("block == 'independent' and term == 'S' and said == 'importance'")
    found = mean_over_runs(alone.assign(beyond=alone["rho"].astype(float) - alone["permuted"]), "beyond").iloc[0]
    row = rows[rows["analysis"].str.contains("importance of S with the loss without it") & ~rows["primary"]].iloc[0]
    np.testing.assert_allclose(row[["estimate", "lower", "upper"]].astype(float), found[["estimate", "lower", "upper"]])


def test_verdicts_are_those_of_the_rule_and_only_causal_rows_replace_parts(rows):
    for row in rows.dropna(subset=["estimate"]).itertuples():
        assert row.verdict == verdict(row.lower, row.estimate, row.upper, row.smallest)
        assert row.causal == (row.claim == "D")
    assert rows.groupby("claim")["primary"].sum().eq(1).all()


def test_what_is_not_there_yet_is_said_so_and_judged_by_nothing(evidence):
    nothing = evidence.with_frames(
        cells=evidence.cells.iloc[:0], agreement=evidence.agreement[evidence.agreement["block"] != "factorial"]
    )
    found = board(nothing, draws=1_000).query("claim in ['B', 'D'] and primary")
    assert found["verdict"].tolist() == ["not decided yet"] * 2
    assert found["note"].tolist() == [NOT_YET] * 2
    assert found["estimate"].isna().all()


def test_answers_have_verdict_interval_and_counts(evidence, rows):
    lines = answers(rows, evidence.claims.claims)
    assert [line[2] for line in lines] == list(evidence.claims.claims)
    first = rows.iloc[0]
    assert f"{first['verdict']}.**" in lines[0]
    assert f"{first['estimate']:.2f} ({first['lower']:.2f} to {first['upper']:.2f}; {first['runs']} runs" in lines[0]
    assert "would have been found" in lines[0]  # beside a null stands its power
    missing = rows.assign(estimate=rows["estimate"].where(~rows["primary"] | (rows["claim"] != "D")))
    missing.loc[missing["estimate"].isna(), "note"] = NOT_YET
    assert f"not decided yet,** {NOT_YET}. Runs that share nothing" in answers(missing, evidence.claims.claims)[3]


def test_bad_input(evidence, tmp_path):
    with pytest.raises(InputError, match="signs flipped"):
        distorted(evidence, "nothing")
    with pytest.raises(InputError, match="draws"):
        board(evidence, draws=10)
    with pytest.raises(DataError):
        read_evidence(tmp_path, ROOT / "book" / "claims.yaml")

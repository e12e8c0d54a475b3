"""The two answers that the book's introduction gives in words, held against the tables they rest on."""

from __future__ import annotations

from pathlib import Path

import pytest

from addends.runs import tables
from addends.statistics import correlation, intervals

DATA = Path(__file__).parents[1] / "data" / "european"
RUNS = ("fra-i1-o1", "fra-i2-o2", "fra-i3-o3")  # those that the pages rest on


def test_indicators_go_with_another_runs_quality_nearly_as_with_their_own():
    trajectories = tables.read_suite(DATA, "trajectories", RUNS).query(
        "by == 'sublayer' and target == 'own' and layer > 0"
    )
    quality = (
        tables.read_suite(DATA, "quality", RUNS)
        .query("metric == 'chrf' and set == 'held_out'")
        .rename(columns={"score": "chrf"})
    )
    joined = trajectories.merge(quality[["run", "checkpoint", "chrf"]], on=["run", "checkpoint"])
    own = correlation.over_checkpoints(joined, "importance", "chrf")
    swapped = correlation.with_quality_of_others(joined, "chrf")
    others = correlation.over_checkpoints(swapped, "importance", "chrf", by=["run", "other", "layer", "term"])
    columns = ["rho", "rho_differences", "rho_partial"]
    own, others = (frame[columns].abs().median() for frame in (own, others))
    assert own["rho"] > 0.5  # "over a training the two go together"
    assert (own - others).max() < 0.05  # "and hardly more so than they do with another run's quality"


@pytest.fixture(scope="module")
def largest():
    """The component with the largest estimated share, by layer and term."""
    measured = tables.read_suite(DATA, "measurements", RUNS).query(
        "by == 'sublayer' and target == 'reference' and layer > 0"
    )
    final = measured[measured["checkpoint"] == measured["checkpoint"].max()]
    found = {}
    for key, rows in final.groupby(["layer", "term"]):
        shares = intervals.crossed_shares(rows, "importance", draws=1_000).set_index("component")
        found[key] = shares["share"].idxmax(), shares.loc["run", "share_upper"] - shares.loc["run", "share_lower"]
    return found


def test_after_the_last_layer_the_sentence_has_the_largest_share_and_below_it_has_not(largest):
    last = max(layer for layer, _ in largest)
    assert {component for (layer, _), (component, _) in largest.items() if layer == last} == {"sentence"}
    for layer in range(1, last):
        assert {component for (at, _), (component, _) in largest.items() if at == layer} != {"sentence"}


def test_the_runs_share_is_not_known_from_so_few(largest):
    widths = sorted(width for _, width in largest.values())
    assert widths[len(widths) // 2] > 0.5

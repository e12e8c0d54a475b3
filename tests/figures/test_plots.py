"""Each plot draws what the frame says on the axes it is given, and returns them."""

from __future__ import annotations

from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from addends.errors import InputError
from addends.figures import plots, style

mpl.use("agg")

TERMS = ("I", "S", "T", "F", "C")


@pytest.fixture
def importances():
    """Two tokens; their shares sum to 1, and one is negative."""
    shares = [[0.5, 0.2, 0.1, 0.3, -0.1], [0.1, 0.4, 0.2, 0.2, 0.1]]
    return pd.DataFrame(
        [(term, position, shares[position][k]) for k, term in enumerate(TERMS) for position in range(2)],
        columns=["term", "position", "importance"],
    )


@pytest.fixture
def crossed():
    generator = np.random.default_rng(0)
    rows = [
        (run, step, layer, term, *generator.normal(size=2))
        for run in ("a", "b")
        for step in (10, 100, 1000)
        for layer in range(3)
        for term in TERMS
    ]
    return pd.DataFrame(rows, columns=["run", "checkpoint", "layer", "term", "importance", "chrf"])


def test_stacked_bars_reach_from_the_negative_shares_to_the_positive_ones(ax, importances):
    assert plots.stacked_importance(importances, ["a", "b"], ax=ax) is ax
    bars = [bar for container in ax.containers for bar in container]
    for position in range(2):
        here = [bar for bar in bars if round(bar.get_x() + bar.get_width() / 2) == position]
        heights = np.array([bar.get_height() for bar in here])
        assert heights.sum() == pytest.approx(1)
        edges = [bar.get_y() for bar in here] + [bar.get_y() + bar.get_height() for bar in here]
        assert max(edges) == pytest.approx(heights[heights > 0].sum())
        assert min(edges) == pytest.approx(heights[heights < 0].sum())
        spans = sorted((min(b.get_y(), b.get_y() + b.get_height()), abs(b.get_height())) for b in here)
        assert all(a[0] + a[1] <= b[0] + 1e-9 for a, b in pairwise(spans)), "bars overlap"


def test_terms_keep_their_colour_and_name(ax, importances):
    plots.stacked_importance(importances, ["a", "b"], ax=ax)
    colours = {c.get_label()[0]: to_hex(c.patches[0].get_facecolor()).upper() for c in ax.containers}
    assert colours == style.TERM_COLOURS
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == list(style.TERM_NAMES["sublayer"].values())


def test_the_same_letters_are_named_by_their_method(ax, crossed):
    by_token = crossed[crossed["term"].isin(("S", "T", "C"))]
    plots.over_layers(by_token, "importance", ax=ax)
    names = {text.get_text() for text in ax.get_legend().get_texts()}
    assert names == set(style.TERM_NAMES["token"].values())


@pytest.mark.parametrize("by", ["sublayer", "token"])
def test_a_single_stacks_terms_have_names_too(ax, crossed, by):
    expected = style.SINGLE_STACK_NAMES[by]
    plots.over_layers(crossed[crossed["term"].isin(expected)], "importance", ax=ax)
    assert {text.get_text() for text in ax.get_legend().get_texts()} == set(expected.values())


def test_over_layers_draws_the_mean_of_the_runs_and_each_run(ax, crossed):
    plots.over_layers(crossed, "importance", ax=ax)
    drawn = [tuple(np.round(line.get_ydata(), 9)) for line in ax.lines if len(line.get_xdata()) == 3]
    means = crossed[crossed["term"] == "F"].groupby("layer")["importance"].mean()
    one_run = crossed[(crossed["term"] == "F") & (crossed["run"] == "b")].groupby("layer")["importance"].mean()
    assert tuple(np.round(means, 9)) in drawn
    assert tuple(np.round(one_run, 9)) in drawn


@pytest.mark.parametrize("hue", ["run", "term"])
def test_over_steps_draws_each_run_on_a_logarithmic_axis(ax, crossed, hue):
    last = crossed[(crossed["layer"] == 2) & ((crossed["term"] == "S") | (hue == "term"))]
    plots.over_steps(last, "importance", ax=ax, hue=hue)
    assert ax.get_xscale() == "log"
    drawn = [tuple(np.round(line.get_ydata(), 9)) for line in ax.lines if len(line.get_xdata()) == 3]
    for run in ("a", "b"):
        series = last[(last["run"] == run) & (last["term"] == "S")].sort_values("checkpoint")["importance"]
        assert tuple(np.round(series, 9)) in drawn


def test_correlations_has_a_dot_a_run_and_version(ax):
    frame = pd.DataFrame({"term": ["S", "S", "T", "T"], "run": ["a", "b"] * 2, "rho": [0.1, 0.2, -0.3, 0.4]})
    frame["other"] = -frame["rho"]
    plots.correlations(frame, {"rho": "levels", "other": "differences"}, ax=ax)
    dots = np.concatenate([c.get_offsets()[:, 0] for c in ax.collections if len(c.get_offsets())])
    np.testing.assert_allclose(sorted(dots), sorted([*frame["rho"], *frame["other"]]))


def test_correlations_of_levels_are_never_drawn_alone(ax):
    with pytest.raises(InputError, match="detrended"):
        plots.correlations(pd.DataFrame({"term": ["S"], "run": ["a"], "rho": [0.9]}), {"rho": "levels"}, ax=ax)


def test_shares_are_drawn_with_their_intervals(ax):
    frame = pd.DataFrame(
        {
            "term": ["S", "S", "T", "T"],
            "component": ["run", "sentence"] * 2,
            "share": [0.2, 0.8, 0.4, 0.6],
            "share_lower": [0.1, 0.5, 0.3, 0.1],
            "share_upper": [0.5, 0.9, 0.9, 0.7],
        }
    )
    plots.shares(frame, ax=ax)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["S", "T"]
    dots = sorted(x for line in ax.lines for x in line.get_xdata())
    assert dots == sorted(frame["share"])
    ends = sorted(tuple(path[:, 0]) for c in ax.collections for path in (p.vertices for p in c.get_paths()))
    assert ends == sorted(zip(frame["share_lower"], frame["share_upper"], strict=True))


def test_every_axis_says_what_it_shows(ax, crossed):
    for draw, value in ((plots.over_layers, "importance"), (plots.over_steps, "chrf")):
        draw(crossed, value, ax=ax)
        assert ax.get_xlabel()
        assert "(" in ax.get_ylabel(), "a unit stands in brackets"


# --- bad input ---


def test_labels_that_do_not_fit(ax, importances):
    with pytest.raises(InputError, match="3 tokens for 2 positions"):
        plots.stacked_importance(importances, ["a", "b", "c"], ax=ax)


def test_a_missing_column_is_named(ax, crossed):
    with pytest.raises(InputError, match=r"lacks \['cosine'\]"):
        plots.over_layers(crossed, "cosine", ax=ax)


def test_a_term_without_a_colour():
    with pytest.raises(InputError, match=r"\['X'\] have no colour"):
        style.term_palette(["I", "X"])

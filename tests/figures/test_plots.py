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
        here = [bar for bar in bars if round(bar.get_y() + bar.get_height() / 2) == position]
        widths = np.array([bar.get_width() for bar in here])
        assert widths.sum() == pytest.approx(1)
        edges = [bar.get_x() for bar in here] + [bar.get_x() + bar.get_width() for bar in here]
        assert max(edges) == pytest.approx(widths[widths > 0].sum())
        assert min(edges) == pytest.approx(widths[widths < 0].sum())
        spans = sorted((min(b.get_x(), b.get_x() + b.get_width()), abs(b.get_width())) for b in here)
        assert all(a[0] + a[1] <= b[0] + 1e-9 for a, b in pairwise(spans)), "bars overlap"
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first token is on top"


def named(ax):
    """What is named on the axes, with its colour: at the ends of lines, or above."""
    legend = ax.get_legend()
    texts = [*ax.texts, *(legend.get_texts() if legend else [])]
    return {text.get_text(): to_hex(text.get_color()).upper() for text in texts}


def expected_names(by, names=style.TERM_NAMES):
    return {name: style.TERM_COLOURS[by][term] for term, name in names[by].items()}


def test_terms_keep_their_colour_and_name(ax, importances):
    plots.stacked_importance(importances, ["a", "b"], ax=ax)
    colours = {c.get_label()[0]: to_hex(c.patches[0].get_facecolor()).upper() for c in ax.containers}
    assert colours == style.TERM_COLOURS["sublayer"]
    assert named(ax) == expected_names("sublayer")


def test_the_same_letters_have_names_and_colours_of_their_method(ax, crossed):
    by_token = crossed[crossed["term"].isin(("S", "T", "C"))]
    plots.over_layers(by_token, "importance", ax=ax)
    assert named(ax) == expected_names("token")
    other = ax.figure.add_subplot()
    plots.over_layers(by_token.assign(by="sublayer"), "importance", ax=other)  # a choice of terms of the other method
    assert set(named(other)) <= set(style.TERM_NAMES["sublayer"].values())
    assert not set(style.TERM_COLOURS["token"].values()) & set(style.TERM_COLOURS["sublayer"].values())


def test_two_methods_are_no_figure(ax, crossed):
    both = pd.concat([crossed.assign(by="sublayer"), crossed.assign(by="token")])
    with pytest.raises(InputError, match="one method"):
        plots.over_layers(both, "importance", ax=ax)


@pytest.mark.parametrize("by", ["sublayer", "token"])
def test_a_single_stacks_terms_have_names_too(ax, crossed, by):
    expected = style.SINGLE_STACK_NAMES[by]
    plots.over_layers(crossed[crossed["term"].isin(expected)], "importance", ax=ax)
    assert named(ax) == expected_names(by, style.SINGLE_STACK_NAMES)


def test_a_part_that_has_no_cosine_has_no_line_and_no_name(ax, crossed):
    crossed.loc[crossed["term"] == "C", "importance"] = np.nan
    plots.over_layers(crossed, "importance", ax=ax)
    assert set(named(ax)) == set(style.TERM_NAMES["sublayer"].values()) - {"C: constants"}
    other = ax.figure.add_subplot()
    plots.over_steps(crossed[crossed["layer"] == 2], "importance", ax=other, hue="term")
    assert "C: constants" not in named(other)


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


@pytest.mark.parametrize("hue", ["run", "term"])
def test_many_runs_are_thin_lines_under_their_mean_and_have_no_name(ax, crossed, hue):
    last = crossed[(crossed["layer"] == 2) & ((crossed["term"] == "S") | (hue == "term"))]
    one = last[last["run"] == "a"]
    many = pd.concat([one.assign(run=f"r{n}", importance=one["importance"] + n**2) for n in range(9)])
    plots.over_steps(many, "importance", ax=ax, hue=hue)
    thin = {tuple(np.round(line.get_ydata(), 9)) for line in ax.lines if line.get_linewidth() < 1}
    of_s = many[many["term"] == "S"].pivot(index="checkpoint", columns="run", values="importance")
    for run in of_s:
        assert tuple(np.round(of_s[run], 9)) in thin
    mean = of_s.mean(axis=1)
    assert any(np.allclose(line.get_ydata(), mean) and line.get_linewidth() == 2 for line in ax.lines)
    assert set(named(ax)) == ({"mean of 9 runs"} if hue == "run" else set(style.TERM_NAMES["sublayer"].values()))


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
    with pytest.raises(InputError, match="no column 'cosine'"):
        plots.over_layers(crossed, "cosine", ax=ax)


def test_a_term_without_a_colour():
    with pytest.raises(InputError, match=r"\['X'\] have no colour"):
        style.term_palette(["I", "X"])


# Deviations.


@pytest.fixture
def data():
    grid = np.arange(-2.0, 3)
    near = pd.DataFrame({"set": "near", "quantile": grid, "released": grid * 1.1, "lower": grid - 1, "upper": grid + 2})
    return pd.concat([near, near.assign(set="far", released=grid * 5, lower=np.nan, upper=np.nan)])


def test_each_set_is_drawn_against_its_quantiles_and_one_that_was_replayed_has_its_band(ax, data):
    assert plots.deviations(data.sample(frac=1, random_state=0).sort_values("set", ascending=False), ax=ax) is ax
    lines = dict(zip(["near", "far"], (line.get_xydata() for line in ax.lines[1:]), strict=True))
    np.testing.assert_allclose(lines["near"], np.column_stack([np.arange(-2, 3), 1.1 * np.arange(-2, 3)]))
    np.testing.assert_allclose(lines["far"][:, 1], 5 * np.arange(-2, 3))
    (band,) = ax.collections
    corners = band.get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == (-3, 4)
    assert len({line.get_color() for line in ax.lines}) == 3  # two sets and the diagonal
    assert len({line.get_marker() for line in ax.lines}) == 3
    assert list(named(ax)) == ["near", "far"]
    assert "standard errors" in ax.get_ylabel()


def test_the_diagonal_is_where_released_and_expected_are_equal(ax, data):
    plots.deviations(data, ax=ax)
    (diagonal,) = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert (diagonal.get_xy1(), diagonal.get_slope()) == ((0, 0), 1)


def test_bad_input(data):
    with pytest.raises(InputError, match="no column 'released'"):
        plots.deviations(data.drop(columns="released"))
    with pytest.raises(InputError, match="has 10 sets; from 1 to 6"):
        plots.deviations(data.assign(set=[f"{number}" for number in range(10)]))
    with pytest.raises(InputError, match="has 0 sets"):
        plots.deviations(data[:0])


# Against the number of runs.


@pytest.fixture
def subsets():
    columns = {"runs": [3, 6], "median": [5.0, 5.5], "lowest": [2.0, 4.0], "highest": [9.0, 7.0]}
    columns |= {"lower": [1.0, 3.0], "upper": [20.0, 9.0], "lower_lowest": [0.5, 2.5], "upper_highest": [40.0, 12.0]}
    return pd.DataFrame(columns)


def test_against_runs_draws_estimates_limits_and_their_ranges(ax, subsets):
    theory = pd.DataFrame({"runs": [3, 4, 6], "lower": [2.0, 2.5, 3.0], "upper": [18.0, 12.0, 9.5]})
    plots.against_runs(subsets, theory, "SD (per cent)", ax=ax)
    assert ax.lines[0].get_ydata().tolist() == [5.0, 5.5]
    assert [line.get_ydata().tolist() for line in ax.lines[1:]] == [[2.0, 2.5, 3.0], [18.0, 12.0, 9.5]]
    ends = {tuple(path.vertices[:, 1]) for each in ax.collections for path in each.get_paths()}
    assert ends == {(0.5, 40.0), (2.5, 12.0), (1.0, 20.0), (3.0, 9.0), (2.0, 9.0), (4.0, 7.0)}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("runs", "SD (per cent)")
    assert list(named(ax)) == ["estimate and its range", "95 % interval", "theory"]


def test_against_runs_may_be_without_theory(ax, subsets):
    plots.against_runs(subsets, pd.DataFrame(columns=["runs", "lower", "upper"]), "share", ax=ax)
    assert "theory" not in named(ax)


def test_against_runs_refuses_two_groups_at_once(ax, subsets):
    none = pd.DataFrame(columns=["runs", "lower", "upper"])
    with pytest.raises(InputError, match=r"runs=3.*Choose one indicator"):
        plots.against_runs(pd.concat([subsets, subsets]), none, "share", ax=ax)
    with pytest.raises(InputError, match="no column 'upper_highest'"):
        plots.against_runs(subsets.drop(columns="upper_highest"), none, "share", ax=ax)

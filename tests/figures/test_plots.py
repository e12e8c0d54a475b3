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
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == (["mean of 9 runs"] if hue == "run" else list(style.TERM_NAMES["sublayer"].values()))


def test_correlations_has_a_dot_a_run_and_version(ax):
    frame = pd.DataFrame({"term": ["S", "S", "T", "T"], "run": ["a", "b"] * 2, "rho": [0.1, 0.2, -0.3, 0.4]})
    frame["other"] = -frame["rho"]
    plots.correlations(frame, {"rho": "levels", "other": "differences"}, ax=ax)
    dots = np.concatenate([c.get_offsets()[:, 0] for c in ax.collections if len(c.get_offsets())])
    np.testing.assert_allclose(sorted(dots), sorted([*frame["rho"], *frame["other"]]))


def test_correlations_of_many_runs_has_smaller_dots_and_none_is_lost(ax):
    generator = np.random.default_rng(0)
    rows = [(term, f"r{n}", *generator.uniform(-1, 1, 2)) for term in ("T", "S") for n in range(20)]
    frame = pd.DataFrame(rows, columns=["term", "run", "rho", "other"])
    plots.correlations(frame, {"rho": "levels", "other": "differences"}, ax=ax)
    drawn = [c for c in ax.collections if len(c.get_offsets())]
    assert sum(len(c.get_offsets()) for c in drawn) == 80
    for number, term in enumerate(("S", "T")):  # the rows are in the order of the terms, not of the frame
        assert [text.get_text() for text in ax.get_yticklabels()][number] == term
        for version in ("rho", "other"):
            values = np.sort(frame.loc[frame["term"] == term, version])
            here = [c for c in drawn if abs(np.asarray(c.get_offsets())[:, 1].mean() - number) < 0.5]
            assert any(np.allclose(np.sort(np.asarray(c.get_offsets())[:, 0]), values) for c in here)
    few = ax.figure.add_subplot()
    plots.correlations(frame[frame["run"].isin(["r0", "r1"])], {"rho": "levels", "other": "differences"}, ax=few)
    size = {axes: max(c.get_sizes().max() for c in axes.collections if len(c.get_offsets())) for axes in (ax, few)}
    assert size[ax] < size[few]
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {"levels", "differences"}


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
    with pytest.raises(InputError, match="no column 'cosine'"):
        plots.over_layers(crossed, "cosine", ax=ax)


def test_a_term_without_a_colour():
    with pytest.raises(InputError, match=r"\['X'\] have no colour"):
        style.term_palette(["I", "X"])


# Slopes.


mpl.use("agg")


@pytest.fixture
def estimates():
    frame = pd.DataFrame({"term": ["T", "S", "T", "S"], "run": ["a", "a", "b", "b"], "estimate": [0.1, -2.0, 0.3, 1.0]})
    return frame.assign(lower=frame["estimate"] - [1, 2, 3, 4], upper=frame["estimate"] + [1, 2, 3, 4])


def ends(ax):
    return sorted(tuple(path.vertices[:, 0]) for lines in ax.collections for path in lines.get_paths())


def test_each_slope_and_its_interval_is_drawn_once(ax, estimates):
    assert plots.slopes(estimates, "run", "slope (points)", ax=ax) is ax
    dots = sorted(x for line in ax.lines if line.get_marker() == "o" for x in line.get_xdata())
    assert dots == sorted(estimates["estimate"])
    assert ends(ax) == sorted(zip(estimates["lower"], estimates["upper"], strict=True))
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["S", "T"]
    assert ax.get_xlabel() == "slope (points)"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]


def test_a_dot_stands_in_the_row_of_its_term_at_the_height_of_its_interval(ax, estimates):
    plots.slopes(estimates, "run", "slope", ax=ax)
    for line, run, lines in zip(ax.lines[1:], "ab", ax.collections, strict=True):
        rows = estimates[estimates["run"] == run]
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True):
            assert "ST"[round(y)] == rows.loc[rows["estimate"] == x, "term"].item()
        np.testing.assert_allclose([path.vertices[0, 1] for path in lines.get_paths()], line.get_ydata())


def test_without_intervals_there_are_dots_alone(ax, estimates):
    plots.slopes(estimates.drop(columns=["lower", "upper"]), "run", "slope", ax=ax, legend=False)
    assert not ends(ax)
    assert ax.get_legend() is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.drop(columns="estimate"), "no column 'estimate'"),
        (lambda d: pd.concat([d, d]), "stand more than once"),
        (lambda d: pd.concat([d.assign(run=f"r{n}") for n in range(8)]).drop_duplicates(["term", "run"]), "8 levels"),
        (lambda d: d.assign(term="X").iloc[[0]], "have no colour"),
    ],
)
def test_refused(ax, estimates, change, words):
    with pytest.raises(InputError, match=words):
        plots.slopes(change(estimates), "run", "slope", ax=ax)


def test_the_slopes_of_many_runs_stand_under_their_mean(ax):
    runs = [f"r{n}" for n in range(9)]
    each = pd.DataFrame(
        [(t, r, k - n) for k, t in enumerate("TS") for n, r in enumerate(runs)], columns=["term", "run", "estimate"]
    )
    each = each.assign(lower=each["estimate"] - 1, upper=each["estimate"] + 2)
    over = pd.DataFrame({"term": ["T", "S"], "mean": [-4.0, -3.0], "lower": [-7.0, -6.5], "upper": [-1.0, 0.5]})
    assert plots.slopes_of_runs(each, over, "slope (points)", ax=ax) is ax
    of_runs, of_means = (line for line in ax.lines if line.get_marker() == "o")
    assert sorted(of_runs.get_xdata()) == sorted(each["estimate"])
    assert np.round(of_runs.get_ydata()).tolist() == each["term"].map("ST".index).tolist()
    assert len(set(of_runs.get_ydata())) == 18  # no dot hides another
    assert dict(zip(of_means.get_ydata(), of_means.get_xdata(), strict=True)) == {1: -4.0, 0: -3.0}
    drawn = [*zip(each["lower"], each["upper"], strict=True), *zip(over["lower"], over["upper"], strict=True)]
    assert ends(ax) == sorted(drawn)
    assert ax.get_legend_handles_labels()[1] == ["each run", "mean over runs"]
    with pytest.raises(InputError, match="stand more than once"):
        plots.slopes_of_runs(pd.concat([each, each]), over, "slope", ax=ax)
    with pytest.raises(InputError, match="no column 'mean'"):
        plots.slopes_of_runs(each, over.drop(columns="mean"), "slope", ax=ax)


# Deviations.


mpl.use("agg")


@pytest.fixture
def data():
    grid = np.arange(-2.0, 3)
    near = pd.DataFrame({"set": "near", "quantile": grid, "released": grid * 1.1, "lower": grid - 1, "upper": grid + 2})
    return pd.concat([near, near.assign(set="far", released=grid * 5, lower=np.nan, upper=np.nan)])


def test_each_set_is_drawn_against_its_quantiles_and_one_that_was_replayed_has_its_band(ax, data):
    assert plots.deviations(data.sample(frac=1, random_state=0).sort_values("set", ascending=False), ax=ax) is ax
    lines = {line.get_label(): line.get_xydata() for line in ax.lines if not line.get_label().startswith("_")}
    assert list(lines) == ["near", "far"]
    np.testing.assert_allclose(lines["near"], np.column_stack([np.arange(-2, 3), 1.1 * np.arange(-2, 3)]))
    np.testing.assert_allclose(lines["far"][:, 1], 5 * np.arange(-2, 3))
    (band,) = ax.collections
    corners = band.get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == (-3, 4)
    assert len({line.get_color() for line in ax.lines}) == 3  # two sets and the diagonal
    assert len({line.get_marker() for line in ax.lines}) == 3
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["near", "far"]
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
    assert ax.get_legend_handles_labels()[1] == ["interval", "range", "estimate", "theory"]


def test_against_runs_may_be_without_theory(ax, subsets):
    plots.against_runs(subsets, pd.DataFrame(columns=["runs", "lower", "upper"]), "share", ax=ax)
    assert "theory" not in ax.get_legend_handles_labels()[1]


def test_against_runs_refuses_two_groups_at_once(ax, subsets):
    none = pd.DataFrame(columns=["runs", "lower", "upper"])
    with pytest.raises(InputError, match=r"runs=3.*Choose one indicator"):
        plots.against_runs(pd.concat([subsets, subsets]), none, "share", ax=ax)
    with pytest.raises(InputError, match="no column 'upper_highest'"):
        plots.against_runs(subsets.drop(columns="upper_highest"), none, "share", ax=ax)

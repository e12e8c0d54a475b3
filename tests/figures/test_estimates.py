"""Dots stand where the estimates are, and lines reach as far as their intervals."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from addends.errors import InputError
from addends.figures import estimates, style

mpl.use("agg")


def dots(ax):
    """The marks of the axes, of shape (mark, 2)."""
    return np.concatenate([line.get_xydata() for line in ax.lines if line.get_marker() in style.SERIES_MARKERS])


def ends(ax):
    return sorted(tuple(path.vertices[:, 0]) for lines in ax.collections for path in lines.get_paths())


def named(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_correlations_has_a_dot_a_run_and_version(ax):
    frame = pd.DataFrame({"term": ["S", "S", "T", "T"], "run": ["a", "b"] * 2, "rho": [0.1, 0.2, -0.3, 0.4]})
    frame["other"] = -frame["rho"]
    estimates.correlations(frame, {"rho": "levels", "other": "differences"}, ax=ax)
    np.testing.assert_allclose(sorted(dots(ax)[:, 0]), sorted([*frame["rho"], *frame["other"]]))


def test_correlations_of_many_runs_has_smaller_dots_and_none_is_lost(ax):
    generator = np.random.default_rng(0)
    rows = [(term, f"r{n}", *generator.uniform(-1, 1, 2)) for term in ("T", "S") for n in range(20)]
    frame = pd.DataFrame(rows, columns=["term", "run", "rho", "other"])
    estimates.correlations(frame, {"rho": "levels", "other": "differences"}, ax=ax)
    drawn = dots(ax)
    assert len(drawn) == 80
    for number, term in enumerate(("S", "T")):  # the rows are in the order of the terms, not of the frame
        assert [text.get_text() for text in ax.get_yticklabels()][number] == term
        here = np.sort(drawn[np.round(drawn[:, 1]) == number, 0])
        np.testing.assert_allclose(here, np.sort(frame.loc[frame["term"] == term, ["rho", "other"]].to_numpy().ravel()))
    few = ax.figure.add_subplot()
    estimates.correlations(frame[frame["run"].isin(["r0", "r1"])], {"rho": "levels", "other": "differences"}, ax=few)
    assert ax.lines[0].get_markersize() < few.lines[0].get_markersize()
    assert named(ax) == ["levels", "differences"]


def test_correlations_of_levels_are_never_drawn_alone(ax):
    with pytest.raises(InputError, match="detrended"):
        estimates.correlations(pd.DataFrame({"term": ["S"], "run": ["a"], "rho": [0.9]}), {"rho": "levels"}, ax=ax)


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
    estimates.shares(frame, ax=ax)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["S", "T"]
    assert sorted(dots(ax)[:, 0]) == sorted(frame["share"])
    assert ends(ax) == sorted(zip(frame["share_lower"], frame["share_upper"], strict=True))


@pytest.fixture
def found():
    frame = pd.DataFrame({"term": ["T", "S", "T", "S"], "run": ["a", "a", "b", "b"], "estimate": [0.1, -2.0, 0.3, 1.0]})
    return frame.assign(lower=frame["estimate"] - [1, 2, 3, 4], upper=frame["estimate"] + [1, 2, 3, 4])


def test_each_slope_and_its_interval_is_drawn_once(ax, found):
    assert estimates.slopes(found, "run", "slope (points)", ax=ax) is ax
    assert sorted(dots(ax)[:, 0]) == sorted(found["estimate"])
    assert ends(ax) == sorted(zip(found["lower"], found["upper"], strict=True))
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["S", "T"]
    assert ax.get_xlabel() == "slope (points)"
    assert named(ax) == ["a", "b"]


def test_a_dot_stands_in_the_row_of_its_term_at_the_height_of_its_interval(ax, found):
    estimates.slopes(found, "run", "slope", ax=ax)
    for line, run, lines in zip(ax.lines[1:], "ab", ax.collections, strict=True):
        rows = found[found["run"] == run]
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True):
            assert "ST"[round(y)] == rows.loc[rows["estimate"] == x, "term"].item()
        np.testing.assert_allclose([path.vertices[0, 1] for path in lines.get_paths()], line.get_ydata())


def test_without_intervals_there_are_dots_alone(ax, found):
    estimates.slopes(found.drop(columns=["lower", "upper"]), "run", "slope", ax=ax, legend=False)
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
def test_refused(ax, found, change, words):
    with pytest.raises(InputError, match=words):
        estimates.slopes(change(found), "run", "slope", ax=ax)


def test_the_slopes_of_many_runs_stand_under_their_mean(ax):
    runs = [f"r{n}" for n in range(9)]
    each = pd.DataFrame(
        [(t, r, k - n) for k, t in enumerate("TS") for n, r in enumerate(runs)], columns=["term", "run", "estimate"]
    )
    each = each.assign(lower=each["estimate"] - 1, upper=each["estimate"] + 2)
    over = pd.DataFrame({"term": ["T", "S"], "mean": [-4.0, -3.0], "lower": [-7.0, -6.5], "upper": [-1.0, 0.5]})
    assert estimates.slopes_of_runs(each, over, "slope (points)", ax=ax) is ax
    of_runs, of_means = (line for line in ax.lines if line.get_marker() == "o")
    assert sorted(of_runs.get_xdata()) == sorted(each["estimate"])
    assert np.round(of_runs.get_ydata()).tolist() == each["term"].map("ST".index).tolist()
    assert len(set(of_runs.get_ydata())) == 18  # no dot hides another
    assert dict(zip(of_means.get_ydata(), of_means.get_xdata(), strict=True)) == {1: -4.0, 0: -3.0}
    drawn = [*zip(each["lower"], each["upper"], strict=True), *zip(over["lower"], over["upper"], strict=True)]
    assert ends(ax) == sorted(drawn)
    assert named(ax) == ["each run", "mean over runs"]
    with pytest.raises(InputError, match="stand more than once"):
        estimates.slopes_of_runs(pd.concat([each, each]), over, "slope", ax=ax)
    with pytest.raises(InputError, match="no column 'mean'"):
        estimates.slopes_of_runs(each, over.drop(columns="mean"), "slope", ax=ax)


# Dumbbells, bars, crosses.


def test_a_dumbbell_joins_the_two_correlations_of_its_row_and_the_largest_is_on_top(ax):
    frame = pd.DataFrame({"row": ["a", "b", "c"], "own": [0.1, 0.7, 0.3], "other": [0.2, 0.5, -0.1]})
    estimates.own_and_other(frame, "rho", ax=ax)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["b", "c", "a"]
    assert ends(ax) == sorted(zip(frame["own"], frame["other"], strict=True))
    own, other = (line for line in ax.lines if line.get_marker() in "os")
    assert dict(zip(own.get_xdata(), own.get_ydata(), strict=True)) == {0.7: 0, 0.3: 1, 0.1: 2}
    assert dict(zip(other.get_xdata(), other.get_ydata(), strict=True)) == {0.5: 0, -0.1: 1, 0.2: 2}
    assert named(ax) == ["its own quality", "another run's"]
    with pytest.raises(InputError, match="stand more than once"):
        estimates.own_and_other(pd.concat([frame, frame]), "rho", ax=ax)


@pytest.fixture
def split():
    columns = {"term": ["T", "S"] * 3, "component": ["run"] * 2 + ["sentence"] * 2 + ["rest"] * 2}
    columns |= {"share": [0.2, 0.1, 0.5, 0.85, 0.3, 0.05]}
    frame = pd.DataFrame(columns)
    return frame.assign(share_lower=frame["share"] - 0.02, share_upper=frame["share"] + 0.01)


def test_the_bars_of_a_row_fill_it_and_the_first_component_has_its_interval(ax, split):
    estimates.stacked_shares(split, ["sentence", "run", "rest"], ax=ax)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["S", "T"]
    spans = [[(bar.get_x(), bar.get_x() + bar.get_width()) for bar in kind] for kind in ax.containers]
    np.testing.assert_allclose(spans[0], [(0, 0.85), (0, 0.5)])
    np.testing.assert_allclose(spans[1], [(0.85, 0.95), (0.5, 0.7)])
    np.testing.assert_allclose(spans[2], [(0.95, 1), (0.7, 1)])
    np.testing.assert_allclose(ends(ax), [(0.48, 0.51), (0.83, 0.86)])
    assert [text.get_text() for text in ax.texts] == ["0.85", "0.50"]
    assert to_hex(ax.containers[0][0].get_facecolor()).upper() == style.COMPONENT_COLOURS["sentence"]
    with pytest.raises(InputError, match="sum to 1"):
        estimates.stacked_shares(split, ["sentence", "run"], ax=ax)
    with pytest.raises(InputError, match="sum to 1"):
        estimates.stacked_shares(split, ["sentence", "run", "course"], ax=ax)


def test_a_cross_has_its_two_intervals_and_a_name_where_the_second_is_clear_of_zero(ax):
    frame = pd.DataFrame({"cell": ["near", "far"], "between": [1.0, 2.0], "within": [0.1, -0.5]})
    for name in ("between", "within"):
        frame[f"{name}_lower"], frame[f"{name}_upper"] = frame[name] - 0.2, frame[name] + 0.3
    estimates.crosses(frame, "between", "within", ("between", "within"), ax=ax)
    arms = {tuple(map(tuple, np.round(path.vertices, 9))) for lines in ax.collections for path in lines.get_paths()}
    assert arms == {
        ((0.8, 0.1), (1.3, 0.1)),
        ((1.0, -0.1), (1.0, 0.4)),
        ((1.8, -0.5), (2.3, -0.5)),
        ((2.0, -0.7), (2.0, -0.2)),
    }
    assert [text.get_text() for text in ax.texts] == ["far"]
    with pytest.raises(InputError, match="no column 'within_upper'"):
        estimates.crosses(frame.drop(columns="within_upper"), "between", "within", ("", ""), ax=ax)

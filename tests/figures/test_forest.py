"""Slopes are drawn where the frame says, one row a term, and what would be drawn over something else is refused."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from addends.errors import InputError
from addends.figures import forest

mpl.use("agg")


@pytest.fixture
def estimates():
    frame = pd.DataFrame({"term": ["T", "S", "T", "S"], "run": ["a", "a", "b", "b"], "estimate": [0.1, -2.0, 0.3, 1.0]})
    return frame.assign(lower=frame["estimate"] - [1, 2, 3, 4], upper=frame["estimate"] + [1, 2, 3, 4])


def ends(ax):
    return sorted(tuple(path.vertices[:, 0]) for lines in ax.collections for path in lines.get_paths())


def test_each_slope_and_its_interval_is_drawn_once(ax, estimates):
    assert forest.slopes(estimates, "run", "slope (points)", ax=ax) is ax
    dots = sorted(x for line in ax.lines if line.get_marker() == "o" for x in line.get_xdata())
    assert dots == sorted(estimates["estimate"])
    assert ends(ax) == sorted(zip(estimates["lower"], estimates["upper"], strict=True))
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["S", "T"]
    assert ax.get_xlabel() == "slope (points)"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]


def test_a_dot_stands_in_the_row_of_its_term_at_the_height_of_its_interval(ax, estimates):
    forest.slopes(estimates, "run", "slope", ax=ax)
    for line, run, lines in zip(ax.lines[1:], "ab", ax.collections, strict=True):
        rows = estimates[estimates["run"] == run]
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True):
            assert "ST"[round(y)] == rows.loc[rows["estimate"] == x, "term"].item()
        np.testing.assert_allclose([path.vertices[0, 1] for path in lines.get_paths()], line.get_ydata())


def test_without_intervals_there_are_dots_alone(ax, estimates):
    forest.slopes(estimates.drop(columns=["lower", "upper"]), "run", "slope", ax=ax, legend=False)
    assert not ends(ax)
    assert ax.get_legend() is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.drop(columns="estimate"), r"lacks \['estimate'\]"),
        (lambda d: pd.concat([d, d]), "stands twice"),
        (lambda d: pd.concat([d.assign(run=f"r{n}") for n in range(8)]).drop_duplicates(["term", "run"]), "8 levels"),
        (lambda d: d.assign(term="X").iloc[[0]], "have no colour"),
    ],
)
def test_refused(ax, estimates, change, words):
    with pytest.raises(InputError, match=words):
        forest.slopes(change(estimates), "run", "slope", ax=ax)

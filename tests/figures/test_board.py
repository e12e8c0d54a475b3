"""The board draws each effect where the frame has it, and tells the verdict by a word as well as by a shape."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
import pytest

from addends.errors import InputError
from addends.figures.board import evidence_board
from addends.figures.style import VERDICT_MARKS

mpl.use("agg")

ROWS = pd.DataFrame(
    [
        ("A", "one", True, False, 0.3, 0.2, 0.4, 5, 0.1, "supported"),
        ("A", "two", False, False, 0.05, -0.2, 0.3, 5, 0.1, "cannot be said"),
        ("B", "three", True, True, float("nan"), float("nan"), float("nan"), pd.NA, 0.1, "not decided yet"),
    ],
    columns=["claim", "analysis", "primary", "causal", "estimate", "lower", "upper", "runs", "smallest", "verdict"],
)
HEADINGS = {"A": "First claim", "B": "Second claim"}


def test_effects_stand_at_their_estimates_and_verdicts_in_words(ax):
    assert evidence_board(ROWS, HEADINGS, ax=ax) is ax
    marks = [line for line in ax.lines if line.get_marker() in {mark for mark, _ in VERDICT_MARKS.values()}]
    assert [line.get_xdata()[0] for line in marks] == [0.3, 0.05]
    assert [line.get_markerfacecolor() == "white" for line in marks] == [False, True]
    said = [text.get_text() for text in ax.texts]
    assert [text for text in said if text in VERDICT_MARKS] == ["supported", "cannot be said", "not decided yet"]
    assert {"First claim", "Second claim", "one (5 runs)", "three"} <= set(said)


def test_verdicts_have_shapes_of_their_own():
    assert len({mark for mark, _ in VERDICT_MARKS.values()}) == len(VERDICT_MARKS)


def test_an_effect_that_stands_twice_is_refused(ax):
    with pytest.raises(InputError, match="stand more than once"):
        evidence_board(pd.concat([ROWS, ROWS]), HEADINGS, ax=ax)

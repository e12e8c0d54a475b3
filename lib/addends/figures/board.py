"""The evidence board: claims by analyses, each an effect with its interval and, in words, its verdict."""

from __future__ import annotations

import textwrap
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.transforms import Transform, blended_transform_factory

from addends.checks import refuse_repeated, require_columns
from addends.figures.style import VERDICT_MARKS

# Letters in a line of the panel, of a claim and of an analysis.
_HEADING_LETTERS, _ROW_LETTERS = 40, 52

_COLUMNS = ("claim", "analysis", "primary", "causal", "estimate", "lower", "upper", "runs", "smallest", "verdict")


def evidence_board(data: pd.DataFrame, claims: dict[str, str], ax: plt.Axes | None = None) -> plt.Axes:
    """A row an effect, under the claim that it is about: a dot on its interval, and the verdict as a shape and a word.

    A filled mark is the effect that the claims file names; the others are exploratory. The dashed line is no effect,
    the short upright lines the smallest effect of interest.

    Parameters
    ----------
    data : DataFrame
        As `findings.board` gives it: claim, analysis, primary, causal, estimate, lower, upper, runs, smallest, verdict.
    claims : dict of str to str
        The heading of each claim.

    Raises
    ------
    InputError
        If a column is missing, or a pair of claim and analysis stands twice.
    """
    require_columns(data, _COLUMNS, "evidence_board")
    refuse_repeated(data, ("claim", "analysis"), "evidence_board", "Give each effect a name of its own.")
    ax = ax or plt.gca()
    beside = blended_transform_factory(ax.transAxes, ax.transData)
    height = 0.0
    for claim, rows in data.groupby("claim", sort=False):
        height += _words(ax, claims[claim], height, beside, _HEADING_LETTERS, fontweight="bold")
        for row in rows.itertuples():
            runs = "" if pd.isna(row.runs) else f" ({row.runs} runs{', parts replaced' if row.causal else ''})"
            height += _words(ax, f"{row.analysis}{runs}", height, beside, _ROW_LETTERS, fontsize="small")
            _effect(ax, row, height, beside)
            height += 1.1
        height += 0.5
    ax.axvline(0, color="0.75", linewidth=1, linestyle="--", zorder=0)
    ax.set_ylim(height - 0.5, -1)
    ax.set_yticks([])
    ax.grid(visible=False)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(
        "effect in the claimed direction, with 95 % interval\n(differences of correlations, of shares, of CKA)"
    )
    return ax


def _words(ax: plt.Axes, text: str, height: float, beside: Transform, letters: int, **look: Any) -> float:
    """Write a text in as many lines as the panel asks for; how many rows of the figure it takes."""
    lines = textwrap.wrap(text, letters)
    ax.text(0, height - 0.4, "\n".join(lines), va="top", transform=beside, linespacing=1.1, **look)
    return 0.25 + 0.75 * len(lines)


def _effect(ax: plt.Axes, row: Any, height: float, beside: Transform) -> None:
    mark, colour = VERDICT_MARKS[row.verdict]
    ax.text(1.02, height, row.verdict, va="center", color=colour, fontsize="small", transform=beside)
    if pd.isna(row.estimate):
        return
    ax.hlines(height, row.lower, row.upper, color=colour, linewidth=2)
    ax.vlines(row.smallest, height - 0.35, height + 0.35, color="0.45", linewidth=1)
    ax.plot(row.estimate, height, mark, color=colour, markersize=8, markerfacecolor=colour if row.primary else "white")

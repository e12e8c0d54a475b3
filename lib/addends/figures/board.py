"""The evidence board: claims by analyses, each an effect with its interval and, in words, its verdict."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.transforms import Transform, blended_transform_factory

from addends.checks import refuse_repeated, require_columns
from addends.figures.style import VERDICT_MARKS

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
        ax.text(0, height, claims[claim], fontweight="bold", va="center", transform=beside)
        height += 1
        for row in rows.itertuples():
            _effect(ax, row, height, beside)
            height += 2
        height += 0.5
    ax.axvline(0, color="0.45", linewidth=1, linestyle="--", zorder=0)
    ax.set_ylim(height - 0.5, -1)
    ax.set_yticks([])
    ax.grid(axis="y", visible=False)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("effect in the claimed direction, with 95 % interval (difference of correlations, shares or CKA)")
    return ax


def _effect(ax: plt.Axes, row: Any, height: float, beside: Transform) -> None:
    mark, colour = VERDICT_MARKS[row.verdict]
    runs = "" if pd.isna(row.runs) else f" ({row.runs} runs{', parts replaced' if row.causal else ''})"
    ax.text(0.02, height, f"{row.analysis}{runs}", va="center", fontsize="small", transform=beside)
    ax.text(1.02, height + 0.9, row.verdict, va="center", color=colour, fontsize="small", transform=beside)
    if pd.isna(row.estimate):
        return
    at = height + 0.9
    ax.hlines(at, row.lower, row.upper, color=colour, linewidth=2)
    ax.vlines(row.smallest, at - 0.35, at + 0.35, color="0.45", linewidth=1)
    ax.plot(row.estimate, at, mark, color=colour, markersize=8, markerfacecolor=colour if row.primary else "white")

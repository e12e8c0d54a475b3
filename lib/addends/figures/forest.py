"""Estimates with their intervals, a row a term: what is compared stands in one row, side by side."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd

from addends.errors import InputError
from addends.figures.style import SERIES_COLOURS, in_order


def slopes(
    data: pd.DataFrame, hue: str, label: str, ax: plt.Axes | None = None, y: str = "term", legend: bool = True
) -> plt.Axes:
    """Slopes as dots, with a line for the interval where there is one; a row a term, a colour a level of ``hue``.

    Parameters
    ----------
    data : DataFrame
        One row a level of ``y`` and of ``hue``: both columns, estimate and, for intervals, lower and upper.
    hue : str
        What is compared within a row: the part of the predictor, the run, the run left out. Six levels at most.
    label : str
        Of the horizontal axis, with the unit.

    Raises
    ------
    InputError
        If a column is missing, a pair of ``y`` and ``hue`` stands twice, or there are more levels than colours.
    """
    missing = [name for name in (y, hue, "estimate") if name not in data]
    if missing:
        raise InputError(f"The frame lacks {missing}; it has {list(data.columns)}.")
    if data.duplicated([y, hue]).any():
        raise InputError(f"A pair of {y!r} and {hue!r} stands twice: choose one layer and one method before drawing.")
    levels = list(dict.fromkeys(data[hue]))
    if len(levels) > len(SERIES_COLOURS):
        raise InputError(f"{hue!r} has {len(levels)} levels; {len(SERIES_COLOURS)} can be told apart in one row.")
    ax = ax or plt.gca()
    rows = in_order(data[y]) if y == "term" else list(dict.fromkeys(data[y]))
    step = min(0.22, 0.7 / len(levels))
    ax.axvline(0, color="black", linewidth=0.8)
    for number, level in enumerate(levels):
        part = data[data[hue] == level].set_index(y)
        height = [rows.index(row) + step * (number - (len(levels) - 1) / 2) for row in part.index]
        colour = SERIES_COLOURS[number]
        if {"lower", "upper"} <= set(part.columns):
            ax.hlines(height, part["lower"], part["upper"], color=colour, linewidth=2.5, alpha=0.6)
        ax.plot(part["estimate"], height, "o", markersize=5, color=colour, label=str(level))
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.set(xlabel=label, ylabel=y)
    if legend:
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return ax

"""Figures of pairs of runs, by what the two share."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd

from addends.checks import refuse_repeated, require_columns
from addends.figures.direct import name_ends
from addends.figures.style import KIND_COLOURS, KIND_NAMES


def kinds_over_training(data: pd.DataFrame, label: str, ax: plt.Axes | None = None) -> plt.Axes:
    """The mean over pairs of runs at each checkpoint, a line for what the two share, named at its end.

    Checkpoints are evenly spaced, whatever the steps between them: the first may be step 0.

    Parameters
    ----------
    data : DataFrame
        As `statistics.similarity_over_training` gives it, of one group: shares, checkpoint, mean, lower, upper.
    label : str
        Of the vertical axis, with the unit.

    Raises
    ------
    InputError
        If a column is missing, or a pair of shares and checkpoint stands twice.
    """
    require_columns(data, ("shares", "checkpoint", "mean", "lower", "upper"), "kinds_over_training")
    refuse_repeated(data, ("shares", "checkpoint"), "kinds_over_training", "Choose one layer and one part first.")
    ax = ax or plt.gca()
    steps = sorted(data["checkpoint"].unique())
    ends = []
    for kind, rows in data.groupby("shares", sort=False):
        at, colour = rows["checkpoint"].map(steps.index), KIND_COLOURS[kind]
        ax.fill_between(at, rows["lower"], rows["upper"], color=colour, alpha=0.15, linewidth=0)
        ax.plot(at, rows["mean"], "o-", color=colour, markersize=4)
        ends.append((rows["mean"].iloc[-1], KIND_NAMES[kind], colour))
    name_ends(ax, ends)
    ax.set_xticks(range(len(steps)), [str(step) for step in steps])
    ax.grid(axis="x", visible=False)
    ax.set(xlabel="training step (not to scale)", ylabel=label)
    return ax

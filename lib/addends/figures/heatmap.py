"""The source-by-target picture: a colour for each pair of a target token, in rows, and a source token, in columns.

Signed values are drawn from blue through white, which is zero, to red; values that cannot be negative from white to
purple. Both maps can be told apart by colour-blind readers, and the two kinds of value by everyone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from addends.checks import check_choice, refuse_repeated, require_columns
from addends.errors import InputError
from addends.figures.style import INDICATOR_LABELS


@dataclass(frozen=True)
class Scale:
    """How a quantity is drawn: the label of its colour bar, with the unit, and whether it can be negative.

    >>> SCALES["weight"].signed
    False
    """

    label: str
    signed: bool


SCALES = {
    "importance": Scale(INDICATOR_LABELS["importance"], signed=True),
    "difference": Scale("difference (share of squared norm)", signed=True),
    "cosine": Scale(INDICATOR_LABELS["cosine"], signed=True),
    "norm_ratio": Scale(INDICATOR_LABELS["norm_ratio"], signed=False),
    "distance": Scale(INDICATOR_LABELS["distance"], signed=False),
    "weight": Scale("attention weight (each row sums to 1)", signed=False),
}
_COLOURS = {True: "RdBu_r", False: "Purples"}


def source_by_target(
    data: pd.DataFrame,
    value: str,
    sources: Sequence[str],
    targets: Sequence[str],
    ax: plt.Axes | None = None,
    limit: float | None = None,
) -> plt.Axes:
    """A heatmap of one sentence: a row for each target token that a state predicts, a column for each source token.

    Parameters
    ----------
    data : DataFrame
        Tidy, one row a pair: position (counted from 0, the target's), source (counted from 0), and the column
        ``value``. Every pair once; a missing value is left grey.
    value : str
        One of `SCALES`: importance, difference, cosine, norm_ratio, distance, weight.
    sources, targets : sequence of str
        The label of each source token and of each position.
    limit : float, optional
        Where the colours end: at -limit and limit, or at 0 and limit. By default at the value of the largest size.
        Give two pictures one limit to compare them.

    Raises
    ------
    InputError
        If a column is missing, a pair is missing or there twice, the labels do not fit, the value has no scale, or a
        value lies beyond the colours.
    """
    check_choice("value", value, tuple(SCALES), "heatmap")
    scale = SCALES[value]
    _check(data, value, len(sources), len(targets))
    low, high = _limits(data[value], value, limit)
    wide = data.pivot(index="position", columns="source", values=value)
    ax = ax or plt.gca()
    sns.heatmap(
        wide,
        vmin=low,
        vmax=high,
        cmap=_COLOURS[scale.signed],
        linewidths=0.5,
        linecolor="white",
        xticklabels=list(sources),
        yticklabels=list(targets),
        cbar_kws={"label": scale.label},
        ax=ax,
    )
    ax.set_facecolor("#BDBDBD")  # what shows where a value is missing
    ax.tick_params(axis="x", rotation=90, length=0)
    ax.tick_params(axis="y", rotation=0, length=0)
    ax.set(xlabel="source token", ylabel="the token this state predicts")
    return ax


def _check(data: pd.DataFrame, value: str, sources: int, targets: int) -> None:
    """Raise InputError unless the frame holds every pair of a target position and a source token once."""
    require_columns(data, ("position", "source", value), "heatmap")
    refuse_repeated(data, ("position", "source"), "heatmap", "Choose one layer (and head) of one sentence first.")
    wanted = pd.MultiIndex.from_product([range(targets), range(sources)], names=["position", "source"])
    found = pd.MultiIndex.from_frame(data[["position", "source"]])
    for pairs, what in ((wanted.difference(found), "lacks"), (found.difference(wanted), "also holds")):
        if len(pairs):
            raise InputError(
                f"{targets} target and {sources} source labels, but the frame {what} position {pairs[0][0]}, source "
                f"{pairs[0][1]}: give one label a position and one a source token, counted from 0."
            )


def _limits(values: pd.Series, value: str, limit: float | None) -> tuple[float, float]:
    """Where the colours begin and end; zero is in the middle of a signed scale, at the start of another."""
    largest, signed = float(values.abs().fillna(0).max()), SCALES[value].signed
    if not signed and (values < 0).any():
        raise InputError(f"{value} holds {values.min():.3g}, but cannot be negative.")
    if limit is not None and not limit >= largest:
        raise InputError(
            f"limit={limit}: {value} reaches {largest:.3g} in size, which would have no colour of its own."
        )
    limit = limit or largest or 1.0  # all zero: any scale will do
    return (-limit if signed else 0.0), limit

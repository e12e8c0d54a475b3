"""Figures of estimates: dots on their intervals, a row a term, and what two of them say of one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from addends.checks import refuse_repeated, require_columns
from addends.errors import InputError
from addends.figures.direct import key_above
from addends.figures.plots import rows_of
from addends.figures.style import COMPONENT_COLOURS, GREY, SERIES_COLOURS, SERIES_MARKERS


def correlations(data: pd.DataFrame, values: dict[str, str], ax: plt.Axes | None = None, y: str = "term") -> plt.Axes:
    """Correlation coefficients of runs as dots, a row a term, a colour a way of computing them.

    Parameters
    ----------
    data : DataFrame
        One row a run (and ``y``), with the columns that ``values`` names.
    values : dict
        {column: name above the axes}, two at least: a correlation of levels is never shown alone.

    Raises
    ------
    InputError
        If one column is named alone, or a column is missing.
    """
    if len(values) < 2:
        raise InputError(f"values={values}: name a detrended version beside the correlation of levels.")
    require_columns(data, (y, "run", *values), "correlations")
    ax = ax or plt.gca()
    rows = rows_of(data, y)
    crowded = data["run"].nunique() > len(SERIES_COLOURS)
    look: dict[str, Any] = {"markersize": 3 if crowded else 5, "alpha": 0.5 if crowded else 1, "linestyle": ""}
    colours = dict(zip(values.values(), SERIES_COLOURS, strict=False))
    markers = dict(zip(values.values(), SERIES_MARKERS, strict=False))
    for (column, name), shift in zip(values.items(), _shifts(len(values)), strict=True):
        height = data[y].map(rows.index) + shift
        ax.plot(data[column], height, marker=markers[name], color=colours[name], **look)
    _rows(ax, rows, y)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set(xlim=(-1.05, 1.05), xlabel="Spearman's rho, a mark a run")
    key_above(ax, colours, markers)
    return ax


def own_and_other(data: pd.DataFrame, label: str, ax: plt.Axes | None = None, y: str = "row") -> plt.Axes:
    """Dumbbells: an effect with the run's own quality, and with that of other runs, a row a cell, the largest on top.

    Parameters
    ----------
    data : DataFrame
        ``y`` (the name of the row), own, other.
    label : str
        Of the horizontal axis, with the unit.

    Raises
    ------
    InputError
        If a column is missing, or a row stands twice.
    """
    require_columns(data, (y, "own", "other"), "own_and_other")
    refuse_repeated(data, (y,), "own_and_other", "Give one row a cell.")
    ax = ax or plt.gca()
    drawn = data.sort_values("own", ascending=False, ignore_index=True)
    colours = {"its own quality": SERIES_COLOURS[0], "another run's": SERIES_COLOURS[1]}
    ax.hlines(drawn.index, drawn["own"], drawn["other"], color=GREY, linewidth=2, zorder=1)
    for column, colour, marker in zip(("own", "other"), colours.values(), "os", strict=True):
        ax.plot(drawn[column], drawn.index, marker, color=colour, markersize=6 if marker == "o" else 4)
    _rows(ax, list(drawn[y]), "")
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_xlabel(label)
    key_above(ax, colours, {"another run's": "s", "its own quality": "o"})
    return ax


def shares(data: pd.DataFrame, ax: plt.Axes | None = None, y: str = "term") -> plt.Axes:
    """Shares of variance with their intervals, a row a term, a colour a component.

    Parameters
    ----------
    data : DataFrame
        ``y``, component, share, share_lower, share_upper.

    Raises
    ------
    InputError
        If a column is missing.
    """
    require_columns(data, (y, "component", "share", "share_lower", "share_upper"), "shares")
    drawn = data.rename(columns={"share": "estimate", "share_lower": "lower", "share_upper": "upper"})
    ax = slopes(drawn, "component", "share of the variance, with 95 % interval", ax=ax, y=y)
    ax.set_xlim(-0.02, 1.02)
    return ax


def stacked_shares(
    data: pd.DataFrame, components: Sequence[str], ax: plt.Axes | None = None, y: str = "term"
) -> plt.Axes:
    """One bar a row, cut into shares of the variance: the first component from the left, the second from the right.

    Ticks on the first component's end are its interval; its share stands in the bar. Right of the middle it is larger
    than all others together.

    Parameters
    ----------
    data : DataFrame
        ``y``, component, share, share_lower, share_upper. The shares of a row sum to 1.
    components : sequence of str
        The components in the order of the bar, from left to right.

    Raises
    ------
    InputError
        If a column is missing, a pair of ``y`` and component stands twice, a component is absent, or the shares of a
        row do not sum to 1.
    """
    require_columns(data, (y, "component", "share", "share_lower", "share_upper"), "stacked_shares")
    refuse_repeated(data, (y, "component"), "stacked_shares", "Choose one layer and one method before drawing.")
    rows = rows_of(data, y)
    wide = data.pivot(index=y, columns="component", values="share").reindex(rows)
    absent = [name for name in components if name not in wide]
    if absent or not wide[list(components)].sum(axis=1).sub(1).abs().lt(1e-6).all():
        raise InputError(
            f"stacked_shares: the shares of {list(components)} in each row must be there and sum to 1; the frame has "
            f"{list(wide.columns)}. Name all components of the split."
        )
    ax = ax or plt.gca()
    colours = {name: COMPONENT_COLOURS.get(name, grey) for name, grey in zip(components, _GREYS, strict=False)}
    base = pd.Series(0.0, index=rows)
    for name, colour in colours.items():
        ax.barh(range(len(rows)), wide[name], left=base, color=colour, height=0.72, edgecolor="white")
        base = base + wide[name]
    first = data[data["component"] == components[0]].set_index(y).loc[rows]
    heights = range(len(rows))
    ax.hlines(heights, first["share_lower"], first["share_upper"], color="black", linewidth=1.2)
    ax.plot([first["share_lower"], first["share_upper"]], [heights, heights], "|", color="black", markersize=7)
    for height, share in zip(heights, first["share"], strict=True):
        ax.text(0.01, height, f"{share:.2f}", color="white", va="center", fontsize="small", fontweight="bold")
    ax.axvline(0.5, color="black", linewidth=1, linestyle=":")
    _rows(ax, rows, y)
    ax.set(xlim=(0, 1), xlabel="share of the variance")
    key_above(ax, colours)
    return ax


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
    require_columns(data, (y, hue, "estimate"), "slopes")
    refuse_repeated(data, (y, hue), "slopes", "Choose one layer and one method before drawing.")
    levels = list(dict.fromkeys(data[hue]))
    if len(levels) > len(SERIES_COLOURS):
        raise InputError(f"{hue!r} has {len(levels)} levels; {len(SERIES_COLOURS)} can be told apart in one row.")
    ax = ax or plt.gca()
    rows = rows_of(data, y)
    colours = dict(zip(map(str, levels), SERIES_COLOURS, strict=False))
    colours |= {name: COMPONENT_COLOURS[name] for name in colours if name in COMPONENT_COLOURS}
    markers = dict(zip(colours, SERIES_MARKERS, strict=False))
    ax.axvline(0, color="black", linewidth=0.8)
    for level, shift in zip(levels, _shifts(len(levels)), strict=True):
        part, name = data[data[hue] == level].set_index(y), str(level)
        height = [rows.index(row) + shift for row in part.index]
        if {"lower", "upper"} <= set(part.columns):
            ax.hlines(height, part["lower"], part["upper"], color=colours[name], linewidth=2.5, alpha=0.6)
        ax.plot(part["estimate"], height, markers[name], markersize=5, color=colours[name])
    _rows(ax, rows, y)
    ax.set_xlabel(label)
    if legend:
        key_above(ax, colours, markers)
    return ax


def slopes_of_runs(
    data: pd.DataFrame, over: pd.DataFrame, label: str, ax: plt.Axes | None = None, y: str = "term"
) -> plt.Axes:
    """The slope in each run as a grey dot on its interval, and the mean of the runs' slopes with its interval on top.

    Parameters
    ----------
    data, over : DataFrame
        `statistics.slopes_by_level` gives both, here of one layer and method: ``y``, run, estimate, lower, upper; and
        ``y``, mean, lower, upper.
    label : str
        Of the horizontal axis, with the unit.

    Raises
    ------
    InputError
        If a column is missing, or a pair of ``y`` and run, or a level of ``y`` in ``over``, stands twice.
    """
    require_columns(data, (y, "run", "estimate", "lower", "upper"), "slopes_of_runs")
    require_columns(over, (y, "mean", "lower", "upper"), "slopes_of_runs")
    refuse_repeated(data, (y, "run"), "slopes_of_runs", "Choose one layer and one method before drawing.")
    refuse_repeated(over, (y,), "slopes_of_runs", "Choose one layer and one method before drawing.")
    ax = ax or plt.gca()
    rows, runs = rows_of(data, y), list(dict.fromkeys(data["run"]))
    height = data[y].map(rows.index) + 0.6 * ((data["run"].map(runs.index) + 0.5) / len(runs) - 0.5)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.hlines(height, data["lower"], data["upper"], color=GREY, linewidth=0.8, alpha=0.5)
    ax.plot(data["estimate"], height, "o", markersize=2.5, color=GREY)
    middle, colours = over[y].map(rows.index), {"each run": GREY, "mean over runs": SERIES_COLOURS[1]}
    ax.hlines(middle, over["lower"], over["upper"], color=SERIES_COLOURS[1], linewidth=3, alpha=0.7, zorder=3)
    ax.plot(over["mean"], middle, "o", markersize=6, color=SERIES_COLOURS[1], zorder=4)
    _rows(ax, rows, y)
    ax.set_xlabel(label)
    key_above(ax, colours, {"each run": "o", "mean over runs": "o"})
    return ax


def crosses(data: pd.DataFrame, x: str, y: str, labels: tuple[str, str], ax: plt.Axes | None = None) -> plt.Axes:
    """Two slopes of each cell as a cross: its arms are the two intervals; on the diagonal both slopes are equal.

    Cells whose second slope is clear of zero have a name and a colour; the others are grey.

    Parameters
    ----------
    data : DataFrame
        cell (the name), and for each of ``x`` and ``y`` the estimate in the column of that name and its interval in
        ``<name>_lower`` and ``<name>_upper``.
    labels : tuple of str
        Of the two axes, with the unit.

    Raises
    ------
    InputError
        If a column is missing, or a cell stands twice.
    """
    limits = [f"{name}_{end}" for name in (x, y) for end in ("lower", "upper")]
    require_columns(data, ("cell", x, y, *limits), "crosses")
    refuse_repeated(data, ("cell",), "crosses", "Choose one quality before drawing.")
    ax = ax or plt.gca()
    for line in (ax.axhline, ax.axvline):
        line(0, color="black", linewidth=0.8)
    ax.axline((0, 0), slope=1, color=GREY, linewidth=1, linestyle="--")
    for row in data.to_dict("records"):
        clear = row[f"{y}_lower"] > 0 or row[f"{y}_upper"] < 0
        colour = SERIES_COLOURS[0] if clear else GREY
        look: dict[str, Any] = {"color": colour, "linewidth": 2 if clear else 1, "alpha": 0.8 if clear else 0.5}
        ax.hlines(row[y], row[f"{x}_lower"], row[f"{x}_upper"], **look)
        ax.vlines(row[x], row[f"{y}_lower"], row[f"{y}_upper"], **look)
        if clear:
            ax.annotate(
                row["cell"], (row[x], row[y]), (4, 4), textcoords="offset points", color=colour, fontsize="small"
            )
    ax.set(xlabel=labels[0], ylabel=labels[1])
    return ax


# What is no run and no sentence: interactions and rest, from dark to light.
_GREYS = ("#3F3F3F", "#4C4C4C", "#5F5F5F", "#8A8A8A", "#A0A0A0")


def _shifts(count: int) -> list[float]:
    """Where in its row each of ``count`` marks stands, from above to below."""
    step = min(0.22, 0.7 / count)
    return [step * (number - (count - 1) / 2) for number in range(count)]


def _rows(ax: plt.Axes, rows: Sequence, label: str) -> None:
    """Name the rows, the first on top."""
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.set_ylabel(label)

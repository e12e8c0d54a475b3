"""The figures of the book: each function takes a tidy frame and an axes, draws, and returns the axes."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from addends.checks import refuse_repeated, require_columns
from addends.errors import InputError
from addends.figures.style import (
    INDICATOR_LABELS,
    METRIC_LABELS,
    SERIES_COLOURS,
    SINGLE_STACK_NAMES,
    TERM_NAMES,
    in_order,
    term_palette,
)

GREY = "#7F7F7F"  # of what is beside a mean or an estimate: single runs, theory


def stacked_importance(data: pd.DataFrame, tokens: Sequence[str], ax: plt.Axes | None = None) -> plt.Axes:
    """Bars of importance, one a token, stacked by term: shares above zero upward, shares below it downward.

    Parameters
    ----------
    data : DataFrame
        One layer of one sentence as `addends.indicators` gives it: term, position, importance.
    tokens : sequence of str
        The label of each position.
    """
    require_columns(data, ("term", "position", "importance"), "stacked_importance")
    refuse_repeated(
        data, ("term", "position"), "stacked_importance", "Choose one layer of one sentence before drawing."
    )
    wide = data.pivot(index="position", columns="term", values="importance")
    if len(wide) != len(tokens):
        raise InputError(f"{len(tokens)} tokens for {len(wide)} positions: give one label a position of one sentence.")
    ax = ax or plt.gca()
    terms = in_order(data["term"])
    upward, downward = wide.iloc[:, 0] * 0, wide.iloc[:, 0] * 0
    for term, colour in term_palette(terms).items():
        share = wide[term]
        base = upward.where(share >= 0, downward)
        ax.bar(wide.index, share, bottom=base, color=colour, width=0.8, label=_names(terms)[term], edgecolor="white")
        upward, downward = upward + share.clip(lower=0), downward + share.clip(upper=0)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_xticks(wide.index, tokens)
    if len(tokens) > 8:
        ax.set_xticks(wide.index, tokens, rotation=35, ha="right", rotation_mode="anchor")
    ax.grid(axis="x", visible=False)
    ax.set(xlabel="the token this state predicts", ylabel=INDICATOR_LABELS["importance"])
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def over_layers(data: pd.DataFrame, indicator: str, ax: plt.Axes | None = None, legend: bool = True) -> plt.Axes:
    """An indicator over layers, a colour a term: one thin line a run, a thick one for their mean.

    Parameters
    ----------
    data : DataFrame
        layer, term, the indicator and, if there are several, run; rows beyond that are averaged.
    """
    require_columns(data, ("layer", "term", indicator), "over_layers")
    ax = ax or plt.gca()
    terms = in_order(data["term"])
    drawn = data.assign(term=data["term"].map(_names(terms)))
    common = {
        "data": drawn,
        "x": "layer",
        "y": indicator,
        "hue": "term",
        "hue_order": [_names(terms)[term] for term in terms],
        "palette": list(term_palette(terms).values()),
        "errorbar": None,
        "ax": ax,
    }
    if "run" in data:
        runs = drawn.groupby(["run", "layer", "term"], as_index=False)[indicator].mean()
        sns.lineplot(**{**common, "data": runs, "estimator": None}, units="run", legend=False, linewidth=0.8, alpha=0.6)
    sns.lineplot(**common, marker="o", linewidth=2, legend=legend)
    ax.set_xticks(sorted(data["layer"].unique()))
    ax.set(xlabel="layer (0: the first layer's input)", ylabel=INDICATOR_LABELS[indicator])
    if legend:
        sns.move_legend(ax, "upper left", bbox_to_anchor=(1, 1), title=None)
    return ax


def over_steps(data: pd.DataFrame, value: str, ax: plt.Axes | None = None, hue: str = "run") -> plt.Axes:
    """A quantity over training steps, on a logarithmic scale: a line a run, or coloured by term.

    More runs than there are colours are thin lines, grey or in the colour of their term, under a thick one for their
    mean.

    Parameters
    ----------
    data : DataFrame
        checkpoint, the column ``value``, and the column ``hue`` ("run" or "term"); with hue="term", a line a run.
    """
    require_columns(data, ("checkpoint", value, hue), "over_steps")
    ax = ax or plt.gca()
    crowded = "run" in data and data["run"].nunique() > len(SERIES_COLOURS)
    thin = {"units": "run", "estimator": None, "linewidth": 0.6, "alpha": 0.5}
    if hue == "term":
        terms = in_order(data["term"])
        names, colours = _names(terms), list(term_palette(terms).values())
        drawn = data.assign(term=data["term"].map(names))
        common = {"data": drawn, "x": "checkpoint", "y": value, "hue": hue, "ax": ax}
        common |= {"hue_order": list(names.values()), "palette": colours}
        if crowded:
            sns.lineplot(**common, **thin, legend=False)
            sns.lineplot(**common, errorbar=None, linewidth=2)
        else:
            sns.lineplot(**common, **({"units": "run", "estimator": None} if "run" in data else {}))
    elif crowded:
        sns.lineplot(data, x="checkpoint", y=value, ax=ax, color=GREY, **thin)
        label = f"mean of {data['run'].nunique()} runs"
        sns.lineplot(
            data, x="checkpoint", y=value, ax=ax, color=SERIES_COLOURS[0], errorbar=None, linewidth=2, label=label
        )
    else:
        levels = data[hue].nunique()
        extra = {"palette": list(SERIES_COLOURS[:levels])} if levels <= len(SERIES_COLOURS) else {}
        sns.lineplot(data, x="checkpoint", y=value, hue=hue, ax=ax, **extra)
    ax.set_xscale("log")
    label = {**INDICATOR_LABELS, **METRIC_LABELS}.get(value, value)
    ax.set(xlabel="training step (log scale)", ylabel=label)
    sns.move_legend(ax, "upper left", bbox_to_anchor=(1, 1), title=None)
    return ax


def correlations(data: pd.DataFrame, values: dict[str, str], ax: plt.Axes | None = None, y: str = "term") -> plt.Axes:
    """Correlation coefficients of runs as dots, a row a term, a colour a way of computing them.

    Parameters
    ----------
    data : DataFrame
        One row a run (and ``y``), with the columns that ``values`` names.
    values : dict
        {column: label in the legend}, two at least: a correlation of levels is never shown alone.
    """
    if len(values) < 2:
        raise InputError(f"values={values}: name a detrended version beside the correlation of levels.")
    require_columns(data, (y, "run", *values), "correlations")
    ax = ax or plt.gca()
    tall = data.melt(id_vars=[y, "run"], value_vars=list(values), var_name="version", value_name="spearman")
    tall["version"] = tall["version"].map(values)
    crowded = data["run"].nunique() > len(SERIES_COLOURS)
    sns.stripplot(
        tall,
        x="spearman",
        y=y,
        order=_rows(data, y),
        hue="version",
        dodge=True,
        jitter=False,
        size=3 if crowded else 5,
        alpha=0.5 if crowded else 1,
        palette=list(SERIES_COLOURS[: len(values)]),
        ax=ax,
    )
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set(xlim=(-1.05, 1.05), xlabel="Spearman's rho, a dot a run", ylabel=y)
    sns.move_legend(ax, "upper left", bbox_to_anchor=(1, 1), title=None)
    return ax


def shares(data: pd.DataFrame, ax: plt.Axes | None = None, y: str = "term") -> plt.Axes:
    """Shares of variance with their intervals, a row a term, a colour a component.

    Parameters
    ----------
    data : DataFrame
        ``y``, component, share, share_lower, share_upper.
    """
    require_columns(data, (y, "component", "share", "share_lower", "share_upper"), "shares")
    ax = ax or plt.gca()
    rows, components = _rows(data, y), list(dict.fromkeys(data["component"]))
    for number, component in enumerate(components):
        part = data[data["component"] == component].set_index(y).loc[rows]
        height = [row + 0.22 * (number - (len(components) - 1) / 2) for row in range(len(rows))]
        colour = SERIES_COLOURS[number]
        ax.hlines(height, part["share_lower"], part["share_upper"], color=colour, linewidth=2.5, alpha=0.6)
        ax.plot(part["share"], height, "o", color=colour, label=component)
    ax.set_yticks(range(len(rows)), rows)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set(xlim=(-0.02, 1.02), xlabel="share of the variance, with 95 % interval", ylabel=y)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
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
    rows = _rows(data, y)
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
    rows, runs = _rows(data, y), list(dict.fromkeys(data["run"]))
    height = data[y].map(rows.index) + 0.6 * ((data["run"].map(runs.index) + 0.5) / len(runs) - 0.5)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.hlines(height, data["lower"], data["upper"], color=GREY, linewidth=0.8, alpha=0.5)
    ax.plot(data["estimate"], height, "o", markersize=2.5, color=GREY, label="each run")
    middle = over[y].map(rows.index)
    ax.hlines(middle, over["lower"], over["upper"], color=SERIES_COLOURS[1], linewidth=3, alpha=0.7, zorder=3)
    ax.plot(over["mean"], middle, "o", markersize=6, color=SERIES_COLOURS[1], zorder=4, label="mean over runs")
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.set(xlabel=label, ylabel=y)
    return ax


def against_runs(data: pd.DataFrame, theory: pd.DataFrame, label: str, ax: plt.Axes | None = None) -> plt.Axes:
    """An estimate and its interval against the number of runs that it rests on, and what theory lets expect.

    A dot is the median over subsets of runs, the bar beside it their range; the thick line goes from the median of the
    lower limits to that of the upper ones, the thin line from the lowest limit to the highest. The dashed lines are
    the limits that theory derives from all runs.

    Parameters
    ----------
    data : DataFrame
        As `statistics.over_subsets` gives it, of one group: runs, median, lowest, highest, lower, upper, lower_lowest,
        upper_highest.
    theory : DataFrame
        runs, lower, upper; without rows where there is none.
    label : str
        Of the vertical axis, with the unit.

    Raises
    ------
    InputError
        If a column is missing, or a number of runs stands twice in ``data``.
    """
    parts = ("median", "lowest", "highest", "lower", "upper", "lower_lowest", "upper_highest")
    require_columns(data, ("runs", *parts), "against_runs")
    require_columns(theory, ("runs", "lower", "upper"), "against_runs")
    refuse_repeated(data, ("runs",), "against_runs", "Choose one indicator before drawing.")
    ax = ax or plt.gca()
    estimates, limits = SERIES_COLOURS[:2]
    ax.vlines(data["runs"], data["lower_lowest"], data["upper_highest"], color=limits, linewidth=1, alpha=0.7)
    ax.vlines(data["runs"], data["lower"], data["upper"], color=limits, linewidth=3, alpha=0.6, label="interval")
    ax.vlines(data["runs"] + 0.35, data["lowest"], data["highest"], color=estimates, linewidth=3, label="range")
    ax.plot(data["runs"], data["median"], "o", color=estimates, label="estimate")
    for side in ("lower", "upper"):
        name = "theory" if side == "lower" and len(theory) else None
        ax.plot(theory["runs"], theory[side], linestyle="--", color=GREY, linewidth=1.2, label=name)
    ax.set_xticks(data["runs"])
    ax.grid(axis="x", visible=False)
    ax.set(xlabel="runs", ylabel=label)
    return ax


def deviations(data: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Quantiles of the released distances against those of Student's t, a line a set, with the band of the replays.

    Where nothing but sampling keeps the released numbers from the derived ones, the line of a set runs along the
    diagonal and inside its band.

    Parameters
    ----------
    data : DataFrame
        As `replication.replays.replay` returns its quantiles: set, quantile (of Student's t), released, lower, upper.
        A set that was not replayed has no lower and upper, and gets no band.

    Raises
    ------
    InputError
        If a column is missing, there is no row, or there are more sets than colours.
    """
    require_columns(data, ("set", "quantile", "released", "lower", "upper"), "deviations")
    sets = list(dict.fromkeys(data["set"]))
    if not 1 <= len(sets) <= len(SERIES_COLOURS):
        raise InputError(f"The frame has {len(sets)} sets; from 1 to {len(SERIES_COLOURS)} can be told apart.")
    ax = ax or plt.gca()
    ax.axline((0, 0), slope=1, color="black", linewidth=0.8, linestyle="--")
    for name, colour, marker in zip(sets, SERIES_COLOURS, "osD^vP", strict=False):
        rows = data[data["set"] == name].sort_values("quantile")
        if rows["lower"].notna().any():
            ax.fill_between(rows["quantile"], rows["lower"], rows["upper"], color=colour, alpha=0.15, linewidth=0)
        ax.plot(
            rows["quantile"], rows["released"], color=colour, marker=marker, markersize=3, linewidth=1.2, label=name
        )
    ax.set(xlabel="quantile of Student's t with 9 degrees of freedom", ylabel="released less derived (standard errors)")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def _rows(data: pd.DataFrame, y: str) -> list:
    """The levels of ``y`` from top to bottom: terms in their order, anything else as it comes."""
    return in_order(data[y]) if y == "term" else list(dict.fromkeys(data[y]))


def _names(terms: Sequence[str]) -> dict[str, str]:
    """Full names: those of the method that has exactly these terms, else the letters."""
    for names in (*TERM_NAMES.values(), *SINGLE_STACK_NAMES.values()):
        if set(terms) == set(names):
            return {term: names[term] for term in terms}
    return {term: term for term in terms}

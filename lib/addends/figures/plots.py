"""Figures of terms, tokens and steps: each function takes a tidy frame and an axes, draws, and returns the axes."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from addends.checks import refuse_repeated, require_columns
from addends.errors import InputError
from addends.figures.direct import key_above, name_ends
from addends.figures.style import (
    GREY,
    INDICATOR_LABELS,
    METRIC_LABELS,
    SERIES_COLOURS,
    SERIES_MARKERS,
    in_order,
    method_of,
    term_names,
    term_palette,
)


def stacked_importance(data: pd.DataFrame, tokens: Sequence[str], ax: plt.Axes | None = None) -> plt.Axes:
    """Bars of importance, a row a token, stacked by term: shares above zero to the right, shares below it to the left.

    The vertical line at 1 is what the bars of a row sum to: what reaches beyond it is as long as what lies left of 0.

    Parameters
    ----------
    data : DataFrame
        One layer of one sentence as `addends.indicators` gives it: term, position, importance.
    tokens : sequence of str
        The label of each position.

    Raises
    ------
    InputError
        If a column is missing, a pair of term and position stands twice, or the labels do not fit.
    """
    require_columns(data, ("term", "position", "importance"), "stacked_importance")
    refuse_repeated(
        data, ("term", "position"), "stacked_importance", "Choose one layer of one sentence before drawing."
    )
    wide = data.pivot(index="position", columns="term", values="importance")
    if len(wide) != len(tokens):
        raise InputError(f"{len(tokens)} tokens for {len(wide)} positions: give one label a position of one sentence.")
    ax = ax or plt.gca()
    by = method_of(data)
    names = term_names(data["term"], by)
    right, left = wide.iloc[:, 0] * 0, wide.iloc[:, 0] * 0
    for term, colour in term_palette(data["term"], by).items():
        share = wide[term]
        base = right.where(share >= 0, left)
        ax.barh(wide.index, share, left=base, color=colour, height=0.8, label=names[term], edgecolor="white")
        right, left = right + share.clip(lower=0), left + share.clip(upper=0)
    for line, width in ((0, 0.8), (1, 1.6)):
        ax.axvline(line, color="black", linewidth=width)
    ax.set_yticks(wide.index, tokens)
    ax.set_ylim(len(wide) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    ax.set(ylabel="the token this state predicts", xlabel=INDICATOR_LABELS["importance"])
    key_above(ax, {names[term]: colour for term, colour in term_palette(data["term"], by).items()})
    return ax


def over_layers(data: pd.DataFrame, indicator: str, ax: plt.Axes | None = None) -> plt.Axes:
    """An indicator over layers, a colour a term, named at its end: one thin line a run, a thick one for their mean.

    Parameters
    ----------
    data : DataFrame
        layer, term, the indicator and, if there are several, run; rows beyond that are averaged. Of one method.

    Raises
    ------
    InputError
        If a column is missing, or the rows are of two methods.
    """
    require_columns(data, ("layer", "term", indicator), "over_layers")
    ax = ax or plt.gca()
    by = method_of(data)
    names, ends = term_names(data["term"], by), []
    for (term, colour), marker in zip(term_palette(data["term"], by).items(), SERIES_MARKERS, strict=False):
        rows = data[data["term"] == term]
        if "run" in data:
            runs = rows.pivot_table(index="layer", columns="run", values=indicator)
            ax.plot(runs.index, runs, color=colour, linewidth=0.6, alpha=0.4)
        means = rows.groupby("layer")[indicator].mean()
        ax.plot(means.index, means, color=colour, marker=marker, markersize=5, linewidth=2)
        if means.notna().any():  # a part that is zero has no cosine, and no line
            ends.append((float(means.dropna().iloc[-1]), names[term], colour))
    ax.set_xticks(sorted(data["layer"].unique()))
    ax.grid(axis="x", visible=False)
    ax.set(xlabel="layer (0: the first layer's input)", ylabel=_in_two_lines(INDICATOR_LABELS[indicator]))
    name_ends(ax, ends)
    return ax


def over_steps(data: pd.DataFrame, value: str, ax: plt.Axes | None = None, hue: str = "run") -> plt.Axes:
    """A quantity over training steps, on a logarithmic scale: a line a run, or coloured by term, named at its end.

    More runs than there are colours are thin lines, grey or in the colour of their term, under a thick one for their
    mean.

    Parameters
    ----------
    data : DataFrame
        checkpoint, the column ``value``, and the column ``hue`` ("run" or "term"); with hue="term", a line a run.

    Raises
    ------
    InputError
        If a column is missing, or the rows are of two methods.
    """
    require_columns(data, ("checkpoint", value, hue), "over_steps")
    ax = ax or plt.gca()
    count = data["run"].nunique() if "run" in data else 1
    crowded = count > len(SERIES_COLOURS)
    if hue == "term":
        by = method_of(data)
        names, colours = term_names(data["term"], by), term_palette(data["term"], by)
    elif crowded:
        data = data.assign(**{hue: f"mean of {count} runs"}, each=data["run"])
        names, colours = {level: level for level in data[hue].unique()}, {data[hue].iloc[0]: SERIES_COLOURS[0]}
    else:
        names = {level: str(level) for level in data[hue].unique()}
        colours = dict(zip(names, sns.color_palette(SERIES_COLOURS, len(names)), strict=True))
    each, ends = "each" if "each" in data else "run", []
    for level, colour in colours.items():
        rows = data[data[hue] == level]
        lines = rows.pivot_table(index="checkpoint", columns=each if each in data else hue, values=value)
        thin = {"linewidth": 0.6, "alpha": 0.5, "color": GREY if hue == "run" else colour}
        ax.plot(lines.index, lines, **(thin if crowded else {"color": colour}))
        if crowded:
            ax.plot(lines.index, lines.mean(axis=1), color=colour, linewidth=2)
        if lines.notna().any(axis=None):
            ends.append((float(lines.mean(axis=1).dropna().iloc[-1]), names[level], colour))
    ax.set_xscale("log")
    label = {**INDICATOR_LABELS, **METRIC_LABELS}.get(value, value)
    ax.set(xlabel="training step (log scale)", ylabel=_in_two_lines(label))
    name_ends(ax, ends)
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
    ax.vlines(data["runs"], data["lower"], data["upper"], color=limits, linewidth=3, alpha=0.6)
    ax.vlines(data["runs"] + 0.35, data["lowest"], data["highest"], color=estimates, linewidth=3)
    ax.plot(data["runs"], data["median"], "o", color=estimates)
    for side in ("lower", "upper"):
        ax.plot(theory["runs"], theory[side], linestyle="--", color=GREY, linewidth=1.2)
    ax.set_xticks(data["runs"])
    ax.grid(axis="x", visible=False)
    ax.set(xlabel="runs", ylabel=label)
    key_above(
        ax,
        {"estimate and its range": estimates, "95 % interval": limits} | ({"theory": GREY} if len(theory) else {}),
        {"estimate and its range": "o", "95 % interval": "|", "theory": "_"},
    )
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
    colours = dict(zip(sets, SERIES_COLOURS, strict=False))
    markers = dict(zip(sets, SERIES_MARKERS, strict=False))
    for name, colour in colours.items():
        rows = data[data["set"] == name].sort_values("quantile")
        if rows["lower"].notna().any():
            ax.fill_between(rows["quantile"], rows["lower"], rows["upper"], color=colour, alpha=0.15, linewidth=0)
        ax.plot(rows["quantile"], rows["released"], color=colour, marker=markers[name], markersize=3, linewidth=1.2)
    ax.set(xlabel="quantile of Student's t with 9 degrees of freedom", ylabel="released less derived (standard errors)")
    key_above(ax, colours, markers)
    return ax


def _in_two_lines(label: str) -> str:
    """The unit below the quantity: a panel is lower than the two are long."""
    return label.replace(" (", "\n(", 1)


def rows_of(data: pd.DataFrame, y: str) -> list:
    """The levels of ``y`` from top to bottom: terms in their order, anything else as it comes."""
    return in_order(data[y]) if y == "term" else list(dict.fromkeys(data[y]))

"""Names that stand where the reader looks: at the end of a line, or in colour above the axes. No legend beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.transforms import blended_transform_factory

# The height of a name at the end of a line: its letters and a little air.
_LINE_POINTS = 13.0

# Letters in a line above a panel.
_KEY_LETTERS = 44


def name_ends(ax: plt.Axes, ends: Iterable[tuple[float, str, str]]) -> None:
    """Write each name beside the right edge, in its colour, at the height where its line ends; no two overlap.

    Parameters
    ----------
    ends : iterable of (float, str, str)
        Where a line ends on the vertical axis, its name, its colour.
    """
    ends = sorted(ends)
    low, high = sorted(ax.get_ylim())
    across = ax.transData.transform([(0, low), (0, high)])[:, 1]  # pixels; right for a logarithmic axis too
    pixels = [float(ax.transData.transform((0, end))[1]) for end, _, _ in ends]
    least = _LINE_POINTS * ax.figure.dpi / 72
    beside = blended_transform_factory(ax.transAxes, ax.transAxes)
    for height, (_, name, colour) in zip(apart(pixels, least), ends, strict=True):
        share = (height - across[0]) / (across[1] - across[0])
        ax.text(1.02, share, name, color=colour, va="center", fontsize="small", transform=beside)


def key_above(ax: plt.Axes, colours: Mapping[str, str], markers: Mapping[str, str] | None = None) -> None:
    """Write the names above the axes, each in its colour behind its mark: the width of the panel stays its own.

    Parameters
    ----------
    colours : mapping of str to str
        The colour of each name, in the order in which they are to be read.
    markers : mapping of str to str, optional
        The mark of each; a square where it is not given.
    """
    marks = {name: "s" for name in colours} | dict(markers or {})
    handles = [Line2D([], [], linestyle="", marker=marks[name], color=colour) for name, colour in colours.items()]
    ax.legend(
        handles,
        list(colours),
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=_columns([len(name) for name in colours]),
        labelcolor="linecolor",
        fontsize="small",
        handletextpad=0.1,
        columnspacing=0.9,
        borderpad=0.2,
        borderaxespad=0.1,
    )


def panel_name(ax: plt.Axes, name: str) -> None:
    """Write the name of one of several panels above it, and above its key, where it has one."""
    legend = ax.get_legend()
    names = [len(text.get_text()) for text in legend.get_texts()] if legend else []
    lines = -(-len(names) // _columns(names)) if names else 0
    ax.set_title(name, loc="left", pad=4 + 15 * lines)


def _columns(lengths: Sequence[int]) -> int:
    """In how many columns these names fit above a panel: as many as leave each line within its letters."""
    for columns in range(len(lengths), 1, -1):
        lines = -(-len(lengths) // columns)  # names run down a column first
        widths = [max(lengths[start : start + lines]) + 3 for start in range(0, len(lengths), lines)]
        if sum(widths) <= _KEY_LETTERS:
            return columns
    return 1


def apart(heights: Sequence[float], least: float) -> list[float]:
    """Sorted heights, moved no further than it takes for each two to be ``least`` apart: groups keep their middle."""
    groups = [[height] for height in heights]  # of each, the heights that were wanted
    for _ in heights:
        for k in range(len(groups) - 1):
            one, two = groups[k], groups[k + 1]
            reach = (len(one) + len(two)) / 2 * least
            if sum(two) / len(two) - sum(one) / len(one) < reach * (1 - 1e-9):
                groups[k : k + 2] = [one + two]
                break
    middles = [(sum(group) / len(group), len(group)) for group in groups]
    return [middle + (k - (count - 1) / 2) * least for middle, count in middles for k in range(count)]

"""How far results that were derived again are from the released ones, beside replays of the released procedure."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd

from addends.errors import InputError
from addends.figures.style import SERIES_COLOURS

COLUMNS = ("set", "quantile", "released", "lower", "upper")


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
    missing = [name for name in COLUMNS if name not in data]
    if missing:
        raise InputError(f"The frame lacks {missing}; it has {list(data.columns)}.")
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

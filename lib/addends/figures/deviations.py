"""How far results that were derived again are from the released ones, in the released standard deviations."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from addends.errors import InputError
from addends.figures.style import SERIES_COLOURS

LIMIT = 3


def deviations(data: pd.DataFrame, groups: str = "group", ax: plt.Axes | None = None) -> plt.Axes:
    """Histograms of deviations, an outline a group, with the limits of three released standard deviations.

    Parameters
    ----------
    data : DataFrame
        off (a difference in released standard deviations) and the column ``groups``.

    Raises
    ------
    InputError
        If a column is missing, or there are more groups than colours.
    """
    missing = [name for name in ("off", groups) if name not in data]
    if missing:
        raise InputError(f"The frame lacks {missing}; it has {list(data.columns)}.")
    levels = list(dict.fromkeys(data[groups]))
    if len(levels) > len(SERIES_COLOURS):
        raise InputError(f"{groups!r} has {len(levels)} levels; at most {len(SERIES_COLOURS)} can be told apart.")
    ax = ax or plt.gca()
    reach = np.ceil(max(LIMIT + 1, data["off"].abs().max()))
    bins = np.arange(-reach, reach + 0.25, 0.25)
    common = {"x": "off", "hue": groups, "hue_order": levels, "palette": list(SERIES_COLOURS[: len(levels)])}
    shown = {"element": "step", "fill": False, "stat": "density", "common_norm": False, "linewidth": 1.8}
    sns.histplot(data, bins=bins, ax=ax, **common, **shown)
    for limit in (-LIMIT, LIMIT):
        ax.axvline(limit, color="black", linewidth=0.8, linestyle="--")
    ax.set(xlabel="released minus derived, in released standard deviations", ylabel="density")
    sns.move_legend(ax, "upper left", bbox_to_anchor=(1, 1), title=None)
    return ax

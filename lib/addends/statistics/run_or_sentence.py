"""Run or sentence? The variance of an indicator over several models that read the same sentences, split, and in words.

The models are runs, a sample of all that might have been trained; or checkpoints of one run, which are no sample of
anything: they add no run, however many they are, and get no interval.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from addends.checks import check_choice, rounding_of
from addends.errors import InputError
from addends.tables import INDICATORS
from crossed import crossed_shares, sd_multipliers

UNITS = ("run", "checkpoint")
_CELL = ["by", "layer", "term"]


def shares_of_models(
    frame: pd.DataFrame, indicator: str = "importance", unit: str = "run", draws: int = 20_000, seed: int = 0
) -> pd.DataFrame:
    """Shares of the variance of an indicator: of the models, of the sentences, and the rest.

    ::

        y_rs = mu + a_r + b_s + e_rs        for each method, layer and term by itself: see `crossed.crossed_shares`

    Parameters
    ----------
    frame : DataFrame
        by, layer, term, sentence, the indicator, and a column that is named as ``unit``: one row a model and sentence.
    indicator : str
        One of ``INDICATORS``.
    unit : {"run", "checkpoint"}
        What the models are. Checkpoints of one run get no intervals.
    draws, seed
        As for `crossed.crossed_shares`.

    Returns
    -------
    DataFrame
        by, layer, term, component (``unit``, "sentence", "interaction + residual"), levels, share, share_lower,
        share_upper (missing for checkpoints, and where ``note`` says that an interval would say nothing), note. Layers
        and terms are left out where the indicator is missing or does not vary (a term that is zero, say).

    Raises
    ------
    InputError
        If a choice is none of the allowed, nothing varies, or as `crossed.crossed_shares` does.
    """
    check_choice("indicator", indicator, INDICATORS, "shares_of_models")
    check_choice("unit", unit, UNITS, "shares_of_models")
    # Of float32: a term whose importance is 1 in every sentence differs from it by rounding.
    rounding = max(rounding_of(frame[indicator]), 4 * float(np.finfo("float32").eps))
    values = frame.groupby(_CELL)[indicator]
    spread, size = values.transform("max") - values.transform("min"), values.transform(lambda one: one.abs().max())
    lacking = values.transform(lambda one: one.isna().any())
    usable = frame[~lacking.astype(bool) & (spread > rounding * size)]
    if not len(usable):
        raise InputError(f"shares_of_models: {indicator!r} varies in no layer and term: there is nothing to split.")
    found = crossed_shares(usable, indicator, unit, "sentence", by=_CELL, draws=draws, seed=seed)
    # A sample has an interval, and not where its levels agree so closely by chance that it would be 0 to 0.
    told = (found["note"] == "") if unit == "run" else pd.Series(False, index=found.index)
    found[["share_lower", "share_upper"]] = found[["share_lower", "share_upper"]].where(told, np.nan)
    return found[[*_CELL, "component", "levels", "share", "share_lower", "share_upper", "note"]]


def models_in_words(shares: pd.DataFrame, unit: str = "run", indicator: str = "importance") -> list[str]:
    """What `shares_of_models` found, in sentences: whose variance it is, how sure one may be, and what it cannot say.

    Parameters
    ----------
    shares : DataFrame
        As `shares_of_models` gives them.
    unit, indicator : str
        As given there.

    Returns
    -------
    list of str
    """
    check_choice("unit", unit, UNITS, "models_in_words")
    last = shares["layer"] == shares.groupby("by")["layer"].transform("max")
    count = int(shares.loc[shares["component"] == unit, "levels"].iloc[0])
    sentences = int(shares.loc[shares["component"] == "sentence", "levels"].iloc[0])
    said = [
        f"{count} {unit}s and {sentences} sentences. After the last layer the sentence has the largest share of the "
        f"variance of {indicator} for {_largest(shares[last])}; in the layers below for {_largest(shares[~last])}."
    ]
    own = shares[last & (shares["component"] == unit)]
    most = own.loc[own["share"].idxmax()]
    where = f"{most['term']} by {most['by']}"
    if unit == "checkpoint":
        return [
            *said,
            f"The checkpoint's share is largest for {where}: {most['share']:.2f}. It says how far {indicator} moved "
            "between these checkpoints, beside how far sentences differ.",
            "Checkpoints of one run add no run: nothing here says what another training run would give, and no "
            "interval does. For that, train from other seeds, and name those models.",
        ]
    interval = "no interval"
    if pd.notna(most["share_lower"]):
        interval = f"95 % interval {most['share_lower']:.2f} to {most['share_upper']:.2f}"
    lower, upper = (float(factor[0]) for factor in sd_multipliers([count]))
    width = float((own["share_upper"] - own["share_lower"]).median())
    return [
        *said,
        f"The run's share is largest for {where}: {most['share']:.2f} ({interval}).",
        f"How little {count} runs say of others: a standard deviation over {count} runs is known within the factors "
        f"{lower:.2f} and {upper:.2g}, however many the sentences. The median width of the interval of the run's share "
        f"is {width:.2f}, where 1 would say nothing at all.",
        "One value for each run and sentence cannot tell their interaction from noise; both are in the rest.",
    ]


def _largest(shares: pd.DataFrame) -> str:
    """For how many terms the sentence's share is the largest: "4 of 5 by sublayer, 2 of 3 by token"."""
    if not len(shares):
        return "nothing (there is one layer alone)"
    first = shares.loc[shares.groupby(_CELL)["share"].idxmax()]
    return " and ".join(
        f"{(part['component'] == 'sentence').sum()} of {len(part)} by {by}" for by, part in first.groupby("by")
    )

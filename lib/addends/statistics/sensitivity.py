"""How much does a conclusion rest on one run, or on what else sentences differ in?"""

from __future__ import annotations

import pandas as pd

import crossed
from addends.checks import require_columns
from addends.errors import InputError
from crossed.balanced import crossed_shares


def each_left_out(data: pd.DataFrame, factor: str, where: str) -> list[tuple[object, pd.DataFrame]]:
    """Each level of ``factor`` with the rows of all the others.

    Raises
    ------
    InputError
        If ``factor`` is no column, or has fewer than three levels, of which one cannot be spared.
    """
    require_columns(data, [factor], where)
    levels = list(dict.fromkeys(data[factor]))
    if len(levels) < 3:
        raise InputError(f"{where}: {factor!r} has the levels {levels}; with one left out, two or more must remain.")
    return [(level, data[data[factor] != level]) for level in levels]


def leave_one_out(data: pd.DataFrame, outcome: str, row: str = "run", column: str = "sentence") -> pd.DataFrame:
    """`crossed_shares` without each level of ``row`` in turn: does a share rest on one run?

    Returns
    -------
    DataFrame
        Tidy: left_out (the level of ``row`` that was), component, share. No intervals: what one level more or less
        does is the question here, and the samples overlap.

    Raises
    ------
    InputError
        As `crossed_shares`; and if ``row`` has fewer than three levels, of which one cannot be spared.
    """
    parts = [
        crossed_shares(rows, outcome, row, column, draws=1_000).assign(left_out=level)
        for level, rows in each_left_out(data, row, "leave_one_out")
    ]
    return pd.concat(parts, ignore_index=True)[["left_out", "component", "share"]]


def with_covariate(data: pd.DataFrame, outcome: str, covariate: str) -> pd.Series:
    """How much of the variance over sentences does a covariate of the sentence account for?

    Two crossed models, ``outcome ~ 1 + (1 | run) + (1 | sentence)`` and the same with ``covariate``, and

        explained = 1 - variance_sentence(with) / variance_sentence(without)

    It can be negative when the covariate explains nothing, and is missing when there is no variance to explain.

    Returns
    -------
    Series
        slope (units of the outcome per unit of the covariate), lower, upper (its interval, by the distribution that
        `MixedFit.inference` names), explained (share of the sentence's variance).

    Raises
    ------
    InputError
        As `mixed.fit`; or if the covariate makes more than one parameter, as a category does.
    """
    without = crossed.fit(f"{outcome} ~ 1 + (1 | run) + (1 | sentence)", data)
    fit = crossed.fit(f"{outcome} ~ {covariate} + (1 | run) + (1 | sentence)", data)
    if len(fit.names) != 2 or fit.names[0] != "Intercept":
        raise InputError(
            f"with_covariate: covariate={covariate!r} makes the parameters {fit.names[1:]}; one number of the sentence "
            "is wanted, whose slope it is. Compare the two models of a category by mixed.fit."
        )
    name = fit.names[1]
    before, after = (each.vcomp.set_index("group")["variance"]["sentence"] for each in (without, fit))
    bounds = fit.conf_int().loc[name]
    explained = 1 - after / before if before else float("nan")
    return pd.Series(
        {"slope": fit.params[name], "lower": bounds["lower"], "upper": bounds["upper"], "explained": explained}
    )

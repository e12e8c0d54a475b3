"""How much does a conclusion rest on one run, or on what else sentences differ in?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

import crossed
from addends.checks import groups_of, require_columns
from addends.errors import InputError


def leave_one_out(
    frame: pd.DataFrame, statistic: Callable[[pd.DataFrame], pd.DataFrame], factor: str = "run"
) -> pd.DataFrame:
    """A statistic without each level of ``factor`` in turn: does it rest on one run?

    ::

        leave_one_out(frame, lambda rows: crossed.crossed_shares(rows, "importance", "run", "sentence", by="term"))

    Parameters
    ----------
    frame : DataFrame
    statistic : function
        Takes a frame like ``frame``, and returns a tidy one. What is centred or scaled over runs is to be so anew in
        it.
    factor : str
        The column whose levels are left out.

    Returns
    -------
    DataFrame
        The column left_out (the level that was), then what ``statistic`` returns. Intervals over these rows would mean
        nothing: the samples overlap, and what one level more or less does is the question.

    Raises
    ------
    InputError
        If ``factor`` is no column, or has fewer than three levels, of which one cannot be spared.
    """
    require_columns(frame, [factor], "leave_one_out")
    levels = list(dict.fromkeys(frame[factor]))
    if len(levels) < 3:
        raise InputError(
            f"leave_one_out: {factor!r} has the levels {levels}; with one left out, two or more must remain."
        )
    tables = []
    for level in levels:
        tables.append(statistic(frame[frame[factor] != level]).copy())
        tables[-1].insert(0, "left_out", level)
    return pd.concat(tables, ignore_index=True)


def explained_by_covariate(
    frame: pd.DataFrame, value: str, covariate: str, by: str | Sequence[str] = ()
) -> pd.DataFrame:
    """How much of the variance over sentences does a covariate of the sentence account for?

    Two crossed models, ``value ~ 1 + (1 | run) + (1 | sentence)`` and the same with ``covariate``, and

        explained = 1 - variance_sentence(with) / variance_sentence(without)

    It can be negative when the covariate explains nothing, and is missing when there is no variance to explain.

    Parameters
    ----------
    frame : DataFrame
        One row a run and sentence (and group of ``by``).
    value, covariate : str
        Columns. The covariate makes one parameter, as numbers do, and categories of two levels.
    by : str or sequence of str
        Columns that split the frame: two models for each of their combinations.

    Returns
    -------
    DataFrame
        The columns of ``by``, then slope (units of the value per unit of the covariate), lower, upper (its interval, by
        the distribution that `MixedFit.inference` names), explained (share of the sentence's variance).

    Raises
    ------
    InputError
        As `crossed.fit`; or if the covariate makes more than one parameter, as a category of three levels does.
    """
    where = "explained_by_covariate"
    rows = []
    for group, part in groups_of(frame, by, ("slope", "lower", "upper", "explained"), where, sort=True):
        without = crossed.fit(f"{value} ~ 1 + (1 | run) + (1 | sentence)", part)
        fit = crossed.fit(f"{value} ~ {covariate} + (1 | run) + (1 | sentence)", part)
        if len(fit.names) != 2 or fit.names[0] != "Intercept":
            raise InputError(
                f"{where}: covariate={covariate!r} makes the parameters {fit.names[1:]}; one number of the sentence is "
                "wanted, whose slope it is. Compare the two models of a category by crossed.fit."
            )
        before, after = (each.vcomp.set_index("group")["variance"]["sentence"] for each in (without, fit))
        bounds = fit.conf_int().loc[fit.names[1]]
        rows.append(
            {
                **group,
                "slope": fit.params[fit.names[1]],
                "lower": bounds["lower"],
                "upper": bounds["upper"],
                "explained": 1 - after / before if before else float("nan"),
            }
        )
    return pd.DataFrame(rows)

"""Differences within runs: which of several levels is the higher, when each run has a number for every one of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from addends.checks import (
    check_level,
    finite_numbers,
    groups_of,
    listed,
    names_of,
    require_columns,
    require_distinct,
)
from addends.errors import InputError

_FOUND = ["first", "second", "estimate", "sd", "lower", "upper", "runs", "alike"]


def paired_differences(
    frame: pd.DataFrame,
    value: str,
    between: str,
    by: str | Sequence[str] = (),
    level: float = 0.95,
    run: str = "run",
) -> pd.DataFrame:
    """The mean over runs of the difference of each two levels within a run, with Student's interval.

    ::

        d_r = y_r,first - y_r,second,    m(d) +- t(R - 1) s(d) / sqrt(R)

    What a run has of all levels alike is taken out: the interval can be far narrower than those of the two means. The
    level holds for one pair. For all P pairs at once, ask for 1 - 0.05 / P (Bonferroni).

    Parameters
    ----------
    frame : DataFrame
        Of several rows of a run and level the mean is taken first.
    value : str
    between : str
        The column whose levels are compared.
    by : str or sequence of str
        Columns that split the frame.
    level : float
    run : str

    Returns
    -------
    DataFrame
        The columns of ``by``; first, second (levels, in the order of their first rows); estimate, sd (of runs), lower,
        upper, runs, alike (in how many runs the difference has the sign of the estimate). With one run sd and limits
        are missing.

        >>> frame = pd.DataFrame({"run": list("aabb"), "method": ["x", "y"] * 2, "rho": [0.5, 0.25, 1.0, 0.25]})
        >>> paired_differences(frame, "rho", "method")[["first", "second", "estimate", "runs", "alike"]]
          first second  estimate  runs  alike
        0     x      y       0.5     2      2

    Raises
    ------
    InputError
        If a column is missing, a value is missing or infinite, there are fewer than two levels, or a run lacks one.
    """
    where = f"paired_differences({value!r})"
    check_level(level, where)
    by = names_of(by, "by", where)
    require_distinct([*by, between, run, value], where, "by, between, run and value")
    require_columns(frame, [*by, between, run], where)
    finite_numbers(frame, value, where, "Leave the rows out where there is nothing to average, and say so.")
    rows = []
    for group, part in groups_of(frame, by, _FOUND, where):
        levels = list(dict.fromkeys(part[between]))
        wide = part.pivot_table(index=run, columns=between, values=value, aggfunc="mean", observed=True)[levels]
        _check_complete(wide, between, group, where)
        runs = len(wide)
        quantile = float(stats.t.ppf((1 + level) / 2, runs - 1)) if runs > 1 else np.nan
        for first, second in combinations(levels, 2):
            each = (wide[first] - wide[second]).to_numpy()  # (run,)
            mean, sd = float(each.mean()), float(each.std(ddof=1)) if runs > 1 else np.nan
            reach, alike = quantile * sd / np.sqrt(runs), int((np.sign(each) == np.sign(mean)).sum())
            found = (first, second, mean, sd, mean - reach, mean + reach, runs, alike)
            rows.append(group | dict(zip(_FOUND, found, strict=True)))
    return pd.DataFrame(rows, columns=[*by, *_FOUND])


def _check_complete(wide: pd.DataFrame, between: str, group: dict, where: str) -> None:
    if wide.shape[1] < 2:
        raise InputError(f"{where}: {between!r} has {wide.shape[1]} level in {group or 'the frame'}: two are compared.")
    lacking = wide.index[wide.isna().any(axis=1)]
    if len(lacking):
        name = wide.columns[wide.loc[lacking[0]].isna()][0]
        raise InputError(
            f"{where}: {len(lacking)} run(s) lack a level of {between!r}: {listed(list(lacking))}; {lacking[0]!r} has "
            f"no {name!r}. Differences are taken within runs: leave out the level, or the runs, and say so."
        )

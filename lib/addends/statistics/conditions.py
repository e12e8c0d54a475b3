"""Quality without time: at one step, do runs that differ in quality differ in an indicator?

Runs may differ by their seeds alone (`across_runs`), or by what they were trained on (`contrast_conditions`). The two
are kept apart, and no slope is drawn over conditions: each pair of conditions is a comparison of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from addends.checks import (
    check_count,
    check_level,
    finite_numbers,
    groups_of,
    is_constant,
    names_of,
    refuse_repeated,
    require_columns,
    require_distinct,
    rounding_of,
)
from addends.errors import InputError
from addends.statistics.p_values import adjusted, permutation_p
from addends.statistics.power import detectable_correlation

FEWEST = 4
_ACROSS = ("runs", "r", "r_lower", "r_upper", "p", "r_disattenuated", "detectable", "note")
_CONTRAST = ("a", "b", "runs_a", "runs_b", "difference", "lower", "upper", "df", "p", "p_holm", "note")
_ONE_ROW = "Each run counts once: name what tells its rows apart in by= (a target, a method), or choose one checkpoint."
_LEAVE_OUT = "Leave such runs or groups out, and say so."


def mean_over_runs(
    frame: pd.DataFrame, value: str, by: str | Sequence[str] = (), level: float = 0.95, run: str = "run"
) -> pd.DataFrame:
    """The mean over runs of one number a run, with Student's interval; of several rows a run their mean is taken first.

    ::

        m +- t(R - 1) s / sqrt(R)        s: the standard deviation of the runs' numbers

    Parameters
    ----------
    frame : DataFrame
    value : str
    by : str or sequence of str
        Columns that split the frame.
    level : float
    run : str

    Returns
    -------
    DataFrame
        The columns of ``by``; estimate, sd (of runs), lower, upper, runs. With one run sd and limits are missing.

        >>> frame = pd.DataFrame({"run": list("aabc"), "y": [1.0, 3.0, 3.0, 4.0]})
        >>> mean_over_runs(frame, "y").round(2)
           estimate   sd  lower  upper  runs
        0       3.0  1.0   0.52   5.48     3

    Raises
    ------
    InputError
        If a column is missing, or a value is missing or infinite.
    """
    where = f"mean_over_runs({value!r})"
    check_level(level, where)
    by = names_of(by, "by", where)
    require_columns(frame, [*by, run], where)
    finite_numbers(frame, value, where, "Leave the rows out where there is nothing to average, and say so.")
    found = ["estimate", "sd", "lower", "upper", "runs"]
    rows = []
    for group, part in groups_of(frame, by, found, where):
        numbers = part.groupby(run, observed=True)[value].mean()
        runs, mean, sd = len(numbers), float(numbers.mean()), float(numbers.std(ddof=1))
        reach = float(stats.t.ppf((1 + level) / 2, runs - 1)) * sd / np.sqrt(runs) if runs > 1 else np.nan
        rows.append(group | dict(zip(found, (mean, sd, mean - reach, mean + reach, runs), strict=True)))
    return pd.DataFrame(rows, columns=[*by, *found])


def across_runs(
    frame: pd.DataFrame,
    indicator: str,
    quality: str,
    by: str | Sequence[str] = ("layer", "term"),
    reliability: float = 1.0,
    level: float = 0.95,
    draws: int = 9_999,
    seed: int = 0,
    run: str = "run",
) -> pd.DataFrame:
    r"""The correlation over runs of an indicator with quality, at one step, and what the design could have seen.

    Each run counts once. With r the Pearson correlation over R runs, the interval is Fisher's, tanh(atanh(r) ± z /
    sqrt(R - 3)); p is by permutation of runs, of all R! of them where these are at most ``draws``. Quality is measured
    on so many sentences, with ``reliability`` rho: attenuation makes r at most sqrt(rho) times the correlation with
    quality itself, so r / sqrt(rho) stands beside it.

    Parameters
    ----------
    frame : DataFrame
        One row a group and run: means over sentences, at one step.
    reliability : float
        Of quality between these runs (`addends.statistics.reliability_between_runs`), above 0 and at most 1.

    Returns
    -------
    DataFrame
        The columns of ``by``, then runs, r, r_lower, r_upper, p, r_disattenuated, detectable (the correlation that so
        many runs find with 80 % power) and note. Where all runs have the same value there is no correlation: all but
        runs and detectable is missing, and the note says so.

    Raises
    ------
    InputError
        If a column is unknown, a run stands twice in a group, a group has fewer than 4 runs, a value is missing, or the
        reliability is out of range.
    """
    where = "across_runs"
    by = names_of(by, "by", where)
    require_distinct([*by, run, indicator, quality], where, "by, run, indicator and quality")
    for name in (indicator, quality):
        finite_numbers(frame, name, where, _LEAVE_OUT)
    require_columns(frame, [*by, run], where)
    refuse_repeated(frame, [*by, run], where, _ONE_ROW)
    check_level(level, where)
    check_count("draws", draws, where)
    if not 0 < reliability <= 1:
        raise InputError(f"{where}: reliability={reliability}: above 0 and at most 1 is possible.")
    rows = []
    for group, part in groups_of(frame, by, _ACROSS, where, sort=True):
        if len(part) < FEWEST:
            raise InputError(f"{where}: the group {group} has {len(part)} run(s); {FEWEST} are wanted.")
        columns = {name: part[name].to_numpy(dtype=float) for name in (indicator, quality)}
        constant = [name for name, values in columns.items() if is_constant(values, rounding_of(part[name]))]
        found = dict.fromkeys(_ACROSS, np.nan) | {"runs": len(part), "note": ""}
        found["detectable"] = detectable_correlation(len(part))
        if constant:
            found["note"] = f"{' and '.join(constant)} is the same in all runs"
        else:
            found |= _correlation(columns[indicator], columns[quality], reliability, level, draws, seed)
        rows.append(group | found)
    return pd.DataFrame(rows)


def _correlation(
    x: np.ndarray, q: np.ndarray, reliability: float, level: float, draws: int, seed: int
) -> dict[str, float]:
    x, q = ((values - values.mean()) / np.linalg.norm(values - values.mean()) for values in (x, q))
    r = float(np.clip(x @ q, -1, 1))
    margin = stats.norm.ppf((1 + level) / 2) / np.sqrt(len(x) - 3)
    with np.errstate(divide="ignore"):  # the interval of a correlation of 1 is from 1 to 1
        lower, upper = np.tanh(np.arctanh(r) - margin), np.tanh(np.arctanh(r) + margin)
    return {
        "r": r,
        "r_lower": float(lower),
        "r_upper": float(upper),
        "p": permutation_p(np.outer(x, q), draws, seed, two_sided=True),
        "r_disattenuated": float(r / np.sqrt(reliability)),
    }


def contrast_conditions(
    frame: pd.DataFrame,
    value: str,
    condition: str = "condition",
    pair: str | None = None,
    by: str | Sequence[str] = (),
    level: float = 0.95,
    run: str = "run",
) -> pd.DataFrame:
    r"""Differences between conditions, each pair of them compared over runs: paired within seed, or by Welch's t.

    With ``pair`` (the seed that runs of all conditions share), the mean of the differences within it, on n - 1 degrees
    of freedom. Without it, the difference of means, by Welch's t, which asks for no equal variances.

    Parameters
    ----------
    frame : DataFrame
        One row a group and run: means over sentences, at one step.
    condition : str
        The column that names conditions. They stand in the order of the frame's first rows of each, the same in all
        groups; a column of ordered categories gives the order itself.
    pair : str or None
        The column that pairs runs, each level once in every condition.

    Returns
    -------
    DataFrame
        The columns of ``by``, then a, b (conditions), runs_a, runs_b, difference (b minus a), lower, upper, df, p,
        p_holm (over all rows that have a p) and note. Where runs of a condition do not differ (or, paired, all
        differences are equal) there is nothing to hold the difference against: its interval and p are missing, and the
        note says so.

    Raises
    ------
    InputError
        If a column is unknown, a value or a name is missing, a run stands twice in a group, a group has one condition,
        a condition fewer than 2 runs, or runs have no partner.
    """
    where = "contrast_conditions"
    by = names_of(by, "by", where)
    named = [*by, condition, run, *([pair] if pair else [])]
    require_distinct([*by, condition, run, value], where, "by, condition, run and value")
    finite_numbers(frame, value, where, _LEAVE_OUT)
    require_columns(frame, named, where)
    if frame[named].isna().any(axis=None):
        raise InputError(f"{where}: a row has no value in one of the columns {named}. Fill or drop such rows.")
    refuse_repeated(frame, [*by, run], where, _ONE_ROW)
    check_level(level, where)
    ordered = frame[condition].sort_values() if _is_ordered(frame[condition]) else frame[condition]
    conditions = dict.fromkeys(ordered)
    rows = []
    for group, part in groups_of(frame, by, _CONTRAST, where, sort=True):
        here = [name for name in conditions if (part[condition] == name).any()]
        if len(here) < 2:
            raise InputError(f"{where}: the group {group} has the condition(s) {here}; two are compared.")
        for a, b in combinations(here, 2):
            one, other = (part[part[condition] == name] for name in (a, b))
            if min(len(one), len(other)) < 2:
                raise InputError(
                    f"{where}: of {a!r} there are {len(one)} run(s), of {b!r} {len(other)}; 2 are the fewest."
                )
            if pair:
                one, other = (rows_of.set_index(pair)[value] for rows_of in (one, other))
                if not one.index.is_unique or set(one.index) != set(other.index):
                    alone = sorted(set(one.index) ^ set(other.index))
                    raise InputError(f"{where}: by {pair!r}, runs of {a!r} and {b!r} are no pairs; alone are {alone}.")
                one = one[other.index]
            else:
                one, other = one[value], other[value]
            values = [rows_of.to_numpy(dtype=float) for rows_of in (one, other)]
            compared = _compared(values[0], values[1], bool(pair), level)
            rows.append({**group, "a": a, "b": b, "runs_a": len(one), "runs_b": len(other), **compared})
    table = pd.DataFrame(rows)
    table.insert(table.columns.get_loc("note"), "p_holm", adjusted(table["p"]))
    return table


def _is_ordered(column: pd.Series) -> bool:
    return isinstance(column.dtype, pd.CategoricalDtype) and bool(column.dtype.ordered)


def _compared(one: np.ndarray, other: np.ndarray, paired: bool, level: float) -> dict:
    """The difference of two conditions' values, (run,) each, with its test and interval."""
    found = {"difference": float(other.mean() - one.mean()), **dict.fromkeys(("lower", "upper", "df", "p"), np.nan)}
    # A subtraction leaves the rounding of its terms.
    rounding = 4 * np.finfo(float).eps * max(np.abs(one).max(), np.abs(other).max())
    spreads = [np.ptp(other - one)] if paired else [np.ptp(one), np.ptp(other)]
    if max(spreads) <= rounding:
        return found | {"note": "all differences are equal" if paired else "runs of one condition do not differ"}
    tested = stats.ttest_rel(other, one) if paired else stats.ttest_ind(other, one, equal_var=False)
    lower, upper = tested.confidence_interval(level)
    found |= {"lower": float(lower), "upper": float(upper), "df": float(tested.df), "p": float(tested.pvalue)}
    return found | {"note": ""}

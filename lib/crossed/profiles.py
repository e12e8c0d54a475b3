r"""Intervals of variance components and of shares: how far can each be moved before the data object?

The profile deviance of a quantity q is -2 log L (restricted, for a REML fit) minimised over all other parameters with q
held. The interval holds each q with::

    profile(q) - minimum <= the quantile of chi-squared on 1 degree of freedom

A limit below which the profile never rises so far is 0 (for shares: 0 or 1). The balanced crossed design has better
intervals, exact or nearly so however few the levels are: :func:`crossed.balanced.crossed_shares`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import optimize, stats

from crossed.balanced import crossed_shares
from crossed.checks import check_level
from crossed.errors import InputError
from crossed.held import sd_profile, share_profile
from crossed.optimum import SINGULAR
from crossed.results import MixedFit
from crossed.threads import one_thread

_METHODS = ("auto", "profile", "generalised")


@one_thread
def profile_intervals(fit: MixedFit, level: float = 0.95, method: str = "auto") -> pd.DataFrame:
    """Intervals of every SD and, where all random terms are intercepts, of every share of variance (ICC).

    Parameters
    ----------
    fit : MixedFit
    level : float
        Between 0 and 1.
    method : str
        "profile"; "generalised" (only for a REML fit of ``outcome ~ 1 + (1 | a) + (1 | b)``, or with ``(1 | a:b)`` too,
        in which every pair of levels stands equally often); or "auto", the second where it applies, else the first.

    Returns
    -------
    DataFrame
        quantity ("sd" or "share"), group, term (missing for the residual), estimate, lower, upper, levels (of the
        group, missing for the residual), method, boundary (the estimate is at zero: its upper limit says how large it
        may be, but for generalised limits that are both 0: levels that agree by chance, see `crossed_shares`).
        A profile of few levels is still too narrow: at 3 runs expect less than its nominal coverage.

    Raises
    ------
    InputError
        If level or method is none of the allowed, or the generalised intervals do not apply.

    References
    ----------
    Bates et al. (2015), section 5.1 (profiles); Weerahandi (1993) (generalised intervals).
    """
    check_level(level, "profile_intervals")
    if method not in _METHODS:
        raise InputError(f"profile_intervals: method={method!r} is none of {_METHODS}.")
    table = _rows(fit)
    if method != "profile":
        reason = _not_balanced(fit)
        if not reason:
            return _generalised(fit, table, level)
        if method == "generalised":
            raise InputError(f"profile_intervals: no generalised intervals, because {reason}; take method='profile'.")
    crossing = stats.chi2.ppf(level, 1)
    floor = fit.optimum.deviance
    limits = []
    for row in table.itertuples():
        profile = sd_profile(fit, row.place) if row.quantity == "sd" else share_profile(fit, row.place)
        if row.quantity == "sd":
            unit = fit.scaling.unit
            inner = np.log(max(row.estimate, 1e-3 * np.sqrt(fit.scale)) / unit)
            limits.append(
                [unit * limit for limit in _limits(profile, np.exp, inner, floor + crossing, row.boundary, np.inf)]
            )
        else:
            inner = np.clip(row.estimate, 1e-6, 1 - 1e-6)
            inner = np.log(inner / (1 - inner))
            limits.append(_limits(profile, _logistic, inner, floor + crossing, row.boundary, 1.0))
    table["lower"], table["upper"] = np.array(limits).T
    table["method"] = f"{'REML' if fit.reml else 'ML'} profile"
    return _ordered(table)


def _rows(fit: MixedFit) -> pd.DataFrame:
    """One row a quantity, without its limits; ``place`` is (term, column), or None for the residual."""
    rows, residual = [], np.sqrt(fit.scale)
    for number, (effects, matrix) in enumerate(zip(fit.design.effects, fit.covariances, strict=True)):
        # The relative SD is judged on the standardised predictor, so that it depends on no unit.
        widths = fit.likelihood.terms[number].columns
        for column, name in enumerate(effects.names):
            sd = np.sqrt(matrix[column, column])
            relative = np.linalg.norm(fit.blocks[number][column]) if widths.shape[1] > 1 else fit.blocks[number][0, 0]
            rows.append(
                ("sd", effects.grouping.name, name, sd, len(effects.grouping), relative < SINGULAR, (number, column))
            )
    rows.append(("sd", "Residual", None, residual, pd.NA, False, None))
    if all(effects.intercept_only for effects in fit.design.effects):
        shares = fit.icc()["share"]
        for number, row in enumerate(rows[:-1]):
            rows.append(("share", row[1], row[2], shares[number], row[4], row[5], (number, 0)))
        rows.append(("share", "Residual", None, shares.iloc[-1], pd.NA, False, None))
    columns = ["quantity", "group", "term", "estimate", "levels", "boundary", "place"]
    return pd.DataFrame(rows, columns=columns).astype({"levels": "Int64", "term": "str"})


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    return table[["quantity", "group", "term", "estimate", "lower", "upper", "levels", "method", "boundary"]]


def _logistic(x: float) -> float:
    return 1 / (1 + np.exp(-x))


def _limits(profile: Callable, value: Callable, inner: float, target: float, at_zero: bool, most: float):
    """Where the profile crosses ``target`` on either side of ``inner``, on a scale x with quantity value(x)."""
    limits = []
    for sign, end in ((-1, 0.0), (1, most)):
        if sign < 0 and (at_zero or profile(0.0) <= target):
            limits.append(0.0)
            continue
        near, step = inner, 0.5
        for _ in range(30):
            far = near + sign * step
            if profile(value(far)) > target:
                found = optimize.brentq(lambda x: profile(value(x)) - target, min(near, far), max(near, far), xtol=1e-6)
                limits.append(value(found))
                break
            near, step = far, 1.5 * step
            if abs(far - inner) > 12:
                limits.append(end)
                break
    return limits


def _not_balanced(fit: MixedFit) -> str:
    """Why the generalised intervals do not apply; empty where they do."""
    groupings = list(fit.design.groupings.values())
    single = [grouping for grouping in groupings if len(grouping.factors) == 1]
    joint = [grouping for grouping in groupings if len(grouping.factors) > 1]
    if not fit.reml or fit.names != ["Intercept"] or not all(e.intercept_only for e in fit.design.effects):
        return "they are for REML fits with no fixed effect but the intercept, and no slopes"
    if len(single) != 2 or len(joint) > 1 or (joint and set(joint[0].factors) != {s.name for s in single}):
        return "they are for two crossed factors, with or without their interaction"
    cells = single[0].codes * np.int64(len(single[1])) + single[1].codes
    counts = np.bincount(cells, minlength=len(single[0]) * len(single[1]))
    if np.ptp(counts) > 0:
        return "the crossing is not balanced: not every pair of levels stands equally often"
    if counts[0] > 1 and not joint:
        return "cells hold repeated values and the model has no interaction of the two factors"
    return ""


def _generalised(fit: MixedFit, table: pd.DataFrame, level: float) -> pd.DataFrame:
    row, column = (grouping for grouping in fit.design.groupings.values() if len(grouping.factors) == 1)
    data = pd.DataFrame({"y": fit.design.outcome / fit.scaling.unit, "row": row.codes, "column": column.codes})
    data["replicate"] = data.groupby(["row", "column"]).cumcount()
    repeated = "replicate" if data["replicate"].max() > 0 else None
    found = crossed_shares(data, "y", "row", "column", repeated, level=level)
    places = {row.name: 0, column.name: 1, "Residual": len(found) - 1}
    limits = []
    for each in table.itertuples():
        place = found.iloc[places.get(each.group, 2)]
        if each.quantity == "sd":
            limits.append(fit.scaling.unit * np.sqrt([place["variance_lower"], place["variance_upper"]]))
        else:
            limits.append([place["share_lower"], place["share_upper"]])
    table["lower"], table["upper"] = np.array(limits).T
    table["method"] = "generalised (balanced crossing)"
    return _ordered(table)

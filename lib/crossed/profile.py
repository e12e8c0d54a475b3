r"""Intervals of variance components and of shares: how far can each be moved before the data object?

The profile deviance of a quantity q is -2 log L (restricted, for a REML fit) minimised over all other parameters with q
held. The interval holds each q with::

    profile(q) - minimum <= the quantile of chi-squared on 1 degree of freedom

Where the profile does not rise so far on one side, the limit is the end of the scale: 0, and for shares 0 or 1. The
balanced crossed design has better intervals, exact or nearly so however few the levels are:
:func:`crossed.balanced.crossed_shares`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import optimize, stats

from crossed.balanced import crossed_shares
from crossed.checks import check_choice, check_level
from crossed.errors import InputError
from crossed.estimate import Estimate
from crossed.likelihood import Template
from crossed.search import SINGULAR, UNBOUNDED, minimise
from crossed.tables import shares
from crossed.threads import one_thread

_METHODS = ("auto", "profile", "generalised")


@one_thread
def profile_intervals(fit: Estimate, level: float = 0.95, method: str = "auto") -> pd.DataFrame:
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
    check_choice("method", method, _METHODS, "profile_intervals")
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


def _rows(fit: Estimate) -> pd.DataFrame:
    """One row a quantity, without its limits; ``place`` is (term, column), or None for the residual."""
    rows: list[tuple] = []
    residual = np.sqrt(fit.scale)
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
        parts = shares(fit)["share"]
        for number, row in enumerate(rows[:-1]):
            rows.append(("share", row[1], row[2], parts[number], row[4], row[5], (number, 0)))
        rows.append(("share", "Residual", None, parts.iloc[-1], pd.NA, False, None))
    columns = ["quantity", "group", "term", "estimate", "levels", "boundary", "place"]
    return pd.DataFrame(rows, columns=columns).astype({"levels": "Int64", "term": "str"})


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    return table[["quantity", "group", "term", "estimate", "lower", "upper", "levels", "method", "boundary"]]


def _logistic(x: float) -> float:
    return 1 / (1 + np.exp(-x))


def _limits(
    profile: Callable[[float], float],
    value: Callable[[float], float],
    inner: float,
    target: float,
    at_zero: bool,
    most: float,
) -> list[float]:
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


def _not_balanced(fit: Estimate) -> str:
    """Why the generalised intervals do not apply, in words; empty where they do."""
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


def _generalised(fit: Estimate, table: pd.DataFrame, level: float) -> pd.DataFrame:
    """The table with the limits of `crossed_shares`, which is given the rows of the fit."""
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
            limits.append([fit.scaling.unit * np.sqrt(place[f"variance_{end}"]) for end in ("lower", "upper")])
        else:
            limits.append([place["share_lower"], place["share_upper"]])
    table["lower"], table["upper"] = np.array(limits).T
    table["method"] = "generalised (balanced crossing)"
    return _ordered(table)


class Profile:
    """-2 log L with a quantity held, minimised over the rest: ``sd_profile(fit, (0, 0))(0.7)``.

    The searches start from the same places whatever was asked before, so that no answer depends on the order of the
    questions: the estimate, with every variance well off zero (at zero it is a stationary point, and need not stay the
    best when something else is held), and with correlations of other signs. One more starts where the nearest search
    ended. It can only help.

    Parameters
    ----------
    objective : function
        Of the value held and a point: the deviance there, and its gradient by the point.
    estimate : float
        The quantity at the maximum, to which the first start belongs.
    starts : list of array (parameter,)
    lower : array (parameter,)
        Bounds of the point.
    zeros : array (parameter,) of bool
        The entries that are SDs, where zero is a stationary point.
    """

    def __init__(
        self,
        objective: Callable[[float, np.ndarray], tuple[float, np.ndarray]],
        estimate: float,
        starts: list[np.ndarray],
        lower: np.ndarray,
        zeros: np.ndarray,
    ):
        self.objective, self.starts, self.lower, self.zeros = objective, starts, lower, zeros
        self.points: dict[float, np.ndarray] = {estimate: starts[0]}
        self.found: dict[float, float] = {}

    def __call__(self, held: float) -> float:
        if held not in self.found:
            near = self.points[min(self.points, key=lambda other: abs(other - held))]
            searches = [
                minimise(lambda point: self.objective(held, point), start, self.lower, self.zeros)
                for start in [_clear(near, self.zeros, 1e-2), *self.starts]
            ]
            value, point = min(searches, key=lambda search: search[0])
            if value < 1e299:
                self.points[held] = point
            self.found[held] = value
        return self.found[held]


def _clear(point: np.ndarray, zeros: np.ndarray, least: float) -> np.ndarray:
    """The point with every diagonal entry at least so far from zero."""
    return np.where(zeros, np.maximum(np.abs(point), least) * np.where(point < 0, -1, 1), point)


def sd_profile(fit: Estimate, place: tuple[int, int] | None) -> Profile:
    """-2 log L of the standardised model, with one SD (in units of the outcome's) held, minimised over the rest."""
    likelihood, template = fit.likelihood, fit.likelihood.template
    log_sigma = np.log(fit.scale) / 2 - np.log(fit.scaling.unit)
    turns, length = [np.eye(width) for width in template.widths], 1.0
    if place is not None:
        # The effect held, in the units given, is a direction of the standardised effects: turned, it comes first, and
        # the first entry of the lower triangle is its SD (by the direction's length, relative to the residual's).
        number, column = place
        direction = np.linalg.inv(fit.scaling.effects_back[number])[column]
        length = float(np.linalg.norm(direction))
        turns[number] = np.linalg.qr(np.column_stack([direction, np.eye(len(direction))]))[0]
    turned = [turn.T @ block for turn, block in zip(turns, fit.blocks, strict=True)]
    roots = [np.asarray(np.linalg.qr(part.T, mode="r")).T for part in turned]  # lower triangles of the same covariances
    roots = [root * np.where(np.diag(root) < 0, -1.0, 1.0) for root in roots]
    theta = template.vector(roots)
    held = -1 if place is None else next(n for n, spot in enumerate(template.places) if spot == (place[0], 0, 0))
    free = np.array([n for n in range(len(theta)) if n != held], dtype=int)
    alone = np.array([template.widths[term] == 1 for term, _, _ in template.places])
    # Where effects correlate, no sign is fixed: at a diagonal entry of 0 the search could not change it.
    lower = np.where(alone, 0.0, -10 * UNBOUNDED)[free]
    zeros = template.diagonal[free]
    turns_of = _correlations(template, theta)

    def evaluate(theta: np.ndarray, log_sigma: float) -> tuple[float, np.ndarray, float]:
        blocks = [turn @ block for turn, block in zip(turns, template.blocks(theta), strict=True)]
        found, slopes, by_sigma = likelihood.gradient(blocks, log_sigma)
        return found, template.vector([turn.T @ slope for turn, slope in zip(turns, slopes, strict=True)]), by_sigma

    def residual_held(sd: float, point: np.ndarray) -> tuple[float, np.ndarray]:
        return (np.inf, np.zeros(len(point))) if sd <= 0 else evaluate(point, np.log(sd))[:2]

    def component_held(sd: float, point: np.ndarray) -> tuple[float, np.ndarray]:
        theta = np.empty(len(template))
        theta[free], theta[held] = point[:-1], sd / length * np.exp(-point[-1])
        found, slopes, by_sigma = evaluate(theta, point[-1])
        return found, np.append(slopes[free], by_sigma - slopes[held] * theta[held])

    if place is None:
        starts = [_clear(other, zeros, least) for other, least in turns_of]
        return Profile(residual_held, np.exp(log_sigma), starts, lower, zeros)
    starts = [np.append(_clear(other[free], zeros, least), log_sigma) for other, least in turns_of]
    lower, zeros = np.append(lower, -30.0), np.append(zeros, False)
    return Profile(component_held, length * theta[held] * np.exp(log_sigma), starts, lower, zeros)


def _correlations(template: Template, theta: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """theta with other correlations, each with how far its diagonal is to be kept from zero."""
    found = [(theta, 1e-2), (theta, 0.5)]
    below = ~template.diagonal
    if below.any():
        found.append((np.where(below, 0.0, theta), 0.1))
        found += [(np.where(below, sign * np.maximum(np.abs(theta), 0.3), theta), 0.1) for sign in (1, -1)]
        rows = np.array([row for _, row, _ in template.places])
        if rows.max() > 1:
            found += [(np.where(below & (rows == row), -theta, theta), 0.1) for row in range(1, rows.max() + 1)]
    return found


def share_profile(fit: Estimate, place: tuple[int, int] | None) -> Profile:
    """The same with one share of variance held, in models of random intercepts alone."""
    likelihood = fit.likelihood
    theta = np.array([block[0, 0] for block in fit.blocks])
    held = None if place is None else place[0]
    free = np.array([number for number in range(len(theta)) if number != held], dtype=int)

    def evaluate(theta: np.ndarray) -> tuple[float, np.ndarray]:
        found, slopes, _ = likelihood.gradient([np.array([[value]]) for value in theta])
        return found, np.array([slope[0, 0] for slope in slopes])

    def residual_held(share: float, point: np.ndarray) -> tuple[float, np.ndarray]:
        if not 0 < share < 1:
            return np.inf, np.zeros(len(point))
        # Only the direction of the point matters: the pull of its length to 1 costs nothing and keeps it in scale.
        radius, length = np.sqrt(1 / share - 1), float(np.linalg.norm(point))
        if length < 1e-6:
            return np.inf, np.zeros(len(point))
        found, slopes = evaluate(radius * point / length)
        slopes = radius / length * (slopes - point * (point @ slopes) / length**2)
        return found + (length - 1) ** 2, slopes + 2 * (length - 1) * point / length

    def component_held(share: float, point: np.ndarray) -> tuple[float, np.ndarray]:
        if share >= 1:
            return np.inf, np.zeros(len(point))
        odds, whole = share / (1 - share), np.empty(len(theta))
        whole[free], whole[held] = point, np.sqrt(odds * (1 + point @ point))
        found, slopes = evaluate(whole)
        by_held = slopes[held] * odds * point / whole[held] if odds > 0 else 0.0
        return found, slopes[free] + by_held

    estimates = np.append(theta**2, 1) / (1 + theta @ theta)
    if held is None:
        direction = theta.clip(min=1e-2 * max(theta.max(), 1e-2))
        starts = [direction.clip(min=least * direction.max()) for least in (1e-2, 0.5)]
        starts = [start / np.linalg.norm(start) for start in starts]
        return Profile(residual_held, estimates[-1], starts, np.zeros(len(free)), np.ones(len(free), dtype=bool))
    starts = [theta[free].clip(min=least) for least in (1e-2, 0.5)]
    return Profile(component_held, estimates[held], starts, np.zeros(len(free)), np.ones(len(free), dtype=bool))

r"""Profile-likelihood limits of the balanced crossing, for many tables at once, from their mean squares alone.

With R runs, S sentences and one value a cell, the restricted likelihood depends on the three mean squares M of run,
sentence and residual only, whose expectations L are the distinct eigenvalues of the covariance of y::

    -2 log L_R = sum_j df_j (log L_j + M_j / L_j) + constant,    L = (E + S A, E + R B, E),    A, B >= 0

so that one value held (the run's SD, or its share A / (A + B + E)) leaves a minimum over one number. The limits are
those of `MixedFit.profile_intervals` of the same table, without its fit: made for simulations.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

from crossed.errors import InputError

_GOLDEN = (np.sqrt(5) - 1) / 2


def estimates(squares: np.ndarray, runs: int, sentences: int) -> np.ndarray:
    """The expectations L (table, 3) of the restricted likelihood's maximum, given mean squares (table, 3).

    Where M_a or M_b lies below M_c its variance is at zero: the two are pooled, the smaller one first (isotonic
    regression on the order L_c <= L_a, L_c <= L_b).
    """
    df = _degrees(runs, sentences)
    found = squares.astype(float).copy()
    order = np.argsort(squares[:, :2], axis=1)
    tables = np.arange(len(squares))
    weight, pooled = np.full(len(squares), df[2], dtype=float), found[:, 2].copy()
    for place in order.T:
        value, count = squares[tables, place], df[place]
        joins = value < pooled
        pooled = np.where(joins, (weight * pooled + count * value) / (weight + count), pooled)
        weight = weight + joins * count
    found[:, 2] = pooled
    found[:, :2] = np.maximum(squares[:, :2], pooled[:, None])
    return found


def deviance(expectations: np.ndarray, squares: np.ndarray, df: np.ndarray) -> np.ndarray:
    """-2 log of the restricted likelihood but for a constant; the last axis holds the three mean squares."""
    return (df * (np.log(expectations) + squares / expectations)).sum(axis=-1)


def sd_held(sd: np.ndarray, squares: np.ndarray, runs: int, sentences: int) -> np.ndarray:
    """The deviance (table,) with the run's SD held at ``sd`` (table,), minimised over the two other variances."""
    df = _degrees(runs, sentences)
    added = sentences * np.asarray(sd) ** 2

    def objective(log_residual):  # (table, point)
        residual = np.exp(log_residual)
        between = residual + added[:, None]
        columns = np.maximum(squares[:, 1, None], residual)  # B at its best, given E
        return deviance(np.stack([between, columns, residual], axis=-1), squares[:, None], df)

    # Below the first every direction gains by a larger E, above the second by a smaller one.
    low = np.log(squares[:, 2] * df[2] / df.sum())
    return _minimum(objective, low, np.log(squares.max(axis=1)))


def share_held(share: np.ndarray, squares: np.ndarray, runs: int, sentences: int) -> np.ndarray:
    """The deviance (table,) with the run's share held at ``share`` (table,), minimised over the other variances."""
    df = _degrees(runs, sentences)
    odds = (np.asarray(share) / (1 - np.asarray(share)))[:, None]

    def objective(log_ratio):  # (table, point): log(1 + R B / E)
        ratio = np.exp(log_ratio)
        between = 1 + sentences * odds * (1 + (ratio - 1) / runs)
        relative = np.stack([between, ratio, np.ones_like(ratio)], axis=-1)
        residual = (df * squares[:, None] / relative).sum(axis=-1) / df.sum()  # E at its best, given the ratios
        return deviance(residual[..., None] * relative, squares[:, None], df)

    high = np.log(squares.max(axis=1) / squares.min(axis=1)) + 3
    return _minimum(objective, np.zeros(len(squares)), high)


def profile_limits(
    squares: np.ndarray, runs: int, sentences: int, quantity: str = "share", level: float = 0.95
) -> np.ndarray:
    """Profile limits (table, 2) of the run's SD or share, given mean squares (table, 3) of run, sentence, residual.

    Raises
    ------
    InputError
        If ``quantity`` is neither "sd" nor "share", or a mean square is not above zero.
    """
    squares = np.asarray(squares, dtype=float)
    if quantity not in ("sd", "share"):
        raise InputError(f"profile_limits: quantity={quantity!r} is neither 'sd' nor 'share'.")
    if squares.ndim != 2 or squares.shape[1] != 3 or not (np.isfinite(squares) & (squares > 0)).all():
        raise InputError(
            "profile_limits: squares must be an array (table, 3) of finite mean squares above zero, of run, sentence "
            "and residual."
        )
    best = estimates(squares, runs, sentences)
    run, sentence = (best[:, 0] - best[:, 2]) / sentences, (best[:, 1] - best[:, 2]) / runs
    target = deviance(best, squares, _degrees(runs, sentences)) + stats.chi2.ppf(level, 1)
    # Bisection on a scale without ends: log SD, or the logit of the share.
    if quantity == "sd":
        held, value = sd_held, np.exp
        unit = np.log(squares.max(axis=1) / sentences) / 2
        inner, low, high = np.log(run.clip(min=1e-300)) / 2, unit - 14, unit + 14
    else:
        held, value = share_held, lambda x: 1 / (1 + np.exp(-x))
        share = (run / (run + sentence + best[:, 2])).clip(1e-300, 1 - 1e-12)
        inner, low, high = np.log(share) - np.log1p(-share), np.full(len(squares), -20.0), np.full(len(squares), 25.0)

    def profile(x):
        return held(value(x), squares, runs, sentences)

    inner = inner.clip(low, high)
    lower = value(_crossing(profile, inner, low, target))
    upper = value(_crossing(profile, inner, high, target))
    lower = np.where(held(np.zeros(len(squares)), squares, runs, sentences) <= target, 0.0, lower)
    return np.stack([lower, upper], axis=1)


def _degrees(runs: int, sentences: int) -> np.ndarray:
    return np.array([runs - 1, sentences - 1, (runs - 1) * (sentences - 1)], dtype=float)


def _crossing(profile: Callable, inside: np.ndarray, outside: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Where between ``inside`` and ``outside`` the profile passes ``target``, by bisection to 1e-8 of the way."""
    for _ in range(27):
        middle = (inside + outside) / 2
        below = profile(middle) <= target
        inside, outside = np.where(below, middle, inside), np.where(below, outside, middle)
    return (inside + outside) / 2


def _minimum(objective: Callable, low: np.ndarray, high: np.ndarray, points: int = 16) -> np.ndarray:
    """The least value (table,) of ``objective`` between ``low`` and ``high``: a grid, then golden sections."""
    grid = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, points)  # (table, point)
    found = objective(grid)
    place = found.argmin(axis=1)
    tables = np.arange(len(low))
    left, right = grid[tables, (place - 1).clip(min=0)], grid[tables, (place + 1).clip(max=points - 1)]
    least = found[tables, place]
    for _ in range(22):  # a 40,000th of the grid's step; the least value is flatter still
        one, two = right - _GOLDEN * (right - left), left + _GOLDEN * (right - left)
        values = objective(np.stack([one, two], axis=1))  # (table, 2)
        least = np.minimum(least, values.min(axis=1))
        first = values[:, 0] < values[:, 1]
        left, right = np.where(first, left, one), np.where(first, two, right)
    return least

"""What the variances of a balanced design may be, given its mean squares: generalised pivotal quantities.

A mean square M on df degrees of freedom, times df and divided by its expectation, is chi-squared. So the expectation
may have been M df / U, with U drawn from chi-squared on df degrees of freedom. Variances are weighted sums of
expectations.

References
----------
Weerahandi (1993), Generalized confidence intervals, Journal of the American Statistical Association 88, 899-905.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from crossed.checks import check_level
from crossed.errors import InputError


def pivotal_quantities(
    df: np.ndarray,
    squares: np.ndarray,
    weights: np.ndarray,
    draws: int,
    generator: np.random.Generator,
    fixed: Sequence[int] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Draws of what the variances, and their shares, may be, from the mean squares alone.

    Parameters
    ----------
    df, squares : array (mean square,)
        Degrees of freedom, and the mean squares observed; the residual's is the last.
    weights : array (component, mean square)
        ``variances = weights @ mean squares``, of the moment estimates.
    fixed : sequence of int
        Components whose levels are fixed. Theirs is a noncentrality, not a ratio of expectations.

    Returns
    -------
    tuple of two array (draw, component)
        Variances, none below 0; and shares, which sum to 1 in each draw.
    """
    # (draw, mean square): what each expectation may have been, given the mean square that was observed.
    expectations = df * squares / generator.chisquare(df, size=(draws, len(df)))
    pivots = expectations @ weights.T
    for number in fixed:
        # The expectation of its error is what the moment equation subtracts.
        others = np.where(np.arange(len(df)) == number, 0, weights[number])
        error = -(expectations @ others) / weights[number, number]
        error = np.maximum(error, expectations[:, -1])
        uniform = generator.uniform(size=draws)
        noncentrality = _noncentrality(df[number] * squares[number] / error, df[number], uniform)
        pivots[:, number] = noncentrality * error * weights[number, number] / df[number]
    pivots = pivots.clip(min=0)
    return pivots, pivots / pivots.sum(axis=1, keepdims=True)


def _noncentrality(values: np.ndarray, df: int, probability: np.ndarray) -> np.ndarray:
    """The noncentrality at which chi-squared on df is below ``values`` with ``probability``; 0 where there is none."""
    found = np.zeros(len(values))
    some = stats.chi2.cdf(values, df) > probability
    # Far out the root of a noncentral chi-squared is normal to more digits than are drawn.
    far = some & (values > 1e5)
    found[far] = (np.sqrt(values[far]) - special.ndtri(probability[far])).clip(min=0) ** 2
    near = some & ~far
    found[near] = special.chndtrinc(values[near], df, probability[near])
    return found


def sd_multipliers(levels: ArrayLike, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """By what a standard deviation estimated from ``levels`` normal values must be multiplied for its exact interval.

    With df = levels - 1 and q the quantiles of chi-squared on df degrees of freedom::

        lower = sqrt(df / q((1 + level) / 2)),    upper = sqrt(df / q((1 - level) / 2))

    For the SD between runs this is the best case: run means known without error. Three runs give .52 and 6.3.

    Parameters
    ----------
    levels : int or array of int
        How many levels (runs), 2 or more.
    level : float
        Of the interval, between 0 and 1.

    Returns
    -------
    tuple of two float or of two arrays
        Lower and upper multiplier.

    Raises
    ------
    InputError
        If there are fewer than two levels, or ``level`` is no probability.
    """
    df = np.asarray(levels) - 1
    if (df < 1).any():
        raise InputError(f"sd_multipliers: levels={levels!r}: a standard deviation needs at least 2 levels.")
    check_level(level, "sd_multipliers")
    return np.sqrt(df / stats.chi2.ppf((1 + level) / 2, df)), np.sqrt(df / stats.chi2.ppf((1 - level) / 2, df))

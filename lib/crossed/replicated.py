"""The crossed design with replicates: how much of the variance is the run's, the sentence's, and theirs together?

Neighbouring checkpoints at the end of training repeat each cell of run and sentence, and so tell the interaction of the
two from the residual. They add no runs, and each run drifts between them on its own.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import special, stats

from crossed.balanced import agreement_note, balanced_cells, check_draws
from crossed.checks import check_level, numbers, require_columns
from crossed.errors import InputError

_ROWS = ("these", "any")


def replicated_shares(
    data: pd.DataFrame,
    outcome: str,
    covariate: str | None = None,
    row: str = "run",
    column: str = "sentence",
    replicate: str = "checkpoint",
    rows: str = "these",
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Shares of variance in a balanced crossing with replicates, with intervals that are right for few rows.

    The model, for row (run) r of R, column (sentence) s of S with covariate x_s, and replicate (checkpoint) k of K::

        y_rsk = mu + beta x_s + a_r + b_s + d_k + c_rs + g_rk + e_rsk

    with b, c, g and e drawn from normal distributions of variances B, C, G and E, the d_k fixed, and the a_r fixed
    (``rows="these"``) or drawn with variance A (``rows="any"``). The mean squares are independent::

        mean square   degrees of freedom                expectation
        M_a           R - 1                             E + K C + S G + K S A
        M_b           S - 1 (less 1 for a covariate)    E + K C + K R B
        M_d           K - 1                             E + S G + R S D
        M_c           (R - 1)(S - 1)                    E + K C
        M_g           (R - 1)(K - 1)                    E + S G
        M_e           R (S - 1)(K - 1)                  E

    where, for what is fixed, A = sum a_r^2 / (R - 1) and D = sum d_k^2 / (K - 1): the variance among the very levels
    at hand. Solved for the variances they give the estimates, which are those of REML wherever none is at zero. A
    fixed and a random factor have the same estimate. They differ in the interval: how much *these* runs differ is
    nearly known, how much *other* runs would differ is not.

    Intervals hold the middle ``level`` of draws of generalised pivots: each expectation is replaced by its mean
    square times df / U, with U from chi-squared on df degrees of freedom; for a fixed factor, by the noncentrality at
    which its sum of squares, over the expectation of its error, has a uniformly drawn probability.

    Parameters
    ----------
    data : DataFrame
        One row a (``row``, ``column``, ``replicate``).
    outcome : str
        The column to be divided.
    covariate : str, optional
        A number of the ``column`` (the sentence's length): what it explains is taken out of that variance first.
    row, column, replicate : str
        The factors; two levels or more of each, three of ``column`` with a covariate.
    rows : str
        "these": the levels of ``row`` are fixed; "any": they are a sample, and the shares are about others like them.
    level : float
        Of the intervals, between 0 and 1.
    draws, seed : int
        How many draws (1,000 at least), and the seed of ``numpy.random.default_rng``.

    Returns
    -------
    DataFrame
        One row a component: ``row``, ``column``, ``replicate``, "row:column", "row:replicate" (with their names) and
        "residual"; component; levels; df; mean_square; variance (squared units of the outcome; a negative estimate is
        set to 0), variance_lower, variance_upper; share (of the sum of the variances; sums to 1), share_lower,
        share_upper; boundary (the estimate was negative: the interval says how large the variance may be); note (how an
        interval from 0 to 0 is to be read, else empty).

    Raises
    ------
    InputError
        As :func:`crossed.balanced.crossed_shares`; or if ``rows`` is none of the allowed, or the covariate
        is missing, infinite, constant, or not one number for each level of ``column``; or if the factors and their
        pairs give the outcome exactly, so that no residual is left.

    References
    ----------
    Weerahandi (1993), Journal of the American Statistical Association 88, 899-905. Gelman (2005), Annals of Statistics
    33, 1-53, section 3 (finite- and superpopulation variances).
    """
    where = f"replicated_shares({outcome!r})"
    if rows not in _ROWS:
        raise InputError(f"{where}: rows={rows!r} is none of {_ROWS}.")
    check_level(level, where)
    check_draws(draws, where)
    cells = balanced_cells(data, outcome, row, column, replicate, where)
    x = None if covariate is None else _covariate(data, covariate, column, where)
    df, squares = _mean_squares(cells, x)
    if squares[5] <= 1e-20 * squares.max():
        raise InputError(
            f"{where}: {row}, {column}, {replicate} and their pairs give the outcome exactly: there is no residual to "
            "hold variances against. Are the replicates copies of each other, or is the outcome made of these factors?"
        )
    weights = _weights(*cells.shape)

    generator = np.random.default_rng(seed)
    # (draw, mean square): what each expectation may have been.
    expectations = df * squares / generator.chisquare(df, size=(draws, len(df)))
    pivots = expectations @ weights.T
    fixed = [0, 2] if rows == "these" else [2]
    for number in fixed:
        # The expectation of its error is what the moment equation subtracts.
        error = -(expectations @ np.where(np.arange(6) == number, 0, weights[number])) / weights[number, number]
        error = np.maximum(error, expectations[:, 5])
        uniform = generator.uniform(size=draws)
        noncentrality = _noncentrality(df[number] * squares[number] / error, df[number], uniform)
        pivots[:, number] = noncentrality * error * weights[number, number] / df[number]
    pivots = pivots.clip(min=0)
    moments = weights @ squares
    variances = moments.clip(min=0)
    tails = [(1 - level) / 2, (1 + level) / 2]
    variance_limits = np.quantile(pivots, tails, axis=0)
    share_limits = np.quantile(pivots / pivots.sum(axis=1, keepdims=True), tails, axis=0)
    r, s, k = cells.shape
    components = [row, column, replicate, f"{row}:{column}", f"{row}:{replicate}", "residual"]
    return pd.DataFrame(
        {
            "component": components,
            "levels": [r, s, k, r * s, r * k, r * s * k],
            "df": df,
            "mean_square": squares,
            "variance": variances,
            "variance_lower": variance_limits[0],
            "variance_upper": variance_limits[1],
            "share": variances / variances.sum(),
            "share_lower": share_limits[0],
            "share_upper": share_limits[1],
            "boundary": moments < 0,
            "note": [agreement_note(name, upper) for name, upper in zip(components, variance_limits[1], strict=True)],
        }
    )


def _mean_squares(cells: np.ndarray, x: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """df and mean squares of row, column, replicate, row:column, row:replicate and residual; the mean is 0."""
    r, s, k = cells.shape
    by_row, by_column, by_replicate = cells.mean(axis=(1, 2)), cells.mean(axis=(0, 2)), cells.mean(axis=(0, 1))
    together = cells.mean(axis=2) - by_row[:, None] - by_column[None, :]  # (row, column)
    drift = cells.mean(axis=1) - by_row[:, None] - by_replicate[None, :]  # (row, replicate)
    rest = cells - (by_row[:, None] + by_column[None, :] + together)[:, :, None]  # (row, column, replicate)
    rest = rest - (by_replicate[None, :] + drift)[:, None, :]
    covariates = 0
    if x is not None:
        by_column, covariates = by_column - x * (x @ by_column) / (x @ x), 1
    parts = [by_row, by_column, by_replicate, together, drift, rest]
    times = np.array([s * k, r * k, r * s, k, s, 1])
    df = [r - 1, s - 1 - covariates, k - 1, (r - 1) * (s - 1), (r - 1) * (k - 1), r * (s - 1) * (k - 1)]
    return np.array(df), times * np.array([np.sum(part**2) for part in parts]) / df


def _weights(r: int, s: int, k: int) -> np.ndarray:
    """variance = weights @ mean squares: the expectations of the docstring, solved."""
    expectations = np.array(
        [
            [k * s, 0, 0, k, s, 1],
            [0, k * r, 0, k, 0, 1],
            [0, 0, r * s, 0, s, 1],
            [0, 0, 0, k, 0, 1],
            [0, 0, 0, 0, s, 1],
            [0, 0, 0, 0, 0, 1],
        ]
    )
    return np.linalg.inv(expectations)


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


def _covariate(data: pd.DataFrame, name: str, column: str, where: str) -> np.ndarray:
    """The covariate of each level of ``column``, sorted as in `balanced_cells`, less its mean."""
    require_columns(data, [name], where)
    values = numbers(data, name, where)
    if not np.isfinite(values).all():
        raise InputError(
            f"{where}: the covariate {name!r} is missing or infinite in {(~np.isfinite(values)).sum()} rows."
        )
    groups = pd.Series(values).groupby(data[column].to_numpy(), sort=True)
    lower, upper = groups.min(), groups.max()
    if (lower < upper).any():
        first = lower.index[(lower < upper).to_numpy()].tolist()[0]
        raise InputError(
            f"{where}: the covariate {name!r} has more than one value for {column}={first!r} ({lower[first]:g} to "
            f"{upper[first]:g}); it must be a number of the {column}."
        )
    x = lower.to_numpy() - lower.mean()
    if len(x) < 3 or np.ptp(x) <= 1e-12 * np.abs(lower).max():
        raise InputError(
            f"{where}: the covariate {name!r} is constant, or {column!r} has under 3 levels; leave it out."
        )
    return x

"""How much of the variance belongs to the run and how much to the sentence, with intervals honest about few runs.

For the balanced, fully crossed design (every sentence in every run, equally often). The intervals are generalised
confidence intervals: they keep their coverage at three runs, where a percentile bootstrap over runs does not.
"""

from __future__ import annotations

from numbers import Integral

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from crossed.checks import check_level, listed, numbers, require_columns
from crossed.errors import InputError


def crossed_shares(
    data: pd.DataFrame,
    outcome: str,
    row: str = "run",
    column: str = "sentence",
    replicate: str | None = None,
    level: float = 0.95,
    draws: int = 100_000,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Variances and shares of variance of two crossed factors, with generalised confidence intervals.

    The model, for row (run) r of R, column (sentence) s of S and replicate k of K::

        y_rsk = mu + a_r + b_s + c_rs + e_rsk,    a ~ N(0, A), b ~ N(0, B), c ~ N(0, C), e ~ N(0, E)

    The mean squares of the balanced analysis of variance are independent, and each, times its degrees of freedom
    over its expectation, is chi-squared::

        mean square   degrees of freedom   expectation
        M_a           R - 1                E + K C + K S A
        M_b           S - 1                E + K C + K R B
        M_c           (R - 1)(S - 1)       E + K C
        M_e           R S (K - 1)          E

    so the moment estimates are A = (M_a - M_c) / (K S), B = (M_b - M_c) / (K R), C = (M_c - M_e) / K, E = M_e. With
    one value a cell (K = 1) there is no M_e, and C and E cannot be told apart: M_c estimates their sum, which is
    reported as "interaction + residual".

    A generalised pivotal quantity replaces every expectation by its observed mean square times df / U, with U drawn
    from the chi-squared distribution on df degrees of freedom::

        A* = max(0, (df_a m_a / U_a - df_c m_c / U_c) / (K S)),   share* = A* / (A* + B* + C* + E*)

    (B*, C*, E* alike), and the interval holds the middle ``level`` of the draws. The chi-squared draws of one row of
    the result are those of all others, so shares stay shares.

    Parameters
    ----------
    data : DataFrame
        One row a (``row``, ``column``) cell; with ``replicate``, one a (``row``, ``column``, ``replicate``).
    outcome : str
        The column to be divided.
    row, column : str
        The crossed factors.
    replicate : str, optional
        A column that numbers exchangeable repetitions within a cell, the same ones in every cell (neighbouring
        checkpoints of a plateau, say). What the repetitions have in common over all cells counts as residual, and
        repetitions that resemble their neighbours, as checkpoints do, make the residual too small and the interaction
        too large; they add no runs.
    level : float
        Of the intervals, between 0 and 1.
    draws : int
        Monte Carlo draws of each chi-squared variable, at least 1,000.
    seed : int
        Of ``numpy.random.default_rng``, which draws them.

    Returns
    -------
    DataFrame
        One row a component (``row``, ``column``, then "interaction + residual", or "interaction" and "residual"):
        component; levels (their number; for the last rows the number of cells or of values); df; mean_square;
        variance (squared units of the outcome; a negative moment estimate is set to 0), variance_lower,
        variance_upper; share (of the sum of the variances; the shares sum to 1), share_lower, share_upper; boundary
        (True where the moment estimate was negative: the variance may be 0, the interval says how large it may be); and
        note, empty but where the levels agree so closely by chance that the interval is 0 to 0: it then says nothing.

    Raises
    ------
    InputError
        If a column is unknown, a value is missing or infinite, a cell is missing (the first is named) or holds more
        than one value, a factor has one level, or the outcome is constant.

    References
    ----------
    Weerahandi, S. (1993). Generalized confidence intervals. Journal of the American Statistical Association 88,
    899-905. Burdick, R. K., Borror, C. M. and Montgomery, D. C. (2005). Design and Analysis of Gauge R&R Studies,
    SIAM, chapter 3 (the two-factor crossed random model).
    """
    check_level(level, "crossed_shares")
    check_draws(draws, "crossed_shares")
    cells = balanced_cells(data, outcome, row, column, replicate, f"crossed_shares({outcome!r})")
    names, levels, df, squares, weights = _analysis_of_variance(cells, row, column)

    moments = weights @ squares
    variances = moments.clip(min=0)
    generator = np.random.default_rng(seed)
    pivots, shares = pivotal_quantities(df, squares, weights, draws, generator)
    tails = [(1 - level) / 2, (1 + level) / 2]
    variance_lower, variance_upper = np.quantile(pivots, tails, axis=0)
    share_lower, share_upper = np.quantile(shares, tails, axis=0)
    return pd.DataFrame(
        {
            "component": names,
            "levels": levels,
            "df": df,
            "mean_square": squares,
            "variance": variances,
            "variance_lower": variance_lower,
            "variance_upper": variance_upper,
            "share": variances / variances.sum(),
            "share_lower": share_lower,
            "share_upper": share_upper,
            "boundary": moments < 0,
            "note": [agreement_note(name, upper) for name, upper in zip(names, variance_upper, strict=True)],
        }
    )


def agreement_note(name: str, upper: float) -> str:
    """How the interval from 0 to 0 of a variance is to be read; empty for any other."""
    if upper > 0:
        return ""
    return (
        f"the levels of {name} agree more closely than the residual lets expect, as few levels may by chance; the "
        "interval from 0 to 0 does not show that their variance is small: more levels can tell"
    )


def check_draws(draws: int, where: str) -> None:
    """Refuse a number of draws that is none, or too small."""
    if isinstance(draws, bool | np.bool_) or not isinstance(draws, Integral) or draws < 1_000:
        raise InputError(
            f"{where}: draws={draws!r} is too few for the tails of an interval, or no whole number; give 1000 or more."
        )


def pivotal_quantities(
    df: np.ndarray, squares: np.ndarray, weights: np.ndarray, draws: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws of what the variances, and their shares, may be: the pivots of `crossed_shares`, from mean squares alone.

    Parameters
    ----------
    df, squares : array (mean square,)
        Degrees of freedom, and the mean squares observed.
    weights : array (component, mean square)
        ``variances = weights @ mean squares``, of the moment estimates.

    Returns
    -------
    tuple of two array (draw, component)
        Variances, none below 0; and shares, which sum to 1 in each draw.
    """
    # (draw, mean square): what each expectation may have been, given the mean square that was observed.
    expectations = df * squares / generator.chisquare(df, size=(draws, len(df)))
    pivots = (expectations @ weights.T).clip(min=0)
    return pivots, pivots / pivots.sum(axis=1, keepdims=True)


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


def _analysis_of_variance(cells: np.ndarray, row: str, column: str):
    """Names, levels, df and mean squares of the components, and the weights with variance = weights @ mean squares."""
    rows, columns, replicates = cells.shape
    by_cell = cells.mean(axis=2)
    by_row, by_column, mean = by_cell.mean(axis=1), by_cell.mean(axis=0), by_cell.mean()
    interaction = by_cell - by_row[:, None] - by_column[None, :] + mean
    sums = [
        replicates * columns * np.sum((by_row - mean) ** 2),
        replicates * rows * np.sum((by_column - mean) ** 2),
        replicates * np.sum(interaction**2),
    ]
    df = [rows - 1, columns - 1, (rows - 1) * (columns - 1)]
    levels = [rows, columns, rows * columns]
    weights = np.array([[1, 0, -1], [0, 1, -1], [0, 0, 1]]) / np.array(
        [[replicates * columns], [replicates * rows], [replicates]]
    )
    names = [row, column, "interaction + residual"]
    if replicates > 1:
        sums.append(np.sum((cells - by_cell[:, :, None]) ** 2))
        df.append(rows * columns * (replicates - 1))
        levels.append(cells.size)
        weights = np.block([[weights, np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]])
        weights[2, 3] = -1 / replicates
        names[2:] = ["interaction", "residual"]
    return names, levels, np.array(df), np.array(sums) / df, weights


def balanced_cells(
    data: pd.DataFrame, outcome: str, row: str, column: str, replicate: str | None, where: str
) -> np.ndarray:
    """The outcome, less its mean, as an array (row, column, replicate), levels sorted; every cell is there once.

    Raises
    ------
    InputError
        As `crossed_shares`; ``where`` opens the message.
    """
    factors = [row, column] + ([] if replicate is None else [replicate])
    if len({outcome, *factors}) < 1 + len(factors):
        raise InputError(f"{where}: the outcome and the factors {factors} must be different columns.")
    require_columns(data, [outcome, *factors], where)
    values = numbers(data, outcome, where)
    unusable = ~np.isfinite(values) | data[factors].isna().any(axis=1).to_numpy()
    if unusable.any():
        raise InputError(
            f"{where}: a missing or infinite value in {unusable.sum()} row(s), counted from 0: "
            f"{listed(np.flatnonzero(unusable))}. Leave the whole sentence (or run) out of every run, and say so."
        )
    codes, levels = zip(*(pd.factorize(data[factor], sort=True) for factor in factors), strict=True)
    levels = [found.tolist() for found in levels]
    shape = tuple(len(found) for found in levels)
    for factor, found in zip(factors, levels, strict=True):
        if len(found) < 2:
            raise InputError(f"{where}: the factor {factor!r} has {len(found)} level(s), {found}; it needs two.")
    counts = np.zeros(shape, dtype=int)
    np.add.at(counts, codes, 1)
    for wrong, what in ((counts > 1, "holds more than one value"), (counts == 0, "is missing")):
        if wrong.any():
            first = np.unravel_index(np.flatnonzero(wrong)[0], shape)
            cell = ", ".join(f"{factor}={found[n]!r}" for factor, found, n in zip(factors, levels, first, strict=True))
            fix = (
                "name the column that tells the values apart as replicate=, or average them"
                if what.startswith("holds")
                else "only the full crossing can be divided in this way: leave that level out everywhere"
            )
            raise InputError(f"{where}: the cell {cell} {what} ({wrong.sum()} such cell(s) of {counts.size}); {fix}.")
    cells = np.empty(shape)
    cells[codes] = values - values.mean()
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        raise InputError(f"{where}: the outcome is constant: no variance to divide.")
    return cells.reshape(*shape[:2], -1)

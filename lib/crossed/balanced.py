"""Shares of variance of balanced crossings in closed form, with intervals honest about few levels.

Two factors are crossed and every cell holds equally many values: every run measured on every sentence, say.
:func:`crossed_shares` splits the variance of such a table; :func:`replicated_shares` also tells apart what replicates
of the cells (checkpoints, say) have in common. The intervals are generalised confidence intervals: they keep their
coverage at three runs, where a percentile bootstrap over runs does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from crossed.cells import by_group, cells_of, table_of_shares
from crossed.checks import check_choice, check_draws, check_level, numbers, require_columns
from crossed.errors import InputError

_ROWS = ("these", "any")


def crossed_shares(
    data: pd.DataFrame,
    outcome: str,
    row: str,
    column: str,
    replicate: str | None = None,
    by: str | Sequence[str] | None = None,
    level: float = 0.95,
    draws: int = 100_000,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Variances and shares of variance of two crossed factors, with generalised confidence intervals.

    ::

        crossed_shares(data, "chrf", row="run", column="sentence", by=["layer", "term"])

    The model, for row (run, say) r of R, column (sentence, say) s of S and replicate k of K::

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
        The crossed factors, in either order.
    replicate : str, optional
        A column that numbers exchangeable repetitions within a cell, the same ones in every cell (neighbouring
        checkpoints of a plateau, say). What the repetitions have in common over all cells counts as residual, and
        repetitions that resemble their neighbours, as checkpoints do, make the residual too small and the interaction
        too large; they add no runs.
    by : str or list of str, optional
        Columns whose combinations are groups of rows, each divided on its own, from the same ``seed``.
    level : float
        Of the intervals, between 0 and 1.
    draws : int
        Monte Carlo draws of each chi-squared variable, at least 1,000.
    seed : int
        Of ``numpy.random.default_rng``, which draws them.

    Returns
    -------
    DataFrame
        The columns of ``by``, groups in their order of appearance; then one row a component (``row``, ``column``, then
        "interaction + residual", or "interaction" and "residual"): component; levels (their number; for the last rows
        the number of cells or of values); df; mean_square; variance (squared units of the outcome; a negative moment
        estimate is set to 0), variance_lower, variance_upper; share (of the sum of the variances; the shares sum to 1),
        share_lower, share_upper; boundary (True where the moment estimate was negative: the variance may be 0, the
        interval says how large it may be); and note, empty but where the levels agree so closely by chance that the
        interval is 0 to 0: it then says nothing.

    Raises
    ------
    InputError
        If a column is unknown, a value is missing or infinite, a cell is missing (the first is named) or holds more
        than one value, a factor has one level, the outcome is constant, or ``by`` is none of the allowed.

    References
    ----------
    Weerahandi, S. (1993). Generalized confidence intervals. Journal of the American Statistical Association 88,
    899-905. Burdick, R. K., Borror, C. M. and Montgomery, D. C. (2005). Design and Analysis of Gauge R&R Studies,
    SIAM, chapter 3 (the two-factor crossed random model).
    """
    where = f"crossed_shares({outcome!r})"
    check_level(level, where)
    check_draws(draws, where)

    def split(rows: pd.DataFrame) -> pd.DataFrame:
        cells = _crossing(rows, outcome, row, column, replicate, where)
        names, levels, df, squares, weights = _analysis_of_variance(cells, row, column)
        return table_of_shares(names, levels, df, squares, weights, (), level, draws, seed)

    return by_group(split, data, by, where)


def replicated_shares(
    data: pd.DataFrame,
    outcome: str,
    row: str,
    column: str,
    replicate: str,
    covariate: str | None = None,
    rows: str = "these",
    by: str | Sequence[str] | None = None,
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Shares of variance in a balanced crossing with replicates, with intervals that are right for few rows.

    ::

        replicated_shares(data, "chrf", row="run", column="sentence", replicate="checkpoint", covariate="tokens")

    Neighbouring checkpoints at the end of training repeat each cell of run and sentence, and so tell the interaction of
    the two from the residual. They add no runs, and each run drifts between them on its own.

    The model, for row (run, say) r of R, column (sentence) s of S with covariate x_s, and replicate (checkpoint) k of
    K::

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
    row, column, replicate : str
        The factors; two levels or more of each, three of ``column`` with a covariate.
    covariate : str, optional
        A number of the ``column`` (the sentence's length): what it explains is taken out of that variance first.
    rows : str
        "these": the levels of ``row`` are fixed; "any": they are a sample, and the shares are about others like them.
    by, level, draws, seed
        As for `crossed_shares`.

    Returns
    -------
    DataFrame
        The columns of ``by``; then one row a component: ``row``, ``column``, ``replicate``, "row:column",
        "row:replicate" (with their names) and "residual"; the columns are those of `crossed_shares`.

    Raises
    ------
    InputError
        As `crossed_shares`; or if ``rows`` is none of the allowed, or the covariate
        is missing, infinite, constant, or not one number for each level of ``column``; or if the factors and their
        pairs give the outcome exactly, so that no residual is left.

    References
    ----------
    Weerahandi (1993), Journal of the American Statistical Association 88, 899-905. Gelman (2005), Annals of Statistics
    33, 1-53, section 3 (finite- and superpopulation variances).
    """
    where = f"replicated_shares({outcome!r})"
    check_choice("rows", rows, _ROWS, where)
    check_level(level, where)
    check_draws(draws, where)
    names = [row, column, replicate, f"{row}:{column}", f"{row}:{replicate}", "residual"]

    def split(part: pd.DataFrame) -> pd.DataFrame:
        cells = _crossing(part, outcome, row, column, replicate, where)
        r, s, k = cells.shape
        x = None if covariate is None else _covariate(part, covariate, column, where)
        df, squares = _mean_squares(cells, x)
        if squares[5] <= 1e-20 * squares.max():
            raise InputError(
                f"{where}: {row}, {column}, {replicate} and their pairs give the outcome exactly: there is no residual "
                "to hold variances against. Are the replicates copies of each other, or is the outcome made of these "
                "factors?"
            )
        levels, fixed = [r, s, k, r * s, r * k, r * s * k], (0, 2) if rows == "these" else (2,)
        return table_of_shares(names, levels, df, squares, _weights(r, s, k), fixed, level, draws, seed)

    return by_group(split, data, by, where)


def _analysis_of_variance(
    cells: np.ndarray, row: str, column: str
) -> tuple[list[str], list[int], np.ndarray, np.ndarray, np.ndarray]:
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
    sizes = np.array([[replicates * columns], [replicates * rows], [replicates]])
    weights = np.array([[1, 0, -1], [0, 1, -1], [0, 0, 1]]) / sizes
    names = [row, column, "interaction + residual"]
    if replicates > 1:
        sums.append(np.sum((cells - by_cell[:, :, None]) ** 2))
        df.append(rows * columns * (replicates - 1))
        levels.append(cells.size)
        weights = np.block([[weights, np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]])
        weights[2, 3] = -1 / replicates
        names[2:] = ["interaction", "residual"]
    return names, levels, np.array(df), np.array(sums) / df, weights


def _mean_squares(cells: np.ndarray, x: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """df and mean squares of row, column, replicate, row:column, row:replicate and residual; the mean is 0."""
    r, s, k = cells.shape
    by_row, by_column, by_replicate = cells.mean(axis=(1, 2)), cells.mean(axis=(0, 2)), cells.mean(axis=(0, 1))
    together = cells.mean(axis=2) - by_row[:, None] - by_column[None, :]  # (row, column)
    drift = cells.mean(axis=1) - by_row[:, None] - by_replicate[None, :]  # (row, replicate)
    rest = cells - (by_row[:, None] + by_column[None, :] + together)[:, :, None]  # (row, column, replicate)
    rest = rest - (by_replicate[None, :] + drift)[:, None, :]
    if x is not None:
        by_column = by_column - x * (x @ by_column) / (x @ x)
    parts = [by_row, by_column, by_replicate, together, drift, rest]
    times = np.array([s * k, r * k, r * s, k, s, 1])
    df = [r - 1, s - 1 - (x is not None), k - 1, (r - 1) * (s - 1), (r - 1) * (k - 1), r * (s - 1) * (k - 1)]
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


def _crossing(data: pd.DataFrame, outcome: str, row: str, column: str, replicate: str | None, where: str) -> np.ndarray:
    """The outcome, less its mean, as an array (row, column, replicate); without replicates one deep."""
    factors = [row, column] + ([] if replicate is None else [replicate])
    cells = cells_of(data, outcome, factors, where, spared=f"{column} (or {row}) out of every {row}")
    return cells.reshape(*cells.shape[:2], -1)


def _covariate(data: pd.DataFrame, name: str, column: str, where: str) -> np.ndarray:
    """The covariate of each level of ``column``, sorted as in `cells_of`, less its mean."""
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

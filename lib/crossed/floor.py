"""What other masks alone do: runs that repeat a cell of the factorial, and how far its variances stand above them.

Two runs with the same start and the same course, but other dropout masks, still drift apart. Without this floor no
null of a main effect can be read: an interaction of start and course as large as the floor is no interaction.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from crossed.cells import by_group, cells_of
from crossed.checks import check_draws, check_level, listed, names_of, require_columns
from crossed.errors import InputError
from crossed.factorial import component_names, factorial_cells, factorial_mean_squares, factorial_weights

_FLOOR = ("component", "cells", "runs", "df", "mean_square", "variance", "variance_lower", "variance_upper", "sd")
_ABOVE = ("component", "moment", "floor", "difference", "lower", "upper")


def floor_of_pairs(
    data: pd.DataFrame,
    outcome: str,
    factors: Sequence[str] = ("init_seed", "order_seed"),
    run: str = "run",
    column: str = "sentence",
    by: str | Sequence[str] | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    r"""The variance between runs that share the levels of both factors: of their means, and sentence by sentence.

    For run r of the n_g runs of cell g, and sentence s of S, with d = sum over cells of (n_g - 1)::

        y_grs = cell_gs + m_r + n_rs,    m ~ N(0, M), n ~ N(0, N)

        mean square                                   degrees of freedom   expectation
        M_m = S sum (mean_r - mean_g)^2 / d           d                    N + S M
        M_n = sum (the same by sentence, less it)     d (S - 1)            N

    The row "means" gives M_m / S: the variance of a run's mean over these sentences, which holds N / S. The row
    "by sentence" gives M_n. Both are multiples of chi-squared, so that their intervals are exact for normal effects::

        df M / q((1 + level) / 2)  to  df M / q((1 - level) / 2)

    Parameters
    ----------
    data : DataFrame
        One row a (``run``, ``column``), every sentence in every run. Runs whose cell holds no other run are left out.
    outcome : str
    factors : two str
        What the runs of a cell have in common.
    run, column : str
    by, level
        As for `crossed.crossed_shares`.

    Returns
    -------
    DataFrame
        The columns of ``by``; then two rows: component ("means", "by sentence" with the name of ``column``), cells
        (those with several runs), runs (in them), df, mean_square, variance, variance_lower, variance_upper, sd.

        >>> import pandas as pd
        >>> rows = [("a", 1, 1, 0, 1.0), ("a", 1, 1, 1, 3.0), ("b", 1, 1, 0, 3.0), ("b", 1, 1, 1, 5.0)]
        >>> data = pd.DataFrame(rows, columns=["run", "init_seed", "order_seed", "sentence", "y"])
        >>> floor_of_pairs(data, "y")[["component", "cells", "runs", "df", "variance", "sd"]].round(3)
             component  cells  runs  df  variance     sd
        0        means      1     2   1       2.0  1.414
        1  by sentence      1     2   1       0.0  0.000

    Raises
    ------
    InputError
        As `crossed.crossed_shares`; and if no cell holds two runs, or a run has none or several levels of a factor.
    """
    where = f"floor_of_pairs({outcome!r})"
    check_level(level, where)
    component_names(factors, column, None, where)  # refuses factors that are not two

    def within(rows: pd.DataFrame) -> pd.DataFrame:
        cells, runs, df, squares = floor_mean_squares(rows, outcome, factors, run, column, where)
        variance = squares / np.array([rows[column].nunique(), 1])
        lower, upper = (df / stats.chi2.ppf(tail, df) for tail in ((1 + level) / 2, (1 - level) / 2))
        values = (["means", f"by {column}"], cells, runs, df, squares, variance, variance * lower, variance * upper)
        return pd.DataFrame(dict(zip(_FLOOR, (*values, np.sqrt(variance)), strict=True)))

    return by_group(within, data, by, where, taken=_FLOOR)


def above_floor(
    data: pd.DataFrame,
    pairs: pd.DataFrame,
    outcome: str,
    factors: Sequence[str] = ("init_seed", "order_seed"),
    run: str = "run",
    column: str = "sentence",
    by: str | Sequence[str] | None = None,
    level: float = 0.95,
    draws: int = 100_000,
    seed: int = 0,
) -> pd.DataFrame:
    r"""How far the variances of a factorial stand above what other masks alone do.

    Components of whole runs (start, course, start:course) are held against M of `floor_of_pairs`, those by sentence
    against N::

        difference = (weights of the component @ mean squares of the factorial) - M,    M = (M_m - M_n) / S
        difference = (weights of the component @ mean squares of the factorial) - N,    N = M_n

    each of them a moment estimate that may be negative. The interval is generalised: every expectation is replaced by
    its mean square times df / U, with U from chi-squared, and nothing is cut at 0. The factorial and the pairs are
    taken as independent. They share one run a pair.

    Parameters
    ----------
    data : DataFrame
        The factorial, one run a cell: as for `crossed.factorial_shares` without replicates, with the column ``run``.
    pairs : DataFrame
        As for `floor_of_pairs`: the same columns, both runs of each pair.
    outcome, factors, run, column, by, level, draws, seed
        As for `crossed.factorial_shares` and `floor_of_pairs`. Groups of ``by`` must be in both frames.

    Returns
    -------
    DataFrame
        The columns of ``by``; then a row for each component but the sentence: component, moment, floor (M or N),
        difference, lower, upper.

    Raises
    ------
    InputError
        As `crossed.factorial_shares` and `floor_of_pairs`; or if a group has other sentences in ``pairs``.
    """
    where = f"above_floor({outcome!r})"
    check_level(level, where)
    check_draws(draws, where)
    names = component_names(factors, column, None, where)
    groups = [] if by is None else names_of(by, "by", where)
    require_columns(pairs, [*groups, run, column], where)

    def held(rows: pd.DataFrame) -> pd.DataFrame:
        key = tuple(rows[name].iloc[0] for name in groups)
        here = pairs
        for name, value in zip(groups, key, strict=True):
            here = here[here[name] == value]
        if set(here[column]) != set(rows[column]):
            raise InputError(f"{where}: factorial and pairs have different levels of {column!r}. Keep those of both.")
        cells = factorial_cells(rows, outcome, factors, column, None, where)
        df, squares = factorial_mean_squares(cells)
        _, _, floor_df, floor_squares = floor_mean_squares(here, outcome, factors, run, column, where)
        of_factorial, of_floor = _weights_against_floor(cells.shape)
        weights = np.hstack([of_factorial, -of_floor])
        all_df, all_squares = np.concatenate([df, floor_df]), np.concatenate([squares, floor_squares])
        chi = np.random.default_rng(seed).chisquare(all_df, size=(draws, len(all_df)))
        drawn = (all_df * all_squares / chi) @ weights.T
        lower, upper = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
        moments, floors = of_factorial @ squares, of_floor @ floor_squares
        kept = [name for name in names if name != column]
        values = (kept, moments, floors, moments - floors, lower, upper)
        return pd.DataFrame(dict(zip(_ABOVE, values, strict=True)))

    return by_group(held, data, by, where, taken=_ABOVE)


def floor_mean_squares(
    data: pd.DataFrame, outcome: str, factors: Sequence[str], run: str, column: str, where: str
) -> tuple[int, int, np.ndarray, np.ndarray]:
    """Cells and runs of the floor, then df and mean squares of its means and of its sentences.

    Raises
    ------
    InputError
        As `floor_of_pairs`.
    """
    factors = list(factors)
    require_columns(data, [*factors, run, column, outcome], where)
    runs = data[[run, *factors]].drop_duplicates()
    nameless = runs[factors].isna().any(axis=1)
    if nameless.any():
        raise InputError(
            f"{where}: the run(s) {listed(runs.loc[nameless, run])} have no value of {factors}, and would belong to no "
            "cell. Fill it in, or leave them out."
        )
    if runs[run].duplicated().any():
        first = runs.loc[runs[run].duplicated(), run].iloc[0]
        raise InputError(f"{where}: the run {first!r} has several levels of {factors}; a run has one of each.")
    runs = runs[runs.duplicated(factors, keep=False)].sort_values(run)
    if len(runs) == 0:
        raise InputError(
            f"{where}: no two runs share {' and '.join(factors)}: there is no floor. Train a run of the factorial "
            "again with other dropout masks alone."
        )
    values = cells_of(
        data[data[run].isin(runs[run])], outcome, [run, column], where, f"{column} (or {run}) out of every {run}"
    )
    codes = runs.groupby(factors).ngroup().to_numpy()
    counts = np.bincount(codes)
    centres = np.zeros((len(counts), values.shape[1]))
    np.add.at(centres, codes, values)
    apart = values - (centres / counts[:, None])[codes]  # (run, sentence): from the mean of its cell
    means = apart.mean(axis=1)
    free, sentences = len(runs) - len(counts), values.shape[1]
    df = np.array([free, free * (sentences - 1)])
    sums = np.array([sentences * np.sum(means**2), np.sum((apart - means[:, None]) ** 2)])
    return len(counts), len(runs), df, sums / df


def _weights_against_floor(shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Of the factorial's mean squares, a row a component but the sentence; and of the floor's."""
    of_factorial = np.delete(factorial_weights(shape), 3, axis=0)
    of_means, of_sentences = np.array([1, -1]) / shape[2], np.array([0, 1])
    return of_factorial, np.array([of_means] * 3 + [of_sentences] * 3)

"""What would fewer runs have said? The estimates and intervals of random subsets of the runs at hand.

Two subsets of the same runs overlap, and differ less than two samples of so many new runs would. So the estimates over
subsets are described by their median and range, beside the number of subsets that share no run; a standard error over
overlapping subsets would be of nothing.

All that a subset needs is in a few numbers a run and a pair of runs: its mean, and the products of two runs' values
over sentences. So thousands of subsets take seconds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy import stats

import crossed
from addends.checks import check_count, check_level, groups_of, require_columns
from addends.errors import InputError
from crossed.pivots import pivotal_quantities

_FOUND = ("runs", "subset", "members", "sd", "share", "slope", "mean", "slopes_sd")
_OVER = (
    "runs",
    "subsets",
    "disjoint",
    "median",
    "lowest",
    "highest",
    "lower",
    "upper",
    "lower_lowest",
    "upper_highest",
)


def draw_subsets(levels: int, size: int, draws: int, generator: np.random.Generator) -> np.ndarray:
    """Different subsets (subset, size) of so many levels, by number: all of them, or ``draws`` random ones if fewer.

    >>> draw_subsets(4, 3, 100, np.random.default_rng(0)).tolist()
    [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]]
    """
    if math.comb(levels, size) <= draws:
        return np.array(list(itertools.combinations(range(levels), size)))
    found: set[tuple[int, ...]] = set()
    while len(found) < draws:
        found.add(tuple(sorted(generator.choice(levels, size, replace=False).tolist())))
    return np.array(sorted(found))


def shares_of_subsets(
    frame: pd.DataFrame,
    value: str,
    sizes: Sequence[int],
    by: str | Sequence[str] = (),
    row: str = "run",
    column: str = "sentence",
    replicate: str | None = None,
    subsets: int = 200,
    level: float = 0.95,
    draws: int = 4_000,
    seed: int = 0,
) -> pd.DataFrame:
    """The row's SD and share of variance, with generalised intervals, of subsets of its levels.

    The numbers of a subset are those that `crossed.crossed_shares` gives for its rows, with the same ``draws`` and
    ``seed``.

    Parameters
    ----------
    frame : DataFrame
        As for `crossed.crossed_shares`.
    value : str
        The column that is divided.
    sizes : sequence of int
        How many levels of ``row`` a subset has, from two to all of them.
    by : str or sequence of str
        Columns that name a group.
    row, column, replicate : str
        The factors. Subsets are of ``row``, the runs.
    subsets : int
        At most so many of each size, each once.
    level, draws
        Of the intervals.
    seed : int
        Of the pivotal draws, and of the subsets, which are the same in all groups.

    Returns
    -------
    DataFrame
        The columns of ``by``, then runs (the size), subset (its number), members (a tuple of the levels), sd,
        sd_lower, sd_upper, share, share_lower, share_upper.

    Raises
    ------
    InputError
        As `crossed.crossed_shares`; or if a size is outside what it may be.
    """
    where = f"shares_of_subsets({value!r})"
    check_level(level, where)
    check_count("draws", draws, where, least=1_000)
    tails = [(1 - level) / 2, (1 + level) / 2]
    rows = []
    for group, part in _groups(frame, [value, row, column], by, where):
        crossed.crossed_shares(part, value, row, column, replicate, draws=1_000)  # refuses what cannot be divided
        cells, within, k = _cells(part, value, row, column, replicate)
        means, names = cells.mean(axis=1), sorted(part[row].unique())
        products = _products(cells, cells)
        s = cells.shape[1]
        for number, chosen in _subsets(names, sizes, subsets, seed, where):
            n = len(chosen)
            columns, whole = _sums(products, chosen)
            squares = [k * s * np.var(means[chosen], ddof=1), k * columns / (s - 1)]
            squares.append(k * (whole - columns) / ((n - 1) * (s - 1)))
            df, weights = [n - 1, s - 1, (n - 1) * (s - 1)], np.array([[1.0, 0, -1], [0, 1, -1], [0, 0, 1]])
            weights /= np.array([[k * s], [k * n], [k]])
            if k > 1:
                squares.append(within[chosen].sum() / (n * s * (k - 1)))
                df.append(n * s * (k - 1))
                weights = np.block([[weights, np.array([[0], [0], [-1 / k]])], [np.zeros((1, 3)), np.ones((1, 1))]])
            variances = (weights @ squares).clip(min=0)
            pivots, shares = pivotal_quantities(
                np.array(df), np.array(squares), weights, draws, np.random.default_rng(seed)
            )
            sd_limits, share_limits = np.sqrt(np.quantile(pivots[:, 0], tails)), np.quantile(shares[:, 0], tails)
            found = {"runs": n, "subset": number, "members": tuple(names[one] for one in chosen)}
            found |= {"sd": np.sqrt(variances[0]), "sd_lower": sd_limits[0], "sd_upper": sd_limits[1]}
            found |= {"share": variances[0] / variances.sum()}
            found |= {"share_lower": share_limits[0], "share_upper": share_limits[1]}
            rows.append(group | found)
    return pd.DataFrame(rows)


def slopes_of_subsets(
    frame: pd.DataFrame,
    quality: str,
    predictor: str,
    sizes: Sequence[int],
    by: str | Sequence[str] = (),
    row: str = "run",
    column: str = "sentence",
    replicate: str | None = None,
    subsets: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    r"""The slope of quality on a predictor within sentences, of subsets of the runs: one slope, and one slope a run.

    With x and q the predictor and the quality, averaged over replicates, less the means of sentence and of run, and d
    the SD of the sentences' mean predictors, as in `split_predictor`::

        slope = d sum x q / sum x^2             one for all runs at hand, which are fixed
        slope_r = d sum_s x q / sum_s x^2       of each run

    In a balanced crossing the first is the slope of ``within`` in a mixed model of all rows, ``quality ~ within +
    C(run) + (1 | sentence) + (1 | run:sentence)``, and its interval is the t interval on (R - 1)(S - 1) - 1 degrees of
    freedom. The second's mean over runs has a t interval on R - 1, which is about other runs too.

    Parameters
    ----------
    frame : DataFrame
        One row a run, sentence and replicate (and group of ``by``).
    quality, predictor : str
        Columns of numbers.
    sizes, by, row, column, replicate, subsets, level, seed
        As for `shares_of_subsets`.

    Returns
    -------
    DataFrame
        The columns of ``by``, then runs, subset, members; slope, slope_lower, slope_upper (these runs); mean,
        mean_lower, mean_upper (any runs), slopes_sd (over the runs' own slopes). Units of quality per d.

    Raises
    ------
    InputError
        As `shares_of_subsets`; or if the predictors of a subset's runs differ by a constant alone, or
        two runs have two sentences.
    """
    where = f"slopes_of_subsets({quality!r}, {predictor!r})"
    check_level(level, where)
    rows = []
    for group, part in _groups(frame, [quality, predictor, row, column], by, where):
        for value in (quality, predictor):
            crossed.crossed_shares(part, value, row, column, replicate, draws=1_000)  # refuses what is not balanced
        names = sorted(part[row].unique())
        q, x = (_cells(part, value, row, column, replicate)[0] for value in (quality, predictor))
        xx, xq, qq = _products(x, x), _products(x, q), _products(q, q)
        s = x.shape[1]
        for number, chosen in _subsets(names, sizes, subsets, seed, where):
            n = len(chosen)
            (columns, sum_xx), (mixed, sum_xq), (others, sum_qq) = (_sums(each, chosen) for each in (xx, xq, qq))
            # Cross-products lose to rounding what is far below them.
            if sum_xx - columns <= 1e-12 * sum_xx or (n - 1) * (s - 1) < 2:
                raise InputError(
                    f"{where}: the runs {', '.join(str(names[one]) for one in chosen)}, on {s} sentences: a slope "
                    f"needs two degrees of freedom, and {predictor!r} to differ between runs by more than a constant."
                )
            sum_xx, sum_xq, sum_qq = sum_xx - columns, sum_xq - mixed, sum_qq - others
            unit, df = np.sqrt(columns / n / (s - 1)), (n - 1) * (s - 1) - 1
            slope = unit * sum_xq / sum_xx
            error = unit * np.sqrt((sum_qq - sum_xq**2 / sum_xx) / df / sum_xx)
            own = unit * _own(xq, chosen) / _own(xx, chosen)
            far, farther = error * stats.t.ppf((1 + level) / 2, df), stats.t.ppf((1 + level) / 2, n - 1)
            farther = farther * own.std(ddof=1) / np.sqrt(n)
            found = {"runs": n, "subset": number, "members": tuple(names[one] for one in chosen)}
            found |= {"slope": slope, "slope_lower": slope - far, "slope_upper": slope + far}
            found |= {"mean": own.mean(), "mean_lower": own.mean() - farther, "mean_upper": own.mean() + farther}
            rows.append(group | found | {"slopes_sd": own.std(ddof=1)})
    return pd.DataFrame(rows)


def over_subsets(table: pd.DataFrame, value: str, by: str | Sequence[str] = ()) -> pd.DataFrame:
    """The medians and ranges, over subsets, of an estimate and its limits.

    Parameters
    ----------
    table : DataFrame
        As `shares_of_subsets` or `slopes_of_subsets` gives it.
    value : str
        The estimate: "sd", "share", "slope" or "mean". Its limits are beside it.
    by : str or sequence of str
        The columns that name a group.

    Returns
    -------
    DataFrame
        The columns of ``by``, then runs; subsets (how many there are here); disjoint (how many can share no run); of
        the estimate the median, lowest, highest; of the limits lower and upper (medians), lower_lowest, upper_highest.
        A standard error is not among them: subsets overlap.

    Raises
    ------
    InputError
        If a column is missing.
    """
    where = f"over_subsets({value!r})"
    limits = [f"{value}_lower", f"{value}_upper"]
    require_columns(table, ["runs", "members", value, *limits], where)
    rows = []
    for group, part in groups_of(table, by, _OVER, where):
        levels = len({name for members in part["members"] for name in members})
        for n, those in part.groupby("runs"):
            found = {"runs": n, "subsets": len(those), "disjoint": levels // int(str(n))}
            found |= {"median": those[value].median(), "lowest": those[value].min(), "highest": those[value].max()}
            found |= {"lower": those[limits[0]].median(), "upper": those[limits[1]].median()}
            found |= {"lower_lowest": those[limits[0]].min(), "upper_highest": those[limits[1]].max()}
            rows.append(group | found)
    return pd.DataFrame(rows)


def _groups(
    frame: pd.DataFrame, columns: Sequence[str], by: str | Sequence[str], where: str
) -> Iterator[tuple[dict, pd.DataFrame]]:
    require_columns(frame, columns, where)
    yield from groups_of(frame, by, _FOUND, where)


def _cells(
    part: pd.DataFrame, value: str, row: str, column: str, replicate: str | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Means of the cells (row, column), less their mean; squares within the cells (row,); values a cell."""
    values = part[value].to_numpy(dtype=float)
    grouped = pd.Series(values - values.mean()).groupby([part[row].to_numpy(), part[column].to_numpy()], sort=True)
    means, within = grouped.mean().unstack().to_numpy(), np.zeros(part[row].nunique())
    k = 1 if replicate is None else part[replicate].nunique()
    if k > 1:
        within = (grouped.var() * (k - 1)).unstack().to_numpy().sum(axis=1)
    return means, within, k


def _products(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(row, row): products over columns, each row less its mean."""
    return (x - x.mean(axis=1, keepdims=True)) @ (y - y.mean(axis=1, keepdims=True)).T


def _sums(products: np.ndarray, chosen: np.ndarray) -> tuple[float, float]:
    """Of the chosen rows: the sum of products between the columns' means, times the rows; and of all values."""
    part = products[np.ix_(chosen, chosen)]
    return part.sum() / len(chosen), float(np.trace(part))


def _own(products: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(row,): the products of each chosen row with itself, less the means of the columns over the chosen rows."""
    part = products[np.ix_(chosen, chosen)]
    return np.diag(part) - part.mean(axis=0) - part.mean(axis=1) + part.mean()


def _subsets(
    names: Sequence[str], sizes: Sequence[int], subsets: int, seed: int, where: str
) -> Iterator[tuple[int, np.ndarray]]:
    """The number and the members (by number) of each subset of each size."""
    check_count("subsets", subsets, where)
    if not len(sizes):
        raise InputError(f"{where}: sizes={sizes!r} names none; give how many runs a subset has, such as [3, 6].")
    generator = np.random.default_rng(seed)
    for size in sizes:
        check_count("sizes", size, where, least=2)
        if size > len(names):
            raise InputError(
                f"{where}: sizes={list(sizes)}: there are {len(names)} runs, {', '.join(map(str, names))}."
            )
        yield from enumerate(draw_subsets(len(names), size, subsets, generator))

"""Pairs of runs that share a start, a course, or neither: do they agree more about sentences than others do?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations as all_orders
from itertools import product
from math import factorial

import numpy as np
import pandas as pd
from scipy import stats

import crossed
from addends.checks import (
    check_count,
    check_level,
    finite_numbers,
    groups_of,
    is_constant,
    names_of,
    require_columns,
    rounding_of,
)
from addends.errors import InputError

KINDS = ("start", "course", "neither")
MEASURES = ("spearman", "pearson", "squared_distance")
_FOUND = ("measure", "shares", "pairs", "mean", "excess", "se", "lower", "upper", "p", "p_least")
_LEAVE_OUT = "Leave the whole {sentence} out of every {run}, and say so."


def roles_of_runs(runs: pd.DataFrame, factors: Sequence[str] = ("init_seed", "order_seed")) -> pd.DataFrame:
    """What each run of a factorial is there for, found from its seeds alone.

    The factorial is the largest complete rectangle of the runs whose masks follow the course (the order seed and the
    dropout seed are one number). A run with the start and order of one of these but a dropout seed of its own is
    "other masks"; the rest is "left out", for want of runs that are not there yet.

    >>> import pandas as pd
    >>> seeds = [("a", 1, 1, 1), ("b", 1, 2, 2), ("c", 2, 1, 1), ("d", 2, 2, 2), ("e", 3, 1, 1), ("f", 1, 1, 9)]
    >>> runs = pd.DataFrame(seeds, columns=["run", "init_seed", "order_seed", "dropout_seed"])
    >>> roles_of_runs(runs)["role"].tolist()
    ['factorial', 'factorial', 'factorial', 'factorial', 'left out', 'other masks']

    Parameters
    ----------
    runs : DataFrame
        A table ``runs``, of one block: run, init_seed, order_seed, dropout_seed.
    factors : two str
        Start and course.

    Returns
    -------
    DataFrame
        run, the two factors, role.

    Raises
    ------
    InputError
        If a column is missing, a run has no start or course, or no run's masks follow its course.
    """
    where = "roles_of_runs"
    start, course = names_of(factors, "factors", where)
    require_columns(runs, ["run", start, course, "dropout_seed"], where)
    incomplete = runs[["run", start, course]].isna().any(axis=1)
    if incomplete.any():
        raise InputError(f"{where}: without name, {start} or {course}: {runs.loc[incomplete, 'run'].tolist()}.")
    following = (runs["dropout_seed"] == runs[course]).fillna(False).astype(bool)  # a missing seed follows nothing
    if not following.any():
        raise InputError(f"{where}: no run's dropout_seed equals its {course}: none of them belongs to a factorial.")
    starts, courses = crossed.complete_rectangle(runs[following], start, course)
    inside = runs[start].isin(starts) & runs[course].isin(courses)
    cells = set(runs.loc[following, [start, course]].itertuples(index=False, name=None))
    repeated = np.array([cell in cells for cell in runs[[start, course]].itertuples(index=False, name=None)])
    role = np.select([following & inside, ~following & repeated], ["factorial", "other masks"], "left out")
    return runs[["run", start, course]].assign(role=role)


def agreement_by_kind(
    frame: pd.DataFrame,
    value: str,
    by: str | Sequence[str] = (),
    factors: Sequence[str] = ("init_seed", "order_seed"),
    run: str = "run",
    sentence: str = "sentence",
    level: float = 0.95,
    permutations: int = 9_999,
    seed: int = 0,
) -> pd.DataFrame:
    r"""How well pairs of runs agree about sentences, by what the two runs share.

    Four starts crossed with four courses make 120 pairs of runs: 24 share the start, 24 the course, 72 neither. For
    runs p and q with values y_p over sentences and means m_p::

        spearman          rank correlation of y_p and y_q over sentences
        pearson           correlation of y_p and y_q over sentences
        squared_distance  (m_p - m_q)^2

    each averaged over the pairs of a kind; ``excess`` is this mean less that of the pairs that share neither.

    Pairs share runs, and are never resampled. The standard error is a jackknife over starts (all runs of one start are
    left out at a time) and one over courses, added::

        se^2 = sum over factors of (n - 1) / n * sum over its n levels of (excess without it - their mean)^2

    The p-value is of a permutation within levels: if starts did not matter, the runs of a course could carry any of its
    start labels, so labels of starts are permuted within each course (and those of courses within each start), never
    freely. One-sided: pairs that share the factor agree more (are less far apart). With A starts and B courses there
    are (A!)^(B - 1) different labellings of the starts: no p-value is below ``p_least``, whatever the draws. Where they
    are no more than ``permutations``, they are all gone through.

    Parameters
    ----------
    frame : DataFrame
        One row a run and sentence, every sentence in every run, one run a cell of the two factors.
    value : str
        The indicator.
    by : str or sequence of str
        Columns that split the frame.
    factors : two str
        Start and course, in this order.
    run, sentence : str
    level : float
        Of the interval, t with n - 1 degrees of freedom, n the smaller number of levels.
    permutations, seed
        Draws of labels, and of ``numpy.random.default_rng``.

    Returns
    -------
    DataFrame
        The columns of ``by``; measure; shares ("start", "course", "neither"); pairs; mean; excess, se, lower, upper
        (missing for "neither"; se also where a factor has two levels only, of which none can be spared); p; p_least.

        >>> import pandas as pd
        >>> rows = [(f"{i}{j}", i, j, s, s * i + 0.1 * s * j) for i in (1, -1) for j in (1, 2) for s in range(3)]
        >>> frame = pd.DataFrame(rows, columns=["run", "init_seed", "order_seed", "sentence", "y"])
        >>> agreement_by_kind(frame, "y", permutations=99).head(3)[["measure", "shares", "pairs", "mean"]]
            measure   shares  pairs  mean
        0  spearman    start      2   1.0
        1  spearman   course      2  -1.0
        2  spearman  neither      2  -1.0

    Raises
    ------
    InputError
        If a column is missing, a run has several levels of a factor, a factor has one level, the factors are not fully
        crossed, a run and sentence has no value, an infinite one or several, or a run has the same value in all
        sentences.

    References
    ----------
    Good, P. (2005). Permutation, Parametric and Bootstrap Tests of Hypotheses, Springer, chapter 3 (permutation within
    blocks). Snijders, T. A. B. and Borgatti, S. P. (1999). Non-parametric standard errors and tests for network
    statistics. Connections 22, 161-170 (the jackknife over what pairs share).
    """
    where = f"agreement_by_kind({value!r})"
    check_level(level, where)
    check_count("permutations", permutations, where, least=99)
    by, factors = names_of(by, "by", where), names_of(factors, "factors", where)
    require_columns(frame, [*by, *factors, run, sentence], where)
    finite_numbers(frame, value, where, _LEAVE_OUT.format(run=run, sentence=sentence))
    if frame[[*factors, run, sentence]].isna().any(axis=None):
        raise InputError(f"{where}: a row has no value in one of {[*factors, run, sentence]}. Drop such rows.")
    tables = []
    for group, part in groups_of(frame, by, _FOUND, where):
        profiles, labels = _profiles(part, value, factors, run, sentence, where)
        generator = np.random.default_rng(seed)
        table = pd.concat(
            by_kind(agreement, labels, level, permutations, generator, sign).assign(measure=measure)
            for measure, agreement, sign in _agreements(profiles)
        )
        for place, (name, level_of) in enumerate(group.items()):
            table.insert(place, name, [level_of] * len(table))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)[[*by, *_FOUND]]


def _profiles(
    part: pd.DataFrame, value: str, factors: list[str], run: str, sentence: str, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Values (run, sentence), and the levels of the two factors as numbers from 0 (run, factor)."""
    runs = part[[run, *factors]].drop_duplicates().sort_values(factors)
    cells = runs[factors[0]].nunique() * runs[factors[1]].nunique()
    if runs[run].duplicated().any() or runs.duplicated(factors).any() or len(runs) < cells:
        raise InputError(
            f"{where}: {len(runs)} runs for {cells} combinations of {factors}: each combination is to be one run. "
            "Choose the runs whose role is 'factorial' (addends.statistics.roles_of_runs)."
        )
    sizes = [runs[factor].nunique() for factor in factors]
    if min(sizes) < 2:
        raise InputError(f"{where}: {factors} have {sizes} levels; two of each are the fewest.")
    if part.duplicated([run, sentence]).any():
        raise InputError(f"{where}: a {run} and {sentence} has several values; name the column that splits them in by.")
    wide = part.pivot(index=run, columns=sentence, values=value).loc[runs[run]].astype("float64")
    if wide.isna().any(axis=None):
        raise InputError(
            f"{where}: {int(wide.isna().sum().sum())} values of a {run} and {sentence} are missing. "
            + _LEAVE_OUT.format(run=run, sentence=sentence)
        )
    values = wide.to_numpy()
    if any(is_constant(series, rounding_of(part[value])) for series in values):
        raise InputError(f"{where}: a {run} has the same value in all sentences: there is nothing to agree about.")
    return values, np.column_stack([pd.factorize(runs[factor], sort=True)[0] for factor in factors])


def _agreements(profiles: np.ndarray) -> list[tuple[str, np.ndarray, int]]:
    """Each measure with its matrix (run, run), and 1 where more is more agreement, -1 where less is."""
    means = profiles.mean(axis=1)
    distance = (means[:, None] - means[None, :]) ** 2
    ranks = np.corrcoef(stats.rankdata(profiles, axis=1))
    return list(zip(MEASURES, (ranks, np.corrcoef(profiles), distance), (1, 1, -1), strict=True))


def by_kind(
    agreement: np.ndarray,
    labels: np.ndarray,
    level: float,
    permutations: int,
    generator: np.random.Generator,
    sign: int,
) -> pd.DataFrame:
    """The rows of one measure, kinds in the order of `KINDS`."""
    means, counts = means_by_kind(agreement, labels)
    spared = [
        np.array([_excess(agreement[np.ix_(kept, kept)], labels[kept]) for kept in without_each(labels[:, factor])])
        for factor in (0, 1)
    ]  # each (level left out, "start" or "course")
    square = sum((len(each) - 1) / len(each) * ((each - each.mean(axis=0)) ** 2).sum(axis=0) for each in spared)
    se = np.sqrt(square)
    excess = means[:2] - means[2]
    reach = stats.t.ppf((1 + level) / 2, min(map(len, spared)) - 1) * se
    p = [_permuted(agreement, labels, factor, permutations, generator, sign) for factor in (0, 1)]
    sizes = labels.max(axis=0) + 1
    least = [max(1 / (1 + permutations), factorial(sizes[n]) ** (1.0 - sizes[1 - n])) for n in (0, 1)]
    missing = [np.nan]
    return pd.DataFrame(
        {
            "shares": KINDS,
            "pairs": counts,
            "mean": means,
            "excess": [*excess, *missing],
            "se": [*se, *missing],
            "lower": [*(excess - reach), *missing],
            "upper": [*(excess + reach), *missing],
            "p": [*np.maximum(p, least), *missing],
            "p_least": [*least, *missing],
        }
    )


def means_by_kind(agreement: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean agreement of the pairs that share the start, the course, neither; and how many there are. NaN of none.

    ``agreement`` is of shape (..., run, run), ``labels`` of shape (run, factor); the means are of shape (..., kind).
    """
    first, second = np.triu_indices(len(labels), 1)
    same = labels[first] == labels[second]  # (pair, factor)
    kinds = np.column_stack([same, ~same.any(axis=1)])  # (pair, kind)
    counts = kinds.sum(axis=0)
    sums = (agreement[..., first, second, None] * kinds).sum(axis=-2)
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0), counts


def _excess(agreement: np.ndarray, labels: np.ndarray) -> np.ndarray:
    means, _ = means_by_kind(agreement, labels)
    return means[:2] - means[2]


def without_each(levels: np.ndarray) -> list[np.ndarray]:
    """For each level, the numbers of the runs of all others."""
    return [np.flatnonzero(levels != level) for level in np.unique(levels)]


def _permuted(
    agreement: np.ndarray,
    labels: np.ndarray,
    factor: int,
    permutations: int,
    generator: np.random.Generator,
    sign: int,
) -> float:
    """The p-value of the pairs that share ``factor``: its labels permuted within each level of the other factor.

    Runs are sorted by both factors, so that labels form a table (level of the other, level of the factor).
    """
    first, second = np.triu_indices(len(labels), 1)
    apart = labels[first, 1 - factor] != labels[second, 1 - factor]  # a pair in one block never shares the factor
    first, second, pairs = first[apart], second[apart], sign * agreement[first, second][apart]
    blocks = [np.flatnonzero(labels[:, 1 - factor] == level) for level in np.unique(labels[:, 1 - factor])]
    levels = int(labels[:, factor].max()) + 1
    labellings = factorial(levels) ** (len(blocks) - 1)  # that differ: names of the levels do not matter
    exact = labellings <= permutations
    drawn = np.tile(labels[:, factor], (labellings if exact else permutations, 1))  # (draw, run)
    if exact:
        orders = np.array(list(product(all_orders(range(levels)), repeat=len(blocks) - 1)))  # (draw, block, level)
        for number, block in enumerate(blocks[1:]):
            drawn[:, block] = orders[:, number]
    else:
        for block in blocks:
            drawn[:, block] = generator.permuted(drawn[:, block], axis=1)
    observed = pairs[labels[first, factor] == labels[second, factor]].sum()
    # As many pairs share the factor in every draw, so the sum orders draws as the mean does.
    sums = ((drawn[:, first] == drawn[:, second]) * pairs).sum(axis=1)
    tolerance = 1e-12 * np.abs(pairs).sum()
    as_large = int((sums >= observed - tolerance).sum())
    return as_large / labellings if exact else (1 + as_large) / (1 + permutations)

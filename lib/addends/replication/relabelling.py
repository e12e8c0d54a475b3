"""Are runs of one condition closer to each other than runs of two? An exact test that permutes runs, not pairs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from addends.checks import check_count, listed, named, names_of, numbers, require_columns
from addends.errors import InputError

MOST_RELABELLINGS = 100_000
CHUNK = 5_000


def same_against_cross(
    distances: pd.DataFrame,
    conditions: Mapping[str, str],
    value: str = "distance",
    by: str | Sequence[str] = ("layer", "term", "quantity"),
    *,
    draws: int = 9_999,
    seed: int = 0,
) -> pd.DataFrame:
    """Permutation test: is the mean distance across conditions larger than within one?

    With d_ab the distance of runs a and b, and c their conditions::

        statistic = mean of d_ab over c_a != c_b  -  mean of d_ab over c_a == c_b
        p = relabellings with a statistic as large as the one observed, or larger / relabellings

    R runs make R (R - 1) / 2 pairs, which share runs and are not independent: in a test over pairs, one odd run counts
    R - 1 times. Here the labels of RUNS are permuted, under which the distances are exchangeable if condition does not
    matter. Relabellings that make the same pairs "same" are one: those that permute runs within a condition, or swap
    whole conditions of equal size. All distinct ones are gone through, the observed one among them; if there are more
    than 100,000, ``draws`` random ones stand for them, and p = (1 + as large) / (1 + draws).

    ``floor`` is the smallest p that the design can give, 1 / relabellings. Three runs of one condition and one each of
    three others have 20 relabellings: p < .05 is out of reach whatever the distances are.

    Parameters
    ----------
    distances : DataFrame
        One row a group and pair of runs, in the columns "run" and "other", as `distances.between_runs` returns.
    conditions : mapping of str to str
        The condition of every run. Some condition must have two runs, and there must be two conditions.
    value : str
        The column of distances. A larger one must mean less alike.
    by : sequence of str
        The columns that name a group; each is tested by itself. Adjust for their number before choosing among them.
    draws, seed : int
        Used only where not all relabellings are gone through.

    Returns
    -------
    DataFrame
        One row a group: ``by``, same, cross (the two means), statistic, p, floor, relabellings (gone through, or drawn
        and the observed one), exact, seed (missing where exact), pairs_same, pairs_cross, note. Where a distance is
        missing the test is too.

    Raises
    ------
    InputError
        If a column is unknown, a run has no condition, a pair stands twice, in both orders or not at all, a run is
        paired with itself, a distance is infinite, or the conditions leave nothing to permute.

    References
    ----------
    Edgington and Onghena (2007), Randomization Tests, ch. 1-3. Phipson and Smyth (2010), Permutation p-values should
    never be zero, Statistical Applications in Genetics and Molecular Biology 9, 39. Clarke (1993), Australian Journal
    of Ecology 18, 117-143, on permuting labels of units under a matrix of distances.
    """
    where = "same_against_cross"
    by = names_of(by, "by", where)
    require_columns(distances, [*by, "run", "other", value], where)
    check_count("draws", draws, where)
    if not len(distances):
        raise InputError(f"{where}: the table of distances has no rows.")
    runs = sorted({*distances["run"], *distances["other"]})
    labels = _labels(runs, conditions, where)
    matrix, groups = _matrix(distances, runs, value, by, where)
    same, exact = _relabellings(labels, draws, seed)  # (relabelling, pair), the observed one first
    number = same.shape[0]
    there = ~np.isnan(matrix).any(axis=1)
    within = int(same[0].sum())
    across = same.shape[1] - within
    whole = matrix[there].sum(axis=1)
    inside = np.concatenate(
        [same[start : start + CHUNK].astype(float) @ matrix[there].T for start in range(0, number, CHUNK)]
    )  # (relabelling, group)
    statistic = (whole - inside) / across - inside / within
    tie = 1e-10 * np.abs(matrix[there]).max(axis=1)  # the same sum in another order of additions
    as_large = (statistic >= statistic[0] - tie).sum(axis=0)
    result = pd.DataFrame(groups, columns=by)
    for name in ("same", "cross", "statistic", "p"):
        result[name] = np.nan
    result.loc[there, "same"] = inside[0] / within
    result.loc[there, "cross"] = (whole - inside[0]) / across
    result.loc[there, "statistic"] = statistic[0]
    result.loc[there, "p"] = as_large / number
    result["floor"] = 1 / number
    result["relabellings"], result["exact"] = number, exact
    result["seed"] = pd.array([pd.NA if exact else seed] * len(result), dtype="Int64")
    result["pairs_same"], result["pairs_cross"] = within, across
    result["note"] = np.where(there, "", "a distance is missing")
    return result


def distinct_relabellings(sizes: Sequence[int]) -> int:
    """In how many ways runs can be split into conditions of these sizes, those of one size being alike.

    R! / (n_1! n_2! ...) / (m_1! m_2! ...), with n the sizes and m how many conditions have each size.
    """
    number = math.factorial(sum(sizes))
    for size in sizes:
        number //= math.factorial(size)
    for alike in Counter(sizes).values():
        number //= math.factorial(alike)
    return number


def _labels(runs: list, conditions: Mapping[str, str], where: str) -> np.ndarray:
    if isinstance(conditions, pd.Series):
        conditions = conditions.to_dict()
    unknown = [run for run in runs if run not in conditions or pd.isna(conditions[run])]
    if unknown:
        raise InputError(f"{where}: no condition is given for the run(s) {listed(unknown)}.")
    labels = np.unique([str(conditions[run]) for run in runs], return_inverse=True)[1]
    sizes = np.bincount(labels)
    if len(sizes) < 2 or sizes.max() < 2:
        raise InputError(
            f"{where}: {len(runs)} run(s) in {len(sizes)} condition(s), of sizes {sizes.tolist()}: two conditions are "
            "needed, and two runs in at least one of them; else no pair is of the same condition, or none across."
        )
    return labels


def _matrix(
    distances: pd.DataFrame, runs: list, value: str, by: list[str], where: str
) -> tuple[np.ndarray, list[tuple]]:
    """Distances of shape (group, pair), pairs in the order of `numpy.triu_indices`, and the groups' names."""
    place = {run: number for number, run in enumerate(runs)}
    one, two = (distances[name].map(place).to_numpy() for name in ("run", "other"))
    if (one == two).any():
        raise InputError(f"{where}: a run is paired with itself in {int((one == two).sum())} row(s).")
    column = numbers(distances, value, where)
    if np.isinf(column).any():
        raise InputError(f"{where}: the column {value!r} holds infinite values.")
    size = len(runs)
    first, second = np.minimum(one, two), np.maximum(one, two)
    order = np.full((size, size), -1)
    order[np.triu_indices(size, 1)] = np.arange(size * (size - 1) // 2)
    pair = order[first, second]
    grouped = (
        distances.groupby(by, sort=True, observed=True, dropna=False).indices if by else {(): np.arange(len(pair))}
    )
    rows, names = [], []
    for name, places in grouped.items():
        name = name if isinstance(name, tuple) else (name,)
        counts = np.bincount(pair[places], minlength=order.max() + 1)
        if (counts != 1).any():
            wrong = np.flatnonzero(counts != 1)
            i, j = (axis[wrong[0]] for axis in np.triu_indices(size, 1))
            raise InputError(
                f"{where}: every two runs have one distance a group, but in {named(by, name) or 'the table'} "
                f"{len(wrong)} pair(s) stand not at all or more than once, first {runs[i]} and {runs[j]} "
                f"({counts[wrong[0]]} times). Name the column that tells rows apart in by=."
            )
        row = np.empty(len(counts))
        row[pair[places]] = column[places]
        rows.append(row)
        names.append(name)
    return np.array(rows), names


def _relabellings(labels: np.ndarray, draws: int, seed: int) -> tuple[np.ndarray, bool]:
    """Which pairs are of one condition, bool of shape (relabelling, pair), the observed labels first."""
    i, j = np.triu_indices(len(labels), 1)
    sizes = np.bincount(labels).tolist()
    exact = distinct_relabellings(sizes) <= MOST_RELABELLINGS
    if exact:
        every = np.array(list(_splits(len(labels), sizes)))  # (relabelling, run)
    else:
        generator = np.random.default_rng(seed)
        every = np.vstack([labels, [generator.permutation(labels) for _ in range(draws)]])
    same = every[:, i] == every[:, j]
    if exact:  # the observed one to the front
        observed = int(np.flatnonzero((same == (labels[i] == labels[j])).all(axis=1)).item())
        same[[0, observed]] = same[[observed, 0]]
    return same, exact


def _splits(number: int, sizes: list[int]) -> Iterator[list[int]]:
    """Every split of runs 0, ..., number - 1 into unnamed conditions of the given sizes, once, as a label a run."""
    labels = [-1] * number

    def split(left: tuple[int, ...], counts: Counter, label: int) -> Iterator[list[int]]:
        if not left:
            yield list(labels)
            return
        first, rest = left[0], left[1:]  # the first run that is left has to be in some condition
        for size in sorted(size for size, count in counts.items() if count):
            for others in combinations(rest, size - 1):
                for run in (first, *others):
                    labels[run] = label
                remaining = tuple(run for run in rest if run not in others)
                yield from split(remaining, counts - Counter([size]), label + 1)

    yield from split(tuple(range(number)), Counter(sizes), 0)

"""How alike the spaces of two runs are, by what the two runs share: start, course, neither; beside two floors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from addends.checks import (
    check_choice,
    check_count,
    check_level,
    finite_numbers,
    groups_of,
    names_of,
    refuse_repeated,
    require_columns,
    require_named,
)
from addends.errors import InputError
from addends.statistics.pairs import by_kind

FLOORS = ("other masks", "checkpoint before")
_FOUND = ["shares", "pairs", "mean", "excess", "se", "lower", "upper", "p", "p_least"]
_OF_MEAN = ["mean", "se", "lower", "upper", "runs", "pairs"]


def similarity_by_kind(
    frame: pd.DataFrame,
    value: str,
    roles: pd.DataFrame,
    by: str | Sequence[str] = (),
    closer: str = "more",
    level: float = 0.95,
    permutations: int = 9_999,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean similarity of pairs of runs, by what the two runs share, and what sharing it adds.

    Of the runs of a factorial, the pairs that share the start and those that share the course are held against those
    that share neither. `agreement_by_kind` says how: a jackknife over starts and over courses, and a permutation of the
    labels of one within the levels of the other, since pairs share runs and are no sample.

    Two floors stand beside them: a run and its copy under other dropout masks, which differ by chance alone; and a run
    and its checkpoint before, which no two runs are closer than.

    Parameters
    ----------
    frame : DataFrame
        The table ``run_pairs``, or a part of it.
    value : str
        A column of it, such as "cka".
    roles : DataFrame
        run, start, course, role: what `roles_of_runs` gives.
    by : str or sequence of str
        Columns that split the frame, such as layer, by, term.
    closer : {"more", "less"}
        Whether two runs are closer where the value is larger (cka) or smaller (procrustes, kl).
    level, permutations, seed
        As in `agreement_by_kind`.

    Returns
    -------
    DataFrame
        The columns of ``by``; shares ("start", "course", "neither", "other masks", "checkpoint before"); pairs; mean;
        and for the first two excess (over neither), se, lower, upper, p, p_least.

        >>> roles = pd.DataFrame({"run": list("abcd"), "init_seed": [1, 1, 2, 2], "order_seed": [1, 2, 1, 2]})
        >>> pairs = pd.DataFrame({"a": list("aaabbc"), "b": list("bcdcdd"), "cka": [0.9, 0.5, 0.4, 0.4, 0.5, 0.9]})
        >>> found = similarity_by_kind(pairs, "cka", roles.assign(role="factorial"), permutations=99)
        >>> found[["shares", "pairs", "mean"]].head(3)
            shares  pairs  mean
        0    start      2   0.9
        1   course      2   0.5
        2  neither      2   0.4

    Raises
    ------
    InputError
        If a column or a run's name is missing, a pair of runs has no value or several, or the factorial is not fully
        crossed.
    """
    where = f"similarity_by_kind({value!r})"
    check_level(level, where)
    check_count("permutations", permutations, where, least=99)
    check_choice("closer", closer, ("more", "less"), where)
    by = names_of(by, "by", where)
    frame = with_named_ends(frame, by, where)
    finite_numbers(frame, value, where, "Leave the layer and term out where spaces do not vary.")
    inside, labels = labels_of_factorial(roles, where)
    tables = []
    for group, part in groups_of(frame, by, _FOUND, where):
        matrix = matrix_of_pairs(part, value, inside["run"].tolist(), where)
        generator = np.random.default_rng(seed)
        table = by_kind(matrix, labels, level, permutations, generator, 1 if closer == "more" else -1)
        table = pd.concat([table, _floors(part, value, roles, where)], ignore_index=True)
        for place, (name, level_of) in enumerate(group.items()):
            table.insert(place, name, [level_of] * len(table))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)[[*by, *_FOUND]]


def mean_over_pairs(
    frame: pd.DataFrame, value: str, by: str | Sequence[str] = (), level: float = 0.95, one: str = "a", two: str = "b"
) -> pd.DataFrame:
    r"""The mean over pairs of different runs, with an interval over runs.

    Pairs share runs, so that R (R - 1) / 2 pairs are no more than R runs. Runs are to be independent of each other:
    those of a factorial share starts and courses, and the interval is too narrow for them (of 16 runs with 4 starts, it
    holds the mean in 6 of 10 cases instead of 9.5 where likeness hangs on the start); `similarity_over_training` and
    `similarity_by_kind` have theirs. With m the mean over all pairs and m_r that over the pairs without run r::

        se^2 = (R - 1) / R * sum_r (m_r - mean(m_r))^2,    interval: m +- t(R - 1) se

    Parameters
    ----------
    frame : DataFrame
        One row a pair in each group: run_pairs, or stitches (whose pairs are ordered).
    value : str
    by : str or sequence of str
        Columns that split the frame.
    level : float
    one, two : str
        The columns that name the two runs. Rows in which they are one run are left out.

    Returns
    -------
    DataFrame
        The columns of ``by``; mean, se, lower, upper, runs, pairs.

        >>> pairs = pd.DataFrame({"a": list("aab"), "b": list("bcc"), "cka": [0.5, 0.6, 0.7]})
        >>> mean_over_pairs(pairs, "cka").round(3)
           mean    se  lower  upper  runs  pairs
        0   0.6  0.115  0.103  1.097     3      3

    Raises
    ------
    InputError
        If a column or a run's name is missing, a value is missing or infinite, a pair stands twice, some pairs stand in
        both orders and others in one, there are fewer than three runs, or all pairs are of one of them.

    References
    ----------
    Arvesen (1969), Jackknifing U-statistics, Annals of Mathematical Statistics 40, 2076-2100.
    """
    where = f"mean_over_pairs({value!r})"
    check_level(level, where)
    by = names_of(by, "by", where)
    frame = with_named_ends(frame, by, where, one, two)
    finite_numbers(frame, value, where, "Leave the rows out where there is nothing to compare.")
    rows = []
    for group, part in groups_of(frame[frame[one] != frame[two]], by, _OF_MEAN, where):
        _check_pairs(part, one, two, group, where)
        runs = sorted(set(part[one]) | set(part[two]), key=str)
        if len(runs) < 3:
            raise InputError(f"{where}: {len(runs)} runs{_of(group)}: three or more are needed, to leave one out.")
        values, mean = part[value].to_numpy(), float(part[value].mean())
        spared = [values[((part[one] != run) & (part[two] != run)).to_numpy()] for run in runs]
        without = np.array([each.mean() if len(each) else np.nan for each in spared])
        if np.isnan(without).any():
            only = runs[int(np.flatnonzero(np.isnan(without))[0])]
            raise InputError(
                f"{where}: every pair{_of(group)} is one of {only!r}: without that run no pair is left. Give the pairs "
                "of the other runs too."
            )
        se = float(np.sqrt((len(runs) - 1) / len(runs) * np.square(without - without.mean()).sum()))
        reach = float(stats.t.ppf((1 + level) / 2, len(runs) - 1)) * se
        found = {"mean": mean, "se": se, "lower": mean - reach, "upper": mean + reach}
        rows.append(group | found | {"runs": len(runs), "pairs": len(part)})
    return pd.DataFrame(rows, columns=[*by, *_OF_MEAN])


def _check_pairs(part: pd.DataFrame, one: str, two: str, group: Mapping[str, object], where: str) -> None:
    """Raise InputError where a pair stands twice, or some pairs stand in both orders and others in one."""
    if part.duplicated([one, two]).any():
        raise InputError(f"{where}: a pair stands twice{_of(group)}: name the columns that tell them apart in by.")
    orders = pd.Series(list(map(frozenset, zip(part[one], part[two], strict=True)))).value_counts()
    if orders.min() < orders.max():
        once = sorted(orders.index[orders == 1][0], key=str)
        raise InputError(
            f"{where}: {int((orders == 2).sum())} of {len(orders)} pairs stand in both orders{_of(group)}, and others, "
            f"such as {once}, in one: they would weigh half as much. Give each pair once, or each in both orders."
        )


def _of(group: Mapping[str, object]) -> str:
    return f" of {dict(group)}" if group else ""


def with_named_ends(frame: pd.DataFrame, by: Sequence[str], where: str, one: str = "a", two: str = "b") -> pd.DataFrame:
    """The frame, with the names of the two runs of each row as plain objects: two categorical columns do not compare.

    Raises
    ------
    InputError
        If a column is missing, or a row does not name both runs.
    """
    require_columns(frame, [*by, one, two], where)
    require_named(frame, [one, two], where)
    return frame.astype({one: object, two: object})


def matrix_of_pairs(part: pd.DataFrame, value: str, runs: list[str], where: str) -> np.ndarray:
    """The values as a symmetric matrix (run, run); the diagonal, which nothing reads, is 0."""
    places = {run: place for place, run in enumerate(runs)}
    chosen = part[part["a"].isin(places) & part["b"].isin(places) & (part["a"] != part["b"])]
    counts = np.zeros((len(runs), len(runs)), dtype=int)
    matrix = np.zeros((len(runs), len(runs)))
    one, two = (chosen[name].map(places).to_numpy(dtype=int) for name in ("a", "b"))
    np.add.at(counts, (one, two), 1)
    matrix[one, two] = matrix[two, one] = chosen[value].to_numpy()
    counts = counts + counts.T
    wrong = np.argwhere(np.triu(counts != 1, 1))
    if len(wrong):
        a, b = (runs[place] for place in wrong[0])
        raise InputError(
            f"{where}: the pair {a!r}, {b!r} has {counts[tuple(wrong[0])]} values, and {len(wrong)} pair(s) in all "
            "have none or several; one each is wanted. Name the columns that tell them apart in by (rows, checkpoint)."
        )
    return matrix


def labels_of_factorial(roles: pd.DataFrame, where: str) -> tuple[pd.DataFrame, np.ndarray]:
    """The runs of the factorial, and their levels of start and course as numbers from 0, of shape (run, factor).

    Raises
    ------
    InputError
        If a column is missing, or not every start has one run with every course.
    """
    require_columns(roles, ["run", "role"], where)
    factors = _factors(roles)
    if len(factors) != 2:
        raise InputError(f"{where}: roles has the columns {list(roles.columns)}: run, start, course, role are wanted.")
    inside = roles[roles["role"] == "factorial"].sort_values(factors, ignore_index=True)
    cells = inside[factors[0]].nunique() * inside[factors[1]].nunique()
    if len(inside) != cells or inside.duplicated(factors).any() or cells < 4:
        raise InputError(
            f"{where}: {len(inside)} runs of the factorial for {cells} combinations of {factors}: one run each, two "
            "levels or more of both, are wanted."
        )
    return inside, np.column_stack([pd.factorize(inside[factor], sort=True)[0] for factor in factors])


def _factors(roles: pd.DataFrame) -> list[str]:
    return [name for name in roles.columns if name not in ("run", "role")]


def twins_and_before(part: pd.DataFrame, roles: pd.DataFrame, where: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of a run and its copy under other masks, and those of a run and its checkpoint before.

    Of the former, a is the end whose name comes first.

    Raises
    ------
    InputError
        If such a pair stands twice, in whatever order.
    """
    cells = roles.set_index("run")[_factors(roles)].apply(tuple, axis=1)
    masks = roles.set_index("run")["role"] == "other masks"
    known = part[part["a"].isin(cells.index) & part["b"].isin(cells.index)]
    itself = known["a"] == known["b"]
    twins = ~itself & (known["a"].map(cells) == known["b"].map(cells)) & (known["a"].map(masks) | known["b"].map(masks))
    ends = [sorted(pair, key=str) for pair in zip(known["a"], known["b"], strict=True)]
    known = known.assign(a=[first for first, _ in ends], b=[second for _, second in ends])
    remedy = "Name the columns that tell them apart in by (rows, checkpoint)."
    refuse_repeated(known[twins | itself], ["a", "b"], where, remedy)
    return known[twins], known[itself]


def _floors(part: pd.DataFrame, value: str, roles: pd.DataFrame, where: str) -> pd.DataFrame:
    rows = []
    for name, chosen in zip(FLOORS, twins_and_before(part, roles, where), strict=True):
        rows.append({"shares": name, "pairs": len(chosen), "mean": chosen[value].mean() if len(chosen) else np.nan})
    return pd.DataFrame(rows)

"""How much further apart are two runs than one run and its own checkpoint before? By what the two runs share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from addends.checks import check_choice, check_level, finite_numbers, groups_of, names_of
from addends.errors import InputError
from addends.statistics.pairs import KINDS, means_by_kind, without_each
from addends.statistics.similarities import labels_of_factorial, matrix_of_pairs, twins_and_before, with_named_ends

FEWEST_STARTS = 3
_FOUND = ["shares", "pairs", "itself", "between", "apart", "se", "lower", "upper", "p", "starts"]


def apart_from_itself(
    frame: pd.DataFrame,
    value: str,
    roles: pd.DataFrame,
    by: str | Sequence[str] = (),
    closer: str = "more",
    level: float = 0.95,
) -> pd.DataFrame:
    r"""A run's similarity with its own checkpoint before, less that of pairs of runs; by what the two runs share.

    With v(r, r') the value of a pair and v(r) that of run r with its checkpoint before, over the R runs of a factorial
    and the P pairs of a kind::

        apart = 1 / R sum_r v(r) - 1 / P sum_{(r, r')} v(r, r')

    The standard error is a jackknife over starts: with a_i what is apart without the runs of start i, of A starts, ::

        se^2 = (A - 1) / A * sum_i (a_i - mean(a))^2,    interval: apart +- t(A - 1) se

    The interval is about other starts with these same courses. About other courses it says nothing: where likeness
    hangs on the course, and not on the start, it would hold what is apart over all courses in 2 to 5 of 10 cases.

    Parameters
    ----------
    frame : DataFrame
        The table ``run_pairs`` of one checkpoint, or a part of it: every pair of the factorial's runs, and each run
        with its checkpoint before.
    value : str
        A column of it, such as "cka".
    roles : DataFrame
        run, start, course, role: what `roles_of_runs` gives.
    by : str or sequence of str
        Columns that split the frame, such as layer, rows.
    closer : {"more", "less"}
        Whether two spaces are closer where the value is larger (cka) or smaller (procrustes, kl), which turns the sign
        of ``apart``.
    level : float

    Returns
    -------
    DataFrame
        The columns of ``by``; shares ("start", "course", "neither"); pairs; itself and between, the two means; apart,
        se, lower, upper; p, two-sided, of t = apart / se; starts.

        >>> seeds = [(f"{i}{j}", i, j) for i in (1, 2, 3) for j in (1, 2)]
        >>> roles = pd.DataFrame(seeds, columns=["run", "init_seed", "order_seed"]).assign(role="factorial")
        >>> names = [name for name, _, _ in seeds]
        >>> rows = [(a, b, 0.9 if a == b else 0.5) for k, a in enumerate(names) for b in names[k:]]
        >>> found = apart_from_itself(pd.DataFrame(rows, columns=["a", "b", "cka"]), "cka", roles)
        >>> found[["shares", "pairs", "itself", "between", "apart"]]
            shares  pairs  itself  between  apart
        0    start      3     0.9      0.5    0.4
        1   course      6     0.9      0.5    0.4
        2  neither      6     0.9      0.5    0.4

    Raises
    ------
    InputError
        If a column is missing, a pair has no value or several, a run has none or several with its checkpoint before,
        the factorial is not fully crossed, or it has fewer than three starts.

    References
    ----------
    As `agreement_by_kind`.
    """
    where = f"apart_from_itself({value!r})"
    check_level(level, where)
    check_choice("closer", closer, ("more", "less"), where)
    by = names_of(by, "by", where)
    frame = with_named_ends(frame, by, where)
    finite_numbers(frame, value, where, "Leave the layer and term out where spaces do not vary.")
    inside, labels = labels_of_factorial(roles, where)
    starts = int(labels[:, 0].max()) + 1
    if starts < FEWEST_STARTS:
        raise InputError(f"{where}: {starts} starts; {FEWEST_STARTS} are the fewest that one can be left out of.")
    sign, rows = (1 if closer == "more" else -1), []
    for group, part in groups_of(frame, by, _FOUND, where):
        between = matrix_of_pairs(part, value, inside["run"].tolist(), where)
        itself = _of_runs(twins_and_before(part, roles, where)[1], value, inside["run"], where)
        apart = sign * (itself.mean() - means_by_kind(between, labels)[0])  # (kind,)
        spared = np.array(
            [
                sign * (itself[kept].mean() - means_by_kind(between[np.ix_(kept, kept)], labels[kept])[0])
                for kept in without_each(labels[:, 0])
            ]
        )  # (start left out, kind)
        se = np.sqrt((starts - 1) / starts * np.square(spared - spared.mean(axis=0)).sum(axis=0))
        reach = stats.t.ppf((1 + level) / 2, starts - 1) * se
        means, counts = means_by_kind(between, labels)
        with np.errstate(divide="ignore", invalid="ignore"):
            p = 2 * stats.t.sf(np.abs(apart) / se, starts - 1)
        rows += [
            group
            | {"shares": kind, "pairs": counts[k], "itself": itself.mean(), "between": means[k], "apart": apart[k]}
            | {"se": se[k], "lower": apart[k] - reach[k], "upper": apart[k] + reach[k], "p": p[k], "starts": starts}
            for k, kind in enumerate(KINDS)
        ]
    return pd.DataFrame(rows, columns=[*by, *_FOUND])


def _of_runs(part: pd.DataFrame, value: str, runs: pd.Series, where: str) -> np.ndarray:
    """The value of each run with its checkpoint before, of shape (run,)."""
    lacking = sorted(set(runs) - set(part["a"]))
    if lacking:
        raise InputError(
            f"{where}: {len(lacking)} run(s), the first {lacking[0]!r}, have no value with their checkpoint before. "
            "Compare a checkpoint that has one before it."
        )
    return part.set_index("a")[value].loc[runs].to_numpy(dtype=float)

"""Do runs grow alike or drift apart while they train? Means of pairs by what they share, at each checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from addends.checks import check_level, finite_numbers, groups_of, names_of
from addends.errors import InputError
from addends.statistics.pairs import KINDS, means_by_kind, without_each
from addends.statistics.similarities import (
    FLOORS,
    labels_of_factorial,
    matrix_of_pairs,
    twins_and_before,
    with_named_ends,
)

_NUMBERS = ["pairs", "mean", "lower", "upper", "change", "change_lower", "change_upper"]
_FOUND = ["shares", "checkpoint", "previous", *_NUMBERS]


def similarity_over_training(
    frame: pd.DataFrame,
    value: str,
    roles: pd.DataFrame,
    by: str | Sequence[str] = (),
    level: float = 0.95,
    step: str = "checkpoint",
) -> pd.DataFrame:
    r"""Mean similarity of pairs at each checkpoint, by what the two runs share, and its change since the one before.

    With m_k the mean at checkpoint k over the pairs of a kind, and c_k = m_k - m_{k-1}, of the same pairs, the standard
    error of either is a jackknife over starts (all runs of one start are left out at a time) and one over courses,
    added::

        se^2 = sum over factors of (n - 1) / n * sum over its n levels of (m without it - their mean)^2

    and the interval is m +- t se, with n - 1 degrees of freedom of the smaller n. Where a factor has two levels only,
    the pairs of some kinds are gone without one of them, and there is no interval. A run and its copy under other masks
    share no run with another such pair: their interval is Student's, over pairs. A run beside its checkpoint before has
    none, and no change: how many steps lie between the two differs from checkpoint to checkpoint.

    Parameters
    ----------
    frame : DataFrame
        The table ``run_pairs``, or a part of it: every pair of the factorial's runs at every checkpoint.
    value : str
        A column of it, such as "cka".
    roles : DataFrame
        run, start, course, role: what `roles_of_runs` gives.
    by : str or sequence of str
        Columns that split the frame, such as layer, by, term.
    level : float
        Of the intervals, of each by itself.
    step : str
        The column of checkpoints.

    Returns
    -------
    DataFrame
        The columns of ``by``; shares ("start", "course", "neither", "other masks", "checkpoint before"); checkpoint,
        previous; pairs; mean, lower, upper; change, change_lower, change_upper, missing at the first checkpoint of a
        kind, and of a run beside itself. A kind that a checkpoint has no pair of has no row there.

        >>> roles = pd.DataFrame({"run": list("abcd"), "init_seed": [1, 1, 2, 2], "order_seed": [1, 2, 1, 2]})
        >>> pairs = pd.DataFrame({"a": list("aaabbc"), "b": list("bcdcdd"), "cka": [0.9, 0.5, 0.4, 0.4, 0.5, 0.9]})
        >>> both = pd.concat([pairs.assign(checkpoint=10), pairs.assign(checkpoint=20, cka=pairs["cka"] / 2)])
        >>> found = similarity_over_training(both, "cka", roles.assign(role="factorial"))
        >>> found.loc[found["shares"] == "start", ["checkpoint", "pairs", "mean", "change"]]
           checkpoint  pairs  mean  change
        0          10      2  0.90     NaN
        1          20      2  0.45   -0.45

    Raises
    ------
    InputError
        If a column or a run's name is missing, a checkpoint is no number, there is one checkpoint only, a pair of the
        factorial's runs has no value or several at one of them, or the factorial is not fully crossed.

    References
    ----------
    As `agreement_by_kind`.
    """
    where = f"similarity_over_training({value!r})"
    check_level(level, where)
    by = names_of(by, "by", where)
    frame = with_named_ends(frame, [*by, step], where)
    finite_numbers(frame, step, where, "Checkpoints are training steps, which put them in order.")
    finite_numbers(frame, value, where, "Leave the layer and term out where spaces do not vary.")
    inside, labels = labels_of_factorial(roles, where)
    tables = []
    for group, part in groups_of(frame, by, _FOUND, where):
        steps = sorted(part[step].unique())
        if len(steps) < 2:
            raise InputError(f"{where}: one checkpoint ({steps[0]}): two or more are needed to see a change.")
        at = {each: part[part[step] == each] for each in steps}
        matrices = np.stack([matrix_of_pairs(rows, value, inside["run"].tolist(), where) for rows in at.values()])
        table = pd.concat([_of_kinds(matrices, labels, steps, level), _of_floors(at, value, roles, level, where)])
        for place, (name, level_of) in enumerate(group.items()):
            table.insert(place, name, [level_of] * len(table))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)[[*by, *_FOUND]]


def _of_kinds(matrices: np.ndarray, labels: np.ndarray, steps: Sequence[int], level: float) -> pd.DataFrame:
    """The rows of the pairs that share start, course, neither, from values (checkpoint, run, run)."""
    means, counts = means_by_kind(matrices, labels)  # (checkpoint, kind), (kind,)
    spared = [
        np.array(
            [means_by_kind(matrices[:, kept][:, :, kept], labels[kept])[0] for kept in without_each(labels[:, factor])]
        )
        for factor in (0, 1)
    ]  # each (level left out, checkpoint, kind)
    critical = stats.t.ppf((1 + level) / 2, min(map(len, spared)) - 1)
    reach = critical * _two_way(spared)
    reach_of_change = critical * _two_way([np.diff(each, axis=1) for each in spared])
    rows = []
    for number, kind in enumerate(KINDS):
        rows += _rows(
            kind,
            steps,
            [counts[number]] * len(steps),
            means[:, number],
            np.diff(means[:, number]),
            reach[:, number],
            reach_of_change[:, number],
        )
    return pd.DataFrame(rows)


def _two_way(spared: Sequence[np.ndarray]) -> np.ndarray:
    """The standard error of the jackknife over starts and over courses, added in squares."""
    return np.sqrt(sum((len(v) - 1) / len(v) * np.square(v - v.mean(axis=0)).sum(axis=0) for v in spared))


def _of_floors(at: dict[int, pd.DataFrame], value: str, roles: pd.DataFrame, level: float, where: str) -> pd.DataFrame:
    """The rows of the two floors, at the checkpoints that have them."""
    rows = []
    for number, floor in enumerate(FLOORS):
        rows_at = {step: twins_and_before(part, roles, where)[number] for step, part in at.items()}
        chosen = {step: part.set_index(["a", "b"])[value] for step, part in rows_at.items()}
        chosen = {step: values for step, values in chosen.items() if len(values)}
        if not chosen:
            continue
        wide = pd.DataFrame(chosen)  # (pair, checkpoint)
        changes = wide.diff(axis=1).iloc[:, 1:]
        reach, reach_of_change = (
            _over_pairs(each, level) if floor == "other masks" else None for each in (wide, changes)
        )
        missing = np.full(wide.shape[1], np.nan)
        rows += _rows(
            floor,
            list(wide.columns),
            wide.notna().sum().tolist(),
            wide.mean().to_numpy(),
            # Of pairs that both have, and not of all that either has; a checkpoint and the one before it are no such.
            changes.mean().to_numpy() if floor == "other masks" else missing[1:],
            missing if reach is None else reach,
            missing[1:] if reach_of_change is None else reach_of_change,
        )
    return pd.DataFrame(rows)


def _over_pairs(wide: pd.DataFrame, level: float) -> np.ndarray:
    """Student's half-width over the rows of each column; missing of one row."""
    count = wide.notna().sum().to_numpy()
    return stats.t.ppf((1 + level) / 2, np.where(count > 1, count - 1, np.nan)) * wide.sem().to_numpy()


def _rows(
    kind: str,
    steps: Sequence[int],
    counts: Sequence[int],
    means: np.ndarray,
    change: np.ndarray,
    reach: np.ndarray,
    reach_of_change: np.ndarray,
) -> list[dict]:
    changes = np.concatenate([[np.nan], change])
    reaches = np.concatenate([[np.nan], reach_of_change])
    return [
        {
            "shares": kind,
            "checkpoint": step,
            "previous": steps[place - 1] if place else pd.NA,
            "pairs": counts[place],
            "mean": means[place],
            "lower": means[place] - reach[place],
            "upper": means[place] + reach[place],
            "change": changes[place],
            "change_lower": changes[place] - reaches[place],
            "change_upper": changes[place] + reaches[place],
        }
        for place, step in enumerate(steps)
    ]

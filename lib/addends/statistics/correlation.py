"""Does an indicator go with quality over the checkpoints of a run, beyond both of them growing?

The same question over all pairs of checkpoints is asked in `addends.replication.pairs`, over blocks of one training in
`bootstrap`, over runs in `spread`, over sentences in `sentence_level`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from addends.checks import listed, named, numbers, require_columns, rounding_of
from addends.errors import InputError

FEWEST_CHECKPOINTS = 4
MOST_DECIMALS = 4


def over_checkpoints(
    data: pd.DataFrame,
    indicator: str,
    quality: str,
    by: Sequence[str] = ("run", "layer", "term"),
    step: str = "checkpoint",
) -> pd.DataFrame:
    """Spearman correlation of an indicator and quality over checkpoints, with its detrended versions beside it.

    With r the Pearson correlation of mid-ranks, x the indicator, q the quality and t the step, in order of t::

        rho             = r(x, q)
        rho_differences = r(x_2 - x_1, ..., x_n - x_(n-1);  q_2 - q_1, ..., q_n - q_(n-1))
        rho_partial     = (r(x, q) - r(x, t) r(q, t)) / sqrt((1 - r(x, t)^2) (1 - r(q, t)^2))

    ``rho`` mostly measures that both curves grow: any two quantities that rise with training have one near 1. It is
    therefore never returned alone. ``rho_differences`` asks whether the indicator moves when quality moves from one
    checkpoint to the next; ``rho_partial`` asks what is left of ``rho`` when the order of the steps is held fixed.

    Neither removes all that two unrelated curves share. Differences lose the trend but keep the shape "fast early,
    slow late" of any training: two independent curves that saturate have a large ``rho_differences`` as well. What
    belongs to a run, and not to trainings in general, shows only against a control: the same coefficients with
    another run's quality in the place of the run's own, see `with_quality_of_others`.

    No p-values: a test of any of the three would count checkpoints as independent, and neighbouring checkpoints of
    one run are nearly copies of one another, so that its p-value shrinks with how often the run was saved. Claims over
    runs rest on the spread of these coefficients over runs.

    Parameters
    ----------
    data : DataFrame
        One row a group and checkpoint, in any order.
    indicator, quality : str
        Columns of numbers. A missing value is allowed (the cosine of a zero vector is missing): its checkpoint is left
        out of that group, counted in ``missing``, and the differences run over the gap.
    by : sequence of str
        The columns whose values name a group.
    step : str
        The column of training steps.

    Returns
    -------
    DataFrame
        One row a group: the columns of ``by``, then rho, rho_differences, rho_partial, checkpoints (how many were
        used), missing (how many were left out) and note. A coefficient that is undefined is missing, never 0, and
        ``note`` says why: a constant series has no ranks to correlate, and a series that rises or falls at every
        checkpoint has nothing left once the step is held fixed. Otherwise ``note`` is empty.

    Raises
    ------
    InputError
        If a column is unknown, a value infinite, a group's name or step missing, a group and checkpoint stand twice,
        or a group has fewer than 4 checkpoints. The message names the groups.

    References
    ----------
    Spearman (1904), American Journal of Psychology 15, 72-101. Kendall (1942), Partial rank correlation,
    Biometrika 32, 277-283. Granger and Newbold (1974), Spurious regressions in econometrics, Journal of Econometrics
    2, 111-120, on correlations of levels.
    """
    where = "over_checkpoints"
    by = [by] if isinstance(by, str) else list(by)
    roles = [*by, step, indicator, quality]
    if not by or len(set(roles)) < len(roles):
        raise InputError(f"{where}: by={by}, step, indicator and quality must be different columns; given {roles}.")
    require_columns(data, roles, where)
    columns = {name: numbers(data, name, where) for name in (step, indicator, quality)}
    unusable = data[by].isna().any(axis=1).to_numpy() | ~np.isfinite(columns[step])
    for name in (indicator, quality):
        unusable |= np.isinf(columns[name])
    if unusable.any():
        raise InputError(
            f"{where}: an infinite value, or a missing {step!r} or name of a group, in {unusable.sum()} row(s), "
            f"counted from 0: {listed(np.flatnonzero(unusable))}. Mend or drop these rows."
        )
    twice = data.duplicated([*by, step])
    if twice.any():
        cases = [named([*by, step], row) for row in data.loc[twice.to_numpy(), [*by, step]].itertuples(index=False)]
        raise InputError(
            f"{where}: a group has one row a checkpoint, but {len(cases)} stand more than once: {listed(cases, 3)}. "
            "Name the column that tells them apart in by=, or keep one (a metric, a target, a method?)."
        )
    if not len(data):
        raise InputError(f"{where}: the data have no rows.")

    # Table columns are often float32: a difference smaller than this is their rounding, and not a change.
    rounding = {name: rounding_of(data[name]) for name in (indicator, quality)}
    rows, few = [], []
    groups = data.groupby(by, sort=True, observed=True).indices
    for name, positions in groups.items():
        name = name if isinstance(name, tuple) else (name,)
        if len(positions) < FEWEST_CHECKPOINTS:
            few.append(f"{named(by, name)} ({len(positions)})")
            continue
        positions = positions[np.argsort(columns[step][positions], kind="stable")]
        t, x, q = (columns[column][positions] for column in (step, indicator, quality))
        there = ~(np.isnan(x) | np.isnan(q))
        coefficients = _coefficients(t[there], x[there], q[there], rounding[indicator], rounding[quality])
        counts = {"checkpoints": int(there.sum()), "missing": int((~there).sum())}
        note = coefficients.pop("note").format(indicator=indicator, quality=quality)
        rows.append({**dict(zip(by, name, strict=True)), **coefficients, **counts, "note": note})
    if few:
        raise InputError(
            f"{where}: fewer than {FEWEST_CHECKPOINTS} checkpoints (their number in brackets) in {len(few)} group(s): "
            f"{listed(few, 3)}. Leave them out, or check that by= does not split checkpoints apart."
        )
    return pd.DataFrame(rows)


def with_quality_of_others(
    data: pd.DataFrame, quality: str, run: str = "run", step: str = "checkpoint"
) -> pd.DataFrame:
    """The control: every row once for each other run, with that run's quality at the same step in place of its own.

    Given to `over_checkpoints` with "other" added to ``by``, it gives the correlations that trainings show merely by
    being trainings: they share no seed, and so nothing but their course.

    Returns
    -------
    DataFrame
        The rows of ``data`` with the column ``quality`` replaced, and a new column "other": whose quality it is.

    Raises
    ------
    InputError
        If a column is unknown, there is one run only, a run has two values of quality at one step, or the runs were
        not saved at the same steps.
    """
    where = "with_quality_of_others"
    require_columns(data, [run, step, quality], where)
    scores = data[[run, step, quality]].drop_duplicates()
    if scores.duplicated([run, step]).any():
        raise InputError(f"{where}: {quality!r} has several values at one {step} of one {run}. Give it one a {step}.")
    grids = scores.groupby(run)[step].agg(frozenset)
    if len(grids) < 2:
        raise InputError(f"{where}: {run!r} has the level(s) {list(grids.index)}; two or more are needed.")
    if len(set(grids)) > 1:
        raise InputError(f"{where}: the runs were not saved at the same steps; keep those that all of them have.")
    others = scores.rename(columns={run: "other"})
    paired = data.drop(columns=quality).merge(others, on=step)
    return paired[paired[run] != paired["other"]].reset_index(drop=True)


def _coefficients(t: np.ndarray, x: np.ndarray, q: np.ndarray, x_rounding: float, q_rounding: float) -> dict:
    # Numbers with few decimals become whole, so that equal differences are equal.
    x, q = whole(x, x_rounding), whole(q, q_rounding)
    result = {"rho": np.nan, "rho_differences": np.nan, "rho_partial": np.nan, "note": ""}
    if len(t) < FEWEST_CHECKPOINTS:
        return {**result, "note": f"{{indicator}} and {{quality}} are both there at {len(t)} checkpoint(s) only"}
    pairs = tuple(
        (name, series, rounding * np.abs(series).max())
        for name, series, rounding in (("{indicator}", x, x_rounding), ("{quality}", q, q_rounding))
    )
    notes = [f"{name} is constant" for name, series, rounding in pairs if np.ptp(series) <= rounding]
    if notes:
        return {**result, "note": "; ".join(notes)}
    result["rho"] = stats.spearmanr(x, q).statistic
    notes = [
        f"{name} changes by a constant" for name, series, rounding in pairs if np.ptp(np.diff(series)) <= 2 * rounding
    ]
    if not notes:
        changes = [mid_ranks(np.diff(series), series) for _, series, _ in pairs]
        result["rho_differences"] = np.corrcoef(*changes)[0, 1]
    with_step = [stats.spearmanr(series, t).statistic for _, series, _ in pairs]
    ordered = [abs(rho) > 1 - 1e-12 for rho in with_step]
    notes += [f"{name} is monotone in the step" for (name, *_), is_so in zip(pairs, ordered, strict=True) if is_so]
    if not any(ordered):
        left = np.prod([1 - rho**2 for rho in with_step])
        result["rho_partial"] = np.clip((result["rho"] - np.prod(with_step)) / np.sqrt(left), -1, 1)
    return {**result, "note": "; ".join(notes)}


def mid_ranks(changes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mid-ranks of changes between ``values``; those that differ by the rounding of a subtraction alone are tied."""
    if len(changes) == 0:
        return changes
    order = np.argsort(changes, kind="stable")
    apart = np.diff(changes[order]) > 4 * np.finfo("float64").eps * np.abs(values).max()
    place = np.empty(len(changes), dtype="int64")
    place[order] = np.cumsum(np.append(0, apart))
    return stats.rankdata(place)


def whole(values: np.ndarray, rounding: float) -> np.ndarray:
    """The values as whole numbers of their last decimal, where they have at most four decimals; else unchanged."""
    for power in 10.0 ** np.arange(MOST_DECIMALS + 1):
        scaled = values * power
        error = rounding * np.abs(scaled).max(initial=0)
        if error < 0.05 and np.all(np.abs(scaled - np.rint(scaled)) <= error):
            return np.rint(scaled)
    return values

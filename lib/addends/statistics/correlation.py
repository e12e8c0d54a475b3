"""Does an indicator go with quality over the checkpoints of a run, beyond both of them growing?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from addends.checks import group_names, keyed_numbers, listed, named, require_columns, require_distinct, rounding_of
from addends.errors import InputError

FEWEST_CHECKPOINTS = 4
MOST_DECIMALS = 4
ORDERED = 1 - 1e-12
"""A rank correlation of this size or larger is one of two series of which one is a function of the other."""


def correlate_checkpoints(
    frame: pd.DataFrame,
    indicator: str,
    quality: str,
    by: str | Sequence[str] = ("run", "layer", "term"),
    step: str = "checkpoint",
) -> pd.DataFrame:
    """Spearman correlation of an indicator and quality over checkpoints, with its detrended versions beside it.

    With r the Pearson correlation of mid-ranks, x the indicator, q the quality and t the step, in order of t::

        rho_levels      = r(x, q)
        rho_differences = r(x_2 - x_1, ..., x_n - x_(n-1);  q_2 - q_1, ..., q_n - q_(n-1))
        rho_given_step  = (r(x, q) - r(x, t) r(q, t)) / sqrt((1 - r(x, t)^2) (1 - r(q, t)^2))

    ``rho_levels`` mostly measures that both curves grow: any two quantities that rise with training have one near 1.
    It is therefore never returned alone. ``rho_differences`` asks whether the indicator moves when quality moves from
    one checkpoint to the next; ``rho_given_step`` asks what is left of ``rho_levels`` when the order of the steps is
    held fixed.

    Neither removes all that two unrelated curves share. Differences lose the trend but keep the shape "fast early,
    slow late" of any training: two independent curves that saturate have a large ``rho_differences`` as well. What
    belongs to a run, and not to trainings in general, shows only against a control: the same coefficients with
    another run's quality in the place of the run's own, see `with_quality_of_others`.

    There are no p-values. A test of any of the three would count checkpoints as independent; but neighbouring
    checkpoints of one run are nearly copies of one another, and the p-value would shrink with how often the run was
    saved. Claims over runs rest on the spread of these coefficients over runs.

    Parameters
    ----------
    frame : DataFrame
        One row a group and checkpoint, in any order.
    indicator, quality : str
        Columns of numbers. A missing value is allowed (the cosine of a zero vector is missing): its checkpoint is left
        out of that group, counted in ``missing``, and the differences run over the gap.
    by : str or sequence of str
        The columns whose values name a group.
    step : str
        The column of training steps.

    Returns
    -------
    DataFrame
        One row a group: the columns of ``by``, then rho_levels, rho_differences, rho_given_step, checkpoints (how many
        were used), missing (how many were left out) and note. A coefficient that is undefined is missing, never 0,
        and ``note`` says why: a constant series has no ranks to correlate, and a series that rises or falls at every
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
    where = "correlate_checkpoints"
    by = group_names(by, where)
    require_distinct([*by, step, indicator, quality], where, "by, step, indicator and quality")
    columns = keyed_numbers(frame, [*by, step], [indicator, quality], where, steps=[step])

    # Table columns are often float32: a difference smaller than this is their rounding, and not a change.
    rounding = {name: rounding_of(frame[name]) for name in (indicator, quality)}
    rows, few = [], []
    groups = frame.groupby(by, sort=True, observed=True).indices
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
    frame: pd.DataFrame, quality: str, run: str = "run", step: str = "checkpoint"
) -> pd.DataFrame:
    """The control: every row once for each other run, with that run's quality at the same step in place of its own.

    Given to `correlate_checkpoints` with "other" added to ``by``, these rows give the correlations that trainings show
    merely by being trainings: two runs share no seed, and so nothing but their course.

    Returns
    -------
    DataFrame
        The rows of ``frame`` with the column ``quality`` replaced, and a new column "other": whose quality it is.

    Raises
    ------
    InputError
        If a column is unknown, there is one run only, a run has two values of quality at one step, or the runs were
        not saved at the same steps.
    """
    where = "with_quality_of_others"
    require_columns(frame, [run, step, quality], where)
    scores = frame[[run, step, quality]].drop_duplicates()
    if scores.duplicated([run, step]).any():
        raise InputError(f"{where}: {quality!r} has several values at one {step} of one {run}. Give it one a {step}.")
    grids = scores.groupby(run)[step].agg(frozenset)
    if len(grids) < 2:
        raise InputError(f"{where}: {run!r} has the level(s) {list(grids.index)}; two or more are needed.")
    if len(set(grids)) > 1:
        raise InputError(f"{where}: the runs were not saved at the same steps; keep those that all of them have.")
    others = scores.rename(columns={run: "other"})
    paired = frame.drop(columns=quality).merge(others, on=step)
    return paired[paired[run] != paired["other"]].reset_index(drop=True)


def _coefficients(t: np.ndarray, x: np.ndarray, q: np.ndarray, x_rounding: float, q_rounding: float) -> dict:
    # Numbers with few decimals become whole, so that equal differences are equal.
    x, q = whole(x, x_rounding), whole(q, q_rounding)
    result: dict[str, Any] = {"rho_levels": np.nan, "rho_differences": np.nan, "rho_given_step": np.nan, "note": ""}
    if len(t) < FEWEST_CHECKPOINTS:
        return {**result, "note": f"{{indicator}} and {{quality}} are both there at {len(t)} checkpoint(s) only"}
    pairs = tuple(
        (name, series, rounding * np.abs(series).max())
        for name, series, rounding in (("{indicator}", x, x_rounding), ("{quality}", q, q_rounding))
    )
    notes = [f"{name} is constant" for name, series, rounding in pairs if np.ptp(series) <= rounding]
    if notes:
        return {**result, "note": "; ".join(notes)}
    result["rho_levels"] = stats.spearmanr(x, q).statistic
    notes = [
        f"{name} changes by a constant" for name, series, rounding in pairs if np.ptp(np.diff(series)) <= 2 * rounding
    ]
    if not notes:
        x_changes, q_changes = (mid_ranks(np.diff(series), series) for _, series, _ in pairs)
        result["rho_differences"] = np.corrcoef(x_changes, q_changes)[0, 1]
    with_step = [stats.spearmanr(series, t).statistic for _, series, _ in pairs]
    ordered = [abs(rho) > ORDERED for rho in with_step]
    notes += [f"{name} is monotone in the step" for (name, *_), is_so in zip(pairs, ordered, strict=True) if is_so]
    result["rho_given_step"] = partial(result["rho_levels"], *with_step)
    return {**result, "note": "; ".join(notes)}


def partial(r: float, with_x: float, with_q: float) -> float:
    """The partial correlation (r - r_x r_q) / sqrt((1 - r_x^2) (1 - r_q^2)); missing where r_x or r_q is 1 or -1.

    ``r`` is that of x and q; ``with_x`` and ``with_q`` are those of x and of q with a third variable, held fixed.
    """
    if max(abs(with_x), abs(with_q)) > ORDERED:
        return np.nan
    return float(np.clip((r - with_x * with_q) / np.sqrt((1 - with_x**2) * (1 - with_q**2)), -1, 1))


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

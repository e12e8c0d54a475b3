"""The tables of indicators and of quality side by side: one series a run, layer, term, indicator and metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from addends.checks import listed, named, numbers, require_columns, rounding_of
from addends.errors import InputError
from addends.statistics.correlation import whole

INDICATORS = ("importance", "cosine", "norm_ratio", "distance")
FEWEST_CHECKPOINTS = 4


class Series(NamedTuple):
    """An indicator and a quality at the checkpoints that have both, in order of the step.

    ``names`` are the group's, by column, then "indicator" and "metric". ``x_rounding`` and ``q_rounding`` say from
    which size on, relative to the largest value, a difference is more than the rounding of the column's type.
    ``missing`` counts the checkpoints left out.
    """

    names: dict
    t: np.ndarray
    x: np.ndarray
    q: np.ndarray
    x_rounding: float
    q_rounding: float
    missing: int


def aligned(
    data: pd.DataFrame, quality: pd.DataFrame, indicators: str | Sequence[str], by: str | Sequence[str], where: str
) -> list[Series]:
    """Every indicator of every group beside every metric of the group's run.

    Numbers that were stored with a few decimals are turned into whole numbers of the last decimal, so that equal
    differences are equal: in floating point .3 - .2 is not .2 - .1, and ranks would see an order that is not there.

    Raises
    ------
    InputError
        If a column is unknown or two roles share one; "run" is not in ``by``; a name or step is missing or a number
        infinite; a row stands twice; a run of ``data`` has no quality; or a series has fewer than 4 checkpoints with
        both numbers, but for an indicator that is missing at every checkpoint.
    """
    by = [by] if isinstance(by, str) else list(by)
    indicators = [indicators] if isinstance(indicators, str) else list(indicators)
    if "run" not in by or not indicators or len({*by, *indicators, "checkpoint"}) < len(by) + len(indicators) + 1:
        raise InputError(
            f"{where}: by={by} must name 'run', and by, indicators and 'checkpoint' different columns; given "
            f"indicators={indicators}."
        )
    columns = checked(data, [*by, "checkpoint"], indicators, where)
    scores = checked(quality, ["run", "checkpoint", "metric"], ["score"], where)["score"]
    strangers = sorted(set(data["run"]) - set(quality["run"]))
    if strangers:
        raise InputError(
            f"{where}: the table of quality has no rows of {listed(strangers)}. Add them, or drop the runs."
        )
    of_run = {}
    for (run, metric), rows in quality.groupby(["run", "metric"], sort=True, observed=True).indices.items():
        steps = pd.Index(quality["checkpoint"].to_numpy()[rows])
        of_run.setdefault(run, {})[metric] = pd.Series(scores[rows], index=steps)

    steps = numbers(data, "checkpoint", where)
    x_roundings = {name: rounding_of(data[name]) for name in indicators}
    q_rounding = rounding_of(quality["score"])
    found, few = [], []
    for group, rows in data.groupby(by, sort=True, observed=True).indices.items():
        names = dict(zip(by, group if isinstance(group, tuple) else (group,), strict=True))
        rows = rows[np.argsort(steps[rows], kind="stable")]
        t = steps[rows]
        by_metric = {metric: score.reindex(t).to_numpy() for metric, score in of_run[names["run"]].items()}
        for indicator in indicators:
            x = columns[indicator][rows]
            for metric, q in by_metric.items():
                both = ~(np.isnan(x) | np.isnan(q))
                if both.sum() < FEWEST_CHECKPOINTS and not np.isnan(x).all():
                    few.append(f"{named(by, names.values())}, {indicator} and {metric} ({both.sum()})")
                series = Series(
                    names | {"indicator": indicator, "metric": metric},
                    t[both],
                    whole(x[both], x_roundings[indicator]),
                    whole(q[both], q_rounding),
                    x_roundings[indicator],
                    q_rounding,
                    int((~both).sum()),
                )
                found.append(series)
    if few:
        raise InputError(
            f"{where}: fewer than {FEWEST_CHECKPOINTS} checkpoints with both numbers (how many in brackets) in "
            f"{len(few)} series: {listed(few, 3)}. Leave them out, or check that by= does not split checkpoints apart."
        )
    return found


def is_constant(values: np.ndarray, rounding: float) -> bool:
    """Whether the values differ by no more than the rounding of their type."""
    return len(values) == 0 or np.ptp(values) <= rounding * np.abs(values).max()


def checked(data: pd.DataFrame, key: list[str], values: list[str], where: str) -> dict[str, np.ndarray]:
    """The columns of numbers of a table of curves; ``key``, which holds "checkpoint", names each row once.

    Raises
    ------
    InputError
        If a column is missing or holds no numbers, a value is infinite, or a part of the key is missing or repeated.
    """
    require_columns(data, [*key, *values], where)
    if not len(data):
        raise InputError(f"{where}: the data have no rows.")
    columns = {name: numbers(data, name, where) for name in values}
    unusable = data[key].isna().any(axis=1).to_numpy() | ~np.isfinite(numbers(data, "checkpoint", where))
    for column in columns.values():
        unusable |= np.isinf(column)
    if unusable.any():
        raise InputError(
            f"{where}: an infinite value, or a missing name or step, in {unusable.sum()} row(s), counted from 0: "
            f"{listed(np.flatnonzero(unusable))}. Mend or drop these rows."
        )
    twice = data.duplicated(key).to_numpy()
    if twice.any():
        cases = [named(key, row) for row in data.loc[twice, key].itertuples(index=False)]
        raise InputError(
            f"{where}: one row for each {tuple(key)} is wanted, but {len(cases)} stand more than once: "
            f"{listed(cases, 3)}. Name the column that tells them apart in by=, or keep one (a target, a method?)."
        )
    return columns

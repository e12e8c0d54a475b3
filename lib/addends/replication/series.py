"""The tables of indicators and of quality side by side: one series a run, layer, term, indicator and metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from addends.checks import keyed_numbers, listed, named, names_of, require_distinct, rounding_of
from addends.errors import InputError
from addends.statistics.correlation import whole

FEWEST_CHECKPOINTS = 4


class Series(NamedTuple):
    """An indicator and a quality at the checkpoints that have both, in order of the step.

    The importance of S and BLEU at four checkpoints, of five that the table holds:

    >>> about = {"run": "sla-eng", "term": "S", "checkpoint": [1000, 2000, 3000, 4000, 5000]}
    >>> frame = pd.DataFrame(about | {"importance": [0.31, 0.28, 0.27, None, 0.25]})
    >>> scores = {"run": "sla-eng", "checkpoint": about["checkpoint"], "metric": "bleu"}
    >>> quality = pd.DataFrame(scores | {"score": [10.2, 18.7, 21.4, 23.1, 24.0]})
    >>> (series,) = aligned(frame, quality, "importance", ["run", "term"], "an example")
    >>> series.names
    {'run': 'sla-eng', 'term': 'S', 'indicator': 'importance', 'metric': 'bleu'}
    >>> series.t  # the steps, of shape (checkpoint,)
    array([1000., 2000., 3000., 5000.])
    >>> series.x  # the indicator, in whole hundredths here, so that equal changes are equal
    array([31., 28., 27., 25.])
    >>> series.q  # the quality, in whole tenths
    array([102., 187., 214., 240.])
    >>> series.missing, series.q_rounding < 1e-15
    (1, True)

    A difference counts as one where it exceeds the rounding times the largest value. ``missing`` counts the checkpoints
    that were left out because a number was missing.
    """

    names: dict[str, object]
    t: np.ndarray
    x: np.ndarray
    q: np.ndarray
    x_rounding: float
    q_rounding: float
    missing: int


def aligned(
    frame: pd.DataFrame, quality: pd.DataFrame, indicators: str | Sequence[str], by: str | Sequence[str], where: str
) -> list[Series]:
    """Every indicator of every group beside every metric of the group's run.

    Numbers that were stored with a few decimals are turned into whole numbers of the last decimal, so that equal
    differences are equal: in floating point .3 - .2 is not .2 - .1, and ranks would see an order that is not there.

    Raises
    ------
    InputError
        If a column is unknown or two roles share one; "run" is not in ``by``; a name or step is missing or a number
        infinite; a row stands twice; a run of ``frame`` has no quality; or a series has fewer than 4 checkpoints with
        both numbers, but for an indicator that is missing at every checkpoint.
    """
    by, indicators = names_of(by, "by", where), names_of(indicators, "indicators", where)
    if "run" not in by or not indicators:
        raise InputError(f"{where}: by={by} must name 'run', and indicators={indicators} some column.")
    require_distinct([*by, *indicators, "checkpoint"], where, "by, indicators and 'checkpoint'")
    columns = keyed_numbers(frame, [*by, "checkpoint"], indicators, where, steps=["checkpoint"])
    scores = keyed_numbers(quality, ["run", "checkpoint", "metric"], ["score"], where, steps=["checkpoint"])["score"]
    strangers = sorted(set(frame["run"]) - set(quality["run"]))
    if strangers:
        raise InputError(
            f"{where}: the table of quality has no rows of {listed(strangers)}. Add them, or drop the runs."
        )
    of_run: dict[object, dict[object, pd.Series]] = {}
    for (run, metric), rows in quality.groupby(["run", "metric"], sort=True, observed=True).indices.items():
        steps = pd.Index(quality["checkpoint"].to_numpy()[rows])
        of_run.setdefault(run, {})[metric] = pd.Series(scores[rows], index=steps)

    steps = columns["checkpoint"]
    x_roundings = {name: rounding_of(frame[name]) for name in indicators}
    q_rounding = rounding_of(quality["score"])
    found, few = [], []
    for group, rows in frame.groupby(by, sort=True, observed=True).indices.items():
        names = dict(zip(by, group if isinstance(group, tuple) else (group,), strict=True))
        rows = rows[np.argsort(steps[rows], kind="stable")]
        t = steps[rows]
        by_metric = {metric: score.reindex(t).to_numpy() for metric, score in of_run[names["run"]].items()}
        for indicator in indicators:
            x = columns[indicator][rows]
            for metric, q in by_metric.items():
                both = ~(np.isnan(x) | np.isnan(q))
                if both.sum() < FEWEST_CHECKPOINTS and not np.isnan(x).all():
                    few.append(f"{named(by, [*names.values()])}, {indicator} and {metric} ({both.sum()})")
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


def unit(ranks: np.ndarray) -> np.ndarray:
    """Ranks along the last axis, centred and of length 1: the product of two is Spearman's correlation."""
    centred = ranks - ranks.mean(axis=-1, keepdims=True)
    return centred / np.linalg.norm(centred, axis=-1, keepdims=True)


def unit_ranks(values: np.ndarray) -> np.ndarray:
    """Mid-ranks along the last axis as `unit` returns them."""
    return unit(stats.rankdata(values, axis=-1))

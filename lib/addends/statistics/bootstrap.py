"""How far does a correlation over pairs of checkpoints depend on the stretch of training that was looked at?"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from addends.errors import InputError
from addends.statistics.intervals import check_level
from addends.statistics.pairs import COEFFICIENTS, check_lags, partial, selections
from addends.statistics.series import INDICATORS, aligned, is_constant

KINDS = ("moving", "stationary")
TWO_POINT = ("rho", "rho_late", "rho_partial")
"""The coefficients whose pairs join distant checkpoints: there a pair weighs as both its ends were drawn."""


def over_blocks(
    data: pd.DataFrame,
    quality: pd.DataFrame,
    indicators: str | Sequence[str] = INDICATORS,
    by: str | Sequence[str] = ("run", "layer", "term"),
    *,
    longest_lag: float,
    burn_in: float,
    block_length: int,
    kind: str = "moving",
    replicates: int = 500,
    seed: int = 0,
    level: float = 0.95,
    coefficients: Sequence[str] = COEFFICIENTS,
    progress: bool = False,
) -> pd.DataFrame:
    """`pairs.over_pairs` with a block bootstrap over the checkpoints of each run.

    A replicate draws blocks of neighbouring checkpoints with replacement, as many checkpoints as there are. With w_i
    how often checkpoint i was drawn, the pair i < j weighs::

        rho, rho_late, rho_partial                              w_i w_j
        rho_short_lag, rho_late_short_lag, rho_differences      w_i

    and the coefficient is that of mid-ranks made anew from the weighted pairs. The first is the bootstrap of a
    U-statistic; the second draws blocks of short stretches that begin at i, since pairs close in time exist within
    blocks only.

    What the interval covers: other stretches of the same training that wander as this one did. What it does not: other
    runs (`spread.over_runs`), which differ by far more; and trends, which no resampling of blocks repeats, so that for
    ``rho`` and the other coefficients over distant pairs it is a measure of stability and not a confidence interval.
    Blocks must be longer than ``longest_lag`` and than neighbours resemble each other (after the trend), and there must
    be many of them; too short ones understate the error.

    Parameters
    ----------
    data, quality, indicators, by, longest_lag, burn_in, progress
        As in `pairs.over_pairs`.
    block_length : int
        In checkpoints: of every block ("moving"), or on average, with geometric lengths ("stationary").
    kind : {"moving", "stationary"}
        Moving blocks lie within the series, so that its ends are drawn more rarely; stationary ones wrap around.
    replicates, seed, level
        How many replicates, their seed, and the level of the percentile interval. Every series is drawn with the same
        seed: series of one grid share their blocks.
    coefficients : sequence of str
        Which of the six to resample. A replicate takes a few ms a series and coefficient with 600 checkpoints.

    Returns
    -------
    DataFrame
        One row a group, indicator, metric and coefficient: their names, estimate, se_blocks (the SD over replicates),
        low_blocks and high_blocks (percentiles), defined (in how many replicates the coefficient was), block_length,
        blocks (checkpoints / block_length), kind, replicates, seed, level.

    Raises
    ------
    InputError
        As `pairs.over_pairs` does, or if an argument is not allowed. A series must hold two blocks.

    Warns
    -----
    UserWarning
        If some series holds fewer than ten blocks: the interval is then rough, and mostly too short.

    References
    ----------
    Künsch (1989), Annals of Statistics 17, 1217-1241 (moving blocks, and blocks of blocks). Politis and Romano (1994),
    JASA 89, 1303-1313 (stationary). Dehling and Wendler (2010), Journal of Multivariate Analysis 101, 126-137 (blocks
    for U-statistics).
    """
    where = "over_blocks"
    check_lags(longest_lag, burn_in, where)
    _check(block_length, kind, replicates, level, coefficients, where)
    rows, fewest = [], np.inf
    for series in tqdm(aligned(data, quality, indicators, by, where), disable=not progress, unit="series"):
        n = len(series.t)
        if is_constant(series.x, series.x_rounding) or is_constant(series.q, series.q_rounding):
            draws = {name: np.full(replicates + 1, np.nan) for name in coefficients}
        else:
            if n < 2 * block_length:
                raise InputError(
                    f"{where}: block_length={block_length} needs {2 * block_length} checkpoints or more; "
                    f"{series.names} has {n}. Take shorter blocks."
                )
            fewest = min(fewest, n / block_length)
            weights = draw_blocks(n, block_length, kind, replicates, np.random.default_rng(seed))
            weights = np.vstack([np.ones(n), weights])  # row 0: the estimate itself
            chosen = selections(series.t, longest_lag, burn_in)
            draws = {name: _replicates(name, chosen, series.t, series.x, series.q, weights) for name in coefficients}
        for name, (estimate, *others) in draws.items():
            spread = _summary(np.array(others), level)
            about = {"block_length": block_length, "blocks": n / block_length, "kind": kind}
            about |= {"replicates": replicates, "seed": seed, "level": level}
            rows.append({**series.names, "coefficient": name, "estimate": estimate, **spread, **about})
    if fewest < 10:
        warnings.warn(
            f"{where}: some series holds {fewest:.1f} blocks of {block_length} checkpoints; with fewer than ten the "
            "interval is rough, and mostly too short.",
            stacklevel=2,
        )
    return pd.DataFrame(rows)


def draw_blocks(n: int, block_length: int, kind: str, replicates: int, generator: np.random.Generator) -> np.ndarray:
    """How often each of n checkpoints is drawn in each replicate, of shape (replicate, n); every row sums to n."""
    if kind == "moving":
        blocks = -(-n // block_length)
        starts = generator.integers(0, n - block_length + 1, (replicates, blocks))
        drawn = starts[:, :, None] + np.arange(block_length)  # (replicate, block, place)
        drawn = drawn.reshape(replicates, -1)[:, :n]  # the last block is cut
    else:
        begins = generator.random((replicates, n)) < 1 / block_length
        begins[:, 0] = True
        anywhere = generator.integers(0, n, (replicates, n))
        first = np.maximum.accumulate(np.where(begins, np.arange(n), 0), axis=1)  # where the place's block begins
        drawn = (np.take_along_axis(anywhere, first, axis=1) + np.arange(n) - first) % n
    rows = np.arange(replicates)[:, None] * n
    return np.bincount((rows + drawn).ravel(), minlength=replicates * n).reshape(replicates, n)


def _replicates(
    name: str, chosen: dict, t: np.ndarray, x: np.ndarray, q: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """The coefficient in each row of weights (replicate, checkpoint), of shape (replicate,)."""
    i, j = chosen["rho" if name == "rho_partial" else name]
    if len(i) < 3:
        return np.full(len(weights), np.nan)
    columns = [x, q, t] if name == "rho_partial" else [x, q]
    levels = [np.unique(column[j] - column[i], return_inverse=True)[1] for column in columns]
    result = np.empty(len(weights))
    for number, drawn in enumerate(weights.astype(float)):
        w = drawn[i] * drawn[j] if name in TWO_POINT else drawn[i]  # (pair,)
        result[number] = _weighted(levels, w)
    return result


def _weighted(levels: list[np.ndarray], w: np.ndarray) -> float:
    """The (partial) correlation of weighted mid-ranks, given each number's place among the distinct ones."""
    total = w.sum()
    ranks = []
    for level in levels:
        mass = np.bincount(level, w)
        ranks.append((np.cumsum(mass) - mass / 2)[level])
    if total == 0:
        return np.nan
    centred = [rank - w @ rank / total for rank in ranks]
    covariance = np.array([[(w * one) @ two for two in centred] for one in centred])
    scale = np.sqrt(np.diag(covariance))
    if (scale[:2] <= 1e-9 * total**1.5).any():
        return np.nan
    r = covariance / np.outer(scale, scale)
    return float(r[0, 1]) if len(r) == 2 else partial(r[0, 1], r[0, 2], r[1, 2])


def _summary(values: np.ndarray, level: float) -> dict:
    there = values[~np.isnan(values)]
    low, high = np.quantile(there, [(1 - level) / 2, (1 + level) / 2]) if len(there) > 1 else (np.nan, np.nan)
    se = there.std(ddof=1) if len(there) > 1 else np.nan
    return {"se_blocks": se, "low_blocks": low, "high_blocks": high, "defined": len(there)}


def _check(block_length, kind, replicates, level, coefficients, where: str) -> None:
    for name, value, least in (("block_length", block_length, 1), ("replicates", replicates, 2)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise InputError(f"{where}: {name}={value!r} is not a whole number of {least} or more.")
    if kind not in KINDS:
        raise InputError(f"{where}: kind={kind!r} is not one of {KINDS}.")
    check_level(level, where)
    strangers = [name for name in coefficients if name not in COEFFICIENTS]
    if strangers or not len(coefficients) or isinstance(coefficients, str):
        raise InputError(f"{where}: coefficients={coefficients!r}: name some of {COEFFICIENTS}, in a list.")

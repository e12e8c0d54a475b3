"""Does an indicator go with quality from sentence to sentence, or only from checkpoint to checkpoint?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from addends.checks import listed, named, numbers, require_columns, rounding_of
from addends.errors import InputError
from addends.replication.series import is_constant
from addends.statistics.correlation import whole

FEWEST_SENTENCES = 4


def over_sentences(
    data: pd.DataFrame, indicator: str, quality: str, by: str | Sequence[str] = ("run", "layer", "term")
) -> pd.DataFrame:
    """Spearman correlation of an indicator and quality over sentences: pooled over checkpoints, and within them.

    With r_k the correlation over the sentences of checkpoint k, of K checkpoints where it is defined::

        rho_pooled = r over all (checkpoint, sentence) items together
        rho_within = (r_1 + ... + r_K) / K

    ``rho_pooled`` mixes two questions: early checkpoints translate badly and have other indicators than late ones, so
    it is large wherever both change during training, even if within no checkpoint the two have anything to do with each
    other. ``rho_within`` compares sentences that one and the same model translated. ``rho_between`` is what is
    compared in between: the correlation of the checkpoints' means.

    Parameters
    ----------
    data : DataFrame
        One row a group, "checkpoint" and "sentence".
    indicator, quality : str
        Columns of numbers; a sentence that lacks one of them is left out, and counted in ``missing``.
    by : sequence of str
        The columns that name a group.

    Returns
    -------
    DataFrame
        One row a group: ``by``, rho_pooled, rho_within, rho_between, smallest and largest (of the r_k), checkpoints
        (K), sentences (items used), missing, note. A coefficient that is undefined is missing, never 0; ``note`` counts
        the checkpoints where either of the two is constant or has fewer than 4 sentences, and says why rho_pooled or
        rho_between is missing (fewer than 4 checkpoints, say).

    Raises
    ------
    InputError
        If a column is unknown, a value infinite, a name missing, or a group, checkpoint and sentence stand twice.
    """
    where = "over_sentences"
    by = [by] if isinstance(by, str) else list(by)
    key = [*by, "checkpoint", "sentence"]
    if not by or len({*key, indicator, quality}) < len(key) + 2:
        raise InputError(f"{where}: by, 'checkpoint', 'sentence', indicator and quality must be different columns.")
    require_columns(data, [*key, indicator, quality], where)
    if not len(data):
        raise InputError(f"{where}: the data have no rows.")
    columns = {name: numbers(data, name, where) for name in (indicator, quality)}
    unusable = data[key].isna().any(axis=1).to_numpy() | np.isinf(columns[indicator]) | np.isinf(columns[quality])
    if unusable.any():
        raise InputError(
            f"{where}: an infinite value, or a missing name, in {unusable.sum()} row(s), counted from 0: "
            f"{listed(np.flatnonzero(unusable))}. Mend or drop these rows."
        )
    twice = data.duplicated(key)
    if twice.any():
        cases = [named(key, row) for row in data.loc[twice.to_numpy(), key].itertuples(index=False)]
        raise InputError(
            f"{where}: one row for each {tuple(key)} is wanted, but {len(cases)} stand more than once: "
            f"{listed(cases, 3)}. Name the column that tells them apart in by=."
        )
    rounding = [rounding_of(data[name]) for name in (indicator, quality)]
    checkpoint = data["checkpoint"].to_numpy()
    rows = []
    for name, positions in data.groupby(by, sort=True, observed=True).indices.items():
        name = name if isinstance(name, tuple) else (name,)
        x, q = columns[indicator][positions], columns[quality][positions]
        there = ~(np.isnan(x) | np.isnan(q))
        found = _coefficients(checkpoint[positions][there], x[there], q[there], rounding)
        rows.append({**dict(zip(by, name, strict=True)), **found, "missing": int((~there).sum())})
    columns_in_order = [*by, "rho_pooled", "rho_within", "rho_between", "smallest", "largest", "checkpoints"]
    return pd.DataFrame(rows)[[*columns_in_order, "sentences", "missing", "note"]]


def _coefficients(checkpoint: np.ndarray, x: np.ndarray, q: np.ndarray, rounding: list[float]) -> dict:
    # Numbers with few decimals become whole, so that equal means are equal.
    x, q = whole(x, rounding[0]), whole(q, rounding[1])
    steps, place = np.unique(checkpoint, return_inverse=True)
    within = np.array([_rho(x[place == k], q[place == k], rounding) for k in range(len(steps))])
    defined = within[~np.isnan(within)]
    sizes = np.bincount(place, minlength=len(steps))
    means = [np.bincount(place, values, len(steps)) / np.maximum(sizes, 1) for values in (x, q)]
    left_out = len(steps) - len(defined)
    pooled, between = _rho(x, q, rounding), _rho(*means, rounding)
    notes = [f"undefined within {left_out} of {len(steps)} checkpoints"] if left_out else []
    if np.isnan(pooled):
        notes.append(f"rho_pooled: a side is constant, or fewer than {FEWEST_SENTENCES} items ({len(x)})")
    if np.isnan(between):
        notes.append(
            f"rho_between: a side has the same mean at every checkpoint, or fewer than {FEWEST_SENTENCES} checkpoints "
            f"({len(steps)})"
        )
    return {
        "rho_pooled": pooled,
        "rho_within": defined.mean() if len(defined) else np.nan,
        "rho_between": between,
        "smallest": defined.min() if len(defined) else np.nan,
        "largest": defined.max() if len(defined) else np.nan,
        "checkpoints": len(defined),
        "sentences": len(x),
        "note": "; ".join(notes),
    }


def _rho(x: np.ndarray, q: np.ndarray, rounding: list[float]) -> float:
    if len(x) < FEWEST_SENTENCES or is_constant(x, rounding[0]) or is_constant(q, rounding[1]):
        return np.nan
    return float(stats.spearmanr(x, q).statistic)

"""A predictor split in two: how it differs between sentences, and how it differs within one, from run to run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from addends.errors import InputError
from addends.statistics.columns import listed, numbers, require_columns


def split_predictor(
    data: pd.DataFrame,
    predictor: str,
    by: Sequence[str] = (),
    unit: str = "sentence",
    blocks: Sequence[str] = ("run", "checkpoint"),
) -> pd.DataFrame:
    r"""Add the columns ``between`` and ``within``, two parts of a predictor that may act differently.

    For unit (sentence) s in block b (a run at a checkpoint), with x_.b the mean of a block and x_s. that of a unit::

        between_s = (x_s. - x_..) / d,    within_sb = (x_sb - x_s. - x_.b + x_..) / d

    with d the standard deviation of x_s. over units, for both: their slopes are then in one unit, and would be equal if
    a difference between two sentences went with what the same difference within a sentence goes with. ``within`` has
    mean 0 in every unit and in every block: it says nothing of which runs or checkpoints are higher as a whole.

    Parameters
    ----------
    data : DataFrame
        One row a unit and block (and group of ``by``).
    predictor : str
    by : sequence of str
        Groups that are split apart, e.g. ["layer", "term"].
    unit : str
    blocks : sequence of str
        The columns whose combinations are the blocks.

    Returns
    -------
    DataFrame
        A copy of ``data`` with between and within.

    Raises
    ------
    InputError
        If a column is unknown, a value is missing or infinite, a unit is not once in every block (the first such group
        is named), or all units of a group have the same mean.
    """
    where = f"split_predictor({predictor!r})"
    by, blocks = list(by), list(blocks)
    require_columns(data, [predictor, unit, *blocks, *by], where)
    values = numbers(data, predictor, where)
    if not np.isfinite(values).all():
        raise InputError(
            f"{where}: missing or infinite in {(~np.isfinite(values)).sum()} row(s), counted from 0: "
            f"{listed(np.flatnonzero(~np.isfinite(values)))}. Leave the whole {unit} out of every block, and say so."
        )
    data = data.assign(between=values, within=values)
    groups = data.groupby(by, sort=False, observed=True) if by else [((), data)]
    parts = []
    for key, rows in groups:
        name = f"{dict(zip(by, key, strict=True))}" if by else "the data"
        block = rows.groupby(blocks, sort=False, observed=True).ngroup().to_numpy()
        one = pd.factorize(rows[unit])[0]
        table = np.full((one.max() + 1, block.max() + 1), np.nan)
        table[one, block] = rows["within"]
        if len(rows) != table.size or np.isnan(table).any():
            raise InputError(
                f"{where}: in {name}, {len(rows)} rows are not {table.shape[0]} levels of {unit!r} once in each of "
                f"{table.shape[1]} combinations of {blocks}. Leave a {unit} that is missing somewhere out everywhere."
            )
        means = table.mean(axis=1) - table.mean()
        spread = means.std(ddof=1) if len(means) > 1 else 0.0
        if not spread > 1e-12 * np.abs(table).max():
            raise InputError(f"{where}: in {name}, every {unit} has the same mean; there is nothing between them.")
        within = table - table.mean(axis=0) - means[:, None]
        parts.append(rows.assign(between=means[one] / spread, within=within[one, block] / spread))
    return pd.concat(parts).loc[data.index] if data.index.is_unique else pd.concat(parts)

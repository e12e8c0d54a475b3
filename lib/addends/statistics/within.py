"""A predictor split in parts that may act differently: between sentences, between runs within one, over checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from addends.checks import listed, names_of, numbers, require_columns
from addends.errors import InputError


def split_predictor(
    data: pd.DataFrame,
    predictor: str,
    by: str | Sequence[str] = (),
    unit: str = "sentence",
    factor: str = "run",
    repeat: str = "checkpoint",
) -> pd.DataFrame:
    r"""Add the columns ``between``, ``within`` and ``change``, three parts of a predictor.

    For unit (sentence) s, level (run) r of the factor and repetition (checkpoint) k, a dot marking a mean::

        between_s   = (x_s.. - x_...) / d
        within_sr   = (x_sr. - x_s.. - x_.r. + x_...) / d
        change_srk  = (x_srk - x_sr. - x_.rk + x_.r.) / d

    with d the standard deviation of x_s.. over units, for all three: their slopes are in one unit, and would be equal
    if it were the same whether x is higher because the sentence is another, because the run is, or because the run has
    moved. Both ``within`` and ``change`` have mean 0 in every unit and in every run at every checkpoint: they say
    nothing of which runs or checkpoints are higher as a whole. A model that holds ``within`` and ``change`` together in
    one slope gives mostly that of ``change``, where the errors are small.

    Parameters
    ----------
    data : DataFrame
        One row a unit, level of the factor and repetition (and group of ``by``).
    predictor : str
    by : str or sequence of str
        Groups that are split apart, e.g. ["layer", "term"].
    unit, factor, repeat : str

    Returns
    -------
    DataFrame
        A copy of ``data`` with between, within and change.

    Raises
    ------
    InputError
        If a column is unknown, a value is missing or infinite, a combination is missing or stands twice (the first such
        group is named), there are fewer than two levels of any of the three, or all units have the same mean.
    """
    where = f"split_predictor({predictor!r})"
    by, factors = names_of(by, "by", where), [unit, factor, repeat]
    require_columns(data, [predictor, *factors, *by], where)
    values = numbers(data, predictor, where)
    if not np.isfinite(values).all():
        raise InputError(
            f"{where}: missing or infinite in {(~np.isfinite(values)).sum()} row(s), counted from 0: "
            f"{listed(np.flatnonzero(~np.isfinite(values)))}. Leave the whole {unit} out of every {factor}, and say so."
        )
    parts = {name: np.empty(len(data)) for name in ("between", "within", "change")}
    groups = data.groupby(by, sort=False, observed=True).indices if by else {(): np.arange(len(data))}
    for key, rows in groups.items():
        key = key if isinstance(key, tuple) else (key,)
        name = f"in {dict(zip(by, key, strict=True))}, " if by else ""
        codes = tuple(pd.factorize(data[column].iloc[rows])[0] for column in factors)
        table = np.full([code.max() + 1 for code in codes], np.nan)  # (unit, factor, repeat)
        table[codes] = values[rows]
        if len(rows) != table.size or np.isnan(table).any():
            raise InputError(
                f"{where}: {name}{len(rows)} rows are not one for each of {table.shape[0]} levels of {unit!r}, "
                f"{table.shape[1]} of {factor!r} and {table.shape[2]} of {repeat!r}. Leave a {unit} that is missing "
                "somewhere out everywhere."
            )
        if min(table.shape) < 2:
            raise InputError(f"{where}: {name}{dict(zip(factors, table.shape, strict=True))} levels; each needs two.")
        table = table - table.mean(axis=0)  # less the mean of each run at each checkpoint
        between = table.mean(axis=(1, 2), keepdims=True)
        within = table.mean(axis=2, keepdims=True) - between
        spread = between.std(ddof=1)
        if not spread > 1e-12 * np.abs(values[rows]).max():
            raise InputError(f"{where}: {name}every {unit} has the same mean; there is nothing between them.")
        for part, found in (("between", between), ("within", within), ("change", table - within - between)):
            parts[part][rows] = np.broadcast_to(found / spread, table.shape)[codes]
    return data.assign(**parts)

"""What all closed forms of balanced designs share: cells out of rows, the table of components, groups one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from crossed.checks import groups_of, listed, named, numbers, require_columns
from crossed.errors import InputError
from crossed.pivots import pivotal_quantities

COLUMNS = (
    "component", "levels", "df", "mean_square", "variance", "variance_lower", "variance_upper", "share", "share_lower",
    "share_upper", "boundary", "note",
)  # fmt: skip


def by_group(
    split: Callable[[pd.DataFrame], pd.DataFrame],
    data: pd.DataFrame,
    by: str | Sequence[str] | None,
    where: str,
    taken: Sequence[str] = (),
) -> pd.DataFrame:
    """The table that ``split`` makes of the rows; of each group's, one after the other, with the columns of ``by``.

    ``taken``: columns that the table has beyond `COLUMNS`.
    """
    if by is None:
        return split(data)
    names, groups = groups_of(data, by, (*COLUMNS, *taken), where)
    tables = []
    for key, rows in groups:
        try:
            table = split(rows)
        except InputError as error:
            raise InputError(f"{error} This is of the rows where {named(names, key)}.") from error
        for place, (name, value) in enumerate(zip(names, key, strict=True)):
            table.insert(place, name, [value] * len(table))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def table_of_shares(
    names: list[str],
    levels: list[int],
    df: np.ndarray,
    squares: np.ndarray,
    weights: np.ndarray,
    fixed: Sequence[int],
    level: float,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """The table of results, from the analysis of variance of one group: see `pivotal_quantities`."""
    moments = weights @ squares
    variances = moments.clip(min=0)
    pivots, shares = pivotal_quantities(df, squares, weights, draws, np.random.default_rng(seed), fixed)
    tails = [(1 - level) / 2, (1 + level) / 2]
    variance_lower, variance_upper = np.quantile(pivots, tails, axis=0)
    share_lower, share_upper = np.quantile(shares, tails, axis=0)
    notes = [_agreement_note(name, upper) for name, upper in zip(names, variance_upper, strict=True)]
    values = (
        names, levels, df, squares, variances, variance_lower, variance_upper, variances / variances.sum(), share_lower,
        share_upper, moments < 0, notes,
    )  # fmt: skip
    return pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))


def _agreement_note(name: str, upper: float) -> str:
    """How the interval from 0 to 0 of a variance is to be read; empty for any other."""
    if upper > 0:
        return ""
    return (
        f"the levels of {name} agree more closely than the residual lets expect, as few levels may by chance; the "
        "interval from 0 to 0 does not show that their variance is small: more levels can tell"
    )


def cells_of(data: pd.DataFrame, outcome: str, factors: Sequence[str], where: str, spared: str) -> np.ndarray:
    """The outcome, less its mean, as an array with an axis a factor, levels sorted; every cell is there once.

    Parameters
    ----------
    where, spared : str
        The text that opens a refusal, and what is to be left out where a value is missing: "sentence out of every run".

    Raises
    ------
    InputError
        As `crossed.crossed_shares`.
    """
    factors = list(factors)
    if len({outcome, *factors}) < 1 + len(factors):
        raise InputError(f"{where}: the outcome and the factors {factors} must be different columns.")
    require_columns(data, [outcome, *factors], where)
    values = numbers(data, outcome, where)
    unusable = ~np.isfinite(values) | data[factors].isna().any(axis=1).to_numpy()
    if unusable.any():
        raise InputError(
            f"{where}: a missing or infinite value in {unusable.sum()} row(s), counted from 0: "
            f"{listed(np.flatnonzero(unusable))}. Leave the whole {spared}, and say so."
        )
    codes, indexes = zip(*(pd.factorize(data[factor], sort=True) for factor in factors), strict=True)
    levels = [found.tolist() for found in indexes]
    shape = tuple(len(found) for found in levels)
    for factor, found in zip(factors, levels, strict=True):
        if len(found) < 2:
            raise InputError(f"{where}: the factor {factor!r} has {len(found)} level(s), {found}; it needs two.")
    counts = np.zeros(shape, dtype=int)
    np.add.at(counts, codes, 1)
    several = "holds more than one value", "name the column that tells the values apart as replicate=, or average them"
    none = "is missing", "only the full crossing can be divided in this way: leave that level out everywhere"
    for wrong, (what, fix) in ((counts > 1, several), (counts == 0, none)):
        if wrong.any():
            first = np.unravel_index(np.flatnonzero(wrong)[0], shape)
            cell = named(factors, [found[place] for found, place in zip(levels, first, strict=True)])
            raise InputError(f"{where}: the cell {cell} {what} ({wrong.sum()} such cell(s) of {counts.size}); {fix}.")
    cells = np.empty(shape)
    cells[codes] = values - values.mean()
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        raise InputError(f"{where}: the outcome is constant: no variance to divide.")
    return cells

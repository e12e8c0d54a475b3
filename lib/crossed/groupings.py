"""Grouping factors: the levels that occur, and in which of them each row stands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from crossed.errors import InputError


@dataclass(frozen=True, eq=False)
class Grouping:
    """The levels of a grouping factor, and where the rows stand.

    Attributes
    ----------
    factors : tuple of str
    codes : array (row,) of int
    levels : Index
        Sorted; a MultiIndex of the combinations that occur, where the factor is an interaction.
    """

    factors: tuple[str, ...]
    codes: np.ndarray
    levels: pd.Index

    @property
    def name(self) -> str:
        return ":".join(self.factors)

    def __len__(self) -> int:
        return len(self.levels)


def grouping(factors: tuple[str, ...], table: pd.DataFrame, where: str) -> Grouping:
    codes, levels = [], []
    for factor in factors:
        column = table[factor]
        if column.dtype == np.float16:  # which pandas takes for no index
            column = column.astype("float64")
        try:
            code, found = pd.factorize(column, sort=True)
        except TypeError as error:
            raise InputError(
                f"{where}: the group {factor!r} holds {table[factor].dtype}, whose values cannot be sorted "
                f"as levels: {error}. Convert it, e.g. by astype(str)."
            ) from error
        if len(found) < 2:
            raise InputError(
                f"{where}: the group {factor!r} has one level, {list(found)}; its variance needs two or more."
            )
        codes.append(code)
        levels.append(pd.Index(found))
    name = ":".join(factors)
    if len(factors) == 1:
        return Grouping(factors, codes[0], levels[0].rename(name))
    code = codes[0].astype("int64")
    for other, found in zip(codes[1:], levels[1:], strict=True):
        code = code * len(found) + other
    code, combined = pd.factorize(code, sort=True)
    places = []
    for found in reversed(levels[1:]):
        combined, place = np.divmod(combined, len(found))
        places.insert(0, place)
    index = pd.MultiIndex(levels=levels, codes=[combined, *places], names=factors, verify_integrity=False)
    return Grouping(factors, code, index)

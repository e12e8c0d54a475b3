"""What tables and arguments are checked for in every room, refused in words, each refusal written once.

The checks that :mod:`crossed` makes too are its own; they are offered here beside those of this package's tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from addends.errors import InputError
from crossed.checks import check_choice, check_level, listed, named, names_of, numbers, require_columns

__all__ = [
    "check_choice",
    "check_count",
    "check_level",
    "finite_numbers",
    "group_names",
    "groups_of",
    "is_constant",
    "keyed_numbers",
    "listed",
    "named",
    "names_of",
    "numbers",
    "optional_module",
    "refuse_repeated",
    "repeated",
    "require_columns",
    "require_distinct",
    "require_named",
    "rounding_of",
]


def check_count(name: str, value: object, where: str, least: int = 1) -> None:
    """Refuse a value of the argument ``name`` that is no whole number of ``least`` or more."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{where}: {name}={value!r} is not a whole number of {least} or more.")


def group_names(by: str | Sequence[str], where: str) -> list[str]:
    """The columns that name a group, one or more, as a list."""
    names = names_of(by, "by", where)
    if not names:
        raise InputError(f"{where}: by={by!r} must name a column, whose values tell the groups apart.")
    return names


def groups_of(
    frame: pd.DataFrame, by: str | Sequence[str], taken: Sequence[str], where: str, sort: bool = False
) -> Iterator[tuple[dict, pd.DataFrame]]:
    """Each combination of the values of ``by`` with its rows; without ``by``, all rows under no name.

    For ``by="layer"`` and a table of two layers: ``({"layer": 1}, rows of 1)``, then ``({"layer": 2}, rows of 2)``.

    Parameters
    ----------
    taken : sequence of str
        Columns that the table of results has of its own; a column of ``by`` would be taken for them.
    sort : bool
        Groups in the order of their names, and not of their first rows.

    Raises
    ------
    InputError
        If there are no rows, or a column of ``by`` is unknown, stands twice, is one of ``taken`` or has missing values.
    """
    names = names_of(by, "by", where)
    require_columns(frame, names, where)
    clash = [name for name in names if name in taken]
    if clash:
        raise InputError(f"{where}: by={names}: the result has columns {clash} of its own; rename yours first.")
    if not len(frame):
        raise InputError(f"{where}: the data have no rows.")
    nameless = frame[names].isna().any(axis=1).to_numpy()
    if nameless.any():
        raise InputError(
            f"{where}: {nameless.sum()} row(s) have no value of {names}, and would belong to no group; counted from 0: "
            f"{listed(np.flatnonzero(nameless))}. Fill or drop them."
        )
    parts = frame.groupby(names, sort=sort, observed=True) if names else [((), frame)]
    for key, part in parts:
        yield dict(zip(names, key, strict=True)), part


def finite_numbers(frame: pd.DataFrame, name: str, where: str, remedy: str) -> np.ndarray:
    """A column of numbers, none of them missing or infinite; ``remedy`` is a sentence that says what to do.

    Raises
    ------
    InputError
    """
    require_columns(frame, [name], where)
    values = numbers(frame, name, where)
    unusable = ~np.isfinite(values)
    if unusable.any():
        raise InputError(
            f"{where}: {name!r} is missing or infinite in {unusable.sum()} row(s), counted from 0: "
            f"{listed(np.flatnonzero(unusable))}. {remedy}"
        )
    return values


def is_constant(values: np.ndarray, rounding: float) -> bool:
    """Whether values differ by no more than ``rounding``, relative to the largest: see `rounding_of`."""
    return bool(np.ptp(values) <= rounding * np.abs(values).max())


def require_named(frame: pd.DataFrame, names: Sequence[str], where: str) -> None:
    """Refuse rows that have no value in the columns ``names``, which say what the rows are of: a run, a method."""
    for name in names:
        nameless = frame[name].isna().to_numpy()
        if nameless.any():
            raise InputError(
                f"{where}: {nameless.sum()} row(s) have no {name!r}; counted from 0: "
                f"{listed(np.flatnonzero(nameless))}. Fill or drop them."
            )


def require_distinct(names: Sequence[str], where: str, words: str) -> None:
    """Refuse columns of which two are the same; ``words`` say whose they are ("by, indicator and quality")."""
    if len(set(names)) < len(names):
        raise InputError(f"{where}: {words} must be different columns; given are {list(names)}.")


def keyed_numbers(
    frame: pd.DataFrame, key: Sequence[str], values: Sequence[str], where: str, *, steps: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """The columns of numbers of a tidy table, each of shape (row,), where the columns of ``key`` name each row once.

    Parameters
    ----------
    frame : DataFrame
    key : sequence of str
        The columns whose values name one row.
    values : sequence of str
        Columns of numbers. A missing value is allowed and becomes NaN.
    where : str
        The function that asks, for the error's sake.
    steps : sequence of str
        Columns of ``key`` that are numbers too, and are returned with ``values``: the training step.

    Raises
    ------
    InputError
        If a column is missing or holds no numbers, there is no row, a value is infinite, or a part of the key is
        missing, infinite or repeated. The message names the rows.
    """
    require_columns(frame, [*key, *values], where)
    if not len(frame):
        raise InputError(f"{where}: the data have no rows.")
    found = {name: numbers(frame, name, where) for name in (*steps, *values)}
    unusable = frame[list(key)].isna().any(axis=1).to_numpy()
    for column in found.values():
        unusable = unusable | np.isinf(column)
    if unusable.any():
        raise InputError(
            f"{where}: an infinite value, or a missing name or step, in {unusable.sum()} row(s), counted from 0: "
            f"{listed(np.flatnonzero(unusable))}. Mend or drop these rows."
        )
    refuse_repeated(
        frame, key, where, "Name the column that tells them apart in by=, or keep one (a target, a method?)."
    )
    return found


def repeated(frame: pd.DataFrame, key: Sequence[str]) -> list[str]:
    """The key of each row that repeats an earlier row's, as text: ``run='a', layer=6``."""
    twice = frame.loc[frame.duplicated(list(key)).to_numpy(), list(key)]
    return [named(key, row) for row in twice.itertuples(index=False)]


def refuse_repeated(frame: pd.DataFrame, key: Sequence[str], where: str, remedy: str) -> None:
    """Refuse a table whose columns ``key`` do not name each row once; ``remedy`` is a sentence that says what to do."""
    cases = repeated(frame, key)
    if cases:
        raise InputError(
            f"{where}: one row for each {tuple(key)} is wanted, but {len(cases)} stand more than once: "
            f"{listed(cases, 3)}. {remedy}"
        )


def optional_module(name: str, extra: str, where: str) -> ModuleType | Any:
    """The module ``name``, which is installed with one of this package's extras and imported at its first use.

    Raises
    ------
    ImportError
        If it is not installed; the message says which extra brings it.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise ImportError(
            f"{where} needs {error.name}, which is not installed. Install it with pip install 'addends[{extra}]'."
        ) from error


def rounding_of(column: pd.Series) -> float:
    """Two units in the last place of the column's type, relative to its largest value."""
    dtype = np.dtype(getattr(column.dtype, "numpy_dtype", column.dtype))
    return 2 * float(np.finfo(dtype if dtype.kind == "f" else "float64").eps)

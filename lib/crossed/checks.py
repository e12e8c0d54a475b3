"""The columns that a caller names, looked up in a table and refused in words when they are not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from numbers import Real

import numpy as np
import pandas as pd

from crossed.errors import InputError


def require_columns(data: pd.DataFrame, names: Iterable[str], where: str) -> None:
    """Check that ``data`` is a DataFrame that has each of ``names`` exactly once.

    Raises
    ------
    InputError
        If it is none, or a column is missing (the message offers the nearest name) or stands twice.
    """
    if not isinstance(data, pd.DataFrame):
        kind = f"{type(data).__module__}.{type(data).__name__}"
        convert = " Convert it, e.g. by its to_pandas()." if hasattr(data, "to_pandas") else ""
        raise InputError(
            f"{where}: data is a {kind}; a pandas DataFrame with one row an observation is wanted.{convert}"
        )
    columns = list(data.columns)
    for name in names:
        if name not in columns:
            near = difflib.get_close_matches(str(name), [str(column) for column in columns], n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise InputError(f"{where}: the data have no column {name!r}.{hint} Their columns are {columns}.")
        if columns.count(name) > 1:
            raise InputError(f"{where}: the data have {columns.count(name)} columns named {name!r}; keep one.")


def names_of(given: str | Iterable[str], argument: str, where: str) -> list[str]:
    """One name, or several, as a list.

    Raises
    ------
    InputError
        If it is neither, or a name stands twice.
    """
    try:
        names = [given] if isinstance(given, str) else list(given)
    except TypeError as error:
        raise InputError(f"{where}: {argument}={given!r} must be one name or a list of names.") from error
    if len(set(names)) < len(names):
        raise InputError(f"{where}: {argument}={names} names one of them twice; name each once.")
    return names


def numbers(data: pd.DataFrame, name: str, where: str) -> np.ndarray:
    """The column ``name`` as float64, a missing value as NaN.

    Raises
    ------
    InputError
        If the column does not hold numbers.
    """
    column = data[name]
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_complex_dtype(column):
        raise InputError(f"{where}: the column {name!r} holds {column.dtype}, not numbers; convert it first.")
    return column.to_numpy(dtype="float64", na_value=np.nan)


def listed(items: Iterable, most: int = 5) -> str:
    """The first few of ``items`` as text, with the number of the rest."""
    items = list(items)
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(str(item) for item in items[:most]) + rest


def rounding_of(column: pd.Series) -> float:
    """Two units in the last place of the column's type, relative to its largest value."""
    dtype = np.dtype(getattr(column.dtype, "numpy_dtype", column.dtype))
    return 2 * float(np.finfo(dtype if dtype.kind == "f" else "float64").eps)


def named(names: Sequence[str], values: Sequence) -> str:
    """A row's name as text: ``run='a', layer=6``."""
    return ", ".join(f"{name}={value!r}" for name, value in zip(names, values, strict=True))


def check_level(level: float, where: str) -> None:
    """Refuse a level of an interval that is no number between 0 and 1."""
    if isinstance(level, bool | np.bool_) or not isinstance(level, Real) or not 0 < level < 1:
        raise InputError(f"{where}: level={level!r} must be a number and lie strictly between 0 and 1, e.g. 0.95.")

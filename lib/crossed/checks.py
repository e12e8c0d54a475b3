"""What a caller gives, checked before anything is computed: columns, values and levels, each refusal written once.

Every check takes ``where``, the text that opens its message: "fit_each", or "formula='y ~ x + (1 | run)'".
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from numbers import Integral, Real

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


def named(names: Sequence[str], values: Sequence) -> str:
    """A row's name as text: ``run='a', layer=6``."""
    return ", ".join(f"{name}={value!r}" for name, value in zip(names, values, strict=True))


def check_choice(name: str, value: object, allowed: Collection[object], where: str = "") -> None:
    """Refuse a value of the argument ``name`` that is none of ``allowed``.

    Raises
    ------
    InputError
    """
    if value not in allowed:
        raise InputError(f"{where}{': ' * bool(where)}{name}={value!r} is not one of {allowed}.")


def check_level(level: float, where: str) -> None:
    """Refuse a level of an interval that is no number between 0 and 1.

    Raises
    ------
    InputError
    """
    if isinstance(level, bool | np.bool_) or not isinstance(level, Real) or not 0 < level < 1:
        raise InputError(f"{where}: level={level!r} must be a number and lie strictly between 0 and 1, e.g. 0.95.")


def check_draws(draws: int, where: str) -> None:
    """Refuse a number of draws that is none, or too small for the tails of an interval.

    Raises
    ------
    InputError
    """
    if isinstance(draws, bool | np.bool_) or not isinstance(draws, Integral) or draws < 1_000:
        raise InputError(
            f"{where}: draws={draws!r} is too few for the tails of an interval, or no whole number; give 1000 or more."
        )


def check_reml(reml: bool, where: str) -> None:
    """Refuse a choice of likelihood that is neither True nor False, such as "ML".

    Raises
    ------
    InputError
    """
    if not isinstance(reml, bool | np.bool_):
        raise InputError(f"{where}: reml={reml!r} must be True (restricted maximum likelihood) or False.")


def refuse_missing(column: pd.Series, name: str, where: str) -> None:
    """Refuse a column with missing or infinite values, and number its rows from 0.

    Raises
    ------
    InputError
        Or if the column holds complex numbers.
    """
    if pd.api.types.is_complex_dtype(column):
        raise InputError(
            f"{where}: the column {name!r} holds {column.dtype}, not numbers on a line; take a part of it."
        )
    unusable = column.isna().to_numpy()
    if pd.api.types.is_numeric_dtype(column):
        unusable = ~np.isfinite(column.to_numpy(dtype="float64", na_value=np.nan))
    if unusable.any():
        raise InputError(
            f"{where}: the column {name!r} is missing or infinite in {unusable.sum()} row(s), counted from 0: "
            f"{listed(np.flatnonzero(unusable))}. Rows are never dropped silently: drop them yourself, e.g. "
            f"data.dropna(subset=[{name!r}]), and report how many."
        )


def refuse_infinite(columns: np.ndarray, names: Sequence[str], where: str) -> None:
    """Refuse columns (row, column) made by a formula, in which a value is no finite number.

    Raises
    ------
    InputError
    """
    unusable = ~np.isfinite(columns)
    if unusable.any():
        name = names[int(np.flatnonzero(unusable.any(axis=0))[0])]
        rows = np.flatnonzero(unusable.any(axis=1))
        raise InputError(
            f"{where}: {name!r} is no finite number in {len(rows)} row(s), counted from 0: {listed(rows)}. Is a "
            "logarithm or a root taken of a negative number or of zero?"
        )


def groups_of(
    data: pd.DataFrame, by: str | Iterable[str], taken: Iterable[str], where: str
) -> tuple[list[str], list[tuple[tuple, pd.DataFrame]]]:
    """The columns of ``by`` as a list, and each combination of their values with its rows, in order of appearance.

    For ``by="layer"`` and a table of two layers: ``["layer"]``, and ``[((1,), rows of 1), ((2,), rows of 2)]``.

    Parameters
    ----------
    taken : iterable of str
        Columns that the table of results has of its own; a column of ``by`` would be taken for them.

    Raises
    ------
    InputError
        If a column is unknown, stands twice or is one of ``taken``, a value of it is missing, there are no rows, or
        ``by`` is an empty list.
    """
    names = names_of(by, "by", where)
    if not names:
        raise InputError(f"{where}: by=[] names no column; give those whose combinations are the groups.")
    require_columns(data, names, where)
    clash = [name for name in names if name in set(taken)]
    if clash:
        raise InputError(
            f"{where}: by={names}: the table of results has columns {clash} of its own; rename yours first."
        )
    if data[names].isna().any(axis=None):
        raise InputError(
            f"{where}: missing values in {names}: a row without its group would be lost. Fill or drop them."
        )
    if len(data) == 0:
        raise InputError(f"{where}: the data have no rows.")
    return names, list(data.groupby(names, sort=False, observed=True))

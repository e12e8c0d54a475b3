"""Frames held against the schemas of the tables: the right columns, unique keys, allowed values, nothing altered."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pandera.pandas as pa

from addends.checks import repeated
from addends.errors import DataError
from addends.schemas import key, schema_of

__all__ = ["validate"]


def validate(
    frame: pd.DataFrame, table: str, origin: str = "the frame", columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """Check ``frame`` against the schema of ``table``; return it with the schema's types and column order.

    Parameters
    ----------
    frame : DataFrame
        Tidy rows.
    table : str
        One of ``SCHEMAS``.
    origin : str
        Where the rows come from, for the error's sake: a file's name.
    columns : sequence of str, or None
        The columns that ``frame`` is to have, where it holds a part of the table. Rows are compared for equal keys only
        where the whole key is among them.

    Raises
    ------
    DataError
        If a column is missing or unknown, a key occurs twice, or a value is outside what the column allows.
    """
    schema = schema_of(table)
    if columns is not None:
        unique = schema.unique if set(schema.unique) <= set(columns) else []
        chosen = {name: column for name, column in schema.columns.items() if name in columns}
        schema = pa.DataFrameSchema(chosen, unique=unique or None, strict=True, ordered=False)
    frame = frame.reset_index(drop=True)  # row labels mean nothing here, and repeated ones would mislead the checks
    absent = [name for name, column in schema.columns.items() if column.required and name not in frame]
    wrong = [f"there is no column {name!r}" for name in absent]
    wrong += [f"the column {name!r} is unknown" for name in frame.columns if name not in schema.columns]
    wrong += [f"the column {name!r} stands twice" for name in frame.columns[frame.columns.duplicated()]]
    wrong = wrong or _altered(frame, schema) or _repeated(frame, schema.unique or [])
    if not wrong:
        try:
            checked = schema.validate(frame, lazy=True)
        except pa.errors.SchemaErrors as error:
            cases = error.failure_cases.drop_duplicates(["column", "check"]).head(5)
            wrong = [
                f"column {case.column!r}: {case.check} (e.g. {case.failure_case!r})" for case in cases.itertuples()
            ]
    if wrong:
        raise DataError(
            f"{origin} does not hold a valid {table!r} table:\n"
            + "\n".join(f"  {line}" for line in wrong)
            + f"\nIts columns are {list(schema.columns)}; its key, unique, is {key(table)}."
        )
    return checked[[name for name in schema.columns if name in checked.columns]]


def _altered(frame: pd.DataFrame, schema: pa.DataFrameSchema) -> list[str]:
    """What is wrong with columns of numbers that a cast would change without a word: 1.5 to 1, a date to a number."""
    found = []
    for name, column in schema.columns.items():
        kind = str(column.dtype).lower()
        if name not in frame or not ("int" in kind or "float" in kind or kind == "bool"):
            continue
        given = frame[name]
        if kind == "bool":
            if given.dtype != bool:
                found.append(f"column {name!r}: True and False are wanted, and not {given.dtype}")
            continue
        wanted = "whole numbers" if "int" in kind else "numbers"
        types = (pd.api.types.is_bool_dtype, pd.api.types.is_complex_dtype, pd.api.types.is_datetime64_any_dtype)
        if any(is_of(given) for is_of in types) or pd.api.types.is_timedelta64_dtype(given):
            found.append(f"column {name!r}: {wanted} are wanted, and not {given.dtype}")
        elif "int" in kind and not pd.api.types.is_integer_dtype(given):
            values = pd.to_numeric(given, errors="coerce").dropna()  # what is no number is the schema's to refuse
            fractions = values[values % 1 != 0]
            if len(fractions):
                found.append(f"column {name!r}: whole numbers are wanted (e.g. {fractions.iloc[0]})")
    return found


def _repeated(frame: pd.DataFrame, columns: list[str]) -> list[str]:
    cases = repeated(frame, columns) if columns else []
    return [f"{len(cases)} row(s) repeat the key of an earlier one (e.g. {cases[0]})"] if cases else []

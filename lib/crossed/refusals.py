"""What a table may hold that a mixed model could not use, refused in words before anything is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crossed.checks import listed
from crossed.errors import InputError
from crossed.expressions import is_category
from crossed.formulas import RandomTerm

if TYPE_CHECKING:
    from crossed.designs import Effects
    from crossed.matrices import Matrix


def refuse_names(predictors: list[str], random: tuple[RandomTerm, ...], where: str) -> None:
    """Refuse columns whose names mean something in the tables of a fit."""
    if "Intercept" in predictors:
        raise InputError(
            f"{where}: a predictor named 'Intercept' cannot be told from the intercept; rename that column, or write 1 "
            "for the intercept (0 + for none)."
        )
    groups: dict[str, tuple[str, ...]] = {}
    for term in random:
        if term.group == "Residual":
            raise InputError(f"{where}: a group named 'Residual' cannot be told from the residual; rename that column.")
        if groups.setdefault(term.group, term.factors) != term.factors:
            raise InputError(f"{where}: two groups would be named {term.group!r}; rename a column.")


def refuse_type(column: pd.Series, name: str, where: str) -> None:
    """Refuse what is neither numbers nor text nor categories."""
    if is_category(column) or (
        pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_complex_dtype(column.dtype)
    ):
        return
    kinds = ""
    if column.dtype == object:
        kinds = f" of {', '.join(sorted({type(value).__name__ for value in column}))}"
    raise InputError(
        f"{where}: the column {name!r} holds {column.dtype}{kinds}, not numbers, text or categories; convert it first, "
        "e.g. by astype(float), astype(str) or astype('category')."
    )


def refuse_missing(column: pd.Series, name: str, where: str) -> None:
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
    unusable = ~np.isfinite(columns)
    if unusable.any():
        name = names[int(np.flatnonzero(unusable.any(axis=0))[0])]
        rows = np.flatnonzero(unusable.any(axis=1))
        raise InputError(
            f"{where}: {name!r} is no finite number in {len(rows)} row(s), counted from 0: {listed(rows)}. Is a "
            "logarithm or a root taken of a negative number or of zero?"
        )


def refuse_indistinct(terms: tuple[RandomTerm, ...], effects: tuple[Effects, ...], rows: int, where: str) -> None:
    seen: dict[tuple[str, str], None] = {}
    for term, each in zip(terms, effects, strict=True):
        name, levels = each.grouping.name, len(each.grouping)
        if term.independent and len(each.names) > 1:
            what = "is a category of" if "[" not in term.slopes and "(" not in term.slopes else "makes"
            raise InputError(
                f"{where}: {term.slopes!r} before a double bar {what} {len(each.names)} columns, which would stay "
                "correlated; make numeric columns of it, or write a single bar."
            )
        if levels * len(each.names) >= rows:
            what = "levels" if each.intercept_only else f"effects ({levels} levels x {list(each.names)})"
            raise InputError(
                f"{where}: the group {name!r} has as many {what} as there are rows, or more, {rows}; its variance "
                "cannot be told from the residual's. Take it out, or bring replicates."
            )
        for column in each.names:
            if (name, column) in seen:
                raise InputError(f"{where}: {column!r} by {name!r} stands in two random terms; write it in one.")
            seen[name, column] = None
    for name, column in seen:
        if column == "Intercept" or (name, "Intercept") not in seen:
            continue
        each = next(each for each in effects if each.grouping.name == name and column in each.names)
        values, codes = each.columns[:, each.names.index(column)], each.grouping.codes
        first = np.zeros(len(each.grouping))
        first[codes] = values
        if np.abs(values - first[codes]).max() <= 1e-12 * np.abs(values).max():
            raise InputError(
                f"{where}: {column!r} is constant within every level of {name!r}, so its slope by {name} cannot be "
                f"told from {name}'s intercept; leave it in the fixed part and take it out of the random term."
            )
    distinct = list({each.grouping.name: each.grouping for each in effects}.values())
    for number, one in enumerate(distinct):
        for other in distinct[:number]:
            if len(one) == len(other) and len(np.unique(one.codes * np.int64(len(other)) + other.codes)) == len(one):
                raise InputError(
                    f"{where}: {other.name!r} and {one.name!r} group the rows alike; take one of them out."
                )


def refuse_dependent(fixed: Matrix, where: str) -> None:
    """Refuse parameters that are linear combinations of those before them, and name both."""
    values = fixed.columns
    if "Intercept" in fixed.names:  # centred, a predictor far from zero is no near-copy of the intercept
        values = values - np.where(np.array(fixed.names) == "Intercept", 0, values.mean(axis=0))
    norms = np.linalg.norm(values, axis=0)
    constant = norms <= 1e-12 * np.linalg.norm(fixed.columns, axis=0)
    triangle = np.linalg.qr(values / np.where(constant, 1, norms), mode="r")
    for number, name in enumerate(fixed.names):
        if constant[number] or abs(triangle[number, number]) < 1e-9:
            before = triangle[:number, :number]
            weights = np.linalg.lstsq(before, triangle[:number, number], rcond=None)[0] if number else []
            partners = [other for other, weight in zip(fixed.names, weights, strict=False) if abs(weight) > 1e-6]
            partners = ["Intercept"] if constant[number] else partners
            raise InputError(
                f"{where}: {name!r} is constant or a linear combination of {partners}; take one of them out."
            )

"""A formula and a table become the arrays of a mixed model; whatever a model could not use is refused in words.

The library formulae makes the columns of the fixed part and of the slopes. The grouping factors stay integer codes,
one a row: a column for each level is never made.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import formulae
import numpy as np
import pandas as pd

from addends.errors import InputError
from addends.statistics.columns import listed, numbers, require_columns
from addends.statistics.formulas import Formula, RandomTerm

_FUNCTIONS = {name: getattr(np, name) for name in ("log", "log1p", "log2", "log10", "exp", "sqrt", "abs")} | {"np": np}


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


@dataclass(frozen=True, eq=False)
class Effects:
    """A random term resolved: the columns that get a coefficient in each level, (row, column), and their names."""

    grouping: Grouping
    names: tuple[str, ...]
    columns: np.ndarray
    read: Matrix

    @property
    def intercept_only(self) -> bool:
        return self.names == ("Intercept",)


@dataclass(frozen=True, eq=False)
class Matrix:
    """The columns that a formula without outcome makes of a table, and can make again of another."""

    text: str
    names: tuple[str, ...]
    values: np.ndarray
    variables: tuple[str, ...]
    common: object = field(repr=False)

    def again(self, data: pd.DataFrame) -> np.ndarray:
        """The same columns of new rows; ``scale()`` and categories keep what they learnt. (row, column)"""
        if self.common is None:
            return np.ones((len(data), len(self.names)))
        if not self.variables:
            return np.ones((len(data), 1))
        try:
            return np.asarray(self.common.evaluate_new_data(data).design_matrix, dtype="float64")
        except Exception as error:
            raise InputError(f"{self.text!r} cannot be computed from the new data: {error}") from error


@dataclass(frozen=True, eq=False)
class Design:
    """A formula resolved against a table.

    Attributes
    ----------
    formula : Formula
    outcome : array (row,)
    fixed : Matrix
        The fixed part, (row, parameter).
    effects : tuple of Effects
        The random terms, in the formula's order.
    """

    formula: Formula
    outcome: np.ndarray
    fixed: Matrix
    effects: tuple[Effects, ...]

    @property
    def groupings(self) -> dict[str, Grouping]:
        return {effects.grouping.name: effects.grouping for effects in self.effects}


def design(formula: Formula, data: pd.DataFrame) -> Design:
    """Resolve ``formula`` against the columns of ``data``.

    A numeric or Boolean column enters as it is; ``C(column)``, and a column of text or categories, enters as
    differences from its first level ("condition[b]": b minus the first). Unused levels of categories are ignored.

    Raises
    ------
    InputError
        If a column is unknown, a row holds a missing or infinite value (rows are never dropped: the message numbers
        them from 0), the outcome is constant, a grouping factor has one level, a random term has as many effects as
        there are rows, two random terms cannot be told apart, or fixed parameters are linearly dependent.
    """
    where = f"formula={formula.text!r}"
    fixed_variables = _variables(formula.fixed, where)
    slopes = {text: _variables(text, where) for text in dict.fromkeys(term.slopes for term in formula.random)}
    outcome_variables = _variables(f"0 + {formula.outcome}", where)
    predictors = dict.fromkeys([*fixed_variables, *(name for found in slopes.values() for name in found)])
    if formula.outcome in predictors:
        raise InputError(f"{where}: {formula.outcome!r} is the outcome and cannot predict itself.")
    factors = dict.fromkeys(factor for term in formula.random for factor in term.factors)
    used = list(dict.fromkeys([*outcome_variables, *predictors, *factors]))
    require_columns(data, used, where)
    if formula.outcome in used:
        numbers(data, formula.outcome, where)
    for name in used:
        _refuse_missing(data[name], name, where)
    table = data[used].reset_index(drop=True)
    for name in table:
        if isinstance(table[name].dtype, pd.CategoricalDtype):
            table[name] = table[name].cat.remove_unused_categories()

    outcome = _outcome(formula.outcome, outcome_variables, table, where)
    fixed = _matrix(formula.fixed, fixed_variables, table, where)
    if fixed.values.shape[1] >= len(outcome):
        raise InputError(
            f"{where}: {fixed.values.shape[1]} fixed parameters and {len(outcome)} rows: nothing is left to estimate "
            "variances from. Take parameters out, or get more rows."
        )
    matrices = {text: _matrix(text, found, table, where) for text, found in slopes.items()}
    groupings = {}
    for term in formula.random:
        if term.group not in groupings:
            groupings[term.group] = _grouping(term.factors, table, where)
    effects = tuple(
        Effects(groupings[term.group], matrices[term.slopes].names, matrices[term.slopes].values, matrices[term.slopes])
        for term in formula.random
    )
    _refuse_indistinct(formula.random, effects, len(outcome), where)
    _refuse_dependent(fixed, where)
    return Design(formula, outcome, fixed, effects)


def _variables(text: str, where: str) -> tuple[str, ...]:
    try:
        model = formulae.model_description(text)
    except Exception as error:
        raise InputError(f"{where}: {text!r} cannot be read: {error}") from error
    for term in model.common_terms:
        if "offset(" in str(term.name):
            raise InputError(f"{where}: offset() is not fitted; subtract it from the outcome as a column of its own.")
    return tuple(sorted(name for name in model.var_names if name))


def _refuse_missing(column: pd.Series, name: str, where: str) -> None:
    unusable = column.isna().to_numpy()
    if pd.api.types.is_numeric_dtype(column):
        unusable = ~np.isfinite(column.to_numpy(dtype="float64", na_value=np.nan))
    if unusable.any():
        raise InputError(
            f"{where}: the column {name!r} is missing or infinite in {unusable.sum()} row(s), counted from 0: "
            f"{listed(np.flatnonzero(unusable))}. Rows are never dropped silently: drop them yourself, e.g. "
            f"data.dropna(subset=[{name!r}]), and report how many."
        )


def _outcome(text: str, variables: tuple[str, ...], table: pd.DataFrame, where: str) -> np.ndarray:
    if text in table:
        outcome = numbers(table, text, where)
    else:
        matrix = _matrix(f"0 + {text}", variables, table, where)
        if matrix.values.shape[1] != 1:
            raise InputError(f"{where}: the outcome {text!r} makes {list(matrix.names)}; one column of numbers is wanted.")
        outcome = matrix.values[:, 0]
    if len(outcome) == 0 or np.ptp(outcome) <= 1e-12 * np.abs(outcome).max():
        raise InputError(f"{where}: the outcome {text!r} is constant (or empty): no variance to divide.")
    return outcome


def _matrix(text: str, variables: tuple[str, ...], table: pd.DataFrame, where: str) -> Matrix:
    if text == "1" or len(table) == 0:
        return Matrix(text, ("Intercept",), np.ones((len(table), 1)), (), None)
    # formulae reads the rows of one outcome column too; none is needed here.
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # of log(-1) and the like: refused below, by row
            common = formulae.design_matrices(text, table, na_action="error", extra_namespace=_FUNCTIONS).common
            values = None if common is None else np.asarray(common.design_matrix, dtype="float64")
    except Exception as error:
        raise InputError(f"{where}: {text!r} cannot be computed from the data: {error}") from error
    if common is None:
        raise InputError(f"{where}: {text!r} leaves no column; name a predictor, or leave the intercept in.")
    names = []
    for key, term in common.terms.items():
        names.extend([str(label) for label in term.labels] if term.labels is not None else [str(key)])
    unusable = ~np.isfinite(values)
    if unusable.any():
        name = names[int(np.flatnonzero(unusable.any(axis=0))[0])]
        rows = np.flatnonzero(unusable.any(axis=1))
        raise InputError(
            f"{where}: {name!r} is no finite number in {len(rows)} row(s), counted from 0: {listed(rows)}. Is a logarithm "
            "or a root taken of a negative number or of zero?"
        )
    return Matrix(text, tuple(names), values, variables, common)


def _grouping(factors: tuple[str, ...], table: pd.DataFrame, where: str) -> Grouping:
    codes, levels = [], []
    for factor in factors:
        code, found = pd.factorize(table[factor], sort=True)
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


def _refuse_indistinct(terms: tuple[RandomTerm, ...], effects: tuple[Effects, ...], rows: int, where: str) -> None:
    seen: dict[tuple[str, str], None] = {}
    for term, each in zip(terms, effects, strict=True):
        name, levels = each.grouping.name, len(each.grouping)
        if term.independent and len(each.names) > 1:
            raise InputError(
                f"{where}: {term.slopes!r} before a double bar is a category of {len(each.names)} columns, which would "
                "stay correlated; make numeric columns of it, or write a single bar."
            )
        if levels * len(each.names) >= rows:
            what = "levels" if each.intercept_only else f"effects ({levels} levels x {list(each.names)})"
            raise InputError(
                f"{where}: the group {name!r} has as many {what} as there are rows, or more, {rows}; its variance cannot "
                "be told from the residual's. Take it out, or bring replicates."
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
                f"{where}: {column!r} is constant within every level of {name!r}, so its slope by {name} cannot be told "
                f"from {name}'s intercept; leave it in the fixed part and take it out of the random term."
            )
    distinct = list({each.grouping.name: each.grouping for each in effects}.values())
    for number, one in enumerate(distinct):
        for other in distinct[:number]:
            if len(one) == len(other) and len(np.unique(one.codes * np.int64(len(other)) + other.codes)) == len(one):
                raise InputError(f"{where}: {other.name!r} and {one.name!r} group the rows alike; take one of them out.")


def _refuse_dependent(fixed: Matrix, where: str) -> None:
    """Refuse parameters that are linear combinations of those before them, and name both."""
    values = fixed.values
    if "Intercept" in fixed.names:  # centred, a predictor far from zero is no near-copy of the intercept
        values = values - np.where(np.array(fixed.names) == "Intercept", 0, values.mean(axis=0))
    norms = np.linalg.norm(values, axis=0)
    constant = norms <= 1e-12 * np.linalg.norm(fixed.values, axis=0)
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

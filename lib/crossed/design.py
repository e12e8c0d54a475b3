"""A formula and a table become the arrays of a mixed model; whatever a model could not use is refused in words.

The grouping factors stay integer codes, one a row: a column for each level is never made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from crossed.checks import numbers, refuse_infinite, refuse_missing, require_columns
from crossed.errors import InputError
from crossed.expressions import Expression
from crossed.factors import Categories, Factor, is_category
from crossed.formulas import Formula, RandomTerm
from crossed.matrices import Matrix, matrix, variables


@dataclass(frozen=True, eq=False)
class Grouping:
    """The levels of a grouping factor, and where the rows stand.

    ``(1 | run)`` over the rows r2, r1, r2 has factors ``("run",)``, codes ``[1, 0, 1]`` and levels ``["r1", "r2"]``.

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
    """A random term resolved: ``(x | run)`` has the grouping of run and a matrix of the columns Intercept and x.

    Attributes
    ----------
    grouping : Grouping
    matrix : Matrix
        The columns that get a coefficient in each level.
    """

    grouping: Grouping
    matrix: Matrix

    @property
    def names(self) -> tuple[str, ...]:
        return self.matrix.names

    @property
    def columns(self) -> np.ndarray:
        """(row, column)"""
        return self.matrix.columns

    @property
    def intercept_only(self) -> bool:
        return self.names == ("Intercept",)


@dataclass(frozen=True, eq=False)
class Design:
    """A formula resolved against a table.

    ``y ~ x + (x | run) + (1 | sentence)`` over 120 rows has an outcome (120,), a fixed part with columns (120, 2), and
    two effects, whose columns are (120, 2) and (120, 1).

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
        """By their names, each once, in the formula's order."""
        return {effects.grouping.name: effects.grouping for effects in self.effects}


def design(formula: Formula, data: pd.DataFrame) -> Design:
    """Resolve ``formula`` against the columns of ``data``.

    A numeric or Boolean column enters as it is, in float64; ``C(column)``, and a column of text or categories, enters
    as differences from its first level ("condition[b]": b minus the first): of categories the first that pandas names,
    ordered or not, of anything else the smallest. Unused levels of categories are ignored.

    Raises
    ------
    InputError
        If a column is unknown, a row holds a missing or infinite value (rows are never dropped: the message numbers
        them from 0), the outcome is constant, a grouping factor has one level, a random term has as many effects as
        there are rows, two random terms cannot be told apart, or fixed parameters are linearly dependent.
    """
    where = f"formula={formula.text!r}"
    fixed_variables = variables(formula.fixed)
    predictors = dict.fromkeys([*fixed_variables, *(name for term in formula.random for name in variables(term.terms))])
    if formula.outcome.is_column and formula.outcome.text in predictors:
        raise InputError(f"{where}: {formula.outcome.text!r} is the outcome and cannot predict itself.")
    factors = dict.fromkeys(factor for term in formula.random for factor in term.factors)
    used = list(dict.fromkeys([*formula.outcome.columns, *predictors, *factors]))
    require_columns(data, used, where)
    _refuse_names(list(predictors), formula.random, where)
    if formula.outcome.is_column:
        numbers(data, formula.outcome.text, where)
    for name in used:
        if name not in factors or name in predictors:
            _refuse_type(data[name], name, where)
        refuse_missing(data[name], name, where)
    table = data[used].reset_index(drop=True)
    for name in table:
        if isinstance(table[name].dtype, pd.CategoricalDtype):
            table[name] = table[name].cat.remove_unused_categories()

    outcome = _outcome(formula.outcome, table, where)
    fixed = matrix(formula.fixed, table, where)
    if fixed.columns.shape[1] >= len(outcome):
        raise InputError(
            f"{where}: {fixed.columns.shape[1]} fixed parameters and {len(outcome)} rows: nothing is left to estimate "
            "variances from. Take parameters out, or get more rows."
        )
    matrices, groupings = {}, {}
    for term in formula.random:
        if term.terms not in matrices:
            matrices[term.terms] = matrix(term.terms, table, where)
        if term.factors not in groupings:
            groupings[term.factors] = grouping(term.factors, table, where)
    effects = tuple(Effects(groupings[term.factors], matrices[term.terms]) for term in formula.random)
    _refuse_indistinct(formula.random, effects, len(outcome), where)
    _refuse_dependent(fixed, where)
    return Design(formula, outcome, fixed, effects)


def _outcome(read: Expression, table: pd.DataFrame, where: str) -> np.ndarray:
    """The left side of the formula, (row,); refused unless it is one column of numbers that vary."""
    text = read.text
    outcome = Factor(read, where).learn(table)
    if isinstance(outcome, Categories) or outcome.ndim > 1:
        made = list(outcome.levels) if isinstance(outcome, Categories) else f"{outcome.shape[1]} columns"
        raise InputError(f"{where}: the outcome {text!r} makes {made}; one column of numbers is wanted.")
    refuse_infinite(outcome[:, None], [text], where)
    if len(outcome) == 0 or np.ptp(outcome) <= 1e-12 * np.abs(outcome).max():
        raise InputError(f"{where}: the outcome {text!r} is constant (or empty): no variance to divide.")
    return outcome


def grouping(factors: tuple[str, ...], table: pd.DataFrame, where: str) -> Grouping:
    """The levels of a factor, or the combinations that occur of several.

    Raises
    ------
    InputError
        If a column has one level, or values that cannot be sorted.
    """
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
    places: list[np.ndarray] = []
    for found in reversed(levels[1:]):
        combined, place = np.divmod(combined, len(found))
        places.insert(0, place)
    index = pd.MultiIndex(levels=levels, codes=[combined, *places], names=factors, verify_integrity=False)
    return Grouping(factors, code, index)


def _refuse_names(predictors: list[str], random: tuple[RandomTerm, ...], where: str) -> None:
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


def _refuse_type(column: pd.Series, name: str, where: str) -> None:
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


def _refuse_indistinct(terms: tuple[RandomTerm, ...], effects: tuple[Effects, ...], rows: int, where: str) -> None:
    """Refuse random terms that cannot be told from the residual, from each other, or from a fixed effect."""
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


def _refuse_dependent(fixed: Matrix, where: str) -> None:
    """Refuse parameters that are linear combinations of those before them, and name both."""
    values = fixed.columns
    if "Intercept" in fixed.names:  # centred, a predictor far from zero is no near-copy of the intercept
        values = values - np.where(np.array(fixed.names) == "Intercept", 0, values.mean(axis=0))
    norms = np.linalg.norm(values, axis=0)
    constant = norms <= 1e-12 * np.linalg.norm(fixed.columns, axis=0)
    triangle = np.asarray(np.linalg.qr(values / np.where(constant, 1, norms), mode="r"))
    for number, name in enumerate(fixed.names):
        if constant[number] or abs(triangle[number, number]) < 1e-9:
            weights = np.empty(0)
            if number:
                weights = np.linalg.lstsq(triangle[:number, :number], triangle[:number, number], rcond=None)[0]
            partners = [other for other, weight in zip(fixed.names, weights, strict=False) if abs(weight) > 1e-6]
            partners = ["Intercept"] if constant[number] else partners
            raise InputError(
                f"{where}: {name!r} is constant or a linear combination of {partners}; take one of them out."
            )

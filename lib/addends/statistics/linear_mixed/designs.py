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
from addends.statistics.linear_mixed.formulas import Formula
from addends.statistics.linear_mixed.groupings import Grouping, grouping
from addends.statistics.linear_mixed.refusals import refuse_dependent, refuse_indistinct, refuse_missing

_FUNCTIONS = {name: getattr(np, name) for name in ("log", "log1p", "log2", "log10", "exp", "sqrt", "abs")} | {"np": np}


@dataclass(frozen=True, eq=False)
class Effects:
    """A random term resolved: its grouping factor, and the columns that get a coefficient in each level."""

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
class Matrix:
    """The columns that a formula without outcome makes of a table, and can make again of another."""

    text: str
    names: tuple[str, ...]
    columns: np.ndarray
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
        refuse_missing(data[name], name, where)
    table = data[used].reset_index(drop=True)
    for name in table:
        if isinstance(table[name].dtype, pd.CategoricalDtype):
            table[name] = table[name].cat.remove_unused_categories()

    outcome = _outcome(formula.outcome, outcome_variables, table, where)
    fixed = _matrix(formula.fixed, fixed_variables, table, where)
    if fixed.columns.shape[1] >= len(outcome):
        raise InputError(
            f"{where}: {fixed.columns.shape[1]} fixed parameters and {len(outcome)} rows: nothing is left to estimate "
            "variances from. Take parameters out, or get more rows."
        )
    matrices = {text: _matrix(text, found, table, where) for text, found in slopes.items()}
    groupings = {}
    for term in formula.random:
        if term.group not in groupings:
            groupings[term.group] = grouping(term.factors, table, where)
    effects = tuple(Effects(groupings[term.group], matrices[term.slopes]) for term in formula.random)
    refuse_indistinct(formula.random, effects, len(outcome), where)
    refuse_dependent(fixed, where)
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


def _outcome(text: str, variables: tuple[str, ...], table: pd.DataFrame, where: str) -> np.ndarray:
    if text in table:
        outcome = numbers(table, text, where)
    else:
        matrix = _matrix(f"0 + {text}", variables, table, where)
        if matrix.columns.shape[1] != 1:
            raise InputError(
                f"{where}: the outcome {text!r} makes {list(matrix.names)}; one column of numbers is wanted."
            )
        outcome = matrix.columns[:, 0]
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
        labels = [str(key)] if term.labels is None else [str(label) for label in term.labels]
        if not labels:  # a category of one level: formulae leaves it out and says nothing
            raise InputError(
                f"{where}: {str(key)!r} is constant or a linear combination of ['Intercept']; take one of them out."
            )
        names.extend(labels)
    unusable = ~np.isfinite(values)
    if unusable.any():
        name = names[int(np.flatnonzero(unusable.any(axis=0))[0])]
        rows = np.flatnonzero(unusable.any(axis=1))
        raise InputError(
            f"{where}: {name!r} is no finite number in {len(rows)} row(s), counted from 0: {listed(rows)}. Is a "
            "logarithm or a root taken of a negative number or of zero?"
        )
    return Matrix(text, tuple(names), values, variables, common)

"""A formula and a table become the arrays of a mixed model; whatever a model could not use is refused in words.

The grouping factors stay integer codes, one a row: a column for each level is never made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from crossed.checks import numbers, require_columns
from crossed.errors import InputError
from crossed.expressions import Categories, Expression, Factor
from crossed.formulas import Formula
from crossed.groupings import Grouping, grouping
from crossed.matrices import Matrix, matrix, variables
from crossed.refusals import (
    refuse_dependent,
    refuse_indistinct,
    refuse_infinite,
    refuse_missing,
    refuse_names,
    refuse_type,
)


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
    refuse_names(list(predictors), formula.random, where)
    if formula.outcome.is_column:
        numbers(data, formula.outcome.text, where)
    for name in used:
        if name not in factors or name in predictors:
            refuse_type(data[name], name, where)
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
    refuse_indistinct(formula.random, effects, len(outcome), where)
    refuse_dependent(fixed, where)
    return Design(formula, outcome, fixed, effects)


def _outcome(read: Expression, table: pd.DataFrame, where: str) -> np.ndarray:
    text = read.text
    outcome = Factor(read, where).learn(table)
    if isinstance(outcome, Categories) or outcome.ndim > 1:
        made = list(outcome.levels) if isinstance(outcome, Categories) else f"{outcome.shape[1]} columns"
        raise InputError(f"{where}: the outcome {text!r} makes {made}; one column of numbers is wanted.")
    refuse_infinite(outcome[:, None], [text], where)
    if len(outcome) == 0 or np.ptp(outcome) <= 1e-12 * np.abs(outcome).max():
        raise InputError(f"{where}: the outcome {text!r} is constant (or empty): no variance to divide.")
    return outcome

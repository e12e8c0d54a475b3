"""Formulas as lme4 users write them, read and resolved against the columns of a table.

``outcome ~ 1 + predictor + (1 | group)``: before the bars stand the fixed effects and one random intercept a group.
The reading (:func:`parse`) knows nothing of data; the resolving (:func:`design`) turns a formula and a table into
arrays and refuses whatever a model could not use. Neither knows how the model is fitted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from addends.errors import InputError
from addends.statistics.columns import listed, numbers, require_columns

_NAME = re.compile(r"[^\W\d][\w.]*")
_CATEGORICAL = re.compile(r"C\(\s*([^\W\d][\w.]*)\s*\)")
_ALLOWED = (
    "Allowed now: 'outcome ~ 1 + predictor + C(category) + (1 | group) + (1 | other_group)', with main effects, "
    "an intercept, and one random intercept a grouping factor."
)


@dataclass(frozen=True)
class Formula:
    """A formula, read: the outcome, the fixed terms in their order (without the intercept), the grouping factors."""

    text: str
    outcome: str
    fixed: tuple[str, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Design:
    """A formula resolved against a table.

    Attributes
    ----------
    outcome : array (row,)
    fixed : array (row, parameter)
        The fixed part; its first column is the intercept.
    names : tuple of str
        The parameters' names, "Intercept" first.
    codes : dict of str to array (row,) of int
        For each grouping factor the number of the level in which each row stands.
    levels : dict of str to list
        For each grouping factor its levels, sorted.
    """

    outcome: np.ndarray
    fixed: np.ndarray
    names: tuple[str, ...]
    codes: dict[str, np.ndarray]
    levels: dict[str, list]


def parse(formula: str) -> Formula:
    """Read a formula such as ``"importance ~ tokens + (1 | run) + (1 | sentence)"``.

    The intercept is implied, as in R; a leading ``1 +`` only says so aloud.

    Raises
    ------
    InputError
        If the ``~`` is missing, a term is one that cannot be fitted now (a random slope, an interaction, a nested
        factor, a model without intercept), a term or a group stands twice, or there is no random term.
    """
    if not isinstance(formula, str) or formula.count("~") != 1:
        raise InputError(f"formula={formula!r} needs exactly one '~', between the outcome and its terms. {_ALLOWED}")
    outcome, right = (side.strip() for side in formula.split("~"))
    if not _NAME.fullmatch(outcome):
        raise InputError(
            f"formula={formula!r}: the outcome {outcome!r} is not the name of a column; compute a transformed "
            f"outcome as a column of its own first. {_ALLOWED}"
        )
    fixed: list[str] = []
    groups: list[str] = []
    for term in _terms(right, formula):
        if "|" in term:
            group = _random_intercept(term, formula)
            if group in groups:
                raise InputError(f"formula={formula!r}: the group {group!r} stands twice; write (1 | {group}) once.")
            groups.append(group)
        elif term == "1":
            continue
        elif term == "0" or "-" in term:
            raise InputError(
                f"formula={formula!r}: {term!r} asks for terms to be taken out; not fitted now. {_ALLOWED}"
            )
        elif not (_NAME.fullmatch(term) or _CATEGORICAL.fullmatch(term)):
            what = "an interaction" if set(term) & set(":*^") else "neither a column nor C(column)"
            raise InputError(f"formula={formula!r}: {term!r} is {what}; not fitted now. {_ALLOWED}")
        else:
            match = _CATEGORICAL.fullmatch(term)
            term = f"C({match[1]})" if match else term
            if _column(term) in [_column(other) for other in fixed]:
                raise InputError(f"formula={formula!r}: the fixed term {term!r} stands twice; write it once.")
            if _column(term) == outcome:
                raise InputError(f"formula={formula!r}: {outcome!r} is the outcome and cannot predict itself.")
            fixed.append(term)
    if not groups:
        raise InputError(
            f"formula={formula!r} has no random term, so it is no mixed model; add one, e.g. '+ (1 | run)'. {_ALLOWED}"
        )
    if outcome in groups:
        raise InputError(f"formula={formula!r}: {outcome!r} is the outcome and cannot be a grouping factor too.")
    return Formula(formula, outcome, tuple(fixed), tuple(groups))


def _terms(right: str, formula: str) -> list[str]:
    """Split at every + that stands outside brackets."""
    terms, depth = [""], 0
    for character in right:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
        if character == "+" and depth == 0:
            terms.append("")
        else:
            terms[-1] += character
    if depth != 0:
        raise InputError(f"formula={formula!r}: its brackets do not match. {_ALLOWED}")
    terms = [term.strip() for term in terms]
    if "" in terms:
        raise InputError(f"formula={formula!r}: a term is missing before, after or between its '+'. {_ALLOWED}")
    if any("|" in term and not (term.startswith("(") and term.endswith(")")) for term in terms):
        raise InputError(f"formula={formula!r}: a random term stands in brackets, (1 | group). {_ALLOWED}")
    return terms


def _random_intercept(term: str, formula: str) -> str:
    slopes, _, group = term[1:-1].partition("|")
    slopes, group = slopes.strip(), group.strip()
    if slopes != "1":
        raise InputError(
            f"formula={formula!r}: {term!r} is no plain random intercept; slopes are not fitted now. {_ALLOWED}"
        )
    if not _NAME.fullmatch(group):
        raise InputError(
            f"formula={formula!r}: in {term!r} the group {group!r} is not the name of one column; nested factors (/) "
            f"and their interactions (:) are not fitted now. {_ALLOWED}"
        )
    return group


def _column(term: str) -> str:
    match = _CATEGORICAL.fullmatch(term)
    return match[1] if match else term


def design(formula: Formula, data: pd.DataFrame) -> Design:
    """Resolve ``formula`` against the columns of ``data``.

    A numeric or Boolean column enters as it is; ``C(column)``, and a column of text or categories, enters as
    differences from its first level ("condition[T.b]": b minus the first).

    Raises
    ------
    InputError
        If a column is unknown, a row holds a missing or infinite value (rows are never dropped: the message numbers
        them from 0), the outcome is constant, a grouping factor has one level or as many levels as rows, two
        grouping factors are the same partition, or a fixed term is a linear combination of those before it.
    """
    where = f"formula={formula.text!r}"
    predictors = [_column(term) for term in formula.fixed]
    require_columns(data, [formula.outcome, *predictors, *formula.groups], where)
    outcome = numbers(data, formula.outcome, where)
    for name in dict.fromkeys([formula.outcome, *predictors, *formula.groups]):
        column = data[name]
        unusable = column.isna().to_numpy()
        if pd.api.types.is_numeric_dtype(column):
            unusable = ~np.isfinite(numbers(data, name, where))
        if unusable.any():
            raise InputError(
                f"{where}: the column {name!r} is missing or infinite in {unusable.sum()} row(s), counted from 0: "
                f"{listed(np.flatnonzero(unusable))}. Rows are never dropped silently: drop them yourself, e.g. "
                f"data.dropna(subset=[{name!r}]), and report how many."
            )
    if len(outcome) == 0 or np.ptp(outcome) <= 1e-12 * np.abs(outcome).max():
        raise InputError(f"{where}: the outcome {formula.outcome!r} is constant (or empty): no variance to divide.")

    names, columns = ["Intercept"], [np.ones(len(outcome))]
    for term, name in zip(formula.fixed, predictors, strict=True):
        for parameter, values in _fixed_columns(term, data[name]):
            trial = np.column_stack([*columns, values])
            if np.linalg.matrix_rank(trial / np.linalg.norm(trial, axis=0).clip(min=1e-300)) < trial.shape[1]:
                raise InputError(
                    f"{where}: {parameter!r} is constant or a linear combination of {names}; take one of them out."
                )
            names.append(parameter)
            columns.append(values)

    codes, levels = {}, {}
    for name in formula.groups:
        codes[name], found = pd.factorize(data[name], sort=True)
        levels[name] = found.tolist()
        if len(found) < 2:
            raise InputError(
                f"{where}: the group {name!r} has one level, {levels[name]}; its variance needs two or more."
            )
        if len(found) == len(outcome):
            raise InputError(
                f"{where}: the group {name!r} has as many levels as there are rows, {len(outcome)}; its variance "
                "cannot be told from the residual's. Take it out."
            )
        for other in list(codes)[:-1]:
            pairs = len(np.unique(np.stack([codes[name], codes[other]]), axis=1).T)
            if pairs == len(found) == len(levels[other]):
                raise InputError(f"{where}: {other!r} and {name!r} group the rows alike; take one of them out.")
    return Design(outcome, np.column_stack(columns), tuple(names), codes, levels)


def _fixed_columns(term: str, column: pd.Series) -> list[tuple[str, np.ndarray]]:
    if not term.startswith("C(") and pd.api.types.is_numeric_dtype(column):
        return [(term, column.to_numpy(dtype="float64"))]
    codes, levels = pd.factorize(column, sort=True)
    if len(levels) < 2:
        return [(term, np.ones(len(column)))]  # refused by the caller, as constant
    return [
        (f"{term}[T.{level}]", (codes == number).astype("float64")) for number, level in enumerate(levels) if number
    ]

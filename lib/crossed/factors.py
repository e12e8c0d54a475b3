"""The values of one factor of a formula in a table, and again in other rows.

A factor learns from the table of the fit what it needs for other rows: means and SDs of ``scale()``, knots of ``bs()``,
the levels of categories, and any number made of a whole column, such as ``np.mean(x)``. Numbers are taken as float64
before anything is done with them, so that no small type of integers can overflow.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from formulae.categorical import Sum, Treatment

from crossed.checks import numbers
from crossed.errors import InputError
from crossed.expressions import CATEGORIES, CONTRASTS, LEARNING, OPERATORS, WHOLE, Expression, shown

_RANKING = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)


@dataclass(frozen=True, eq=False)
class Categories:
    """A factor that is a category.

    ``C(kind)`` over the rows b, a, b has codes ``[1, 0, 1]`` and levels ``("a", "b")``.

    Attributes
    ----------
    codes : array (row,) of int
        In which of its levels each row stands; -1: in none of them.
    levels : tuple
        The first is the base.
    contrast : Treatment or Sum
        Of the library formulae: how the levels become columns.
    """

    codes: np.ndarray
    levels: tuple
    contrast: Treatment | Sum


class Factor:
    """An expression with what it has learnt from the table of the fit.

    ::

        factor = Factor(expression("scale(x)", where), where)
        factor.learn(table)  # (x - mean) / SD, with the mean and the SD of this table
        factor.again(other)  # the same mean and SD

    Attributes
    ----------
    read : Expression
    levels : tuple, optional
        Of a category, once it has learnt them.
    base_is_first : bool
        It is a category whose base is merely the first level, not one that the formula names.
    """

    def __init__(self, read: Expression, where: str):
        self.read, self.where = read, where
        self.levels: tuple | None = None
        self.base_is_first = False
        self._memory: list[Any] = []

    def learn(self, table: pd.DataFrame) -> np.ndarray | Categories:
        """The numbers of the rows, (row,) or (row, column), or their `Categories`."""
        values = self._evaluate(table, learning=True)
        if isinstance(values, Categories):
            self.levels = values.levels
            self.base_is_first = isinstance(values.contrast, Treatment) and values.contrast.reference is None
        return values

    def again(self, table: pd.DataFrame) -> np.ndarray | Categories:
        """The same of other rows, with what was learnt.

        Raises
        ------
        InputError
            If a row has a level that was not in the fit.
        """
        values = self._evaluate(table, learning=False)
        if isinstance(values, Categories) and (values.codes < 0).any():
            raise InputError(
                f"{self.read.text!r} cannot be computed from the new data: in {(values.codes < 0).sum()} row(s) its "
                f"level is none of those of the fit, {list(self.levels or ())}."
            )
        return values

    def _evaluate(self, table: pd.DataFrame, learning: bool) -> np.ndarray | Categories:
        self._learning, self._place, self._table = learning, 0, table
        try:
            with np.errstate(all="ignore"):  # of log(-1) and the like: refused by row
                found = self._value(self.read.tree)
        except InputError:
            raise
        except Exception as error:  # whatever numpy and formulae make of the arguments
            raise InputError(f"{self.where}: {self.read.text!r} cannot be computed from the data: {error}") from error
        finally:
            self._table = None
        if isinstance(found, _Column):
            found = found.categories(self.levels) if found.is_category else found.numbers()
        if isinstance(found, Categories):
            return found
        found = np.empty(0) if isinstance(found, list | str) else np.asarray(found, dtype="float64")
        if found.ndim == 0 or len(found) != len(table):
            raise InputError(
                f"{self.where}: {self.read.text!r} is not one number a row. A term is a column, or made of one."
            )
        return found

    def _value(self, node: ast.expr) -> Any:
        """What a part of the expression gives: numbers, texts, lists, arrays, a column, or categories."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.List | ast.Tuple):
            return [self._value(part) for part in node.elts]
        if isinstance(node, ast.Name):
            if node.id in CONTRASTS:
                return CONTRASTS[node.id]()
            name = self.read.columns[int(node.id.removeprefix("_column_"))]
            return _Column(self._table, name, self.where)
        if isinstance(node, ast.Attribute):
            return getattr(np, node.attr)
        if isinstance(node, ast.UnaryOp):
            return OPERATORS[type(node.op)](_number(self._value(node.operand)))
        if isinstance(node, ast.BinOp):
            # Whole numbers of the formula are floats too: Python's own have no end, and 9**9**9 would take forever.
            sides = (_number(self._value(side)) for side in (node.left, node.right))
            return OPERATORS[type(node.op)](*(float(side) if isinstance(side, int) else side for side in sides))
        if isinstance(node, ast.BoolOp):
            first, *others = (_number(self._value(part)) for part in node.values)  # noqa: PD011 - of a tree
            for other in others:
                first = OPERATORS[type(node.op)](first, other)
            return first
        if isinstance(node, ast.Compare):
            return self._compared(node)
        assert isinstance(node, ast.Call)  # `expressions` lets nothing else pass
        return self._called(node)

    def _compared(self, node: ast.Compare) -> np.ndarray:
        sides = [self._value(part) for part in (node.left, *node.comparators)]
        if any(isinstance(side, str) for side in sides):
            if not all(isinstance(side, str) or (isinstance(side, _Column) and side.is_category) for side in sides):
                raise InputError(
                    f"{self.where}: {shown(ast.unparse(node), self.read.columns)!r} compares a text with numbers; "
                    "write numbers without quotation marks."
                )
            sides = [side.plain() if isinstance(side, _Column) else side for side in self._ranked(sides, node)]
        else:
            sides = [_number(side) for side in sides]
        parts = [OPERATORS[type(op)](*pair) for op, *pair in zip(node.ops, sides, sides[1:], strict=False)]
        return np.logical_and.reduce(parts)

    def _ranked(self, sides: list, node: ast.Compare) -> list:
        """Where < or > compares a category with texts, the places of all in the category's own order."""
        categories = [side for side in sides if isinstance(side, _Column)]
        if not categories or not any(isinstance(op, _RANKING) for op in node.ops):
            return sides
        order = self._remembered(categories[0].order)
        if order is None:
            return sides
        places = [
            pd.Index(order, dtype=object).get_indexer(side.plain() if isinstance(side, _Column) else [side])
            for side in sides
        ]
        if any((place < 0).any() for place in places):
            raise InputError(f"{self.where}: {self.read.text!r} compares with a level that is none of {list(order)}.")
        return places

    def _called(self, node: ast.Call) -> Any:
        name = ast.unparse(node.func).removeprefix("np.")
        arguments = [self._value(part) for part in node.args]
        options = {str(part.arg): self._value(part.value) for part in node.keywords}
        if name == "I" and (len(arguments) != 1 or options):
            raise InputError(f"{self.where}: {self.read.text!r} holds not one expression in I(); write I(x**2).")
        if name in (*CATEGORIES, "binary") and not arguments:
            raise InputError(f"{self.where}: {name}() holds no column; write {name}(run).")
        if name == "I":
            return _number(*arguments)
        if name in CONTRASTS:
            return CONTRASTS[name](*arguments, **options)
        if name in CATEGORIES:
            return self._categories(name, *arguments, **options)
        if name == "binary":
            column, success = arguments[0], (arguments[1:] or [options.get("success")])[0]
            values = column.plain() if isinstance(column, _Column) else column
            success = self._remembered(lambda: sorted(set(values))[0] if success is None else success)
            return (values == success).astype("float64")
        arguments = [_number(value) for value in arguments]
        options = {key: _number(value) for key, value in options.items()}
        if name in LEARNING:
            return self._remembered(LEARNING[name])(*arguments, **options)
        if name in WHOLE:
            return self._remembered(lambda: float(getattr(np, name)(*arguments, **options)))
        return getattr(np, name)(*arguments, **options)

    def _remembered(self, make: Callable[[], Any]) -> Any:
        """What ``make`` gave in the table of the fit."""
        if self._learning:
            self._memory.append(make())
        self._place += 1
        return self._memory[self._place - 1]

    def _categories(
        self, name: str, column: Any, contrast: Any = None, levels: Any = None, **options: Any
    ) -> Categories:
        """What C(), S() or T() makes of a column, with the arguments written in it."""
        if name in ("S", "T"):  # S(g, omit, levels), T(g, ref, levels)
            kind, option = (Sum, "omit") if name == "S" else (Treatment, "ref")
            contrast = kind(options.pop(option, contrast))
        contrast = CONTRASTS.get(contrast, contrast) if isinstance(contrast, str) else contrast
        contrast = contrast() if isinstance(contrast, type) else contrast or Treatment()
        if options or not isinstance(contrast, Treatment | Sum):
            raise InputError(
                f"{self.where}: in {self.read.text!r} a category is written C(g), C(g, Treatment), C(g, Sum), "
                "C(g, levels=['b', 'a']), S(g) or S(g, 'b') (sums to zero), T(g, 'b') (the differences from b)."
            )
        if isinstance(levels, str):
            raise InputError(f"{self.where}: in {self.read.text!r} the levels are a list, such as levels=['b', 'a'].")
        if isinstance(column, Categories):
            return column
        if not isinstance(column, _Column):
            values = np.asarray(column)
            whole = values.dtype != bool and (values == np.rint(values)).all() and np.abs(values).max(initial=0) < 2**53
            column = _Column(
                pd.DataFrame({self.read.text: values.astype("int64") if whole else values}), self.read.text, self.where
            )
        chosen = self.levels or (None if levels is None else tuple(levels))
        found = column.categories(chosen)
        if self._learning and (found.codes < 0).any():
            raise InputError(
                f"{self.where}: {self.read.text!r} leaves out levels that the data have; name all of them."
            )
        base = getattr(contrast, "reference", None) if isinstance(contrast, Treatment) else contrast.omit
        if base is not None and base not in found.levels:
            raise InputError(
                f"{self.where}: in {self.read.text!r} {base!r} is none of the levels, {list(found.levels)}."
            )
        return Categories(found.codes, found.levels, contrast)


class _Column:
    """A column of the table, as it came."""

    def __init__(self, table: pd.DataFrame, name: str, where: str):
        self.series, self.name, self.where = table[name], name, where

    @property
    def is_category(self) -> bool:
        return is_category(self.series)

    def numbers(self) -> np.ndarray:
        return numbers(self.series.to_frame(self.name), self.name, self.where)

    def plain(self) -> np.ndarray:
        return self.series.astype(object).to_numpy()

    def order(self) -> tuple | None:
        """The levels from the lowest to the highest; None of text, which has the order of the alphabet.

        Raises
        ------
        InputError
            If they have no order.
        """
        if not isinstance(self.series.dtype, pd.CategoricalDtype):
            return None
        if not self.series.cat.ordered:
            raise InputError(f"{self.where}: the categories of {self.name!r} have no order to compare by; order them.")
        return tuple(self.series.cat.categories)

    def categories(self, levels: tuple | None) -> Categories:
        if levels is None and isinstance(self.series.dtype, pd.CategoricalDtype):
            levels = tuple(self.series.cat.categories)
        elif levels is None:
            levels = tuple(sorted(self.series.unique().tolist()))
        codes = pd.Index(list(levels), dtype=object).get_indexer(pd.Index(self.series.astype(object), dtype=object))
        return Categories(codes, levels, Treatment())


def is_category(column: pd.Series) -> bool:
    """Does it hold categories or text?"""
    return isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_string_dtype(column)


def _number(value: Any) -> Any:
    """A column, or truth values, as float64; anything else as it is."""
    if isinstance(value, _Column):
        return value.numbers()
    return value.astype("float64") if getattr(value, "dtype", None) == np.dtype(bool) else value

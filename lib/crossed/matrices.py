"""The columns that the terms of a formula make of a table, and can make again of other rows.

A category is coded without its base where the terms before it hold the base already, as in R: in ``g + g:x`` g enters
as differences from its first level, g:x as one slope for each level. Which codings a term needs is found from the
products of categories that earlier terms span, by the rule of the library patsy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations, product

import numpy as np
import pandas as pd

from crossed.checks import refuse_infinite
from crossed.errors import InputError
from crossed.factors import Categories, Factor
from crossed.formulas import Term


@dataclass(frozen=True, eq=False)
class Block:
    """The columns of one term: a product of factors.

    ``kind:x``, with kind of the levels a, b and c and its base in an earlier term, has the factors ``("kind", "x")``,
    the names ``("kind[b]:x", "kind[c]:x")``, and these codings, row by row a, b and c::

        ([[0, 0],
          [1, 0],
          [0, 1]], None)

    Attributes
    ----------
    factors : tuple of str
    codings : tuple of array (level, column), or None for a factor that is numbers
    names : tuple of str
        Of the columns.
    """

    factors: tuple[str, ...]
    codings: tuple[np.ndarray | None, ...]
    names: tuple[str, ...]

    def columns(self, values: dict[str, np.ndarray | Categories], rows: int) -> np.ndarray:
        """(row, column), the column of the first factor varying slowest."""
        result = np.ones((rows, 1))
        for name, coding in zip(self.factors, self.codings, strict=True):
            found = values[name]
            if isinstance(found, Categories):
                assert coding is not None
                part = coding[found.codes]  # (row, column)
            else:
                part = found.reshape(rows, -1)  # (row, column)
            result = (result[:, :, None] * part[:, None, :]).reshape(rows, -1)  # (row, column x column)
        return result


@dataclass(frozen=True, eq=False)
class Matrix:
    """What the terms of a formula make of a table.

    Of ``1 + log(x) + kind``: names ``("Intercept", "log(x)", "kind[b]")``, columns (row, 3), variables
    ``("x", "kind")``, one block a term, factors ``{"log(x)": ..., "kind": ...}``.

    Attributes
    ----------
    names : tuple of str
        Of the columns, as the parameters are named.
    columns : array (row, column)
    variables : tuple of str
        The columns of the table that the terms use.
    blocks : tuple of Block
    factors : dict of str to Factor
        By their text, with what they have learnt.
    """

    names: tuple[str, ...]
    columns: np.ndarray
    variables: tuple[str, ...]
    blocks: tuple[Block, ...] = field(repr=False)
    factors: dict[str, Factor] = field(repr=False)

    def again(self, data: pd.DataFrame) -> np.ndarray:
        """The same columns of new rows; ``scale()`` and categories keep what they learnt. (row, column)"""
        values = {name: factor.again(data) for name, factor in self.factors.items()}
        return np.hstack([block.columns(values, len(data)) for block in self.blocks])


def variables(terms: tuple[Term, ...]) -> tuple[str, ...]:
    """The columns of the table that the terms use, each once."""
    return tuple(dict.fromkeys(name for term in terms for factor in term for name in factor.columns))


def matrix(terms: tuple[Term, ...], table: pd.DataFrame, where: str) -> Matrix:
    """The columns of the terms, in their order.

    Raises
    ------
    InputError
        If there are none, a category has one level, a value is no finite number, or two factors or columns have one
        name.
    """
    if not terms:
        raise InputError(f"{where}: it leaves no column; name a predictor, or leave the intercept in.")
    factors = {factor.text: Factor(factor, where) for term in terms for factor in term}
    for factor in (factor for term in terms for factor in term):
        if factors[factor.text].read != factor:
            raise InputError(
                f"{where}: a column is named {factor.text!r}, as a function of columns beside it is; rename it."
            )
    values = {name: factor.learn(table) for name, factor in factors.items()}
    for name, found in values.items():
        if isinstance(found, Categories) and len(found.levels) == 1:
            raise InputError(
                f"{where}: {name!r} is constant or a linear combination of ['Intercept']; take one of them out."
            )
    blocks = [_block(pieces, values) for term in _codings(terms, values) for pieces in term]
    names = tuple(name for block in blocks for name in block.names)
    columns = np.hstack([block.columns(values, len(table)) for block in blocks])
    refuse_infinite(columns, names, where)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{where}: two parameters would be named {twice!r}; rename a column or a level.")
    return Matrix(names, columns, variables(terms), tuple(blocks), factors)


def _codings(
    terms: tuple[Term, ...], values: dict[str, np.ndarray | Categories]
) -> list[list[tuple[tuple[str, bool], ...]]]:
    """The products that each term is made of, most often one. A product is of pairs (factor, keeps all its levels)."""
    spanned: dict[frozenset, set[frozenset]] = {}
    found = {}
    for number in sorted(range(len(terms)), key=lambda n: len(terms[n])):
        names = [factor.text for factor in terms[number]]
        categories = [name for name in names if isinstance(values[name], Categories)]
        known = spanned.setdefault(frozenset(names) - frozenset(categories), set())
        subsets = [frozenset(some) for size in range(len(categories) + 1) for some in combinations(categories, size)]
        new = [frozenset((name, False) for name in some) for some in subsets if some not in known]
        known.update(subsets)
        whole = [
            tuple((name, dict(some).get(name, True)) for name in names if name not in categories or name in dict(some))
            for some in _merged(new, categories)
        ]
        found[number] = whole
    return [found[number] for number in range(len(terms))]


def _merged(products: list[frozenset], categories: list[str]) -> list[frozenset]:
    """The products, joined: one with a reduced factor and one without that factor make one with all its levels."""
    products = list(products)
    while True:
        for one, name in product(sorted(products, key=len), categories):
            other = one | {(name, False)}
            if name not in dict(one) and other in products:
                products[products.index(other)] = one | {(name, True)}
                products.remove(one)
                break
        else:
            return products


def _block(pieces: tuple[tuple[str, bool], ...], values: dict[str, np.ndarray | Categories]) -> Block:
    """The block of one product of (factor, whether a category keeps all its levels)."""
    codings: list[np.ndarray | None] = []
    labels: list[list[str]] = []
    for name, full in pieces:
        found = values[name]
        if not isinstance(found, Categories):
            codings.append(None)
            wide = found.ndim > 1 and found.shape[1] > 1
            labels.append([f"{name}[{number}]" for number in range(found.shape[1])] if wide else [name])
            continue
        levels = list(found.levels)
        code = found.contrast.code_with_intercept if full else found.contrast.code_without_intercept
        contrast = code(levels)
        codings.append(contrast.matrix.astype("float64"))
        labels.append([f"{name}[{label}]" for label in contrast.labels])
    names = tuple(":".join(parts) for parts in product(*labels)) if pieces else ("Intercept",)
    return Block(tuple(name for name, _ in pieces), tuple(codings), names)

"""The smallest parts of a formula: its tokens, and one factor read as arithmetic on columns, without any data.

``log(x + 1)``, ``I(x**2)``, ``scale(x)`` and ``C(run)`` are factors. What a factor gives in a table is computed by
:mod:`crossed.factors`; how factors make terms is read by :mod:`crossed.formulas`.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from formulae.categorical import Sum, Treatment
from formulae.transforms import TRANSFORMS

from crossed.errors import InputError

ROW_BY_ROW = (
    "log", "log1p", "log2", "log10", "exp", "expm1", "sqrt", "cbrt", "abs", "sign", "floor", "ceil", "round", "sin",
    "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "minimum", "maximum", "where", "clip",
)  # fmt: skip
"""Functions of numpy that work row by row."""
WHOLE = ("mean", "median", "std", "var", "min", "max", "sum", "quantile", "ptp")  # of numpy: one number a column
LEARNING = {name: kind for name, kind in TRANSFORMS.items() if isinstance(kind, type)}
CATEGORIES = ("C", "S", "T")
CONTRASTS = {"Treatment": Treatment, "Sum": Sum}
FUNCTIONS = sorted(["I", "binary", *CATEGORIES, *ROW_BY_ROW, *LEARNING])
OPERATORS: dict[type[ast.AST], Callable] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow, ast.And: np.logical_and,
    ast.Or: np.logical_or, ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Eq: operator.eq,
    ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip
_SPELT = {"^": "**", "{": "I(", "}": ")", "&": "and", "|": "or"}
"""R's operators in Python; R's & and | bind less than comparisons do, and so do Python's words, not its signs."""
_PLAIN = re.compile(r"[^\W\d][\w.]*")

_PIECES = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[^\W\d][\w.]*)"
    r"|(?P<quoted>`[^`]+`)"
    r"|(?P<string>'[^']*'|\"[^\"]*\")"
    r"|(?P<operator>\|\||\*\*|//|%in%|==|!=|<=|>=|[-+*/:()\[\]{},~|^=<>%&])"
)
_OPERANDS = ("number", "name", "quoted", "string")


class Token(NamedTuple):
    """One piece of a formula: ``Token("name", "run", 12)`` is a name that starts at the thirteenth character.

    kind is number, name, quoted (in backticks), string, operator or end.
    """

    kind: str
    text: str
    place: int

    @property
    def named(self) -> str:
        """The name of a column, without backticks."""
        return self.text.strip("`")

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else f"{self.text!r} (character {self.place + 1})"


def tokens(formula: str, where: str) -> list[Token]:
    """The pieces of a formula, the last one of kind "end".

    Raises
    ------
    InputError
        If a character has no meaning, brackets do not match, or two operands stand side by side.
    """
    found, place = [], 0
    while place < len(formula):
        match = _PIECES.match(formula, place)
        if match is None:
            hint = (
                "a backtick or a quotation mark is not closed" if formula[place] in "`'\"" else "it has no meaning here"
            )
            raise InputError(f"{where}: reading stops at {formula[place]!r} (character {place + 1}): {hint}.")
        if match.lastgroup != "space":
            found.append(Token(str(match.lastgroup), match.group(), place))
        place = match.end()
    found.append(Token("end", "", len(formula)))
    _match_brackets(found, where)
    for one, other in pairwise(found):
        ends = one.kind in _OPERANDS or one.text in (")", "]", "}")
        call = one.kind == "name" and other.text == "("
        starts = other.kind in _OPERANDS or (other.text in ("(", "{") and not call)
        if ends and starts:
            raise InputError(
                f"{where}: reading stops at {other}: an operator is missing between {one.text!r} and {other.text!r}. "
                "Write '+' between terms; put a column's name that is no plain word in backticks."
            )
    return found


def _match_brackets(found: list[Token], where: str) -> None:
    """Refuse brackets that do not match."""
    closing, pairs = [], {"(": ")", "[": "]", "{": "}"}
    for token in found:
        if token.kind == "operator" and token.text in pairs:
            closing.append(pairs[token.text])
        closes = token.kind == "operator" and token.text in (")", "]", "}")
        if closes and (not closing or closing.pop() != token.text):
            raise InputError(f"{where}: its brackets do not match: reading stops at {token}.")
    if closing:
        raise InputError(f"{where}: its brackets do not match: {closing[-1]!r} is missing at the end.")


@dataclass(frozen=True)
class Expression:
    """A factor, read: its text in one way of writing, and the columns that it uses.

    ``I(x ^2 + w)`` has the text ``I(x ** 2 + w)``, the columns ``("x", "w")`` and the source
    ``I(_column_0 ** 2 + _column_1)``.

    Attributes
    ----------
    text : str
        The name of the column, or the expression with single blanks, as parameters are named.
    columns : tuple of str
        Column n is written ``_column_n`` in ``source``.
    source : str
        Python.
    """

    text: str
    columns: tuple[str, ...]
    source: str = field(repr=False)

    @property
    def is_column(self) -> bool:
        return self.source == "_column_0"

    @property
    def tree(self) -> ast.expr:
        return ast.parse(self.source, mode="eval").body


def expression(written: str | list[Token], where: str) -> Expression:
    """Read a factor from its text or its tokens.

    Raises
    ------
    InputError
        If it is no arithmetic, or calls a function that is not known.
    """
    pieces = tokens(written, where)[:-1] if isinstance(written, str) else written
    columns, source = [], []
    end = Token("end", "", 0)
    for before, token, after in zip([end, *pieces[:-1]], pieces, [*pieces[1:], end], strict=True):
        text = token.text
        is_column = token.kind == "name" and after.text not in ("(", "=") and not text.startswith("np.")
        is_column &= text not in ("True", "False", "None") and not (text in CONTRASTS and before.text in (",", "="))
        if token.kind == "quoted" or is_column:
            if token.named not in columns:
                columns.append(token.named)
            text = f"_column_{columns.index(token.named)}"
        source.append(_SPELT.get(text, text) if token.kind == "operator" else text)
    text = " ".join(token.text for token in pieces)
    try:
        tree = ast.parse(" ".join(source), mode="eval").body
    except SyntaxError as error:
        raise InputError(
            f"{where}: {text!r}, from {pieces[0]} on, is no arithmetic on columns: {error.msg}."
        ) from error
    _check(tree, text, where)
    python = ast.unparse(tree)
    shown_as = columns[0] if python == "_column_0" else shown(python, columns)
    return Expression(shown_as, tuple(columns), python)


def shown(source: str, columns: Sequence[str]) -> str:
    """Python with the names of the columns."""
    names = [name if _PLAIN.fullmatch(name) else f"`{name}`" for name in columns]
    return re.sub(r"\b_column_(\d+)\b", lambda found: names[int(found.group(1))], source)


def _check(tree: ast.expr, written: str, where: str) -> None:
    """Refuse whatever is no arithmetic on columns, and functions that are not known."""
    allowed = (
        ast.BinOp,
        ast.BoolOp,
        ast.UnaryOp,
        ast.Compare,
        ast.Call,
        ast.Name,
        ast.Attribute,
        ast.Constant,
        ast.List,
        ast.Tuple,
    )
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name == "offset":
                raise InputError(f"{where}: offset() is not fitted; subtract it from the outcome: 'y - x ~ ...'.")
            if name not in (*FUNCTIONS, *CONTRASTS) and not (
                name.startswith("np.") and name[3:] in (*ROW_BY_ROW, *WHOLE)
            ):
                raise InputError(
                    f"{where}: {name}() in {written!r} is not known, so that it cannot be computed from the data. The "
                    f"functions are {', '.join(FUNCTIONS)}; of a whole column np.{', np.'.join(WHOLE)}. Make a column "
                    "of anything else before the fit."
                )
        elif isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            constant = name in ("np.pi", "np.e")
            if not constant and not (name.startswith("np.") and name[3:] in (*ROW_BY_ROW, *WHOLE)):
                raise InputError(f"{where}: {name!r} in {written!r} is not known; of numpy's names, those of functions "
                                 "that work row by row, and np.pi and np.e, may be written.")  # fmt: skip
        elif isinstance(node, ast.expr) and not isinstance(node, allowed):
            raise InputError(f"{where}: {ast.unparse(node)!r} in {written!r} cannot be used in a formula.")
        elif isinstance(node, ast.operator | ast.unaryop | ast.cmpop | ast.boolop) and type(node) not in OPERATORS:
            raise InputError(f"{where}: an operator in {written!r} cannot be used in a formula; make a column of it.")

"""A formula cut into its smallest pieces, each with its place; pieces that cannot follow each other are refused."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

from crossed.errors import InputError

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
    """One piece: what it is (number, name, quoted, string, operator or end), its text, and where it starts."""

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
            found.append(Token(match.lastgroup, match.group(), place))
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
    closing, pairs = [], {"(": ")", "[": "]", "{": "}"}
    for token in found:
        if token.kind == "operator" and token.text in pairs:
            closing.append(pairs[token.text])
        closes = token.kind == "operator" and token.text in (")", "]", "}")
        if closes and (not closing or closing.pop() != token.text):
            raise InputError(f"{where}: its brackets do not match: reading stops at {token}.")
    if closing:
        raise InputError(f"{where}: its brackets do not match: {closing[-1]!r} is missing at the end.")

"""Formulas as lme4 users write them: ``outcome ~ fixed part + (slopes | group)``, read without any data.

What stands before the bars is the fixed part, read by the library formulae: numbers, categories, interactions,
``C()``, ``scale()``, ``log()``. Each bracket with a bar is a random term, read here, because formulae forgets which
terms stood in one bracket, and so which of them are correlated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from addends.errors import InputError

_NAME = re.compile(r"[^\W\d][\w.]*")
_ALLOWED = (
    "Allowed: 'outcome ~ 1 + predictor + C(category) + first:second + (predictor | run) + (1 | sentence)'; random "
    "terms as (1 | group), (predictor | group), (0 + predictor | group), (predictor || group), (1 | group:other) or "
    "(1 | group/other)."
)


@dataclass(frozen=True)
class RandomTerm:
    """One random term: ``(slopes | group)``.

    Attributes
    ----------
    slopes : str
        The left side of its bar, a formula of its own: "1", "importance" (with the intercept implied), "0 + tokens".
    factors : tuple of str
        The columns whose combination is the group: ("run",), or ("run", "sentence") for run:sentence.
    independent : bool
        It comes from a double bar: its slope is uncorrelated with the group's intercept.
    """

    slopes: str
    factors: tuple[str, ...]
    independent: bool = False

    @property
    def group(self) -> str:
        return ":".join(self.factors)


@dataclass(frozen=True)
class Formula:
    """A formula, read: the outcome, the fixed part (as text for formulae), the random terms in their order."""

    text: str
    outcome: str
    fixed: str
    random: tuple[RandomTerm, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """The grouping factors, each once."""
        return tuple(dict.fromkeys(term.group for term in self.random))


def parse(formula: str) -> Formula:
    """Read a formula such as ``"chrf ~ importance + (importance | run) + (1 | sentence)"``.

    The intercept is implied, in the fixed part and in each random term, as in R; ``0 +`` or ``- 1`` takes it out.
    ``(x || g)`` is read as ``(1 | g) + (0 + x | g)``, and ``(1 | a/b)`` as ``(1 | a) + (1 | a:b)``.

    Raises
    ------
    InputError
        If the ``~`` is missing, brackets do not match, a random term is not in brackets, is not added, stands twice,
        or groups by the outcome, or there is no random term.
    """
    if not isinstance(formula, str) or formula.count("~") != 1:
        raise InputError(f"formula={formula!r} needs exactly one '~', between the outcome and its terms. {_ALLOWED}")
    where = f"formula={formula!r}"
    outcome, right = (side.strip() for side in formula.split("~"))
    if not outcome:
        raise InputError(f"{where}: the outcome is missing, before the '~'. {_ALLOWED}")
    fixed, brackets = _split(right, where)
    random: list[RandomTerm] = []
    for bracket in brackets:
        for term in _random_terms(bracket, where):
            if outcome in term.factors:
                raise InputError(f"{where}: {outcome!r} is the outcome and cannot be a grouping factor too.")
            if any((term.slopes, term.group) == (other.slopes, other.group) for other in random):
                raise InputError(f"{where}: ({term.slopes} | {term.group}) stands twice; write it once.")
            random.append(term)
    if not random:
        raise InputError(
            f"{where} has no random term, so it is no mixed model; add one, e.g. '+ (1 | run)'. {_ALLOWED}"
        )
    return Formula(formula, outcome, fixed, tuple(random))


def _split(right: str, where: str) -> tuple[str, list[str]]:
    """The fixed part, and the inside of each bracket that holds a bar."""
    summands, depth, sign = [["+", ""]], 0, "+"
    for character in right:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
        if character in "+-" and depth == 0:
            sign = character
            if summands[-1][1].strip() or len(summands) > 1:
                summands.append([sign, ""])
            else:
                summands[-1][0] = sign
        else:
            summands[-1][1] += character
    if depth != 0:
        raise InputError(f"{where}: its brackets do not match. {_ALLOWED}")
    fixed, brackets = "", []
    for sign, text in summands:
        text = text.strip()
        if not text:
            raise InputError(f"{where}: a term is missing before, after or between its '+'. {_ALLOWED}")
        if "|" not in text:
            fixed += f" {sign} {text}"
            continue
        if not (text.startswith("(") and text.endswith(")") and text.count("(") == text.count(")")):
            raise InputError(f"{where}: a random term stands in brackets, (1 | group). {_ALLOWED}")
        if sign == "-" or _bar_depths(text) != {1}:
            raise InputError(f"{where}: the random term {text!r} must be added, on its own, with '+'. {_ALLOWED}")
        brackets.append(text[1:-1])
    return fixed.strip().removeprefix("+ ") or "1", brackets


def _bar_depths(text: str) -> set[int]:
    depth, found = 0, set()
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "|":
            found.add(depth)
    return found


def _random_terms(bracket: str, where: str) -> list[RandomTerm]:
    slopes, bar, group = re.split(r"(\|\|?)", bracket, maxsplit=1)
    slopes, group = " ".join(slopes.split()), group.strip()
    if not slopes or "|" in group:
        raise InputError(f"{where}: ({bracket}) needs slopes (or 1), one bar, and a group. {_ALLOWED}")
    names = [name.strip() for name in re.split(r"[:/]", group)]
    if not all(_NAME.fullmatch(name) for name in names):
        raise InputError(
            f"{where}: in ({bracket}) the group {group!r} is not the name of a column, nor names joined by ':' or '/'. "
            f"{_ALLOWED}"
        )
    if len(set(names)) < len(names):
        raise InputError(f"{where}: in ({bracket}) a column stands twice in the group {group!r}; name it once.")
    # a/b:c is a and a:(b:c): each part before a slash is a group, and what follows is nested in it.
    parts = [tuple(name.strip() for name in part.split(":")) for part in group.split("/")]
    groups = [sum(parts[: number + 1], ()) for number in range(len(parts))]
    if bar == "|" or slopes == "1":
        return [RandomTerm(slopes, factors) for factors in groups]
    pieces = [piece.strip() for piece in slopes.split("+")]
    if any(not piece or piece == "-1" or "-" in piece for piece in pieces):
        raise InputError(f"{where}: ({bracket}): before a double bar write terms joined by '+', with '0 +' or without.")
    intercept = ["1"] if "0" not in pieces else []
    pieces = intercept + [f"0 + {piece}" for piece in pieces if piece not in ("0", "1")]
    return [RandomTerm(piece, factors, independent=piece != "1") for factors in groups for piece in pieces]

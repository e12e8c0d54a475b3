"""Formulas as lme4 users write them: ``outcome ~ fixed part + (slopes | group)``, read without any data.

Everything that is written is used, or refused with the place where reading stopped. The left side is arithmetic on
columns, as in R; the right side adds up terms (the module `terms`), whose factors are arithmetic again (`expressions`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from crossed.errors import InputError
from crossed.expressions import Expression, expression
from crossed.terms import ALLOWED, Bar, Reader, Term
from crossed.tokens import tokens


@dataclass(frozen=True)
class RandomTerm:
    """One random term: ``(slopes | group)``.

    Attributes
    ----------
    slopes : str
        The left side of its bar: "1", "importance" (with the intercept implied), "0 + tokens".
    factors : tuple of str
        The columns whose combination is the group: ("run",), or ("run", "sentence") for run:sentence.
    independent : bool
        It comes from a double bar: its slope is uncorrelated with the group's intercept.
    terms : tuple
        What the slopes add up to; the intercept is ().
    """

    slopes: str
    factors: tuple[str, ...]
    independent: bool = False
    terms: tuple[Term, ...] = field(default=((),), repr=False)

    @property
    def group(self) -> str:
        return ":".join(self.factors)


@dataclass(frozen=True)
class Formula:
    """A formula, read: the outcome, the fixed terms (the intercept is ()), the random terms in their order."""

    text: str
    outcome: Expression
    fixed: tuple[Term, ...]
    random: tuple[RandomTerm, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """The grouping factors, each once."""
        return tuple(dict.fromkeys(term.group for term in self.random))


def parse(formula: str) -> Formula:
    """Read a formula such as ``"chrf ~ importance + (importance | run) + (1 | sentence)"``.

    The intercept is implied, in the fixed part and in each random term, as in R; ``0 +`` or ``- 1`` takes it out.
    ``(x || g)`` is read as ``(1 | g) + (0 + x | g)``, and ``(1 | a/b)`` as ``(1 | a) + (1 | a:b)``. Names that are no
    plain words stand in backticks.

    Raises
    ------
    InputError
        If the ``~`` is missing, brackets do not match, something written has no meaning (the message names the place),
        a function is not known, a random term is not in brackets, is not added, stands twice, or groups by the outcome,
        or there is no random term.
    """
    if not isinstance(formula, str):
        raise InputError(f"formula={formula!r} needs exactly one '~', between the outcome and its terms. {ALLOWED}")
    where = f"formula={formula!r}"
    pieces = tokens(formula, where)
    tildes = [number for number, token in enumerate(pieces) if token.text == "~"]
    if len(tildes) != 1:
        raise InputError(f"{where} needs exactly one '~', between the outcome and its terms. {ALLOWED}")
    left, right = pieces[: tildes[0]], pieces[tildes[0] + 1 :]
    if not left:
        raise InputError(f"{where}: the outcome is missing, before the '~'. {ALLOWED}")
    outcome = expression(left, where)
    fixed, bars = Reader(right, formula, where).right_side()
    random: list[RandomTerm] = []
    for bar in bars:
        for term in _random_terms(bar, where):
            if outcome.is_column and outcome.text in term.factors:
                raise InputError(f"{where}: {outcome.text!r} is the outcome and cannot be a grouping factor too.")
            if any((term.terms, term.factors) == (other.terms, other.factors) for other in random):
                raise InputError(f"{where}: ({term.slopes} | {term.group}) stands twice; write it once.")
            random.append(term)
    if not random:
        raise InputError(f"{where} has no random term, so it is no mixed model; add one, e.g. '+ (1 | run)'. {ALLOWED}")
    return Formula(formula, outcome, fixed, tuple(random))


def _random_terms(bar: Bar, where: str) -> list[RandomTerm]:
    groups = _groups(bar, where)
    if bar.bar == "|" or bar.terms == ((),):
        return [RandomTerm(bar.text, factors, terms=bar.terms) for factors in groups]
    pieces = [("1" if not term else "0 + " + ":".join(factor.text for factor in term), term) for term in bar.terms]
    return [RandomTerm(text, factors, bool(term), (term,)) for factors in groups for text, term in pieces]


def _groups(bar: Bar, where: str) -> list[tuple[str, ...]]:
    """a/b:c is a and a:(b:c): each part before a slash is a group, and what follows is nested in it."""
    group = list(bar.group)
    while len(group) > 2 and group[0].text == "(" and group[-1].text == ")":
        group = group[1:-1]
    names, signs = group[::2], group[1::2]
    if (
        len(names) != len(signs) + 1
        or any(token.kind not in ("name", "quoted") for token in names)
        or any(token.text not in (":", "/") for token in signs)
    ):
        text = " ".join(token.text for token in bar.group)
        raise InputError(
            f"{where}: in {bar.whole} the group {text!r} is not the name of a column, nor names joined by ':' or '/'. "
            f"{ALLOWED}"
        )
    names = [token.named for token in names]
    if len(set(names)) < len(names):
        raise InputError(f"{where}: in {bar.whole} a column stands twice in the group; name it once.")
    ends = [number + 1 for number, sign in enumerate(signs) if sign.text == "/"]
    return [tuple(names[:end]) for end in [*ends, len(names)]]

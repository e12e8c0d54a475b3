"""Formulas as lme4 users write them: ``outcome ~ fixed part + (slopes | group)``, read without any data.

Everything that is written is used, or refused with the place where reading stopped. The left side is arithmetic on
columns, as in R; the right side adds up terms, whose factors are arithmetic again (:mod:`crossed.expressions`).

Terms follow the rules of R: ``a * b`` is a + b + a:b, ``a / b`` is a + a:b, ``a %in% b`` is a:b, ``(a + b + c)^2`` (or
``**``) holds the products of up to two, ``- a`` takes a term out again, ``0 +`` or ``- 1`` takes out the intercept,
which is implied.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

from crossed.errors import InputError
from crossed.expressions import Expression, Token, expression, tokens

Term = tuple[Expression, ...]
ALLOWED = (
    "Allowed: 'outcome ~ 1 + predictor + C(category) + first:second + (predictor | run) + (1 | sentence)'; random "
    "terms as (1 | group), (predictor | group), (0 + predictor | group), (predictor || group), (1 | group:other) or "
    "(1 | group/other)."
)


@dataclass(frozen=True)
class Bar:
    """What stands in the brackets of a random term.

    ``(x || run)`` has the terms 1 and x, the text "x", the bar "||", the token of run as its group, and whole
    "(x || run)".
    """

    terms: tuple[Term, ...]
    text: str
    bar: str
    group: tuple[Token, ...]
    whole: str


class Terms(dict[frozenset[Expression], Term]):
    """Terms by the set of their factors, in the order of writing: of ``1 + x + x:w`` by {}, {x} and {x, w}."""

    without_intercept = False

    def add(self, term: Term) -> None:
        self.setdefault(frozenset(term), term)

    def product(self, other: Terms) -> Terms:
        result = Terms()
        for one in self.values():
            for two in other.values():
                result.add(tuple(dict.fromkeys((*one, *two))))
        return result

    def union(self, other: Terms) -> Terms:
        result = Terms(self)
        for term in other.values():
            result.add(term)
        return result


class Reader:
    """Reads the terms from tokens, by recursive descent: each method one rank of operators, the loosest first."""

    def __init__(self, pieces: list[Token], text: str, where: str):
        self.pieces, self.text, self.where, self.at = pieces, text, where, 0

    def right_side(self) -> tuple[tuple[Term, ...], list[Bar]]:
        """The fixed terms, the intercept first where there is one, and the random terms."""
        terms, bars = self._sum(outermost=True)
        if self._next.text in ("|", "||"):
            raise InputError(f"{self.where}: a random term stands in brackets, (1 | group). {ALLOWED}")
        if self._next.kind != "end":
            raise self._stopped()
        return _ordered(terms), bars

    @property
    def _next(self) -> Token:
        return self.pieces[self.at]

    def _take(self, *texts: str) -> Token | None:
        if self._next.kind == "operator" and self._next.text in texts:
            self.at += 1
            return self.pieces[self.at - 1]
        return None

    def _stopped(self, why: str = "") -> InputError:
        if self._next.text in ("=", "==", "!=", "<", ">", "<=", ">=", "&"):
            why = "comparisons stand in I(), as in I(x > 3)"
        why = why or "what follows makes no term"
        return InputError(f"{self.where}: reading stops at {self._next}: {why}. {ALLOWED}")

    def _sum(self, outermost: bool) -> tuple[Terms, list[Bar]]:
        """``outermost``: the intercept is implied, and random terms may stand here."""
        terms = Terms()
        bars: list[Bar] = []
        if outermost:
            terms.add(())
        sign = self._take("+", "-")
        while True:
            place = self._next
            if place.kind == "end" or place.text in ("+", "-", ")", "|", "||"):
                if place.text in ("|", "||"):
                    raise InputError(f"{self.where}: the random term at {place} needs slopes (or 1). {ALLOWED}")
                raise InputError(
                    f"{self.where}: a term is missing before, after or between its '+', at {place}. {ALLOWED}"
                )
            part = self._product()
            minus = sign is not None and sign.text == "-"
            if isinstance(part, Bar):
                if minus or not outermost:
                    raise InputError(
                        f"{self.where}: the random term {part.whole!r} must be added, on its own, with '+'. {ALLOWED}"
                    )
                bars.append(part)
            elif isinstance(part, int):  # 0, or - 1, takes the intercept out
                terms.without_intercept = (part == 0) != minus
                if terms.without_intercept:
                    terms.pop(frozenset(), None)
                else:
                    terms.add(())
            elif minus:
                self._remove(terms, part, place)
            else:
                if part.without_intercept:
                    terms.pop(frozenset(), None)
                    terms.without_intercept = True
                merged = terms.union(part)
                merged.without_intercept = terms.without_intercept
                terms = merged
            sign = self._take("+", "-")
            if sign is None:
                return terms, bars

    def _remove(self, terms: Terms, part: Terms, place: Token) -> None:
        for key in part:
            if key not in terms or not key:
                name = ":".join(sorted(factor.text for factor in key)) or "1"
                raise InputError(
                    f"{self.where}: {name!r}, from {place} on, is taken out by '-', but no term before it is the same."
                )
            del terms[key]

    def _product(self) -> Terms | Bar | int:
        left = self._within()
        while sign := self._take("*", "/"):
            left, right = self._operand(left, sign), self._operand(self._within(), sign)
            if sign.text == "*":
                left = left.union(right).union(left.product(right))
            else:
                inside = Terms()
                inside.add(tuple(dict.fromkeys(factor for term in left.values() for factor in term)))
                left = left.union(inside.product(right))
        return left

    def _within(self) -> Terms | Bar | int:
        left = self._interaction()
        while sign := self._take("%in%"):
            left = self._operand(left, sign).product(self._operand(self._interaction(), sign))
        return left

    def _interaction(self) -> Terms | Bar | int:
        left = self._power()
        while sign := self._take(":"):
            left = self._operand(left, sign).product(self._operand(self._power(), sign))
        return left

    def _power(self) -> Terms | Bar | int:
        left = self._factor()
        while sign := self._take("**", "^"):
            base, exponent = self._operand(left, sign), self._next
            if exponent.kind != "number" or not exponent.text.isdigit() or not 1 <= int(exponent.text) <= 9:
                raise self._stopped("a power of terms is a whole number from 1 to 9; of a number, I(x**2)")
            self.at += 1
            if len(base) == 1 and int(exponent.text) > 1:
                name = ":".join(factor.text for term in base.values() for factor in term)
                warnings.warn(
                    f"{self.where}: {name}{sign.text}{exponent.text} is {name} itself, a product of terms; its power "
                    f"is written I({name}**{exponent.text}).",
                    stacklevel=2,
                )
            left = base
            for _ in range(int(exponent.text) - 1):
                left = left.union(left.product(base))
            left = Terms(sorted(left.items(), key=lambda item: len(item[0])))
        return left

    def _operand(self, part: Terms | Bar | int, sign: Token) -> Terms:
        """A side of an operator other than + and -: terms, not a random term, not the absence of an intercept."""
        if isinstance(part, Bar):
            raise InputError(f"{self.where}: a random term stands in brackets on its own, (1 | group). {ALLOWED}")
        if part == 1:
            alone = Terms()
            alone.add(())
            return alone
        if isinstance(part, int) or part.without_intercept:
            raise InputError(
                f"{self.where}: the intercept cannot be taken out beside {sign}; write '0 +' at the front."
            )
        return part

    def _factor(self) -> Terms | Bar | int:
        token = self._next
        if token.kind == "number":
            if token.text not in ("0", "1"):
                raise self._stopped("a number is no term; 0 and 1 stand for the intercept, and arithmetic for I(2*x)")
            self.at += 1
            return int(token.text)
        if token.text == "(":
            return self._bracket()
        if token.kind == "name" and token.text.startswith("np.") and self.pieces[self.at + 1].text != "(":
            raise self._stopped(f"a term is a column or made of one, such as I({token.text}*x), np.log(x)")
        if token.kind in ("name", "quoted") or token.text == "{":
            begin = self.at
            self.at += 1
            if token.text == "{" or (token.kind == "name" and self._next.text == "("):
                self._skip(begin if token.text == "{" else self.at)
            read = expression(self.pieces[begin : self.at], self.where)
            result = Terms()
            result.add((read,))
            return result
        raise self._stopped()

    def _skip(self, opening: int) -> None:
        """To behind the bracket that closes the one at ``opening``."""
        depth = 0
        for number in range(opening, len(self.pieces)):
            depth += self.pieces[number].text in ("(", "{", "[") and self.pieces[number].kind == "operator"
            depth -= self.pieces[number].text in (")", "}", "]") and self.pieces[number].kind == "operator"
            if depth == 0:
                self.at = number + 1
                return

    def _bracket(self) -> Terms | Bar:
        begin = self.at
        self._skip(begin)
        end, self.at = self.at - 1, begin + 1
        if self._has_bar(begin + 1, end):
            return self._random(begin, end)
        if self._next.text == "(":  # brackets in brackets change nothing
            self._skip(self.at)
            if self.at == end:
                self.at = begin + 1
                part = self._bracket()
                self.at = end + 1
                return part
            self.at = begin + 1
        terms, _ = self._sum(outermost=False)
        if self.at != end:
            raise self._stopped()
        self.at = end + 1
        if not terms and not terms.without_intercept:
            raise self._stopped("nothing is left of the brackets before it")
        return terms

    def _has_bar(self, begin: int, end: int) -> bool:
        """Does a bar stand in these brackets themselves, not in brackets inside?"""
        depth = 0
        for token in self.pieces[begin:end]:
            depth += token.kind == "operator" and token.text == "("
            depth -= token.kind == "operator" and token.text == ")"
            if depth == 0 and token.kind == "operator" and token.text in ("|", "||"):
                return True
        return False

    def _random(self, begin: int, end: int) -> Bar:
        whole = self.text[self.pieces[begin].place : self.pieces[end].place + 1]
        terms, bars = self._sum(outermost=True)
        if bars:
            raise InputError(f"{self.where}: {whole!r} needs slopes (or 1), one bar, and a group. {ALLOWED}")
        bar, first = self._take("|", "||"), self.pieces[begin + 1].place
        if bar is None:
            raise self._stopped()
        group = tuple(self.pieces[self.at : end])
        if any(token.text in ("|", "||") for token in group):
            raise InputError(f"{self.where}: {whole!r} needs slopes (or 1), one bar, and a group. {ALLOWED}")
        self.at = end + 1
        slopes = " ".join(self.text[first : bar.place].split())
        return Bar(_ordered(terms), slopes, bar.text, group, whole)


def _ordered(terms: Terms) -> tuple[Term, ...]:
    """The intercept first."""
    return tuple(sorted(terms.values(), key=lambda term: len(term) > 0))


@dataclass(frozen=True)
class RandomTerm:
    """One random term: ``(slopes | group)``.

    ``(x | run:sentence)`` is ``RandomTerm("x", ("run", "sentence"))``, with the terms ``((), (x,))``.

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
    """A formula, read.

    ``y ~ x + (1 | run)`` has the outcome y, the fixed terms ``((), (x,))``, where () is the intercept, and one random
    term, ``RandomTerm("1", ("run",))``.
    """

    text: str
    outcome: Expression
    fixed: tuple[Term, ...]
    random: tuple[RandomTerm, ...]


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
    columns = [token.named for token in names]
    if len(set(columns)) < len(columns):
        raise InputError(f"{where}: in {bar.whole} a column stands twice in the group; name it once.")
    ends = [number + 1 for number, sign in enumerate(signs) if sign.text == "/"]
    return [tuple(columns[:end]) for end in [*ends, len(columns)]]

"""The words of the made-up languages, and the table that says how they are related.

Words are coined from one fixed seed. A family has one list of stems and forms; its languages inherit it, each through
its own regular sound change, and each has replaced a share of the stems by words of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import numpy as np

from addends.runs.toy import grammar
from addends.runs.toy.grammar import Language

# Relatedness in one place. A branch shares the order of words; a family shares stems, forms and the way of marking.
TABLE = (
    #        code   family branch   order  marking      adjective pronouns    free replaced sound change
    Language("ora", "Ora", "inner", "SOV", "suffixes", "before", "dropped", 0.20, 0.00, ("", "")),
    Language("ore", "Ora", "inner", "SOV", "suffixes", "before", "dropped", 0.20, 0.10, ("pk", "fh")),
    Language("uri", "Ora", "outer", "SVO", "suffixes", "before", "optional", 0.20, 0.25, ("bgou", "vjuy")),
    Language("vel", "Vel", "only", "VSO", "particles", "after", "kept", 0.10, 0.00, ("", "")),
    Language("kip", "Kip", "only", "SVO", "none", "before", "kept", 0.00, 0.00, ("", "")),
)
LANGUAGES = tuple(row.code for row in TABLE)
TARGET = "pln"  # "plain": subject, verb, object; articles; pronouns never dropped
SEED = 2023  # of all words and forms; sentences have seeds of their own
CONSONANTS, VOWELS, SHAPES = "ptkbdgmnslr", "aeiou", ("CVCV", "CVCVC", "CVCCV")
HOMONYMS = range(2, grammar.KINDS["being"], 5)  # places in their kinds of a being and a thing that share a stem


def random_rows(tag: str, width: int, seed: int) -> Iterator[list[float]]:
    """Rows of ``width`` numbers in [0, 1) without end; row n does not depend on how many rows are taken."""
    generator = np.random.default_rng([seed, int.from_bytes(tag.encode(), "big")])  # hash() would differ by process
    while True:
        yield from generator.random((512, width)).tolist()


class Mint:
    """Coins words that differ from all it has coined. Stems have two syllables, forms one, so endings can be told.

    >>> len(Mint("ora").coin("CVCV"))
    4
    """

    def __init__(self, tag: str, taken: Iterable[str] = ()):
        self.numbers = (number for row in random_rows(tag, 64, SEED) for number in row)
        self.taken = set(taken)

    def coin(self, *shapes: str) -> str:
        while True:
            shape = self._one_of(shapes)
            word = "".join(self._one_of(CONSONANTS if place == "C" else VOWELS) for place in shape)
            if word not in self.taken:
                self.taken.add(word)
                return word

    def _one_of(self, choices: Sequence[str]) -> str:
        return choices[int(next(self.numbers) * len(choices))]


@cache
def words_of_source(row: Language) -> tuple[list[str], dict[str, str]]:
    """Stems by concept and forms by name, after the sound change; the language's own stems where it replaced one."""
    stems, marks = _family(row.family)
    change = str.maketrans(*row.change)  # one letter for one letter, so that different words stay different
    words = [stem.translate(change) for stem in stems]
    own = Mint(row.code, words)
    words = [own.coin(*SHAPES) if new else word for word, new in zip(words, replaced(row), strict=True)]
    for place in HOMONYMS:
        words[grammar.FIRST["thing"] + place] = words[grammar.FIRST["being"] + place]
    return words, {name: form.translate(change) for name, form in marks.items()}


@cache
def words_of_target() -> tuple[list[tuple[str, ...]], dict[str, str]]:
    """One word or two synonyms by concept, and forms by name."""
    mint = Mint(TARGET)
    numbers = [2 if concept % 3 == 1 else 1 for concept in range(grammar.CONCEPTS)]
    words = [tuple(mint.coin(*SHAPES) for _ in range(number)) for number in numbers]
    names = (*grammar.PARTICLES, "indefinite")
    marks = {name: mint.coin("CV") for name in names} | {name: mint.coin("CVC") for name in grammar.PRONOUNS}
    return words, marks


def replaced(row: Language) -> list[bool]:
    return [number < row.replaced for number in next(random_rows(f"{row.code} replaced", grammar.CONCEPTS, SEED))]


@cache
def _family(name: str) -> tuple[list[str], dict[str, str]]:
    mint = Mint(name)
    stems = [mint.coin(*SHAPES) for _ in range(grammar.CONCEPTS)]
    endings = [f"agreement {pronoun}" for pronoun in grammar.PRONOUNS]
    marks = {form: mint.coin("CV") for form in (*grammar.PARTICLES, *endings)}
    return stems, marks | {form: mint.coin("CVC") for form in grammar.PRONOUNS}

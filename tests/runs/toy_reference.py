"""What is known of the made-up languages, computed from their parts: for the tests and the docs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

import numpy as np
import pandas as pd

from addends.runs.toy import grammar
from addends.runs.toy.corpus import _events, _language, pairs
from addends.runs.toy.lexicon import LANGUAGES, TABLE, replaced, words_of_source, words_of_target

_EXAMPLE = (7, 163)  # seed and number of the event shown by `describe`


def describe() -> pd.DataFrame:
    """The table of source languages, a row each: how they are related, how they mark what, and an example.

    Columns: language, family, branch, order (of subject, object, verb), marking (of roles, number, tense, person),
    adjective (before or after its noun), pronouns (as subjects), free (share of clauses in which subject and object
    change places), replaced (share of stems not inherited), sound_change, example.
    """
    seed, number = _EXAMPLE
    names = ("family", "branch", "order", "marking", "adjective", "pronouns", "free", "replaced")
    rows = [
        {"language": row.code}
        | {name: getattr(row, name) for name in names}
        | {"sound_change": " ".join(f"{old}>{new}" for old, new in zip(*row.change, strict=True)) or "none"}
        | {"example": pairs(row.code, number + 1, seed)["source"].iloc[number]}
        for row in TABLE
    ]
    return pd.DataFrame(rows)


def oracle(sentences: Iterable[str], seed: int) -> list[str]:
    """The most probable target of each sentence: what a translator says who knows all but how the coins fell."""
    numbers = []
    for sentence in sentences:
        match = re.fullmatch(r"toy-(\w+)-(\d{6,})", str(sentence))
        numbers.append(int(match[2]))
    wanted = set(numbers)
    events = enumerate(islice(_events(seed), max(numbers, default=-1) + 1))
    said = {
        number: grammar.spell_target(event, *words_of_target(), False) for number, event in events if number in wanted
    }
    return [said[number] for number in numbers]


def stems(language: str) -> pd.DataFrame:
    """The lexicon of a language: columns concept, kind, rank (1 is the most frequent), stem, target, synonym.

    ``synonym`` is the second target word, missing where there is one word only.

    """
    words, _ = words_of_source(_language(language))
    targets, _ = words_of_target()
    kinds = [(kind, rank) for kind, size in grammar.KINDS.items() for rank in range(1, size + 1)]
    return pd.DataFrame(
        {
            "concept": range(grammar.CONCEPTS),
            "kind": [kind for kind, _ in kinds],
            "rank": [rank for _, rank in kinds],
            "stem": words,
            "target": [entry[0] for entry in targets],
            "synonym": [entry[1] if len(entry) > 1 else None for entry in targets],
        }
    )


def relatedness() -> pd.DataFrame:
    """Share of concepts for which two languages inherited the same stem, a row and a column each language.

    ``relatedness().loc["ora", "uri"]`` is the share of stems of "ora" that become those of "uri" by its sound change.
    Languages of different families share none but by chance.
    """
    kept = {row.code: ~np.array(replaced(row)) for row in TABLE}
    shares = [
        [
            float(np.mean(kept[a.code] & kept[b.code])) if a.family == b.family and a != b else float(a == b)
            for b in TABLE
        ]
        for a in TABLE
    ]
    return pd.DataFrame(shares, index=LANGUAGES, columns=LANGUAGES)

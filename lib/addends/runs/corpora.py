"""Sentence pairs: reading them, holding some out, and keeping the held-out ones out of training.

A corpus is a DataFrame with the columns ``sentence`` (an id: file and line), ``language`` (of the source side),
``source`` and ``target`` (English). Two formats are read: tab-separated files, as Tatoeba's pairs are packaged by
manythings.org/anki and by the Tatoeba Challenge, and the two parallel files of an OPUS release ("moses" format).

A line ends with a line feed, or carriage return and line feed, and with nothing else: a separator such as U+2028 inside
of a sentence is a part of it. Lines that cannot be used (no pair, no UTF-8, control characters) are collected and said
at once, and the file is refused; nothing is left out in silence. Pairs that stand in a file more than once are kept,
as they are what a model would be trained on, and a warning counts them.

References
----------
Tiedemann (2020), The Tatoeba Translation Challenge, WMT.
"""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from addends.errors import DataError, InputError

VARIABLE = "$ADDENDS_DATA/"
"""How a path begins that is relative to `data_folder`."""


def data_folder() -> Path:
    """The folder that holds ``corpora/`` and ``published/``, named by the environment variable ADDENDS_DATA.

    Raises
    ------
    DataError
        If the variable is not set or names no folder.
    """
    value = os.environ.get("ADDENDS_DATA")
    if not value:
        raise DataError(
            "The environment variable ADDENDS_DATA is not set. Set it to a folder that holds corpora/train/*.tsv and "
            "corpora/test/*.tsv (source, tab, English; one pair a line)."
        )
    folder = Path(value)
    if not folder.is_dir():
        raise DataError(f"ADDENDS_DATA={value!r} is no folder. Set it to one that holds corpora/ and published/.")
    return folder


def read_tsv(path: str | os.PathLike, language: str) -> pd.DataFrame:
    """Read pairs from a tab-separated file: source, tab, English; further columns (attributions) are ignored.

    Pairs that repeat an earlier one are kept, and counted in a warning.

    Raises
    ------
    DataError
        If the file is missing, or lines are no UTF-8, hold control characters, have no tab or an empty side; the
        message counts the lines of each kind and names the first ones.
    """
    path = Path(path)
    sources, targets, faults = [], [], _Faults(path)
    for number, line in _lines(path, faults):
        cells = line.split("\t")
        if len(cells) < 2 or not cells[0].strip() or not cells[1].strip():
            faults.add("not 'source<TAB>English' with both sides filled", number, line)
            continue
        sources.append(cells[0].strip())
        targets.append(cells[1].strip())
    faults.refuse()
    return _frame(path, language, path.stem, sources, targets)


def read_moses(source: str | os.PathLike, target: str | os.PathLike, language: str) -> pd.DataFrame:
    """Read pairs from two parallel files, one sentence a line, as OPUS releases them in "moses" format.

    Pairs that repeat an earlier one are kept, and counted in a warning.

    Raises
    ------
    DataError
        If a file is missing, the two differ in their number of lines, or lines are empty, no UTF-8, or hold control
        characters; the message counts the lines of each kind and names the first ones.
    """
    source, target = Path(source), Path(target)
    sides = {path: read_sentences(path) for path in (source, target)}
    if len(sides[source]) != len(sides[target]):
        raise DataError(
            f"{source} has {len(sides[source])} lines and {target} has {len(sides[target])}: parallel files have the "
            "same number. Take both from the same release."
        )
    return _frame(source, language, source.name, sides[source], sides[target])


def read_sentences(path: str | os.PathLike) -> list[str]:
    """Read the sentences of a text file, one a line.

    Raises
    ------
    DataError
        If the file is missing, or lines are empty, no UTF-8, or hold control characters; the message counts the lines
        of each kind and names the first ones.
    """
    faults, sentences = _Faults(Path(path)), []
    for number, line in _lines(Path(path), faults):
        sentences.append(line.strip())
        if not line.strip():
            faults.add("empty (of two parallel files, it goes from both)", number, line)
    faults.refuse()
    return sentences


def hold_out(pairs: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """Draw ``count`` pairs at random, no two of which share a side, in the order of the file.

    Raises
    ------
    InputError
        If there are fewer such pairs.
    """
    distinct = pairs[~pairs["source"].map(normal_form).duplicated() & ~pairs["target"].map(normal_form).duplicated()]
    if not 0 < count <= len(distinct):
        raise InputError(f"count={count}: between 1 and {len(distinct)} pairs with distinct sides can be held out.")
    chosen = np.random.default_rng(seed).choice(len(distinct), size=count, replace=False)
    return distinct.iloc[np.sort(chosen)].reset_index(drop=True)


def draw(pairs: pd.DataFrame, count: int | None, seed: int) -> pd.DataFrame:
    """``count`` pairs at random, in the order of the file; all of them if it is None.

    They are the first ``count`` of one permutation, which ``seed`` draws: fewer pairs of the same seed are among more.

    Raises
    ------
    InputError
        If there are fewer pairs.
    """
    if count is None:
        return pairs
    if not 0 < count <= len(pairs):
        raise InputError(f"pairs={count}: between 1 and {len(pairs)} are possible, as many as there are.")
    chosen = np.random.default_rng(seed).permutation(len(pairs))[:count]
    return pairs.iloc[np.sort(chosen)].reset_index(drop=True)


def drop_overlap(pairs: pd.DataFrame, held_out: pd.DataFrame) -> pd.DataFrame:
    """The pairs neither of whose sides, in `normal_form`, occurs in the held-out sample.

    Sides are compared without case, punctuation and spacing, so that "Come in!" in training does not give away
    "Come in." in the sample. How many pairs fell out is the difference of the two lengths.
    """
    sources = set(held_out["source"].map(normal_form))
    targets = set(held_out["target"].map(normal_form))
    clean = ~pairs["source"].map(normal_form).isin(sources) & ~pairs["target"].map(normal_form).isin(targets)
    return pairs[clean].reset_index(drop=True)


@lru_cache(maxsize=2**20)  # every pair is compared with several samples
def normal_form(text: str) -> str:
    """``text`` in NFKC without case, and of its characters only letters, marks and digits."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(character for character in folded if unicodedata.category(character)[0] in "LMN")


_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")  # a tab parts two columns
_SHOWN = 3  # line numbers in a message


class _Faults:
    """The lines of one file that cannot be used, by what is wrong with them."""

    def __init__(self, path: Path):
        self.path = path
        self.found: dict[str, list[tuple[int, str]]] = {}

    def add(self, what: str, number: int, line: str) -> None:
        self.found.setdefault(what, []).append((number, line))

    def refuse(self) -> None:
        """Raise DataError if there are any."""
        if not self.found:
            return
        said = []
        for what, lines in self.found.items():
            numbers = ", ".join(str(number) for number, _ in lines[:_SHOWN]) + (", ..." if len(lines) > _SHOWN else "")
            many = f"{len(lines)} lines are {what}: lines {numbers}" if len(lines) > 1 else f"line {numbers} is {what}"
            which = "the first" if len(lines) > 1 else "it"
            said.append(f"{many} ({which} reads {lines[0][1][:60]!r})")
        raise DataError(f"{self.path}, {'; '.join(said)}. Mend or remove these lines.")


def _lines(path: Path, faults: _Faults) -> Iterator[tuple[int, str]]:
    """Number and text of each line that can be read; those that cannot are added to ``faults``."""
    if not path.is_file():
        raise DataError(
            f"{path} is missing, or no file. A UTF-8 text file with one pair, or one sentence, a line is wanted there."
        )
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            try:
                # A byte order mark, which some editors put at the beginning, is no part of the first sentence.
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                faults.add("not UTF-8", number, raw.decode("utf-8", errors="replace").rstrip("\r\n"))
                continue
            line = line.removesuffix("\n").removesuffix("\r")
            control = _CONTROL.search(line)
            if control:
                faults.add("not free of control characters", number, line)
                continue
            yield number, line


def _frame(path: Path, language: str, stem: str, sources: list[str], targets: list[str]) -> pd.DataFrame:
    ids = [f"{stem}-{number:06d}" for number in range(1, len(sources) + 1)]
    frame = pd.DataFrame({"sentence": ids, "language": language, "source": sources, "target": targets})
    again = np.flatnonzero(frame.duplicated(["source", "target"])) + 1
    if len(again):
        numbers = ", ".join(map(str, again[:_SHOWN])) + (", ..." if len(again) > _SHOWN else "")
        warnings.warn(
            f"{path}: {len(again)} of {len(frame)} pairs repeat an earlier one (lines {numbers}). They are kept, and "
            "trained on as often as they stand there.",
            stacklevel=3,
        )
    return frame

"""The suite on real text: European languages (and Chinese, as an outgroup) to English.

All conditions share one vocabulary, one recipe and the same held-out French sentences, so that a later condition
(another source language, several at once) adds runs and changes nothing about those that are there. Every training
pair with a side in the held-out sample is dropped, from training and from the vocabulary's text.

Four blocks, in the order in which they are trained. A run's name gives its seeds.

factorial     four starts crossed with four courses, and four of these runs again with other dropout masks
sizes         10,000 pairs, 40,000 and all, the same seeds in each: a seed is a block of three
languages     four source languages, and the same with Chinese
independent   runs that share no seed
"""

from __future__ import annotations

from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from addends.runs import corpora, vocabulary
from addends.runs.suite import Block, Condition, Recipe, Run, Suite, crossed, diagonal, log_spaced, with_other_masks

if TYPE_CHECKING:
    from transformers import MarianTokenizer

LANGUAGES = ("fra", "deu", "pol", "bul", "cmn")
PIECES = 5000
HELD_OUT = 300
HELD_OUT_SEED = 2023
FURTHER = 2000
FURTHER_SEED = 2024


@cache
def held_out() -> pd.DataFrame:
    """The held-out French sentences and their references, the same in every run and checkpoint."""
    return corpora.hold_out(_test_pairs(), HELD_OUT, HELD_OUT_SEED)


@cache
def further() -> pd.DataFrame:
    """Further French sentences, for quality alone: neither side occurs in a training file, nor in `held_out`.

    They are drawn by `FURTHER_SEED` from the pairs that remain, so no training pair has to be dropped for them.
    """
    pairs = corpora.drop_overlap(_test_pairs(), held_out())
    for language in LANGUAGES:
        pairs = corpora.drop_overlap(pairs, _file(language))
    return corpora.hold_out(pairs, FURTHER, FURTHER_SEED)


def training_pairs(language: str) -> pd.DataFrame:
    """The training pairs of one language, without those that share a side with the held-out sample."""
    return corpora.drop_overlap(_file(language), held_out())


def tokenizer(folder: Path) -> MarianTokenizer:
    """The suite's tokenizer, trained on the training sides of all five languages where ``folder`` holds none."""
    if (folder / "tokenizer_config.json").exists():
        return vocabulary.train((), folder, PIECES)
    sides = (training_pairs(language)[side] for language in LANGUAGES for side in ("source", "target"))
    return vocabulary.train(chain.from_iterable(sides), folder, PIECES)


def _test_pairs() -> pd.DataFrame:
    return corpora.read_tsv(corpora.data_folder() / "corpora" / "test" / "fra-eng.tsv", "fra")


def _file(language: str) -> pd.DataFrame:
    return corpora.read_tsv(corpora.data_folder() / "corpora" / "train" / f"{language}-eng.tsv", language)


def pairs(run: Run) -> pd.DataFrame:
    """The training pairs of a run: those of its languages, or as many of them as its condition asks for.

    Raises
    ------
    InputError
        If the condition asks for more pairs than there are.
    """
    found = pd.concat([training_pairs(language) for language in run.condition.languages], ignore_index=True)
    return corpora.draw(found, run.condition.pairs, run.seeds.order)


_FRENCH = Condition(("fra",))
_FOUR = Condition(("fra", "deu", "pol", "bul"))
_FIVE = Condition((*_FOUR.languages, "cmn"))
_factorial = crossed(_FRENCH, (21, 22, 23, 24), (21, 22, 23, 24))
_thrice = (1020, 2925, 3000)
_five_times = (297, 1020, 2850, 2925, 3000)

SUITE = Suite(
    name="european",
    recipe=Recipe(
        layers=3,
        dim=128,
        heads=4,
        feed_forward=512,
        batch_pairs=128,
        checkpoints=log_spaced(10, 3000, 38),
    ),
    blocks=(
        Block(
            "factorial",
            (*_factorial, *with_other_masks(_factorial[::5], (121, 122, 123, 124))),
            sentence_checkpoints=_thrice,
            own_checkpoints=(3000,),
        ),
        Block(
            "sizes",
            tuple(
                run
                for pairs_ in (10_000, 40_000, None)
                for run in diagonal(Condition(("fra",), pairs_), (31, 32, 33, 34))
            ),
            sentence_checkpoints=_thrice,
            own_checkpoints=(3000,),
        ),
        Block(
            "languages",
            (*diagonal(_FOUR, (41, 42, 43, 44, 45)), *diagonal(_FIVE, (51, 52, 53, 54, 55))),
            sentence_checkpoints=_thrice,
            own_checkpoints=(3000,),
        ),
        Block(
            "independent",
            diagonal(_FRENCH, range(1, 21)),
            sentence_checkpoints=_five_times,
            own_checkpoints=_five_times,
        ),
    ),
    keep_states=(0, 297, 1020, 2850),
    own_tokens=64,
    held_out=held_out,
    pairs=pairs,
    tokenizer=tokenizer,
    further=further,
    further_checkpoints=(2850, 2925, 3000),
)

"""The suite on made-up languages. It needs no file and trains in minutes, so newcomers and tests train it first.

Three independent runs translate ``ora`` (verb last, marked by suffixes) into the target language.
"""

from __future__ import annotations

from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from addends.runs import corpora, vocabulary
from addends.runs.suite import Block, Condition, Recipe, Run, Suite, diagonal
from addends.runs.toy import corpus as toy

if TYPE_CHECKING:
    from transformers import MarianTokenizer

LANGUAGE = "ora"
PIECES = 800
TRAIN = 20_000
HELD_OUT = 100
CORPUS_SEED = 2023


@cache
def _split() -> tuple[pd.DataFrame, pd.DataFrame]:
    return toy.split(LANGUAGE, TRAIN, HELD_OUT, CORPUS_SEED)


def held_out() -> pd.DataFrame:
    """The held-out sentences, the same in every run and checkpoint."""
    return _split()[1]


def _pairs(run: Run) -> pd.DataFrame:
    return corpora.draw(_split()[0], run.condition.pairs, run.seeds.order)


def tokenizer(folder: Path) -> MarianTokenizer:
    """The suite's tokenizer, trained on both sides of the training pairs where ``folder`` holds none."""
    if (folder / "tokenizer_config.json").exists():
        return vocabulary.train((), folder, PIECES)
    pairs = _split()[0]
    return vocabulary.train(chain(pairs["source"], pairs["target"]), folder, PIECES, coverage=1.0, byte_fallback=False)


SUITE = Suite(
    name="toy",
    recipe=Recipe(
        layers=2,
        dim=64,
        heads=4,
        feed_forward=256,
        batch_pairs=64,
        checkpoints=(60, 250, 950, 1000),
        peak_learning_rate=4e-3,
        warmup_steps=100,
        positions=96,
    ),
    blocks=(
        Block(
            "independent",
            diagonal(Condition((LANGUAGE,)), (1, 2, 3)),
            sentence_checkpoints=(60, 250, 950, 1000),
            own_checkpoints=(60, 250, 950, 1000),
        ),
    ),
    keep_states=(0, 250, 950),
    own_tokens=48,
    held_out=held_out,
    pairs=_pairs,
    tokenizer=tokenizer,
)

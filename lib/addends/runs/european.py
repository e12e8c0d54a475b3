"""The suite on real text: European languages (and Chinese, as an outgroup) to English, begun with French.

All conditions share one vocabulary, one recipe and the same held-out French sentences, so that a later condition
(another source language, several at once) adds runs and changes nothing about those that are there. Every training
pair with a side in the held-out sample is dropped, from training and from the vocabulary's text.

Three independent runs: initial weights, data order and dropout all differ. A run's name gives its seeds.
"""

from __future__ import annotations

from functools import cache
from itertools import chain
from pathlib import Path

import pandas as pd

from addends.runs import corpora, vocabulary
from addends.runs.recipe import Recipe, Seeds, log_spaced
from addends.runs.suite import Run, Suite

LANGUAGES = ("fra", "deu", "pol", "bul", "cmn")
PIECES = 5000
HELD_OUT = 300
HELD_OUT_SEED = 2023


@cache
def held_out() -> pd.DataFrame:
    """The held-out French sentences and their references, the same in every run and checkpoint."""
    pairs = corpora.read_tsv(corpora.data_folder() / "corpora" / "test" / "fra-eng.tsv", "fra")
    return corpora.hold_out(pairs, HELD_OUT, HELD_OUT_SEED)


def training_pairs(language: str) -> pd.DataFrame:
    """The training pairs of one language, without those that share a side with the held-out sample."""
    path = corpora.data_folder() / "corpora" / "train" / f"{language}-eng.tsv"
    return corpora.drop_overlap(corpora.read_tsv(path, language), held_out())


def tokenizer(folder: Path):
    """The suite's tokenizer, trained on the training sides of all five languages where ``folder`` holds none."""
    if (folder / "tokenizer_config.json").exists():
        return vocabulary.train((), folder, PIECES)
    sides = (training_pairs(language)[side] for language in LANGUAGES for side in ("source", "target"))
    return vocabulary.train(chain.from_iterable(sides), folder, PIECES)


def _pairs(run: Run) -> pd.DataFrame:
    return pd.concat([training_pairs(language) for language in run.languages], ignore_index=True)


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
    runs=tuple(
        Run(f"fra-i{seed}-o{seed}", "fra", ("fra",), Seeds(init=seed, order=seed, dropout=seed)) for seed in (1, 2, 3)
    ),
    sentence_checkpoints=(297, 1020, 2850, 2925, 3000),
    own_tokens=64,
    held_out=held_out,
    pairs=_pairs,
    tokenizer=tokenizer,
)

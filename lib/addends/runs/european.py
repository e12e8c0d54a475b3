"""The suite on real text: European languages (and Chinese, as an outgroup) to English, begun with French.

All conditions share one vocabulary, one recipe and the same held-out French sentences, so that a later condition
(another source language, several at once) adds runs and changes nothing about those that are there. Every training
pair with a side in the held-out sample is dropped, from training and from the vocabulary's text.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pandas as pd

from addends.runs import corpora, training, vocabulary

LANGUAGES = ("fra", "deu", "pol", "bul", "cmn")
PIECES = 5000
HELD_OUT = 300
HELD_OUT_SEED = 2023

RECIPE = training.Recipe(
    layers=3,
    dim=128,
    heads=4,
    feed_forward=512,
    batch_pairs=128,
    checkpoints=training.log_spaced(10, 3000, 38),
)

# Condition, then seeds. Three independent runs: initial weights, data order and dropout all differ.
RUNS = {
    "fra-i1-o1": ("fra", training.Seeds(init=1, order=1, dropout=1)),
    "fra-i2-o2": ("fra", training.Seeds(init=2, order=2, dropout=2)),
    "fra-i3-o3": ("fra", training.Seeds(init=3, order=3, dropout=3)),
}


def held_out() -> pd.DataFrame:
    """The held-out French sentences and their references, the same in every run and checkpoint."""
    pairs = corpora.read_tsv(corpora.data_folder() / "corpora" / "test" / "fra-eng.tsv", "fra")
    return corpora.hold_out(pairs, HELD_OUT, HELD_OUT_SEED)


def training_pairs(language: str) -> pd.DataFrame:
    """The training pairs of one language, without those that share a side with the held-out sample."""
    path = corpora.data_folder() / "corpora" / "train" / f"{language}-eng.tsv"
    return corpora.drop_overlap(corpora.read_tsv(path, language), held_out())


def tokenizer(folder: Path):
    """The suite's tokenizer, trained on the training sides of all five languages on first use."""
    if (folder / "tokenizer_config.json").exists():
        return vocabulary.train((), folder, PIECES)
    sides = (training_pairs(language)[side] for language in LANGUAGES for side in ("source", "target"))
    return vocabulary.train(chain.from_iterable(sides), folder, PIECES)

"""Intervening in the runs of a suite: what its parts do to what a run says, sentence by sentence.

The decoder reads the references. Means are taken once a run, over training sentences, and kept beside its checkpoint.
All of the held-out sentences are asked with the means by place; the other replacements, which say how much hangs on
the means, are asked of the first of them alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from addends import tables
from addends.errors import InputError
from addends.interventions import (
    Means,
    batches_of,
    classes_of,
    sentence_means,
    take_means,
    token_agreement,
    token_effects,
    weights_sha256,
)
from addends.runs import existing, sentences, training, workfolder
from addends.runs.suite import Run, Suite

TABLES = ("interventions", "token_agreement")
MEANS_OVER = 2_000  # training sentences
SENSITIVITY = ("pooled", "sentence", "zero")
SENSITIVE = 100  # sentences that the other replacements are asked of


def intervene(
    suite: Suite, names: Sequence[str], work: Path, data: Path, seed: int = 0, again: bool = False
) -> list[Path]:
    """Ask every run at its last checkpoint, and write ``data/<suite>/<table>/<run>.parquet`` of both `TABLES`.

    A run whose tables are there is left alone.

    Parameters
    ----------
    seed : int
        Of the training sentences that means are taken over, and of which other sentence a value is taken from.

    Raises
    ------
    InputError
        If the suite is of models that exist and names no training sentences to take means over.
    DataError
        If a checkpoint is missing.
    """
    if suite.models:
        raise InputError(
            f"The suite {suite.name!r} is of models that exist: it has no training sentences to take means over. "
            "addends.interventions.measure_effects takes means over any sentences that are given."
        )
    written: list[Path] = []
    with training.one_core(), training.one_bar():
        for name in tqdm(list(dict.fromkeys(names)), desc=f"intervene {suite.name}", unit="run"):
            files = {table: data / suite.name / table / f"{name}.parquet" for table in TABLES}
            if again or not all(file.exists() for file in files.values()):
                found = _asked(suite, suite.run(name), work, seed)
                for table, file in files.items():
                    tables.write(found[table], file, table)
            written += files.values()
    return written


def _asked(suite: Suite, run: Run, work: Path, seed: int) -> dict[str, pd.DataFrame]:
    """The rows of one run, by table."""
    model, tokenizer = existing.load_checkpoint(suite, run.name, suite.recipe.steps, work)
    means = means_of(suite, run, model, tokenizer, workfolder.of_run(suite, run.name, work), seed)
    held_out, found = sentences.held_out(suite), []
    for replace, some in ((("mean",), held_out), (SENSITIVITY, held_out.head(SENSITIVE))):
        sources, targets = some["source"].tolist(), some["target"].tolist()
        asked = token_effects(model, tokenizer, sources, targets, means, replace=replace, seed=seed, progress=False)
        found.append(
            pd.concat(asked).assign(sentence=lambda rows, ids=some["sentence"]: ids.iloc[rows["sentence"]].array)
        )
    tokens = pd.concat(found, ignore_index=True)
    agreement = token_agreement(tokens, classes_of(tokens, _counts(suite, run, tokenizer, seed)), seed=seed)
    return {
        "interventions": sentence_means(tokens).assign(run=run.name),
        "token_agreement": agreement.assign(run=run.name),
    }


def _counts(suite: Suite, run: Run, tokenizer: PreTrainedTokenizerBase, seed: int) -> Counter[int]:
    """How often each piece is a label in the training sentences that means are taken over."""
    drawn = _drawn(suite, run, seed)["target"].tolist()
    return Counter(chain.from_iterable(tokenizer(text_target=drawn)["input_ids"]))


def _drawn(suite: Suite, run: Run, seed: int) -> pd.DataFrame:
    pairs = sentences.training_pairs(suite, run)
    return pairs.sample(min(MEANS_OVER, len(pairs)), random_state=seed)


def means_of(
    suite: Suite,
    run: Run,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    seed: int = 0,
) -> Means:
    """The means of a run's last checkpoint over `MEANS_OVER` of its training sentences, kept in its work folder.

    Means of other weights that are kept there are taken anew.
    """
    file = folder / f"means-{suite.recipe.steps}-{seed}.safetensors"
    if file.exists():
        means = Means.load(file)
        if means.model == weights_sha256(model):
            return means
    drawn = _drawn(suite, run, seed)
    batches = batches_of(model, tokenizer, drawn["source"].tolist(), drawn["target"].tolist(), progress=False)
    means = take_means(model, batches)
    means.save(file)
    return means

"""Intervening in the runs of a suite: what its parts do to what a run says, sentence by sentence.

The decoder reads the references. Means are taken once a run, over training sentences, and kept beside its checkpoint.
All of the held-out sentences are asked with the means by place; the other replacements, which say how much hangs on
the means, are asked of the first of them alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from addends import tables
from addends.errors import DataError, InputError
from addends.interventions import Means, batches_of, measure_effects, take_means, weights_sha256
from addends.runs import existing, sentences, training, workfolder
from addends.runs.suite import Run, Suite

MEANS_OVER = 2_000  # training sentences
SENSITIVITY = ("pooled", "sentence", "zero")
SENSITIVE = 100  # sentences that the other replacements are asked of


def intervene(
    suite: Suite, names: Sequence[str], work: Path, data: Path, seed: int = 0, again: bool = False
) -> list[Path]:
    """Ask every run at its last checkpoint, and write ``data/<suite>/interventions/<run>.parquet``.

    A run whose table is there is left alone.

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
    written = []
    with training.one_core(), training.one_bar():
        for name in tqdm(list(dict.fromkeys(names)), desc=f"intervene {suite.name}", unit="run"):
            target = data / suite.name / "interventions" / f"{name}.parquet"
            if again or not target.exists():
                tables.write(_asked(suite, suite.run(name), work, seed), target, "interventions")
            written.append(target)
    return written


def _asked(suite: Suite, run: Run, work: Path, seed: int) -> pd.DataFrame:
    """The rows of one run."""
    source, _ = suite.source_of(run, suite.recipe.steps, work)
    if not Path(source).exists():
        raise DataError(f"{source} is missing: train the run first (addends train), or leave it out (--only).")
    model, tokenizer = existing.load_to_measure(source)
    means = means_of(suite, run, model, tokenizer, workfolder.of_run(suite, run.name, work), seed)
    held_out, frames = sentences.held_out(suite), []
    for replace, some in ((("mean",), held_out), (SENSITIVITY, held_out.head(SENSITIVE))):
        frame = measure_effects(
            model,
            tokenizer,
            some["source"].tolist(),
            some["target"].tolist(),
            means,
            replace=replace,
            seed=seed,
            progress=False,
        )
        ids = dict(enumerate(some["sentence"]))
        frames.append(frame.assign(run=run.name, sentence=frame["sentence"].map(ids)))
    return pd.concat(frames, ignore_index=True)


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
    pairs = sentences.training_pairs(suite, run)
    drawn = pairs.sample(min(MEANS_OVER, len(pairs)), random_state=seed)
    batches = batches_of(model, tokenizer, drawn["source"].tolist(), drawn["target"].tolist(), progress=False)
    means = take_means(model, batches)
    means.save(file)
    return means

"""Intervening in the runs of a suite: what its parts do to what a run says, sentence by sentence.

The decoder reads the references. Means are taken once a run, over training sentences, and kept beside its checkpoint.
All of the held-out sentences are asked with the means by place; the other replacements, which say how much hangs on
the means, and what single source tokens do, are asked of the first of them alone.
"""

from __future__ import annotations

import contextlib
import zlib
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import chain
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from addends import tables
from addends.errors import DataError, InputError
from addends.interventions import (
    Means,
    agreement_means,
    batches_of,
    classes_of,
    mean_source_embedding,
    measure_agreement,
    sentence_means,
    take_means,
    token_agreement,
    token_effects,
    weights_sha256,
)
from addends.runs import existing, sentences, training, workfolder
from addends.runs.made_of import made_of, refuse_other
from addends.runs.shards import refuse_read_only
from addends.runs.suite import Run, Suite

OF_PARTS = ("interventions", "token_agreement")  # made together, of the same effects
TABLES = (*OF_PARTS, "attributions")
MEANS_OVER = 2_000  # training sentences
SENSITIVITY = ("pooled", "sentence", "zero")
SENSITIVE = 100  # sentences that the other replacements, and single source tokens, are asked of


def intervene(
    suite: Suite, names: Sequence[str], work: Path, data: Path, seed: int = 0, again: bool = False
) -> list[Path]:
    """Ask every run at its last checkpoint, and write ``data/<suite>/<table>/<run>.parquet`` of all `TABLES`.

    A table that is there is left alone, where it is of these weights, sentences and this seed.

    Parameters
    ----------
    seed : int
        Of the training sentences that means are taken over, and of which other sentence a value is taken from.

    Raises
    ------
    InputError
        If the suite is of models that exist and names no training sentences to take means over.
    DataError
        If a checkpoint is missing, a table that is there cannot be read or was made of something else, or a folder
        cannot be written to.
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
            now = made_of(suite, [(name, suite.recipe.steps)], work, seed)
            missing = [table for table, file in files.items() if again or not file.exists()]
            for table in set(TABLES).difference(missing):
                refuse_other(files[table], table, now)
            if missing:
                for folder in (workfolder.of_run(suite, name, work), data / suite.name):
                    refuse_read_only(folder)
                found = _asked(suite, suite.run(name), work, seed, missing)
                for table in missing:
                    tables.write(found[table], files[table], table, now)
            written += files.values()
    return written


def _asked(suite: Suite, run: Run, work: Path, seed: int, wanted: Collection[str]) -> dict[str, pd.DataFrame]:
    """The rows of one run, by table: of those that are wanted, and of what is made together with them."""
    model, tokenizer = existing.load_checkpoint(suite, run.name, suite.recipe.steps, work)
    found: dict[str, pd.DataFrame] = {}
    if not set(OF_PARTS).isdisjoint(wanted):
        found |= _of_parts(suite, run, model, tokenizer, work, seed)
    if "attributions" in wanted:
        found["attributions"] = _of_source_tokens(suite, run, model, tokenizer, seed)
    return {table: rows.assign(run=run.name) for table, rows in found.items()}


def _of_parts(
    suite: Suite, run: Run, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, work: Path, seed: int
) -> dict[str, pd.DataFrame]:
    """What parts do, in means over sentences' tokens, and what the decomposition tells of it over all tokens."""
    means = means_of(suite, run, model, tokenizer, workfolder.of_run(suite, run.name, work), seed)
    held_out, found = sentences.held_out(suite), []
    for replace, some in ((("mean",), held_out), (SENSITIVITY, held_out.head(SENSITIVE))):
        sources, targets = some["source"].tolist(), some["target"].tolist()
        asked = token_effects(model, tokenizer, sources, targets, means, replace=replace, seed=seed, progress=False)
        found.append(
            pd.concat(asked).assign(sentence=lambda rows, ids=some["sentence"]: ids.iloc[rows["sentence"]].array)
        )
    tokens = pd.concat(found, ignore_index=True)
    counts = _counts(tokenizer(text_target=_drawn(suite, run, seed)["target"].tolist())["input_ids"])
    agreement = token_agreement(tokens, classes_of(tokens, counts), seed=seed)
    return {"interventions": sentence_means(tokens), "token_agreement": agreement}


def _of_source_tokens(
    suite: Suite, run: Run, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int
) -> pd.DataFrame:
    """How well attributions rank source tokens as taking them away does.

    Every run draws the floor "random" by a seed of its own: what chance gives is then no less independent between runs
    than what the runs give.
    """
    some, drawn = sentences.held_out(suite).head(SENSITIVE), _drawn(suite, run, seed)
    sources, targets = (drawn[side].tolist() for side in ("source", "target"))
    agreement = measure_agreement(
        model,
        tokenizer,
        some["source"].tolist(),
        some["target"].tolist(),
        mean_source_embedding(model, batches_of(model, tokenizer, sources, targets, progress=False)),
        _counts(tokenizer(sources)["input_ids"]),
        seed=seed + zlib.crc32(run.name.encode()),
        progress=False,
    )
    return agreement_means(agreement)


def _counts(ids: Sequence[Sequence[int]]) -> Counter[int]:
    """How often each piece occurs in sentences.

    >>> sorted(_counts([[5, 2], [5, 5, 2]]).items())
    [(2, 2), (5, 3)]
    """
    return Counter(chain.from_iterable(ids))


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

    Means of other weights that are kept there, or a file that cannot be read, are taken anew.
    """
    file = folder / f"means-{suite.recipe.steps}-{seed}.safetensors"
    with contextlib.suppress(DataError):
        means = Means.load(file)
        if means.model == weights_sha256(model):
            return means
    drawn = _drawn(suite, run, seed)
    batches = batches_of(model, tokenizer, drawn["source"].tolist(), drawn["target"].tolist(), progress=False)
    means = take_means(model, batches)
    means.save(file)
    return means

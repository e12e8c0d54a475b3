"""Measuring one checkpoint: the rows that it adds to the tables, computed and not yet written anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from addends import tables
from addends.decomposition import Batch, corpus_means, encode, measure_batch, translate
from addends.errors import InputError
from addends.runs import sentences
from addends.runs.quality import corpus_scores, negative_log_likelihood, sentence_scores
from addends.runs.suite import Run, Suite
from addends.runs.workfolder import tables_at

_BATCH_SIZE = 100


def measure_checkpoint(
    suite: Suite, run: Run, step: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> dict[str, pd.DataFrame]:
    """The rows that one checkpoint, loaded, adds to the tables that `addends.runs.workfolder.tables_at` names.

    The held-out sentences are translated by the model (greedily), and decomposed by both methods on its own output
    and on the reference. The further sentences are translated alone.
    """
    wanted, here = tables_at(suite, run, step), {"run": run.name, "checkpoint": step}
    own: list[pd.DataFrame] = []
    reference: list[pd.DataFrame] = []
    translations: list[pd.DataFrame] = []
    for sources, targets, ids in chunks(sentences.held_out(suite)):
        own_batch, read, said = translated(model, tokenizer, suite, sources, targets, ids)
        translations.append(said)
        for batch, frames in ((own_batch, own), (read, reference)):
            frame = measure_batch(model, batch)
            frames.append(frame.assign(sentence=frame["sentence"].map(dict(enumerate(ids)))))
    by_target = {"own": pd.concat(own), "reference": pd.concat(reference)}
    scores, by_sentence = scored(pd.concat(translations, ignore_index=True))
    quality = [scores.assign(set="held_out")]
    pieces = {
        "trajectories": pd.concat([corpus_means(frame).assign(target=name) for name, frame in by_target.items()]),
        "translations": by_sentence,
    }
    if "measurements" in wanted:
        pieces["measurements"] = pd.concat([by_target[name].assign(target=name) for name in wanted["measurements"]])
    further = sentences.further(suite)
    if "further" in wanted and further is not None:
        said = [translated(model, tokenizer, suite, *chunk)[2] for chunk in chunks(further)]
        scores, pieces["further"] = scored(pd.concat(said, ignore_index=True))
        quality.append(scores.assign(set="further"))
    pieces["quality"] = pd.concat(quality)
    return {table: tables.validate(pieces[table].assign(**here), table) for table in wanted}


def chunks(sentences: pd.DataFrame) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """Sources, targets and identifiers, a batch at a time, short sources first."""
    ordered = sentences.iloc[sentences["source"].str.len().argsort(kind="stable")].reset_index(drop=True)
    for start in range(0, len(ordered), _BATCH_SIZE):
        chunk = ordered.iloc[start : start + _BATCH_SIZE]
        yield tuple(chunk[name].tolist() for name in ("source", "target", "sentence"))


def translated(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    suite: Suite,
    sources: list[str],
    targets: list[str],
    ids: list[str],
) -> tuple[Batch, Batch, pd.DataFrame]:
    """The model's own output and the reference as batches, and a row a sentence: what was said, and the nll."""
    try:
        translated = translate(model, tokenizer, sources, max_new_tokens=suite.own_tokens)
        read = encode(model, tokenizer, sources, targets)
    except InputError as error:  # it knows positions in a list, and the name of an argument
        side = re.sub(r"\b(source|target)s\[(\d+)\]", lambda at: f"{ids[int(at[2])]!r} ({at[1]})", str(error))
        raise InputError(side.replace("max_new_tokens", "own_tokens")) from error
    said = pd.DataFrame(
        {
            "sentence": ids,
            "text": translated.texts,
            "reference": targets,
            "nll": negative_log_likelihood(model, read).cpu().double().numpy(),
            "reference_tokens": read.mask.sum(dim=1).cpu().numpy(),
            "tokens": translated.mask.sum(dim=1).cpu().numpy(),
        }
    )
    return translated, read, said


def scored(said: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The corpus's scores, and a row a sentence, of the rows of `translated`; every target token counts alike."""
    texts, references = said.pop("text").tolist(), said.pop("reference").tolist()
    weights = said.pop("reference_tokens")
    nll = pd.DataFrame({"metric": ["nll"], "score": [(said["nll"] * weights).sum() / weights.sum()]})
    corpus = pd.concat([corpus_scores(texts, references), nll], ignore_index=True)
    return corpus, pd.concat([said, sentence_scores(texts, references)], axis=1)

"""Stitching the runs of a suite: every run's decoder reads every other run's encoder, through maps of five kinds.

Maps are fitted on the states of training sentences, with other training sentences to choose the ridge's penalty by and
to read the explained variance on; BLEU, chrF and the reference's negative log-likelihood are of the held-out sentences.
Inside the decoder, where A's lower layers have read A's encoder and B's upper layers read B's, the likelihood alone is
taken: a translation would have to be made by both at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm
from transformers import MarianTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from addends import tables
from addends.decomposition import Batch, encode
from addends.errors import InputError
from addends.interventions import maps, stitching
from addends.runs import existing, measuring, sentences, training
from addends.runs.quality import negative_log_likelihood
from addends.runs.suite import Suite

FITTED, HELD_OUT = 2_000, 500  # training sentences: to fit maps on, and to choose a penalty by
TRAINING_BATCH, STEPS = 32, 300
KINDS = ("none", "random", "rotation", "affine", "trained")


class _Run(NamedTuple):
    """A run, loaded, and what it makes of the training sentences."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    encoder: np.ndarray  # (row, dim): of real source tokens
    decoder: list[np.ndarray]  # each layer's input, (row, dim): of real target tokens


class _Texts(NamedTuple):
    """Sentences as batches, and which rows of their tokens maps are fitted on."""

    batches: list[Batch]
    fit_source: np.ndarray
    fit_target: np.ndarray


def stitch(
    suite: Suite,
    names: Sequence[str],
    work: Path,
    data: Path,
    steps: int = STEPS,
    seed: int = 0,
    again: bool = False,
) -> list[Path]:
    """Stitch every ordered pair of the runs at their last checkpoint: ``data/<suite>/stitches/<decoder>.parquet``.

    A file a run whose decoder reads; those that are there are left alone.

    Parameters
    ----------
    steps : int
        Of the training of a map.
    seed : int
        Of the training sentences that are drawn, of random rotations, and of the order in which a map is trained.

    Raises
    ------
    InputError
        If there are fewer than two runs, the suite trains none, or two have different vocabularies or dimensions.
    DataError
        If a checkpoint is missing.
    """
    names = list(dict.fromkeys(names))
    if len(names) < 2:
        raise InputError(f"stitch: {names}: two runs or more are to be stitched.")
    if suite.models:
        raise InputError(f"The suite {suite.name!r} is of models that exist: it has no training sentences to fit on.")
    written = []
    with training.one_core(), training.one_bar():
        texts, runs = _texts(suite, names, work, seed), {}
        for name in tqdm(names, desc="states", unit="run"):
            runs[name] = _read(name, *existing.load_checkpoint(suite, name, suite.recipe.steps, work), texts)
            _check_alike(runs[names[0]], runs[name])
        for name in tqdm(names, desc=f"stitch {suite.name}", unit="run"):
            target = data / suite.name / "stitches" / f"{name}.parquet"
            if again or not target.exists():
                rows = list(_into(suite, runs[name], runs, texts, steps, seed))
                tables.write(pd.DataFrame(rows), target, "stitches")
            written.append(target)
    return written


def _texts(suite: Suite, names: Sequence[str], work: Path, seed: int) -> _Texts:
    """Training sentences of the first run's condition, as batches, and which rows are fitted on."""
    pairs = sentences.training_pairs(suite, suite.run(names[0]))
    wanted = min(FITTED + HELD_OUT, len(pairs))
    drawn = pairs.sample(wanted, random_state=seed)
    fitted = _fitted(len(drawn))
    model, tokenizer = existing.load_checkpoint(suite, names[0], suite.recipe.steps, work)
    batches, source, target = [], [], []
    for place in range(0, len(drawn), TRAINING_BATCH):
        chosen = drawn.iloc[place : place + TRAINING_BATCH]
        batch = encode(model, tokenizer, chosen["source"].tolist(), chosen["target"].tolist())
        inside = torch.arange(place, place + len(chosen))[:, None] < fitted  # (sentence, 1)
        source.append(inside.expand(batch.attention_mask.shape)[batch.attention_mask.bool()].numpy())
        target.append(inside.expand(batch.mask.shape)[batch.mask].numpy())
        batches.append(batch)
    return _Texts(batches, np.concatenate(source), np.concatenate(target))


def _fitted(count: int) -> int:
    """Of so many sentences, how many maps are fitted on: whole batches."""
    return max(1, count * FITTED // (FITTED + HELD_OUT) // TRAINING_BATCH) * TRAINING_BATCH


def _read(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: _Texts) -> _Run:
    encoder, decoder = [], []
    for batch in texts.batches:
        states = stitching.encoder_states(model, batch.input_ids, batch.attention_mask)
        encoder.append(states[batch.attention_mask.bool()].numpy())
        decoder.append([state[batch.mask].numpy() for state in _decoder_states(model, batch)])
    layers = [np.concatenate(each) for each in zip(*decoder, strict=True)]
    return _Run(name, model, tokenizer, np.concatenate(encoder), layers)


def _decoder_states(model: PreTrainedModel, batch: Batch) -> Sequence[torch.Tensor]:
    """Each decoder layer's input, of shape (sentence, position, dim)."""
    base: Any = model.base_model
    with torch.no_grad():
        output = base(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            decoder_input_ids=batch.decoder_input_ids,
            use_cache=False,
            output_hidden_states=True,
        )
    return output.decoder_hidden_states[:-1]


def _check_alike(one: _Run, two: _Run) -> None:
    if one.tokenizer.get_vocab() != two.tokenizer.get_vocab():
        raise InputError(
            f"stitch: {one.name!r} and {two.name!r} have different vocabularies: one does not know what the other "
            "read. Stitch runs that share theirs (--only)."
        )
    shapes = [(run.encoder.shape[1], len(run.decoder)) for run in (one, two)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"stitch: {one.name!r} and {two.name!r} have {shapes[0]} and {shapes[1]} dimensions and layers: rotations "
            "need as many. Stitch runs of one architecture (--only)."
        )


def _into(suite: Suite, reader: _Run, runs: dict[str, _Run], texts: _Texts, steps: int, seed: int) -> Iterator[dict]:
    """The rows of one decoder: its own encoder, and every other run's through every map."""
    held_out = sentences.held_out(suite)
    yield _row(reader.name, reader.name, "encoder", "own") | _quality(suite, reader, held_out)
    others = [run for run in runs.values() if run.name != reader.name]
    for run in others:
        fits = _fits(run.encoder, reader.encoder, texts.fit_source, seed)
        for kind in KINDS:
            made = fits[kind] if kind in fits else _trained(reader, run.model, fits["affine"], texts, steps, seed)
            yield _through(suite, reader, run, kind, made, texts, held_out)
        yield from _inside(reader, run, texts, held_out, seed)
    # What a trained map reaches from a run that has learnt nothing: one such run a decoder.
    first = others[0]
    start = training.new_model(suite.recipe, cast(MarianTokenizer, first.tokenizer), suite.run(first.name).seeds.init)
    untrained = _read(first.name, start.eval(), first.tokenizer, texts)
    affine = _fits(untrained.encoder, reader.encoder, texts.fit_source, seed)["affine"]
    made = _trained(reader, untrained.model, affine, texts, steps, seed)
    yield _through(suite, reader, untrained, "trained", made, texts, held_out) | {"start": "untrained"}


def _fits(read: np.ndarray, written: np.ndarray, fitted: np.ndarray, seed: int) -> dict[str, maps.StateMap]:
    """The maps that are fitted to states, by kind, from rows of one run to rows of the other."""
    x, y = read[fitted], written[fitted]
    return {
        "none": maps.no_map(read.shape[1]),
        "random": maps.random_rotation(x, y, seed),
        "rotation": maps.fit_rotation(x, y),
        "affine": maps.fit_affine(x, y, (read[~fitted], written[~fitted])),
    }


def _trained(
    reader: _Run, read: PreTrainedModel, start: maps.StateMap, texts: _Texts, steps: int, seed: int
) -> maps.StateMap:
    sentences_read = sum(len(batch) for batch in texts.batches)
    inside = texts.batches[: _fitted(sentences_read) // TRAINING_BATCH]
    layer = stitching.train_map(reader.model, read, start, inside, steps, seed=seed, progress=False)
    weight, bias = (each.detach().double().numpy() for each in (layer.weight, layer.bias))
    return maps.StateMap("trained", weight.T, np.zeros(weight.shape[1]), bias)


def _through(
    suite: Suite, reader: _Run, run: _Run, kind: str, made: maps.StateMap, texts: _Texts, held_out: pd.DataFrame
) -> dict:
    """The row of one encoder, read through one map."""
    there = ~texts.fit_source
    explained = maps.explained_variance(made, run.encoder[there], reader.encoder[there])
    module = stitching.as_module(made, next(reader.model.parameters())).requires_grad_(False)
    with stitching.reading(reader.model, run.model, module):
        found = _quality(suite, reader, held_out)
    return _row(run.name, reader.name, "encoder", kind) | found | {"explained": explained, "penalty": made.penalty}


def _inside(reader: _Run, run: _Run, texts: _Texts, held_out: pd.DataFrame, seed: int) -> Iterator[dict]:
    """The rows of a pair inside the decoder, in front of each layer."""
    batches = [encode(reader.model, reader.tokenizer, *chunk[:2]) for chunk in measuring.chunks(held_out)]
    states = [_decoder_states(run.model, batch) for batch in batches]
    for layer in range(len(reader.decoder)):
        fits = _fits(run.decoder[layer], reader.decoder[layer], texts.fit_target, seed)
        for kind, made in fits.items():
            module = stitching.as_module(made, next(reader.model.parameters())).requires_grad_(False)
            total = tokens = 0.0
            for batch, read in zip(batches, states, strict=True):
                with stitching.going_on(reader.model, layer, module(read[layer])):
                    nll, counts = negative_log_likelihood(reader.model, batch), batch.mask.sum(dim=1)
                total, tokens = total + float((nll * counts).sum()), tokens + float(counts.sum())
            there = ~texts.fit_target
            explained = maps.explained_variance(made, run.decoder[layer][there], reader.decoder[layer][there])
            yield _row(run.name, reader.name, "layer", kind) | {
                "layer": layer,
                "nll": total / tokens,
                "explained": explained,
                "penalty": made.penalty,
            }


def _quality(suite: Suite, reader: _Run, held_out: pd.DataFrame) -> dict[str, float]:
    """BLEU, chrF and nll of the held-out sentences."""
    said = [
        measuring.translated(reader.model, reader.tokenizer, suite, *chunk)[2] for chunk in measuring.chunks(held_out)
    ]
    scores, _ = measuring.scored(pd.concat(said, ignore_index=True))
    return dict(zip(scores["metric"], scores["score"], strict=True))


def _row(encoder: str, decoder: str, place: str, kind: str) -> dict:
    return {
        "encoder": encoder,
        "decoder": decoder,
        "place": place,
        "layer": pd.NA,
        "map": kind,
        "start": "run",
        **dict.fromkeys(("bleu", "chrf", "nll", "explained", "penalty"), np.nan),
    }

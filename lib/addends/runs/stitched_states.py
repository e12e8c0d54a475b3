"""What runs make of the same sentences, computed once for all pairs that are stitched.

Sentences are passed through a model with others of like length: most of a mixed batch is padding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from transformers import MarianTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from addends.decomposition import Batch, encode
from addends.errors import InputError
from addends.interventions import by_length, encoder_states
from addends.runs import existing, sentences, training
from addends.runs.suite import Suite

FITTED, HELD_OUT = 2_000, 500  # training sentences: to fit maps on, and to choose a penalty by
TRAINING_BATCH = 32
TOGETHER = 8  # training sentences that pass through a model together, for each of several maps
AT_ONCE = 50  # held-out sentences that are translated together, through all maps


@dataclasses.dataclass(frozen=True)
class Texts:
    """Sentences as batches of like length.

    Attributes
    ----------
    training : list of lists of Batch
        The pieces of each batch that a map is trained with.
    fitted : int
        How many of these batches maps are fitted on; the rest chooses penalties, and says what a map explains.
    held_out : list of Batch
        Short sources first.

    Examples
    --------
    >>> texts = Texts([[batch], [batch]], fitted=1, held_out=[batch])  # two batches of one piece: to fit, to choose by
    >>> len(texts.pieces)
    2
    """

    training: list[list[Batch]]
    fitted: int
    held_out: list[Batch]

    @property
    def pieces(self) -> list[Batch]:
        """Those of all batches, in order."""
        return [piece for pieces in self.training for piece in pieces]


class EncoderStates(NamedTuple):
    """What an encoder makes of the sentences: a tensor (sentence, read position, dim) for each batch of `Texts`.

    Attributes
    ----------
    training, held_out : list of Tensor
        For each of `Texts.pieces`, and of `Texts.held_out`.

    >>> EncoderStates([torch.zeros(2, 5, 8)], [torch.zeros(1, 4, 8)]).training[0].shape
    torch.Size([2, 5, 8])
    """

    training: list[torch.Tensor]
    held_out: list[torch.Tensor]


@dataclasses.dataclass(frozen=True)
class RunStates:
    """A run, loaded, and what it makes of the sentences.

    Attributes
    ----------
    encoder : EncoderStates
    decoder : list of ndarray of shape (row, dim)
        Each layer's input, of the real target tokens of the training sentences.
    held_out : list of lists of Tensor of shape (sentence, position, dim)
        For each held-out batch, each layer's input.

    Examples
    --------
    >>> run = read("a", model, tokenizer, Texts([[batch], [batch]], 1, [batch]))
    >>> len(run.decoder), len(run.decoder[0]) == 2 * int(batch.mask.sum())
    (3, True)
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    encoder: EncoderStates
    decoder: list[np.ndarray]
    held_out: list[list[torch.Tensor]]


class Space(NamedTuple):
    """Rows of two runs' states, of the same tokens; all of shape (row, dim).

    Attributes
    ----------
    read, written
        To fit maps on: row k of both is one token.
    read_there, written_there
        Of other sentences, to choose a penalty by and to read what is explained.

    >>> Space(np.eye(3), np.eye(3), np.eye(3)[:1], np.eye(3)[:1]).read_there.shape
    (1, 3)
    """

    read: np.ndarray
    written: np.ndarray
    read_there: np.ndarray
    written_there: np.ndarray


def texts_of(suite: Suite, names: Sequence[str], work: Path, seed: int) -> Texts:
    """Training sentences of the first run's condition, drawn by the seed, and the held-out sentences.

    Raises
    ------
    InputError
        If there are too few training sentences to fit on some and to choose by others.
    """
    pairs = sentences.training_pairs(suite, suite.run(names[0]))
    drawn = pairs.sample(min(FITTED + HELD_OUT, len(pairs)), random_state=seed)
    fitted = max(1, len(drawn) * FITTED // (FITTED + HELD_OUT) // TRAINING_BATCH)
    if len(drawn) <= fitted * TRAINING_BATCH:
        raise InputError(
            f"stitch: {len(drawn)} training sentences, of which {fitted * TRAINING_BATCH} are to fit maps on: none is "
            "left to choose by. Train on more."
        )
    model, tokenizer = existing.load_checkpoint(suite, names[0], suite.recipe.steps, work)

    def batches(of: pd.DataFrame, size: int) -> list[Batch]:
        chunks = [of.iloc[place : place + size] for place in range(0, len(of), size)]
        return [encode(model, tokenizer, each["source"].tolist(), each["target"].tolist()) for each in chunks]

    held_out = sentences.held_out(suite)
    held_out = held_out.iloc[held_out["source"].str.len().argsort(kind="stable")]
    return Texts(
        [by_length(batch, TOGETHER) for batch in batches(drawn, TRAINING_BATCH)],
        fitted,
        batches(held_out, AT_ONCE),
    )


def read(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Texts) -> RunStates:
    """A run with what it makes of the sentences, by one pass of each batch."""
    passes = [_states(model, batch) for batch in texts.pieces]
    held_out = [_states(model, batch) for batch in texts.held_out]
    rows = [
        [state[batch.mask].numpy() for state in decoder]
        for batch, (_, decoder) in zip(texts.pieces, passes, strict=True)
    ]
    return RunStates(
        name,
        model,
        tokenizer,
        EncoderStates([encoder for encoder, _ in passes], [encoder for encoder, _ in held_out]),
        [np.concatenate(layer) for layer in zip(*rows, strict=True)],
        [list(decoder) for _, decoder in held_out],
    )


def _states(model: PreTrainedModel, batch: Batch) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
    """The encoder's last state, and each decoder layer's input, of shape (sentence, position, dim)."""
    base: Any = model.base_model
    with torch.no_grad():
        output = base(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            decoder_input_ids=batch.decoder_input_ids,
            use_cache=False,
            output_hidden_states=True,
        )
    return output.encoder_last_hidden_state, output.decoder_hidden_states[:-1]


def check_alike(one: RunStates, two: RunStates) -> None:
    """Raise InputError, which names both, where two runs differ in vocabulary, dimensions or layers."""
    if one.tokenizer.get_vocab() != two.tokenizer.get_vocab():
        raise InputError(
            f"stitch: {one.name!r} and {two.name!r} have different vocabularies: one does not know what the other "
            "read. Stitch runs that share theirs (--only)."
        )
    shapes = [(run.decoder[0].shape[1], len(run.decoder)) for run in (one, two)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"stitch: {one.name!r} and {two.name!r} have {shapes[0]} and {shapes[1]} dimensions and layers: rotations "
            "need as many. Stitch runs of one architecture (--only)."
        )


def untrained(suite: Suite, run: RunStates, texts: Texts) -> EncoderStates:
    """What the run's encoder makes of the sentences before it has learnt anything."""
    tokenizer = cast(MarianTokenizer, run.tokenizer)
    start = training.new_model(suite.recipe, tokenizer, suite.run(run.name).seeds.init).eval()
    return EncoderStates(
        *(
            [encoder_states(start, batch.input_ids, batch.attention_mask) for batch in batches]
            for batches in (texts.pieces, texts.held_out)
        )
    )


def encoder_space(read: EncoderStates, written: EncoderStates, texts: Texts) -> Space:
    """The rows of real source tokens."""
    first = sum(len(pieces) for pieces in texts.training[: texts.fitted])
    masks = [batch.attention_mask.bool() for batch in texts.pieces]

    def rows(of: EncoderStates, where: slice) -> np.ndarray:
        chosen = zip(of.training[where], masks[where], strict=True)
        return torch.cat([states[mask] for states, mask in chosen]).numpy()

    fit, there = slice(first), slice(first, None)
    return Space(rows(read, fit), rows(written, fit), rows(read, there), rows(written, there))


def decoder_space(run: RunStates, reader: RunStates, layer: int, texts: Texts) -> Space:
    """The rows of real target tokens in front of a decoder layer."""
    fitted = (batch for pieces in texts.training[: texts.fitted] for batch in pieces)
    first = sum(int(batch.mask.sum()) for batch in fitted)
    read, written = run.decoder[layer], reader.decoder[layer]
    return Space(read[:first], written[:first], read[first:], written[first:])

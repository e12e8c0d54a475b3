"""The vectors of a model's states and terms, in the same rows for every run that reads the same sentences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm

from addends.decomposition.architectures import architecture_of
from addends.decomposition.encoding import check_sentences, encode
from addends.decomposition.parts import DEFAULT_CENTERING, stream
from addends.errors import InputError

ROWS = ("sentence", "token")


@dataclass(frozen=True)
class StateVectors:
    """Vectors in rows.

    Attributes
    ----------
    vectors : float32 ndarray of shape (layer, term, row, dim)
        The sum over terms is the state.
    terms : tuple of str
        The names along the term axis.
    sentences : ndarray of int, of shape (row,)
        The index in ``sources`` of the sentence that a row belongs to, ascending.
    positions : ndarray of int, of shape (row,)
        Which token of the sentence's decoder side a row is, from 0; -1 for the mean over them.
    labels : ndarray of int, of shape (row,)
        The id that a token's row is to predict (in a single stack, the id that it reads); -1 for a mean. Two runs have
        the same rows exactly if these and ``sentences`` agree.
    """

    vectors: np.ndarray
    terms: tuple[str, ...]
    sentences: np.ndarray
    positions: np.ndarray
    labels: np.ndarray


def state_vectors(
    model,
    tokenizer,
    sources: Iterable[str],
    targets: Iterable[str] | None = None,
    by: str = "sublayer",
    rows: str = "sentence",
    batch_size: int = 32,
    progress: bool = True,
) -> StateVectors:
    """One vector a sentence, or a token, of each term at each layer.

    The decoder reads the references, never the model's own translations, so that row k is the same sentence or token in
    every run; runs that are to be compared token by token must share their tokenizer. Memory is
    layers x terms x rows x dim x 4 bytes: 300 sentences of a 6-layer, 512-wide model take 21 MB, their tokens some ten
    times as much.

    Parameters
    ----------
    sources, targets : iterable of str
        As in `addends.measure`; an encoder-decoder needs targets here.
    by : {"sublayer", "token"}
        The method.
    rows : {"sentence", "token"}
        "sentence": the mean over the sentence's real tokens. "token": every real token, sentence by sentence.
    batch_size : int
        Sentences a forward pass. It changes speed and memory only.

    Returns
    -------
    StateVectors

    Raises
    ------
    InputError
        As `encode` does, or if an argument is not allowed or an encoder-decoder has no targets.
    UnsupportedModelError
        As `decompose` does; every batch is checked.
    """
    if by not in DEFAULT_CENTERING:
        raise InputError(f"by={by!r} is not one of {tuple(DEFAULT_CENTERING)}.")
    if rows not in ROWS:
        raise InputError(f"rows={rows!r} is not one of {ROWS}.")
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: at least 1 sentence a forward pass is needed.")
    sources, targets = (
        texts if texts is None or isinstance(texts, str) else list(texts) for texts in (sources, targets)
    )
    if targets is None and architecture_of(model.config).kind == "encoder-decoder":
        raise InputError(
            "state_vectors: targets are needed, the references: own translations are other rows in each run."
        )
    check_sentences(model, tokenizer, sources, targets)
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    of_sentence = {}
    for start in tqdm(range(0, len(order), batch_size), disable=not progress, unit="batch", desc="state_vectors"):
        chosen = order[start : start + batch_size]
        given = [[texts[index] for index in chosen] for texts in (sources, targets) if texts is not None]
        batch = encode(model, tokenizer, *given)
        terms, layers = stream(model, batch, by)
        # The next layer overwrites what the last one gave: keep a copy.
        vectors = np.stack([each.float().cpu().numpy().copy() for each, _ in layers])
        # vectors: (layer, term, sentence, position, dim)
        labels = (batch.labels if batch.labels is not None else batch.input_ids).cpu().numpy()
        mask = batch.mask.cpu().numpy()
        for place, index in enumerate(chosen):
            real = mask[place]
            of_sentence[index] = vectors[:, :, place, real], labels[place, real]  # (layer, term, token, dim), (token,)
    return _in_rows([of_sentence[index] for index in range(len(sources))], terms, rows)


def _in_rows(of_sentence: list[tuple[np.ndarray, np.ndarray]], terms: tuple[str, ...], rows: str) -> StateVectors:
    counts = [len(labels) for _, labels in of_sentence]
    if rows == "sentence":
        vectors = np.stack([each.mean(axis=2, dtype="float64") for each, _ in of_sentence], axis=2)
        nothing = np.full(len(of_sentence), -1)
        return StateVectors(vectors.astype("float32"), terms, np.arange(len(of_sentence)), nothing, nothing.copy())
    return StateVectors(
        np.concatenate([each for each, _ in of_sentence], axis=2),  # (layer, term, row, dim)
        terms,
        np.repeat(np.arange(len(of_sentence)), counts),
        np.concatenate([np.arange(count) for count in counts]),
        np.concatenate([labels for _, labels in of_sentence]),
    )

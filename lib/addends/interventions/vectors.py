"""The vectors of states and parts, in the same rows for every run that reads the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from addends.checks import check_count
from addends.decomposition import encode
from addends.decomposition.parts import stream
from addends.decomposition.translation import check_sentences
from addends.errors import InputError
from addends.tables import METHODS

STATE = "state"
"""The name of the sum of all terms, the whole state, among the methods and among the terms."""


@dataclass(frozen=True)
class TokenVectors:
    """Vectors in rows, one a real token.

    Attributes
    ----------
    vectors : float32 ndarray of shape (layer, term, row, dim)
        The parts of every state; the last of them is the state itself.
    names : tuple of (method, term)
        Along the term axis: ("sublayer", "I"), ..., ("token", "C"), ("state", "state").
    sentences : ndarray of int, of shape (row,)
        The index in ``sources`` of the sentence that a row belongs to, ascending.
    labels : ndarray of int, of shape (row,)
        The id that a row is to predict.

    Examples
    --------
    >>> found = token_vectors(model, tokenizer, ["il pleut"], ["it rains"], progress=False)
    >>> found.vectors.shape[:2], found.names[-1]  # (layer, term and state)
    ((4, 9), ('state', 'state'))
    """

    vectors: np.ndarray
    names: tuple[tuple[str, str], ...]
    sentences: np.ndarray
    labels: np.ndarray


def token_vectors(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    targets: Sequence[str],
    by: str | Sequence[str] = ("sublayer", "token"),
    batch_size: int = 32,
    progress: bool = True,
) -> TokenVectors:
    """One vector a real token of each part of each state, and of the state.

    The decoder reads the references, never the model's own translations: row k is then the same token in every run with
    the same vocabulary. Memory is layers x terms x rows x dim x 4 bytes: the 3,000 tokens of 300 sentences take 55 MB
    of a model of three layers, 128 wide.

    Parameters
    ----------
    sources, targets : sequence of str
    by : sequence of {"sublayer", "token"}, or one of them
    batch_size : int
        Sentences a forward pass. It changes speed and memory only.

    Raises
    ------
    InputError, UnsupportedModelError
        As `encode` does, before anything is encoded, and as `decompose`; the sums are checked in the first batch.
    """
    check_count("batch_size", batch_size, "token_vectors")
    methods = [by] if isinstance(by, str) else list(by)
    if not methods or len(set(methods)) < len(methods):
        raise InputError(f"token_vectors: by={by!r}: one or more of {METHODS}, each once, are wanted.")
    check_sentences(model, tokenizer, sources, targets)
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    of_sentence: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    names: tuple[tuple[str, str], ...] = ()
    for start in tqdm(range(0, len(order), batch_size), disable=not progress, unit="batch", desc="token_vectors"):
        chosen = order[start : start + batch_size]
        batch = encode(model, tokenizer, [sources[index] for index in chosen], [targets[index] for index in chosen])
        if batch.labels is None:
            raise InputError(f"token_vectors: a {model.config.model_type} has no decoder that reads targets.")
        found, names = [], ()
        for method in methods:
            terms, layers = stream(model, batch, method, check=not of_sentence)
            pairs = [(vectors.float().cpu().numpy().copy(), state.float().cpu().numpy()) for vectors, state in layers]
            found.append(np.stack([vectors for vectors, _ in pairs]))  # (layer, term, sentence, position, dim)
            names = (*names, *((method, term) for term in terms))
        states = np.stack([state for _, state in pairs])[:, None]  # (layer, 1, sentence, position, dim)
        names = (*names, (STATE, STATE))
        vectors = np.concatenate([*found, states], axis=1)
        labels, mask = batch.labels.cpu().numpy(), batch.mask.cpu().numpy()
        for place, index in enumerate(chosen):
            real = mask[place]
            of_sentence[index] = vectors[:, :, place, real], labels[place, real]  # (layer, term, row, dim), (row,)
    listed = [of_sentence[index] for index in range(len(sources))]
    return TokenVectors(
        np.concatenate([each for each, _ in listed], axis=2),  # (layer, term, row, dim)
        names,
        np.repeat(np.arange(len(listed)), [len(labels) for _, labels in listed]),
        np.concatenate([labels for _, labels in listed]),
    )

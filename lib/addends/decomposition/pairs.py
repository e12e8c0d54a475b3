"""Each state against each token that the model read: what a source-by-target picture shows.

    e_t = sum_j x_{t,j} + ...        x_{t,j}: the part of state t that came from input token j, by token

Of an encoder-decoder the inputs are the source's tokens (the target's own and the constant are the rest of the sum); of
a single stack they are its own, and the constant is the rest.
"""

from __future__ import annotations

from collections import deque
from dataclasses import fields, replace

import pandas as pd
import torch

from addends.decomposition.batches import Batch
from addends.decomposition.indicators import NAMES, of_vectors
from addends.decomposition.parts import stream
from addends.errors import InputError


def state_by_input(model, batch: Batch, sentence: int = 0, through_encoder: bool = False) -> pd.DataFrame:
    """The indicators of each input token's part in each state after the last layer, for one sentence of a batch.

    One layer is kept at a time, of this sentence alone.

    Parameters
    ----------
    through_encoder : bool
        Of an encoder-decoder, follow the source from its embeddings: see `decompose`.

    Returns
    -------
    DataFrame
        Tidy: position (of the state) and source (the input token), both counted from 0 over the sentence's real tokens,
        importance, cosine, norm_ratio, distance.

    Raises
    ------
    InputError
        If the batch has no such sentence; and as `decompose` does.
    UnsupportedModelError, ModelStateError
        As `decompose` does.
    """
    if not 0 <= sentence < len(batch):
        raise InputError(f"sentence={sentence}: the batch has sentences 0 to {len(batch) - 1}.")
    batch = _alone(batch, sentence)
    terms, layers = stream(model, batch, "token", tokens="each", through_encoder=through_encoder)
    vectors, state = deque(layers, maxlen=1).pop()  # (term, 1, position, dim), (1, position, dim)
    side = terms[0][0]  # S, or T of a single stack
    inputs = [number for number, term in enumerate(terms) if term.startswith(side)]
    real = batch.attention_mask[0].bool()
    values = of_vectors(vectors[:, 0], state[0])[:, inputs]  # (indicator, input, position): what is zero, by all parts
    values = values[:, real][..., batch.mask[0]]
    index = pd.MultiIndex.from_product([range(size) for size in values.shape[1:]], names=["source", "position"])
    flat = values.flatten(1).T.cpu().double().numpy()  # (input * position, indicator)
    frame = pd.DataFrame(flat, index=index, columns=list(NAMES)).reset_index()
    return frame[["position", "source", *NAMES]].sort_values(["position", "source"], ignore_index=True)


def _alone(batch: Batch, sentence: int) -> Batch:
    """The batch of this one sentence, padding as it was."""
    row = slice(sentence, sentence + 1)
    tensors = {
        field.name: getattr(batch, field.name)[row]
        for field in fields(batch)
        if isinstance(getattr(batch, field.name), torch.Tensor)
    }
    return replace(batch, **tensors, texts=None if batch.texts is None else batch.texts[row], truncated=())

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
from tqdm.auto import tqdm

from addends.decomposition.batches import Batch
from addends.decomposition.exactness import check_sum
from addends.decomposition.indicators import NAMES, of_vectors
from addends.decomposition.parts import DEFAULT_CENTERING, stream
from addends.decomposition.proofs import proven_capture
from addends.decomposition.tokens import propagate_inputs
from addends.errors import InputError


def state_by_input(
    model, batch: Batch, sentence: int = 0, through_encoder: bool = False, progress: bool = False
) -> pd.DataFrame:
    """The indicators of each input token's part in each state after the last layer, for one sentence of a batch.

    One layer is kept at a time, of this sentence alone. Input tokens alone are followed one by one; the rest of the sum
    (the target's tokens, the constant) stays grouped, and the sum of both is checked.

    Parameters
    ----------
    through_encoder : bool
        Of an encoder-decoder, follow the source from its embeddings: see `decompose`.
    progress : bool
        Show a progress bar over the layers: hundreds of tokens take minutes.

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
    _, layers = stream(model, batch, "token", through_encoder=through_encoder)
    grouped, state = deque(layers, maxlen=1).pop()  # (term, 1, position, dim), (1, position, dim)
    record = proven_capture(model, batch, attention_weights=True, encoder=through_encoder)
    layers = len(record.main.states)
    with torch.no_grad():
        steps = propagate_inputs(record, DEFAULT_CENTERING["token"], through_encoder=through_encoder)
        inputs = deque(tqdm(steps, total=layers, disable=not progress, unit="layer", desc="inputs"), maxlen=1).pop()
        vectors = torch.cat([inputs, grouped[1:]])  # the first grouped term is the sum of the inputs
        check_sum(vectors, state, batch.mask, layers - 1, model)
        values = of_vectors(vectors[:, 0], state[0])[:, : len(inputs)]  # (indicator, input, position)
    values = values[:, batch.attention_mask[0].bool()][..., batch.mask[0]]
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

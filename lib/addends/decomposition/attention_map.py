"""What a decoder's cross-attention looked at: its weights, to be seen beside what the parts say.

    A_{t,j}: how much target position t takes from source place j; of each layer and head, sum_j A_{t,j} = 1

A weight is no contribution: what is taken from place j is A_{t,j} W_O W_V x_j, which may be long or short, may point
along the state or against it, and goes through the layers that follow.

References
----------
Kobayashi et al. (2020), Attention is not only a weight, EMNLP.
"""

from __future__ import annotations

import pandas as pd
import torch
from transformers import PreTrainedModel

from addends.decomposition.ambient import check_model
from addends.decomposition.architectures import architecture_of
from addends.decomposition.batch import Batch
from addends.decomposition.proofs import proven_capture
from addends.decomposition.record import AttentionSublayer
from addends.errors import InputError


def cross_attention(model: PreTrainedModel, batch: Batch) -> pd.DataFrame:
    """The cross-attention weights of a batch, of every layer and head; nothing of the model is changed.

    Parameters
    ----------
    model : PreTrainedModel
        An encoder-decoder of a supported family, in evaluation mode, whatever its attention implementation.
    batch : Batch
        Made by `encode`, `translate`, or from tensors.

    Returns
    -------
    DataFrame
        Tidy: layer (from 1, as `decompose` counts: layer l writes into state l), head (from 0), sentence, position (of
        the target), source (place in the padded source), weight (the share of a row: it sums to 1 over the source).
        Padding, on either side, has no rows.

    Raises
    ------
    InputError
        If the model has no cross-attention, or model and batch do not fit.
    UnsupportedModelError, ModelStateError
        As `decompose`.
    """
    check_model(model)
    row = architecture_of(model.config)
    if row.encoder is None:
        raise InputError(f"A {row.model_type} has one stack only, and no cross-attention. Give an encoder-decoder.")
    record = proven_capture(model, batch, attention_weights=True)
    weights = [
        sublayer.weights
        for sublayer in record.main.sublayers
        if isinstance(sublayer, AttentionSublayer) and sublayer.place.reads == "encoder"
    ]
    real = batch.mask[:, :, None] & batch.attention_mask.bool()[:, None, :]  # (sentence, position, source)
    stacked = torch.stack(weights).transpose(1, 2)  # (layer, head, sentence, position, source)
    layers, heads = stacked.shape[:2]
    sentence, position, source = (axis.cpu().numpy() for axis in real.nonzero(as_tuple=True))  # (pair,) each
    values = stacked[:, :, real]  # (layer, head, pair)
    index = pd.MultiIndex.from_product(
        [range(1, layers + 1), range(heads), range(len(sentence))], names=["layer", "head", "pair"]
    )
    frame = pd.DataFrame({"weight": values.flatten().cpu().double().numpy()}, index=index).reset_index()
    pair = frame.pop("pair").to_numpy()
    for place, (name, axis) in enumerate((("sentence", sentence), ("position", position), ("source", source)), start=2):
        frame.insert(place, name, axis[pair])
    return frame

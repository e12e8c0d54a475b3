"""Batches with labels, models with every bias far from zero, and what a model says when it is asked plainly."""

from __future__ import annotations

import dataclasses

import torch

import addends
from addends.decomposition import architecture_of
from tests.decomposition import small_models

WITH_HEAD = [name for name in small_models.NAMES if name not in small_models.ENCODERS]


def make(name: str, dtype: torch.dtype = torch.float32, **options):
    model = small_models.make(name, dtype, **options)
    if hasattr(model, "final_logits_bias"):  # zero at first, and learned by Marian's
        model.final_logits_bias.normal_(generator=torch.Generator().manual_seed(1))
    return model


def batch_for(model, left: bool = False) -> addends.Batch:
    """`small_models.batch_for`, with labels: of a single stack, the next tokens, which nobody has to write down."""
    batch = small_models.batch_for(model, left)
    if batch.decoder_input_ids is None:
        return batch
    return dataclasses.replace(batch, labels=batch.decoder_input_ids.roll(-1, dims=1))


def next_tokens(model, batch: addends.Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The labels (sentence, position) and where they count, written out."""
    if architecture_of(model.config).kind == "encoder-decoder":
        return batch.labels, batch.decoder_mask
    labels, mask = torch.zeros_like(batch.input_ids), torch.zeros_like(batch.input_ids, dtype=torch.bool)
    for sentence, real in enumerate(batch.attention_mask.bool().tolist()):
        for position in range(len(real) - 1):
            if real[position] and real[position + 1]:
                labels[sentence, position] = batch.input_ids[sentence, position + 1]
                mask[sentence, position] = True
    return labels, mask


def said(model, batch: addends.Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The labels' log-probabilities and logits by a plain call of the whole model, both of shape (token,)."""
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "use_cache": False}
    if batch.decoder_input_ids is not None:
        inputs["decoder_input_ids"] = batch.decoder_input_ids
    if batch.position_ids is not None:
        inputs["position_ids"] = batch.position_ids
    with torch.no_grad():
        logits = model(**inputs).logits
    return of_logits(logits, *next_tokens(model, batch))


def of_logits(logits: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of logits (sentence, position, vocabulary)."""
    chosen = labels.where(mask, 0)[..., None]
    both = (logits.log_softmax(dim=-1), logits)
    return tuple(each.gather(-1, chosen)[..., 0][mask] for each in both)


def column(frame, name: str, **where) -> torch.Tensor:
    """The numbers of a frame in the order of its rows, where these columns have these values (None: missing)."""
    for key, value in where.items():
        frame = frame[frame[key].isna() if value is None else frame[key] == value]
    return torch.tensor(frame[name].to_numpy())


def moved_right(model, batch: addends.Batch) -> addends.Batch:
    """The batch of a single stack with its padding in front of the same sentences."""
    lengths = batch.attention_mask.sum(dim=1).tolist()
    ids, mask = (
        torch.stack([row.roll(len(row) - length) for row, length in zip(tensor, lengths, strict=True)])
        for tensor in (batch.input_ids, batch.attention_mask)
    )
    first = architecture_of(model.config).first_position
    return addends.Batch(ids, mask, position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0) + first)

"""What a forward pass is given: a batch, checked against the model that is to read it."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import nn

from addends.decomposition.architectures import Architecture, Stack, architecture_of
from addends.decomposition.batches import Batch
from addends.errors import InputError, UnsupportedModelError


def inputs_of(row: Architecture, model, batch: Batch) -> dict[str, torch.Tensor | bool]:
    """The keyword arguments of the base model's forward pass.

    Raises
    ------
    InputError
        If model and batch are on different devices, the batch has a side that the model lacks or lacks one that it
        needs, an id has no embedding, or a sentence is longer than the model's positions.
    """
    for field in fields(batch):
        tensor = getattr(batch, field.name)
        if isinstance(tensor, torch.Tensor) and tensor.device != model.device:
            raise InputError(
                f"The batch's {field.name} are on {tensor.device}, the model is on {model.device}. "
                "Call batch.to(model.device)."
            )
    pair, sides = row.kind == "encoder-decoder", batch.decoder_input_ids is not None
    if pair and not sides:
        raise InputError("The batch has no decoder_input_ids. Make it with encode(model, tokenizer, sources, targets).")
    if sides and not pair:
        raise InputError(
            f"The batch has decoder_input_ids, but a {row.model_type} has one stack only. Make it with "
            "encode(model, tokenizer, texts)."
        )
    if pair and batch.position_ids is not None:
        raise InputError(f"The batch has position_ids, but a {row.model_type} takes none. Make it without.")
    source, target = embeddings(model)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    check_ids("input_ids", batch.input_ids, source, "The model embeds")
    if pair:
        inputs["decoder_input_ids"] = batch.decoder_input_ids
        check_ids("decoder_input_ids", batch.decoder_input_ids, target, "The model's decoder embeds")
    limit = positions(model)
    if limit is not None and batch.position_ids is not None:
        check_ids("position_ids", batch.position_ids, limit + row.first_position, "The model has positions for")
        inputs["position_ids"] = batch.position_ids
    elif batch.position_ids is not None:
        inputs["position_ids"] = batch.position_ids
    elif limit is not None:
        for name in ("input_ids", "decoder_input_ids"):
            length = inputs[name].shape[1] if name in inputs else 0
            if length > limit:
                raise InputError(f"{name} have {length} positions, the model has {limit}. Cut or split the sentences.")
    return inputs if row.kind == "encoder" else {**inputs, "use_cache": False}


def positions(model) -> int | None:
    """The largest number of tokens that the model has positions for; None where there is no limit.

    Raises
    ------
    UnsupportedModelError
        If the configuration lacks what the row names.
    """
    row = architecture_of(model.config)
    if row.positions is None:
        return None
    limit = getattr(model.config, row.positions, None)
    if limit is None:
        raise UnsupportedModelError(
            f"The row {row.model_type!r} names the number of positions {row.positions!r}, which a "
            f"{type(model.config).__name__} lacks. Correct the row: positions is the configuration's own name for it, "
            "or None where there is no limit."
        )
    return limit - row.first_position


def embeddings(model) -> tuple[int | None, int | None]:
    """How many ids the source side (or a single stack) embeds, and how many the decoder; None where unknown."""
    row = architecture_of(model.config)

    def size(stack: Stack) -> int | None:
        path = stack.layers.rpartition(".")[0]
        for whole, place in ((model.base_model, path), (model, "")):
            try:
                embedding = whole.get_submodule(place).get_input_embeddings()
            except (AttributeError, NotImplementedError):  # this module has none of its own
                continue
            if isinstance(embedding, nn.Embedding):
                return embedding.num_embeddings
        return None

    return size(row.encoder or row.stack), size(row.stack)


def check_ids(name: str, ids: torch.Tensor, size: int | None, what: str) -> None:
    """Raise InputError unless all ``ids``, padding included, are from 0 to size - 1."""
    if size is None:
        return
    bad = (ids < 0) | (ids >= size)
    if bad.any():
        sentence = int(bad.any(dim=1).nonzero()[0])
        found = sorted(set(ids[sentence][bad[sentence]].tolist()))
        raise InputError(f"{name} of sentence {sentence} hold {found[:8]}. {what} 0 to {size - 1}.")

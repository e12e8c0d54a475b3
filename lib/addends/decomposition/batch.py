"""Batches: sentences as tensors, with a mask that says which rows of the decoder count, fitted to the model that reads.

Row t of the decoder is the state that predicts label t: the decoder reads the labels shifted right behind its start
symbol. A row counts exactly if its label is real. (Not ``ids != pad``: Marian's start symbol is its pad symbol.)
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from addends.decomposition.architecture import Architecture, Stack
from addends.decomposition.architectures import architecture_of
from addends.errors import InputError, UnsupportedModelError


@dataclass(frozen=True)
class Batch:
    """Token ids of a batch of sentences, all tensors of shape (sentence, position).

    Attributes
    ----------
    input_ids, attention_mask : Tensor
        The source side; the mask is 1 where a token stands.
    decoder_input_ids : Tensor, optional
        What the decoder reads.
    decoder_mask : Tensor of bool, optional
        True where row t counts: where it has a real label, special tokens left out if that was asked for. None means
        that every row counts. In a single stack, True where a row counts; None means every real token's.
    position_ids : Tensor, optional
        For single stacks that take them. With padding on the left, models with absolute positions need them; `encode`
        gives them.
    labels : Tensor, optional
        The id that row t is to predict; meaningful where ``decoder_mask`` is True.
    texts : tuple of str, optional
        The target side as text: the references given, or the translations made.
    truncated : tuple of (side, index)
        The sentences that were cut to the model's positions, when that was asked for.

    Examples
    --------
    Two texts of three tokens and of two, for a single stack:

    >>> batch = Batch(torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]))
    >>> len(batch), batch.mask.sum(dim=1).tolist()
    (2, [3, 2])
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    decoder_input_ids: torch.Tensor | None = None
    decoder_mask: torch.Tensor | None = None
    position_ids: torch.Tensor | None = None
    labels: torch.Tensor | None = None
    texts: tuple[str, ...] | None = None
    truncated: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        shape = self.input_ids.shape
        if self.input_ids.ndim != 2 or self.attention_mask.shape != shape:
            raise InputError(
                f"input_ids of shape {tuple(shape)} and attention_mask of shape {tuple(self.attention_mask.shape)}: "
                "both are to be (sentence, position)."
            )
        if self.position_ids is not None and self.position_ids.shape != shape:
            raise InputError(
                f"position_ids of shape {tuple(self.position_ids.shape)} for input_ids of shape {tuple(shape)}: the "
                "same shape is wanted."
            )
        read, ids = "input_ids", self.input_ids
        if self.decoder_input_ids is not None:
            read, ids = "decoder_input_ids", self.decoder_input_ids
        if ids.ndim != 2 or len(ids) != len(self.input_ids):
            raise InputError(
                f"decoder_input_ids of shape {tuple(ids.shape)} for {len(self.input_ids)} "
                "source sentences: (sentence, position) with as many sentences is wanted."
            )
        for name in ("decoder_mask", "labels"):
            tensor = getattr(self, name)
            if tensor is not None and tensor.shape != ids.shape:
                raise InputError(
                    f"{name} of shape {tuple(tensor.shape)} for {read} of shape {tuple(ids.shape)}: the same shape is "
                    "wanted."
                )

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def mask(self) -> torch.Tensor:
        """True where a row counts, of shape (sentence, position)."""
        if self.decoder_mask is not None:
            return self.decoder_mask.bool()
        if self.decoder_input_ids is not None:
            return torch.ones_like(self.decoder_input_ids, dtype=torch.bool)
        return self.attention_mask.bool()

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors that there are, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on ``device``."""
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        return replace(self, **moved)

    def sentence(self, index: int, padded: bool = True) -> Batch:
        """The batch of one sentence.

        Its padding stays, or goes, ``padded=False``, on the side that has the attention mask.

        Raises
        ------
        InputError
            If the batch has no such sentence.
        """
        self.check_sentence(index)
        row, real, length = slice(index, index + 1), self.attention_mask[index].bool(), self.attention_mask.shape[1]
        single = self.decoder_input_ids is None  # whose mask and labels are of the side that has the attention mask
        chosen: dict[str, Any] = {name: tensor[row] for name, tensor in self.tensors.items()}
        for name, tensor in chosen.items():
            ours = single or name in ("input_ids", "attention_mask", "position_ids")
            if not padded and ours and tensor.shape[1] == length:
                chosen[name] = tensor[:, real]
        return replace(self, **chosen, texts=None if self.texts is None else self.texts[row], truncated=())

    def check_sentence(self, index: int) -> None:
        """Raise InputError unless the batch has a sentence of this index."""
        if not 0 <= index < len(self):
            raise InputError(f"sentence={index}: the batch has sentences 0 to {len(self) - 1}.")


# --- what a forward pass is given ---


def inputs_of(row: Architecture, model: PreTrainedModel, batch: Batch) -> dict[str, Any]:
    """The keyword arguments of the base model's forward pass: the batch, checked against the model that is to read it.

    Raises
    ------
    InputError
        If model and batch are on different devices, the batch has a side that the model lacks or lacks one that it
        needs, an id has no embedding, or a sentence is longer than the model's positions.
    """
    for name, tensor in batch.tensors.items():
        if tensor.device != model.device:
            raise InputError(
                f"The batch's {name} are on {tensor.device}, the model is on {model.device}. "
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
    _check_ids("input_ids", batch.input_ids, source, "The model embeds")
    if batch.decoder_input_ids is not None:
        inputs["decoder_input_ids"] = batch.decoder_input_ids
        _check_ids("decoder_input_ids", batch.decoder_input_ids, target, "The model's decoder embeds")
    limit = positions(model)
    if batch.position_ids is not None:
        inputs["position_ids"] = batch.position_ids
        size = None if limit is None else limit + row.first_position
        _check_ids("position_ids", batch.position_ids, size, "The model has positions for")
    elif limit is not None:
        for name in ("input_ids", "decoder_input_ids"):
            length = inputs[name].shape[1] if name in inputs else 0
            if length > limit:
                raise InputError(f"{name} have {length} positions, the model has {limit}. Cut or split the sentences.")
    return inputs if row.kind == "encoder" else {**inputs, "use_cache": False}


def positions(model: PreTrainedModel) -> int | None:
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


def embeddings(model: PreTrainedModel) -> tuple[int | None, int | None]:
    """How many ids the source side (or a single stack) embeds, and how many the decoder; None where unknown."""
    row = architecture_of(model.config)

    def size(stack: Stack) -> int | None:
        path = stack.layers.rpartition(".")[0]
        for whole, place in ((model.base_model, path), (model, "")):
            try:
                module: Any = whole.get_submodule(place)
                embedding = module.get_input_embeddings()
            except (AttributeError, NotImplementedError):  # this module has none of its own
                continue
            if isinstance(embedding, nn.Embedding):
                return embedding.num_embeddings
        return None

    return size(row.encoder or row.stack), size(row.stack)


def _check_ids(name: str, ids: torch.Tensor, size: int | None, what: str) -> None:
    """Raise InputError unless all ``ids``, padding included, are from 0 to size - 1."""
    if size is None:
        return
    bad = (ids < 0) | (ids >= size)
    if bad.any():
        sentence = int(bad.any(dim=1).nonzero()[0])
        found = sorted(set(ids[sentence][bad[sentence]].tolist()))
        raise InputError(f"{name} of sentence {sentence} hold {found[:8]}. {what} 0 to {size - 1}.")

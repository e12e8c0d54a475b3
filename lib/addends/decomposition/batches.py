"""Batches: sentence pairs as tensors, with a mask that says which rows of the decoder count.

Row t of the decoder is the state that predicts label t: the decoder reads the labels shifted right behind its start
symbol. A row counts exactly if its label is real. (Not ``ids != pad``: Marian's start symbol is its pad symbol.)
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch

from addends.errors import InputError


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

    def to(self, device) -> Batch:
        """The same batch with its tensors on ``device``."""
        moved = {
            field.name: getattr(self, field.name).to(device)
            for field in fields(self)
            if isinstance(getattr(self, field.name), torch.Tensor)
        }
        return replace(self, **moved)

"""Reading a batch: its labels, the places of its tokens, and what its last states are sums of, each computed once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import torch
from transformers import PreTrainedModel

from addends.decomposition import Batch, Parts, architecture_of
from addends.decomposition.parts import DEFAULT_CENTERING, stream
from addends.decomposition.proofs import proven_capture
from addends.decomposition.record import Capture
from addends.errors import InputError

T = TypeVar("T")


class Rows(NamedTuple):
    """The tokens whose labels are asked about, each of shape (token,).

    Examples
    --------
    >>> from addends.interventions.reading import Reading
    >>> Reading(model, batch).rows.position.tolist()
    [0, 1, 2, 3, 4]
    """

    sentence: torch.Tensor
    position: torch.Tensor
    label: torch.Tensor


class Reading:
    """What one model makes of one batch.

    Examples
    --------
    >>> reading = Reading(model, batch)
    >>> reading.last_layer, reading.parts("token").terms, reading.places.tolist()
    (3, ('S', 'T', 'C'), [[0, 1, 2, 3, 4]])
    """

    def __init__(self, model: PreTrainedModel, batch: Batch) -> None:
        self.model, self.batch = model, batch
        self.row = architecture_of(model.config)
        self._kept: dict[tuple, Any] = {}

    @cached_property
    def rows(self) -> Rows:
        """The rows that count and have a label.

        Raises
        ------
        InputError
            If the batch has no labels, or no row that counts has one.
        """
        labels, mask = self.labelled
        if not mask.any():
            raise InputError("No row of the batch counts and has a label: there is nothing to ask about.")
        sentence, position = mask.nonzero(as_tuple=True)
        return Rows(sentence, position, labels[mask])

    @property
    def labelled(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The labels, of a single stack the token that comes next, and which rows count and have one.

        Both are of shape (sentence, position).

        Raises
        ------
        InputError
            If the batch has no labels.
        """
        labels, mask = self.batch.labels, self.batch.mask
        if labels is None and self.row.kind == "encoder-decoder":
            raise InputError(
                "The batch has no labels, whose log-probabilities are asked about. Make it with encode(model, "
                "tokenizer, sources, targets), or with translate."
            )
        if labels is None:
            real = self.batch.attention_mask.bool()
            labels = self.batch.input_ids.roll(-1, dims=1)
            mask = mask & real & real.roll(-1, dims=1)
            mask[:, -1] = False
        return labels, mask

    @cached_property
    def places(self) -> torch.Tensor:
        """How many tokens of its sentence each row has before it, of shape (sentence, position); padding has any."""
        if self.row.kind == "encoder-decoder":
            return torch.arange(self.batch.mask.shape[1], device=self.batch.mask.device).expand_as(self.batch.mask)
        return (self.batch.attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)

    @property
    def first(self) -> torch.Tensor:
        """The position of each sentence's first token, of shape (sentence,): padding may stand in front of it."""
        if self.row.kind == "encoder-decoder":
            return torch.zeros(len(self.batch), dtype=torch.long, device=self.batch.mask.device)
        return self.batch.attention_mask.long().argmax(dim=1)

    @cached_property
    def capture(self) -> Capture:
        """One pass, with what each sublayer wrote."""
        return proven_capture(self.model, self.batch, inner=False)

    @property
    def last_layer(self) -> int:
        """The number of layers, which is that of the last state."""
        return len(self.model.base_model.get_submodule(self.row.stack.layers))  # type: ignore[arg-type]

    def parts(self, by: str, tokens: str = "grouped", sublayers: str = "grouped") -> Parts:
        """`decompose`, of the last state alone: ``vectors`` and ``states`` have one layer."""

        def make() -> Parts:
            terms, layers = stream(self.model, self.batch, by, tokens=tokens, sublayers=sublayers)
            vectors, state = deque(layers, maxlen=1).pop()
            centering = DEFAULT_CENTERING[by]
            return Parts(vectors[None], state[None], self.batch.mask, terms, by, centering)

        return self.once((by, tokens, sublayers), make)

    def once(self, key: tuple, make: Callable[[], T]) -> T:
        """What ``make`` makes, kept under ``key`` as long as the reading."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def named(self) -> Iterator[tuple[str, torch.Tensor]]:
        """All that a mean is taken of, by its name in `Means`; tensors of shape (sentence, position, dim)."""
        for by, sublayers in (("sublayer", "each"), ("token", "grouped")):
            parts = self.parts(by, sublayers=sublayers)
            yield from ((f"{by} {term}", parts.vectors[0, k]) for k, term in enumerate(parts.terms))
        for number, layer in enumerate(self.capture.main.layers, start=1):
            yield from ((f"output {sublayer.place.term}{number}", sublayer.written) for sublayer in layer)

"""What stands in the place of what is taken out: nothing, a mean, or what another sentence has there."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from addends.errors import InputError
from addends.interventions.means import Means
from addends.interventions.reading import Reading


@dataclass(frozen=True, eq=False)
class Replacement:
    """What vectors are replaced by.

    Attributes
    ----------
    reading : Reading
    replace : {"zero", "mean", "pooled", "sentence"}
        "mean" and "pooled" are the batch's own mean where there are no ``means``.
    means : Means, optional
        Of this model.
    seed : int
        For the sentences that others are given: see `derangement`.

    Examples
    --------
    >>> from addends.interventions.reading import Reading
    >>> Replacement(Reading(model, batch), "zero").of("output S1", torch.ones(1, 5, 128)).sum()
    tensor(0.)
    """

    reading: Reading = field(repr=False)
    replace: str
    means: Means | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        sentences = len(self.reading.batch)
        if self.means is None and self.replace in ("mean", "pooled") and sentences < 2:
            raise InputError(
                f"replace={self.replace!r} without means takes the batch's own mean, and the batch has one sentence. "
                "Give means=, taken over a corpus by addends.interventions.take_means, or a batch of more sentences."
            )
        if self.replace == "sentence" and sentences < 2:
            raise InputError("replace='sentence' needs another sentence, and the batch has one. Give it more.")

    def of(self, name: str, vectors: torch.Tensor) -> torch.Tensor:
        """What these vectors (sentence, position, dim), called ``name`` in `Means`, are replaced by; of their shape."""
        if self.replace == "zero":
            return torch.zeros_like(vectors)
        if self.replace == "sentence":
            return self._of_others(vectors)
        if self.means is None:
            return vectors[self.reading.batch.mask].mean(dim=0).expand_as(vectors)
        means = self.means.pooled() if self.replace == "pooled" else self.means
        return means.at(name, self.reading.places).to(vectors)

    def _of_others(self, vectors: torch.Tensor) -> torch.Tensor:
        """The vectors of each sentence's donor at the same place, or at its last row that counts if it is shorter."""
        mask, places = self.reading.batch.mask, self.reading.places
        donor = derangement(len(mask), self.seed).to(mask.device)  # (sentence,)
        last = places.masked_fill(~mask, 0).amax(dim=1)  # (sentence,)
        wanted = places.minimum(last[donor][:, None])  # (sentence, position), places of the donor
        return vectors[donor[:, None], wanted + self.reading.first[donor][:, None]]


def derangement(count: int, seed: int) -> torch.Tensor:
    """A permutation of 0, ..., count - 1 that leaves none in its place, each with the same probability.

    Examples
    --------
    >>> derangement(2, seed=0)
    tensor([1, 0])
    """
    generator = torch.Generator().manual_seed(seed)
    here = torch.arange(count)
    while True:  # one permutation of e, about, is one
        drawn = torch.randperm(count, generator=generator)
        if not (drawn == here).any():
            return drawn

"""Means: what parts and sublayer outputs are replaced by, taken once of a model over a corpus.

A token at place t (0 is a sentence's first) is given the mean over the corpus's tokens at that place, up to a number of
places, and beyond them the mean over all tokens that stand there. Means belong to the weights that they were taken
with: they keep those weights' digest, and are refused with others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from addends.checks import check_count
from addends.decomposition import Batch
from addends.decomposition.linear import fingerprint
from addends.errors import DataError, InputError
from addends.interventions.reading import Reading
from addends.provenance import content_sha256
from addends.tables import write_atomically

_DIGESTS: WeakKeyDictionary[nn.Module, tuple[tuple, str]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Means:
    """Means of one model's parts of its last states and of what its sublayers wrote.

    Attributes
    ----------
    model : str
        `weights_sha256` of the model.
    positions : int
        How many places have a mean of their own.
    sentences, tokens : int
        How many the means were taken over.
    values : mapping of str to Tensor of shape (positions + 2, dim)
        By place; then that of all tokens at later places; then that of all tokens. A row that no token stands in is the
        mean of all. The names are "sublayer S1" (the part of the last state that layer 1's cross-attention wrote),
        "token S" (the part that came from the source), "output S1" (what layer 1's cross-attention wrote).

    Examples
    --------
    >>> from addends.interventions import take_means
    >>> means = take_means(model, [batch], positions=3)
    >>> means.tokens, means.values["token S"].shape, means.at("sublayer S", torch.tensor([[0, 9]])).shape
    (5, torch.Size([5, 128]), torch.Size([1, 2, 128]))
    """

    model: str
    positions: int
    sentences: int
    tokens: int
    values: Mapping[str, torch.Tensor] = field(repr=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the contents: of the model's digest, the numbers, and all values."""
        return content_sha256({**self._facts(), "values": self.values})

    def at(self, name: str, places: torch.Tensor) -> torch.Tensor:
        """The means at these places, of shape (..., dim); of "sublayer S", the sum of those of its layers' parts."""
        rows = places.clamp(max=self.positions)
        found = [value for each, value in self.values.items() if each == name or _is_one_of(each, name)]
        if not found:
            raise InputError(f"The means have no {name!r}. They are of {sorted(self.values)}.")
        return torch.stack(found).sum(dim=0).to(places.device)[rows]

    def pooled(self) -> Means:
        """The means over all tokens alone, whatever their place."""
        pooled = {name: value[-1:].expand(2, -1).contiguous() for name, value in self.values.items()}
        return replace(self, positions=0, values=pooled)

    def check(self, model: PreTrainedModel) -> None:
        """Raise InputError unless these are means of this model: of these weights, in this type."""
        found = weights_sha256(model)
        if found != self.model:
            raise InputError(
                f"means are those of another model: they were taken with weights of the digest {self.model[:12]}, and "
                f"this model's is {found[:12]}. Take its own, take_means(model, batches), in the type it is used in."
            )

    def save(self, path: str | PathLike) -> Path:
        """Write the means to a safetensors file, atomically."""
        told = {name: json.dumps(value) for name, value in {**self._facts(), "digest": self.digest}.items()}
        values = dict(self.values)
        return write_atomically(path, lambda part: save_file(values, part, metadata=told))

    @classmethod
    def load(cls, path: str | PathLike) -> Means:
        """Read means that `save` wrote.

        Raises
        ------
        DataError
            If the file is missing, cut off, no file of means, or does not hold what was written.
        """
        try:
            with safe_open(path, framework="pt") as file:
                told = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
                values = {name: file.get_tensor(name) for name in sorted(file.keys())}
            digest = told.pop("digest")
            means = cls(**told, values=values)
        except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
            raise DataError(f"{path} cannot be read as means ({error!r}). Take them again, and save them.") from error
        if means.digest != digest:
            raise DataError(
                f"{path} does not hold the means that were written: its digest is another. Take them again."
            )
        return means

    def _facts(self) -> dict[str, str | int]:
        return {name: getattr(self, name) for name in ("model", "positions", "sentences", "tokens")}


def take_means(model: PreTrainedModel, batches: Iterable[Batch], positions: int = 20) -> Means:
    """Means over all tokens that count of a corpus, streamed: one batch is held at a time.

    Parameters
    ----------
    batches : iterable of Batch
        Such as ``batches_of(model, tokenizer, sources, targets)``.
    positions : int
        How many places have a mean of their own.

    Raises
    ------
    InputError
        If there is no batch, or none with a token that counts; and as `decompose`.
    UnsupportedModelError, ModelStateError
        As `decompose`.
    """
    check_count("positions", positions, "take_means", least=0)
    sums: dict[str, torch.Tensor] = {}
    dtypes: dict[str, torch.dtype] = {}
    count = torch.zeros(positions + 1, dtype=torch.float64)  # (place,), tokens
    sentences = 0
    for batch in batches:
        if not batch.mask.any():  # special tokens may be all that its sentences have
            continue
        reading = Reading(model, batch)
        sentences += len(batch)
        place = reading.places[batch.mask].clamp(max=positions).cpu()  # (token,)
        count.index_add_(0, place, torch.ones(len(place), dtype=torch.float64))
        for name, vectors in reading.named():
            real = vectors[batch.mask].cpu().double()  # (token, dim)
            dtypes[name] = vectors.dtype
            sums.setdefault(name, real.new_zeros(positions + 1, real.shape[1])).index_add_(0, place, real)
    if not sums:
        raise InputError("No batch has a token that counts: give take_means sentences to take the means over.")
    tokens = int(count.sum())
    values = {}
    for name, summed in sums.items():
        pooled = summed.sum(dim=0, keepdim=True) / tokens
        rows = torch.where(count[:, None] > 0, summed / count[:, None].clamp(min=1), pooled)
        values[name] = torch.cat([rows, pooled]).to(dtypes[name])
    return Means(weights_sha256(model), positions, sentences, tokens, values)


def weights_sha256(model: PreTrainedModel) -> str:
    """SHA-256 of a model's parameters and persistent buffers, its output head included, by their names and types.

    It is kept as long as no tensor has changed; a write through ``.data`` is not seen.
    """
    now = fingerprint(model)
    before, digest = _DIGESTS.get(model, (None, ""))
    if before != now:
        digest = content_sha256(model.state_dict())
        _DIGESTS[model] = (now, digest)
    return digest


def _is_one_of(name: str, group: str) -> bool:
    return name.startswith(group) and name.removeprefix(group).isdecimal()

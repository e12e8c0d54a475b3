"""Training batches: encoded pairs, the order they come in, and how a batch is padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, Sampler

from addends.errors import InputError


class Pairs(Dataset):
    """Encoded sentence pairs, each with its identifier (its number, where none are given).

    Item k is (k, source, target).

    >>> Pairs([np.array([5, 0])], [np.array([7, 9, 0])], ["fra-eng-000001"])[0]
    (0, array([5, 0]), array([7, 9, 0]))
    """

    def __init__(self, sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], ids: Sequence[str] | None = None):
        ids = [str(number) for number in range(len(sources))] if ids is None else list(ids)
        if not len(sources) == len(targets) == len(ids):
            raise InputError(
                f"{len(sources)} sources, {len(targets)} targets and {len(ids)} ids: as many of each are wanted."
            )
        self.sources, self.targets, self.ids = sources, targets, ids

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> tuple[int, np.ndarray, np.ndarray]:
        return index, self.sources[index], self.targets[index]

    def lengths(self) -> np.ndarray:
        """Tokens of the longer side of each pair, of shape (pair,)."""
        return np.array([max(len(s), len(t)) for s, t in zip(self.sources, self.targets, strict=True)])


class OrderedBatches(Sampler):
    """The training order, whole: ``steps`` batches of pairs of similar length, drawn by ``order_seed`` alone.

    >>> len(list(OrderedBatches(np.array([3, 9, 4, 8]), batch_pairs=2, steps=5, order_seed=1)))
    5

    Every pass over the corpus shuffles the pairs, cuts them into pools of ``pool`` batches, sorts each pool by length
    (so that little is padding) and shuffles the batches. Since the order does not depend on what was trained before,
    training can resume at any step.
    """

    def __init__(self, lengths: np.ndarray, batch_pairs: int, steps: int, order_seed: int, pool: int = 50):
        if len(lengths) < batch_pairs:
            raise InputError(f"{len(lengths)} pairs do not fill one batch of {batch_pairs}.")
        self.lengths, self.batch_pairs, self.steps = lengths, batch_pairs, steps
        self.order_seed, self.pool = order_seed, pool

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng(self.order_seed)
        given = 0
        while True:
            order = generator.permutation(len(self.lengths))
            batches = []
            for start in range(0, len(order), self.batch_pairs * self.pool):
                pool = order[start : start + self.batch_pairs * self.pool]
                pool = pool[np.argsort(self.lengths[pool], kind="stable")]
                batches += [pool[i : i + self.batch_pairs] for i in range(0, len(pool), self.batch_pairs)]
            for index in generator.permutation(len(batches)):
                if given == self.steps:
                    return
                given += 1
                yield batches[index].tolist()


@dataclass
class Collator:
    """Pads a batch; the decoder reads the target shifted right behind the start symbol.

    The entry ``pairs`` says which training pairs are in it: it is for the record, and not for the model.

    >>> Collator(pad=59, start=59)([(0, np.array([5, 0]), np.array([7, 9, 0]))])["decoder_input_ids"]
    tensor([[59,  7,  9]])
    """

    pad: int
    start: int
    ignored: int = field(default=-100)

    def __call__(self, pairs: list[tuple[int, np.ndarray, np.ndarray]]) -> dict[str, torch.Tensor]:
        indices, sources, targets = zip(*pairs, strict=True)
        input_ids = _stack(sources, self.pad)  # (sentence, position)
        labels = _stack(targets, self.ignored)
        decoder_input_ids = torch.full_like(labels, self.pad)
        decoder_input_ids[:, 0] = self.start
        decoder_input_ids[:, 1:] = labels[:, :-1].masked_fill(labels[:, :-1] == self.ignored, self.pad)
        # By length, not by id: the start symbol is the pad symbol, and attention masks must not hide it.
        lengths = torch.tensor([len(source) for source in sources])
        mask = torch.arange(input_ids.shape[1])[None] < lengths[:, None]
        return {
            "input_ids": input_ids,
            "attention_mask": mask.long(),
            "decoder_input_ids": decoder_input_ids,
            "labels": labels,
            "pairs": torch.tensor(indices),
        }


def _stack(rows: Sequence[np.ndarray], filler: int) -> torch.Tensor:
    tensors = [torch.from_numpy(np.asarray(row, dtype=np.int64)) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=filler)  # (sentence, position)

"""What makes a run: the recipe that a suite's runs share, and the three seeds in which they differ.

``init`` draws the initial weights, ``order`` the order of the training pairs, ``dropout`` the units dropped. Runs that
share one seed and differ in another can be told apart by what the seed governs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from addends.errors import InputError


@dataclass(frozen=True)
class Seeds:
    """The three seeds of a run."""

    init: int
    order: int
    dropout: int


@dataclass(frozen=True)
class Recipe:
    """What the runs of a suite have in common.

    ``checkpoints`` are the steps (updates) whose weights are kept, ascending; the last one is the end of training.
    """

    layers: int
    dim: int
    heads: int
    feed_forward: int
    batch_pairs: int
    checkpoints: tuple[int, ...]
    peak_learning_rate: float = 2e-3
    warmup_steps: int = 300
    dropout: float = 0.1
    label_smoothing: float = 0.1
    positions: int = 256

    def __post_init__(self) -> None:
        if list(self.checkpoints) != sorted(set(self.checkpoints)) or not self.checkpoints or self.checkpoints[0] < 1:
            raise InputError(f"checkpoints={self.checkpoints}: ascending steps, each at least 1, are wanted.")
        if self.dim % self.heads:
            raise InputError(f"dim={self.dim} is no multiple of heads={self.heads}.")

    @property
    def steps(self) -> int:
        return self.checkpoints[-1]


def log_spaced(first: int, last: int, count: int, plateau: Sequence[float] = (0.95, 0.975)) -> tuple[int, ...]:
    """About ``count`` steps from ``first`` to ``last``, evenly spaced in their logarithm, and shares of the last.

    ``plateau`` names shares of ``last`` that are always among them: neighbours of the end, by which one can see how
    much a number moves while quality does not.
    """
    spaced = np.geomspace(first, last, count).round().astype(int)
    return tuple(sorted({*spaced.tolist(), *(round(share * last) for share in plateau), last}))


def as_record(recipe: Recipe, seeds: Seeds) -> dict:
    """Recipe and seeds as one flat dictionary, to be written beside the weights."""
    return {**asdict(recipe), **{f"{name}_seed": value for name, value in asdict(seeds).items()}}

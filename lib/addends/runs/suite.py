"""A suite: runs that share a recipe, a vocabulary and the held-out sentences that they are measured on.

Its runs stand in blocks, each asking one thing: what differs between the runs of a block, and what they share.
Three seeds make a run: ``init`` draws the initial weights, ``order`` the order of the training pairs, ``dropout`` the
units dropped. Runs that share one seed and differ in another can be told apart by what the seed governs.

>>> Block("sizes", diagonal(Condition(("fra",), pairs=10_000), (31, 32)), sentence_checkpoints=(3000,)).runs[0]
Run(name='fra-10000-i31-o31', condition=Condition(languages=('fra',), pairs=10000), seeds=Seeds(init=31, order=31, dropout=31))
"""  # noqa: E501 - what Python prints

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from addends.checks import check_choice
from addends.errors import InputError

if TYPE_CHECKING:
    from transformers import MarianTokenizer

THREADS = 1
"""Threads of one training, whatever the machine has: how many add up a sum changes its last bits."""

PLATEAU = (0.95, 0.975)
_NAME = re.compile(r"[\w.+-]+")


@dataclass(frozen=True)
class Seeds:
    """The three seeds of a run.

    >>> Seeds(init=21, order=22, dropout=22)  # the start of one run, the course of another
    Seeds(init=21, order=22, dropout=22)
    """

    init: int
    order: int
    dropout: int


@dataclass(frozen=True)
class Recipe:
    """What the runs of a suite have in common.

    ``checkpoints`` are the steps (updates) whose weights are kept, ascending; the last one is the end of training.

    >>> Recipe(layers=2, dim=64, heads=4, feed_forward=256, batch_pairs=64, checkpoints=(60, 1000)).steps
    1000
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


@dataclass(frozen=True)
class Condition:
    """What a run is trained on: its source languages, and how many pairs of them (None: all there are).

    >>> Condition(("fra", "deu"), pairs=10_000).name
    'fra+deu-10000'
    """

    languages: tuple[str, ...]
    pairs: int | None = None

    @property
    def name(self) -> str:
        languages = "+".join(self.languages)
        return languages if self.pairs is None else f"{languages}-{self.pairs}"


@dataclass(frozen=True)
class Run:
    """One run of a suite: its name, its condition, and its seeds.

    >>> Run("fra-i1-o1", Condition(("fra",)), Seeds(1, 1, 1)).seeds.init
    1
    """

    name: str
    condition: Condition
    seeds: Seeds

    def __post_init__(self) -> None:
        _refuse_name("run", self.name)


@dataclass(frozen=True)
class Block:
    """Runs that belong together.

    >>> runs = diagonal(Condition(("fra",)), (1, 2, 3))
    >>> [run.name for run in Block("independent", runs, sentence_checkpoints=(3000,)).runs]
    ['fra-i1-o1', 'fra-i2-o2', 'fra-i3-o3']

    Attributes
    ----------
    name : str
    runs : tuple of Run
    sentence_checkpoints : tuple of int
        The steps at which single sentences are measured; at the recipe's others only corpus means are kept.
    own_checkpoints : tuple of int
        Those of them at which the model's own output is measured sentence by sentence too, beside the reference.
    """

    name: str
    runs: tuple[Run, ...]
    sentence_checkpoints: tuple[int, ...]
    own_checkpoints: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _refuse_name("block", self.name)
        strangers = sorted(set(self.own_checkpoints) - set(self.sentence_checkpoints))
        if strangers:
            raise InputError(
                f"block={self.name!r}: own_checkpoints={self.own_checkpoints} names {strangers}, which are not among "
                f"sentence_checkpoints={self.sentence_checkpoints}."
            )


@dataclass(frozen=True)
class Suite:
    """What is to be run, and where its sentences come from.

    >>> from addends.runs import SUITES
    >>> SUITES["toy"].run("ora-i1-o1").condition
    Condition(languages=('ora',), pairs=None)

    Attributes
    ----------
    name : str
        Also the folder of its tables.
    recipe : Recipe
    blocks : tuple of Block
        In the order in which their runs are trained.
    keep_states : tuple of int
        The steps, 0 among them or not, that keep what training again from there needs.
    own_tokens : int
        The longest translation, in tokens: an early checkpoint may never end one.
    held_out : function of no argument
        Gives the evaluation sentences, a frame with the columns sentence, language, source, target.
    pairs : function of a run
        Gives its training pairs, a frame with the same columns, disjoint from the evaluation sentences.
    tokenizer : function of a folder
        Loads the suite's tokenizer from there, or trains it and saves it there.
    further : function of no argument, or None
        Gives further sentences, which serve quality alone.
    further_checkpoints : tuple of int
        The steps at which these are translated.
    """

    name: str
    recipe: Recipe
    blocks: tuple[Block, ...]
    keep_states: tuple[int, ...]
    own_tokens: int
    held_out: Callable[[], pd.DataFrame]
    pairs: Callable[[Run], pd.DataFrame]
    tokenizer: Callable[[Path], MarianTokenizer]
    further: Callable[[], pd.DataFrame] | None = None
    further_checkpoints: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        steps = {f"sentence_checkpoints of {block.name!r}": block.sentence_checkpoints for block in self.blocks}
        steps |= {"keep_states": tuple(set(self.keep_states) - {0}), "further_checkpoints": self.further_checkpoints}
        for name, given in steps.items():
            strangers = sorted(set(given) - set(self.recipe.checkpoints))
            if strangers:
                raise InputError(
                    f"{name}={given}: {strangers} are no checkpoints of the recipe, which has "
                    f"{self.recipe.checkpoints}."
                )
        if not 0 < self.own_tokens < self.recipe.positions:
            raise InputError(
                f"own_tokens={self.own_tokens}: between 1 and {self.recipe.positions - 1} are possible with the "
                f"recipe's positions={self.recipe.positions}."
            )
        for what, names in (("run", [run.name for run in self.runs]), ("block", [b.name for b in self.blocks])):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise InputError(f"Two {what}s of the suite {self.name!r} share a name: {twice}.")

    @property
    def runs(self) -> tuple[Run, ...]:
        return tuple(run for block in self.blocks for run in block.runs)

    def run(self, name: str) -> Run:
        """The run of that name.

        Raises
        ------
        InputError
            If there is none.
        """
        runs = {run.name: run for run in self.runs}
        check_choice("run", name, list(runs), f"The suite {self.name!r}")
        return runs[name]

    def block_of(self, run: Run) -> Block:
        """The block that a run of this suite stands in."""
        return next(block for block in self.blocks if run in block.runs)


def diagonal(condition: Condition, seeds: Iterable[int]) -> tuple[Run, ...]:
    """One run a seed, which is the seed of initial weights, order and dropout alike: runs that share none."""
    return tuple(_run(condition, Seeds(seed, seed, seed)) for seed in seeds)


def crossed(condition: Condition, starts: Iterable[int], courses: Iterable[int]) -> tuple[Run, ...]:
    """A run for each start (seed of the initial weights) and course (one seed of both order and dropout)."""
    courses = tuple(courses)
    return tuple(_run(condition, Seeds(start, course, course)) for start in starts for course in courses)


def with_other_masks(runs: Iterable[Run], dropout_seeds: Iterable[int]) -> tuple[Run, ...]:
    """The same runs, start and order alike, with other dropout masks."""
    return tuple(
        _run(run.condition, Seeds(run.seeds.init, run.seeds.order, dropout))
        for run, dropout in zip(runs, dropout_seeds, strict=True)
    )


def log_spaced(first: int, last: int, count: int) -> tuple[int, ...]:
    """About ``count`` steps from ``first`` to ``last``, evenly spaced in their logarithm, and shares of the last.

    The shares `PLATEAU` are neighbours of the end: between them a number may move while quality does not.
    """
    spaced = np.geomspace(first, last, count).round().astype(int)
    return tuple(sorted({*spaced.tolist(), *(round(share * last) for share in PLATEAU), last}))


def as_record(recipe: Recipe, seeds: Seeds) -> dict:
    """Recipe and seeds as one flat dictionary, to be written beside the weights."""
    return {**asdict(recipe), **{f"{name}_seed": value for name, value in asdict(seeds).items()}}


def _run(condition: Condition, seeds: Seeds) -> Run:
    masks = "" if seeds.dropout == seeds.order else f"-d{seeds.dropout}"
    return Run(f"{condition.name}-i{seeds.init}-o{seeds.order}{masks}", condition, seeds)


def _refuse_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise InputError(f"{what}={name!r}: a name of letters, digits and . + - _ is wanted, for files bear it.")

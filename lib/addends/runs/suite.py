"""A suite: runs that share a recipe, a vocabulary and the held-out sentences that they are measured on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from addends.errors import InputError
from addends.runs.recipe import Recipe, Seeds

if TYPE_CHECKING:
    from transformers import MarianTokenizer


@dataclass(frozen=True)
class Run:
    """One run of a suite: its name, the condition (which names its source languages), and its seeds."""

    name: str
    condition: str
    languages: tuple[str, ...]
    seeds: Seeds


@dataclass(frozen=True)
class Suite:
    """What is to be run, and where its sentences come from.

    Attributes
    ----------
    name : str
        Also the folder of its tables.
    recipe : Recipe
    runs : tuple of Run
    sentence_checkpoints : tuple of int
        The steps at which single sentences are measured; at the recipe's others only corpus means are kept.
    own_tokens : int
        The longest translation, in tokens: an early checkpoint may never end one.
    held_out : function of no argument
        Gives the evaluation sentences, a frame with the columns sentence, language, source, target.
    pairs : function of a run
        Gives its training pairs, a frame with the same columns, disjoint from the evaluation sentences.
    tokenizer : function of a folder
        Loads the suite's tokenizer from there, or trains it and saves it there.
    """

    name: str
    recipe: Recipe
    runs: tuple[Run, ...]
    sentence_checkpoints: tuple[int, ...]
    own_tokens: int
    held_out: Callable[[], pd.DataFrame]
    pairs: Callable[[Run], pd.DataFrame]
    tokenizer: Callable[[Path], MarianTokenizer]

    def __post_init__(self) -> None:
        strangers = set(self.sentence_checkpoints) - set(self.recipe.checkpoints)
        if strangers:
            raise InputError(
                f"sentence_checkpoints={self.sentence_checkpoints}: {sorted(strangers)} are no checkpoints of the "
                f"recipe, which has {self.recipe.checkpoints}."
            )
        if not 0 < self.own_tokens < self.recipe.positions:
            raise InputError(
                f"own_tokens={self.own_tokens}: between 1 and {self.recipe.positions - 1} are possible with the "
                f"recipe's positions={self.recipe.positions}."
            )
        if len({run.name for run in self.runs}) < len(self.runs):
            raise InputError(f"Two runs of the suite {self.name!r} share a name.")

    def run(self, name: str) -> Run:
        """The run of that name.

        Raises
        ------
        InputError
            If there is none.
        """
        for run in self.runs:
            if run.name == name:
                return run
        raise InputError(f"run={name!r} is not one of {[run.name for run in self.runs]} of the suite {self.name!r}.")

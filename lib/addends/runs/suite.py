"""A suite: runs that share a recipe, a vocabulary and the held-out sentences that they are measured on.

A suite is plain data: it is read from a file (`addends.runs.suite_file`), can be compared, hashed and sent to another
process. What its sentences are, `addends.runs.sentences` finds out.

Its runs stand in blocks, each asking one thing: what differs between the runs of a block, and what they share.
Three seeds make a run: ``init`` draws the initial weights, ``order`` the order of the training pairs, ``dropout`` the
units dropped. Runs that share one seed and differ in another can be told apart by what the seed governs.

>>> Block("sizes", diagonal(Condition(("fra",), pairs=10_000), (31, 32)), sentence_checkpoints=(3000,)).runs[0]
Run(name='fra-10000-i31-o31', condition=Condition(languages=('fra',), pairs=10000), seeds=Seeds(init=31, order=31, dropout=31))
"""  # noqa: E501 - what Python prints

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from addends.checks import check_choice
from addends.errors import InputError

THREADS = 1
"""Threads of one training, whatever the machine has: how many add up a sum changes its last bits."""

PLATEAU = (0.95, 0.975)
UNKNOWN: Any = None
"""The recipe, the seeds and the vocabulary of an existing model. Whatever trains asks for them only where they are."""

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
    label: str | None = field(default=None, repr=False)
    """What an existing model was trained on, in its owner's word: nothing else is known of it."""

    @property
    def name(self) -> str:
        if self.label is not None:
            return self.label
        languages = "+".join(self.languages)
        return languages if self.pairs is None else f"{languages}-{self.pairs}"


@dataclass(frozen=True)
class Run:
    """One run of a suite: its name, its condition, and its seeds (`UNKNOWN` where the run is an existing model).

    >>> Run("fra-i1-o1", Condition(("fra",)), Seeds(1, 1, 1)).seeds.init
    1
    """

    name: str
    condition: Condition
    seeds: Seeds = UNKNOWN

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
class CorpusFile:
    """One corpus on disk: a tab-separated file, or two parallel ones ("moses" format).

    >>> CorpusFile("$ADDENDS_DATA/corpora/train/fra-eng.tsv").target is None
    True

    Attributes
    ----------
    source, target : str
        Paths: absolute, or relative to the folder that ADDENDS_DATA names (``$ADDENDS_DATA/...``). ``target`` is None
        where ``source`` has both sides of each pair in one line.
    asked_by : str
        Who names it (file, line, key), for the error's sake.
    """

    source: str
    target: str | None = None
    asked_by: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True)
class MadeUpCorpus:
    """Pairs of made-up languages (`addends.runs.toy`), as many of each language: nothing has to be downloaded.

    >>> MadeUpCorpus(("ora",), pairs=20_000, seed=2023).languages
    ('ora',)
    """

    languages: tuple[str, ...]
    pairs: int
    seed: int


@dataclass(frozen=True)
class FileCorpus:
    """Pairs from files: of each source language one corpus.

    >>> FileCorpus((("fra", CorpusFile("fra-eng.tsv")), ("deu", CorpusFile("deu-eng.tsv")))).languages
    ('fra', 'deu')
    """

    train: tuple[tuple[str, CorpusFile], ...]

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(language for language, _ in self.train)


@dataclass(frozen=True)
class Sample:
    """Sentences that are drawn once and never trained on.

    >>> Sample("fra", 300, seed=2023, file=CorpusFile("fra-eng.tsv")).sentences
    300

    Attributes
    ----------
    language : str
        Of the source side.
    sentences : int
        How many.
    seed : int or None
        Draws them from the file. None with a made-up corpus, whose own seed decides.
    file : CorpusFile or None
        What they are drawn from. None with a made-up corpus.
    """

    language: str
    sentences: int
    seed: int | None = None
    file: CorpusFile | None = None


@dataclass(frozen=True)
class Vocabulary:
    """One vocabulary for all languages of a suite; `addends.runs.vocabulary.train` says what the numbers mean.

    >>> Vocabulary(pieces=5000).byte_fallback
    True
    """

    pieces: int
    coverage: float = 0.995
    byte_fallback: bool = True


@dataclass(frozen=True)
class ExistingModel:
    """One checkpoint of a run that was trained elsewhere: a name on the Hub with a revision, or a folder.

    >>> ExistingModel("opus", step=0, model="Helsinki-NLP/opus-mt-fr-en", revision="main").step
    0
    """

    run: str
    step: int
    model: str | Path
    revision: str | None = None


@dataclass(frozen=True)
class Suite:
    """What is to be run, and where its sentences come from.

    >>> from addends.runs import read_suite
    >>> read_suite("toy").run("ora-i1-o1").condition
    Condition(languages=('ora',), pairs=None)

    Attributes
    ----------
    name : str
        Also the folder of its tables.
    blocks : tuple of Block
        In the order in which their runs are trained.
    own_tokens : int
        The longest translation, in tokens: an early checkpoint may never end one.
    held_out : Sample
        The sentences that everything is measured on.
    corpus : MadeUpCorpus, FileCorpus or None
        The training pairs.
    recipe, vocabulary : Recipe, Vocabulary
        `UNKNOWN` where the models exist.
    keep_states : tuple of int
        The steps, 0 among them or not, that keep what training again from there needs.
    further : Sample or None
        Further sentences, which serve quality alone.
    further_checkpoints : tuple of int
        The steps at which these are translated.
    models : tuple of ExistingModel
        The checkpoints that are measured instead of trained; empty where the suite is trained.
    """

    name: str
    blocks: tuple[Block, ...]
    own_tokens: int
    held_out: Sample
    corpus: MadeUpCorpus | FileCorpus | None
    recipe: Recipe = UNKNOWN
    vocabulary: Vocabulary = UNKNOWN
    keep_states: tuple[int, ...] = ()
    further: Sample | None = None
    further_checkpoints: tuple[int, ...] = ()
    models: tuple[ExistingModel, ...] = ()

    def __post_init__(self) -> None:
        _refuse_name("suite", self.name)
        if bool(self.models) == bool(self.recipe) or bool(self.models) == bool(self.vocabulary):
            raise InputError(
                f"The suite {self.name!r}: either recipe and vocabulary are given, and it is trained, or models are."
            )
        known = self.recipe.checkpoints if self.recipe else sorted({model.step for model in self.models})
        steps = {f"sentence_checkpoints of {block.name!r}": block.sentence_checkpoints for block in self.blocks}
        steps |= {"keep_states": tuple(set(self.keep_states) - {0}), "further_checkpoints": self.further_checkpoints}
        for name, given in steps.items():
            strangers = sorted(set(given) - set(known))
            if strangers:
                whose = "the recipe, which has" if self.recipe else "the models, which have"
                raise InputError(f"{name}={given}: {strangers} are no checkpoints of {whose} {known}.")
        if self.own_tokens < 1 or (self.recipe and self.own_tokens >= self.recipe.positions):
            most = f"between 1 and {self.recipe.positions - 1}" if self.recipe else "1 or more"
            why = f" with the recipe's positions={self.recipe.positions}" if self.recipe else ""
            raise InputError(f"own_tokens={self.own_tokens}: {most} are possible{why}.")
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

    def checkpoints_of(self, run: Run) -> tuple[int, ...]:
        """The steps at which a run is measured, ascending: the recipe's, or those that its existing models have."""
        if self.recipe:
            return self.recipe.checkpoints
        return tuple(sorted(model.step for model in self.models if model.run == run.name))

    def source_of(self, run: Run, step: int, work: Path) -> tuple[str | Path, str | None]:
        """What `addends.load` loads for a run's checkpoint, and its revision on the Hub (None: there is none).

        Raises
        ------
        InputError
            If the run has no such checkpoint.
        """
        allowed = ((0,) if self.recipe else ()) + self.checkpoints_of(run)
        check_choice("step", step, allowed, f"The run {run.name!r} of the suite {self.name!r}")
        for model in self.models:
            if (model.run, model.step) == (run.name, step):
                return model.model, model.revision
        return work / self.name / run.name / f"checkpoint-{step}", None


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

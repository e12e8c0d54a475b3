"""Reading a suite from its file. Every error names the file, the line and the key, and all are said at once.

The files that are shipped, ``addends/runs/suites/*.yaml``, are written to be copied and changed; the page "Your own
runs" says what each key means.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from addends.checks import listed
from addends.errors import InputError
from addends.runs.corpora import VARIABLE, data_folder
from addends.runs.suite import (
    Block,
    Condition,
    CorpusFile,
    ExistingModel,
    FileCorpus,
    MadeUpCorpus,
    Recipe,
    Run,
    Sample,
    Suite,
    Vocabulary,
    crossed,
    diagonal,
    log_spaced,
    with_other_masks,
)
from addends.runs.suite_schema import (
    CheckpointsSection,
    FileSection,
    FilesSection,
    FurtherSection,
    MadeUpSection,
    MeasuredSection,
    ModelSection,
    ModelsSuite,
    RunsSection,
    SampleSection,
    TrainedSuite,
    faults,
)
from addends.yaml_lines import Faults, Place, read_yaml

FOLDER = Path(__file__).parent / "suites"
SUITES = tuple(sorted(file.stem for file in FOLDER.glob("*.yaml")))
"""The names of the suites that are shipped."""

_NUMBER = re.compile(r"[0-9]+")
_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")

_Corpus = MadeUpCorpus | FileCorpus | None


def read_suite(name_or_path: str | PathLike) -> Suite:
    """A suite: one that is shipped, by its name, or one of the user's own, by the path of its YAML file.

    Where models exist already (``models:``), a pattern over their folders is followed here: what it finds is the suite.

    >>> read_suite("toy_factorial").runs[-1].name
    'ora-i5-o5-d105'

    Raises
    ------
    InputError
        If it is neither, or the file breaks the schema: an unknown or doubled key, a value of the wrong type, a seed
        given twice, a language without data, a file or folder that is missing, a step that is no checkpoint. The
        message names file, line, key, what was given and what is allowed. Corpora under ``$ADDENDS_DATA`` are looked
        for when they are read.
    DataError
        If the file cannot be read.
    """
    name = str(name_or_path)
    if name in SUITES:
        return _Reader(FOLDER / f"{name}.yaml").suite()
    path = Path(name_or_path)
    if not path.is_file() and path.suffix not in (".yaml", ".yml"):
        raise InputError(
            f"SUITE={name!r} is not one of {list(SUITES)}, and no file. Name one of these, or a suite's YAML file."
        )
    return _Reader(path).suite()


class _Reader:
    """One file on its way to a suite. Each method makes one part, and notes what is wrong with it."""

    def __init__(self, path: Path):
        self.path, self.folder = path, path.absolute().parent
        self.data, lines = read_yaml(path, "Copy a suite that is shipped, and change it.")
        self.wrong = Faults(path, lines)

    def suite(self) -> Suite:
        schema = ModelsSuite if isinstance(self.data, dict) and "models" in self.data else TrainedSuite
        try:
            said = schema.model_validate(self.data)
        except ValidationError as error:
            for place, words in faults(error, schema):
                self.wrong.add(place, words)
            self.wrong.refuse()
            raise
        return self.existing(said) if isinstance(said, ModelsSuite) else self.trained(said)

    def trained(self, said: TrainedSuite) -> Suite:
        steps = self.checkpoints(said.checkpoints)
        corpus = self.corpus(said.corpus)
        recipe = self.wrong.made(("recipe",), lambda: Recipe(**said.recipe.model_dump(), checkpoints=steps))
        if recipe and said.own_tokens >= recipe.positions:
            most = recipe.positions - 1
            self.wrong.add(
                ("own_tokens",), f"given is {said.own_tokens}; at most {most} are possible with positions: {most + 1}"
            )
        self.check_steps(("keep_states",), said.keep_states, (0, *steps))
        if said.further and said.further.checkpoints is None:
            self.wrong.add(("further",), "the key 'checkpoints' is missing: the steps at which these are translated")
        return self.whole(
            said,
            steps,
            corpus,
            blocks=self.blocks(said, corpus, steps),
            recipe=recipe,
            vocabulary=Vocabulary(**said.vocabulary.model_dump()),
            keep_states=tuple(said.keep_states),
        )

    def existing(self, said: ModelsSuite) -> Suite:
        runs: dict[str, tuple[str, Run]] = {}  # by name: its block, and the run
        models: dict[tuple[str, int], ExistingModel] = {}
        for number, section in enumerate(said.models):
            place = ("models", number)
            condition = Condition((said.held_out.language,), label=section.condition)
            run = self.wrong.made((*place, "run"), Run, section.run, condition)
            if run and runs.setdefault(run.name, (section.block, run)) != (section.block, run):
                self.wrong.add(place, f"the run {run.name!r} stands above in another block, or under another condition")
            for model in self.models(place, section):
                other = models.setdefault((model.run, model.step), model)
                if other is not model:
                    self.wrong.add(
                        place,
                        f"step {model.step} of the run {model.run!r} is given twice, as {str(other.model)!r} and as "
                        f"{str(model.model)!r}. Each model of a run has a step: of its own",
                    )
        self.wrong.refuse()
        blocks = tuple(dict.fromkeys(block for block, _ in runs.values()))
        for name in said.blocks:
            if name not in blocks:
                self.wrong.add(("blocks", name), f"no model stands in this block. Theirs are {list(blocks)}")
        made = [
            self.block_of_models(name, said, [run for block, run in runs.values() if block == name], tuple(models))
            for name in blocks
        ]
        steps = sorted({step for _, step in models})
        corpus = self.corpus(said.corpus) if said.corpus else None
        return self.whole(said, steps, corpus, blocks=tuple(made), models=tuple(models.values()))

    def whole(
        self, said: TrainedSuite | ModelsSuite, steps: Sequence[int], corpus: _Corpus, blocks: tuple, **parts: Any
    ) -> Suite:
        """The suite: what both kinds have, and the parts of one of them."""
        language, further = said.held_out.language, said.further
        chosen = [] if further is None else steps if further.checkpoints is None else further.checkpoints
        self.check_steps(("further", "checkpoints"), chosen, steps)
        parts |= {
            "held_out": self.sample("held_out", said.held_out, language, corpus),
            "further": self.sample("further", further, language, corpus) if further else None,
            "further_checkpoints": tuple(chosen),
            "corpus": corpus,
            "own_tokens": said.own_tokens,
            "blocks": blocks,
        }
        self.wrong.refuse()
        suite = self.wrong.made(("name",) if said.name else (), lambda: Suite(said.name or self.path.stem, **parts))
        self.wrong.refuse()
        assert suite is not None
        return suite

    # --- sentences ---

    def corpus(self, said: MadeUpSection | FilesSection) -> MadeUpCorpus | FileCorpus:
        if isinstance(said, MadeUpSection):
            self.check_distinct(("corpus", "languages"), said.languages, "language")
            return MadeUpCorpus(tuple(said.languages), said.pairs, said.seed)
        files = {code: self.file(("corpus", "train", code), file) for code, file in said.train.items()}
        return FileCorpus(tuple(files.items()))

    def file(self, place: Place, said: FileSection) -> CorpusFile:
        paths = {side: self.corpus_path(place, path) for side, path in said if path is not None}
        return CorpusFile(**paths, asked_by=f"{self.path}, {self.wrong.where(place)[1]}")

    def corpus_path(self, place: Place, given: str) -> str:
        """A path as the suite keeps it. What is in the data folder is looked up later: tables are read without it."""
        if given.startswith(VARIABLE):
            return given
        path = self.folder / Path(given).expanduser()
        if not path.is_file():
            self.wrong.add(
                place,
                f"there is no file {given!r}, looked for as {path}. A path is absolute, relative to the folder of this "
                f"file, or begins with {VARIABLE}",
            )
        return str(path)

    def sample(self, key: str, said: SampleSection | FurtherSection, language: str, corpus: _Corpus) -> Sample:
        """Held-out or further sentences: of a made-up language, whose own seed decides, or drawn from a file."""
        if isinstance(corpus, MadeUpCorpus):
            for name in ("file", "seed"):
                if getattr(said, name) is not None:
                    self.wrong.add(
                        (key, name), "sentences of a made-up corpus are drawn by its seed: leave this key out"
                    )
            self.check_language(("held_out", "language"), language, corpus)
            return Sample(language, said.sentences)
        for name in ("file", "seed"):
            if getattr(said, name) is None:
                self.wrong.add((key,), f"the key {name!r} is missing")
        return Sample(language, said.sentences, said.seed, self.file((key, "file"), said.file) if said.file else None)

    # --- runs that are trained ---

    def checkpoints(self, said: CheckpointsSection) -> tuple[int, ...]:
        if said.steps is None:
            if not said.first < said.last:
                self.wrong.add(("checkpoints",), f"first is {said.first}, last is {said.last}; first < last is wanted")
            return log_spaced(said.first, said.last, said.count)
        ascending = tuple(sorted(set(said.steps)))
        if list(ascending) != said.steps:
            self.wrong.add(("checkpoints",), f"given are {said.steps}; each step once and ascending is wanted")
        return ascending

    def blocks(self, said: TrainedSuite, corpus: MadeUpCorpus | FileCorpus, steps: Sequence[int]) -> tuple[Block, ...]:
        blocks: list[Block] = []
        above: dict[str, Run] = {}
        for name, section in said.blocks.items():
            runs: list[Run] = []
            for number, group in enumerate(section.runs):
                place: Place = ("blocks", name, "runs", number)
                for run in self.runs(place, group, corpus, above):
                    if run.name in above:
                        self.wrong.add(place, f"the run {run.name!r} stands above already, with the same seeds")
                    above[run.name] = run
                    runs.append(run)
            block = self.block(name, runs, section.sentence_checkpoints, section.own_checkpoints, steps)
            blocks += [block] if block else []
        return tuple(blocks)

    def runs(
        self, place: Place, said: RunsSection, corpus: MadeUpCorpus | FileCorpus, above: dict[str, Run]
    ) -> list[Run]:
        """The runs of one entry: size after size, start after start, course after course."""
        if said.other_masks is not None:
            for name in said.other_masks:
                if name not in above:
                    self.wrong.add((*place, "other_masks", name), f"no run above has this name. Above: {listed(above)}")
            chosen = [above[name] for name in said.other_masks if name in above]
            return list(with_other_masks(chosen, [said.other_masks[run.name] for run in chosen]))
        languages = said.languages or []
        for number, language in enumerate(languages):
            self.check_language((*place, "languages", number), language, corpus)
        distinct = self.check_distinct((*place, "languages"), languages, "language")
        sizes = said.pairs or ["all"]
        distinct &= self.check_distinct((*place, "pairs"), sizes, "size")
        conditions = [Condition(tuple(languages), None if size == "all" else size) for size in sizes]
        if said.factorial:
            starts, courses = said.factorial.starts, said.factorial.courses
            distinct &= self.check_distinct((*place, "factorial", "starts"), starts, "seed")
            distinct &= self.check_distinct((*place, "factorial", "courses"), courses, "seed")
            return [run for one in conditions for run in crossed(one, starts, courses)] if distinct else []
        distinct &= self.check_distinct((*place, "seeds"), said.seeds or [], "seed")
        return [run for one in conditions for run in diagonal(one, said.seeds or [])] if distinct else []

    def block(
        self, name: str, runs: Sequence[Run], sentences: Sequence[int], own: Sequence[int], steps: Sequence[int]
    ) -> Block | None:
        place: Place = ("blocks", name)
        self.check_steps((*place, "sentence_checkpoints"), sentences, steps)
        self.check_distinct((*place, "own_checkpoints"), own, "step")
        strangers = [(number, step) for number, step in enumerate(own) if step not in sentences]
        for number, step in strangers:
            self.wrong.add(
                (*place, "own_checkpoints", number),
                f"given is {step}, which is not among the block's sentence_checkpoints, {list(sentences)}: the model's "
                "own output is measured beside the reference",
            )
        return None if strangers else self.wrong.made(place, Block, name, tuple(runs), tuple(sentences), tuple(own))

    # --- models that exist ---

    def models(self, place: Place, said: ModelSection) -> list[ExistingModel]:
        """What one entry names: a model, or every folder that its pattern finds, with the step in its name."""
        if said.pattern is None:
            return [ExistingModel(said.run, said.step or 0, self.model(place, said), said.revision)]
        found = [Path(path) for path in glob.glob(self.pattern(said.pattern))]
        folders = sorted(path for path in found if path.is_dir())
        place = (*place, "pattern")
        if not folders:
            self.wrong.add(place, f"{said.pattern!r} finds no folder. It is relative to the folder of this file")
        models = []
        for folder in folders:
            numbers = _NUMBER.findall(folder.name)
            if numbers:
                models.append(ExistingModel(said.run, int(numbers[-1]), folder))
            else:
                self.wrong.add(place, f"it finds {str(folder)!r}, in whose name there is no number for the step")
        return sorted(models, key=lambda model: model.step)

    def model(self, place: Place, said: ModelSection) -> str | Path:
        """A folder, or else a name on the Hub."""
        given = said.model or ""
        folder = self.folder / self.with_data_folder(given)
        if folder.is_dir():
            if said.revision is not None:
                self.wrong.add(
                    (*place, "revision"), f"{given!r} is a folder, which has no revisions: leave this key out"
                )
            return folder
        if not _HUB_NAME.fullmatch(given):
            self.wrong.add((*place, "model"), f"there is no folder {given!r}, and no name on the Hub reads like this")
        return given

    def with_data_folder(self, given: str) -> Path:
        return data_folder() / given.removeprefix(VARIABLE) if given.startswith(VARIABLE) else Path(given).expanduser()

    def pattern(self, given: str) -> str:
        """A pattern over folders, absolute: what it is relative to is taken as it reads ("runs [old]"), not as one."""
        if given.startswith(VARIABLE):
            return os.path.join(glob.escape(str(data_folder())), given.removeprefix(VARIABLE))
        return os.path.join(glob.escape(str(self.folder)), os.path.expanduser(given))

    def block_of_models(
        self, name: str, said: ModelsSuite, runs: Sequence[Run], models: Sequence[tuple[str, int]]
    ) -> Block | None:
        """Unless the file says else, every step is measured by sentence, and each run's last on its own output too."""
        steps = {run.name: sorted(step for owner, step in models if owner == run.name) for run in runs}
        every = sorted({step for own in steps.values() for step in own})
        section = said.blocks.get(name, MeasuredSection())
        sentences = every if section.sentence_checkpoints is None else section.sentence_checkpoints
        for run, own_steps in steps.items():
            if not set(own_steps) & set(sentences):
                self.wrong.add(
                    ("blocks", name, "sentence_checkpoints"),
                    f"given are {list(sentences)}, at none of which the run {run!r} has a model; it has {own_steps}",
                )
        own = section.own_checkpoints
        if own is None:
            own = sorted({run_steps[-1] for run_steps in steps.values()} & set(sentences))
        return self.block(name, runs, sentences, own, every)

    # --- what one key means for another ---

    def check_steps(self, place: Place, given: Sequence[int], allowed: Sequence[int]) -> None:
        for number, step in enumerate(given):
            if step not in allowed:
                self.wrong.add((*place, number), f"given is {step}, which is no checkpoint. Allowed: {list(allowed)}")
        self.check_distinct(place, given, "step")

    def check_distinct(self, place: Place, given: Sequence, what: str) -> bool:
        twice = [number for number, value in enumerate(given) if value in given[:number]]
        for number in twice:
            self.wrong.add((*place, number), f"the {what} {given[number]!r} is given twice; once is allowed")
        return not twice

    def check_language(self, place: Place, language: str, corpus: MadeUpCorpus | FileCorpus) -> None:
        if language not in corpus.languages:
            self.wrong.add(
                place, f"given is {language!r}, of which the corpus has no data. Allowed: {', '.join(corpus.languages)}"
            )

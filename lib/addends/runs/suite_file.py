"""Reading a suite from its file. Every error names the file, the line and the key, and all are said at once.

The files that are shipped, ``addends/runs/suites/*.yaml``, are written to be copied and changed; the page "Your own
runs" says what each key means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from addends.checks import listed
from addends.errors import InputError
from addends.runs.corpora import VARIABLE
from addends.runs.suite import (
    Block,
    Condition,
    CorpusFile,
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
    BlockSection,
    FileSection,
    FilesSection,
    FurtherSection,
    MadeUpSection,
    ModelsSuite,
    RunsSection,
    SampleSection,
    TrainedSuite,
    faults,
)
from addends.runs.yaml_lines import Place, read_yaml

FOLDER = Path(__file__).parent / "suites"
SUITES = tuple(sorted(file.stem for file in FOLDER.glob("*.yaml")))
"""The names of the suites that are shipped."""

_NUMBER = re.compile(r"[0-9]+")
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def read_suite(name_or_path: str | PathLike) -> Suite:
    """A suite: one that is shipped, by its name, or one of the user's own, by the path of its YAML file.

    Where models exist already (``models:``), a pattern over their folders is followed here: what it finds is the suite.

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
    """One file on its way to a suite: what it says, on which lines, and what was found wrong with it."""

    def __init__(self, path: Path):
        self.path, self.folder = path, path.absolute().parent
        self.data, self.lines = read_yaml(path)
        self.wrong: list[tuple[int, str]] = []

    def suite(self) -> Suite:
        schema = ModelsSuite if isinstance(self.data, dict) and "models" in self.data else TrainedSuite
        try:
            said: Any = schema.model_validate(self.data)
        except ValidationError as error:
            for place, words in faults(error, schema):
                self.fault(place, words)
            self.refuse_faults()
        return self.trained(said)

    def fault(self, place: Place, words: str) -> None:
        """Note that something is wrong at a place in the file."""
        known = self.known(place)
        key = ".".join(f"[{part}]" if isinstance(part, int) else part for part in (known or ())).replace(".[", "[")
        lost = [str(part) for part in place if part not in known]
        if words == "this key is missing":
            key = f"{key}.{lost[-1]}" if key else lost[-1]
        where = f"line {self.lines[known]}" + (f", {key}" if key else "")
        self.wrong.append((self.lines[known], f"{where}: {words}"))

    def known(self, place: Place) -> Place:
        """The place without those parts that the schema adds, and that stand nowhere in the file."""
        found: Place = ()
        for part in place:
            if (*found, part) in self.lines:
                found = (*found, part)
        return found

    def refuse_faults(self) -> None:
        if not self.wrong:
            return
        lines = [words for _, words in sorted(self.wrong, key=lambda one: one[0])]
        if len(lines) == 1:
            raise InputError(f"{self.path}, {lines[0].rstrip('.')}.")
        listed = "".join(f"\n  {line.rstrip('.')}." for line in lines)
        raise InputError(f"{self.path}: {len(lines)} things are wrong.{listed}")

    def made(self, place: Place, make: Callable[[], Any]) -> Any:
        """What ``make`` gives; its complaint is noted, and None returned."""
        try:
            return make()
        except InputError as error:
            self.fault(place, str(error))
            return None

    # --- the suite ---

    def trained(self, said: TrainedSuite) -> Suite:
        steps = said.checkpoints
        given = tuple(steps.steps) if steps.steps else log_spaced(steps.first, steps.last, steps.count)
        ascending = tuple(sorted(set(given)))
        if given != ascending:
            self.fault(("checkpoints",), f"given are {list(given)}; each step once and ascending is wanted")
        recipe = self.made(("recipe",), lambda: Recipe(**said.recipe.model_dump(), checkpoints=ascending))
        corpus = self.corpus(said.corpus)
        blocks = self.blocks(said, corpus, ascending)
        self.check_steps(("keep_states",), said.keep_states, (0, *ascending))
        if recipe and said.own_tokens >= recipe.positions:
            self.fault(
                ("own_tokens",),
                f"given is {said.own_tokens}; between 1 and {recipe.positions - 1} are possible with the recipe's "
                f"positions: {recipe.positions}",
            )
        language = said.held_out.language
        if said.further and said.further.checkpoints is None:
            self.fault(("further", "checkpoints"), "this key is missing")
        further_checkpoints = tuple(said.further.checkpoints or ()) if said.further else ()
        self.check_steps(("further", "checkpoints"), further_checkpoints, ascending)
        return self.whole(
            said,
            blocks=blocks,
            held_out=self.sample("held_out", said.held_out, language, corpus),
            corpus=corpus,
            recipe=recipe,
            vocabulary=Vocabulary(**said.vocabulary.model_dump()),
            keep_states=tuple(said.keep_states),
            further=self.sample("further", said.further, language, corpus) if said.further else None,
            further_checkpoints=further_checkpoints,
        )

    def whole(self, said: TrainedSuite | ModelsSuite, **parts: Any) -> Suite:
        self.refuse_faults()
        name = said.name or self.path.stem
        suite = self.made(("name",), lambda: Suite(name=name, own_tokens=said.own_tokens, **parts))
        self.refuse_faults()
        return suite

    # --- its parts ---

    def corpus(self, said: MadeUpSection | FilesSection) -> MadeUpCorpus | FileCorpus:
        if isinstance(said, MadeUpSection):
            self.check_distinct(("corpus", "languages"), said.languages, "language")
            return MadeUpCorpus(tuple(said.languages), said.pairs, said.seed)
        files = {code: self.file(("corpus", "train", code), file) for code, file in said.train.items()}
        return FileCorpus(tuple(files.items()))

    def file(self, place: Place, said: FileSection) -> CorpusFile:
        paths = {side: self.path_of(place, path) for side, path in said if path is not None}
        return CorpusFile(**paths, asked_by=f"{self.path}, line {self.lines[place]}, {'.'.join(map(str, place))}")

    def path_of(self, place: Place, given: str) -> str:
        """A path as the suite keeps it; whether a file is there is looked up, unless it is in the data folder."""
        if given.startswith(VARIABLE):
            return given
        path = self.folder / Path(given).expanduser()
        if not path.is_file():
            self.fault(
                place,
                f"there is no file {given!r}, looked for as {path}. A path is absolute, relative to this file's folder, "
                f"or begins with {VARIABLE}",
            )
        return str(path)

    def sample(self, key: str, said: SampleSection | FurtherSection, language: str, corpus: Any) -> Sample:
        """Held-out or further sentences: of a made-up language, whose own seed decides, or drawn from a file."""
        if isinstance(corpus, MadeUpCorpus):
            for name in ("file", "seed"):
                if getattr(said, name) is not None:
                    self.fault(
                        (key, name), "made-up sentences need none: the corpus's seed decides. Leave this key out"
                    )
            self.check_language((key, "language"), language, corpus)
            return Sample(language, said.sentences)
        for name in ("file", "seed"):
            if getattr(said, name) is None:
                self.fault((key, name), "this key is missing")
        file = self.file((key, "file"), said.file) if said.file else None
        return Sample(language, said.sentences, said.seed, file)

    def blocks(self, said: TrainedSuite, corpus: MadeUpCorpus | FileCorpus, steps: Sequence[int]) -> tuple[Block, ...]:
        blocks: list[Block] = []
        above: dict[str, Run] = {}
        for name, section in said.blocks.items():
            runs: list[Run] = []
            for number, group in enumerate(section.runs):
                place: Place = ("blocks", name, "runs", number)
                for run in self.runs(place, group, corpus, above):
                    if run.name in above:
                        self.fault(place, f"the run {run.name!r} stands above already: a condition with the same seeds")
                    above[run.name] = run
                    runs.append(run)
            self.check_measured(("blocks", name), section, steps)
            own = tuple(step for step in section.own_checkpoints if step in section.sentence_checkpoints)
            block = self.made(
                ("blocks", name), lambda: Block(name, tuple(runs), tuple(section.sentence_checkpoints), own)
            )  # noqa: B023
            blocks += [block] if block else []
        return tuple(blocks)

    def runs(
        self, place: Place, said: RunsSection, corpus: MadeUpCorpus | FileCorpus, above: dict[str, Run]
    ) -> list[Run]:
        """The runs of one entry, sizes outside, starts next, courses inside."""
        if said.other_masks is not None:
            strangers = sorted(set(said.other_masks) - set(above))
            for run in strangers:
                self.fault((*place, "other_masks", run), f"no run above has this name. Above are {listed(above)}")
            chosen = [above[run] for run in said.other_masks if run in above]
            return list(with_other_masks(chosen, [said.other_masks[run.name] for run in chosen]))
        languages = said.languages or []
        for number, language in enumerate(languages):
            self.check_language((*place, "languages", number), language, corpus)
        sizes = [None if pairs == "all" else pairs for pairs in said.pairs or ["all"]]
        conditions = [Condition(tuple(languages), pairs) for pairs in sizes]
        if said.factorial:
            starts, courses = said.factorial.starts, said.factorial.courses
            fair = self.check_distinct((*place, "factorial", "starts"), starts, "seed")
            fair &= self.check_distinct((*place, "factorial", "courses"), courses, "seed")
            return [run for one in conditions for run in crossed(one, starts, courses)] if fair else []
        seeds = said.seeds or []
        fair = self.check_distinct((*place, "seeds"), seeds, "seed")
        return [run for one in conditions for run in diagonal(one, seeds)] if fair else []

    # --- what one key means for another ---

    def check_measured(self, place: Place, said: BlockSection, steps: Sequence[int]) -> None:
        self.check_steps((*place, "sentence_checkpoints"), said.sentence_checkpoints, steps)
        for number, step in enumerate(said.own_checkpoints):
            if step not in said.sentence_checkpoints:
                self.fault(
                    (*place, "own_checkpoints", number),
                    f"given is {step}, which is not among sentence_checkpoints, {said.sentence_checkpoints}: a model's own "
                    "output is measured beside the reference",
                )

    def check_steps(self, place: Place, given: Sequence[int], allowed: Sequence[int]) -> None:
        for number, step in enumerate(given):
            if step not in allowed:
                self.fault(
                    (*place, number), f"given is {step}, which is no checkpoint. Checkpoints are {list(allowed)}"
                )
        self.check_distinct(place, given, "step")

    def check_distinct(self, place: Place, given: Sequence, what: str) -> bool:
        twice = [number for number, value in enumerate(given) if value in given[:number]]
        for number in twice:
            self.fault((*place, number), f"the {what} {given[number]!r} is given twice; each is wanted once")
        return not twice

    def check_language(self, place: Place, language: str, corpus: MadeUpCorpus | FileCorpus) -> None:
        if language not in corpus.languages:
            self.fault(
                place,
                f"given is {language!r}, a language of which the corpus has no data. It has {list(corpus.languages)}",
            )

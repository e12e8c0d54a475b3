"""What may stand in a suite's file: its sections, their keys, and the values that each key takes.

pydantic checks them, and `faults` says in words what it found, each with its place in the file. What one key means for
another (a step that is no checkpoint, say) is checked where the suite is made, in `addends.runs.suite_file`.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, create_model, model_validator

from addends.runs.suite import Recipe, Vocabulary
from addends.runs.toy.lexicon import LANGUAGES
from addends.yaml_lines import Place

Text = Annotated[str, Strict(), Field(min_length=1)]
Count = Annotated[int, Strict(), Field(ge=1)]
Whole = Annotated[int, Strict(), Field(ge=0)]  # a step, where the start counts
Seed = Annotated[int, Strict(), Field(ge=0, lt=2**32)]  # numpy's legacy generator takes no larger one
Share = Annotated[float, Strict(), Field(ge=0, lt=1)]


class Section(BaseModel):
    """A part of the file: its keys are those of the class, and no others."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class FileSection(Section):
    """A corpus on disk: the path of a tab-separated file, or ``{source: ..., target: ...}`` for two parallel ones."""

    source: Text
    target: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_a_path(cls, given: Any) -> Any:
        return {"source": given} if isinstance(given, str) else given


class MadeUpSection(Section):
    """Made-up languages: which, how many training pairs of each, and the seed that decides what they say."""

    kind: Literal["made-up"]
    languages: list[Literal[LANGUAGES]] = Field(min_length=1)  # type: ignore[valid-type]
    pairs: Count
    seed: Seed


class FilesSection(Section):
    """Training corpora on disk, one for each source language."""

    kind: Literal["files"]
    train: dict[str, FileSection] = Field(min_length=1)


Corpus = Annotated[MadeUpSection | FilesSection, Field(discriminator="kind")]


class SampleSection(Section):
    """The held-out sentences. File and seed are for corpora on disk."""

    language: Text
    sentences: Count
    seed: Seed | None = None
    file: FileSection | None = None


class FurtherSection(Section):
    """Further sentences of the same language, and the steps at which they are translated."""

    sentences: Count
    checkpoints: list[Whole] | None = None
    seed: Seed | None = None
    file: FileSection | None = None


class VocabularySection(Section):
    """The vocabulary that all languages share."""

    pieces: Count
    coverage: Annotated[float, Strict(), Field(gt=0, le=1)] = Vocabulary.coverage
    byte_fallback: Annotated[bool, Strict()] = Vocabulary.byte_fallback


class CheckpointsSection(Section):
    """Steps, or ``{first: ..., last: ..., count: ...}`` for so many that are evenly spaced in their logarithm."""

    steps: list[Count] | None = Field(default=None, min_length=1)
    first: Count = 1
    last: Count = 1
    count: Count = 1

    @model_validator(mode="before")
    @classmethod
    def _of_a_list(cls, given: Any) -> Any:
        if isinstance(given, list):
            return {"steps": given}
        if isinstance(given, dict) and set(given) == {"first", "last", "count"}:
            return given
        raise ValueError("a list of steps is wanted, or {first: ..., last: ..., count: ...}")


class FactorialSection(Section):
    """Starts (seeds of the initial weights) crossed with courses (seeds of both order and dropout)."""

    starts: list[Seed] = Field(min_length=1)
    courses: list[Seed] = Field(min_length=1)


class RunsSection(Section):
    """Runs of a block: languages with seeds or with a factorial, or other masks of runs that stand above."""

    languages: list[Text] | None = Field(default=None, min_length=1)
    pairs: list[Count | Literal["all"]] | None = Field(default=None, min_length=1)
    seeds: list[Seed] | None = Field(default=None, min_length=1)
    factorial: FactorialSection | None = None
    other_masks: dict[str, Seed] | None = Field(default=None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _of_one_size(cls, given: Any) -> Any:
        if isinstance(given, dict) and "pairs" in given and not isinstance(given["pairs"], list):
            return given | {"pairs": [given["pairs"]]}
        return given

    @model_validator(mode="after")
    def _in_one_way(self) -> RunsSection:
        keys = [key for key in ("seeds", "factorial", "other_masks") if getattr(self, key) is not None]
        if len(keys) != 1:
            raise ValueError(
                f"one of the keys seeds, factorial and other_masks is wanted, here are {', '.join(keys) or 'none'}"
            )
        if self.other_masks is None and self.languages is None:
            raise ValueError("the key 'languages' is missing: a list of source languages")
        if self.other_masks is not None and (self.languages or self.pairs):
            raise ValueError("other_masks takes languages and pairs from the runs that it names: leave these two out")
        return self


class BlockSection(Section):
    """A block: its runs, the steps where single sentences are measured, and where the model's own output is, too."""

    runs: list[RunsSection] = Field(min_length=1)
    sentence_checkpoints: list[Count] = Field(min_length=1)
    own_checkpoints: list[Count] = []


class MeasuredSection(Section):
    """A block of existing models: what `BlockSection` says is measured. Every step, if nothing is said."""

    sentence_checkpoints: list[Whole] | None = Field(default=None, min_length=1)
    own_checkpoints: list[Whole] | None = None


class ModelSection(Section):
    """One checkpoint that exists (``model``), or all that a pattern over folders finds (``pattern``)."""

    run: Text
    model: Text | None = None
    revision: Text | None = None
    step: Whole | None = None
    pattern: Text | None = None
    block: Text = "models"
    condition: Text | None = None

    @model_validator(mode="after")
    def _in_one_way(self) -> ModelSection:
        if (self.model is None) == (self.pattern is None):
            raise ValueError("one of the keys model (a name on the Hub, or a folder) and pattern (folders) is wanted")
        if self.pattern is not None and (self.step is not None or self.revision is not None):
            raise ValueError("with a pattern, the step comes from each folder's name and there is no revision")
        return self


def _recipe_key(field: dataclasses.Field, kind: type) -> tuple[Any, Any]:
    limits = {"warmup_steps": Whole, "dropout": Share, "label_smoothing": Share}
    positive = Count if kind is int else Annotated[float, Strict(), Field(gt=0)]
    return limits.get(field.name, positive), ... if field.default is dataclasses.MISSING else field.default


if TYPE_CHECKING:
    RecipeSection = Section
else:
    _kinds = typing.get_type_hints(Recipe)
    RecipeSection = create_model(
        "RecipeSection",
        __base__=Section,
        **{
            field.name: _recipe_key(field, _kinds[field.name])
            for field in dataclasses.fields(Recipe)
            if field.name != "checkpoints"
        },
    )
"""The keys of `Recipe` without its checkpoints, which have a section of their own."""


class TrainedSuite(Section):
    """The whole file of a suite that is trained."""

    name: Text | None = None
    corpus: Corpus
    held_out: SampleSection
    further: FurtherSection | None = None
    vocabulary: VocabularySection
    recipe: RecipeSection
    checkpoints: CheckpointsSection
    keep_states: list[Whole] = [0]
    own_tokens: Count
    blocks: dict[str, BlockSection] = Field(min_length=1)


class ModelsSuite(Section):
    """The whole file of a suite whose models exist."""

    name: Text | None = None
    corpus: Corpus | None = None
    held_out: SampleSection
    further: FurtherSection | None = None
    own_tokens: Count
    models: list[ModelSection] = Field(min_length=1)
    blocks: dict[str, MeasuredSection] = {}


def faults(error: ValidationError, schema: type[Section]) -> Iterator[tuple[Place, str]]:
    """What pydantic found wrong, in words, each with its place in the file."""
    for found in error.errors():
        place, kind, given = found["loc"], found["type"], found["input"]
        if kind == "missing":
            yield place[:-1], f"the key {place[-1]!r} is missing"
        elif kind == "extra_forbidden":
            keys = _keys_at(schema, place[:-1])
            near = difflib.get_close_matches(str(place[-1]), keys, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            yield place, f"no such key is known. Allowed here: {', '.join(keys)}.{hint}"
        elif kind == "value_error":
            yield place, str(found["ctx"]["error"])
        elif kind in ("union_tag_not_found", "union_tag_invalid"):
            kind = repr(given["kind"]) if "kind" in given else "none"
            yield place, f"the kind is 'made-up' or 'files', given is {kind}"
        elif kind in ("model_type", "model_attributes_type", "dict_type"):
            yield place, f"given is {_given(given)}; keys with values are wanted here, each as 'key: value'"
        else:
            yield place, f"given is {_given(given)}; {found['msg'][0].lower()}{found['msg'][1:]}"


def _given(value: Any) -> str:
    if isinstance(value, dict):
        return f"a mapping with the keys {list(value)}"
    return repr(value)


def _keys_at(schema: type[Section], place: Place) -> list[str]:
    """The keys that the section at a place knows; list positions, names of blocks and kinds lead into sections."""
    here = [schema]
    for part in place:
        fields = [section.model_fields[str(part)] for section in here if part in section.model_fields]
        if fields:
            here = [inner for field in fields for inner in _sections_in(field.annotation)]
        else:
            kinds = [one for one in here if "kind" in one.model_fields and part in _values(one.model_fields["kind"])]
            here = kinds or here
    return [key for section in here for key in section.model_fields]


def _values(field: Any) -> tuple:
    return typing.get_args(field.annotation)


def _sections_in(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for inner in typing.get_args(annotation) for section in _sections_in(inner)]

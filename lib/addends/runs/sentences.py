"""The sentences of a suite: those it is measured on, those it is trained on, and the vocabulary they share.

A training pair shares no side with a held-out or a further sentence, compared in `corpora.normal_form`.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from addends.errors import DataError, InputError
from addends.provenance import file_sha256
from addends.runs import corpora, vocabulary
from addends.runs.suite import CorpusFile, FileCorpus, MadeUpCorpus, Run, Sample, Suite
from addends.runs.toy import corpus as toy

if TYPE_CHECKING:
    from transformers import MarianTokenizer

_Stamp = tuple[tuple[str, int, int], ...]  # path, time of the last change, bytes: a file that was changed is read anew


def held_out(suite: Suite) -> pd.DataFrame:
    """The evaluation sentences, the same in every run and checkpoint: columns sentence, language, source, target.

    Raises
    ------
    DataError
        If a corpus file is missing or faulty; the message names the suite's file, line and key.
    InputError
        If there are fewer sentences than the suite asks for.
    """
    sample = suite.held_out
    if sample.file is None:
        return _made_up(_made_up_corpus(suite, sample), sample, None)[1]
    return _drawn(sample, _stamp(sample.file))


def further(suite: Suite) -> pd.DataFrame | None:
    """Further sentences, which serve quality alone, with the same columns; None where the suite has none.

    Neither side of them occurs in a training file, nor in `held_out`, so no training pair has to be dropped for them.

    Raises
    ------
    DataError, InputError
        As `held_out`.
    """
    sample = suite.further
    if sample is None:
        return None
    if sample.file is None:
        return _made_up(_made_up_corpus(suite, sample), suite.held_out, sample)[2]
    files = [file for _, file in suite.corpus.train] if isinstance(suite.corpus, FileCorpus) else []
    held_out_file = () if suite.held_out.file is None else (suite.held_out.file,)
    return _drawn_further(suite, tuple(_stamp(file) for file in (sample.file, *held_out_file, *files)))


def training_pairs(suite: Suite, run: Run) -> pd.DataFrame:
    """The training pairs of a run, with the same columns, disjoint from the evaluation sentences.

    They are those of its languages, or as many of them as its condition asks for.

    Raises
    ------
    DataError, InputError
        As `held_out`; an InputError too if the condition asks for more pairs than there are.
    """
    found = pd.concat([_of_language(suite, language) for language in run.condition.languages], ignore_index=True)
    try:
        return corpora.draw(found, run.condition.pairs, run.seeds.order)
    except InputError as error:
        raise InputError(
            f"The run {run.name!r} of the suite {suite.name!r}: {error} Change its pairs in the suite's file."
        ) from error


def tokenizer(suite: Suite, folder: Path) -> MarianTokenizer:
    """The suite's tokenizer, trained on the training sides of all its languages where ``folder`` holds none.

    Raises
    ------
    InputError
        If the suite is of models that exist, which have tokenizers of their own; or if ``folder`` holds a vocabulary of
        another size, or of another corpus.
    """
    if suite.models:
        raise InputError(f"The suite {suite.name!r} is of models that exist: there is nothing to train. Measure them.")
    wanted = suite.vocabulary
    if (folder / "tokenizer_config.json").exists():
        return vocabulary.train((), folder, wanted.pieces, of=_trained_from(suite))
    languages = suite.corpus.languages if suite.corpus else ()
    sides = (_of_language(suite, language)[side] for language in languages for side in ("source", "target"))
    return vocabulary.train(
        chain.from_iterable(sides),
        folder,
        wanted.pieces,
        coverage=wanted.coverage,
        byte_fallback=wanted.byte_fallback,
        of=_trained_from(suite),
    )


def _trained_from(suite: Suite) -> dict[str, object] | None:
    """What makes a vocabulary what it is, besides its size; None where a corpus is not here: nothing is trained then.

    A corpus on disk is its bytes, wherever it lies.
    """
    samples = [sample for sample in (suite.held_out,) if sample.file is not None]
    files = dict(suite.corpus.train) if isinstance(suite.corpus, FileCorpus) else {}
    try:
        read = {language: [file_sha256(path) for path in _paths(file)] for language, file in files.items()}
        drawn = [[file_sha256(path) for path in _paths(sample.file)] for sample in samples if sample.file]
    except (OSError, DataError):
        return None
    made_up = asdict(suite.corpus) if isinstance(suite.corpus, MadeUpCorpus) else {}
    left_out = [suite.held_out.language, suite.held_out.sentences, suite.held_out.seed, *drawn]
    how = {"coverage": suite.vocabulary.coverage, "byte_fallback": suite.vocabulary.byte_fallback}
    return {"corpus": made_up or read, "held_out": left_out, **how}


def _of_language(suite: Suite, language: str) -> pd.DataFrame:
    """All pairs of one language that may be trained on."""
    if isinstance(suite.corpus, FileCorpus):
        pairs = _read(dict(suite.corpus.train)[language], language)
    else:
        corpus = _made_up_corpus(suite, suite.held_out)
        sample = Sample(language, suite.held_out.sentences)  # the same events, whatever the language
        pairs = _made_up(corpus, sample, None)[0]
    return corpora.drop_overlap(pairs, held_out(suite))


@cache
def _made_up(
    corpus: MadeUpCorpus, sample: Sample, more: Sample | None
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Training pairs, held-out sentences and further ones, all of the sample's language.

    The further ones are the first events after the training pairs that have sides of their own.
    """
    wanted = 0 if more is None else more.sentences
    pairs, chosen = toy.split(sample.language, corpus.pairs + 4 * wanted, sample.sentences, corpus.seed)
    if more is None:
        return pairs, chosen, pairs.head(0)
    rest = corpora.drop_overlap(pairs.iloc[corpus.pairs :], chosen)
    for language in corpus.languages:
        rest = corpora.drop_overlap(rest, toy.split(language, corpus.pairs, sample.sentences, corpus.seed)[0])
    own = ~rest["source"].map(corpora.normal_form).duplicated() & ~rest["target"].map(corpora.normal_form).duplicated()
    if own.sum() < wanted:
        raise InputError(
            f"further: sentences={wanted}: of {4 * wanted} events after the {corpus.pairs} training pairs, only "
            f"{own.sum()} have sides that occur nowhere else. Ask for fewer, or for fewer training pairs."
        )
    return pairs.head(corpus.pairs), chosen, rest[own].head(wanted).reset_index(drop=True)


@cache
def _drawn(sample: Sample, stamp: _Stamp) -> pd.DataFrame:
    assert sample.file is not None
    return _hold_out("held_out", _read(sample.file, sample.language), sample)


@cache
def _drawn_further(suite: Suite, stamps: tuple[_Stamp, ...]) -> pd.DataFrame:
    sample = suite.further
    assert sample is not None
    assert sample.file is not None
    pairs = corpora.drop_overlap(_read(sample.file, sample.language), held_out(suite))
    if isinstance(suite.corpus, FileCorpus):
        for language, file in suite.corpus.train:
            pairs = corpora.drop_overlap(pairs, _read(file, language))
    return _hold_out("further", pairs, sample)


def _hold_out(key: str, pairs: pd.DataFrame, sample: Sample) -> pd.DataFrame:
    try:
        return corpora.hold_out(pairs, sample.sentences, sample.seed or 0)
    except InputError as error:
        asked_by = sample.file.asked_by if sample.file else key
        raise InputError(
            f"{asked_by}: {error} Sentences that are trained on, or held out already, are no further ones."
        ) from error


def _made_up_corpus(suite: Suite, sample: Sample) -> MadeUpCorpus:
    if not isinstance(suite.corpus, MadeUpCorpus):
        raise InputError(
            f"The suite {suite.name!r}: sentences of language={sample.language!r} are wanted from no file, and its "
            "corpus is not made up. Name a file for them."
        )
    return suite.corpus


def _read(file: CorpusFile, language: str) -> pd.DataFrame:
    source, *target = _paths(file)
    try:
        return corpora.read_moses(source, target[0], language) if target else corpora.read_tsv(source, language)
    except DataError as error:
        if not file.asked_by:
            raise
        raise DataError(f"{file.asked_by}: {error}") from error


def _paths(file: CorpusFile) -> list[Path]:
    """Where the files are; a corpus that the suite's own folder or an absolute path does not hold is in the data's."""
    given = [file.source] if file.target is None else [file.source, file.target]
    return [
        corpora.data_folder() / path.removeprefix(corpora.VARIABLE) if path.startswith(corpora.VARIABLE) else Path(path)
        for path in given
    ]


def _stamp(file: CorpusFile) -> _Stamp:
    found = []
    for path in _paths(file):
        try:
            status = os.stat(path)
            found.append((str(path), status.st_mtime_ns, status.st_size))
        except OSError:  # reading it says so in words
            found.append((str(path), 0, 0))
    return tuple(found)

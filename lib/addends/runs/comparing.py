"""Comparing the runs of a suite, two by two, at one checkpoint: the rows of the table ``run_pairs``.

Every two runs read the same references. Of each layer and term, and of the state itself, the rows of the one are held
against those of the other: as they are ("all"), after the mean of each target type is taken off ("within types"), and
with the rows of one permuted within their type ("permuted"), which is what any two models that know which token comes
next have in common. A run stands beside itself at its checkpoint before, where the work folder has that: the floor that
no two runs go below.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from scipy import stats
from tqdm.auto import tqdm

from addends import tables
from addends.decomposition.indicators import of_vectors
from addends.errors import DataError, InputError
from addends.interventions import STATE, Space, divergences, groups_of, permuted_within, similarity, token_vectors
from addends.interventions.spaces import without_type_means
from addends.runs import existing, sentences, training
from addends.runs.made_of import made_of, refuse_other
from addends.runs.shards import refuse_read_only
from addends.runs.suite import Suite

GROUPS = 20  # of sentences, for standard errors
Point = tuple[str, int]  # run, checkpoint


def compare(
    suite: Suite,
    names: Sequence[str],
    step: int,
    work: Path,
    data: Path,
    rows: Sequence[str] = tables.ROWS,
    seed: int = 0,
    again: bool = False,
    block: str | None = None,
) -> Path:
    """Compare every two of the runs at a checkpoint, and write ``data/<suite>/run_pairs/<step>.parquet``.

    The runs of one block have a table of their own, ``<block>-<step>.parquet``, where ``block`` names it.

    Vectors are kept in the work folder meanwhile, and removed at the end. A table that is there for these runs, of
    these weights and sentences, is left alone; one that was cut off begins again, some minutes for sixteen runs.

    Parameters
    ----------
    rows : sequence of {"all", "within types", "permuted"}
    seed : int
        Of the order of the permuted rows, the same for all pairs.
    again : bool
        Compare anew where the table is there.
    block : str, optional
        The block that all of the runs belong to.

    Raises
    ------
    InputError
        If there are fewer than two runs, one is of another block, or two of them have different vocabularies: the
        message names them.
    DataError
        If a checkpoint is missing, the table that is there is of other runs, rows or weights, another table
        there has pairs of these runs at this step, a folder cannot be written to, or another process is comparing.
    """
    names = list(dict.fromkeys(names))
    if len(names) < 2:
        raise InputError(f"compare: {names}: two runs or more are to be compared.")
    strangers = [name for name in names if block not in (None, suite.block_of(suite.run(name)).name)]
    if strangers:
        raise InputError(f"compare: {strangers} are not of the block {block!r}: leave them out, or name no block.")
    target = data / suite.name / "run_pairs" / f"{step if block is None else f'{block}-{step}'}.parquet"
    now = made_of(suite, [(name, step) for name in names], work, seed)
    if target.exists() and not again:
        _refuse_less(tables.read(target, "run_pairs"), names, rows, target)
        refuse_other(target, "run_pairs", now)
        return target
    _refuse_twice(target, step, names)
    for folder in (work, target.parent):
        refuse_read_only(folder)
    points = [(name, at) for name in names for at in _with_the_one_before(suite, name, step, work)]
    with training.one_core(), training.one_bar(), _folder_of_vectors(work / suite.name) as folder:
        shared = _write_vectors(suite, points, work, folder)
        frame = _of_pairs(names, points, step, folder, shared, rows, seed)
        kl = _divergences(suite, names, step, work).assign(layer=frame["layer"].max())
    tables.write(frame.merge(kl, on=["a", "b", "by", "rows", "layer"], how="left"), target, "run_pairs", now)
    return target


def _refuse_twice(target: Path, step: int, names: Sequence[str]) -> None:
    """Raise DataError where another table of the folder has two of these runs at this step: keys would stand twice."""
    for other in sorted({*target.parent.glob(f"*-{step}.parquet"), *target.parent.glob(f"{step}.parquet")} - {target}):
        there = tables.read(other, "run_pairs", columns=["a", "b"])
        both = sorted((set(there["a"]) | set(there["b"])) & set(names))
        if len(both) > 1:
            raise DataError(
                f"{other} compares {both} at step {step} already, and {target.name} would too: the folder could not be "
                "read any more. Delete it, or compare the same block as it does (--block), or name another --data."
            )


def _refuse_less(there: pd.DataFrame, names: Sequence[str], rows: Sequence[str], target: Path) -> None:
    """Raise DataError unless a table that is there has all of these runs, with all of these kinds of rows."""
    has = sorted(set(there["a"]) | set(there["b"])), sorted(there["rows"].unique())
    for found, asked in zip(has, (names, rows), strict=True):
        if not set(found) >= set(asked):
            raise DataError(
                f"{target} compares {found}, and {list(asked)} are asked for. --again compares anew, and replaces it."
            )


@contextlib.contextmanager
def _folder_of_vectors(folder: Path) -> Iterator[Path]:
    """An empty folder, which goes with the block; what a killed process left goes first.

    Raises
    ------
    DataError
        If another process compares runs of the same suite: vectors of both would fill the disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, vectors = FileLock(folder / ".compared.claim"), folder / ".compared"
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise DataError(f"{folder}: another process compares runs of this suite. Wait until it has ended.") from None
    try:
        shutil.rmtree(vectors, ignore_errors=True)
        vectors.mkdir()
        yield vectors
    finally:
        shutil.rmtree(vectors, ignore_errors=True)
        lock.release()


@dataclass(frozen=True)
class _Shared:
    """What the rows of all runs have in common: of which token, of which sentence, under which names, which pieces."""

    labels: np.ndarray
    sentences: np.ndarray
    names: tuple[tuple[str, str], ...]
    vocabulary: tuple[tuple[str, int], ...]
    layers: int


def _with_the_one_before(suite: Suite, name: str, step: int, work: Path) -> Iterator[int]:
    """The step, and the checkpoint before it where there is one, in the work folder or in a suite of models."""
    yield step
    run = suite.run(name)
    before = max((each for each in suite.checkpoints_of(run) if each < step), default=None)
    if before is not None and (suite.models or Path(suite.source_of(run, before, work)[0]).exists()):
        yield before


def _write_vectors(suite: Suite, points: Sequence[Point], work: Path, folder: Path) -> _Shared:
    """Write the vectors of every checkpoint to a file, and give what all of them share."""
    held_out = sentences.held_out(suite)
    sources, targets = held_out["source"].tolist(), held_out["target"].tolist()
    shared = None
    for point in tqdm(points, desc="vectors", unit="checkpoint"):
        model, tokenizer = existing.load_checkpoint(suite, point[0], point[1], work)
        found = token_vectors(model, tokenizer, sources, targets, progress=False)
        vocabulary = tuple(sorted(tokenizer.get_vocab().items()))
        here = _Shared(found.labels, found.sentences, found.names, vocabulary, len(found.vectors))
        shared = shared or here
        if here.vocabulary != shared.vocabulary or not np.array_equal(here.labels, shared.labels):
            raise InputError(
                f"compare: {points[0][0]!r} and {point[0]!r} have different vocabularies: row k is to be the same "
                "token in both. Compare runs that share theirs (--only)."
            )
        if here.names != shared.names or here.layers != shared.layers:
            raise InputError(
                f"compare: {points[0][0]!r} and {point[0]!r} have different layers or terms. Compare runs of one "
                "architecture (--only)."
            )
        _keep(found.vectors, _file(folder, point))
    assert shared is not None
    return shared


def _keep(vectors: np.ndarray, file: Path) -> None:
    try:
        np.save(file, vectors)
    except OSError as error:
        size = f"{vectors.nbytes / 2**20:.0f} MiB"
        raise DataError(
            f"{file} could not be written ({error.strerror or error}): it takes {size}, and every checkpoint as much "
            "until all are compared. Make room, or compare fewer runs (--only)."
        ) from error


def _file(folder: Path, point: Point) -> Path:
    return folder / f"{point[0]}@{point[1]}.npy"


def _of_pairs(
    names: Sequence[str],
    points: Sequence[Point],
    step: int,
    folder: Path,
    shared: _Shared,
    kinds: Sequence[str],
    seed: int,
) -> pd.DataFrame:
    """Similarities and rank agreements of all pairs of runs, and of each run with its checkpoint before."""
    vectors = {point: np.load(_file(folder, point), mmap_mode="r") for point in points}  # (layer, term, row, dim)
    layers = next(iter(vectors.values())).shape[0]
    pairs: list[tuple[Point, Point]] = [((a, step), (b, step)) for a, b in combinations(names, 2)]
    pairs += [((name, step), (name, at)) for name, at in points if at != step]
    labels, groups = shared.labels, groups_of(shared.sentences, GROUPS)
    order = permuted_within(labels, np.random.default_rng(seed))
    found = []
    bar = tqdm(total=layers * len(shared.names), desc=f"pairs at {step}", unit="term")
    for layer in range(layers):
        profiles = {point: _profiles(each[layer], shared) for point, each in vectors.items()}
        for place, (by, term) in enumerate(shared.names):
            for kind in kinds:
                rows = {point: each[layer, place] for point, each in vectors.items()}
                spaces = turned = {point: _space(each, labels, groups, kind) for point, each in rows.items()}
                if kind == "permuted":
                    turned = {point: _space(each[order], labels, groups, kind) for point, each in rows.items()}
                for one, two in pairs:
                    row = {
                        "a": one[0],
                        "b": two[0],
                        "checkpoint": step,
                        "b_checkpoint": two[1],
                        "layer": layer,
                        "by": by,
                        "term": term,
                        "rows": kind,
                        "tokens": len(labels) if kind != "within types" else len(spaces[one].rows),
                        **similarity(spaces[one], turned[two])._asdict(),
                    }
                    if kind == "all" and term != STATE:
                        row |= _rank_agreement(profiles[one][:, place], profiles[two][:, place])
                    found.append(row)
            bar.update()
    bar.close()
    return pd.DataFrame(found)


def _space(rows: np.ndarray, labels: np.ndarray, groups: np.ndarray, kind: str) -> Space:
    if kind != "within types":
        return Space(rows, groups)
    own, kept = without_type_means(rows, labels)
    return Space(own, groups[kept])


def _profiles(vectors: np.ndarray, shared: _Shared) -> np.ndarray:
    """Sentence means of the indicators of one layer's parts, of shape (indicator, part, sentence)."""
    state = torch.as_tensor(np.array(vectors[-1]))  # (row, dim)
    methods = [by for by, _ in shared.names if by != STATE]
    values = torch.cat(  # each method by itself: what is zero is decided by the size of all parts of one sum
        [
            of_vectors(torch.as_tensor(vectors[[place for place, each in enumerate(methods) if each == by]]), state)
            for by in dict.fromkeys(methods)
        ],
        dim=1,
    )
    counts = np.bincount(shared.sentences)
    sums = [[np.bincount(shared.sentences, weights=row) for row in part] for part in values.double().numpy()]
    return np.array(sums) / counts


def _rank_agreement(one: np.ndarray, two: np.ndarray) -> Mapping[str, float]:
    """Spearman's correlation over sentences of each indicator (indicator, sentence).

    Missing where one of the two is missing in a sentence, or differs between sentences by rounding alone: what a first
    layer reads is all of its state.
    """
    found = {}
    for name, x, y in zip(tables.INDICATORS, one, two, strict=True):
        usable = all(np.isfinite(each).all() and np.ptp(each) > 1e-5 * np.abs(each).max() for each in (x, y))
        found[name] = float(stats.spearmanr(x, y).statistic) if usable else np.nan
    return found


def _divergences(suite: Suite, names: Sequence[str], step: int, work: Path) -> pd.DataFrame:
    """Mean divergence of every two runs over sentences, and its standard error, on the rows of the last states."""
    loaded = {name: existing.load_checkpoint(suite, name, step, work) for name in names}
    held_out = sentences.held_out(suite)
    tokenizer = loaded[names[0]][1]
    frame = divergences(
        {name: model for name, (model, _) in loaded.items()},
        tokenizer,
        held_out["source"].tolist(),
        held_out["target"].tolist(),
    )
    summary = frame.groupby(["a", "b"])["kl"].agg(kl="mean", kl_se="sem").reset_index()
    return summary.assign(by=STATE, rows="all")

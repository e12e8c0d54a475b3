"""How far a suite is: what is trained, measured and written, what is broken, and how long the rest may take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from addends.errors import DataError
from addends.runs import lineage, shards, workfolder
from addends.runs.suite import Suite

COLUMNS = ("run", "block", "trained", "measured", "tables", "megabytes_work", "megabytes_data")


def progress(suite: Suite, names: Sequence[str], work: Path, data: Path) -> pd.DataFrame:
    """A row a run: how many of its checkpoints are trained and measured, whether its tables are written, and sizes.

    Returns
    -------
    DataFrame
        The columns run, block; ``trained`` and ``measured``, checkpoints (step 0
        apart); ``tables``, "finished" or what is missing in words; and the size of what is in the two folders.
    """
    rows = []
    for name in names:
        folder = workfolder.of_run(suite, name, work)
        steps = suite.checkpoints_of(suite.run(name))
        trained = steps if suite.models else set(workfolder.complete_steps(folder)) & set(steps)
        measured = [step for step in steps if (shards.place(folder, step) / shards.RECORD).exists()]
        missing = workfolder.what_is_missing(suite, name, data)
        files = (
            data / suite.name / table / f"{name}.parquet"
            for table in (*workfolder.PER_RUN, *workfolder.OF_TRAINING, "further")
        )
        rows.append(
            (
                name,
                suite.block_of(suite.run(name)).name,
                len(trained),
                len(measured),
                "finished" if missing is None else missing,
                _megabytes(folder.rglob("*")),
                _megabytes(files),
            )
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def shard_faults(suite: Suite, names: Sequence[str], work: Path) -> pd.DataFrame:
    """Shards that are not what their records say, or were measured otherwise: columns run, checkpoint, fault, words.

    A fault is "altered" or "stale" (`addends.runs.shards.Fault`); what is not measured yet is none. Where the suite's
    sentences cannot be read here, shards are not held against them.
    """
    rows = []
    there = [
        (name, step)
        for name in names
        for step in suite.checkpoints_of(suite.run(name))
        if shards.place(workfolder.of_run(suite, name, work), step).exists()
    ]
    try:
        sentences = workfolder.measuring_record(suite) if there else {}
    except DataError:
        sentences = {}
    for name, step in there:
        wanted = {"files": workfolder.tables_at(suite, suite.run(name), step)} | sentences
        origin = _origin(suite, name, step, work)
        fault = shards.fault(workfolder.of_run(suite, name, work), step, wanted | origin)
        if fault and fault.kind != "missing":
            rows.append((name, step, fault.kind, fault.words))
    return pd.DataFrame(rows, columns=["run", "checkpoint", "fault", "words"])


def half_written(suite: Suite, names: Sequence[str], work: Path) -> list[tuple[str, int, Path]]:
    """Shards that a process began and that are not there: run, step, and what is left. They are measured again."""
    found = [
        (name, step, shards.half_written(workfolder.of_run(suite, name, work), step))
        for name in names
        for step in suite.checkpoints_of(suite.run(name))
    ]
    return [(name, step, left) for name, step, left in found if left is not None]


def _origin(suite: Suite, name: str, step: int, work: Path) -> dict[str, str]:
    """What a shard's record says of its checkpoint, as that is now; nothing of trained weights that were deleted."""
    if suite.models:
        from addends.runs import existing  # it imports torch

        return existing.origin(*suite.source_of(suite.run(name), step, work))
    try:
        record = lineage.read(workfolder.checkpoint(suite, name, step, work))
    except DataError:
        return {}
    return {key: record[key] for key in shards.ORIGIN if key in record}


def seconds_left(suite: Suite, table: pd.DataFrame, work: Path) -> float | None:
    """About how long one core still needs for the runs of `progress`'s table; None before anything was timed.

    Training is timed by the hours of the records of its checkpoints, measuring by the shards' own.
    """
    step_seconds: list[float] = []
    shard_seconds: list[float] = []
    for name in table["run"]:
        folder = workfolder.of_run(suite, name, work)
        hours = {lineage.step_of(file.parent): file.stat().st_mtime for file in folder.glob(f"*/{lineage.FILE}")}
        steps = sorted(hours)
        step_seconds += [(hours[after] - hours[before]) / (after - before) for before, after in pairwise(steps)]
        manifest = shards.manifest(folder)
        shard_seconds += manifest["seconds"].tolist() if len(manifest) else []
    left = table[table["tables"] != "finished"]
    if left.empty:
        return 0.0
    if not shard_seconds or not (step_seconds or suite.models):
        return None
    seconds = 0.0
    for row in left.itertuples():
        reached = np.array([0, *suite.checkpoints_of(suite.run(row.run))])
        if not suite.models:
            seconds += (reached[-1] - reached[row.trained]) * float(np.median(step_seconds))
        seconds += (len(reached) - 1 - row.measured) * float(np.median(shard_seconds))
    return float(seconds)


def _megabytes(files: Iterable[Path]) -> float:
    return round(sum(file.stat().st_size for file in files if file.is_file()) / 1e6, 2)

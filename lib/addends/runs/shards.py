"""A shard: what one checkpoint of one run was measured to be, on disk, claimed by one process and written at once.

A shard is a folder, ``<work>/<suite>/<run>/measured/<step>``, with one parquet file a table and its own record, the row
that it has in the manifest of measurements::

    {
        "run": "fra-i21-o21",
        "checkpoint": 3000,
        "files": {"quality.parquet": {"sha256": "5d1c...", "rows": 6, "parts": ["held_out", "further"]}, ...},
        "weights": "7b21...",           # of the checkpoint that was measured: sha256, as the chain of records has them
        "configuration": "77ab...", "model": "30c2...", "tokenizer": "af21...",
        "own_tokens": 64,               # the longest translation
        "held_out_sha256": "c4e0...", "further_sha256": "9a1e...",
        "measured_on": {"processor": "AMD EPYC", "instructions": "AVX512", "threads": 1, ...},
        "seconds": 12.1,
    }

A shard is claimed by a lock that the operating system frees when its holder dies. It is written beside its place,
flushed to the disk and renamed, so it is there whole or not at all, and two processes never write one shard. Each shard
has its record in its own folder, so that processes on different machines share no file that grows.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from addends import tables
from addends.errors import DataError
from addends.provenance import file_sha256
from addends.runs.lineage import write_json

RECORD = "shard.json"
ORIGIN = ("weights", "configuration", "model", "tokenizer")
"""What of a shard's record says which checkpoint it was measured on."""
_OF_FILE = {"sha256", "rows", "parts"}  # what a record says of each file


@dataclass(frozen=True)
class Fault:
    """What is wrong with a shard: its kind, and words for it.

    >>> Fault("missing", "run 'ora-i1-o1', step 60 is not measured.").kind
    'missing'

    Attributes
    ----------
    kind : str
        "missing"; "altered", where files are not those that the record names; or "stale", where the record is of
        another checkpoint, or of other sentences, than those there are now.
    words : str
    """

    kind: str
    words: str


def place(run_folder: Path, step: int) -> Path:
    """Where the shard of a step is, or will be."""
    return run_folder / "measured" / str(step)


@contextlib.contextmanager
def claimed(run_folder: Path, name: int | str) -> Iterator[bool]:
    """Claim the shard of a step (or, by another name, something else of a run); gives whether no other process has it.

    The claim ends with the block or with the process. Nobody waits.
    """
    folder = run_folder / "measured"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f".{name}.claim")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def begin(run_folder: Path, step: int) -> Path:
    """An empty folder beside the shard's place, for the holder of the claim; what a killed holder left goes."""
    final = place(run_folder, step)
    for left in final.parent.glob(f".{step}.*.part"):
        shutil.rmtree(left)
    part = final.with_name(f".{step}.{os.getpid()}.part")
    part.mkdir(parents=True)
    return part


def write(part: Path, frames: Mapping[str, pd.DataFrame], record: Mapping) -> Path:
    """Write the tables of a shard into ``part``, then its record, and move the folder to its place.

    Parameters
    ----------
    record : mapping
        The record, whose ``"files"`` names the tables and their parts.

    Raises
    ------
    DataError
        If the disk is full, or a file cannot be written. Shards that were there are untouched.
    """
    step = part.name.split(".")[1]
    final = part.with_name(step)
    try:
        files = {}
        for table, frame in frames.items():
            file = tables.write(frame, part / f"{table}.parquet", table)
            files[file.name] = {"sha256": file_sha256(file), "rows": len(frame), "parts": record["files"][table]}
        write_json(part / RECORD, {**record, "files": files})
        tables.flush(part)
        if final.exists():  # measured before, and asked for again
            final.rename(final.with_name(f".{step}.{os.getpid()}.old.part"))
        part.rename(final)
        tables.flush(final.parent)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise DataError(
            f"The shard {final} could not be written ({error.strerror or error}). Shards that are there are whole and "
            "stay. Make room, or make the folder writable, and call again: measuring goes on from here."
        ) from error
    for old in final.parent.glob(f".{step}.*.old.part"):
        shutil.rmtree(old)
    return final


def read_record(run_folder: Path, step: int) -> dict:
    """The record of a shard.

    Raises
    ------
    DataError
        If there is none, or it is no record.
    """
    file = place(run_folder, step) / RECORD
    try:
        record = dict(json.loads(file.read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise DataError(f"{file} is no record of a shard ({error}).") from error
    files = record.get("files")
    whole = isinstance(files, dict) and all(isinstance(said, dict) and set(said) >= _OF_FILE for said in files.values())
    whole &= isinstance(record.get("measured_on"), dict) and isinstance(record.get("seconds"), int | float)
    if not whole:
        raise DataError(f"{file} is no record of a shard (it lacks entries, or they are of another kind).")
    return record


def read(run_folder: Path, step: int, table: str) -> pd.DataFrame:
    """One table of a shard, checked against its schema, and against the run and step that it stands for."""
    file = place(run_folder, step) / f"{table}.parquet"
    frame = tables.read(file, table)
    if set(zip(frame["run"], frame["checkpoint"], strict=True)) != {(run_folder.name, step)}:
        raise DataError(f"{file} does not hold what was measured at step {step} of the run {run_folder.name!r}.")
    return frame


def half_written(run_folder: Path, step: int) -> Path | None:
    """What a process that was ended, or that still writes, has left of the shard of a step; None where it is whole."""
    final = place(run_folder, step)
    return None if final.exists() else min(final.parent.glob(f".{step}.*.part"), default=None)


def fault(run_folder: Path, step: int, wanted: Mapping) -> Fault | None:
    """What is wrong with a shard, or None.

    Parameters
    ----------
    wanted : mapping
        Entries that the shard's record must have: of `ORIGIN`, and of what it is measured with. ``"files"`` names its
        tables, and the parts of each (`addends.runs.workfolder.tables_at`).
    """
    where = f"run {run_folder.name!r}, step {step}"
    shard = place(run_folder, step)
    if not shard.exists():
        left = half_written(run_folder, step)
        half = f" ({left} is half written: its process was ended, or still writes)" if left else ""
        return Fault("missing", f"{where} is not measured{half}.")
    try:
        record = read_record(run_folder, step)
    except DataError as error:
        return Fault("altered", f"{where}: {error}")
    files = record["files"]
    for name, said in files.items():
        file = shard / name
        if not file.exists():
            return Fault("altered", f"{where}: {file} is gone, and its record names it.")
        if file_sha256(file) != said["sha256"]:
            return Fault("altered", f"{where}: {file} is not the file that was written there: its digest has changed.")
    here = {"run": run_folder.name, "checkpoint": step}
    for name, value in {**here, **wanted}.items():
        if name != "files" and record.get(name) != value:
            return Fault("stale", f"{where} was measured with {name}={_short(record.get(name))}; now {_short(value)}.")
    asked = {f"{table}.parquet": sorted(parts) for table, parts in wanted["files"].items()}
    for name, parts in asked.items():
        lacking = sorted(set(parts) - set(files[name]["parts"])) if name in files else [name]
        if lacking:  # a suite that asks for more later has more to measure, and nothing to complain of
            return Fault("missing", f"{where} is measured without {', '.join(lacking)}.")
    return None


def manifest(run_folder: Path) -> pd.DataFrame:
    """The records of a run's shards, those that can be read: checkpoint, seconds, bytes, what it was measured on."""
    rows = []
    steps = sorted(int(file.parent.name) for file in run_folder.glob(f"measured/*/{RECORD}"))
    for step in steps:
        try:
            record = read_record(run_folder, step)
        except DataError:  # `fault` names it
            continue
        size = sum(file.stat().st_size for file in place(run_folder, step).glob("*.parquet"))
        kept = {name: value for name, value in record.items() if name not in ("files", "measured_on")}
        rows.append(kept | record["measured_on"] | {"bytes": size})
    return pd.DataFrame(rows)


def refuse_read_only(folder: Path) -> None:
    """Refuse a folder that could not be made or written to, before hours of work go into it.

    Raises
    ------
    DataError
        If it, or the first folder above it that exists, is no folder or is read-only.
    """
    there = next(above for above in (folder.absolute(), *folder.absolute().parents) if above.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        what = "is read-only" if there.is_dir() else "is no folder"
        raise DataError(
            f"{folder} cannot be written to: {there} {what}. Name another folder by --work (weights and shards) or "
            "--data (tables)."
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:20]}..."

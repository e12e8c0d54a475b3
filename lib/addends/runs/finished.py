"""Whether a run is finished: its tables are all there, whole, and those of the run that the suite describes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from addends.errors import DataError
from addends.runs import tables
from addends.runs.suite import Run, Suite

PER_RUN = ("runs", "quality", "translations", "measurements", "trajectories")
"""The tables that have one file a run, ``<suite>/<table>/<run>.parquet``."""


def is_begun(suite: Suite, name: str, data: Path) -> bool:
    """Whether the data folder holds any table of the run."""
    return any(_file(suite, table, name, data).exists() for table in PER_RUN)


def lacks(suite: Suite, name: str, data: Path) -> str | None:
    """What keeps the run from being finished, in words, or None: then there is nothing left to do.

    Nothing but the tables is read: neither sentences nor checkpoints are needed. Finished means that every table is
    there and keeps its schema; that the run's row says what the suite says (seeds, size, steps, languages); that every
    checkpoint is in the tables, fed both targets; and that sentences are measured at every checkpoint named for it,
    each time exactly those of the table of sentences.

    Raises
    ------
    InputError
        If the suite has no such run.
    """
    run = suite.run(name)
    try:
        frames = {table: tables.read(_file(suite, table, name, data), table) for table in PER_RUN}
        sentences = set(tables.read(data / suite.name / "sentences.parquet", "sentences")["sentence"])
    except DataError as error:
        return str(error)
    found = frames["runs"].to_dict("records")
    if len(found) != 1:
        return f"{_file(suite, 'runs', name, data)} has {len(found)} rows: one is wanted."
    for column, value in description(suite, run).items():
        if pd.isna(found[0][column]) or found[0][column] != value:
            return f"{_file(suite, 'runs', name, data)} says {column}={found[0][column]!r}, the suite {value!r}."
    for table in PER_RUN[1:]:
        by_sentence = table in ("translations", "measurements")
        wanted = suite.sentence_checkpoints if by_sentence else suite.recipe.checkpoints
        complaint = _holes(frames[table], wanted, sentences if by_sentence else None)
        if complaint:
            return f"{_file(suite, table, name, data)} {complaint}."
    return None


def description(suite: Suite, run: Run) -> dict:
    """What a suite says of a run, as it stands in the table ``runs`` (all but the number of parameters)."""
    return {
        "run": run.name,
        "suite": suite.name,
        "condition": run.condition,
        "init_seed": run.seeds.init,
        "order_seed": run.seeds.order,
        "dropout_seed": run.seeds.dropout,
        "languages": "+".join(run.languages),
        "layers": suite.recipe.layers,
        "dim": suite.recipe.dim,
        "steps": suite.recipe.steps,
    }


def _holes(frame: pd.DataFrame, steps: tuple[int, ...], sentences: set[str] | None) -> str | None:
    missing = sorted(set(steps) - set(frame["checkpoint"]))
    if missing:
        return f"lacks the checkpoints {missing}"
    wanted = frame[frame["checkpoint"].isin(steps)]
    keys = ["checkpoint", "target"] if "target" in frame else ["checkpoint"]
    cells = wanted.groupby(keys)
    if len(cells) != len(steps) * (len(tables.TARGETS) if "target" in frame else 1):
        return f"does not have both targets, {' and '.join(tables.TARGETS)}, at every checkpoint"
    rows_of = cells.size()
    if rows_of.min() < rows_of.max():
        return f"has from {rows_of.min()} to {rows_of.max()} rows at a checkpoint, where as many each time are wanted"
    if sentences is not None:
        for cell, rows in cells:
            if set(rows["sentence"]) != sentences:
                return f"has other sentences than sentences.parquet at {dict(zip(keys, cell, strict=True))}"
    return None


def _file(suite: Suite, table: str, name: str, data: Path) -> Path:
    return data / suite.name / table / f"{name}.parquet"

"""Whether a run is finished: its tables are all there, whole, and those of the run that the suite describes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from addends import tables
from addends.errors import DataError
from addends.runs import lineage
from addends.runs.suite import Run, Suite

PER_RUN = ("runs", "quality", "translations", "measurements", "trajectories")
"""The tables that every run has in a file of its own, ``<suite>/<table>/<run>.parquet``."""

OF_TRAINING = ("training", "manifest")
"""Those of a run whose lineage is known."""

ALL = (*PER_RUN, *OF_TRAINING, "further")


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
    run, block = suite.run(name), suite.block_of(suite.run(name))
    try:
        (row, *others) = _read(suite, "runs", name, data).to_dict("records") or [None]
        if row is None or others:
            return f"{_file(suite, 'runs', name, data)} has {len(others) + (row is not None)} rows: one is wanted."
        proven = row["lineage"] == "chain"
        wanted = [*PER_RUN, *(OF_TRAINING if proven else ()), *(["further"] if proven and suite.further else ())]
        frames = {table: _read(suite, table, name, data) for table in wanted}
        names = ["sentences", *(["further_sentences"] if "further" in wanted else [])]
        files = {name: data / suite.name / f"{name}.parquet" for name in names}
        ids = {name: set(tables.read(file, "sentences")["sentence"]) for name, file in files.items()}
    except DataError as error:
        return str(error)
    for column, value in description(suite, run).items():
        if pd.isna(row[column]) or row[column] != value:
            return f"{_file(suite, 'runs', name, data)} says {column}={row[column]!r}, the suite {value!r}."
    for table, frame in frames.items():
        others = sorted(set(frame["run"]) - {name})
        if others:
            return f"{_file(suite, table, name, data)} holds rows of {others}, not of {name!r} alone."
    frames["quality"] = frames["quality"][frames["quality"]["set"] == "held_out"]
    measured = frames.pop("measurements")
    checks = [
        ("quality", frames["quality"], suite.recipe.checkpoints, None),
        ("translations", frames["translations"], block.sentence_checkpoints, ids["sentences"]),
        *(
            ("measurements", measured[measured["target"] == target], steps, ids["sentences"])
            for target, steps in (("own", block.own_checkpoints), ("reference", block.sentence_checkpoints))
        ),
        *(
            ("trajectories", frames["trajectories"].query("target == @target"), suite.recipe.checkpoints, None)
            for target in tables.TARGETS
        ),
    ]
    if proven:
        checks.append(("manifest", frames["manifest"], (0, *suite.recipe.checkpoints), None))
    if "further" in frames:
        checks.append(("further", frames["further"], suite.further_checkpoints, ids["further_sentences"]))
    for table, frame, steps, sentences in checks:
        complaint = _holes(frame, steps, sentences)
        if complaint:
            return f"{_file(suite, table, name, data)} {complaint}."
    if proven:
        broken = lineage.broken_links(frames["manifest"])
        if broken:
            return f"{_file(suite, 'manifest', name, data)} is no chain: {'; '.join(broken)}."
    return None


def description(suite: Suite, run: Run) -> dict:
    """What a suite says of a run, as it stands in the table ``runs``.

    The number of parameters and the lineage are not the suite's to say, nor is the number of pairs where a condition
    takes all there are.
    """
    return {
        "run": run.name,
        "suite": suite.name,
        "block": suite.block_of(run).name,
        "condition": run.condition.name,
        "init_seed": run.seeds.init,
        "order_seed": run.seeds.order,
        "dropout_seed": run.seeds.dropout,
        "languages": "+".join(run.condition.languages),
        "layers": suite.recipe.layers,
        "dim": suite.recipe.dim,
        "steps": suite.recipe.steps,
        **({} if run.condition.pairs is None else {"pairs": run.condition.pairs}),
    }


def _holes(frame: pd.DataFrame, steps: tuple[int, ...], sentences: set[str] | None) -> str | None:
    what = f" of target={frame['target'].iloc[0]!r}" if "target" in frame and len(frame) else ""
    missing = sorted(set(steps) - set(frame["checkpoint"]))
    if missing:
        return f"lacks the checkpoints {missing}{what}"
    cells = frame[frame["checkpoint"].isin(steps)].groupby("checkpoint")
    rows_of = cells.size()
    if len(rows_of) and rows_of.min() < rows_of.max():
        return f"has {rows_of.min()} to {rows_of.max()} rows at a checkpoint{what}, where as many each time are wanted"
    if sentences is not None:
        for step, rows in cells:
            if set(rows["sentence"]) != sentences:
                return f"has other sentences than the suite's at step {step}{what}"
    return None


def _read(suite: Suite, table: str, name: str, data: Path) -> pd.DataFrame:
    return tables.read(_file(suite, table, name, data), table)


def _file(suite: Suite, table: str, name: str, data: Path) -> Path:
    return data / suite.name / table / f"{name}.parquet"

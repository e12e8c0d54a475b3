"""What is on disk of a run: its checkpoints, the record that guards them, and whether its tables are finished.

``run.json`` guards the checkpoints: recipe, seeds, condition, threads, and digests of the training pairs and of the
vocabulary. Measurements have records of their own (`addends.runs.shards`), so that measuring more, or measuring other
sentences, never puts trained weights in question. An entry that a record lacks is unknown, and what is unknown is not
taken to be equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from addends import tables
from addends.errors import DataError
from addends.runs import lineage, sentences
from addends.runs.suite import THREADS, Run, Suite, as_record

if TYPE_CHECKING:
    from transformers import MarianTokenizer

STATE = "trainer_state.json"  # what transformers' trainer writes beside the weights

PER_RUN = ("runs", "quality", "translations", "measurements", "trajectories")
"""The tables that every run has in a file of its own, ``<suite>/<table>/<run>.parquet``."""

OF_TRAINING = ("training", "manifest")
"""Those of a run whose lineage is known."""


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=lineage.step_of, reverse=True)


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint was written to its end: its record is written last."""
    try:
        json.loads((checkpoint / STATE).read_text())
        lineage.read(checkpoint)
    except (DataError, OSError, ValueError):  # not there, or cut off
        return False
    return True


def complete_steps(folder: Path) -> list[int]:
    """The steps whose checkpoints a run's folder holds whole, ascending."""
    return sorted(lineage.step_of(path) for path in checkpoints(folder) if is_complete(path))


def of_run(suite: Suite, name: str, work: Path) -> Path:
    """The work folder of a run: its checkpoints, its record, and its shards."""
    return work / suite.name / suite.run(name).name


def of_vocabulary(suite: Suite, work: Path) -> Path:
    """Where the suite's tokenizer is."""
    return work / suite.name / "vocabulary"


def checkpoint(suite: Suite, name: str, step: int, work: Path) -> Path:
    """Where the work folder has, or will have, a checkpoint of a run."""
    return of_run(suite, name, work) / f"checkpoint-{step}"


def is_trained(suite: Suite, name: str, work: Path) -> bool:
    """Whether the work folder holds the run's last checkpoint, whole. Models that exist are trained elsewhere."""
    return not suite.models and is_complete(checkpoint(suite, name, suite.recipe.steps, work))


def training_record(suite: Suite, run: Run, pairs: pd.DataFrame, tokenizer: MarianTokenizer) -> dict:
    """All that makes a run's weights what they are, and the steps at which they are kept."""
    vocabulary = sorted(tokenizer.get_vocab().items())
    return as_record(suite.recipe, run.seeds) | {
        "condition": run.condition.name,
        "languages": list(run.condition.languages),
        "pairs": len(pairs),
        "threads": THREADS,
        "pairs_sha256": sentences_sha256(pairs),
        "vocabulary_sha256": hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest(),
    }


def measuring_record(suite: Suite) -> dict:
    """All that makes the measurements of a checkpoint what they are, besides its weights."""
    record = {"own_tokens": suite.own_tokens, "held_out_sha256": sentences_sha256(sentences.held_out(suite))}
    further = sentences.further(suite)
    return record if further is None else record | {"further_sha256": sentences_sha256(further)}


def tables_at(suite: Suite, run: Run, step: int) -> dict[str, list[str]]:
    """The tables to which a checkpoint of a run adds rows, and which parts of each: sets of sentences, or targets.

    >>> from addends.runs import read_suite
    >>> toy = read_suite("toy")
    >>> tables_at(toy, toy.run("ora-i1-o1"), 60)["quality"]
    ['held_out']
    """
    block = suite.block_of(run)
    further = ["further"] if step in suite.further_checkpoints else []
    found = {"quality": ["held_out", *further], "trajectories": ["own", "reference"]}
    if step in block.sentence_checkpoints:
        targets = ["own", "reference"] if step in block.own_checkpoints else ["reference"]
        found |= {"translations": ["held_out"], "measurements": targets}
    return found | ({"further": further} if further else {})


def sentences_sha256(sentences: pd.DataFrame) -> str:
    """SHA-256 of identifiers, sources and targets, in their order."""
    text = sentences[["sentence", "source", "target"]].to_csv(index=False)
    return hashlib.sha256(text.encode()).hexdigest()


def guard_training(folder: Path, record: dict, complete: Sequence[int]) -> None:
    """Write down what a run is trained from; refuse a folder trained from something else.

    Parameters
    ----------
    folder : Path
        The run's work folder.
    record : dict
        A `training_record`.
    complete : sequence of int
        The steps whose checkpoints the folder holds. Saving does not touch training, so steps can be added to a recipe
        as long as training has not passed them; once it has, their weights are gone.

    Raises
    ------
    DataError
        If anything but the steps differs from what the folder was trained from, if the end of training does (the
        learning rate follows it), or if training has passed a step whose weights were not kept.
    """
    file = folder / "run.json"
    record = json.loads(json.dumps(record))
    found = _read(file)
    if complete or found:
        compared, earlier = (
            {name: value for name, value in values.items() if name != "checkpoints"} for values in (record, found)
        )
        compared["steps"], steps = record["checkpoints"][-1], found.get("checkpoints")
        earlier |= {"steps": steps[-1]} if steps and isinstance(steps, list) else {}
        _refuse_other(
            f"{folder} holds a run trained",
            earlier,
            compared,
            "Its checkpoints are left as they are: name another work folder for this one.",
        )
    passed = [step for step in record["checkpoints"] if complete and step < max(complete) and step not in complete]
    if passed:
        raise DataError(
            f"{folder} is trained up to step {max(complete)}, and the weights of {_steps(passed)} are not in it. Name "
            "another work folder: trained there from the start, on the same kind of machine, the run has the same "
            "weights and keeps these too. Or leave these steps out of the recipe's checkpoints."
        )
    _write(file, record)


def pairs_trained_on(folder: Path) -> int:
    """How many pairs a run was trained on, as its record says."""
    return int(_read(folder / "run.json")["pairs"])


def is_begun(suite: Suite, name: str, data: Path) -> bool:
    """Whether the data folder holds any table of the run."""
    return any(_file(suite, table, name, data).exists() for table in PER_RUN)


def what_is_missing(suite: Suite, name: str, data: Path) -> str | None:
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
    checkpoints = suite.checkpoints_of(run)
    by_sentence, own, translated = (
        tuple(step for step in steps if step in checkpoints)
        for steps in (block.sentence_checkpoints, block.own_checkpoints, suite.further_checkpoints)
    )
    try:
        (row, *others) = _read_table(suite, "runs", name, data).to_dict("records") or [None]
        if row is None or others:
            return f"{_file(suite, 'runs', name, data)} has {len(others) + (row is not None)} rows: one is wanted."
        proven = row["lineage"] == "chain"
        wanted = [
            *PER_RUN,
            *(OF_TRAINING if proven else ()),
            *(["further"] if (proven or suite.models) and translated else ()),
        ]
        frames = {table: _read_table(suite, table, name, data) for table in wanted}
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
        ("quality", frames["quality"], checkpoints, None),
        ("translations", frames["translations"], by_sentence, ids["sentences"]),
        *(
            ("measurements", measured[measured["target"] == target], steps, ids["sentences"])
            for target, steps in (("own", own), ("reference", by_sentence))
        ),
        *(
            ("trajectories", frames["trajectories"].query("target == @target"), checkpoints, None)
            for target in tables.TARGETS
        ),
    ]
    if proven:
        checks.append(("manifest", frames["manifest"], (0, *checkpoints), None))
    if "further" in frames:
        checks.append(("further", frames["further"], translated, ids["further_sentences"]))
    for table, frame, steps, expected in checks:
        complaint = _holes(frame, steps, expected)
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
    takes all there are. Of an existing model, seeds and size are not the suite's to say either.
    """
    return {
        "run": run.name,
        "suite": suite.name,
        "block": suite.block_of(run).name,
        "condition": run.condition.name,
        "languages": "+".join(run.condition.languages),
        "steps": suite.checkpoints_of(run)[-1],
        **(_of_training(suite, run) if suite.recipe else {}),
        **({} if run.condition.pairs is None else {"pairs": run.condition.pairs}),
    }


def _of_training(suite: Suite, run: Run) -> dict:
    return {
        "init_seed": run.seeds.init,
        "order_seed": run.seeds.order,
        "dropout_seed": run.seeds.dropout,
        "layers": suite.recipe.layers,
        "dim": suite.recipe.dim,
    }


def _refuse_other(what: str, found: dict, record: dict, remedy: str) -> None:
    other = sorted(name for name in {*record, *found} if name not in record or found.get(name) != record[name])
    if other:
        was, now = ({name: values.get(name, "unknown") for name in other} for values in (found, record))
        raise DataError(f"{what} with other {', '.join(other)} ({was}; now {now}). {remedy}")


def _read(file: Path) -> dict:
    if not file.exists():
        return {}
    try:
        return dict(json.loads(file.read_text()))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{file} is no record ({error}). Restore it, or move it away: it is then written anew."
        ) from error


def _write(file: Path, record: dict) -> None:
    if file.exists() and _read(file) == record:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    lineage.write_json(file, record)


def _steps(steps: Sequence[int]) -> str:
    return f"step {steps[0]}" if len(steps) == 1 else f"the steps {', '.join(map(str, steps))}"


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


def _read_table(suite: Suite, table: str, name: str, data: Path) -> pd.DataFrame:
    return tables.read(_file(suite, table, name, data), table)


def _file(suite: Suite, table: str, name: str, data: Path) -> Path:
    return data / suite.name / table / f"{name}.parquet"

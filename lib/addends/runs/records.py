"""The two records of a work folder: what its checkpoints were trained from, what its measurements were made with.

``run.json`` guards the checkpoints: recipe, seeds, condition, threads, and digests of the training pairs and of the
vocabulary. ``measured/record.json`` guards the measurements alone: the sentences, and how long a translation may be.
They are apart so that measuring more, or measuring other sentences, never puts trained weights in question.

An entry that a record lacks is unknown, and what is unknown is not taken to be equal.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from addends.errors import DataError
from addends.runs import training
from addends.runs.recipe import as_record
from addends.runs.suite import Run, Suite

if TYPE_CHECKING:
    from transformers import MarianTokenizer


def training_record(suite: Suite, run: Run, pairs: pd.DataFrame, tokenizer: MarianTokenizer) -> dict:
    """All that makes a run's weights what they are, and the steps at which they are kept."""
    vocabulary = sorted(tokenizer.get_vocab().items())
    return as_record(suite.recipe, run.seeds) | {
        "condition": run.condition.name,
        "languages": list(run.condition.languages),
        "pairs": len(pairs),
        "threads": training.THREADS,
        "pairs_sha256": sentences_sha256(pairs),
        "vocabulary_sha256": hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest(),
    }


def measuring_record(suite: Suite) -> dict:
    """All that makes the measurements of a checkpoint what they are, besides its weights."""
    further = {"further_sha256": sentences_sha256(suite.further())} if suite.further else {}
    return {"own_tokens": suite.own_tokens, "held_out_sha256": sentences_sha256(suite.held_out()), **further}


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


def guard_measuring(folder: Path, record: dict) -> None:
    """Write down what a run is measured with; refuse measurements made with something else.

    Raises
    ------
    DataError
        If measurements in ``folder/measured`` were made with other held-out sentences or another length limit.
    """
    place = folder / "measured"
    record = json.loads(json.dumps(record))
    if place.is_dir() and any(place.rglob("*.parquet")):
        _refuse_other(
            f"{place} holds measurements made",
            _read(place / "record.json"),
            record,
            "Move that folder away, or delete it, to measure anew: the checkpoints beside it stay.",
        )
    _write(place / "record.json", record)


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
    part = file.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1))
    os.replace(part, file)


def _steps(steps: Sequence[int]) -> str:
    return f"step {steps[0]}" if len(steps) == 1 else f"the steps {', '.join(map(str, steps))}"

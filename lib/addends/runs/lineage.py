"""The chain of records that proves a run's lineage, one record a checkpoint, each holding the digest of the one before.

A record is the file ``lineage.json`` in a checkpoint's folder, and one row of the table ``manifest``::

    {
        "run": "fra-i21-o21",
        "checkpoint": 297,
        "weights": "5d1c...",       # sha256 of model.safetensors
        "optimizer": "7b21...",     # sha256 of the optimizer's state, of its contents (see `addends.provenance`)
        "scheduler": "09af...",
        "generators": "c4e0...",    # of python's, numpy's and torch's random states
        "batches": "11d9...",       # over the ids of all training pairs so far, in their order (see `add_batch`)
        "previous": "e01b...",      # `record_sha256` of the record before; empty at step 0
        "configuration": "77ab...", # of run.json, which holds recipe, seeds, pairs and vocabulary
        "model": "30c2...",         # sha256 of config.json
        "tokenizer": "af21...",     # of the pieces of the vocabulary, in their order
        "processor": "AMD EPYC",
        "instructions": "AVX512",   # what torch uses of what the processor has
        "threads": 1,               # inside an operation
        "interop_threads": 1,       # between operations
        "torch": "2.13.0+cpu",
        "transformers": "5.23.0",
    }

Contents are digested, not the files that torch writes: pickles of equal contents may differ in their bytes.

Why there are records at all: public suites of seeds have shipped runs that do not begin with their own step 0, and
checkpoints that stand twice or under another step. `addends.runs.faults` names these where the records, the files and
the table tell them; `addends.runs.proofs` and `addends.runs.replay` draw and train again what the seeds govern.

References
----------
Issues 195, 203 and 205 of https://github.com/EleutherAI/pythia are the public cases.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from addends import provenance
from addends.errors import DataError
from addends.provenance import content_sha256

FILE = "lineage.json"
WEIGHTS = "model.safetensors"
CONFIGURATION = "run.json"
VOCABULARY = "vocab.json"
STATES = {"optimizer": "optimizer.pt", "scheduler": "scheduler.pt", "generators": "rng_state.pth"}
"""What resuming needs besides the weights: the record's entry, and the file that transformers' trainer writes."""

MACHINE = ("processor", "instructions", "threads", "torch", "transformers")
"""The entries that say where a run was trained: with equal ones, the same training gives the same bytes."""

_NOTHING = hashlib.sha256(b"").hexdigest()


def add_batch(before: str | None, ids: Iterable[str]) -> str:
    """The digest of all batches so far, d_t = sha256(d_{t-1} + ids of batch t); before the first, that of nothing.

    Parameters
    ----------
    before : str or None
        The digest before this batch, or None for the first.
    ids : iterable of str
        The identifiers of the batch's training pairs, in their order.
    """
    text = "\n".join([before or _NOTHING, *ids])
    return hashlib.sha256(text.encode()).hexdigest()


def batches_at(batches: Iterable[Sequence[int]], ids: Sequence[str], steps: Sequence[int]) -> dict[int, str]:
    """What `add_batch` gives at each of ``steps``, for batches of indices into ``ids``: drawn again, not recorded."""
    digest, found = _NOTHING, {}
    if 0 in steps:
        found[0] = digest
    for step, batch in enumerate(batches, start=1):
        digest = add_batch(digest, (ids[index] for index in batch))
        if step in steps:
            found[step] = digest
    return found


def file_sha256(file: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises
    ------
    DataError
        If there is no such file.
    """
    try:
        return provenance.file_sha256(file)
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error}). The run must be trained again from before it.") from error


def record_sha256(record: Mapping) -> str:
    """The digest by which the next record names this one: of its entries, sorted by name, as JSON."""
    return hashlib.sha256(json.dumps(dict(record), sort_keys=True).encode()).hexdigest()


def state_sha256(checkpoint: Path) -> dict[str, str]:
    """Digests of the optimizer's, the scheduler's and the generators' states, of those that the folder holds.

    Raises
    ------
    DataError
        If a file is cut off or is no state.
    """
    import torch

    found = {}
    for name, file in STATES.items():
        if (checkpoint / file).exists():
            try:
                # The generators' states are tuples and arrays, which the restricted reader refuses. Own files alone are
                # read here, the same ones that the trainer goes on from.
                content = torch.load(checkpoint / file, map_location="cpu", weights_only=False)
            except Exception as error:
                raise DataError(
                    f"{checkpoint / file} cannot be read ({error}). Delete {checkpoint}: training then goes on from "
                    "the checkpoint before it."
                ) from error
            found[name] = content_sha256(content)
    return found


def machine() -> dict:
    """What of this machine and its libraries can change the last bits of a run."""
    import torch
    import transformers

    return {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def write(checkpoint: Path, batches: str, previous: Mapping | None) -> dict:
    """Record a checkpoint that is whole: the last file that is written into it.

    Parameters
    ----------
    checkpoint : Path
        ``<work>/<suite>/<run>/checkpoint-<step>``, with the states of optimizer, scheduler and generators.
    batches : str
        What `add_batch` gave last.
    previous : mapping or None
        The record before, or None at step 0.
    """
    record = {
        "run": checkpoint.parent.name,
        "checkpoint": step_of(checkpoint),
        "batches": batches,
        "previous": record_sha256(previous) if previous else "",
        **digests(checkpoint),
        **machine(),
    }
    write_json(checkpoint / FILE, record)
    return record


def write_json(file: Path, record: Mapping) -> None:
    """Write a record atomically: a killed process leaves the old file or the new one, never half of one."""
    part = file.with_name(f".{file.name}.part")
    part.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(part, file)


def read(checkpoint: Path) -> dict:
    """The record of a checkpoint.

    Raises
    ------
    DataError
        If there is none, or it is cut off.
    """
    file = checkpoint / FILE
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise DataError(
            f"{file} is no record of a checkpoint ({error}). The checkpoint was not written to its end: delete its "
            "folder, and the run goes on from the one before."
        ) from error


def refuse_altered(checkpoint: Path) -> dict:
    """The record of a checkpoint that training is to go on from, once its files are known to be those it names.

    Raises
    ------
    DataError
        If the weights, the configuration of the model or of the run, the vocabulary, or the state of the optimizer,
        the scheduler or the generators, are another run's or were changed; if the record is another run's or step's, or
        not whole.
    """
    record = read(checkpoint)
    place = {"run": checkpoint.parent.name, "checkpoint": step_of(checkpoint)}
    for name, value in place.items():
        if record.get(name) != value:
            raise DataError(
                f"{checkpoint / FILE} is the record of {name} {record.get(name)!r}, and stands in the folder of "
                f"{value!r}. Put the checkpoint back where it belongs, or delete {checkpoint}."
            )
    files = {
        "configuration": checkpoint.parent / CONFIGURATION,
        "weights": checkpoint / WEIGHTS,
        "model": checkpoint / "config.json",
        "tokenizer": checkpoint / VOCABULARY,
        **{name: checkpoint / file for name, file in STATES.items()},
    }
    absent = [name for name in (*files, "batches", "previous") if not isinstance(record.get(name), str)]
    if absent:
        raise DataError(
            f"{checkpoint / FILE} lacks the entries {absent}: it is no whole record. Restore it, or delete {checkpoint}"
            ": training then goes on from the checkpoint before it."
        )
    for name, digest in digests(checkpoint).items():
        if digest != record[name]:
            raise DataError(
                f"{files[name]} is not the file that was saved at step {record['checkpoint']} of the run "
                f"{record['run']!r}: its {name} has the digest {digest[:12]}, the record says {record[name][:12]}. It "
                f"may be another run's. Restore it, or delete {checkpoint}: training then goes on from the checkpoint "
                "before it."
            )
    return record


def chain(folder: Path, steps: Sequence[int]) -> pd.DataFrame:
    """The records of a run's checkpoints as rows of the table ``manifest``, in the order of their steps.

    Those are step 0, ``steps``, and whatever others the folder holds: each record names the one before it, also where a
    recipe has dropped that step since.

    Raises
    ------
    DataError
        If a checkpoint has no record.
    """
    others = [step_of(file.parent) for file in folder.glob(f"checkpoint-*/{FILE}")]
    return pd.DataFrame([read(folder / f"checkpoint-{step}") for step in sorted({0, *steps, *others})])


def broken_links(manifest: pd.DataFrame) -> list[str]:
    """What breaks the chain of one run, in words; nothing if each record names the one before and step 0 is the start.

    Only the rows are read: whether files are those that the rows name is what `altered_files` says. A run whose rows
    hold digests of the weights alone (``previous`` is missing) has no chain, and is not for this function.

    Parameters
    ----------
    manifest : DataFrame
        The rows of one run, of the table ``manifest``.
    """
    records = manifest.sort_values("checkpoint").to_dict("records")
    said = []
    if records[0]["checkpoint"] != 0 or records[0]["previous"]:
        said.append(f"the first record is of step {records[0]['checkpoint']}, not of step 0, which has none before it")
    for before, after in pairwise(records):
        if after["previous"] != record_sha256(plain(before)):
            said.append(f"step {after['checkpoint']} does not follow from step {before['checkpoint']}")
    return said


def altered_files(folder: Path, manifest: pd.DataFrame) -> list[str]:
    """What in a run's work folder is not what its records say, in words: weights, and the states that were kept."""
    said = []
    for row in manifest.sort_values("checkpoint").to_dict("records"):
        checkpoint = folder / f"checkpoint-{row['checkpoint']}"
        try:
            record = refuse_altered(checkpoint)
        except DataError as error:
            said.append(str(error))
        else:
            if record != plain(row):
                said.append(f"{checkpoint / FILE} is not the record that the table has for that step.")
    return said


def configuration_sha256(folder: Path) -> str:
    """SHA-256 of what a run's folder was trained from: ``run.json`` without the steps at which weights are kept."""
    try:
        record = dict(json.loads((folder / CONFIGURATION).read_text()))
    except FileNotFoundError:  # trained by `train` itself, which knows no suite
        return _NOTHING
    except (TypeError, ValueError) as error:
        raise DataError(f"{folder / CONFIGURATION} is no record ({error}). Restore it.") from error
    return record_sha256({name: value for name, value in record.items() if name != "checkpoints"})


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint's name."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def digests(checkpoint: Path) -> dict[str, str]:
    """Of all that a record names of a checkpoint's files, and of the states those that the folder holds."""
    return {
        "configuration": configuration_sha256(checkpoint.parent),
        "weights": file_sha256(checkpoint / WEIGHTS),
        "model": file_sha256(checkpoint / "config.json"),
        "tokenizer": _vocabulary_sha256(checkpoint),
        **state_sha256(checkpoint),
    }


def _vocabulary_sha256(checkpoint: Path) -> str:
    """Of the pieces and their ids, which are what a model reads; tokenizer files name folders and versions too."""
    file = checkpoint / VOCABULARY
    try:
        vocabulary = dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise DataError(f"{file} cannot be read ({error}). The run must be trained again from before it.") from error
    return hashlib.sha256(json.dumps(sorted(vocabulary.items())).encode()).hexdigest()


def plain(record: Mapping) -> dict:
    """A row of a table as it stood in JSON: numpy's integers are Python's."""
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in record.items()}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

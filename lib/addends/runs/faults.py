"""Checkpoints that do not belong where they stand, named: what `addends status` says of a work folder.

Public suites of seeds have shipped checkpoints that stand twice, or under another step, and runs that do not begin with
their own step 0. Seven kinds of fault are told apart:

============  ===========================================================================================
fault         what it says of a checkpoint
============  ===========================================================================================
start         step 0 is another run's, or not what the run's init seed draws
doubled       the same weights stand under two steps
relabelled    it is another step of the same run
other run     it is a checkpoint of another run
changed       a file or its record is not the one saved there, and belongs nowhere else
missing       it is not there, though later ones are, or training went past it
other table   the run's records follow from each other, and are not those of the table ``manifest``
============  ===========================================================================================

Five witnesses are heard: the label in the record and in the trainer's state, the digests of the files, the chain, the
run's init seed, and the committed table, which a forger of the whole work folder does not reach. `origins` finds out
whose checkpoint it is.

References
----------
Issues 195, 203 and 205 of https://github.com/EleutherAI/pythia are the public cases.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from addends import tables
from addends.errors import DataError
from addends.runs import lineage, workfolder
from addends.runs.origins import Origins, Place, place_of
from addends.runs.sharing import MOVED
from addends.runs.suite import Run, Suite

COLUMNS = ("run", "checkpoint", "fault", "words")
FAULTS = ("start", "doubled", "relabelled", "other run", "changed", "missing", "other table")

_COMPARED = ("weights", *lineage.STATES, "batches", "configuration", "model", "tokenizer")


@dataclass
class Checkpoint:
    """A checkpoint as it stands on the disk, and what speaks against it.

    >>> found = Checkpoint("fra-i1-o1", 10, {"run": "fra-i1-o1", "checkpoint": 10}, {"weights": "5d1c"})
    >>> found.against.append("its record says step 12")
    >>> found.place
    ('fra-i1-o1', 10)

    Attributes
    ----------
    run, step : str, int
        Those of its folder.
    record : dict
        Its record; empty where that cannot be read.
    digests : dict
        What its files are, as in a record.
    claims : list of (run, step)
        Where it belongs, as witnesses say.
    against : list of str
        What speaks against it, in words.
    """

    run: str
    step: int
    record: dict
    digests: dict[str, str]
    claims: list[Place] = field(default_factory=list)
    against: list[str] = field(default_factory=list)

    @property
    def place(self) -> Place:
        return self.run, self.step

    @property
    def weights(self) -> str | None:
        return self.digests.get("weights")


def faults(suite: Suite, work: Path, data: Path | None = None, names: Sequence[str] | None = None) -> pd.DataFrame:
    """What does not belong in a suite's work folder: one row a checkpoint at fault, none where all is as it was saved.

    Every file of every checkpoint is read, and every start is drawn again. A run that is still in training lacks no
    step.

    Parameters
    ----------
    work : Path
        Its runs' checkpoints are in ``work/<suite>/<run>``.
    data : Path or None
        The folder with the committed tables: where it has the run's rows of ``manifest``, they are compared too.
    names : sequence of str, or None
        The runs whose faults are wanted; None stands for all. Of the others the records are read: a checkpoint may be
        theirs.

    Returns
    -------
    DataFrame
        The columns run, checkpoint, fault (one of `FAULTS`) and words.
    """
    manifest, rows = _manifest(suite, data), []
    found: dict[str, list[Checkpoint]] = {}
    others: list[dict] = []
    there = [run for run in suite.runs if workfolder.checkpoints(work / suite.name / run.name)]
    for run in tqdm(there, desc="verify", unit="run", disable=None, leave=False):
        folder = work / suite.name / run.name
        if names is not None and run.name not in names:
            others += [lineage.read(path) for path in workfolder.checkpoints(folder) if workfolder.is_complete(path)]
            continue
        found[run.name] = _read(folder)
        rows += _other_configuration(folder, found[run.name])
        rows += _missing(suite, folder, found[run.name])
        _labels(found[run.name])
        _start(suite, run, folder, found[run.name])
    standing = [checkpoint for each in found.values() for checkpoint in each]
    places = [(run.name, step) for run in suite.runs for step in (0, *suite.recipe.checkpoints)]
    origins = Origins([*others, *(checkpoint.record for checkpoint in standing)], manifest, places)
    for name, checkpoints in found.items():
        rows += _table(name, checkpoints, manifest.get(name, {}), origins)
        _chain(checkpoints, origins, [step for run_name, step, *_ in rows if run_name == name])
    _same_weights(standing)
    rows += [_fault(checkpoint, standing, origins) for checkpoint in standing if checkpoint.against]
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"checkpoint": "int64"})
    return frame.sort_values(["run", "checkpoint"], ignore_index=True)


def _manifest(suite: Suite, data: Path | None) -> dict[str, dict[int, dict]]:
    """{run: {step: row}} of the committed tables, without what a row lacks."""
    found: dict[str, dict[int, dict]] = {}
    if data is None:
        return found
    for run in suite.runs:
        file = data / suite.name / "manifest" / f"{run.name}.parquet"
        if file.exists():
            rows = tables.read(file, "manifest").to_dict("records")
            plain = [{name: value for name, value in lineage.plain(row).items() if pd.notna(value)} for row in rows]
            found[run.name] = {row["checkpoint"]: row for row in plain}
    return found


def _read(folder: Path) -> list[Checkpoint]:
    """The checkpoints of a run's folder, ascending; a last one that is not whole is training's to write again."""
    found: list[Checkpoint] = []
    for path in workfolder.checkpoints(folder):  # newest first
        if not found and not workfolder.is_complete(path):
            continue
        checkpoint = Checkpoint(folder.name, lineage.step_of(path), {}, {})
        try:
            checkpoint.record = lineage.read(path)
            trained = json.loads((path / workfolder.STATE).read_text())["global_step"]
            if trained != checkpoint.step:
                checkpoint.against.append(f"its trainer was at step {trained}")
                checkpoint.claims.append((folder.name, trained))
            checkpoint.digests = lineage.digests(path)
        except (DataError, OSError, ValueError, KeyError, TypeError) as error:
            checkpoint.against.append(str(error))
        for entry, digest in checkpoint.digests.items():
            if checkpoint.record.get(entry) != digest:
                said = str(checkpoint.record.get(entry, "nothing"))[:12]
                checkpoint.against.append(f"its {entry} has the digest {digest[:12]}, the record says {said}")
        found.append(checkpoint)
    return found[::-1]


def _other_configuration(folder: Path, found: list[Checkpoint]) -> list[tuple]:
    """One row where ``run.json`` is not what all of the records name: not the checkpoints are at fault then."""
    recorded = {str(checkpoint.record.get("configuration")) for checkpoint in found}
    try:
        differs = len(found) > 1 and len(recorded) == 1 and lineage.configuration_sha256(folder) not in recorded
        said = "is not what the run was trained from: all its records name another"
        excused = "its configuration has"
    except DataError as error:
        differs, said, excused = bool(found), "is no record, so no checkpoint can be verified", str(error)
    if not differs:
        return []
    for checkpoint in found:
        checkpoint.against = [reason for reason in checkpoint.against if not reason.startswith(excused)]
    return [(folder.name, found[0].step, "changed", f"run {folder.name!r}: {folder / lineage.CONFIGURATION} {said}")]


def _missing(suite: Suite, folder: Path, found: list[Checkpoint]) -> list[tuple]:
    steps = {checkpoint.step for checkpoint in found}
    if not steps:
        return []
    wanted, last = (0, *suite.recipe.checkpoints), max(steps)
    states = [(folder / f"checkpoint-{last}" / file).exists() for file in lineage.STATES.values()]
    lacking = [step for step in wanted if step < last and step not in steps]
    # The newest checkpoint of a training always has what going on from it needs. One without had others after it.
    lacking += [step for step in wanted if step > last][:1] if not all(states) else []
    return [
        (folder.name, step, "missing", f"step {step} of the run {folder.name!r} is missing: {folder} went past it")
        for step in lacking
    ]


def _start(suite: Suite, run: Run, folder: Path, found: list[Checkpoint]) -> None:
    if not found or found[0].step != 0 or found[0].weights is None:
        return
    from transformers import MarianTokenizer

    from addends.runs import proofs

    place = folder / "checkpoint-0"
    here = proofs.is_here(found[0].record)
    try:
        wrong = proofs.start_fault(suite, run, MarianTokenizer.from_pretrained(place), place, here)
    except (OSError, ValueError, TypeError) as error:  # a tokenizer that is cut off
        wrong = str(error)
    if wrong:
        found[0].against.append(wrong)


def _labels(found: list[Checkpoint]) -> None:
    for checkpoint in found:
        run, step = label = place_of(checkpoint.record)
        if checkpoint.record and label != checkpoint.place:
            checkpoint.against.append(f"its record says step {step} of the run {run!r}")
            checkpoint.claims.insert(0, label)


def _table(name: str, found: list[Checkpoint], rows: Mapping[int, dict], origins: Origins) -> list[tuple]:
    """Compare with the committed rows; a run that was trained anew is one fault, not one a checkpoint."""
    differing = {}
    for checkpoint in found:
        row = rows.get(checkpoint.step)
        if row is not None:
            says = checkpoint.record | checkpoint.digests
            entries = [entry for entry in _COMPARED if entry in row and row[entry] != says.get(entry)]
            if says.get("transformers") != row.get("transformers"):  # its version stands in the model's file
                entries = [entry for entry in entries if entry != "model"]
            if entries:
                differing[checkpoint.step] = (checkpoint, entries)
    later = [checkpoint for checkpoint in found if differing and min(differing) <= checkpoint.step in rows]
    anew = (
        len(later) > 1
        and all("weights" in differing.get(checkpoint.step, (None, ()))[1] for checkpoint in later)
        and not any(checkpoint.against or origins.in_table(checkpoint.weights) for checkpoint in later)
        and not lineage.broken_links(pd.DataFrame([checkpoint.record for checkpoint in found]))
    )
    if anew:
        mine, row = later[-1].record, rows[later[-1].step]
        machines = [entry for entry in lineage.MACHINE if entry in row and mine.get(entry) != row[entry]]
        where = f"with another {', '.join(machines)}" if machines else "on the same kind of machine"
        said = (
            f"from step {later[0].step} to {later[-1].step} the run {name!r} has other weights than the table "
            f"manifest, though its records follow from each other: it was trained anew, {where}, or forged whole. "
            "Measure it again, and the table is that of these weights; or restore those that the table names"
        )
        return [(name, later[0].step, "other table", said)]
    for checkpoint, entries in differing.values():
        checkpoint.against.append(f"the table manifest has another {', another '.join(entries)} for this step")
    return []


def _chain(found: list[Checkpoint], origins: Origins, lacking: Sequence[int]) -> None:
    """Accuse the culprit of a broken link; beside a fault that is known already, a broken link says no more.

    Two links broken in a row have one culprit, between them. Of a single one it is the earlier checkpoint, whose record
    is not the one that was named, unless the later one names the record of another place.
    """
    links = [
        (before, after)
        for before, after in pairwise(found)
        if not (before.against or after.against or any(before.step < step < after.step for step in lacking))
        and after.record.get("previous") != lineage.record_sha256(before.record)
    ]
    between = [after for (_, after), (before, _) in pairwise(links) if after is before]
    for before, after in links:
        stranger = origins.named(after.record.get("previous")) not in (None, before.place)
        for culprit in [each for each in (before, after) if each in between] or [after if stranger else before]:
            culprit.against.append(f"step {after.step} does not follow from step {before.step}")
    if found and found[0].step == 0 and found[0].record.get("previous") and not found[0].against:
        found[0].against.append("its record names one before it, and it is the first")


def _same_weights(standing: list[Checkpoint]) -> None:
    """The same weights twice where nothing else speaks against either: the later is accused; of two runs, both are."""
    seen: dict[str, Checkpoint] = {}
    for checkpoint in sorted(standing, key=lambda each: (bool(each.against), each.step)):
        if checkpoint.step < MOVED or checkpoint.weights is None:
            continue
        first = seen.setdefault(checkpoint.weights, checkpoint)
        if first is not checkpoint and not checkpoint.against:
            for one, two in ((checkpoint, first), (first, checkpoint))[: 1 if first.run == checkpoint.run else 2]:
                one.against.append(f"step {two.step} of the run {two.run!r} has the same weights")
                one.claims.append(two.place)


def _fault(checkpoint: Checkpoint, standing: list[Checkpoint], origins: Origins) -> tuple:
    """The row of a checkpoint that something speaks against: whose it is, and so which fault."""
    run, step = checkpoint.place
    claims = (
        origins.by_weights(checkpoint.weights, checkpoint.place)
        or [claim for claim in checkpoint.claims if claim != checkpoint.place]
        or origins.by_chain(checkpoint.record)
    )
    what, because = f"step {step} of the run {run!r}", "; ".join(dict.fromkeys(checkpoint.against))
    if not claims:
        if step == 0 and "init seed" in because:
            return run, step, "start", f"{what} is not its start: {because}"
        return run, step, "changed", f"{what} was changed: {because}"
    whose, when = claims[0]
    if whose != run and step == 0:
        return run, step, "start", f"{what} is not its start, but step {when} of the run {whose!r}: {because}"
    if whose != run:
        return run, step, "other run", f"{what} is step {when} of another run, {whose!r}: {because}"
    if any(each.place == (whose, when) and each.weights == checkpoint.weights for each in standing):
        return run, step, "doubled", f"{what} is its step {when} doubled: {because}"
    return run, step, "relabelled", f"{what} is its step {when} relabelled: {because}"

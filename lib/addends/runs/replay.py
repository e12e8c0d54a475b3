"""A replay: one stretch of a run is trained again from a state that was kept, and compared with what was recorded.

On the same kind of machine, with the same versions of torch and transformers, the weights must have the same bytes, and
so must the states of optimizer, scheduler and generators. Elsewhere sums are rounded otherwise, and training enlarges
the difference: there the distance is stated, with the distance between two different runs beside it,

    distance = ||w - w'|| / ||w - w_start||,    between = ||w - v|| / ||w - w_start||,

where w are the weights recorded at a checkpoint, w' those trained again, w_start those that the stretch began with, and
v the nearest weights that another run of the work folder has at that step.

References
----------
Issues 195, 203 and 205 of https://github.com/EleutherAI/pythia: what a record alone cannot show, training it again can.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from addends.errors import InputError
from addends.runs import lineage, proofs, workfolder
from addends.runs.suite import Suite

COLUMNS = ("run", "start", "checkpoint", "here", "differs", "distance", "between", "other", "holds", "words")

ELSEWHERE = 0.1
"""On another machine a replay holds while its distance is at most this share of the distance between two runs."""

_COMPARED = ("weights", *lineage.STATES, "batches")


def replay(
    suite: Suite,
    name: str,
    work: Path,
    seed: int | np.random.Generator | None = None,
    until: int | None = None,
    cpu: bool = False,
) -> pd.DataFrame:
    """Draw one of the states that a run kept, train on from it in a temporary folder, compare each checkpoint passed.

    Parameters
    ----------
    work : Path
        The work folder; nothing in it is changed.
    seed : int, Generator or None
        Draws the state; None draws another one each time.
    until : int or None
        The recorded checkpoint to train to; None stands for the one after the state.
    cpu : bool
        Use the CPU even where there is a GPU.

    Returns
    -------
    DataFrame
        A row a checkpoint: the columns run; start, the step of the state; checkpoint; here, whether the record was
        written on this kind of machine; differs, the entries of the record that differ, such as "weights, optimizer";
        distance and between as above, and other, whose weights v are, both missing where no other run has that step;
        holds: equal, or elsewhere a distance of at most `ELSEWHERE` times between, missing without it; words. A file
        that is not the one recorded holds nowhere.

    Raises
    ------
    InputError
        If the suite has no such run, ``until`` is no recorded checkpoint, or no state before it was kept.
    DataError
        If the state is not the one recorded, or its records do not follow from step 0; if the suite says another
        recipe, other seeds or other pairs than the run was trained with; or if the training pairs cannot be read.
    """
    folder = work / suite.name / suite.run(name).name
    recorded = [step for step in workfolder.complete_steps(folder) if step in {0, *suite.recipe.checkpoints}]
    start, end = _stretch(folder, recorded, np.random.default_rng(seed), until)
    passed = [step for step in recorded if start < step <= end]
    with tempfile.TemporaryDirectory(prefix="replay-") as temporary:
        copy = Path(temporary) / name
        _copy(folder, copy, start)
        _train(suite, name, copy, end, cpu)
        rows = [_compared(suite, name, work, copy, start, step) for step in passed]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype({"holds": "boolean", "distance": "float64", "between": "float64"})


def kept_states(folder: Path) -> list[int]:
    """The steps of a run's checkpoints that hold all that training on from them needs, ascending."""
    return [
        step
        for step in workfolder.complete_steps(folder)
        if all((folder / f"checkpoint-{step}" / file).exists() for file in (lineage.WEIGHTS, *lineage.STATES.values()))
    ]


def _stretch(
    folder: Path, recorded: Sequence[int], generator: np.random.Generator, until: int | None
) -> tuple[int, int]:
    """The step of a state, drawn, and the checkpoint to train to."""
    if until is not None and until not in recorded:
        raise InputError(f"until={until}: {folder} has no such checkpoint recorded. It has {list(recorded)}.")
    last = max(recorded, default=0) if until is None else until
    states = [step for step in kept_states(folder) if step in recorded and step < last]
    if not states:
        raise InputError(
            f"{folder} has no state to train on from before step {last}: it keeps those of {kept_states(folder)} "
            f"({', '.join(lineage.STATES.values())}). Name the folder that the run was trained in, or a later step."
        )
    start = int(generator.choice(states))
    return start, min(step for step in recorded if step > start) if until is None else until


def _copy(folder: Path, copy: Path, start: int) -> None:
    """The state with all its files; of the checkpoints before it the records, from which its own follows."""
    copy.mkdir()
    if (folder / lineage.CONFIGURATION).exists():
        shutil.copy(folder / lineage.CONFIGURATION, copy)
    for step in workfolder.complete_steps(folder):
        name = f"checkpoint-{step}"
        if step == start:
            shutil.copytree(folder / name, copy / name)
        elif step < start:
            (copy / name).mkdir()
            for file in (lineage.FILE, workfolder.STATE):
                shutil.copy(folder / name / file, copy / name)


def _train(suite: Suite, name: str, copy: Path, end: int, cpu: bool) -> None:
    from transformers import MarianTokenizer

    from addends.runs import sentences, training

    run, complete = suite.run(name), workfolder.complete_steps(copy)
    # The tokenizer that was saved with the state: loading the suite's own might train it, in the work folder.
    tokenizer = MarianTokenizer.from_pretrained(copy / f"checkpoint-{max(complete)}")
    pairs = sentences.training_pairs(suite, run)
    if (copy / lineage.CONFIGURATION).exists():
        workfolder.guard_training(copy, workfolder.training_record(suite, run, pairs, tokenizer), complete)
    encoded = proofs.encoded(pairs, tokenizer)
    keep = suite.recipe.checkpoints
    training.train(copy, suite.recipe, run.seeds, tokenizer, encoded, cpu=cpu, keep_states=keep, until=end)


def _compared(suite: Suite, name: str, work: Path, copy: Path, start: int, step: int) -> tuple:
    """A row of `replay`'s frame."""
    folder = work / suite.name / name
    old, new = (place / f"checkpoint-{step}" for place in (folder, copy))
    recorded, again = lineage.read(old), lineage.read(new)
    begun, weights = proofs.weights(copy / f"checkpoint-{start}"), proofs.weights(old)
    here, differs = proofs.is_here(recorded), [entry for entry in _COMPARED if recorded.get(entry) != again[entry]]
    apart = proofs.distance(weights, proofs.weights(new), begun)
    others = {
        run.name: proofs.distance(weights, proofs.weights(place), begun)
        for run in suite.runs
        if run.name != name
        and ((place := work / suite.name / run.name / f"checkpoint-{step}") / lineage.WEIGHTS).exists()
    }
    other = min(others, key=others.__getitem__, default=None)
    between = others[other] if other else None
    holds: bool | None
    said = f"{name}: trained again from step {start} to step {step}, "
    if recorded.get("weights") != lineage.file_sha256(old / lineage.WEIGHTS):
        holds, differs = False, list(dict.fromkeys(["weights", *differs]))
        said += f"but {old / lineage.WEIGHTS} is not the file that was recorded"
    elif apart == 0 and not differs:
        holds = True
        said += "the weights have the same bytes"
    elif here:
        holds = False
        said += f"on the same kind of machine, {', '.join(differs)} differ from those recorded"
    else:
        holds = None if between is None else apart <= ELSEWHERE * between
        said += f"on another kind of machine, {', '.join(differs)} differ from those recorded"
    said += f" (relative distance {apart:.2g}; "
    said += f"to {other} {between:.2g})" if other else "no other run has that step)"
    return name, start, step, here, ", ".join(differs), apart, between, other, holds, said

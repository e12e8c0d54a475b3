"""A suite of three runs that train in seconds, and what a forger would do to their checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd

from addends import tables
from addends.runs import lineage, proofs, sentences, training, workfolder
from addends.runs.suite import Block, Condition, MadeUpCorpus, Recipe, Run, Sample, Seeds, Suite, Vocabulary

STEPS = (3, 6, 9, 12)
KEPT = (0, 6)


ORA = Condition(("ora",))
SUITE = Suite(
    name="tiny",
    recipe=Recipe(
        layers=1,
        dim=16,
        heads=2,
        feed_forward=32,
        batch_pairs=8,
        checkpoints=STEPS,
        peak_learning_rate=1e-2,
        warmup_steps=2,
        positions=96,
    ),
    blocks=(
        Block(
            "tried",
            # The third has the start and the order of the first, and other masks.
            (Run("a", ORA, Seeds(1, 2, 3)), Run("b", ORA, Seeds(4, 5, 6)), Run("c", ORA, Seeds(1, 2, 7))),
            sentence_checkpoints=(12,),
        ),
    ),
    keep_states=KEPT,
    own_tokens=10,
    corpus=MadeUpCorpus(("ora",), pairs=80, seed=1),
    held_out=Sample("ora", 6),
    vocabulary=Vocabulary(80, coverage=1.0, byte_fallback=False),
)


def train(work: Path, data: Path) -> None:
    """Train the suite's runs, and write their tables ``runs`` and ``manifest``."""
    tokenizer = sentences.tokenizer(SUITE, work / "tiny" / "vocabulary")
    for run in SUITE.runs:
        folder, pairs = work / "tiny" / run.name, sentences.training_pairs(SUITE, run)
        workfolder.guard_training(folder, workfolder.training_record(SUITE, run, pairs, tokenizer), [])
        encoded = proofs.encoded(pairs, tokenizer)
        training.train(folder, SUITE.recipe, run.seeds, tokenizer, encoded, cpu=True, keep_states=KEPT)
        manifest = lineage.chain(folder, STEPS)
        tables.write(manifest, data / "tiny" / "manifest" / f"{run.name}.parquet", "manifest")
        row = workfolder.description(SUITE, run) | {"pairs": len(pairs), "parameters": 1, "lineage": "chain"}
        tables.write(pd.DataFrame([row]), data / "tiny" / "runs" / f"{run.name}.parquet", "runs")


def edit(file: Path, **entries) -> None:
    """Change entries of a record."""
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def change_a_weight(checkpoint: Path) -> None:
    """Flip the last bit of the last weight."""
    file = checkpoint / lineage.WEIGHTS
    content = bytearray(file.read_bytes())
    content[-4] ^= 1
    file.write_bytes(content)


def put(checkpoint: Path, place: Path) -> None:
    """A copy of a checkpoint, in another's place."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(checkpoint, place)


def swap(first: Path, second: Path) -> None:
    aside = first.with_name("aside")
    first.rename(aside), second.rename(first), aside.rename(second)


def relabel(checkpoint: Path) -> None:
    """Have a checkpoint's record say what its folder says."""
    place = {"run": checkpoint.parent.name, "checkpoint": lineage.step_of(checkpoint)}
    edit(checkpoint / lineage.FILE, **place, configuration=lineage.configuration_sha256(checkpoint.parent))


def digest_again(checkpoint: Path) -> None:
    """Have a checkpoint's record say what its files are."""
    edit(checkpoint / lineage.FILE, **lineage.digests(checkpoint))


def forge_chain(folder: Path) -> None:
    """Write every record anew, so that all of a run's records agree with its folders, its files, and each other."""
    previous = ""
    for checkpoint in reversed(workfolder.checkpoints(folder)):
        relabel(checkpoint), digest_again(checkpoint)
        edit(checkpoint / lineage.FILE, previous=previous)
        edit(checkpoint / workfolder.STATE, global_step=lineage.step_of(checkpoint))
        previous = lineage.record_sha256(lineage.read(checkpoint))

"""The jobs of a suite, each one process's: train a run, measure one of its checkpoints, write a run's tables.

Each job finds on disk what is done already, and goes on from there. `addends.runs.scheduling` gives them to processes.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import MarianTokenizer

from addends import tables
from addends.errors import AddendsError, DataError, InputError
from addends.runs import corpora, existing, lineage, measuring, sentences, shards, training, vocabulary, workfolder
from addends.runs.batching import Pairs
from addends.runs.suite import Run, Suite

_SHIPPED = "run.json"  # in the shipped folder: whose weights they are


@training.one_bar()
def train(suite: Suite, name: str, work: Path, cpu: bool = False, quiet: bool = False) -> str:
    """Train a run, or finish it: gives "trained", "there", or "claimed" by another process.

    Its checkpoints are in ``work/<suite>/<run>/checkpoint-<step>``.

    Parameters
    ----------
    cpu : bool
        Use the CPU even where there is a GPU.
    quiet : bool
        Show no progress bar: where several processes train, one bar stands for all.

    Raises
    ------
    DataError
        If the work folder holds a run of this name that was trained with something else
        (`addends.runs.workfolder` says what is compared); if a training pair shares a side with a held-out or a further
        sentence; or if the checkpoint to go on from holds a file that is not the one saved there.
    InputError
        If the suite has no such run, or a held-out sentence or training pair is longer than the model's positions.
    """
    run, folder = suite.run(name), workfolder.of_run(suite, name, work)
    shards.refuse_read_only(work)
    tokenizer = sentences.tokenizer(suite, workfolder.of_vocabulary(suite, work))
    for evaluated in (sentences.held_out(suite), sentences.further(suite)):
        if evaluated is not None:
            _sentences_table(suite, evaluated, tokenizer)  # too long a sentence is known before training
    pairs = sentences.training_pairs(suite, run)
    _refuse_overlap(pairs, suite)
    with shards.claimed(folder, "training") as mine:
        if not mine:
            return "claimed"
        complete = workfolder.complete_steps(folder)
        workfolder.guard_training(folder, workfolder.training_record(suite, run, pairs, tokenizer), complete)
        if {0, *suite.recipe.checkpoints} <= set(complete):
            return "there"
        encoded = Pairs(
            vocabulary.encode_all(tokenizer, pairs["source"]),
            vocabulary.encode_all(tokenizer, pairs["target"]),
            pairs["sentence"],
        )
        training.train(
            folder, suite.recipe, run.seeds, tokenizer, encoded, cpu=cpu, keep_states=suite.keep_states, quiet=quiet
        )
    return "trained"


@training.one_bar()
def measure(suite: Suite, name: str, step: int, work: Path, cpu: bool = False, again: bool = False) -> str:
    """Measure one checkpoint of a run, and write its shard: gives "measured", "there", or "claimed" by another process.

    Parameters
    ----------
    again : bool
        Measure anew what is altered, or was measured otherwise. What is whole stays.

    Raises
    ------
    DataError
        If the checkpoint is missing or altered; if the shard is altered, or was measured on another checkpoint or with
        other sentences, and ``again`` is not asked for; or if it cannot be written.
    """
    run, folder = suite.run(name), workfolder.of_run(suite, name, work)
    with shards.claimed(folder, step) as mine:
        if not mine:
            return "claimed"
        wanted = measured_with(suite, run, step, work)
        fault = shards.fault(folder, step, wanted)
        if fault is None:
            return "there"
        if fault.kind != "missing" and not again:
            raise DataError(f"{fault.words} --again measures it anew; the checkpoints and all other shards stay.")
        part, begun = shards.begin(folder, step), time.monotonic()
        device = "cuda" if torch.cuda.is_available() and not cpu else "cpu"
        with training.one_core():
            try:
                model, tokenizer = existing.load_to_measure(*suite.source_of(run, step, work), device)
                frames = measuring.measure_checkpoint(suite, run, step, model, tokenizer)
            except AddendsError as error:
                raise InputError(f"run {name!r}, step {step}, of the suite {suite.name!r}: {error}") from error
            record = {"run": name, "checkpoint": step} | wanted | {"measured_on": lineage.machine()}
        shards.write(part, frames, record | {"seconds": round(time.monotonic() - begun, 2)})
    return "measured"


def measured_with(suite: Suite, run: Run, step: int, work: Path) -> dict:
    """The entries that the record of a shard must have: its checkpoint's digests, its sentences, its tables.

    Raises
    ------
    DataError
        If the checkpoint is missing, or one of its files is not the one that was saved there.
    """
    if suite.models:
        origin = existing.origin(*suite.source_of(run, step, work))
    else:
        record = lineage.refuse_altered(workfolder.checkpoint(suite, run.name, step, work))
        origin = {name: record[name] for name in shards.ORIGIN}
    return origin | workfolder.measuring_record(suite) | {"files": workfolder.tables_at(suite, run, step)}


@training.one_bar()
def write_tables(suite: Suite, name: str, work: Path, data: Path) -> None:
    """Join the shards of a run, all of them measured, to its tables ``data/<suite>/<table>/<run>.parquet``.

    Raises
    ------
    DataError
        If a shard is missing, altered or of another checkpoint, or the checkpoints are not those of one training.
    """
    run, folder = suite.run(name), workfolder.of_run(suite, name, work)
    steps = suite.checkpoints_of(run)
    manifest = None if suite.models else _proven(folder, steps)
    for step in steps:
        fault = shards.fault(folder, step, measured_with(suite, run, step, work))
        if fault:
            raise DataError(f"{fault.words} The tables of a run are written once all its checkpoints are measured.")
    frames = {
        table: pd.concat(
            [shards.read(folder, step, table) for step in steps if table in workfolder.tables_at(suite, run, step)],
            ignore_index=True,
        )
        for table in sorted({table for step in steps for table in workfolder.tables_at(suite, run, step)})
    }
    if manifest is None:
        # Models of one suite may have tokenizers of their own: lengths are counted by that of the first.
        first = suite.runs[0]
        tokenizer = existing.load_to_measure(*suite.source_of(first, suite.checkpoints_of(first)[0], work))[1]
        model, _ = existing.load_to_measure(*suite.source_of(run, steps[-1], work))
        frames["runs"] = existing.runs_row(suite, run, model, int(frames["trajectories"]["layer"].max()))
    else:
        tokenizer = sentences.tokenizer(suite, workfolder.of_vocabulary(suite, work))
        frames["training"] = training.log(folder / f"checkpoint-{steps[-1]}").assign(run=name)
        frames["manifest"] = manifest
        frames["runs"] = _runs_row(suite, run, tokenizer, workfolder.pairs_trained_on(folder))
    for file, found in (("sentences", sentences.held_out(suite)), ("further_sentences", sentences.further(suite))):
        if found is not None:
            table = _sentences_table(suite, found, tokenizer)
            tables.write(table, data / suite.name / f"{file}.parquet", "sentences")
    for table in sorted(frames, key=lambda table: table == "runs"):  # its row last: it says that the others are there
        tables.write(frames[table], data / suite.name / table / f"{name}.parquet", table)


def ship(suite: Suite, name: str, work: Path, data: Path) -> Path:
    """Copy a run's last checkpoint to ``data/<suite>/checkpoint``: what `from_pretrained` needs, and whose it is.

    Raises
    ------
    DataError
        If the work folder does not hold the run, trained to its end.
    InputError
        If the suite has no such run.
    """
    if suite.models:
        raise InputError(f"The suite {suite.name!r} is of models that exist: there is none of its own to ship.")
    source = workfolder.checkpoint(suite, name, suite.recipe.steps, work)
    target = data / suite.name / "checkpoint"
    if not workfolder.is_trained(suite, name, work):
        raise DataError(
            f"{source} is no finished checkpoint, so there are no weights of the run {name!r} to ship: weights stay in "
            f"the work folder that they were trained in, also where the run's tables are there. {target} is left as it "
            "is. Name that folder with --work, or train the run anew with --again."
        )
    part = target.with_name(".checkpoint.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        if file.suffix in (".json", ".safetensors", ".spm") and file.name not in ("trainer_state.json", lineage.FILE):
            shutil.copy(file, part / file.name)
            (part / file.name).chmod(0o644)
    (part / _SHIPPED).write_text(json.dumps(_shipped(suite, name), indent=1) + "\n")
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    return target


def is_shipped(suite: Suite, name: str, data: Path) -> bool:
    """Whether ``data/<suite>/checkpoint`` says that it is the last checkpoint of this run."""
    target = data / suite.name / "checkpoint"
    try:
        said = json.loads((target / _SHIPPED).read_text())
    except (OSError, ValueError):
        return False
    return said == _shipped(suite, name) and (target / "model.safetensors").exists()


def _runs_row(suite: Suite, run: Run, tokenizer: MarianTokenizer, pairs: int) -> pd.DataFrame:
    # Of a new model: one that was loaded calls its fixed sinusoidal positions trainable too.
    model = training.new_model(suite.recipe, tokenizer, run.seeds.init)
    parameters = model.num_parameters(only_trainable=True)
    said = {"pairs": pairs, "parameters": parameters, "lineage": "chain"}
    return pd.DataFrame([workfolder.description(suite, run) | said])


def _proven(folder: Path, steps: tuple[int, ...]) -> pd.DataFrame:
    """The rows of the table ``manifest``, once the checkpoints to be measured are known to be those that it names."""
    manifest = lineage.chain(folder, steps)
    wrong = lineage.broken_links(manifest) or lineage.altered_files(folder, manifest)
    if wrong:
        raise DataError(f"The checkpoints in {folder} are not those of one training: {wrong[0]}")
    return manifest


def _refuse_overlap(pairs: pd.DataFrame, suite: Suite) -> None:
    for name, evaluated in (("held-out", sentences.held_out(suite)), ("further", sentences.further(suite))):
        if evaluated is None:
            continue
        clean = corpora.drop_overlap(pairs, evaluated)
        if len(clean) < len(pairs):
            shared = pairs[~pairs["sentence"].isin(clean["sentence"])].iloc[0]
            raise DataError(
                f"{len(pairs) - len(clean)} training pair(s) share a side with the {name} sentences, the first is "
                f"{shared['sentence']!r} ({shared['source'][:40]!r}, {shared['target'][:40]!r}). Leave such pairs out "
                "(corpora.drop_overlap), or hold out others: what was trained on is no test."
            )


def _sentences_table(suite: Suite, held_out: pd.DataFrame, tokenizer: Any) -> pd.DataFrame:
    if suite.models:  # their tokenizers are of any make
        sides = {
            "source": tokenizer(held_out["source"].tolist())["input_ids"],
            "target": tokenizer(text_target=held_out["target"].tolist())["input_ids"],
        }
    else:
        sides = {side: vocabulary.encode_all(tokenizer, held_out[side]) for side in ("source", "target")}
    lengths = {f"{side}_tokens": [len(ids) for ids in encoded] for side, encoded in sides.items()}
    table = held_out[["sentence", "language"]].assign(**lengths)
    if suite.models:
        return table
    longest = table[list(lengths)].max(axis=1)
    if (longest > suite.recipe.positions).any():  # known before training, so said before it
        row = int(longest.argmax())
        raise InputError(
            f"The held-out sentence {table['sentence'].iloc[row]!r} has {longest.iloc[row]} tokens on its longer "
            f"side, the recipe positions={suite.recipe.positions}. Hold out others, or give the recipe more positions."
        )
    return table


def _shipped(suite: Suite, name: str) -> dict:
    return {"suite": suite.name, "run": name, "step": suite.recipe.steps}

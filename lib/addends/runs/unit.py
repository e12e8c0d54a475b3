"""One unit of work: train one run, measure it at its checkpoints, write its tables.

Tables appear under the data folder only when the run is finished, each in one atomic step. Until then every measured
checkpoint waits in the work folder, so that a unit that was killed goes on where it was and ends with the same tables.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from addends.decomposition.encoding import encode, translate
from addends.decomposition.loading import load
from addends.errors import DataError, InputError
from addends.runs import tables, training, vocabulary
from addends.runs.batching import Pairs
from addends.runs.measure import corpus_means, measure_batch
from addends.runs.quality import corpus_scores, negative_log_likelihood, sentence_scores
from addends.runs.recipe import as_record
from addends.runs.suite import Run, Suite

_PER_RUN = ("runs", "quality", "translations", "measurements", "trajectories")
_BATCH_SIZE = 100


def train_and_measure(suite: Suite, name: str, work: Path, data: Path, cpu: bool = False) -> None:
    """Train the run ``name`` of a suite, measure it, and write its tables to ``data/<suite>/<table>/<run>.parquet``.

    Parameters
    ----------
    work : Path
        Where checkpoints and half-finished measurements go; outside version control.
    data : Path
        Where finished tables go.
    cpu : bool
        Use the CPU even where there is a GPU.

    Raises
    ------
    DataError
        If the work folder holds a run of this name made with another recipe, other seeds or other sentences.
    InputError
        If the suite has no such run, or a held-out sentence or training pair is longer than the model's positions.
    """
    run = suite.run(name)
    folder = work / suite.name / name
    _same_run(folder / "run.json", _record(suite, run))
    tokenizer = suite.tokenizer(work / suite.name / "vocabulary")
    sentences = _sentences(suite, tokenizer)
    if not all(training.is_complete(folder / f"checkpoint-{step}") for step in suite.recipe.checkpoints):
        pairs = suite.pairs(run)
        encoded = Pairs(
            vocabulary.encode_all(tokenizer, pairs["source"]), vocabulary.encode_all(tokenizer, pairs["target"])
        )
        training.train(folder, suite.recipe, run.seeds, tokenizer, encoded, cpu=cpu)
    measured = [
        _measured(suite, run, step, folder, "cpu" if cpu else _device())
        for step in tqdm(suite.recipe.checkpoints, desc=f"measure {name}", unit="checkpoint")
    ]
    frames = {
        table: pd.concat([piece[table] for piece in measured if table in piece], ignore_index=True)
        for table in _PER_RUN[1:]
    }
    frames["runs"] = _runs_row(suite, run, tokenizer)
    tables.write(sentences, data / suite.name / "sentences.parquet", "sentences")
    for table in reversed(_PER_RUN):  # the row of the table "runs" last: it says that the others are there
        tables.write(frames[table], data / suite.name / table / f"{name}.parquet", table)


def ship(suite: Suite, name: str, work: Path, data: Path) -> Path:
    """Copy a run's last checkpoint to ``data/<suite>/checkpoint``: what `from_pretrained` needs, nothing else.

    Raises
    ------
    DataError
        If the run has not been trained to its end.
    InputError
        If the suite has no such run.
    """
    source = work / suite.name / suite.run(name).name / f"checkpoint-{suite.recipe.steps}"
    if not training.is_complete(source):
        raise DataError(f"{source} is no finished checkpoint. Train the run {name!r} first.")
    target = data / suite.name / "checkpoint"
    part = target.with_name(".checkpoint.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        if file.suffix in (".json", ".safetensors", ".spm") and file.name != "trainer_state.json":
            shutil.copy(file, part / file.name)
            (part / file.name).chmod(0o644)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    return target


def measure_checkpoint(suite: Suite, run: Run, step: int, checkpoint: Path, device: str) -> dict[str, pd.DataFrame]:
    """The rows that one checkpoint adds to the tables quality, trajectories and, at some, translations, measurements.

    The held-out sentences are translated by the model (greedily), and decomposed by both methods on its own output
    and on the reference.
    """
    model, tokenizer = load(checkpoint, device=device)
    sentences = suite.held_out()
    ordered = sentences.iloc[sentences["source"].str.len().argsort(kind="stable")].reset_index(drop=True)
    own, reference, translations = [], [], []
    for start in range(0, len(ordered), _BATCH_SIZE):
        chunk = ordered.iloc[start : start + _BATCH_SIZE]
        sources, targets, ids = (chunk[name].tolist() for name in ("source", "target", "sentence"))
        translated = translate(model, tokenizer, sources, max_new_tokens=suite.own_tokens)
        read = encode(model, tokenizer, sources, targets)
        for batch, frames in ((translated, own), (read, reference)):
            frame = measure_batch(model, batch)
            frames.append(frame.assign(sentence=frame["sentence"].map(dict(enumerate(ids)))))
        translations.append(
            pd.DataFrame(
                {
                    "sentence": ids,
                    "text": translated.texts,
                    "reference": targets,
                    "nll": negative_log_likelihood(model, read).cpu().double().numpy(),
                    "tokens": translated.mask.sum(dim=1).cpu().numpy(),
                }
            )
        )
    here = {"run": run.name, "checkpoint": step}
    by_target = {"own": pd.concat(own), "reference": pd.concat(reference)}
    said = pd.concat(translations, ignore_index=True)
    texts, references = said.pop("text").tolist(), said.pop("reference").tolist()
    pieces = {
        "quality": corpus_scores(texts, references).assign(**here),
        "trajectories": pd.concat(
            [corpus_means(frame).assign(target=target, **here) for target, frame in by_target.items()]
        ),
    }
    if step in suite.sentence_checkpoints:
        pieces["translations"] = pd.concat([said, sentence_scores(texts, references)], axis=1).assign(**here)
        pieces["measurements"] = pd.concat([frame.assign(target=target, **here) for target, frame in by_target.items()])
    return {table: tables.validate(frame, table) for table, frame in pieces.items()}


def _measured(suite: Suite, run: Run, step: int, folder: Path, device: str) -> dict[str, pd.DataFrame]:
    """`measure_checkpoint`, kept under the run's work folder and read from there when it was done before."""
    place = folder / "measured" / str(step)
    wanted = [
        name for name in _PER_RUN[1:] if step in suite.sentence_checkpoints or name in ("quality", "trajectories")
    ]
    if not all((place / f"{table}.parquet").exists() for table in wanted):
        pieces = measure_checkpoint(suite, run, step, folder / f"checkpoint-{step}", device)
        for table, frame in pieces.items():
            tables.write(frame, place / f"{table}.parquet", table)
    return {table: tables.read(place / f"{table}.parquet", table) for table in wanted}


def _runs_row(suite: Suite, run: Run, tokenizer) -> pd.DataFrame:
    recipe = suite.recipe
    # Of a new model: one that was loaded calls its fixed sinusoidal positions trainable too.
    model = training.new_model(recipe, tokenizer, run.seeds.init)
    row = {
        "run": run.name,
        "suite": suite.name,
        "condition": run.condition,
        "init_seed": run.seeds.init,
        "order_seed": run.seeds.order,
        "dropout_seed": run.seeds.dropout,
        "languages": "+".join(run.languages),
        "layers": recipe.layers,
        "dim": recipe.dim,
        "parameters": model.num_parameters(only_trainable=True),
        "steps": recipe.steps,
    }
    return pd.DataFrame([row])


def _sentences(suite: Suite, tokenizer) -> pd.DataFrame:
    held_out = suite.held_out()
    lengths = {
        f"{side}_tokens": [len(ids) for ids in vocabulary.encode_all(tokenizer, held_out[side])]
        for side in ("source", "target")
    }
    sentences = held_out[["sentence", "language"]].assign(**lengths)
    longest = sentences[list(lengths)].max(axis=1)
    if (longest > suite.recipe.positions).any():  # known before training, so said before it
        row = int(longest.argmax())
        raise InputError(
            f"The held-out sentence {sentences['sentence'].iloc[row]!r} has {longest.iloc[row]} tokens on its longer "
            f"side, the recipe positions={suite.recipe.positions}. Hold out others, or give the recipe more positions."
        )
    return sentences


def _record(suite: Suite, run: Run) -> dict:
    """All that makes this run's tables what they are."""
    sentences = suite.held_out()
    text = sentences[["sentence", "source", "target"]].to_csv(index=False)
    return as_record(suite.recipe, run.seeds) | {
        "condition": run.condition,
        "languages": list(run.languages),
        "own_tokens": suite.own_tokens,
        "sentence_checkpoints": list(suite.sentence_checkpoints),
        "held_out_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def _same_run(file: Path, record: dict) -> None:
    """Write down what makes this run; refuse a work folder in which something else is written down."""
    record = json.loads(json.dumps(record))
    if file.exists():
        found = json.loads(file.read_text())
        other = sorted(name for name in record if found.get(name) != record[name])
        if other:
            raise DataError(
                f"{file.parent} holds a run made with other {', '.join(other)} "
                f"({ {name: found.get(name) for name in other} }). Delete the folder, or name another work folder."
            )
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1))
    os.replace(part, file)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"

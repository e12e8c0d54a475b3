"""One unit of work: train one run, measure it at its checkpoints, write its tables.

Tables appear under the data folder only when the run is finished, each in one atomic step. Until then every measured
checkpoint waits in the work folder, so that a unit that was killed goes on where it was and ends with the same tables.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from addends.decomposition.encoding import encode, translate
from addends.decomposition.loading import load
from addends.errors import DataError, InputError
from addends.runs import finished, records, tables, training, vocabulary
from addends.runs.batching import Pairs
from addends.runs.finished import PER_RUN
from addends.runs.measure import corpus_means, measure_batch
from addends.runs.quality import corpus_scores, negative_log_likelihood, sentence_scores
from addends.runs.suite import Run, Suite

_BATCH_SIZE = 100
_SHIPPED = "run.json"  # in the shipped folder: whose weights they are


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
        If the work folder holds a run of this name that was trained or measured with something else
        (`addends.runs.records` says what is compared).
    InputError
        If the suite has no such run, or a held-out sentence or training pair is longer than the model's positions.
    """
    run = suite.run(name)
    folder = work / suite.name / name
    steps = suite.recipe.checkpoints
    tokenizer = suite.tokenizer(work / suite.name / "vocabulary")
    sentences = _sentences(suite, tokenizer)
    pairs = suite.pairs(run)
    complete = _complete(folder)
    records.guard_training(folder, records.training_record(suite, run, pairs, tokenizer), complete)
    records.guard_measuring(folder, records.measuring_record(suite))
    if not set(steps) <= set(complete):
        encoded = Pairs(
            vocabulary.encode_all(tokenizer, pairs["source"]), vocabulary.encode_all(tokenizer, pairs["target"])
        )
        training.train(folder, suite.recipe, run.seeds, tokenizer, encoded, cpu=cpu)
    measured = [
        _measured(suite, run, step, folder, "cpu" if cpu else _device())
        for step in tqdm(steps, desc=f"measure {name}", unit="checkpoint")
    ]
    frames = {
        table: pd.concat([piece[table] for piece in measured if table in piece], ignore_index=True)
        for table in PER_RUN[1:]
    }
    frames["runs"] = _runs_row(suite, run, tokenizer)
    tables.write(sentences, data / suite.name / "sentences.parquet", "sentences")
    for table in reversed(PER_RUN):  # the row of the table "runs" last: it says that the others are there
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
    source = _last(suite, name, work)
    target = data / suite.name / "checkpoint"
    if not is_trained(suite, name, work):
        raise DataError(
            f"{source} is no finished checkpoint, so there are no weights of the run {name!r} to ship: weights stay in "
            f"the work folder that they were trained in, also where the run's tables are there. {target} is left as it "
            "is. Name that folder with --work, or train the run anew with --again."
        )
    part = target.with_name(".checkpoint.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        if file.suffix in (".json", ".safetensors", ".spm") and file.name != "trainer_state.json":
            shutil.copy(file, part / file.name)
            (part / file.name).chmod(0o644)
    (part / _SHIPPED).write_text(json.dumps(_shipped(suite, name), indent=1) + "\n")
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    return target


def is_trained(suite: Suite, name: str, work: Path) -> bool:
    """Whether the work folder holds the run's last checkpoint, whole."""
    return training.is_complete(_last(suite, name, work))


def is_shipped(suite: Suite, name: str, data: Path) -> bool:
    """Whether ``data/<suite>/checkpoint`` says that it is the last checkpoint of this run."""
    target = data / suite.name / "checkpoint"
    try:
        said = json.loads((target / _SHIPPED).read_text())
    except (OSError, ValueError):
        return False
    return said == _shipped(suite, name) and (target / "model.safetensors").exists()


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
    wanted = [name for name in PER_RUN[1:] if step in suite.sentence_checkpoints or name in ("quality", "trajectories")]
    if not all((place / f"{table}.parquet").exists() for table in wanted):
        pieces = measure_checkpoint(suite, run, step, folder / f"checkpoint-{step}", device)
        for table, frame in pieces.items():
            tables.write(frame, place / f"{table}.parquet", table)
    return {table: tables.read(place / f"{table}.parquet", table) for table in wanted}


def _runs_row(suite: Suite, run: Run, tokenizer) -> pd.DataFrame:
    # Of a new model: one that was loaded calls its fixed sinusoidal positions trainable too.
    model = training.new_model(suite.recipe, tokenizer, run.seeds.init)
    parameters = model.num_parameters(only_trainable=True)
    return pd.DataFrame([finished.description(suite, run) | {"parameters": parameters}])


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


def _complete(folder: Path) -> list[int]:
    """The steps whose checkpoints a work folder holds whole."""
    found = (path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit())
    return sorted(int(path.name.removeprefix("checkpoint-")) for path in found if training.is_complete(path))


def _last(suite: Suite, name: str, work: Path) -> Path:
    return work / suite.name / suite.run(name).name / f"checkpoint-{suite.recipe.steps}"


def _shipped(suite: Suite, name: str) -> dict:
    return {"suite": suite.name, "run": name, "step": suite.recipe.steps}


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"

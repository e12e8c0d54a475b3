"""One job: train one run, measure it at its checkpoints, write its tables.

Tables appear under the data folder only when the run is finished, each in one atomic step. Until then every measured
checkpoint waits in the work folder, so that a job that was killed goes on where it was and ends with the same tables.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm.auto import tqdm
from transformers import MarianTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from addends import tables
from addends.decomposition import Batch, corpus_means, encode, measure_batch, translate
from addends.errors import DataError, InputError
from addends.runs import corpora, existing, lineage, sentences, training, vocabulary, workfolder
from addends.runs.batching import Pairs
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
        (`addends.runs.workfolder` says what is compared); if a training pair shares a side with a held-out or a further
        sentence; or if a checkpoint holds a file that is not the one saved there, or its record does not follow from
        the one before.
    InputError
        If the suite has no such run, or a held-out sentence or training pair is longer than the model's positions.
    """
    run = suite.run(name)
    if suite.models:
        measure_existing(suite, run, work, data, cpu)
        return
    folder = work / suite.name / name
    steps = suite.recipe.checkpoints
    tokenizer = sentences.tokenizer(suite, work / suite.name / "vocabulary")
    held_out = _sentences_table(suite, sentences.held_out(suite), tokenizer)
    further = sentences.further(suite)
    further_table = None if further is None else _sentences_table(suite, further, tokenizer)
    pairs = sentences.training_pairs(suite, run)
    _refuse_overlap(pairs, suite)
    complete = workfolder.complete_steps(folder)
    workfolder.guard_training(folder, workfolder.training_record(suite, run, pairs, tokenizer), complete)
    workfolder.guard_measuring(folder, workfolder.measuring_record(suite))
    if not {0, *steps} <= set(complete):
        encoded = Pairs(
            vocabulary.encode_all(tokenizer, pairs["source"]),
            vocabulary.encode_all(tokenizer, pairs["target"]),
            pairs["sentence"],
        )
        training.train(folder, suite.recipe, run.seeds, tokenizer, encoded, cpu=cpu, keep_states=suite.keep_states)
    manifest = _proven(folder, steps)
    with training.one_core():
        measured = [
            _measured(suite, run, step, work, "cpu" if cpu else _device())
            for step in tqdm(steps, desc=f"measure {name}", unit="checkpoint")
        ]
    frames = _joined(measured)
    frames["training"] = training.log(folder / f"checkpoint-{steps[-1]}").assign(run=name)
    frames["manifest"] = manifest
    frames["runs"] = _runs_row(suite, run, tokenizer, len(pairs))
    _write_tables(suite, run, data, frames, held_out, further_table)


def measure_existing(suite: Suite, run: Run, work: Path, data: Path, cpu: bool = False) -> None:
    """`train_and_measure` for a run whose models exist: there is nothing to train, and no lineage to prove.

    The lengths in the table of sentences are counted by the tokenizer of the suite's first model.
    """
    steps = suite.checkpoints_of(run)
    workfolder.guard_measuring(work / suite.name / run.name, existing.record(suite, run))
    first = suite.runs[0]
    tokenizer = existing.load_to_measure(*suite.source_of(first, suite.checkpoints_of(first)[0], work))[1]
    further = sentences.further(suite)
    held_out = _sentences_table(suite, sentences.held_out(suite), tokenizer)
    further_table = None if further is None else _sentences_table(suite, further, tokenizer)
    with training.one_core():
        measured = [
            _measured(suite, run, step, work, "cpu" if cpu else _device())
            for step in tqdm(steps, desc=f"measure {run.name}", unit="checkpoint")
        ]
    frames = _joined(measured)
    model, _ = existing.load_to_measure(*suite.source_of(run, steps[-1], work))
    frames["runs"] = existing.runs_row(suite, run, model, int(frames["trajectories"]["layer"].max()))
    _write_tables(suite, run, data, frames, held_out, further_table)


def train_and_measure_all(suite: Suite, names: Sequence[str], work: Path, data: Path, workers: int, cpu: bool) -> None:
    """`train_and_measure` for each of ``names``, ``workers`` at a time, each in a process of its own."""
    if not suite.models:
        sentences.tokenizer(suite, work / suite.name / "vocabulary")  # once, before the runs share it
    jobs = [(suite, name, work, data, cpu) for name in names]
    if min(workers, len(names)) == 1:
        for arguments in jobs:
            train_and_measure(*arguments)
        return
    context = multiprocessing.get_context("spawn")  # a forked process would inherit torch's threads
    with ProcessPoolExecutor(min(workers, len(names)), mp_context=context) as pool:
        for done in [pool.submit(train_and_measure, *arguments) for arguments in jobs]:
            done.result()


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
    source = workfolder.last_checkpoint(suite, name, work)
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


def measure_checkpoint(
    suite: Suite, run: Run, step: int, checkpoint: str | Path, device: str, revision: str | None = None
) -> dict[str, pd.DataFrame]:
    """The rows that one checkpoint adds to the tables that `_pieces_at` names.

    The held-out sentences are translated by the model (greedily), and decomposed by both methods on its own output
    and on the reference. The further sentences are translated alone.
    """
    model, tokenizer = existing.load_to_measure(checkpoint, revision, device)
    block, here = suite.block_of(run), {"run": run.name, "checkpoint": step}
    own: list[pd.DataFrame] = []
    reference: list[pd.DataFrame] = []
    translations: list[pd.DataFrame] = []
    for sources, targets, ids in _chunks(sentences.held_out(suite)):
        translated, read, said = _translated(model, tokenizer, suite, sources, targets, ids)
        translations.append(said)
        for batch, frames in ((translated, own), (read, reference)):
            frame = measure_batch(model, batch)
            frames.append(frame.assign(sentence=frame["sentence"].map(dict(enumerate(ids)))))
    by_target = {"own": pd.concat(own), "reference": pd.concat(reference)}
    scores, by_sentence = _scored(pd.concat(translations, ignore_index=True))
    quality = [scores.assign(set="held_out")]
    sentence_steps = {"own": block.own_checkpoints, "reference": block.sentence_checkpoints}
    pieces = {
        "trajectories": pd.concat([corpus_means(frame).assign(target=name) for name, frame in by_target.items()]),
        "translations": by_sentence,
    }
    if step in block.sentence_checkpoints:
        pieces["measurements"] = pd.concat(
            [frame.assign(target=name) for name, frame in by_target.items() if step in sentence_steps[name]]
        )
    if step in suite.further_checkpoints:
        further = sentences.further(suite)
        said = [_translated(model, tokenizer, suite, *chunk)[2] for chunk in _chunks(further)]
        scores, pieces["further"] = _scored(pd.concat(said, ignore_index=True))
        quality.append(scores.assign(set="further"))
    pieces["quality"] = pd.concat(quality)
    return {table: tables.validate(pieces[table].assign(**here), table) for table in _pieces_at(suite, run, step)}


def _joined(measured: Sequence[dict[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """The tables of a run, of the pieces that its checkpoints add."""
    names = dict.fromkeys(table for piece in measured for table in piece)
    return {
        table: pd.concat([piece[table] for piece in measured if table in piece], ignore_index=True) for table in names
    }


def _write_tables(
    suite: Suite,
    run: Run,
    data: Path,
    frames: dict[str, pd.DataFrame],
    held_out: pd.DataFrame,
    further: pd.DataFrame | None,
) -> None:
    tables.write(held_out, data / suite.name / "sentences.parquet", "sentences")
    if further is not None:
        tables.write(further, data / suite.name / "further_sentences.parquet", "sentences")
    for table in sorted(frames, key=lambda table: table == "runs"):  # its row last: it says that the others are there
        tables.write(frames[table], data / suite.name / table / f"{run.name}.parquet", table)


def _pieces_at(suite: Suite, run: Run, step: int) -> list[str]:
    """The tables to which a checkpoint of a run adds rows."""
    by_sentence = step in suite.block_of(run).sentence_checkpoints
    return [
        "quality",
        "trajectories",
        *(("translations", "measurements") if by_sentence else ()),
        *(("further",) if step in suite.further_checkpoints else ()),
    ]


def _chunks(sentences: pd.DataFrame) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """Sources, targets and identifiers, a batch at a time, short sources first."""
    ordered = sentences.iloc[sentences["source"].str.len().argsort(kind="stable")].reset_index(drop=True)
    for start in range(0, len(ordered), _BATCH_SIZE):
        chunk = ordered.iloc[start : start + _BATCH_SIZE]
        yield tuple(chunk[name].tolist() for name in ("source", "target", "sentence"))


def _translated(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    suite: Suite,
    sources: list[str],
    targets: list[str],
    ids: list[str],
) -> tuple[Batch, Batch, pd.DataFrame]:
    """The model's own output and the reference as batches, and a row a sentence: what was said, and the nll."""
    translated = translate(model, tokenizer, sources, max_new_tokens=suite.own_tokens)
    read = encode(model, tokenizer, sources, targets)
    said = pd.DataFrame(
        {
            "sentence": ids,
            "text": translated.texts,
            "reference": targets,
            "nll": negative_log_likelihood(model, read).cpu().double().numpy(),
            "reference_tokens": read.mask.sum(dim=1).cpu().numpy(),
            "tokens": translated.mask.sum(dim=1).cpu().numpy(),
        }
    )
    return translated, read, said


def _scored(said: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The corpus's scores, and a row a sentence, of the rows of `_translated`; every target token counts alike."""
    texts, references = said.pop("text").tolist(), said.pop("reference").tolist()
    weights = said.pop("reference_tokens")
    nll = pd.DataFrame({"metric": ["nll"], "score": [(said["nll"] * weights).sum() / weights.sum()]})
    corpus = pd.concat([corpus_scores(texts, references), nll], ignore_index=True)
    return corpus, pd.concat([said, sentence_scores(texts, references)], axis=1)


def _measured(suite: Suite, run: Run, step: int, work: Path, device: str) -> dict[str, pd.DataFrame]:
    """`measure_checkpoint`, kept under the run's work folder and read from there when it was done before."""
    place, wanted = work / suite.name / run.name / "measured" / str(step), _pieces_at(suite, run, step)
    if not all((place / f"{table}.parquet").exists() for table in wanted):
        source, revision = suite.source_of(run, step, work)
        pieces = measure_checkpoint(suite, run, step, source, device, revision)
        for table, frame in pieces.items():
            tables.write(frame, place / f"{table}.parquet", table)
    found = {table: tables.read(place / f"{table}.parquet", table) for table in wanted}
    for table, frame in found.items():
        if set(zip(frame["run"], frame["checkpoint"], strict=True)) != {(run.name, step)}:
            raise DataError(
                f"{place / table}.parquet does not hold what was measured at step {step} of the run {run.name!r}. "
                f"Delete {place}: the step is then measured again."
            )
    return found


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


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"

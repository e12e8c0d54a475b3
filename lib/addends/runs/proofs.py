"""What the seeds of a run say of it, drawn again: its start from the init seed, its data from the order seed.

A run is proven when its start is what its init seed draws, each record follows from the one before
(`addends.runs.lineage.broken_links`), and its batches are those that its order seed draws. What lies between two
checkpoints is proven by training it again (`addends.runs.replay`).

References
----------
Issues 195, 203 and 205 of https://github.com/EleutherAI/pythia: public runs of which some did not begin with the step 0
that was published beside them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from addends.errors import DataError
from addends.runs import lineage, sentences
from addends.runs.suite import THREADS, Run, Suite

if TYPE_CHECKING:
    import torch
    from transformers import MarianTokenizer

    from addends.runs.batching import Pairs

ROUNDING = 1e-6
"""The relative distance within which two draws of one start are equal where processors round differently (2^-23 each:
some eight times what was seen between vector instructions and none)."""

COLUMNS = ("run", "claim", "checkpoint", "holds", "words")


def prove(
    suite: Suite, name: str, work: Path, tokenizer: MarianTokenizer, manifest: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Whether a run's start, chain and data order follow from its seeds: one row for each of the three claims.

    Parameters
    ----------
    work : Path
        The suite's work folder. Without weights there, step 0 is compared by its digest.
    tokenizer : MarianTokenizer
        The suite's own, as `addends.runs.sentences.tokenizer` gives it.
    manifest : DataFrame or None
        The run's rows of the table ``manifest``; None stands for the records in the work folder.

    Returns
    -------
    DataFrame
        The columns run; claim, "start", "chain" or "order"; checkpoint, the first at which it fails, missing where it
        holds; holds, missing where nothing here can decide; words.

    Raises
    ------
    DataError
        If there is no manifest, and the work folder has no records; or if the rows hold digests of the weights alone.
    InputError
        If the suite has no such run.
    """
    run, folder = suite.run(name), work / suite.name / name
    rows = lineage.chain(folder, ()) if manifest is None else manifest
    rows = rows[rows["run"] == name].sort_values("checkpoint")
    if rows.empty or rows["previous"].isna().any():
        raise DataError(
            f"The run {name!r} has no chain of records, so nothing of it can be proven: its manifest has {len(rows)} "
            "rows. Digests of the weights alone say that they are the same, not where they come from."
        )
    records = [lineage.plain(row) for row in rows.to_dict("records")]
    broken = lineage.broken_links(rows)
    said = [
        ("start", *_start(suite, run, tokenizer, records[0], folder / "checkpoint-0")),
        ("chain", _first_break(rows) if broken else None, not broken, "; ".join(broken) or _links(records)),
        ("order", *_order(suite, run, tokenizer, records)),
    ]
    frame = pd.DataFrame([(name, *row) for row in said], columns=list(COLUMNS))
    return frame.astype({"checkpoint": "Int64", "holds": "boolean"})


def start_fault(suite: Suite, run: Run, tokenizer: MarianTokenizer, checkpoint: Path, here: bool) -> str | None:
    """What is wrong with the weights of a step 0, in words, or None: they are drawn again from the run's init seed.

    Parameters
    ----------
    checkpoint : Path
        A folder with weights.
    here : bool
        Whether they were drawn on this kind of machine: their bytes must then be equal, elsewhere their relative
        distance at most `ROUNDING`.
    """
    from addends.runs import training

    recorded, drawn = weights(checkpoint), training.new_model(suite.recipe, tokenizer, run.seeds.init).state_dict()
    other = sorted(name for name in recorded if name not in drawn or drawn[name].shape != recorded[name].shape)
    if other:
        return f"it has weights of other shapes or names than the recipe's model ({other[0]})"
    apart = distance(recorded, {name: drawn[name] for name in recorded})
    if apart > (0 if here else ROUNDING):
        return f"init seed {run.seeds.init} draws other weights (relative distance {apart:.2g})"
    return None


def order_drawn(suite: Suite, run: Run, tokenizer: MarianTokenizer, steps: list[int]) -> dict[int, str]:
    """The digest of all batches up to each of ``steps``, as the run's order seed draws them: {step: digest}.

    Raises
    ------
    DataError
        If the training pairs cannot be read.
    """
    from addends.runs.batching import OrderedBatches

    pairs = encoded(sentences.training_pairs(suite, run), tokenizer)
    batches = OrderedBatches(pairs.lengths(), suite.recipe.batch_pairs, suite.recipe.steps, run.seeds.order)
    return lineage.batches_at(batches, pairs.ids, steps)


def encoded(pairs: pd.DataFrame, tokenizer: MarianTokenizer) -> Pairs:
    """Training pairs as the trainer reads them."""
    from addends.runs import vocabulary
    from addends.runs.batching import Pairs

    sides = [vocabulary.encode_all(tokenizer, pairs[side]) for side in ("source", "target")]
    return Pairs(sides[0], sides[1], pairs["sentence"])


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The weights that a checkpoint's folder holds, by name.

    Raises
    ------
    DataError
        If the file is missing or cut off.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = checkpoint / lineage.WEIGHTS
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{file} cannot be read ({error}). The run must be trained again from before it.") from error


def distance(
    first: Mapping[str, torch.Tensor],
    second: Mapping[str, torch.Tensor],
    start: Mapping[str, torch.Tensor] | None = None,
) -> float:
    """||first - second|| / ||first - start||, over all weights together; without a start, / ||first||.

    Equal weights have distance 0, also where nothing has moved since the start; infinity stands for unequal ones there.
    """
    apart = sum(float((first[name].double() - second[name].double()).square().sum()) for name in first) ** 0.5
    moved = [first[name].double() - (0 if start is None else start[name].double()) for name in first]
    norm = sum(float(weight.square().sum()) for weight in moved) ** 0.5
    return 0.0 if apart == 0 else float("inf") if norm == 0 else apart / norm


def is_here(record: Mapping) -> bool:
    """Whether a record was written on a machine like this one, by the same versions of torch and transformers."""
    machine = lineage.machine() | {"threads": THREADS}  # of a training, whatever this process has
    return all(record.get(name) == machine[name] for name in lineage.MACHINE)


def _start(
    suite: Suite, run: Run, tokenizer: MarianTokenizer, record: Mapping, checkpoint: Path
) -> tuple[int | None, bool | None, str]:
    """Step at fault, whether the claim holds, words."""
    seed, here = run.seeds.init, is_here(record)
    if record["checkpoint"] != 0:
        return 0, False, f"there is no record of step 0: the first is of step {record['checkpoint']}"
    if (checkpoint / lineage.WEIGHTS).exists() and record["weights"] == lineage.file_sha256(
        checkpoint / lineage.WEIGHTS
    ):
        wrong = start_fault(suite, run, tokenizer, checkpoint, here)
        how = "byte for byte" if here else "but for rounding, on another machine"
        return (0, False, f"step 0: {wrong}") if wrong else (None, True, f"init seed {seed} draws step 0 again, {how}")
    if drawn_sha256(suite, run, tokenizer) == record["weights"]:
        return None, True, f"init seed {seed} draws step 0 again: the file has the recorded digest"
    said = f"init seed {seed} draws a step 0 whose file has another digest than the record"
    if here:
        return 0, False, said
    return None, None, f"{said}, which was written on another machine or by other versions: only weights could tell"


def drawn_sha256(suite: Suite, run: Run, tokenizer: MarianTokenizer) -> str:
    """SHA-256 of the file that the trainer writes of the start that the run's init seed draws."""
    from addends.runs import training

    model = training.new_model(suite.recipe, tokenizer, run.seeds.init)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return lineage.file_sha256(Path(folder) / lineage.WEIGHTS)


def _order(
    suite: Suite, run: Run, tokenizer: MarianTokenizer, records: list[dict]
) -> tuple[int | None, bool | None, str]:
    steps = [record["checkpoint"] for record in records]
    try:
        drawn = order_drawn(suite, run, tokenizer, steps)
    except DataError as error:
        return None, None, f"the training pairs cannot be read here ({error})"
    for record in records:
        step = record["checkpoint"]
        if drawn.get(step) != record["batches"]:
            return step, False, f"order seed {run.seeds.order} draws other batches up to step {step} than recorded"
    return None, True, f"order seed {run.seeds.order} draws the batches of all steps to {steps[-1]} again"


def _first_break(rows: pd.DataFrame) -> int:
    """The first step whose record does not follow from what is before it."""
    steps = rows["checkpoint"].tolist()
    return next(step for count, step in enumerate(steps, 1) if lineage.broken_links(rows.head(count)))


def _links(records: list[dict]) -> str:
    return f"{len(records)} records from step 0 to {records[-1]['checkpoint']}, each follows from the one before"

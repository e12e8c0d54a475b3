"""Stitching the runs of a suite: every run's decoder reads every other run's encoder, through maps of five kinds.

Maps are fitted on the states of training sentences, with other training sentences to choose the ridge's penalty by and
to read the explained variance on; BLEU, chrF and the reference's negative log-likelihood are of the held-out sentences.
Inside the decoder, where A's lower layers have read A's encoder and B's upper layers read B's, the likelihood alone is
taken: a translation would have to be made by both at once.

What a run makes of the sentences is computed once, and shared by all pairs (`addends.runs.stitched_states`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from addends import tables
from addends.decomposition import Batch
from addends.errors import DataError, InputError
from addends.interventions import maps, stitching
from addends.provenance import content_sha256
from addends.runs import existing, stitched_states, training, workfolder
from addends.runs.made_of import made_of, refuse_other
from addends.runs.quality import corpus_scores
from addends.runs.stitched_states import EncoderStates, RunStates, Space, Texts
from addends.runs.suite import Suite

STEPS = 300
MAPS = 5  # how many are trained together


class _Encoder(NamedTuple):
    """One that a decoder reads: whose, trained or not (start "run" or "untrained"), and what it makes of sentences."""

    name: str
    start: str
    read: EncoderStates


def stitch(
    suite: Suite,
    names: Sequence[str],
    work: Path,
    data: Path,
    steps: int = STEPS,
    seed: int = 0,
    again: bool = False,
) -> list[Path]:
    """Stitch every ordered pair of the runs at their last checkpoint: ``data/<suite>/stitches/<decoder>.parquet``.

    A file a run whose decoder reads; those that are there for these runs are left alone. What was cut off goes on with
    the pairs that it stopped at: those done are kept in the work folder until the file is written.

    Parameters
    ----------
    steps : int
        Of the training of a map.
    seed : int
        Of the training sentences that are drawn, of random rotations, and of the order in which a map is trained.

    Raises
    ------
    InputError
        If there are fewer than two runs, the suite trains none, or two have different vocabularies or dimensions.
    DataError
        If a checkpoint is missing, or a file that is there lacks one of the runs, or was made of other weights, seed or
        steps.
    """
    names = list(dict.fromkeys(names))
    if len(names) < 2:
        raise InputError(f"stitch: {names}: two runs or more are to be stitched.")
    if suite.models:
        raise InputError(f"The suite {suite.name!r} is of models that exist: it has no training sentences to fit on.")
    files = {name: data / suite.name / "stitches" / f"{name}.parquet" for name in names}
    now = made_of(suite, [(name, suite.recipe.steps) for name in names], work, seed) | {"the steps": str(steps)}
    wanted = [name for name, file in files.items() if again or not _there(file, names, now)]
    if not wanted:
        return list(files.values())
    with training.one_core(), training.one_bar():
        texts, runs = stitched_states.texts_of(suite, names, work, seed), {}
        for name in tqdm(names, desc="states", unit="run"):
            model, tokenizer = existing.load_checkpoint(suite, name, suite.recipe.steps, work)
            runs[name] = stitched_states.read(name, model, tokenizer, texts)
            stitched_states.check_alike(runs[names[0]], runs[name])
        said = content_sha256([steps, seed, {name: dict(runs[name].model.state_dict()) for name in names}])
        with tqdm(total=len(wanted) * (len(names) - 1), desc=f"stitch {suite.name}", unit="pair") as bar:
            for name in wanted:
                kept = workfolder.of_run(suite, name, work) / f"stitched-{said[:16]}.parquet"
                rows = _into(suite, runs[name], runs, texts, steps, seed, kept, bar)
                tables.write(rows, files[name], "stitches", now)
                kept.unlink(missing_ok=True)
    return list(files.values())


def _there(file: Path, names: Sequence[str], now: Mapping[str, str]) -> bool:
    """Whether the file is there, for all of these runs, their weights, the seed and the steps."""
    if not file.exists():
        return False
    there = set(tables.read(file, "stitches", columns=["encoder"])["encoder"])
    if there >= set(names):
        refuse_other(file, "stitches", dict(now))
        return True
    raise DataError(
        f"{file} has the encoders {sorted(there)}, and {list(names)} are asked for. --again stitches anew, and "
        "replaces it."
    )


# --- one decoder ---


def _into(
    suite: Suite,
    reader: RunStates,
    runs: Mapping[str, RunStates],
    texts: Texts,
    steps: int,
    seed: int,
    kept: Path,
    bar: tqdm,
) -> pd.DataFrame:
    """The rows of one decoder: its own encoder, and every other run's through every map. Pairs in ``kept`` are done."""
    found = tables.read(kept, "stitches") if kept.exists() else pd.DataFrame([_own(suite, reader, texts)])
    left = [run for name, run in runs.items() if name not in set(found["encoder"])]
    bar.update(len(runs) - 1 - len(left))
    unrelated = _unrelated(suite, reader.name, list(runs))
    for place in range(0, len(left), MAPS):
        group = left[place : place + MAPS]
        encoders = [_Encoder(run.name, "run", run.encoder) for run in group]
        if unrelated in [run.name for run in group]:
            encoders.append(_Encoder(unrelated, "untrained", stitched_states.untrained(suite, runs[unrelated], texts)))
        rows = [*_through(suite, reader, encoders, texts, steps, seed)]
        for run in group:
            rows += _inside(reader, run, texts, seed)
        found = pd.concat([found, pd.DataFrame(rows)], ignore_index=True)
        tables.write(found, kept, "stitches")
        bar.update(len(group))
    return found


def _own(suite: Suite, reader: RunStates, texts: Texts) -> dict:
    found = _quality(suite, reader, reader.encoder, {"own": torch.nn.Identity()}, texts)
    return _row(reader.name, reader.name, "encoder", "own") | found["own"]


def _unrelated(suite: Suite, name: str, names: Sequence[str]) -> str:
    """Whose start the decoder reads untrained: the next run that does not share it, so that not all read one run's."""
    place = names.index(name)
    others = [*names[place + 1 :], *names[:place]]
    start = suite.run(name).seeds.init
    return next((each for each in others if suite.run(each).seeds.init != start), others[0])


def _through(
    suite: Suite, reader: RunStates, encoders: Sequence[_Encoder], texts: Texts, steps: int, seed: int
) -> Iterator[dict]:
    """The rows of some encoders, read through every map; of an untrained one, through the trained map alone."""
    like = next(reader.model.parameters())
    spaces = [stitched_states.encoder_space(encoder.read, reader.encoder, texts) for encoder in encoders]
    fits = [_fits(space, seed) for space in spaces]
    trained = _trained(reader, [each.read for each in encoders], [fit["affine"] for fit in fits], texts, steps, seed)
    for encoder, space, fit, last in zip(encoders, spaces, fits, trained, strict=True):
        kinds = {**fit, "trained": last} if encoder.start == "run" else {"trained": last}
        modules = {kind: stitching.as_module(each, like).requires_grad_(False) for kind, each in kinds.items()}
        quality = _quality(suite, reader, encoder.read, modules, texts)
        for kind, each in kinds.items():
            explained = maps.explained_variance(each, space.read_there, space.written_there)
            row = _row(encoder.name, reader.name, "encoder", kind) | {"start": encoder.start}
            yield row | quality[kind] | {"explained": explained, "penalty": each.penalty}


def _fits(space: Space, seed: int) -> dict[str, maps.StateMap]:
    """The maps that are fitted to states, by kind, from rows of one run to rows of the other."""
    return {
        "none": maps.no_map(space.read.shape[1]),
        "random": maps.random_rotation(space.read, space.written, seed),
        "rotation": maps.fit_rotation(space.read, space.written),
        "affine": maps.fit_affine(space.read, space.written, (space.read_there, space.written_there)),
    }


def _trained(
    reader: RunStates,
    reads: Sequence[EncoderStates],
    starts: Sequence[maps.StateMap],
    texts: Texts,
    steps: int,
    seed: int,
) -> list[maps.StateMap]:
    states = zip(*(read.training for read in reads), strict=True)  # of each piece, every encoder's
    batches = [[(piece, next(states)) for piece in pieces] for pieces in texts.training[: texts.fitted]]
    layers = stitching.train_maps(reader.model, starts, batches, steps, seed=seed, progress=False)
    found = []
    for layer in layers:
        weight, bias = (each.detach().double().numpy() for each in (layer.weight, layer.bias))
        found.append(maps.StateMap("trained", weight.T, np.zeros(weight.shape[1]), bias))
    return found


def _quality(
    suite: Suite, reader: RunStates, read: EncoderStates, modules: Mapping[str, torch.nn.Module], texts: Texts
) -> dict[str, dict[str, float]]:
    """BLEU, chrF and nll of the held-out sentences, by map: the translations through all maps are made at once."""
    said: dict[str, list[str]] = {kind: [] for kind in modules}
    losses = dict.fromkeys(modules, 0.0)
    for batch, states in zip(texts.held_out, read.held_out, strict=True):
        mapped = [module(states) for module in modules.values()]
        masks = batch.attention_mask.repeat(len(modules), 1)
        spoken = stitching.translate_states(reader.model, reader.tokenizer, torch.cat(mapped), masks, suite.own_tokens)
        for place, (kind, of_map) in enumerate(zip(modules, mapped, strict=True)):
            said[kind] += spoken[place * len(batch) : (place + 1) * len(batch)]
            losses[kind] += _summed(reader, batch, of_map)
    references = [text for batch in texts.held_out for text in batch.texts or ()]
    tokens = sum(int(batch.mask.sum()) for batch in texts.held_out)
    found = {}
    for kind, texts_of_kind in said.items():
        scores = corpus_scores(texts_of_kind, references)
        found[kind] = dict(zip(scores["metric"], scores["score"], strict=True)) | {"nll": losses[kind] / tokens}
    return found


def _summed(reader: RunStates, batch: Batch, states: torch.Tensor) -> float:
    """-log p of the references, in nats."""
    with torch.no_grad():
        return float(stitching.losses_of(reader.model, batch, states).double().sum())


def _inside(reader: RunStates, run: RunStates, texts: Texts, seed: int) -> Iterator[dict]:
    """The rows of a pair inside the decoder, in front of each layer."""
    like = next(reader.model.parameters())
    tokens = sum(int(batch.mask.sum()) for batch in texts.held_out)
    for layer in range(len(reader.decoder)):
        space = stitched_states.decoder_space(run, reader, layer, texts)
        for kind, made in _fits(space, seed).items():
            module, total = stitching.as_module(made, like).requires_grad_(False), 0.0
            for batch, own, states in zip(texts.held_out, reader.encoder.held_out, run.held_out, strict=True):
                with stitching.going_on(reader.model, layer, module(states[layer])):
                    total += _summed(reader, batch, own)
            yield _row(run.name, reader.name, "layer", kind) | {
                "layer": layer,
                "nll": total / tokens,
                "explained": maps.explained_variance(made, space.read_there, space.written_there),
                "penalty": made.penalty,
            }


def _row(encoder: str, decoder: str, place: str, kind: str) -> dict:
    return {
        "encoder": encoder,
        "decoder": decoder,
        "place": place,
        "layer": pd.NA,
        "map": kind,
        "start": "run",
        **dict.fromkeys(("bleu", "chrf", "nll", "explained", "penalty"), np.nan),
    }

"""Stitching the runs of a suite: every run's decoder reads every other run's encoder, through maps of five kinds.

Maps are fitted on the states of training sentences, with other training sentences to choose the ridge's penalty by and
to read the explained variance on; BLEU, chrF and the reference's negative log-likelihood are of the held-out sentences.
Inside the decoder, where A's lower layers have read A's encoder and B's upper layers read B's, the likelihood alone is
taken: a translation would have to be made by both at once.

What a run makes of the sentences is computed once, and shared by all pairs. Sentences are passed through a model with
others of like length, and the head reads real tokens alone: most of a mixed batch is padding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm
from transformers import MarianTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from addends import tables
from addends.decomposition import Batch, encode
from addends.errors import DataError, InputError
from addends.interventions import maps, stitching
from addends.provenance import content_sha256
from addends.runs import existing, sentences, training, workfolder
from addends.runs.quality import corpus_scores
from addends.runs.suite import Suite

FITTED, HELD_OUT = 2_000, 500  # training sentences: to fit maps on, and to choose a penalty by
TRAINING_BATCH, STEPS = 32, 300
TOGETHER = 8  # training sentences that pass through a model together, for each of several maps
MAPS = 5  # how many are trained together
AT_ONCE = 50  # held-out sentences that are translated together, through all maps


@dataclasses.dataclass(frozen=True)
class _Texts:
    """Sentences as batches of like length.

    Attributes
    ----------
    training : list of lists of Batch
        The pieces of each batch that a map is trained with.
    fitted : int
        How many of these batches maps are fitted on; the rest chooses penalties, and says what a map explains.
    held_out : list of Batch
        Short sources first.
    """

    training: list[list[Batch]]
    fitted: int
    held_out: list[Batch]

    @property
    def pieces(self) -> list[Batch]:
        return [piece for pieces in self.training for piece in pieces]


class _Read(NamedTuple):
    """What an encoder makes of the sentences: a tensor (sentence, read position, dim) for each batch of `_Texts`."""

    training: list[torch.Tensor]
    held_out: list[torch.Tensor]


class _Encoder(NamedTuple):
    """One that a decoder reads: whose, trained or not (start "run" or "untrained"), and what it makes of sentences."""

    name: str
    start: str
    read: _Read


@dataclasses.dataclass(frozen=True)
class _Run:
    """A run, loaded, and what it makes of the sentences.

    Attributes
    ----------
    encoder : _Read
    decoder : list of ndarray of shape (row, dim)
        Each layer's input, of the real target tokens of the training sentences.
    held_out : list of lists of Tensor of shape (sentence, position, dim)
        For each held-out batch, each layer's input.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    encoder: _Read
    decoder: list[np.ndarray]
    held_out: list[list[torch.Tensor]]


class _Space(NamedTuple):
    """Rows of two runs' states, of the same tokens: to fit maps on, and to choose by. All of shape (row, dim)."""

    read: np.ndarray
    written: np.ndarray
    read_there: np.ndarray
    written_there: np.ndarray


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
        If a checkpoint is missing, or a file that is there lacks one of the runs.
    """
    names = list(dict.fromkeys(names))
    if len(names) < 2:
        raise InputError(f"stitch: {names}: two runs or more are to be stitched.")
    if suite.models:
        raise InputError(f"The suite {suite.name!r} is of models that exist: it has no training sentences to fit on.")
    files = {name: data / suite.name / "stitches" / f"{name}.parquet" for name in names}
    wanted = [name for name, file in files.items() if again or not _there(file, names)]
    if not wanted:
        return list(files.values())
    with training.one_core(), training.one_bar():
        texts, runs = _texts(suite, names, work, seed), {}
        for name in tqdm(names, desc="states", unit="run"):
            runs[name] = _read(name, *existing.load_checkpoint(suite, name, suite.recipe.steps, work), texts)
            _check_alike(runs[names[0]], runs[name])
        said = content_sha256([steps, seed, {name: dict(runs[name].model.state_dict()) for name in names}])
        with tqdm(total=len(wanted) * (len(names) - 1), desc=f"stitch {suite.name}", unit="pair") as bar:
            for name in wanted:
                kept = workfolder.of_run(suite, name, work) / f"stitched-{said[:16]}.parquet"
                rows = _into(suite, runs[name], runs, texts, steps, seed, kept, bar)
                tables.write(rows, files[name], "stitches")
                kept.unlink(missing_ok=True)
    return list(files.values())


def _there(file: Path, names: Sequence[str]) -> bool:
    """Whether the file is there, for all of these runs."""
    if not file.exists():
        return False
    there = set(tables.read(file, "stitches", columns=["encoder"])["encoder"])
    if there >= set(names):
        return True
    raise DataError(
        f"{file} has the encoders {sorted(there)}, and {list(names)} are asked for. --again stitches anew, and "
        "replaces it."
    )


def _texts(suite: Suite, names: Sequence[str], work: Path, seed: int) -> _Texts:
    """Training sentences of the first run's condition, and the held-out sentences."""
    pairs = sentences.training_pairs(suite, suite.run(names[0]))
    drawn = pairs.sample(min(FITTED + HELD_OUT, len(pairs)), random_state=seed)
    fitted = max(1, len(drawn) * FITTED // (FITTED + HELD_OUT) // TRAINING_BATCH)
    if len(drawn) <= fitted * TRAINING_BATCH:
        raise InputError(
            f"stitch: {len(drawn)} training sentences, of which {fitted * TRAINING_BATCH} are to fit maps on: none is "
            "left to choose by. Train on more."
        )
    model, tokenizer = existing.load_checkpoint(suite, names[0], suite.recipe.steps, work)

    def batches(of: pd.DataFrame, size: int) -> list[Batch]:
        chunks = [of.iloc[place : place + size] for place in range(0, len(of), size)]
        return [encode(model, tokenizer, each["source"].tolist(), each["target"].tolist()) for each in chunks]

    held_out = sentences.held_out(suite)
    held_out = held_out.iloc[held_out["source"].str.len().argsort(kind="stable")]
    return _Texts(
        [stitching.by_length(batch, TOGETHER) for batch in batches(drawn, TRAINING_BATCH)],
        fitted,
        batches(held_out, AT_ONCE),
    )


def _read(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: _Texts) -> _Run:
    passes = [_states(model, batch) for batch in texts.pieces]
    held_out = [_states(model, batch) for batch in texts.held_out]
    rows = [
        [state[batch.mask].numpy() for state in decoder]
        for batch, (_, decoder) in zip(texts.pieces, passes, strict=True)
    ]
    return _Run(
        name,
        model,
        tokenizer,
        _Read([encoder for encoder, _ in passes], [encoder for encoder, _ in held_out]),
        [np.concatenate(layer) for layer in zip(*rows, strict=True)],
        [list(decoder) for _, decoder in held_out],
    )


def _states(model: PreTrainedModel, batch: Batch) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
    """The encoder's last state, and each decoder layer's input, of shape (sentence, position, dim)."""
    base: Any = model.base_model
    with torch.no_grad():
        output = base(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            decoder_input_ids=batch.decoder_input_ids,
            use_cache=False,
            output_hidden_states=True,
        )
    return output.encoder_last_hidden_state, output.decoder_hidden_states[:-1]


def _check_alike(one: _Run, two: _Run) -> None:
    if one.tokenizer.get_vocab() != two.tokenizer.get_vocab():
        raise InputError(
            f"stitch: {one.name!r} and {two.name!r} have different vocabularies: one does not know what the other "
            "read. Stitch runs that share theirs (--only)."
        )
    shapes = [(run.decoder[0].shape[1], len(run.decoder)) for run in (one, two)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"stitch: {one.name!r} and {two.name!r} have {shapes[0]} and {shapes[1]} dimensions and layers: rotations "
            "need as many. Stitch runs of one architecture (--only)."
        )


# --- one decoder ---


def _into(
    suite: Suite, reader: _Run, runs: Mapping[str, _Run], texts: _Texts, steps: int, seed: int, kept: Path, bar: tqdm
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
            encoders.append(_Encoder(unrelated, "untrained", _untrained(suite, runs[unrelated], texts)))
        rows = [*_through(suite, reader, encoders, texts, steps, seed)]
        for run in group:
            rows += _inside(reader, run, texts, seed)
        found = pd.concat([found, pd.DataFrame(rows)], ignore_index=True)
        tables.write(found, kept, "stitches")
        bar.update(len(group))
    return found


def _own(suite: Suite, reader: _Run, texts: _Texts) -> dict:
    found = _quality(suite, reader, reader.encoder, {"own": torch.nn.Identity()}, texts)
    return _row(reader.name, reader.name, "encoder", "own") | found["own"]


def _unrelated(suite: Suite, name: str, names: Sequence[str]) -> str:
    """Whose start the decoder reads untrained: the next run that does not share it, so that not all read one run's."""
    place = names.index(name)
    others = [*names[place + 1 :], *names[:place]]
    start = suite.run(name).seeds.init
    return next((each for each in others if suite.run(each).seeds.init != start), others[0])


def _untrained(suite: Suite, run: _Run, texts: _Texts) -> _Read:
    """What the run's encoder makes of the sentences before it has learnt anything."""
    tokenizer = cast(MarianTokenizer, run.tokenizer)
    start = training.new_model(suite.recipe, tokenizer, suite.run(run.name).seeds.init).eval()
    return _Read(
        *(
            [stitching.encoder_states(start, batch.input_ids, batch.attention_mask) for batch in batches]
            for batches in (texts.pieces, texts.held_out)
        )
    )


def _through(
    suite: Suite, reader: _Run, encoders: Sequence[_Encoder], texts: _Texts, steps: int, seed: int
) -> Iterator[dict]:
    """The rows of some encoders, read through every map; of an untrained one, through the trained map alone."""
    like = next(reader.model.parameters())
    spaces = [_encoder_space(encoder.read, reader.encoder, texts) for encoder in encoders]
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


def _encoder_space(read: _Read, written: _Read, texts: _Texts) -> _Space:
    """The rows of real source tokens."""
    first = sum(len(pieces) for pieces in texts.training[: texts.fitted])
    masks = [batch.attention_mask.bool() for batch in texts.pieces]

    def rows(of: _Read, where: slice) -> np.ndarray:
        chosen = zip(of.training[where], masks[where], strict=True)
        return torch.cat([states[mask] for states, mask in chosen]).numpy()

    fit, there = slice(first), slice(first, None)
    return _Space(rows(read, fit), rows(written, fit), rows(read, there), rows(written, there))


def _fits(space: _Space, seed: int) -> dict[str, maps.StateMap]:
    """The maps that are fitted to states, by kind, from rows of one run to rows of the other."""
    return {
        "none": maps.no_map(space.read.shape[1]),
        "random": maps.random_rotation(space.read, space.written, seed),
        "rotation": maps.fit_rotation(space.read, space.written),
        "affine": maps.fit_affine(space.read, space.written, (space.read_there, space.written_there)),
    }


def _trained(
    reader: _Run, reads: Sequence[_Read], starts: Sequence[maps.StateMap], texts: _Texts, steps: int, seed: int
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
    suite: Suite, reader: _Run, read: _Read, modules: Mapping[str, torch.nn.Module], texts: _Texts
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


def _summed(reader: _Run, batch: Batch, states: torch.Tensor) -> float:
    """-log p of the references, in nats."""
    with torch.no_grad():
        return float(stitching.losses_of(reader.model, batch, states).double().sum())


def _inside(reader: _Run, run: _Run, texts: _Texts, seed: int) -> Iterator[dict]:
    """The rows of a pair inside the decoder, in front of each layer."""
    like = next(reader.model.parameters())
    masks = [batch.mask.sum(dim=1) for pieces in texts.training[: texts.fitted] for batch in pieces]
    first = int(torch.cat(masks).sum())
    tokens = sum(int(batch.mask.sum()) for batch in texts.held_out)
    for layer, (read, written) in enumerate(zip(run.decoder, reader.decoder, strict=True)):
        space = _Space(read[:first], written[:first], read[first:], written[first:])
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

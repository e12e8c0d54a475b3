"""A corpus's effects: sentence means of what parts do and of what is said of them, streamed batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from addends.checks import check_choice, check_count
from addends.decomposition import Batch, encode
from addends.decomposition.encoding import special_ids
from addends.decomposition.translation import check_sentences
from addends.errors import InputError
from addends.interventions.attributions import source_attributions
from addends.interventions.floors import FLOORS, source_floors
from addends.interventions.intervene import BESIDE, KEY, Asked, asked, checked, effects_of, replacement_of, said_of
from addends.interventions.means import Means
from addends.interventions.reading import Reading
from addends.interventions.source_effects import (
    AGREEMENT_KEY,
    PLACE,
    part_removals,
    rank_agreement,
    source_removals,
)
from addends.interventions.source_pass import check_pair
from addends.tables import EFFECTS, METHODS, REPLACEMENTS, key


def measure_effects(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    targets: Sequence[str] | None = None,
    means: Means | None = None,
    batch_size: int = 32,
    *,
    effect: str | Sequence[str] = EFFECTS,
    by: str | Sequence[str] = METHODS,
    replace: str | Sequence[str] = ("mean",),
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """The effects of all terms, of single sublayers' parts and of sublayers in the pass, as means over real tokens.

    Parameters
    ----------
    sources, targets : sequence of str
        As for `encode`: the reference is what is scored. Of a decoder-only model the texts, and no targets.
    means : Means
        Of this model; needed where ``replace`` names "mean" or "pooled".
    batch_size : int
        Sentences a forward pass. It changes no number beyond rounding, except with ``replace="sentence"``: sentences
        are batched by length, and another one is drawn within the batch.
    effect, by, replace : sequence of str
        Which, as for `intervene`, each by each; total effects are by sublayer alone.

    Returns
    -------
    DataFrame
        Tidy, the columns of the table ``interventions`` but for the run: sentence (its index), effect, replace, by,
        layer, term, logprob, logit, share, importance, cosine, norm_ratio, tokens (how many were averaged; those
        without a cosine are left out of its mean).

    Raises
    ------
    InputError
        As `intervene` and `encode`; if means are needed and none given.
    UnsupportedModelError, ModelStateError
        As `intervene`.
    """
    frames = [
        sentence_means(frame)
        for frame in token_effects(
            model,
            tokenizer,
            sources,
            targets,
            means,
            batch_size,
            effect=effect,
            by=by,
            replace=replace,
            seed=seed,
            progress=progress,
        )
    ]
    if not frames:
        raise InputError("No text has a token with a next one: there is nothing to ask about.")
    keys = ["sentence", "effect", "replace", "by", "layer", "term"]
    result = pd.concat(frames).sort_values(keys, ignore_index=True)
    return result[[*keys, "logprob", "logit", *BESIDE, "tokens"]]


def token_effects(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    targets: Sequence[str] | None = None,
    means: Means | None = None,
    batch_size: int = 32,
    *,
    effect: str | Sequence[str] = EFFECTS,
    by: str | Sequence[str] = METHODS,
    replace: str | Sequence[str] = ("mean",),
    seed: int = 0,
    progress: bool = True,
) -> Iterator[pd.DataFrame]:
    """What `measure_effects` averages: a frame a batch and question, with a row a real token.

    Parameters, Raises
    ------------------
    As `measure_effects`.

    Yields
    ------
    DataFrame
        sentence (its index), effect, replace, by, layer, term, position, label (the id that the row is to predict),
        logprob, logit, share, importance, cosine, norm_ratio.
    """
    effects, methods, ways = ([each] if isinstance(each, str) else list(each) for each in (effect, by, replace))
    for name, given, allowed in (
        ("effect", effects, EFFECTS),
        ("by", methods, METHODS),
        ("replace", ways, REPLACEMENTS),
    ):
        for one in given:
            check_choice(name, one, allowed)
        if not given:
            raise InputError(f"{name}={given!r} names none. Name some of {allowed}.")
    needing = [way for way in ways if way in ("mean", "pooled")]
    if needing and means is None:
        raise InputError(
            f"replace={needing[0]!r} over a corpus needs means=, taken over other sentences by "
            "addends.interventions.take_means: means of single batches would depend on the batches."
        )
    if effects == ["total"] and "sublayer" not in methods:
        raise InputError("effect='total' needs by='sublayer'.")
    checked(model)
    if means is not None:
        means.check(model)
    least = 2 if "sentence" in ways else 1
    if len(sources) < least:
        raise InputError("replace='sentence' needs at least two sentences." if len(sources) else "sources is empty.")
    for chosen, batch in _numbered(model, tokenizer, sources, targets, batch_size, least, progress, "intervene"):
        reading = Reading(model, batch)
        if not reading.labelled[1].any():  # texts of one token have no next one
            continue
        for ask in _asks(reading, effects, methods):
            beside = said_of(reading, ask)
            for way in ways:
                taken = means if way in ("mean", "pooled") else None
                frame = effects_of(reading, ask, replacement_of(reading, ask, way, taken, seed))
                frame = frame.join(beside[BESIDE]).assign(replace=way)
                labels = reading.labelled[0].cpu().numpy()  # (sentence, position)
                frame["label"] = labels[frame["sentence"].to_numpy(), frame["position"].to_numpy()]
                frame["sentence"] = frame["sentence"].map(dict(enumerate(chosen)))
                yield frame


def measure_agreement(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    targets: Sequence[str],
    embedding_mean: torch.Tensor,
    counts: Mapping[int, int],
    batch_size: int = 32,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """How well each attribution ranks the source tokens as taking them away does, sentence by sentence.

    Parameters
    ----------
    model : PreTrainedModel
        An encoder-decoder.
    sources, targets : sequence of str
        The targets' tokens are those that are asked about. All special ids of the tokenizer are special.
    embedding_mean : Tensor of shape (dim,)
        What an embedding is replaced by: see `mean_source_embedding`.
    counts : mapping of int to int
        How often each piece occurs in the sources of a corpus, for the floor "rarity": see `source_floors`.
    batch_size : int
        Sentences a forward pass. It changes no number beyond rounding.
    seed : int
        Of the floor "random".

    Returns
    -------
    DataFrame
        As `rank_agreement`, and ``kind``; ``sentence`` is the index in ``sources``. The kinds: "attribution", the
        methods of `source_attributions`; "floor", those of `source_floors`; "removal", interventions themselves, which
        are shown and not ranked: that of our own part, and the yardsticks, by the names "removal, mask" and "removal,
        embedding". How well the one yardstick foretells the other is what can be hoped for.

    Raises
    ------
    InputError, UnsupportedModelError, ModelStateError
        As `encode`, `source_attributions`, `source_floors` and `source_removals`.
    """
    check_pair(model)
    special = sorted(special_ids(tokenizer))
    frames = []
    for chosen, batch in _numbered(model, tokenizer, sources, targets, batch_size, 1, progress, "agreement"):
        removals = source_removals(model, batch, embedding_mean, special)
        themselves = removals.assign(method="removal, " + removals["yardstick"], value=-removals["logprob"])
        said = [
            source_attributions(model, batch, special),
            source_floors(model, batch, counts, seed, special),
            part_removals(model, batch, special),
            themselves[[*PLACE, "special", "method", "value"]],
        ]
        found = rank_agreement(pd.concat(said, ignore_index=True), removals)
        frames.append(found.assign(sentence=found["sentence"].map(dict(enumerate(chosen)))))
    result = pd.concat(frames).sort_values(AGREEMENT_KEY, ignore_index=True)
    return result.assign(kind=result["method"].map(_kind))


def _kind(method: str) -> str:
    return "floor" if method in FLOORS else "removal" if method.startswith("removal, ") else "attribution"


def agreement_means(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over sentences of a frame of `measure_agreement`: the columns of the table ``attributions`` but the run.

    Parameters
    ----------
    frame : DataFrame

    Returns
    -------
    DataFrame
        method, kind, yardstick, sense, special_tokens, agreement, permuted, rows (of all sentences together),
        sentences. Sentences without a control, where one row alone can be ranked, are left out of both means, so that
        the two are of the same sentences.

    Examples
    --------
    >>> from addends.interventions.measuring import agreement_means
    >>> asked = {"method": "alti", "kind": "attribution", "yardstick": "mask", "sense": "size", "special_tokens": True}
    >>> sentences = pd.DataFrame({"sentence": [0, 1, 2], **asked, "agreement": [0.75, 0.25, 1.0]})
    >>> sentences = sentences.assign(permuted=[0.5, 0.0, None], rows=[4, 2, 1])
    >>> agreement_means(sentences)[["agreement", "permuted", "rows", "sentences"]].to_numpy().tolist()
    [[0.5, 0.25, 6.0, 2.0]]
    """
    keys = [name for name in key("attributions") if name != "run"]
    grouped = frame.dropna(subset=["agreement", "permuted"]).groupby([*keys, "kind"], sort=True)
    found = grouped.agg(
        agreement=("agreement", "mean"), permuted=("permuted", "mean"), rows=("rows", "sum"), sentences=("rows", "size")
    )
    return found.reset_index()


def batches_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    targets: Sequence[str] | None = None,
    batch_size: int = 32,
    progress: bool = True,
) -> Iterator[Batch]:
    """Encode a corpus batch by batch, sentences of about one length together, the shortest first.

    Raises
    ------
    InputError
        As `encode`, before anything is encoded.
    """
    for _, batch in _numbered(model, tokenizer, sources, targets, batch_size, 1, progress, "means"):
        yield batch


def _numbered(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    targets: Sequence[str] | None,
    batch_size: int,
    least: int,
    progress: bool,
    what: str,
) -> Iterator[tuple[list[int], Batch]]:
    """The batches with the indices of their sentences; none has fewer than ``least`` sentences."""
    check_count("batch_size", batch_size, what, least=least)
    sources = sources if isinstance(sources, str) else list(sources)
    targets = targets if targets is None or isinstance(targets, str) else list(targets)
    check_sentences(model, tokenizer, sources, targets)
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    chunks = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if len(chunks) > 1 and len(chunks[-1]) < least:
        chunks[-2:] = [chunks[-2] + chunks[-1]]
    for chosen in tqdm(chunks, disable=not progress, unit="batch", desc=what):
        own = [sources[index] for index in chosen]
        given = None if targets is None else [targets[index] for index in chosen]
        yield chosen, encode(model, tokenizer, own, given)


def _asks(reading: Reading, effects: Sequence[str], methods: Sequence[str]) -> Iterator[Asked]:
    """Every question: the terms by each method, the parts of single sublayers, the sublayers in the pass."""
    if "direct" in effects:
        for by in methods:
            yield asked(reading, by)
            if by == "sublayer":
                single = reading.parts("sublayer", sublayers="each").terms[1:-1]  # I and C are terms already
                yield asked(reading, by, sublayers="each", terms=single)
    if "total" in effects and "sublayer" in methods:
        yield asked(reading, effect="total")


def sentence_means(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over a sentence's tokens of a frame of `token_effects`, and how many there are."""
    keys = [*(name for name in KEY if name != "position"), "replace"]
    grouped = frame.groupby(keys, dropna=False)
    means = grouped[["logprob", "logit", *BESIDE]].mean()
    return means.assign(tokens=grouped.size()).reset_index()

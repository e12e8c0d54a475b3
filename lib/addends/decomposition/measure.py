"""Measuring a model: indicators as means over each sentence's tokens, streamed, no vectors kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from addends.decomposition.batch import Batch
from addends.decomposition.indicators import of_vectors
from addends.decomposition.parts import streams
from addends.decomposition.translation import check_sentences, encode_or_translate
from addends.errors import InputError
from addends.tables import INDICATORS, METHODS


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sources: Iterable[str],
    targets: Iterable[str] | None = None,
    by: str | Sequence[str] = ("sublayer", "token"),
    batch_size: int = 32,
    progress: bool = True,
    special_tokens: bool = True,
    **generate_kwargs: Any,
) -> pd.DataFrame:
    """The four indicators of every term in every sentence, as means over the sentence's real tokens.

    Parameters
    ----------
    sources : iterable of str
        Source sentences, or the texts of a single stack (an encoder, a decoder-only model).
    targets : iterable of str, or None
        What the decoder of an encoder-decoder reads: one reference a source, or None for the model's own translations,
        made by `translate`. A single stack has no targets: None, and the texts themselves are measured.
    by : sequence of {"sublayer", "token"}
        The methods; one may be named by itself, and one named twice counts once.
    batch_size : int
        Sentences a forward pass. It changes speed and memory, not the numbers beyond rounding: sentences are batched by
        length, and what is zero is decided as `addends.decomposition.indicators` says. (With ``do_sample=True`` other
        translations are drawn.)
    progress : bool
        Show a progress bar.
    special_tokens : bool
        Whether rows count whose token is a special one: see `encode`. A sentence that has no other row has no numbers.
    **generate_kwargs
        Options for `translate`, such as ``num_beams`` or what `set_languages` returns. Where nothing is translated they
        are not needed, and only their names are read: one that `generate` does not know is refused all the same.

    Returns
    -------
    DataFrame
        Tidy: sentence (its index in ``sources``), layer, by, term, importance, cosine, norm_ratio, distance, tokens
        (how many were averaged). A cosine that no token of the sentence defines is missing.

    Raises
    ------
    InputError
        As `encode` and `decompose` do, before anything is measured.
    UnsupportedModelError
        As `decompose` does. Whether the parts sum to the states is checked on the first batch, the shortest sentences,
        by each method; later batches of the same model are not checked.
    ModelStateError
        As `translate` and `decompose` do.
    """
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: at least 1 sentence a forward pass is needed.")
    methods, texts = _methods(by), _listed(sources)
    references = None if targets is None else _listed(targets)
    check_sentences(model, tokenizer, texts, references, **generate_kwargs)
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    frames, checked = [], False
    for start in tqdm(range(0, len(order), batch_size), disable=not progress, unit="batch", desc="measure"):
        chosen = order[start : start + batch_size]
        own = [texts[index] for index in chosen]
        given = None if references is None else [references[index] for index in chosen]
        batch = encode_or_translate(model, tokenizer, own, given, special_tokens=special_tokens, **generate_kwargs)
        check = not checked and bool(batch.mask.any())  # without special tokens a batch may have no row that counts
        frame = measure_batch(model, batch, methods, check=check)
        checked = checked or check
        frame["sentence"] = frame["sentence"].map(dict(enumerate(chosen)))
        frames.append(frame)
    return pd.concat(frames).sort_values(["sentence", "by", "layer", "term"], ignore_index=True)


def measure_batch(
    model: PreTrainedModel, batch: Batch, by: str | Sequence[str] = ("sublayer", "token"), check: bool = True
) -> pd.DataFrame:
    """`measure` for sentences that are already a batch: the ids a model generated stay the ids it generated.

    With ``check``, the sums are checked as in `decompose`; whoever measures many batches of one model may leave that
    out after the first one, as `measure` does.
    """
    tokens = batch.mask.sum(dim=1)  # (sentence,)
    frames = []
    for method, terms, layers in streams(model, batch, _methods(by), check):
        means = torch.stack([_sentence_means(vectors, state, batch.mask) for vectors, state in layers], dim=1)
        index = pd.MultiIndex.from_product(  # means: (indicator, layer, term, sentence)
            [range(means.shape[1]), terms, range(means.shape[3])], names=["layer", "term", "sentence"]
        )
        values = means.flatten(1).T.cpu().double().numpy()  # (layer * term * sentence, indicator)
        frames.append(pd.DataFrame(values, index=index, columns=list(INDICATORS)).reset_index().assign(by=method))
    frame = pd.concat(frames, ignore_index=True)
    frame["tokens"] = tokens.cpu().numpy()[frame["sentence"]]
    return frame[["sentence", "layer", "by", "term", *INDICATORS, "tokens"]]


def corpus_means(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over the corpus of a frame that `measure` made: every sentence counts alike, one row a layer and term."""
    return frame.groupby(["layer", "by", "term"], as_index=False)[list(INDICATORS)].mean()


def _methods(by: str | Sequence[str]) -> tuple[str, ...]:
    """The methods named, each once."""
    methods = tuple(dict.fromkeys([by] if isinstance(by, str) else by))
    if not methods or any(method not in METHODS for method in methods):
        raise InputError(f"by={by!r}: name at least one of {METHODS}, and nothing else.")
    return methods


def _listed(texts: Iterable[str]) -> Sequence[str]:
    # A string stays one, for the check that refuses it; a Series is taken in its order, not by its index.
    return texts if isinstance(texts, str) else list(texts)


def _sentence_means(vectors: torch.Tensor, state: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Means over real tokens, of shape (indicator, term, sentence), of vectors (term, sentence, position, dim)."""
    values = of_vectors(vectors, state)  # (indicator, term, sentence, position)
    return values.masked_fill(~mask, torch.nan).nanmean(dim=-1)

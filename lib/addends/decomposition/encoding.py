"""From sentences to batches: tokenizing for what the model reads. Nothing is cut in silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from addends.decomposition.architectures import architecture_of
from addends.decomposition.batch import Batch, positions
from addends.decomposition.languages import check_languages, check_written, decoder_start, language_ids
from addends.decomposition.loading import check_vocabulary
from addends.errors import InputError


def encode(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    targets: Sequence[str] | None = None,
    *,
    truncation: bool = False,
    legacy: bool = False,
    special_tokens: bool = True,
) -> Batch:
    """Tokenize sentences into a `Batch` on the model's device: sources and targets, or the texts of a single stack.

    Of an encoder-decoder, the target is tokenized as a target (``text_target``), with its end symbol (and, in
    multilingual models, its language token), and shifted right behind the decoder's start symbol: row t predicts token
    t of the target. Of an encoder or a decoder-only model, ``sources`` are the texts, and there are no targets; padding
    is on the side that the tokenizer pads, with positions that count real tokens.

    Parameters
    ----------
    sources : sequence of str
        None of them empty.
    targets : sequence of str, optional
        As many as sources; for encoder-decoders.
    truncation : bool
        Cut sentences that are longer than the model's positions, as their tokenizer cuts: it keeps the symbols that it
        puts around a text; the batch's ``truncated`` lists them. By default they are refused.
    legacy : bool
        Feed the decoder as the code released with Mickus & Vázquez (2023) does: the target is tokenized by the
        *source* side's tokenizer and not shifted, so that row t is the state after reading token t at position t - 1
        (counting tokens from 1), the row fed with the end symbol counts too, and rows whose id is the pad's do not.
        For reproducing published numbers only.
    special_tokens : bool
        Whether rows of special tokens count: ends, beginnings, languages (unknown words are no special tokens). A
        row's token is its label; in a single stack it is the token that the row stands on. By default every real token
        counts. With False the batch's mask is False at special ones, and `indicators` and all else that goes by the
        mask leave the row out. The model reads the same either way.

    Raises
    ------
    InputError
        If the lists differ in length, targets are missing or not wanted, a list is empty, a multilingual tokenizer
        lacks a language, or a sentence is blank, holds half a character, or is longer than the model's positions; the
        message gives the side and the index.
    ModelStateError
        If the model's configuration does not say what its decoder reads first.
    """
    sources, targets = checked(model, tokenizer, sources, targets, legacy)
    if architecture_of(model.config).kind != "encoder-decoder":
        batch = _encode_texts(model, tokenizer, sources, truncation)
        return batch if special_tokens else without_special(batch, tokenizer)
    if targets is None:
        raise InputError(
            f"A {model.config.model_type} is an encoder-decoder: give targets, encode(model, tokenizer, sources, "
            "targets), or let it translate, translate(model, tokenizer, sources)."
        )
    start = None if legacy else decoder_start(model)
    source_ids, cut_sources = tokenized(model, tokenizer, "sources", sources, truncation)
    target_ids, cut_targets = tokenized(model, tokenizer, "targets", targets, truncation, as_sources=legacy)
    if not legacy:
        check_written(tokenizer, start, target_ids)
    pad = model.config.pad_token_id
    input_ids, attention_mask = padded(source_ids, pad)
    labels, label_mask = padded(target_ids, pad)
    if legacy:
        decoder_input_ids, decoder_mask = labels, labels != pad
    else:
        decoder_input_ids, decoder_mask = _shift_right(start, labels, label_mask), label_mask
    batch = Batch(
        input_ids=input_ids,
        attention_mask=attention_mask.long(),
        decoder_input_ids=decoder_input_ids,
        decoder_mask=decoder_mask,
        labels=None if legacy else labels,
        texts=tuple(targets),
        truncated=cut_sources + cut_targets,
    ).to(model.device)
    return batch if special_tokens else without_special(batch, tokenizer)


def _encode_texts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str], truncation: bool
) -> Batch:
    """The batch of a single stack. Positions count real tokens, so that padding on the left does not move them."""
    ids, truncated = tokenized(model, tokenizer, "texts", texts, truncation)
    # A tokenizer without a pad symbol (GPT-2's, Llama's) may fill with any id: the mask hides it.
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
    input_ids, mask = padded(ids, pad, left=tokenizer.padding_side == "left")
    position_ids = None
    if not mask[:, 0].all():
        position_ids = (mask.long().cumsum(dim=1) - 1).clamp(min=0) + architecture_of(model.config).first_position
    return Batch(
        input_ids=input_ids,
        attention_mask=mask.long(),
        position_ids=position_ids,
        texts=tuple(texts),
        truncated=truncated,
    ).to(model.device)


def checked(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    targets: Sequence[str] | None,
    legacy: bool = False,
) -> tuple[list[str], list[str] | None]:
    """Both sides as lists, if they can be encoded for this model at all."""
    pair = architecture_of(model.config).kind == "encoder-decoder"
    sources = texts_of("sources" if pair else "texts", sources)
    check_vocabulary(model, tokenizer)
    if not pair and (targets is not None or legacy):
        raise InputError(
            f"A {model.config.model_type} has one stack only: give its texts alone; targets and legacy=True are for "
            "encoder-decoders."
        )
    if targets is None:
        return sources, None
    targets = texts_of("targets", targets)
    if len(sources) != len(targets):
        raise InputError(
            f"{len(sources)} sources and {len(targets)} targets: give one target a source, in the same order."
        )
    check_languages(tokenizer, sources, None if legacy else targets)
    return sources, targets


def without_special(batch: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
    """The batch with a mask that leaves out the rows of special tokens."""
    read = batch.input_ids if batch.decoder_input_ids is None else batch.decoder_input_ids
    rows = read if batch.labels is None else batch.labels
    special = torch.isin(rows, rows.new_tensor(sorted(special_ids(tokenizer))))
    return replace(batch, decoder_mask=batch.mask & ~special)


def special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids that stand for no piece of a text: ends and beginnings, padding, languages; not that of unknown words."""
    special = set(tokenizer.all_special_ids) | set(language_ids(tokenizer).values())
    others = [getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "pad", "cls", "sep", "mask")]
    unknown = getattr(tokenizer, "unk_token_id", None)
    return special if unknown in others else special - {unknown}


def texts_of(name: str, texts: Sequence[str]) -> list[str]:
    """The texts as a list; InputError, with the side ``name`` and the index, where one of them cannot be encoded."""
    if isinstance(texts, str):
        raise InputError(f"{name} is one string. Give a list of sentences, [{texts[:30]!r}] for a single one.")
    texts = list(texts)
    if not texts:
        raise InputError(f"{name} is empty. Give at least one sentence.")
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{name}[{index}] is {text!r}. Every sentence is to be a string that is not blank.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{name}[{index}] holds {text[error.start]!r} at character {error.start}: half of a character (a lone "
                "surrogate), which no tokenizer reads. Read the file in its own encoding, or leave that out."
            ) from error
    return texts


def tokenized(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    texts: list[str],
    truncation: bool = False,
    as_sources: bool = False,
) -> tuple[list[list[int]], tuple[tuple[str, int], ...]]:
    """The ids of one side, targets by the target's rules unless ``as_sources``; and which ones were cut."""

    def read(given: list[str], **options: Any) -> list[list[int]]:
        as_targets = name == "targets" and not as_sources
        return (tokenizer(text_target=given, **options) if as_targets else tokenizer(given, **options))["input_ids"]

    limit = positions(model)
    # Cut by the tokenizer, which knows which symbols it puts around a text; the second call leaves no limit behind.
    cut = read(texts, truncation=True, max_length=limit) if truncation and limit else []
    ids, symbols = read(texts), read([""])[0]
    for index, row in enumerate(ids):
        if row == symbols:  # a text of characters without a width, say, of which those around it are left
            raise InputError(f"{name}[{index}] is {texts[index]!r}, which is no token to the tokenizer. Leave it out.")
    long = [index for index, row in enumerate(ids) if limit is not None and len(row) > limit]
    if long and not truncation:
        raise InputError(
            f"{name}[{long[0]}] has {len(ids[long[0]])} tokens, the model has {limit} positions. Leave it out, split "
            "it, or pass truncation=True to cut it (the batch then lists it in .truncated)."
        )
    return [cut[index] if index in long else row for index, row in enumerate(ids)], tuple((name, each) for each in long)


def padded(ids: list[list[int]], pad: int, left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids of different lengths as one tensor, and where they stand in it; both of shape (sentence, position)."""
    side = "left" if left else "right"
    rows, ones = [torch.tensor(row) for row in ids], [torch.ones(len(row), dtype=torch.bool) for row in ids]
    filled = pad_sequence(rows, batch_first=True, padding_value=pad, padding_side=side)
    mask = pad_sequence(ones, batch_first=True, padding_value=False, padding_side=side)
    return filled, mask


def _shift_right(start: int | None, labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What the decoder reads to predict ``labels``: the start symbol (None: the last label), then all but the last."""
    if start is None:
        first = labels.gather(1, mask.sum(dim=1, keepdim=True) - 1)  # (sentence, 1)
    else:
        first = labels.new_full((len(labels), 1), start)
    return torch.cat([first, labels[:, :-1]], dim=1)

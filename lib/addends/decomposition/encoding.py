"""From sentences to batches: tokenizing for what the model reads, and translating.

Nothing is cut in silence, and what a model generated stays the ids that it generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from addends.decomposition.architectures import architecture_of
from addends.decomposition.batches import Batch
from addends.decomposition.generation import check_names, end_symbols, generation_options
from addends.decomposition.inputs import positions
from addends.decomposition.labels import special_ids
from addends.decomposition.languages import beginning, check_languages, check_written, decoder_start
from addends.decomposition.loading import check_vocabulary
from addends.errors import InputError

_ONE_STACK = "A {} has one stack only: give its texts alone; targets and legacy=True are for encoder-decoders."


def encode(
    model,
    tokenizer,
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
        Whether a row counts whose token is a special one: the end symbol, a beginning, a language's token (unknown
        words are no special tokens). The token is that of the row's label; in a single stack, that which it stands on.
        By default every real token counts. With False the batch's mask is False there: `indicators` and whatever else
        goes by it leave the row out. The model reads the same either way.

    Raises
    ------
    InputError
        If the lists differ in length, targets are missing or not wanted, a list is empty, a multilingual tokenizer
        lacks a language, or a sentence is blank, holds half a character, or is longer than the model's positions; the
        message gives the side and the index.
    ModelStateError
        If the model's configuration does not say what its decoder reads first.
    """
    kind = architecture_of(model.config).kind
    sources = _texts("sources" if kind == "encoder-decoder" else "texts", sources)
    check_vocabulary(model, tokenizer)
    if kind != "encoder-decoder":
        if targets is not None or legacy:
            raise InputError(_ONE_STACK.format(model.config.model_type))
        batch = _encode_texts(model, tokenizer, sources, truncation)
        return batch if special_tokens else _without_special(batch, tokenizer)
    if targets is None:
        raise InputError(
            f"A {model.config.model_type} is an encoder-decoder: give targets, encode(model, tokenizer, sources, "
            "targets), or let it translate, translate(model, tokenizer, sources)."
        )
    targets = _texts("targets", targets)
    if len(sources) != len(targets):
        raise InputError(_unequal(sources, targets))
    check_languages(tokenizer, sources, None if legacy else targets)
    start = None if legacy else decoder_start(model)
    source_ids, cut_sources = _tokenized(model, tokenizer, "sources", sources, truncation)
    target_ids, cut_targets = _tokenized(model, tokenizer, "targets", targets, truncation, as_sources=legacy)
    if not legacy:
        check_written(tokenizer, start, target_ids)
    pad = model.config.pad_token_id
    input_ids, attention_mask = _pad(source_ids, pad)
    labels, label_mask = _pad(target_ids, pad)
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
    return batch if special_tokens else _without_special(batch, tokenizer)


def _encode_texts(model, tokenizer, texts: list[str], truncation: bool) -> Batch:
    """The batch of a single stack. Positions count real tokens, so that padding on the left does not move them."""
    ids, truncated = _tokenized(model, tokenizer, "texts", texts, truncation)
    # A tokenizer without a pad symbol (GPT-2's, Llama's) may fill with any id: the mask hides it.
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
    input_ids, mask = _pad(ids, pad, left=tokenizer.padding_side == "left")
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


def translate(
    model,
    tokenizer,
    sources: Sequence[str],
    *,
    truncation: bool = False,
    special_tokens: bool = True,
    **generate_kwargs,
) -> Batch:
    """Translate the sources with an encoder-decoder and return the `Batch` whose targets are the ids generated.

    The ids are taken as the model made them, never decoded and tokenized again; ``.texts`` holds the translations.
    The decoder begins as `encode` makes it begin: see `addends.decomposition.languages`. Greedy search
    (``num_beams=1, do_sample=False``) unless ``generate_kwargs`` say otherwise; what they leave open is as in
    ``model.generation_config``. A translation that reaches ``max_new_tokens`` or ``max_length`` without an end symbol
    ends there; where neither is given, it may take as many tokens as the decoder has positions (512 where these are
    relative).

    Parameters
    ----------
    truncation, special_tokens : bool
        As in `encode`.
    **generate_kwargs
        Options of transformers' ``generate``, and what `set_languages` returns. Without the latter a multilingual
        model writes its tokenizer's target language, else the one that its configuration forces.

    Raises
    ------
    InputError
        If ``sources`` is empty, a sentence is blank or longer than the model's positions, a multilingual model is told
        no target language, or an option is not allowed: one translation a source is made, and no longer than the
        model's positions.
    ModelStateError
        If the model's configurations do not say, or say differently, what its decoder reads first.
    """
    sources = _texts("sources", sources)
    options = _options(model, tokenizer, sources, generate_kwargs)
    source_ids, truncated = _tokenized(model, tokenizer, "sources", sources, truncation)
    input_ids, attention_mask = _pad(source_ids, model.config.pad_token_id)
    try:
        with torch.no_grad():
            generated = model.generate(
                input_ids=input_ids.to(model.device), attention_mask=attention_mask.long().to(model.device), **options
            )
        texts = tokenizer.batch_decode(generated, skip_special_tokens=True)
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError) as error:
        raise InputError(f"generate refused the options {generate_kwargs}: {error}") from error
    labels = generated[:, 1:]  # (sentence, 1 + position) -> (sentence, position): without the start symbol
    ends = torch.isin(labels, labels.new_tensor(end_symbols(model, generate_kwargs))).long()
    decoder_mask = ends.cumsum(dim=1) - ends == 0  # up to and with the first end symbol
    batch = Batch(
        input_ids=input_ids,
        attention_mask=attention_mask.long(),
        decoder_input_ids=generated[:, :-1],
        decoder_mask=decoder_mask,
        labels=labels,
        texts=tuple(texts),
        truncated=truncated,
    ).to(model.device)
    return batch if special_tokens else _without_special(batch, tokenizer)


def encode_or_translate(
    model,
    tokenizer,
    sources: Sequence[str],
    targets: Sequence[str] | None = None,
    *,
    special_tokens: bool = True,
    **generate_kwargs,
) -> Batch:
    """`encode` what is given, whatever the kind of model; `translate` where an encoder-decoder is given no targets.

    ``generate_kwargs`` are for `translate`; where nothing is translated they are not needed, and only their names are
    read.

    Raises
    ------
    InputError
        As `encode` and `translate` do.
    """
    check_names(generate_kwargs)
    if targets is None and architecture_of(model.config).kind == "encoder-decoder":
        return translate(model, tokenizer, sources, special_tokens=special_tokens, **generate_kwargs)
    return encode(model, tokenizer, sources, targets, special_tokens=special_tokens)


def check_sentences(
    model, tokenizer, sources: Sequence[str], targets: Sequence[str] | None = None, **generate_kwargs
) -> None:
    """Raise InputError where `encode` (of an encoder-decoder without targets, `translate`) would, running no model.

    For whoever sorts sentences and encodes them batch by batch: the index in the message is that in the whole list.
    """
    check_names(generate_kwargs)
    pair = architecture_of(model.config).kind == "encoder-decoder"
    side = "sources" if pair else "texts"
    sources = _texts(side, sources)
    check_vocabulary(model, tokenizer)
    if targets is not None and not pair:
        raise InputError(_ONE_STACK.format(model.config.model_type))
    if targets is not None:
        targets = _texts("targets", targets)
        if len(sources) != len(targets):
            raise InputError(_unequal(sources, targets))
    elif pair:
        _options(model, tokenizer, sources, generate_kwargs)
    if pair:
        check_languages(tokenizer, sources, targets)
    _tokenized(model, tokenizer, side, sources)
    if targets is not None:
        target_ids, _ = _tokenized(model, tokenizer, "targets", targets)
        check_written(tokenizer, decoder_start(model), target_ids)


def _options(model, tokenizer, sources: list[str], generate_kwargs: dict) -> dict:
    """What `generate` is called with for these sources."""
    if architecture_of(model.config).kind != "encoder-decoder":
        raise InputError(f"A {model.config.model_type} does not translate. Give its texts to encode.")
    if not hasattr(model, "generate"):
        raise InputError(
            f"A {type(model).__name__} has no output head, and does not translate. Load the model with addends.load, "
            "or give targets."
        )
    options = generation_options(model, generate_kwargs)
    check_vocabulary(model, tokenizer)
    check_languages(tokenizer, sources)
    return {**options, **beginning(model, tokenizer, generate_kwargs)}


def _without_special(batch: Batch, tokenizer) -> Batch:
    """The batch with a mask that leaves out the rows of special tokens."""
    read = batch.input_ids if batch.decoder_input_ids is None else batch.decoder_input_ids
    rows = read if batch.labels is None else batch.labels
    special = torch.isin(rows, rows.new_tensor(sorted(special_ids(tokenizer))))
    return replace(batch, decoder_mask=batch.mask & ~special)


def _unequal(sources: Sequence[str], targets: Sequence[str]) -> str:
    return f"{len(sources)} sources and {len(targets)} targets: give one target a source, in the same order."


def _texts(name: str, texts: Sequence[str]) -> list[str]:
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


def _tokenized(
    model, tokenizer, name: str, texts: list[str], truncation: bool = False, as_sources: bool = False
) -> tuple[list[list[int]], tuple[tuple[str, int], ...]]:
    """The ids of one side, targets by the target's rules unless ``as_sources``; and which ones were cut."""

    def read(given: list[str], **options) -> list[list[int]]:
        as_targets = name == "targets" and not as_sources
        return (tokenizer(text_target=given, **options) if as_targets else tokenizer(given, **options))["input_ids"]

    limit = positions(model)
    # Cut by the tokenizer, which knows which symbols it puts around a text; the second call leaves no limit behind.
    cut = read(texts, truncation=True, max_length=limit) if truncation and limit else None
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


def _pad(ids: list[list[int]], pad: int, left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    side = "left" if left else "right"
    rows, ones = [torch.tensor(row) for row in ids], [torch.ones(len(row), dtype=torch.bool) for row in ids]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad, padding_side=side)
    mask = torch.nn.utils.rnn.pad_sequence(ones, batch_first=True, padding_value=False, padding_side=side)
    return padded, mask  # both (sentence, position)


def _shift_right(start: int | None, labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What the decoder reads to predict ``labels``: the start symbol (None: the last label), then all but the last."""
    if start is None:
        first = labels.gather(1, mask.sum(dim=1, keepdim=True) - 1)  # (sentence, 1)
    else:
        first = labels.new_full((len(labels), 1), start)
    return torch.cat([first, labels[:, :-1]], dim=1)

"""From sentences to batches: tokenizing for what the model reads, and translating.

Nothing is cut in silence, and what a model generated stays the ids that it generated.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from addends.decomposition.architectures import architecture_of
from addends.decomposition.batches import Batch
from addends.decomposition.generation import end_symbols, generation_options
from addends.decomposition.inputs import positions
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
        Cut sentences that are longer than the model's positions; the batch's ``truncated`` lists them. By default
        they are refused.
    legacy : bool
        Feed the decoder as the code released with Mickus & Vázquez (2023) does: the target is tokenized by the
        *source* side's tokenizer and not shifted, so that row t is the state after reading token t at position t - 1
        (counting tokens from 1), the row fed with the end symbol counts too, and rows whose id is the pad's do not.
        For reproducing published numbers only.

    Raises
    ------
    InputError
        If the lists differ in length, targets are missing or not wanted, a list is empty, or a sentence is blank or
        longer than the model's positions; the message gives the side and the index.
    """
    kind = architecture_of(model.config).kind
    sources = _texts("sources" if kind == "encoder-decoder" else "texts", sources)
    check_vocabulary(model, tokenizer)
    if kind != "encoder-decoder":
        if targets is not None or legacy:
            raise InputError(_ONE_STACK.format(model.config.model_type))
        return _encode_texts(model, tokenizer, sources, truncation)
    if targets is None:
        raise InputError(
            f"A {model.config.model_type} is an encoder-decoder: give targets, encode(model, tokenizer, sources, "
            "targets), or let it translate, translate(model, tokenizer, sources)."
        )
    targets = _texts("targets", targets)
    if len(sources) != len(targets):
        raise InputError(_unequal(sources, targets))
    source_ids = tokenizer(sources)["input_ids"]
    target_ids = tokenizer(targets)["input_ids"] if legacy else tokenizer(text_target=targets)["input_ids"]
    source_ids, cut_sources = _fit(model, source_ids, "sources", truncation)
    target_ids, cut_targets = _fit(model, target_ids, "targets", truncation)
    pad = model.config.pad_token_id
    input_ids, attention_mask = _pad(source_ids, pad)
    labels, label_mask = _pad(target_ids, pad)
    if legacy:
        decoder_input_ids, decoder_mask = labels, labels != pad
    else:
        decoder_input_ids, decoder_mask = _shift_right(model, labels, label_mask), label_mask
    return Batch(
        input_ids=input_ids,
        attention_mask=attention_mask.long(),
        decoder_input_ids=decoder_input_ids,
        decoder_mask=decoder_mask,
        labels=None if legacy else labels,
        texts=tuple(targets),
        truncated=cut_sources + cut_targets,
    ).to(model.device)


def _encode_texts(model, tokenizer, texts: list[str], truncation: bool) -> Batch:
    """The batch of a single stack. Positions count real tokens, so that padding on the left does not move them."""
    ids, truncated = _fit(model, tokenizer(texts)["input_ids"], "texts", truncation)
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


def translate(model, tokenizer, sources: Sequence[str], *, truncation: bool = False, **generate_kwargs) -> Batch:
    """Translate the sources with an encoder-decoder and return the `Batch` whose targets are the ids generated.

    The ids are taken as the model made them, never decoded and tokenized again; ``.texts`` holds the translations.
    Greedy search (``num_beams=1, do_sample=False``) unless ``generate_kwargs`` say otherwise. A translation that
    reaches ``max_new_tokens`` or ``max_length`` without an end symbol ends there; where neither is given, it may take
    as many tokens as the decoder has positions (512 where these are relative).

    Raises
    ------
    InputError
        If ``sources`` is empty, a sentence is blank or longer than the model's positions, or an option is not allowed:
        one translation a source is made, and no longer than the model's positions.
    """
    if architecture_of(model.config).kind != "encoder-decoder":
        raise InputError(f"A {model.config.model_type} does not translate. Give its texts to encode.")
    options = generation_options(model, generate_kwargs)
    sources = _texts("sources", sources)
    check_vocabulary(model, tokenizer)
    source_ids, truncated = _fit(model, tokenizer(sources)["input_ids"], "sources", truncation)
    input_ids, attention_mask = _pad(source_ids, model.config.pad_token_id)
    try:
        with torch.no_grad():
            generated = model.generate(
                input_ids=input_ids.to(model.device), attention_mask=attention_mask.long().to(model.device), **options
            )
    except ValueError as error:
        raise InputError(f"generate refused the options {generate_kwargs}: {error}") from error
    labels = generated[:, 1:]  # (sentence, 1 + position) -> (sentence, position): without the start symbol
    ends = torch.isin(labels, labels.new_tensor(end_symbols(model))).long()
    decoder_mask = ends.cumsum(dim=1) - ends == 0  # up to and with the first end symbol
    return Batch(
        input_ids=input_ids,
        attention_mask=attention_mask.long(),
        decoder_input_ids=generated[:, :-1],
        decoder_mask=decoder_mask,
        labels=labels,
        texts=tuple(tokenizer.batch_decode(generated, skip_special_tokens=True)),
        truncated=truncated,
    ).to(model.device)


def encode_or_translate(
    model, tokenizer, sources: Sequence[str], targets: Sequence[str] | None = None, **generate_kwargs
) -> Batch:
    """`encode` what is given, whatever the kind of model; `translate` where an encoder-decoder is given no targets.

    ``generate_kwargs`` are for `translate`; where nothing is translated they are not needed, and not read.

    Raises
    ------
    InputError
        As `encode` and `translate` do.
    """
    if targets is None and architecture_of(model.config).kind == "encoder-decoder":
        return translate(model, tokenizer, sources, **generate_kwargs)
    return encode(model, tokenizer, sources, targets)


def check_sentences(model, tokenizer, sources: Sequence[str], targets: Sequence[str] | None = None) -> None:
    """Raise InputError where `encode` (of an encoder-decoder without targets, `translate`) would, running no model.

    For whoever sorts sentences and encodes them batch by batch: the index in the message is that in the whole list.
    """
    pair = architecture_of(model.config).kind == "encoder-decoder"
    side = "sources" if pair else "texts"
    sources = _texts(side, sources)
    check_vocabulary(model, tokenizer)
    _fit(model, tokenizer(sources)["input_ids"], side, truncation=False)
    if targets is not None and not pair:
        raise InputError(_ONE_STACK.format(model.config.model_type))
    if targets is not None:
        targets = _texts("targets", targets)
        if len(sources) != len(targets):
            raise InputError(_unequal(sources, targets))
        _fit(model, tokenizer(text_target=targets)["input_ids"], "targets", truncation=False)


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
    return texts


def _fit(
    model, ids: list[list[int]], name: str, truncation: bool
) -> tuple[list[list[int]], tuple[tuple[str, int], ...]]:
    limit = positions(model)
    long = [index for index, row in enumerate(ids) if limit is not None and len(row) > limit]
    if long and not truncation:
        raise InputError(
            f"{name}[{long[0]}] has {len(ids[long[0]])} tokens, the model has {limit} positions. Leave it out, split "
            "it, or pass truncation=True to cut it (the batch then lists it in .truncated)."
        )
    # The last token, the end symbol, is kept.
    cut = [[*row[: limit - 1], row[-1]] if index in long else row for index, row in enumerate(ids)]
    return cut, tuple((name, index) for index in long)


def _pad(ids: list[list[int]], pad: int, left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    side = "left" if left else "right"
    rows, ones = [torch.tensor(row) for row in ids], [torch.ones(len(row), dtype=torch.bool) for row in ids]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad, padding_side=side)
    mask = torch.nn.utils.rnn.pad_sequence(ones, batch_first=True, padding_value=False, padding_side=side)
    return padded, mask  # both (sentence, position)


def _shift_right(model, labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What the decoder reads to predict ``labels``: the start symbol, then all labels but the last.

    mBART has no fixed start symbol: its targets end with their language token, and the decoder starts with that.
    """
    start = model.config.decoder_start_token_id
    if start is None:
        last = mask.sum(dim=1, keepdim=True) - 1  # (sentence, 1)
        first = labels.gather(1, last)
    else:
        first = labels.new_full((len(labels), 1), start)
    return torch.cat([first, labels[:, :-1]], dim=1)

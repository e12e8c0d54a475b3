"""From sources to translations: what `generate` is told, and a batch of the ids that it made.

One translation a source is made, no longer than the model's positions, and it begins as a target that is given begins:
see `addends.decomposition.languages`.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig, GenerationMixin, PreTrainedModel, PreTrainedTokenizerBase

from addends.decomposition.architectures import architecture_of
from addends.decomposition.batch import Batch, embeddings, positions
from addends.decomposition.encoding import checked, encode, padded, texts_of, tokenized, without_special
from addends.decomposition.languages import (
    check_languages,
    check_written,
    decoder_start,
    generation_setting,
    language_ids,
    needs_target,
)
from addends.decomposition.loading import check_vocabulary
from addends.errors import InputError, ModelStateError

_MADE_BY_TRANSLATE = ("inputs", "input_ids", "attention_mask", "inputs_embeds", "decoder_input_ids")
# These end one sentence of a batch while others go on, without an end symbol.
_STOP_APART = ("stopping_criteria", "stop_strings")


def translate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    *,
    truncation: bool = False,
    special_tokens: bool = True,
    **generate_kwargs: Any,
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
    sources = texts_of("sources", sources)
    options = _options(model, tokenizer, sources, generate_kwargs)
    source_ids, truncated = tokenized(model, tokenizer, "sources", sources, truncation)
    input_ids, attention_mask = padded(source_ids, model.config.pad_token_id)
    writer: Any = model  # with the output head that `_options` has found
    try:
        with torch.no_grad():
            generated = writer.generate(
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
    return batch if special_tokens else without_special(batch, tokenizer)


def encode_or_translate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    targets: Sequence[str] | None = None,
    *,
    special_tokens: bool = True,
    **generate_kwargs: Any,
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
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    targets: Sequence[str] | None = None,
    **generate_kwargs: Any,
) -> None:
    """Raise InputError where `encode` (of an encoder-decoder without targets, `translate`) would, running no model.

    For whoever sorts sentences and encodes them batch by batch: the index in the message is that in the whole list.
    """
    check_names(generate_kwargs)
    pair = architecture_of(model.config).kind == "encoder-decoder"
    sources, targets = checked(model, tokenizer, sources, targets)
    if pair and targets is None:
        _options(model, tokenizer, sources, generate_kwargs)
    tokenized(model, tokenizer, "sources" if pair else "texts", sources)
    if targets is not None:
        target_ids, _ = tokenized(model, tokenizer, "targets", targets)
        check_written(tokenizer, decoder_start(model), target_ids)


# --- what generate is told ---


def _options(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sources: list[str], generate_kwargs: dict[str, Any]
) -> dict[str, Any]:
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


def check_names(options: dict[str, Any]) -> None:
    """Raise InputError unless every option is one that `generate` knows and that `translate` leaves open."""
    arguments = inspect.signature(GenerationMixin.generate).parameters.keys() - {"self", "kwargs"}
    known = GenerationConfig().to_dict().keys() | arguments
    for name in options:
        if name in _MADE_BY_TRANSLATE:
            raise InputError(
                f"{name} cannot be given to translate: it makes them from the sources. For a target language, pass "
                "forced_bos_token_id or decoder_start_token_id."
            )
        if name in _STOP_APART:
            raise InputError(
                f"{name}: a sentence that it ends has no end symbol, and cannot be told from padding. Leave it out; "
                "max_new_tokens and eos_token_id end translations too."
            )
        if name == "generation_config":
            raise InputError("generation_config: give its options by name, such as num_beams=4.")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            raise InputError(f"{name} is no option of generate.{f' Nearest: {near}.' if near else ''}")


def generation_options(model: PreTrainedModel, options: dict[str, Any]) -> dict[str, Any]:
    """What `generate` is called with: greedy search, at most as many new tokens as the decoder has positions.

    The decoder reads its start symbol and all new tokens but the last: ``positions`` rows make ``positions`` tokens.

    Raises
    ------
    InputError
        If an option would make anything but one translation a source, or a longer one than the model has positions.
    """
    check_names(options)
    if options.get("num_return_sequences", 1) != 1 or options.get("return_dict_in_generate"):
        name = "return_dict_in_generate" if options.get("return_dict_in_generate") else "num_return_sequences"
        raise InputError(f"{name}={options[name]!r}: a batch holds one translation a source. Leave it out.")
    beams = options.get("num_beams", 1)
    if type(beams) is not int or beams < 1:
        raise InputError(f"num_beams={beams!r}: an integer of at least 1 is wanted.")
    given = [name for name in ("max_length", "max_new_tokens") if options.get(name) is not None]
    limit = positions(model)
    if len(given) == 2:
        raise InputError("max_length and max_new_tokens both limit the output (max_length counts the start): give one.")
    for name in given:
        start = 1 if name == "max_length" else 0
        value, most = options[name], None if limit is None else limit + start
        if not isinstance(value, int) or isinstance(value, bool) or value < 1 + start or (most and value > most):
            allowed = (
                f"from {1 + start} to {most}, as the model has {limit} positions" if most else f"{1 + start} or more"
            )
            raise InputError(f"{name}={value!r}: an integer is wanted, {allowed}.")
    # A max_new_tokens among the model's own settings would go before a max_length that is given.
    cap = {"max_new_tokens": None if given else 512 if limit is None else limit}
    one = {"num_return_sequences": 1, "return_dict_in_generate": False}  # whatever the model's own settings are
    return {"num_beams": 1, "do_sample": False, **cap, **one, **options}


def beginning(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, options: dict[str, Any]
) -> dict[str, int | None]:
    """What `generate` is told of the decoder's first tokens, so that a translation begins as a target does.

    The language is that of ``options`` (forced_bos_token_id, or decoder_start_token_id), else the tokenizer's target
    language, else the one that the model's configuration forces.

    Raises
    ------
    InputError
        If a multilingual model is told no target language, or an id is none that the decoder embeds.
    ModelStateError
        If config and generation_config begin differently, or neither says how.
    """
    start, first = (options.get(name) for name in ("decoder_start_token_id", "forced_bos_token_id"))
    size = embeddings(model)[1]
    for name, value in (("decoder_start_token_id", start), ("forced_bos_token_id", first)):
        if value is not None and (type(value) is not int or value < 0 or (size is not None and value >= size)):
            raise InputError(f"{name}={value!r}: an id is wanted, one that the decoder embeds, below {size}.")
    ids = language_ids(tokenizer)
    languages, needed = set(ids.values()), needs_target(tokenizer)
    forced = generation_setting(model, "forced_bos_token_id")
    configured = generation_setting(model, "decoder_start_token_id")
    told = ids.get(tokenizer.tgt_lang) if ids else None
    named = (first, start, told, forced, configured, getattr(model.config, "decoder_start_token_id", None))
    language = next((each for each in named if each in languages), None)
    if needed and language is None and first is None:
        raise InputError(
            f"A {type(tokenizer).__name__} has {len(languages)} target languages, and none is named: the model would "
            "write any. Pass the options that set_languages(tokenizer, source, target) in "
            "addends.decomposition.languages returns, or forced_bos_token_id."
        )
    trained = decoder_start(model)
    if trained is None:  # a source ends as a target does
        trained = tokenizer(["a"] if needed else None, text_target=None if needed else ["a"])["input_ids"][0][-1]
        if trained in languages:  # the decoder begins with the language, and is not made to write it
            both = start is not None and first is not None
            return {
                "decoder_start_token_id": language if start is None else start,
                "forced_bos_token_id": first if both else None,
            }
    if start is None and configured not in (None, trained):
        raise ModelStateError(
            f"The decoder is trained to begin with the token {trained}, but model.generation_config begins "
            f"translations with {configured}: a target that is given and a translation would be read differently. Set "
            "model.generation_config.decoder_start_token_id, or pass decoder_start_token_id."
        )
    start = trained if start is None else start
    if first is None:
        first = forced if language is None else language
        first = None if first == start else first
    return {"decoder_start_token_id": start, "forced_bos_token_id": first}


def end_symbols(model: PreTrainedModel, options: dict[str, Any]) -> list[int]:
    """The ids that end a generated sequence: those of the options, else the model's own."""
    settings = getattr(model, "generation_config", None)
    end = options.get("eos_token_id")
    end = getattr(settings, "eos_token_id", None) if end is None else end
    end = model.config.eos_token_id if end is None else end
    return list(end) if isinstance(end, (list, tuple)) else [] if end is None else [end]

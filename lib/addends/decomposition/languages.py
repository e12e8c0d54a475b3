"""Which language the source is in, which one the decoder is to write, and what the decoder therefore begins with.

    mBART-25, PLBart    source: words </s> fr_XX    the decoder begins with en_XX
    mBART-50            source: fr_XX words </s>    the decoder begins with </s> en_XX
    M2M100, NLLB        source: fr words </s>       the decoder begins with </s> en
    Marian              source: >>fra<< words </s>  the decoder begins with <pad>; its language stands in the source

The first four say a language by a token of their tokenizer's, which remembers two: the source's (its own default where
nobody set it) and the target's. What the decoder begins with is one thing for a target that is given and for a
translation that is made: what the model is trained with.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from transformers import PLBartTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from addends.errors import InputError, ModelStateError

# Families that are trained with the last token of a target (its language, or its end) as what the decoder reads first.
_BEGIN_WITH_LAST = ("mbart", "plbart")


def set_languages(
    tokenizer: PreTrainedTokenizerBase, source: str | None = None, target: str | None = None
) -> dict[str, int]:
    """Set a multilingual tokenizer's languages; return the options with which `translate` writes the target's.

    Parameters
    ----------
    source, target : str, optional
        As the tokenizer spells them: "fr_XX" (mBART), "fr" (M2M100), "fra_Latn" (NLLB). None leaves the tokenizer's
        own, and asks for nothing.

    Returns
    -------
    dict
        ``{"forced_bos_token_id": id}`` where a target language was given, else empty. `translate` puts that token where
        the model is trained to find it: in mBART-25 the decoder begins with it.

    Raises
    ------
    InputError
        If the tokenizer has no languages, or not this one; the message names the nearest ones that it has.
    """
    given = {"src_lang": source, "tgt_lang": target}
    ids = {side: _token_id(tokenizer, side, language) for side, language in given.items() if language is not None}
    for side in ids:
        setattr(tokenizer, side, given[side])
    return {"forced_bos_token_id": ids["tgt_lang"]} if "tgt_lang" in ids else {}


def _token_id(tokenizer: PreTrainedTokenizerBase, side: str, language: str) -> int:
    """The id of a language's token."""
    ids = language_ids(tokenizer)
    if not ids:
        how = "models that are told their task in words want it in the source, as T5 does."
        if hasattr(tokenizer, "supported_language_codes"):
            how = "a Marian model with several target languages wants its code in the source: '>>fra<< It rains.'"
        raise InputError(
            f"{side}={language!r}: a {type(tokenizer).__name__} has no languages to choose from. Leave it out (None); "
            + how
        )
    if language not in ids:
        near = difflib.get_close_matches(language, ids, n=5, cutoff=0.3)
        raise InputError(
            f"{side}={language!r} is no language of this {type(tokenizer).__name__}. Nearest: "
            f"{near or sorted(ids)[:8]}."
        )
    return ids[language]


def language_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The token of each language that a tokenizer can be told, by the language's name; empty where it has none."""
    if not hasattr(tokenizer, "tgt_lang"):
        return {}
    if hasattr(tokenizer, "lang_code_to_token"):  # M2M100 writes the token of "fr" as "__fr__"
        return {name: _id_of(tokenizer, token) for name, token in tokenizer.lang_code_to_token.items()}
    if hasattr(tokenizer, "lang_code_to_id"):  # PLBart takes "java" and "__java__" alike
        codes = tokenizer.lang_code_to_id
        return {name: number for code, number in codes.items() for name in (code, code.strip("_"))}
    # Elsewhere a language is its own token, among the special ones.
    tokens = (token for token in tokenizer.all_special_tokens if not token.startswith("<"))
    return {token: _id_of(tokenizer, token) for token in tokens}


def _id_of(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    number: Any = tokenizer.convert_tokens_to_ids(token)  # one, for one token
    return number


def check_languages(
    tokenizer: PreTrainedTokenizerBase, sources: Sequence[str], targets: Sequence[str] | None = None
) -> None:
    """Raise InputError where sentences would be read as another language's, or as none's, without a word.

    A multilingual tokenizer needs its source language, and, for targets that are given, its target language (mBART's
    would write the source's). Of a Marian tokenizer with several target languages every source begins with a code.
    """
    name = type(tokenizer).__name__
    if language_ids(tokenizer) and tokenizer.src_lang is None and not isinstance(tokenizer, PLBartTokenizer):
        raise InputError(
            f"The {name} has no source language: name it, set_languages(tokenizer, source=...) in "
            "addends.decomposition."
        )
    if targets is not None and needs_target(tokenizer):
        raise InputError(
            f"The {name} has no target language, and would write the targets as another one's: name it, "
            "set_languages(tokenizer, target=...) in addends.decomposition."
        )
    codes = getattr(tokenizer, "supported_language_codes", None)
    if codes is None:
        return
    for side, texts in (("sources", sources), ("targets", targets or ())):
        for index, text in enumerate(texts):
            code = text[: text.find("<<") + 2] if text.startswith(">>") and "<<" in text else None
            if code is not None and code not in tokenizer.encoder:
                raise InputError(
                    f"{side}[{index}] begins with {code!r}, which this {name} takes for the code of a language and "
                    f"does not know: it would read an unknown token. It knows {codes[:8] or 'none'}."
                )
            if side == "sources" and code is None and len(codes) > 1:
                raise InputError(
                    f"sources[{index}] names no target language, and this {name} has {len(codes)}: begin every source "
                    f"with one, such as '{codes[0]} {text[:20]}'. It knows {codes[:8]}."
                )


def needs_target(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer has target languages and none is chosen: it would then write the source's in targets.

    No target is tokenized to find out: the tokenizers of mBART and NLLB would take the source's language for good.
    """
    optional = isinstance(tokenizer, PLBartTokenizer)  # which writes no language then
    return bool(language_ids(tokenizer)) and tokenizer.tgt_lang is None and not optional


def decoder_start(model: PreTrainedModel) -> int | None:
    """The id that the decoder reads first, of every target; None where it is the last token of each target."""
    if model.config.model_type in _BEGIN_WITH_LAST:
        return None
    start = getattr(model.config, "decoder_start_token_id", None)  # T5's configuration may lack it
    if start is None:
        start = generation_setting(model, "decoder_start_token_id")
    if start is None:
        raise ModelStateError(
            f"The configuration of this {model.config.model_type} model names no decoder_start_token_id, the id that "
            "its decoder reads first. Set model.config.decoder_start_token_id to the one that it was trained with."
        )
    return start


def check_written(tokenizer: PreTrainedTokenizerBase, start: int | None, labels: Sequence[Sequence[int]]) -> None:
    """Raise InputError if a decoder would have to write a target's words before it has read the target's language."""
    ids = set(language_ids(tokenizer).values())
    if start is not None and start not in ids and any(row[-1] in ids and row[0] not in ids for row in labels):
        raise InputError(
            f"The {type(tokenizer).__name__} writes the language of a target behind it, but the model's decoder begins "
            f"with the token {start} and would not know the language. Load the tokenizer with legacy_behaviour=False."
        )


def generation_setting(model: PreTrainedModel, name: str) -> int | None:
    return getattr(getattr(model, "generation_config", None), name, None)

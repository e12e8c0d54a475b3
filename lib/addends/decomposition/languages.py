"""Multilingual models: which language the source is in, and which one the decoder is to write.

mBART, M2M100 and NLLB say a language by a token of their tokenizer's. A tokenizer remembers two languages, the source's
and the target's; what is generated needs the target's token as its first one.
"""

from __future__ import annotations

import difflib

from addends.errors import InputError


def set_languages(tokenizer, source: str | None = None, target: str | None = None) -> dict[str, int]:
    """Set a multilingual tokenizer's languages; return the options with which `translate` writes the target's.

    Parameters
    ----------
    source, target : str, optional
        As the tokenizer spells them: "fr_XX" (mBART), "fr" (M2M100), "fra_Latn" (NLLB). None leaves the tokenizer's
        own, and asks for nothing.

    Returns
    -------
    dict
        ``{"forced_bos_token_id": id}`` where a target language was given, else empty.

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


def _token_id(tokenizer, side: str, language: str) -> int:
    """The id of a language's token."""
    if not hasattr(tokenizer, side):
        raise InputError(
            f"{side}={language!r}: a {type(tokenizer).__name__} has no languages to choose from. Leave it out (None); "
            "models that are told their task in words want it in the source, as T5 does."
        )
    # M2M100 writes the token of "fr" as "__fr__"; elsewhere a language is its own token, among the special ones.
    spelled = getattr(tokenizer, "lang_code_to_token", None)
    spelled = spelled or {token: token for token in tokenizer.all_special_tokens if not token.startswith("<")}
    if language not in spelled:
        near = difflib.get_close_matches(language, spelled, n=5, cutoff=0.3)
        raise InputError(
            f"{side}={language!r} is no language of this {type(tokenizer).__name__}. Nearest: "
            f"{near or sorted(spelled)[:8]}."
        )
    return tokenizer.convert_tokens_to_ids(spelled[language])

"""What a translation may be asked for: one output a source, no longer than the model's positions."""

from __future__ import annotations

import difflib
import inspect

from transformers import GenerationConfig, GenerationMixin

from addends.decomposition.inputs import positions
from addends.errors import InputError

_MADE_BY_TRANSLATE = ("inputs", "input_ids", "attention_mask", "inputs_embeds", "decoder_input_ids")
# These end one sentence of a batch while others go on, without an end symbol.
_STOP_APART = ("stopping_criteria", "stop_strings")


def check_names(options: dict) -> None:
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


def generation_options(model, options: dict) -> dict:
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


def end_symbols(model, options: dict) -> list[int]:
    """The ids that end a generated sequence: those of the options, else the model's own."""
    settings = getattr(model, "generation_config", None)
    end = options.get("eos_token_id")
    end = getattr(settings, "eos_token_id", None) if end is None else end
    end = model.config.eos_token_id if end is None else end
    return list(end) if isinstance(end, (list, tuple)) else [] if end is None else [end]

"""A translation's limits are the user's or the model's positions; options that cannot be kept are refused."""

from __future__ import annotations

import pytest
import torch

import addends
from addends.decomposition.translation import end_symbols, generation_options
from addends.errors import InputError
from tests.conftest import SOURCES
from tests.decomposition.small_models import make
from tests.rounding import allowed

POSITIONS = 40


@pytest.fixture(scope="module")
def endless(make_marian):
    """A model that never says its end symbol."""
    model = make_marian()
    with torch.no_grad():
        model.final_logits_bias[0, model.config.eos_token_id] = -1e4
    return model


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({}, POSITIONS),
        ({"max_new_tokens": 7}, 7),
        ({"max_new_tokens": 1}, 1),
        ({"max_new_tokens": POSITIONS}, POSITIONS),
        ({"max_length": 7}, 6),  # the start symbol counts
        ({"max_length": POSITIONS + 1}, POSITIONS),
        ({"max_length": None, "num_beams": 2}, POSITIONS),
    ],
)
def test_the_output_is_as_long_as_its_limit(endless, tokenizer, options, rows):
    batch = addends.translate(endless, tokenizer, SOURCES[:2], **options)
    assert batch.decoder_input_ids.shape == (2, rows)
    assert batch.decoder_mask.all()
    parts = addends.decompose(endless, batch)
    assert parts.error() <= allowed(parts)


def test_without_a_limit_of_positions_there_is_a_default_one():
    model = make("t5")
    assert generation_options(model, {})["max_new_tokens"] == 512
    assert generation_options(model, {"max_length": 9000})["max_length"] == 9000
    assert generation_options(model, {"max_length": 9000})["max_new_tokens"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"max_new_tokens": POSITIONS + 1},
            r"max_new_tokens=41: an integer is wanted, from 1 to 40, as the model has 40",
        ),
        ({"max_length": POSITIONS + 2}, "max_length=42: an integer is wanted, from 2 to 41"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"max_length": 1}, "max_length=1"),
        ({"max_new_tokens": 2.5}, r"max_new_tokens=2\.5"),
        ({"max_new_tokens": True}, "max_new_tokens=True"),
        ({"max_new_tokens": 5, "max_length": 5}, "give one"),
        ({"num_return_sequences": 2, "num_beams": 2}, "num_return_sequences=2: a batch holds one translation a source"),
        ({"return_dict_in_generate": True}, "return_dict_in_generate=True"),
        ({"decoder_input_ids": torch.ones(1, 1)}, "decoder_input_ids cannot be given.*forced_bos_token_id"),
        ({"attention_mask": torch.ones(1, 1)}, "attention_mask cannot be given"),
        ({"num_beam": 4}, r"num_beam is no option of generate\. Nearest: \['num_beams'"),
        ({"generation_config": None}, r"generation_config: give its options by name"),
        ({"num_beams": "4"}, "num_beams='4': an integer of at least 1 is wanted"),
        ({"num_beams": 0}, "num_beams=0: an integer of at least 1"),
        ({"temperature": "x", "do_sample": True}, "generate refused the options"),
        ({"forced_eos_token_id": 10**6, "max_new_tokens": 3}, "generate refused the options"),
        ({"stop_strings": "."}, "stop_strings: a sentence that it ends has no end symbol"),
        ({"stopping_criteria": [lambda ids, scores: torch.ones(len(ids), dtype=torch.bool)]}, "stopping_criteria: a"),
        ({"forced_bos_token_id": 10**6}, "forced_bos_token_id=1000000: an id is wanted"),
        ({"decoder_start_token_id": [1, 2]}, r"decoder_start_token_id=\[1, 2\]: an id is wanted"),
    ],
)
def test_options_that_cannot_be_kept_are_refused(endless, tokenizer, options, message):
    with pytest.raises(InputError, match=message):
        addends.translate(endless, tokenizer, SOURCES[:1], **options)


def test_models_with_several_end_symbols(make_marian, tokenizer, monkeypatch):
    model = make_marian()
    end = model.config.eos_token_id
    assert end_symbols(model, {}) == [end]
    assert end_symbols(model, {"eos_token_id": 7}) == [7]
    monkeypatch.setattr(model.generation_config, "eos_token_id", [end, 7])
    pad = model.config.pad_token_id
    monkeypatch.setattr(model, "generate", lambda **_: torch.tensor([[pad, 5, 7, pad], [pad, 5, 6, end]]))
    batch = addends.translate(model, tokenizer, SOURCES[:2])
    assert batch.decoder_mask.tolist() == [[True, True, False], [True, True, True]]
    batch = addends.translate(model, tokenizer, SOURCES[:2], eos_token_id=5)  # generate stops there, and rows do
    assert batch.decoder_mask.tolist() == [[True, False, False], [True, False, False]]


def test_settings_of_the_model_do_not_make_several_outputs_a_source(make_marian, tokenizer, monkeypatch):
    model = make_marian()
    greedy = addends.translate(model, tokenizer, SOURCES[:2])
    for name, value in {"num_beams": 4, "num_return_sequences": 2, "max_new_tokens": 5}.items():
        monkeypatch.setattr(model.generation_config, name, value)
    assert torch.equal(addends.translate(model, tokenizer, SOURCES[:2]).labels, greedy.labels)
    assert len(addends.translate(model, tokenizer, SOURCES[:2], num_beams=2).labels) == 2


def test_a_limit_that_is_given_stands_whatever_the_models_own_is(endless, tokenizer, monkeypatch):
    for name in ("max_new_tokens", "max_length"):
        with monkeypatch.context() as patch:
            patch.setattr(endless.generation_config, name, 5)
            for options, rows in (({"max_length": 9}, 8), ({"max_new_tokens": 7}, 7), ({}, POSITIONS)):
                assert addends.translate(endless, tokenizer, SOURCES[:2], **options).labels.shape == (2, rows)


def test_a_model_without_an_output_head_does_not_translate(make_marian, tokenizer):
    with pytest.raises(InputError, match="A MarianModel has no output head"):
        addends.translate(make_marian().base_model, tokenizer, SOURCES)


def test_a_single_stack_does_not_translate(tokenizer):
    with pytest.raises(InputError, match="A gpt2 does not translate"):
        addends.translate(make("gpt2"), tokenizer, SOURCES)

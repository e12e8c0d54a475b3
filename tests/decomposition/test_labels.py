"""Every state and every input token has a label, padding has none, and the labels say what a state stands for."""

from __future__ import annotations

import pytest
from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast

import addends
from addends.decomposition import labels
from addends.errors import InputError
from tests.conftest import MADE_UP, SOURCES, TARGETS
from tests.decomposition.small_models import batch_for, make


@pytest.fixture(scope="module")
def bytes_tokenizer():
    """A tokenizer like GPT-2's: tokens are spelled in letters that stand for bytes."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([*MADE_UP, "ma sœur naïve est à Fès"] * 3, vocab_size=330, min_frequency=1)
    return PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, pad_token="Ġla")


def spelled(tokens):
    """All tokens' letters; a token may be a blank alone."""
    return "".join(tokens).replace("▁", "")


def test_the_rows_of_an_encoder_decoder_are_what_it_is_to_write(make_marian, tokenizer):
    model = make_marian()
    batch = addends.encode(model, tokenizer, SOURCES, TARGETS)
    for sentence in range(4):
        found = labels(model, tokenizer, batch, sentence)
        assert len(found.states) == batch.mask[sentence].sum()
        assert len(found.inputs) == batch.attention_mask[sentence].sum()
        assert spelled(found.states) == TARGETS[sentence].replace(" ", "") + "</s>"
        assert spelled(found.inputs) == SOURCES[sentence].replace(" ", "") + "</s>"
    assert found.row == "the token this state predicts"
    assert found.column == "source token"


@pytest.mark.parametrize(("name", "row"), [("bert", "stands on"), ("gpt2", "has read last")])
def test_the_rows_of_a_single_stack_are_what_it_reads(name, row, tokenizer):
    room = {"n_positions" if name == "gpt2" else "max_position_embeddings": 60}
    model = make(name, vocab_size=len(tokenizer), **room)
    batch = addends.encode(model, tokenizer, SOURCES)
    found = labels(model, tokenizer, batch, 3)
    assert found.states == found.inputs
    assert spelled(found.states) == "ilpleut</s>"
    assert row in found.row


def test_padding_on_the_left_has_no_label(bytes_tokenizer):
    model = make("gpt2", vocab_size=len(bytes_tokenizer), n_positions=60)
    bytes_tokenizer.padding_side = "left"
    texts = ["ma sœur naïve est à Fès", "il pleut"]
    batch = addends.encode(model, bytes_tokenizer, texts)
    assert not batch.mask[1, 0]
    for sentence, text in enumerate(texts):
        found = labels(model, bytes_tokenizer, batch, sentence)
        assert len(found.states) == batch.mask[sentence].sum()
        assert spelled(found.states) == text.replace(" ", "").replace("naïve", "na\ufffd\ufffdve").replace(
            "è", "\ufffd\ufffd"
        )
    # This tokenizer splits ï and è in the middle: half a character is shown as such, not as other letters.
    assert "a\ufffd" in labels(model, bytes_tokenizer, batch).states


def test_a_batch_made_from_tensors_is_labelled_by_what_the_decoder_reads(tokenizer):
    model = make("bart", vocab_size=len(tokenizer))
    batch = batch_for(model)
    found = labels(model, tokenizer, batch, 1)
    assert len(found.states) == 6
    assert len(found.inputs) == 4


@pytest.mark.parametrize("sentence", [-1, 4])
def test_a_sentence_that_the_batch_lacks(make_marian, tokenizer, sentence):
    model = make_marian()
    batch = addends.encode(model, tokenizer, SOURCES, TARGETS)
    with pytest.raises(InputError, match=f"sentence={sentence}: the batch has sentences 0 to 3"):
        labels(model, tokenizer, batch, sentence)

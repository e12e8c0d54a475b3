"""The weights are the model's own, each row of them sums to one, and padding has none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from addends.decomposition import cross_attention
from addends.errors import InputError
from tests.decomposition import small_models

PAIRS = ("marian", "bart", "mbart", "m2m_100", "pegasus", "t5", "t5: gated", "mt5")
COLUMNS = ["layer", "head", "sentence", "position", "source", "weight"]


@pytest.mark.parametrize("name", PAIRS)
def test_each_row_sums_to_one_over_the_real_source_tokens(name):
    model = small_models.make(name)
    batch = small_models.batch_for(model)
    frame = cross_attention(model, batch)
    assert list(frame.columns) == COLUMNS
    assert (frame["layer"].min(), frame["layer"].max(), frame["head"].nunique()) == (1, 2, 4)
    rows = frame.groupby(["layer", "head", "sentence", "position"])["weight"]
    np.testing.assert_allclose(rows.sum(), 1, atol=1e-6)
    lengths = batch.attention_mask.sum(dim=1).numpy()
    real = batch.mask.sum(dim=1).numpy()
    assert len(frame) == 2 * 4 * (lengths * real).sum()
    assert (rows.size().groupby("sentence").first() == lengths).all()


@pytest.mark.parametrize("name", ["marian", "t5"])
def test_the_weights_are_those_that_transformers_gives(name, tmp_path):
    model = small_models.make(name)
    batch = small_models.batch_for(model)
    frame = cross_attention(model, batch).set_index(COLUMNS[:-1])["weight"]
    model.save_pretrained(tmp_path)
    eager = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, attn_implementation="eager", dtype=torch.float32).eval()
    with torch.no_grad():
        output = eager(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            decoder_input_ids=batch.decoder_input_ids,
            output_attentions=True,
        )
    for layer, weights in enumerate(output.cross_attentions, start=1):  # (sentence, head, position, source)
        for head, sentence, position, source in [(0, 0, 0, 0), (3, 0, 4, 6), (1, 1, 5, 3), (2, 2, 0, 5)]:
            expected = float(weights[sentence, head, position, source])
            assert frame[(layer, head, sentence, position, source)] == pytest.approx(expected, abs=1e-6)


def test_a_sentence_alone_has_the_weights_that_it_has_in_a_batch():
    model = small_models.make("marian", torch.float64)
    batch = small_models.batch_for(model)
    together = cross_attention(model, batch).query("sentence == 1")
    alone = cross_attention(model, small_models.alone(batch, 1))
    np.testing.assert_allclose(together["weight"], alone["weight"], atol=1e-12)
    assert (together[["position", "source"]].to_numpy() == alone[["position", "source"]].to_numpy()).all()


def test_nothing_of_the_model_is_changed():
    model = small_models.make("marian")
    before = model.config._attn_implementation
    cross_attention(model, small_models.batch_for(model))
    assert model.config._attn_implementation == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_a_single_stack_has_none(name):
    model = small_models.make(name)
    with pytest.raises(InputError, match="no cross-attention"):
        cross_attention(model, small_models.batch_for(model))

"""The shares of a logit sum to the model's own logit, for every family whose output head is linear."""

from __future__ import annotations

import pytest
import torch

import addends
from addends.decomposition import logit_shares
from addends.errors import InputError, UnsupportedModelError
from tests.decomposition import small_models

HEADLESS = small_models.ENCODERS
WITH_HEAD = [name for name in small_models.NAMES if name not in HEADLESS]


@pytest.mark.parametrize("name", WITH_HEAD)
@pytest.mark.parametrize("by", ["sublayer", "token"])
def test_shares_sum_to_the_models_own_logits(name, by):
    model = small_models.make(name)
    if hasattr(model, "final_logits_bias"):  # zero at first, and learned by Marian's
        model.final_logits_bias.normal_(generator=torch.Generator().manual_seed(1))
    batch = small_models.batch_for(model)
    parts = addends.decompose(model, batch, by=by)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if batch.decoder_input_ids is not None:
        inputs["decoder_input_ids"] = batch.decoder_input_ids
    with torch.no_grad():
        logits = model(**inputs).logits  # (sentence, position, piece)
    everything = torch.arange(logits.shape[-1])
    total = logit_shares(parts, model, everything).sum(dim=0)
    gap = (total - logits).abs().amax(dim=-1) / logits.abs().amax(dim=-1)
    assert gap[parts.mask].max() < 1e-4


@pytest.fixture(scope="module")
def marian():
    model = small_models.make("marian")
    return model, addends.decompose(model, small_models.batch_for(model))


def test_tokens_chosen_by_position_are_those_of_the_whole_vocabulary(marian):
    model, parts = marian
    every = logit_shares(parts, model, torch.arange(small_models.VOCABULARY))
    ids = torch.randint(small_models.VOCABULARY, (*parts.mask.shape, 3), generator=torch.Generator().manual_seed(2))
    chosen = logit_shares(parts, model, ids)
    assert chosen.shape == (len(parts.terms), *ids.shape)
    torch.testing.assert_close(chosen, every.gather(-1, ids.expand(len(parts.terms), *ids.shape)))


def test_biases_go_to_the_constant(marian):
    model, parts = marian
    ids = torch.arange(5)
    before = logit_shares(parts, model, ids)
    model.final_logits_bias += 2.0
    after = logit_shares(parts, model, ids)
    model.final_logits_bias -= 2.0
    constant = parts.terms.index("C")
    torch.testing.assert_close(after[constant] - before[constant], torch.full_like(before[constant], 2.0))
    others = [index for index in range(len(parts.terms)) if index != constant]
    assert torch.equal(after[others], before[others])


# --- bad input ---


@pytest.mark.parametrize("name", HEADLESS)
def test_a_model_without_a_head_is_refused(name):
    model = small_models.make(name)
    with pytest.raises(UnsupportedModelError, match="no output head"):
        logit_shares(addends.decompose(model, small_models.batch_for(model)), model, torch.arange(2))


def test_a_head_with_layers_of_its_own_is_refused():
    import transformers

    base = small_models.make("bert")
    parts = addends.decompose(base, small_models.batch_for(base))
    model = transformers.BertForMaskedLM(base.config).eval()
    with pytest.raises(UnsupportedModelError, match="not one linear map"):
        logit_shares(parts, model, torch.arange(2))


def test_a_scaled_logit_is_refused(marian):
    model, parts = marian
    model.config.final_logit_softcapping = 30.0
    try:
        with pytest.raises(UnsupportedModelError, match="final_logit_softcapping"):
            logit_shares(parts, model, torch.arange(2))
    finally:
        del model.config.final_logit_softcapping


@pytest.mark.parametrize("name", ["marian", "t5", "llama"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_logits_that_the_shares_do_not_sum_to_are_refused(name, dtype):
    """A cap that no configuration tells of, a head that is not the model's own, another model's parts."""
    model, other = small_models.make(name, dtype), small_models.make(name, dtype)
    parts = addends.decompose(model, small_models.batch_for(model))
    ids = torch.arange(small_models.VOCABULARY)
    assert logit_shares(parts, model, ids).shape[-1] == small_models.VOCABULARY
    head = model.get_output_embeddings()
    handle = head.register_forward_hook(lambda _module, _inputs, output: 0.1 * torch.tanh(output / 0.1))
    with pytest.raises(UnsupportedModelError, match="do not sum to the logits"):
        logit_shares(parts, model, ids)
    handle.remove()
    parts.vectors[-1, 1] *= 2
    with pytest.raises(UnsupportedModelError, match="do not sum to the logits"):
        logit_shares(parts, other, ids)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.zeros(2, 3, dtype=torch.long), "of shape"),
        (torch.zeros(1, 1, 1, dtype=torch.long), "of shape"),
        (torch.tensor([small_models.VOCABULARY]), "outside 0 to"),
        (torch.tensor([-1]), "outside 0 to"),
        (torch.tensor([], dtype=torch.long), "no id"),
    ],
)
def test_ids_that_do_not_fit(marian, ids, message):
    model, parts = marian
    with pytest.raises(InputError, match=message):
        logit_shares(parts, model, ids)

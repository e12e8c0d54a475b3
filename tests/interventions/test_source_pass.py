"""Passes with a changed source: masking is deleting where places do not matter, and nothing of the model is changed."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from addends.errors import InputError, UnsupportedModelError
from addends.interventions import mean_source_embedding
from addends.interventions.reading import Reading
from addends.interventions.source_pass import last_states, source_embeddings
from tests.decomposition import small_models
from tests.interventions.labelled import batch_for, make

FAMILIES = pytest.mark.parametrize("name", small_models.PAIRS)


def state_of(model) -> tuple:
    """All that a pass could leave behind: hooks, settings, gradients, modes."""
    return (
        model.config._attn_implementation,
        model.config.return_dict,
        [(len(each._forward_hooks), len(each._forward_pre_hooks), each.training) for each in model.modules()],
        [(weight.grad, weight.requires_grad, weight._version) for weight in model.parameters()],
    )


@FAMILIES
def test_a_pass_that_changes_nothing_gives_the_models_own_states(name):
    model = make(name)
    batch = batch_for(model)
    expected = small_models.transformers_states(model, batch)[-1][batch.mask]
    reading = Reading(model, batch)
    with torch.no_grad():
        torch.testing.assert_close(last_states(reading)[batch.mask], expected, rtol=1e-5, atol=1e-5)
        same = last_states(reading, embedded=source_embeddings(model, batch))
    torch.testing.assert_close(same[batch.mask], expected, rtol=1e-5, atol=1e-5)


@FAMILIES
def test_another_tokens_embedding_makes_another_sentence(name):
    """An embedding put in place of another is that token read in its place: the model's own pass says so."""
    model = make(name)
    batch = batch_for(model)
    ids = batch.input_ids.clone()
    ids[:, 1] = ids[:, 1] % 37 + 3  # another token, none of the special ones
    other = dataclasses.replace(batch, input_ids=ids)
    with torch.no_grad():
        found = last_states(Reading(model, batch), embedded=source_embeddings(model, other))
    expected = small_models.transformers_states(model, other)[-1]
    torch.testing.assert_close(found[batch.mask], expected[batch.mask], rtol=1e-5, atol=1e-5)
    before = small_models.transformers_states(model, batch)[-1]
    assert ((found - before)[batch.mask].norm(dim=-1) > 1e-4).all()


@pytest.mark.parametrize("name", ["marian", "t5"])
def test_masking_a_token_is_deleting_it_where_places_do_not_matter(name):
    model = make(name, torch.float64)
    with torch.no_grad():
        for path, weight in model.named_parameters():
            if "relative_attention_bias" in path or "embed_positions" in path:
                weight.zero_()
    batch = batch_for(model).sentence(0)
    for place in (0, 3, 6):
        mask = batch.attention_mask.clone()
        mask[:, place] = 0
        keep = torch.arange(7) != place
        shorter = dataclasses.replace(batch, input_ids=batch.input_ids[:, keep], attention_mask=mask[:, keep])
        with torch.no_grad():
            found = last_states(Reading(model, batch), attention_mask=mask)
        expected = small_models.transformers_states(model, shorter)[-1]
        torch.testing.assert_close(found[batch.mask], expected[batch.mask], rtol=1e-6, atol=1e-6)


def test_masking_what_is_masked_already_changes_nothing():
    model = make("marian")
    reading = Reading(model, batch := batch_for(model))
    mask = batch.attention_mask.clone()
    mask[1, 4:] = 0  # the padding of the second sentence
    with torch.no_grad():
        assert torch.equal(last_states(reading, attention_mask=mask), last_states(reading))


def test_a_decoder_that_shares_the_embedding_module_reads_its_own():
    """One module for both sides, as set_input_embeddings leaves a model: only the encoder's call is replaced."""
    model = make("marian")
    model.model.decoder.embed_tokens = model.model.encoder.embed_tokens
    batch = batch_for(model)
    with torch.no_grad():
        found = last_states(Reading(model, batch), embedded=source_embeddings(model, batch))
    expected = small_models.transformers_states(model, batch)[-1]
    torch.testing.assert_close(found[batch.mask], expected[batch.mask])


def test_after_an_error_the_model_is_as_it_was():
    model = make("marian")
    batch = batch_for(model)
    before = state_of(model)
    with pytest.raises(RuntimeError), torch.no_grad():
        last_states(Reading(model, batch), embedded=torch.zeros(3, 2, 5))
    assert state_of(model) == before
    torch.testing.assert_close(
        last_states(Reading(model, batch))[batch.mask],
        small_models.transformers_states(model, batch)[-1][batch.mask],
    )


def test_an_encoder_that_does_not_call_its_embedding_module_is_refused():
    model = make("marian")
    batch = batch_for(model)
    kept = model.model.encoder.embed_tokens
    model.model.encoder.get_input_embeddings = lambda: torch.nn.Embedding(40, 32)  # one that nobody calls
    with pytest.raises(UnsupportedModelError, match="calls its embedding module 0 times"), torch.no_grad():
        last_states(Reading(model, batch), embedded=kept(batch.input_ids))


def test_the_mean_embedding_is_that_of_all_real_tokens_however_they_are_batched():
    model = make("marian")
    batch = batch_for(model)
    single = [batch.sentence(index, padded=False) for index in range(3)]
    ids = batch.input_ids[batch.attention_mask.bool()]
    expected = model.model.encoder.embed_tokens.weight[ids].mean(dim=0)
    for batches in ([batch], single):
        torch.testing.assert_close(mean_source_embedding(model, batches), expected, rtol=1e-5, atol=1e-6)


def test_a_mean_of_nothing_or_of_a_single_stack_is_refused():
    with pytest.raises(InputError, match="has a source token"):
        mean_source_embedding(make("marian"), [])
    gpt2 = small_models.make("gpt2")
    with pytest.raises(InputError, match="one stack only"):
        mean_source_embedding(gpt2, [small_models.batch_for(gpt2)])

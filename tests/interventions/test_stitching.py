"""Stitching: what changes nothing, what a plain computation by hand gives, training of a map, bad input."""

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import addends
from addends.errors import InputError
from addends.interventions.maps import StateMap, fit_rotation, no_map
from addends.interventions.stitching import as_module, encoder_states, going_on, loss_of, reading, train_map
from tests.conftest import SOURCES, TARGETS


@pytest.fixture(scope="module")
def models(make_marian):
    return make_marian(seed=1, dtype="float64"), make_marian(seed=2, dtype="float64")


@pytest.fixture(scope="module")
def batch(models, tokenizer):
    return addends.encode(models[0], tokenizer, SOURCES, TARGETS)


def logits(model, batch):
    with torch.no_grad():
        return model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            decoder_input_ids=batch.decoder_input_ids,
            use_cache=False,
        ).logits


def identity(states):
    return states


def test_reading_itself_changes_nothing(models, batch):
    before = logits(models[0], batch)
    with reading(models[0], models[0], identity):
        assert torch.equal(logits(models[0], batch), before)


def test_a_twin_with_a_rotated_encoder_is_read_through_the_rotation(models, batch, make_marian):
    """A's final encoder norm turned: B reads as before once the map turns it back."""
    reader, turned = models[0], make_marian(seed=1, dtype="float64")
    turn = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]

    def turning(_module, _inputs, output):
        output["last_hidden_state"] = output["last_hidden_state"] @ turn + 1
        return output

    handle = turned.model.encoder.register_forward_hook(turning)
    try:
        x, y = (encoder_states(each, batch.input_ids, batch.attention_mask) for each in (turned, reader))
        real = batch.attention_mask.bool()
        # A rotation is fitted on more rows than dimensions: noise beside the few tokens.
        noise = torch.randn(200, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        rows = torch.cat([y[real], noise])
        fitted = fit_rotation((rows @ turn + 1).numpy(), rows.numpy())
        np.testing.assert_allclose(fitted(x[real].numpy()), y[real].numpy(), atol=1e-10)
        with reading(reader, turned, as_module(fitted, x)), torch.no_grad():
            found = logits(reader, batch)
        with reading(reader, turned, identity):
            unmapped = logits(reader, batch)
    finally:
        handle.remove()
    torch.testing.assert_close(found, logits(reader, batch), atol=1e-8, rtol=1e-8)
    assert (unmapped - found).abs().max() > 0.1


def test_reading_is_what_encoder_outputs_give(models, batch):
    one, two = models
    layer = as_module(StateMap("affine", 0.5 * np.eye(32), np.ones(32), np.zeros(32)), next(one.parameters()))
    with torch.no_grad():
        expected = loss_of(one, batch, 0.5 * (encoder_states(two, batch.input_ids, batch.attention_mask) - 1))
        with reading(one, two, layer):
            rows = logits(one, batch)[batch.mask].log_softmax(-1)
    found = -rows.gather(1, batch.labels[batch.mask][:, None]).mean()
    assert found == pytest.approx(float(expected), rel=1e-12)


def test_translations_are_of_the_two_together(models, batch, tokenizer):
    one, two = models
    own = addends.translate(one, tokenizer, SOURCES, max_new_tokens=6)
    with reading(one, two, identity):
        both = addends.translate(one, tokenizer, SOURCES, max_new_tokens=6)
    again = addends.translate(one, tokenizer, SOURCES, max_new_tokens=6)
    assert torch.equal(own.labels, again.labels)
    assert not (own.labels.shape == both.labels.shape and torch.equal(own.labels, both.labels))


def test_going_on_from_its_own_states_changes_nothing_and_from_others_gives_theirs(models, batch, make_marian):
    one = models[0]
    parts = addends.decompose(one, batch)
    before = logits(one, batch)
    for layer in (0, 1):
        with going_on(one, layer, parts.states[layer]):
            torch.testing.assert_close(logits(one, batch), before, atol=1e-10, rtol=1e-10)
    with going_on(one, 1, torch.zeros_like(parts.states[1])):
        assert (logits(one, batch) - before).abs().max() > 0.01


def test_hooks_are_gone_after_an_error(models, batch):
    one, two = models
    before = logits(one, batch)

    def broken(_states):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"), reading(one, two, broken):
        logits(one, batch)
    with pytest.raises(InputError, match="the same batch"), going_on(one, 1, torch.zeros(1, 1, 32)):
        logits(one, batch)
    assert torch.equal(logits(one, batch), before)


def test_a_trained_map_lowers_the_loss_and_changes_neither_model_nor_global_state(models, batch):
    one, two = models
    weights = {name: weight.clone() for name, weight in (*one.named_parameters(), *two.named_parameters())}
    state = torch.get_rng_state()
    with reading(one, two, identity):
        rows = logits(one, batch)[batch.mask].log_softmax(-1)
    before = -rows.gather(1, batch.labels[batch.mask][:, None]).mean()
    layers = [train_map(one, two, no_map(32), [batch], steps=40, progress=False) for _ in range(2)]
    assert torch.equal(layers[0].weight, layers[1].weight)
    with torch.no_grad():
        states = layers[0](encoder_states(two, batch.input_ids, batch.attention_mask))
        after = loss_of(one, batch, states)
    assert after < 0.9 * before
    for name, weight in (*one.named_parameters(), *two.named_parameters()):
        assert weight.requires_grad == ("embed_positions" not in name), name
        assert weight.grad is None
    assert all(torch.equal(weight, dict(two.named_parameters())[name]) for name, weight in weights.items())
    assert torch.equal(torch.get_rng_state(), state)


def test_bad_input(models, batch, make_marian):
    one, two = models
    single = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=20)).eval()
    with pytest.raises(InputError, match="read is a gpt2"), reading(one, single, identity):
        pass
    other = make_marian(seed=3, vocab_size=len(batch.input_ids[0]) + 60)
    with pytest.raises(InputError, match="different vocabularies"), reading(one, other, identity):
        pass
    with pytest.raises(InputError, match="layers 0 to 1"), going_on(one, 2, torch.zeros(1, 1, 32)):
        pass
    with pytest.raises(InputError, match="0 batches"):
        train_map(one, two, no_map(32), [])

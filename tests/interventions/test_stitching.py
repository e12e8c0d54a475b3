"""Stitching: what changes nothing, what a plain computation by hand gives, training of a map, bad input."""

import dataclasses

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import addends
from addends.errors import InputError
from addends.interventions.maps import StateMap, fit_rotation, no_map
from addends.interventions.stitching import (
    as_module,
    by_length,
    encoder_states,
    going_on,
    losses_of,
    reading,
    train_maps,
    translate_states,
)
from tests.conftest import SOURCES, TARGETS


@pytest.fixture(scope="module")
def models(make_marian):
    """Two models with biases of their logits, which fresh ones have at 0."""
    pair = make_marian(seed=1, dtype="float64"), make_marian(seed=2, dtype="float64")
    for seed, model in enumerate(pair):
        model.final_logits_bias.normal_(generator=torch.Generator().manual_seed(seed))
    return pair


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


def losses(model, batch):
    """-log p of the labels by a whole pass of the model, of shape (token,)."""
    rows = logits(model, batch)[batch.mask].log_softmax(-1)
    return -rows.gather(1, batch.labels[batch.mask][:, None])[:, 0]


def states_of(model, batch):
    return encoder_states(model, batch.input_ids, batch.attention_mask)


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
        expected = losses_of(one, batch, 0.5 * (encoder_states(two, batch.input_ids, batch.attention_mask) - 1))
        with reading(one, two, layer):
            found = losses(one, batch)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


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


def test_pieces_by_length_are_the_batchs_sentences_without_what_they_do_not_need(models, batch):
    one, _ = models
    pieces = by_length(batch, 2)
    assert [len(piece) for piece in pieces] == [2] * (len(batch) // 2) + [1] * (len(batch) % 2)
    tokens = [int(piece.mask.sum(dim=1).max()) for piece in pieces]
    assert tokens == sorted(tokens)
    for piece in pieces:
        assert piece.mask.any(dim=0).all()
        assert piece.attention_mask.any(dim=0).all()
    assert sorted(text for piece in pieces for text in piece.texts) == sorted(TARGETS)
    order = batch.mask.sum(dim=1).argsort(stable=True)
    wanted = losses(one, batch).split(batch.mask.sum(dim=1).tolist())
    found = torch.cat([losses_of(one, piece, states_of(one, piece)) for piece in pieces]).detach()
    torch.testing.assert_close(found, torch.cat([wanted[row] for row in order.tolist()]), rtol=1e-10, atol=1e-10)


def test_what_is_said_of_ones_own_states_is_ones_own_translation(models, batch, tokenizer):
    """Whatever the first cap: what has not ended by then begins again."""
    for model in models:
        for most in (1, 5, 40):
            own = addends.translate(model, tokenizer, SOURCES, max_new_tokens=most).texts
            found = translate_states(model, tokenizer, states_of(model, batch), batch.attention_mask, most)
            assert found == list(own)


def test_what_is_said_of_others_states_is_what_the_two_together_translate(models, batch, tokenizer, monkeypatch):
    one, two = models
    layer = as_module(StateMap("affine", 0.5 * np.eye(32), np.ones(32), np.zeros(32)), next(one.parameters()))
    with reading(one, two, layer):
        expected = addends.translate(one, tokenizer, SOURCES, max_new_tokens=30)
    states = layer(states_of(two, batch)).detach()
    for first in (1, 3, 16):
        monkeypatch.setattr("addends.interventions.stitching.FIRST", first)
        assert translate_states(one, tokenizer, states, batch.attention_mask, 30) == list(expected.texts)


def test_an_end_that_the_cap_forces_is_no_end(models, batch, tokenizer, monkeypatch):
    """A Marian model is made to end with its last token: a translation that the first cap cuts begins again."""
    one = models[0]
    monkeypatch.setattr(one.generation_config, "forced_eos_token_id", one.config.eos_token_id)
    monkeypatch.setattr("addends.interventions.stitching.FIRST", 2)
    expected = addends.translate(one, tokenizer, SOURCES, max_new_tokens=12)
    assert int(expected.mask.sum(dim=1).max()) > 2
    assert translate_states(one, tokenizer, states_of(one, batch), batch.attention_mask, 12) == list(expected.texts)


def test_a_trained_map_lowers_the_loss_and_changes_neither_model_nor_global_state(models, batch):
    one, two = models
    weights = {name: weight.clone() for name, weight in (*one.named_parameters(), *two.named_parameters())}
    state = torch.get_rng_state()
    with reading(one, two, identity):
        before = losses(one, batch).mean()
    given = [[(batch, [states_of(two, batch)])]]
    layers = [train_maps(one, [no_map(32)], given, steps=40, progress=False)[0] for _ in range(2)]
    assert torch.equal(layers[0].weight, layers[1].weight)
    with reading(one, two, layers[0]):
        after = losses(one, batch).mean()
    assert after < 0.9 * before
    for name, weight in (*one.named_parameters(), *two.named_parameters()):
        assert weight.requires_grad == ("embed_positions" not in name), name
        assert weight.grad is None
    assert all(torch.equal(weight, dict(two.named_parameters())[name]) for name, weight in weights.items())
    assert torch.equal(torch.get_rng_state(), state)


def test_maps_that_are_trained_together_and_in_pieces_are_those_trained_alone(models, batch, make_marian):
    """Against a loop by hand: a whole batch a step, the model's own loss, one map."""
    one, two = models
    others, start = (two, make_marian(seed=4, dtype="float64")), no_map(32)
    pieces = by_length(batch, 2)
    assert len(pieces) > 1
    given = [[(piece, [states_of(other, piece) for other in others]) for piece in pieces]]
    together = train_maps(one, [start, start], given, steps=8, learning_rate=1e-2, progress=False)
    for other, found in zip(others, together, strict=True):
        layer = as_module(start, next(one.parameters()))
        optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2)
        for step in range(8):
            optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 8)
            optimizer.zero_grad()
            with torch.enable_grad():
                losses_of(one, batch, layer(states_of(other, batch))).mean().backward()
            optimizer.step()
        one.zero_grad()
        torch.testing.assert_close(found.weight, layer.weight.detach(), rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(found.bias, layer.bias.detach(), rtol=1e-7, atol=1e-9)
    assert not torch.allclose(together[0].weight, together[1].weight, atol=1e-3)


def test_batches_are_drawn_in_an_order_that_the_seed_decides_and_all_are_seen(models, batch):
    one, two = models
    singles = [[(piece, [states_of(two, piece)])] for piece in by_length(batch, 1)]
    seen = []

    class Watched(list):
        def __getitem__(self, place):
            seen.append(place)
            return super().__getitem__(place)

    train_maps(one, [no_map(32)], Watched(singles), steps=2 * len(singles), seed=3, progress=False)
    assert sorted(seen[: len(singles)]) == sorted(seen[len(singles) :]) == list(range(len(singles)))
    first = list(seen)
    seen.clear()
    train_maps(one, [no_map(32)], Watched(singles), steps=2 * len(singles), seed=4, progress=False)
    assert seen != first


def test_bad_input(models, batch, make_marian, tokenizer):
    one, two = models
    single = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=20)).eval()
    with pytest.raises(InputError, match="read is a gpt2"), reading(one, single, identity):
        pass
    other = make_marian(seed=3, vocab_size=len(batch.input_ids[0]) + 60)
    with pytest.raises(InputError, match="different vocabularies"), reading(one, other, identity):
        pass
    with pytest.raises(InputError, match="layers 0 to 1"), going_on(one, 2, torch.zeros(1, 1, 32)):
        pass
    for starts, batches, steps in (([no_map(32)], [], 3), ([], [[(batch, [])]], 3), ([no_map(32)], [[(batch, [])]], 0)):
        with pytest.raises(InputError, match="one or more of each"):
            train_maps(one, starts, batches, steps)
    unlabelled = dataclasses.replace(batch, labels=None)
    states = states_of(two, batch)
    with pytest.raises(InputError, match="with labels"):
        train_maps(one, [no_map(32)], [[(unlabelled, [states])]])
    with pytest.raises(InputError, match="no labels"):
        losses_of(one, unlabelled, states)
    with pytest.raises(InputError, match="this very batch"):
        train_maps(one, [no_map(32)], [[(batch, [states[:, :-1]])]])
    with pytest.raises(InputError, match="for 2 maps"):
        train_maps(one, [no_map(32)] * 2, [[(batch, [states])]])
    with pytest.raises(InputError, match="size=0"):
        by_length(batch, 0)
    with pytest.raises(InputError, match="max_new_tokens=0"):
        translate_states(one, tokenizer, states, batch.attention_mask, 0)

"""Rollout and ALTI: rows sum to one, and each is what its equation says when it is written out with loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from addends.decomposition.proofs import proven_capture
from addends.interventions.mixing import by_distance, half_kept, rolled_out
from tests.decomposition import small_models
from tests.interventions.labelled import batch_for, make

PAIRS = [name for name in small_models.PAIRS if not name.startswith("longt5")]
BOTH = pytest.mark.parametrize("mixing_of", [half_kept, by_distance])


def record_of(model, batch):
    return proven_capture(model, batch, attention_weights=True, encoder=True)


@pytest.mark.parametrize("name", PAIRS)
@BOTH
def test_shares_are_not_negative_and_sum_to_one_and_padding_has_none(name, mixing_of):
    model = make(name)
    batch = batch_for(model)
    with torch.no_grad():
        found = rolled_out(record_of(model, batch), mixing_of)
    assert found.shape == (3, 6, 13)
    rows = found[batch.mask]
    assert (rows >= 0).all()
    torch.testing.assert_close(rows.sum(dim=-1), torch.ones(len(rows)), rtol=0, atol=1e-5)
    padding = ~batch.attention_mask.bool()
    assert (found[..., :7].transpose(1, 2)[padding] == 0).all()
    assert (found[..., :7].transpose(1, 2)[~padding].transpose(0, 1) >= 0).all()
    future = torch.ones(6, 6, dtype=torch.bool).triu(1)
    assert (found[:, :, 7:][:, future] == 0).all()


@BOTH
def test_a_batch_says_what_its_sentences_say(mixing_of):
    model = make("marian", torch.float64)
    batch = batch_for(model)
    with torch.no_grad():
        together = rolled_out(record_of(model, batch), mixing_of)
        for index, (source, target) in enumerate(((7, 5), (4, 6), (6, 1))):
            single = small_models.alone(batch, index)
            alone = rolled_out(record_of(model, single), mixing_of)[0]
            expected = torch.cat([together[index, :target, :source], together[index, :target, 7 : 7 + target]], dim=-1)
            torch.testing.assert_close(alone, expected, rtol=1e-5, atol=1e-7)


def attentions_of(model, batch):
    """transformers' own weights, (head, position, read position) by layer: of encoder, decoder, cross-attention."""
    model.set_attn_implementation("eager")
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "use_cache": False}
    with torch.no_grad():
        said = model(**inputs, decoder_input_ids=batch.decoder_input_ids, output_attentions=True)
    groups = (said.encoder_attentions, said.decoder_attentions, said.cross_attentions)
    model.set_attn_implementation("sdpa")
    return [[layer[0].double().numpy() for layer in group] for group in groups]


def test_rollout_is_its_equation_with_transformers_own_weights():
    model = make("marian", torch.float64)
    batch = small_models.alone(batch_for(model), 0)
    encoder, decoder, cross = attentions_of(model, batch)
    source = np.eye(7)
    for layer in encoder:
        source = (layer.mean(axis=0) + np.eye(7)) / 2 @ source
    of_source, of_target = np.zeros((5, 7)), np.eye(5)
    for own, over in zip(decoder, cross, strict=True):
        mixed = (own.mean(axis=0) + np.eye(5)) / 2
        of_source, of_target = mixed @ of_source, mixed @ of_target
        of_source, of_target = of_source / 2 + over.mean(axis=0) @ source / 2, of_target / 2
    with torch.no_grad():
        found = rolled_out(record_of(model, batch), half_kept)[0].numpy()
    np.testing.assert_allclose(found, np.concatenate([of_source, of_target], axis=1), rtol=1e-5, atol=1e-7)


class Block:
    """A Marian or Pegasus attention block, written out with loops for one sentence of float64."""

    def __init__(self, attention, norm, post, weights):
        self.attention, self.norm, self.post, self.weights = attention, norm, post, torch.tensor(weights)

    def linear_part(self, vector, read):
        """L(v) = g (v - m(v)) / s, s that of what the norm read."""
        if not self.post:
            return vector
        deviation = (read.var(unbiased=False) + self.norm.eps).sqrt()
        return self.norm.weight * (vector - vector.mean()) / deviation

    def __call__(self, states, source=None):
        """What the block gives, and the shares of what it reads and of what stays."""
        after, shares, kept = [], [], []
        read = self.norm(states) if source is None and not self.post else states if source is None else source
        heads = self.weights.shape[0]
        width = states.shape[1] // heads
        for t in range(len(states)):
            parts = []
            for j in range(len(read)):
                value = self.attention.v_proj.weight @ read[j]
                inner = torch.cat([self.weights[h, t, j] * value[h * width : (h + 1) * width] for h in range(heads)])
                part = self.attention.out_proj.weight @ inner
                parts.append(part + states[t] if source is None and j == t else part)
            constant = self.attention.out_proj.weight @ self.attention.v_proj.bias + self.attention.out_proj.bias
            before = sum(parts) + constant + (0 if source is None else states[t])
            y = self.norm(before) if self.post else before
            every = [*parts, states[t]] if source is not None else parts
            near = [max(0.0, float(y.abs().sum() - (y - self.linear_part(p, before)).abs().sum())) for p in every]
            after.append(y)
            shares.append([each / sum(near) for each in near[: len(read)]])
            kept.append(near[-1] / sum(near) if source is not None else 0.0)
        return torch.stack(after), np.array(shares), np.array(kept)[:, None]


@pytest.mark.parametrize("name", ["marian", "pegasus"])
def test_alti_is_its_equation_written_out(name):
    model = make(name, torch.float64)
    post = name == "marian"
    batch = small_models.alone(batch_for(model), 0)
    record = record_of(model, batch)
    weights = attentions_of(model, batch)
    base = model.model

    def feed_forward(layer, states):
        read = states if post else layer.final_layer_norm(states)
        states = states + layer.fc2(layer.activation_fn(layer.fc1(read)))
        return layer.final_layer_norm(states) if post else states

    with torch.no_grad():
        states, source = record.encoder.states[0][0], np.eye(7)
        for layer, own in zip(base.encoder.layers, weights[0], strict=True):
            states, mix, _ = Block(layer.self_attn, layer.self_attn_layer_norm, post, own)(states)
            states, source = feed_forward(layer, states), mix @ source
        read = states if post else base.encoder.layer_norm(states)
        states, joint = record.main.states[0][0], np.concatenate([np.zeros((5, 7)), np.eye(5)], axis=1)
        for layer, own, over in zip(base.decoder.layers, *weights[1:], strict=True):
            states, mix, _ = Block(layer.self_attn, layer.self_attn_layer_norm, post, own)(states)
            joint = mix @ joint
            states, mix, kept = Block(layer.encoder_attn, layer.encoder_attn_layer_norm, post, over)(states, read)
            joint = kept * joint + mix @ np.concatenate([source, np.zeros((7, 5))], axis=1)
            states = feed_forward(layer, states)
        found = rolled_out(record, by_distance)[0].numpy()
        last = states if post else base.decoder.layer_norm(states)
    torch.testing.assert_close(last, record.main.states[-1][0], rtol=1e-5, atol=1e-6)  # the loops are the model's pass
    np.testing.assert_allclose(found, joint, rtol=1e-4, atol=1e-6)


def test_where_no_token_comes_near_the_residual_keeps_all():
    model = make("marian")
    batch = batch_for(model)
    record = record_of(model, batch)
    cross, own = record.main.layers[0][1], record.main.layers[0][0]
    with torch.no_grad():
        for sublayer in (cross, own):
            sublayer.norm.gave = torch.zeros_like(sublayer.norm.gave)  # nothing is nearer to zero than nothing
        keep, mix = by_distance(cross, record.main, record.encoder_states)
        assert (keep == 1).all()
        assert (mix == 0).all()
        keep, mix = by_distance(own, record.main, record.encoder_states)
        assert (keep == 1).all()
        assert (mix == 0).all()

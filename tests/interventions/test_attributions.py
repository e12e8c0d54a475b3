"""Attributions: sums of shares, slopes that differences meet, exact effects where a model is linear."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

import addends
from addends.decomposition import cross_attention, indicators, with_places
from addends.decomposition.logits import linear_head
from addends.errors import InputError, ModelStateError, UnsupportedModelError
from addends.interventions import intervene, source_attributions
from addends.interventions.attributions import gradients
from addends.interventions.reading import Reading
from tests.decomposition import small_models
from tests.interventions.labelled import batch_for, make, said
from tests.interventions.linear_toy import linear_toy
from tests.interventions.test_source_pass import state_of

METHODS = [
    "attention",
    "attention, last layer",
    "rollout",
    "alti",
    "part share",
    "part share, centred",
    "part importance",
    "part share, through encoder",
    "part share, centred, through encoder",
    "part importance, through encoder",
    "gradient",
    "gradient, length",
]
PAIRS = [name for name in small_models.PAIRS if not name.startswith("longt5")]
FAMILIES = pytest.mark.parametrize("name", PAIRS)
PLACE = ["sentence", "position", "source"]


def wide(frame: pd.DataFrame, method: str) -> pd.Series:
    return frame[frame["method"] == method].set_index(PLACE)["value"].sort_index()


@FAMILIES
def test_every_method_has_a_value_for_each_row_and_source_token(name):
    model = make(name)
    batch = batch_for(model)
    before = state_of(model)
    frame = source_attributions(model, batch)
    assert state_of(model) == before
    assert list(frame) == ["sentence", "position", "source", "special", "method", "value"]
    assert frame["method"].unique().tolist() == METHODS
    assert np.isfinite(frame["value"]).all()
    rows = (
        frame[frame["method"] == "alti"]
        .groupby("sentence")
        .agg(rows=("position", "nunique"), each=("source", "nunique"))
    )
    assert rows.to_numpy().tolist() == [[5, 7], [6, 4], [1, 6]]
    assert len(frame) == len(METHODS) * (5 * 7 + 6 * 4 + 1 * 6)


@FAMILIES
def test_the_shares_of_the_tokens_sum_to_that_of_the_source(name):
    model = make(name)
    batch = batch_for(model)
    frame = source_attributions(model, batch)
    summed = frame.groupby(["method", "sentence", "position"])["value"].sum()
    for through_encoder, suffix in ((False, ""), (True, ", through encoder")):
        parts = addends.decompose(model, batch, by="token", through_encoder=through_encoder)
        share = addends.logit_shares(parts, model, batch.labels[..., None])[0, ..., 0][batch.mask].detach()
        np.testing.assert_allclose(summed[f"part share{suffix}"], share, rtol=1e-4, atol=1e-4)
        grouped = indicators(parts).query("layer == layer.max() and term == 'S'")["importance"]
        np.testing.assert_allclose(summed[f"part importance{suffix}"], grouped, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(summed["attention"], 1, rtol=1e-5)
    assert (summed[["rollout", "alti"]] < 1 + 1e-5).all()
    assert (summed["rollout"] > 0.5).all()  # of each cross-attention a half is the source's


@pytest.mark.parametrize("through_encoder", [False, True])
def test_parts_are_those_of_the_decomposition_into_single_tokens(through_encoder):
    model = make("marian", torch.float64)
    batch = batch_for(model)
    suffix = ", through encoder" if through_encoder else ""
    frame = source_attributions(model, batch)
    parts = addends.decompose(model, batch, by="token", tokens="each", through_encoder=through_encoder)
    last = (
        with_places(indicators(parts))
        .query("layer == layer.max() and group == 'S'")
        .rename(columns={"place": "source"})
    )
    expected = last.set_index(PLACE)["importance"]
    found = wide(frame, f"part importance{suffix}")
    np.testing.assert_allclose(found, expected.reindex(found.index), rtol=1e-9, atol=1e-12)
    if not through_encoder:  # removing the part from the last state takes its share from the logit
        effects = intervene(model, batch, by="token", tokens="each", replace="zero")
        effects = effects[effects["term"].str.startswith("S")].assign(source=lambda f: f["term"].str[1:].astype(int))
        found = wide(frame, "part share")
        np.testing.assert_allclose(
            found, -effects.set_index(PLACE)["logit"].reindex(found.index), rtol=1e-9, atol=1e-10
        )


@FAMILIES
def test_a_centred_share_is_the_change_of_log_p_that_the_head_says_to_first_order(name):
    """Autograd through the head alone, of the last state that the decomposition sums to."""
    model = make(name, torch.float64)
    batch = batch_for(model)
    parts = addends.decompose(model, batch, by="token", tokens="each")
    state = parts.states[-1].clone().requires_grad_()
    head = model.get_output_embeddings()
    logits = head(linear_head(model).scale * state) + getattr(model, "final_logits_bias", 0)
    chosen = logits.log_softmax(dim=-1).gather(-1, batch.labels[..., None])[..., 0][batch.mask].sum()
    (slope,) = torch.autograd.grad(chosen, state)
    expected = (parts.vectors[-1, :7] * slope).sum(dim=-1).permute(1, 2, 0)  # (sentence, position, source)
    found = wide(source_attributions(model, batch), "part share, centred")
    at = tuple(torch.tensor(found.index.get_level_values(each).to_numpy()) for each in PLACE)
    np.testing.assert_allclose(found, expected[at], rtol=1e-6, atol=1e-8)


def test_attention_is_the_mean_of_the_recorded_weights():
    model = make("marian")
    batch = batch_for(model)
    frame, weights = source_attributions(model, batch), cross_attention(model, batch)
    for method, chosen in (("attention", weights), ("attention, last layer", weights[weights["layer"] == 2])):
        expected = chosen.groupby(PLACE)["weight"].mean()
        np.testing.assert_allclose(wide(frame, method), expected, rtol=1e-5)


# --- gradients ---


def test_in_a_linear_model_the_gradient_is_the_exact_effect():
    """What an embedding adds to log p(label) is what is lost when a copy of the model reads zero in its place."""
    model, batch = linear_toy()
    found = gradients(Reading(model, batch))["gradient"]
    base, scale = model.model, 32**0.5
    embedded = base.encoder.embed_tokens(batch.input_ids).detach() * scale
    for place in range(7):
        changed = embedded.clone()
        changed[:, place] = 0
        both = []
        for each in (embedded, changed):
            with torch.no_grad():
                logits = model(
                    inputs_embeds=each, attention_mask=batch.attention_mask, decoder_input_ids=batch.decoder_input_ids
                ).logits
            both.append(logits.log_softmax(dim=-1)[..., 5])
        lost = (both[0] - both[1])[batch.mask]
        torch.testing.assert_close(found[..., place][batch.mask], lost, rtol=1e-9, atol=1e-9)
        assert place > 3 or (lost.abs() > 1e-6).all()


@pytest.mark.parametrize("name", ["marian", "m2m_100", "mbart"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_gradients_are_slopes_of_log_probabilities(name, attention):
    """One token's embedding made longer, and shorter. Not of T5, whose norms in float32 round more than this tells."""
    model = make(name, torch.float64)
    model.set_attn_implementation(attention)
    batch = batch_for(model)
    ids = torch.arange(21).reshape(3, 7) % 37 + 3  # of one sentence, no token stands twice
    batch = dataclasses.replace(batch, input_ids=ids.where(batch.attention_mask.bool(), batch.input_ids))
    found = gradients(Reading(model, batch))["gradient"]
    step = 1e-4
    for sentence, place in ((0, 2), (1, 0), (2, 5)):
        both = []
        for factor in (1 + step, 1 - step):

            def scaled(_module, inputs, output, factor=factor, sentence=sentence, place=place):
                if inputs[0].shape == batch.input_ids.shape and torch.equal(inputs[0], batch.input_ids):
                    output = output.clone()
                    output[sentence, place] *= factor
                return output

            handle = model.base_model.encoder.get_input_embeddings().register_forward_hook(scaled)
            both.append(said(model, batch)[0])
            handle.remove()
        slope = (both[0] - both[1]) / (2 * step)
        here = found[..., place][batch.mask].where(batch.mask.nonzero()[:, 0] == sentence, 0)
        torch.testing.assert_close(here, slope, rtol=1e-3, atol=1e-5)
        assert slope.abs().max() > 1e-4


def test_the_length_is_at_least_the_sum_over_the_root_of_the_width():
    """|sum_i a_i| <= sqrt(d) |a|, and equal only where all a_i are: a bound by Cauchy and Schwarz."""
    found = gradients(Reading(model := make("marian"), batch_for(model)))
    assert (found["gradient"].abs() <= 32**0.5 * found["gradient, length"] * (1 + 1e-5)).all()
    assert (found["gradient, length"] >= 0).all()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_gradient_mode_does_not_matter(mode):
    model = make("marian")
    batch = batch_for(model)
    expected = source_attributions(model, batch)
    with mode():
        found = source_attributions(model, batch)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-3, atol=1e-5)
    for weight in model.parameters():
        weight.requires_grad_(False)  # kernels that keep nothing for gradients round otherwise
    pd.testing.assert_frame_equal(source_attributions(model, batch), expected, rtol=1e-3, atol=1e-5)


# --- batches ---


@pytest.mark.parametrize("name", ["marian", "t5", "mbart"])
def test_a_batch_says_what_its_sentences_say(name):
    model = make(name, torch.float64)
    batch = batch_for(model)
    together = source_attributions(model, batch).set_index(["sentence", *PLACE[1:], "method"])["value"]
    for index in range(3):
        single = small_models.alone(batch, index)
        single = dataclasses.replace(single, labels=batch.labels[index : index + 1, batch.mask[index]])
        alone = source_attributions(model, single).set_index([*PLACE[1:], "method"])["value"]
        np.testing.assert_allclose(alone, together.loc[index].reindex(alone.index), rtol=1e-4, atol=1e-6)


def test_rows_that_do_not_count_are_left_out():
    model = make("marian")
    batch = batch_for(model)
    mask = batch.decoder_mask.clone()
    mask[:, 0] = False
    found = source_attributions(model, dataclasses.replace(batch, decoder_mask=mask))
    expected = source_attributions(model, batch).query("position > 0").reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-3, atol=1e-5)


def test_special_tokens_are_those_of_the_configuration_or_those_that_are_named():
    model = make("marian")
    batch = batch_for(model)
    ids = batch.input_ids.clone()
    ids[0, 6], ids[1, 3] = 2, 2  # the end's
    batch = dataclasses.replace(batch, input_ids=ids)
    frame = source_attributions(model, batch)
    assert sorted(set(zip(*(frame.query("special")[name] for name in ("sentence", "source")), strict=True))) == [
        (0, 6),
        (1, 3),
    ]
    named = source_attributions(model, batch, special_ids=[int(ids[2, 0])])
    assert named.query("special")[["sentence", "source"]].drop_duplicates().to_numpy().tolist()[-1] == [2, 0]
    assert not source_attributions(model, batch, special_ids=[])["special"].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_carried_in_float32(dtype):
    model = make("marian", dtype)
    frame = source_attributions(model, batch_for(model))
    assert np.isfinite(frame["value"]).all()


# --- bad input ---


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_a_single_stack_is_refused_in_words(name):
    model = small_models.make(name)
    with pytest.raises(InputError, match=f"A {name} has one stack only.*Give an encoder-decoder"):
        source_attributions(model, small_models.batch_for(model))


def test_an_encoder_whose_weights_cannot_be_recorded_is_refused():
    model = make("longt5")
    with pytest.raises(UnsupportedModelError, match="rollout, ALTI and parts through the encoder cannot be had"):
        source_attributions(model, batch_for(model))


def test_without_labels_or_in_training_it_is_refused():
    model = make("marian")
    batch = batch_for(model)
    with pytest.raises(InputError, match="has no labels"):
        source_attributions(model, dataclasses.replace(batch, labels=None))
    with pytest.raises(InputError, match="nothing to ask about"):
        source_attributions(model, dataclasses.replace(batch, decoder_mask=torch.zeros_like(batch.decoder_mask)))
    with pytest.raises(ModelStateError, match="training mode"):
        source_attributions(model.train(), batch)
    model.eval()


def test_after_an_error_the_model_is_as_it_was(monkeypatch):
    model = make("marian")
    batch = batch_for(model)
    source_attributions(model, batch)
    before = state_of(model)
    calls = []

    def fails(*_given):
        calls.append(True)
        raise KeyboardInterrupt

    layer = model.model.decoder.layers[1]
    handle = layer.register_forward_hook(fails)
    with pytest.raises(KeyboardInterrupt):
        gradients(Reading(model, batch))
    handle.remove()
    assert calls
    assert state_of(model) == before

"""One pass of the base model; nothing of the model is changed; what does not fit is named."""

from __future__ import annotations

import pytest
import torch

import addends
from addends.decomposition.capture import capture
from addends.decomposition.record import AttentionSublayer
from addends.errors import InputError, ModelStateError
from tests.decomposition.small_models import NAMES, PAD, VOCABULARY, batch_for, make
from tests.rounding import allowed

EVERY = pytest.mark.parametrize("name", NAMES)
BOTH = pytest.mark.parametrize("by", ["sublayer", "token"])


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@EVERY
@BOTH
def test_the_base_model_runs_once_its_head_never_and_proofs_twice_more_the_first_time(name, by):
    model = make(name)
    base, logits = [], []
    model.base_model.register_forward_hook(lambda *_: base.append(1))
    head = model.get_output_embeddings()
    if head is not None:
        head.register_forward_hook(lambda _module, _inputs, output: logits.append(output.numel()))
    batch = batch_for(model)
    addends.decompose(model, batch, by=by)
    assert len(base) == 3
    addends.decompose(model, batch, by=by)
    assert len(base) == 4
    assert sum(logits) == 0
    if model.base_model is not model:
        assert logits == []


@EVERY
def test_hooks_go_and_the_attention_implementation_comes_back(name):
    model = make(name)
    before = model.config._attn_implementation
    addends.decompose(model, batch_for(model), by="token")
    assert hooks(model) == 0
    assert model.config._attn_implementation == before


@EVERY
def test_attention_weights_are_recorded_and_sum_to_one(name):
    model = make(name)
    batch = batch_for(model)
    record = capture(model, batch, attention_weights=True)
    for layer in record.main.layers:
        for sublayer in layer:
            if not isinstance(sublayer, AttentionSublayer):
                assert not hasattr(sublayer, "weights")
                continue
            read = batch.input_ids if sublayer.place.reads == "encoder" else batch.mask
            assert sublayer.weights.shape == (3, 4, batch.mask.shape[1], read.shape[1])
            sums = sublayer.weights.sum(dim=-1).transpose(1, 2)[batch.mask]
            torch.testing.assert_close(sums, torch.ones_like(sums))


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ["marian", "t5: gated", "gpt2"])
def test_inference_mode_changes_no_number(name, by, dtype):
    model = make(name, dtype)
    batch = batch_for(model)
    plain = addends.decompose(model, batch, by=by, gate="tangent")
    with torch.inference_mode():
        parts = addends.decompose(model, batch, by=by, gate="tangent")
        assert torch.is_inference_mode_enabled()
        assert torch.equal(parts.vectors, plain.vectors)
        assert addends.indicators(parts).equals(addends.indicators(plain))


# --- bad input ---


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "The model is in training mode"),
        ("encoder.layers.1", r"'encoder\.layers\.1' is in training mode.*model\.eval\(\)"),
        ("decoder.layers.0.self_attn", r"'decoder\.layers\.0\.self_attn'"),
    ],
)
@BOTH
def test_any_module_in_training_mode_is_named(path, message, by):
    model = make("marian", dropout=0.5)
    model.base_model.get_submodule(path).train()
    with pytest.raises(ModelStateError, match=message):
        addends.decompose(model, batch_for(model), by=by)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_ids": VOCABULARY}, r"input_ids of sentence 1 hold \[40\]\. The model embeds 0 to 39"),
        ({"input_ids": -100}, r"input_ids of sentence 1 hold \[-100\]"),
        (
            {"decoder_input_ids": 10**6},
            r"decoder_input_ids of sentence 1 hold \[1000000\]\. .*decoder embeds",
        ),
    ],
)
def test_ids_without_an_embedding_are_named(change, message):
    model = make("bart")
    batch = batch_for(model)
    for name, value in change.items():
        getattr(batch, name)[1, 2] = value
    with pytest.raises(InputError, match=message):
        addends.decompose(model, batch)


def test_a_decoder_with_a_smaller_vocabulary_has_its_own_range():
    options = {"share_encoder_decoder_embeddings": False, "tie_word_embeddings": False, "decoder_vocab_size": 30}
    model = make("marian", **options)
    batch = batch_for(model)
    batch.decoder_input_ids.clamp_(max=29)
    batch.input_ids[0, 0] = 39
    parts = addends.decompose(model, batch)
    assert parts.error() <= allowed(parts)
    batch.decoder_input_ids[0, 1] = 30
    with pytest.raises(InputError, match=r"decoder_input_ids of sentence 0 hold \[30\].*decoder embeds 0 to 29"):
        addends.decompose(model, batch)


@pytest.mark.parametrize(("name", "limit"), [("gpt2", 20), ("bert", 20), ("roberta", 20 - PAD - 1), ("opt", 20)])
def test_more_positions_than_the_model_has_are_refused_and_as_many_are_not(name, limit):
    model = make(name)
    ids = torch.full((1, limit), 5)
    assert addends.decompose(model, addends.Batch(ids, torch.ones_like(ids))).states.shape[2] == limit
    longer = torch.full((1, limit + 1), 5)
    with pytest.raises(InputError, match=rf"input_ids have {limit + 1} positions, the model has {limit}"):
        addends.decompose(model, addends.Batch(longer, torch.ones_like(longer)))
    far = addends.Batch(ids, torch.ones_like(ids), position_ids=torch.full((1, limit), 20))
    with pytest.raises(InputError, match=r"position_ids of sentence 0 hold \[20\]\. .*positions for 0 to 19"):
        addends.decompose(model, far)


def test_sides_that_do_not_fit_the_model_are_refused():
    pair, single = make("bart"), make("gpt2")
    with pytest.raises(InputError, match="has decoder_input_ids, but a gpt2 has one stack only"):
        addends.decompose(single, batch_for(pair))
    with pytest.raises(InputError, match="has no decoder_input_ids"):
        addends.decompose(pair, batch_for(single))
    batch = batch_for(pair)
    placed = addends.Batch(
        batch.input_ids, batch.attention_mask, batch.decoder_input_ids, position_ids=torch.zeros_like(batch.input_ids)
    )
    with pytest.raises(InputError, match="has position_ids, but a bart takes none"):
        addends.decompose(pair, placed)


def test_a_batch_that_is_half_elsewhere_is_refused():
    model = make("gpt2")
    batch = batch_for(model)
    with pytest.raises(InputError, match=r"attention_mask are on meta, the model is on cpu.*batch\.to"):
        addends.decompose(model, addends.Batch(batch.input_ids, batch.attention_mask.to("meta")))


def test_an_operation_that_the_device_lacks_in_half_precision_says_what_to_do(monkeypatch):
    def lacks(*_, **__):
        raise RuntimeError("\"addmm_impl_cpu_\" not implemented for 'Half'")

    model = make("gpt2", torch.float16)
    monkeypatch.setattr(model.base_model.h[1].mlp.c_fc, "forward", lacks)
    with pytest.raises(ModelStateError, match=r"cpu cannot run this model in torch\.float16.*dtype='float32'"):
        addends.decompose(model, batch_for(model))
    full = make("gpt2")
    monkeypatch.setattr(full.base_model.h[1].mlp.c_fc, "forward", lacks)
    with pytest.raises(RuntimeError, match="addmm_impl_cpu_"):
        addends.decompose(full, batch_for(full))
    assert hooks(model) == hooks(full) == 0

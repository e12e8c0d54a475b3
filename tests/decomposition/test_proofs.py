"""What the method takes a model for is proven by what can fail: each proof is seen to fail, and costs once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

import addends
from addends.decomposition import architecture_of
from addends.errors import UnsupportedModelError
from tests.decomposition.small_models import NAMES, batch_for, make, transformers_states

BOTH = pytest.mark.parametrize("by", ["sublayer", "token"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])


# --- states ---


@pytest.mark.parametrize("name", [n for n in NAMES if architecture_of(make(n).config).stack.final_norm])
@BOTH
def test_a_row_without_the_final_norm_is_refused(name, by, table):
    model = make(name, torch.float64)
    row = architecture_of(model.config)
    stack = replace(row.stack, final_norm=None)
    addends.register(replace(row, stack=stack, variant=None), replace_existing=True)
    with pytest.raises(UnsupportedModelError, match=r"State 2 is not that of a plain pass.*off by \d.*correct the row"):
        addends.decompose(model, batch_for(model), by=by)


def test_through_the_encoder_its_states_are_proven_too(table):
    model = make("t5", torch.float64)
    row = architecture_of(model.config)
    addends.register(replace(row, encoder=replace(row.encoder, final_norm=None)), replace_existing=True)
    batch = batch_for(model)
    assert addends.decompose(model, batch, by="token").error() < 1e-12  # the encoder's states are atoms
    with pytest.raises(UnsupportedModelError, match="State 2 is not that of a plain pass"):
        addends.decompose(model, batch, by="token", through_encoder=True)


@DTYPES
def test_an_attention_that_computed_in_the_open_is_another_is_refused_by_token(dtype):
    """One that halves its scores, without a keyword that would say so."""

    def halved(module, query, key, value, attention_mask, scaling=None, **options):
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling / 2, **options)

    AttentionInterface.register("halved", halved)
    AttentionMaskInterface.register("halved", sdpa_mask)
    model = make("llama: grouped queries", dtype)
    batch = batch_for(model)
    before = addends.decompose(model, batch, by="token")
    model.set_attn_implementation("halved")
    parts = addends.decompose(model, batch, by="sublayer")
    own = torch.stack(transformers_states(model, batch))
    assert torch.equal(parts.states[:, parts.mask], own[:, parts.mask].to(parts.states.dtype))
    with pytest.raises(UnsupportedModelError, match="is not that of a plain pass"):
        addends.decompose(model, batch, by="token")
    model.set_attn_implementation("sdpa")
    assert torch.equal(addends.decompose(model, batch, by="token").vectors, before.vectors)


def with_keyword(monkeypatch, **keywords):
    from transformers.models.llama import modeling_llama

    original = modeling_llama.ALL_ATTENTION_FUNCTIONS.get_interface

    def interface(name, default):
        attend = original(name, default)
        return lambda *given, **options: attend(*given, **options, **keywords)

    monkeypatch.setattr(modeling_llama.ALL_ATTENTION_FUNCTIONS, "get_interface", interface)


def test_a_keyword_of_an_attention_that_is_not_known_is_refused_by_name(monkeypatch):
    model = make("llama", torch.float64)
    batch = batch_for(model)
    with_keyword(monkeypatch, s_aux=torch.zeros(4), another=None, sliding_window=4096)
    assert addends.decompose(model, batch, by="sublayer").error() < 1e-12
    with pytest.raises(UnsupportedModelError, match=r"LlamaAttention is called with 's_aux'.*by='sublayer'"):
        addends.decompose(model, batch, by="token")


def test_capped_scores_are_computed(monkeypatch):
    from transformers.models.llama import modeling_llama

    model = make_eager()
    batch = batch_for(model)

    def capped(module, query, key, value, attention_mask, scaling, dropout=0.0, softcap=None, **_):
        scores = torch.tanh(query @ key.transpose(2, 3) * scaling / softcap) * softcap
        weights = (scores + attention_mask).softmax(dim=-1)
        return (weights @ value).transpose(1, 2).contiguous(), weights

    plain = addends.decompose(model, batch, by="token").states
    monkeypatch.setattr(modeling_llama, "eager_attention_forward", capped)
    with_keyword(monkeypatch, softcap=0.5)
    model = make_eager()
    parts = addends.decompose(model, batch, by="token")
    own = torch.stack(transformers_states(model, batch))
    torch.testing.assert_close(parts.states[:, parts.mask], own[:, parts.mask], rtol=1e-9, atol=1e-9)
    assert (parts.states - plain)[-1][parts.mask].abs().max() > 1e-3


def make_eager():
    model = make("llama", torch.float64)
    model.set_attn_implementation("eager")
    return model


# --- maps and constants ---


@BOTH
@DTYPES
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("marian", "decoder.layers.1.self_attn.v_proj"),
        ("marian", "decoder.layers.0.encoder_attn.out_proj"),
        ("marian", "decoder.layers.1.fc2"),
        ("gpt2", "h.1.attn.c_attn"),
        ("gpt2", "h.0.mlp.c_proj"),
        ("bert", "encoder.layer.1.attention.self.value"),
        ("llama: biases", "layers.1.mlp.down_proj"),
        ("gpt_neox", "layers.0.attention.query_key_value"),
        ("t5", "decoder.block.1.layer.2.DenseReluDense.wo"),
    ],
)
def test_a_hook_that_scales_a_map_is_refused(name, path, dtype, by):
    model = make(name, dtype)
    batch = batch_for(model)
    addends.decompose(model, batch, by=by)  # proven, and no more once the hook is there
    model.base_model.get_submodule(path).register_forward_hook(lambda _module, _inputs, output: 1.5 * output)
    layer = 1 + int(next(piece for piece in path.split(".") if piece.isdigit()))
    with pytest.raises(UnsupportedModelError, match=rf"of layer {layer} .*does not give W x \+ b"):
        addends.decompose(model, batch, by=by)


@BOTH
def test_a_map_of_another_class_that_adds_something_is_refused(by):
    class Louder(nn.Linear):
        def forward(self, x):
            return super().forward(x) + 0.01 * x.mean()

    model = make("marian", torch.float64)
    model.model.decoder.layers[0].fc2.__class__ = Louder
    with pytest.raises(UnsupportedModelError, match=r"'fc2' of layer 1 \(Louder\)"):
        addends.decompose(model, batch_for(model), by=by)


@DTYPES
def test_a_bias_that_is_no_constant_is_refused(dtype, monkeypatch):
    """Weights that do not sum to one, as with sinks: b_V counts as much as they sum to."""

    def sinking(module, query, key, value, attention_mask, **options):
        mixed, weights = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return 0.8 * mixed, weights

    AttentionInterface.register("sinking", sinking)
    AttentionMaskInterface.register("sinking", sdpa_mask)
    for name, refused in (("marian", True), ("llama", False)):  # a llama has no bias
        model = make(name, dtype)
        model.set_attn_implementation("sinking")
        if refused:
            with pytest.raises(UnsupportedModelError, match=r"does not mix what .*v_proj.* sum to 1"):
                addends.decompose(model, batch_for(model), by="sublayer")
        else:
            assert addends.decompose(model, batch_for(model), by="sublayer").vectors.any()


# --- activations ---


class Cumulative(nn.Module):
    def forward(self, z):
        return torch.relu(z).cumsum(dim=-1)


class StraightThrough(nn.Module):
    def forward(self, z):
        return z + (torch.tanh(z) - z).detach()


@pytest.mark.parametrize(
    ("activation", "said"), [(Cumulative(), "does not act on each number"), (StraightThrough(), "another slope")]
)
def test_an_activation_without_a_tangent_of_its_own_is_refused_by_token(activation, said):
    model = make("marian", torch.float64)
    for layer in model.model.decoder.layers:
        layer.activation_fn = activation.eval()
    assert addends.decompose(model, batch_for(model), by="sublayer").error() < 1e-12
    with pytest.raises(UnsupportedModelError, match=f"{type(activation).__name__}.*{said}"):
        addends.decompose(model, batch_for(model), by="token")


@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_new", "swish", "tanh", "relu2", "leaky_relu", "mish"])
@DTYPES
def test_usual_activations_are_proven(activation, dtype):
    model = make("marian", dtype, activation_function=activation)
    assert addends.decompose(model, batch_for(model), by="token").vectors.any()


# --- what changes after the proof ---


@DTYPES
@pytest.mark.parametrize(
    ("name", "path", "by"),
    [
        ("llama", "norm", "sublayer"),
        ("llama", "layers.1.input_layernorm", "token"),
        ("t5", "decoder.block.1.layer.2.layer_norm", "token"),
        ("marian", "decoder.layers.1.final_layer_norm", "sublayer"),
    ],
)
def test_a_hook_of_a_norm_that_wakes_up_after_the_proof_is_refused(name, path, by, dtype):
    """Its gain is read off what it gave, so that nothing but the formula can make the sum fail."""
    model, asleep = make(name, dtype), [True]
    batch = batch_for(model)
    added = torch.linspace(-1, 1, 32, dtype=dtype)
    norm = model.base_model.get_submodule(path)
    norm.register_forward_hook(lambda _module, _inputs, output: output if asleep else output + added)
    addends.decompose(model, batch, by=by)
    asleep.clear()
    with pytest.raises(UnsupportedModelError, match=r"The parts of layer 2 do not sum to the states"):
        addends.decompose(model, batch, by=by)


@BOTH
def test_a_global_hook_that_comes_after_the_proof_is_seen(by):
    model = make("llama", torch.float64)
    batch = batch_for(model)
    addends.decompose(model, batch, by=by)
    norm = model.model.norm
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, _inputs, output: output + 1 if module is norm else None
    )
    try:
        with pytest.raises(UnsupportedModelError, match="A LlamaRMSNorm stands where a norm was expected, and gives"):
            addends.decompose(model, batch, by=by)
    finally:
        handle.remove()


# --- cost ---


@BOTH
def test_a_proof_holds_until_something_changes(by):
    model = make("marian")
    batch = batch_for(model)
    passes = []
    model.base_model.register_forward_hook(lambda *_: passes.append(1))

    def count():
        passes.clear()
        addends.decompose(model, batch, by=by)
        return len(passes)

    assert [count(), count()] == [3, 1]
    with torch.no_grad():
        model.model.decoder.layers[0].fc1.weight.mul_(1.1)
    assert [count(), count()] == [3, 1]
    model.model.decoder.layers[0].register_forward_hook(lambda *_: None)
    assert [count(), count()] == [3, 1]
    model.set_attn_implementation("eager")
    assert [count(), count()] == [3, 1]
    ids, mask = (
        torch.cat([each, each[:, -1:].expand(-1, 4)], dim=1) for each in (batch.input_ids, batch.attention_mask)
    )
    batch = addends.Batch(ids, mask, batch.decoder_input_ids, batch.decoder_mask)
    assert [count(), count()] == [3, 1]  # longer than any before
    model.double()
    assert [count(), count()] == [3, 1]

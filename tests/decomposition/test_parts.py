"""The identities that make a decomposition one: the parts sum to the state, in any batch, in any precision."""

from __future__ import annotations

import math

import pytest
import torch

import addends
from addends.decomposition.parts import stream
from addends.errors import AddendsError, InputError, ModelStateError, UnsupportedModelError
from tests.conftest import SOURCES, TARGETS
from tests.rounding import allowed, bound

BOTH = pytest.mark.parametrize("by", ["sublayer", "token"])
CENTERINGS = pytest.mark.parametrize("centering", ["own", "constant"])


@pytest.fixture(scope="module")
def model(make_marian):
    return make_marian()


@pytest.fixture(scope="module")
def batch(model, tokenizer):
    return addends.encode(model, tokenizer, SOURCES, TARGETS)


@BOTH
@CENTERINGS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parts_sum_to_the_state_of_a_large_model(make_marian, tokenizer, by, centering, dtype):
    model = make_marian(layers=6, dim=512, dtype=dtype, encoder_attention_heads=8, decoder_attention_heads=8)
    batch = addends.encode(model, tokenizer, SOURCES, TARGETS)
    parts = addends.decompose(model, batch, by=by, centering=centering)
    assert parts.vectors.shape[:2] == (7, len(parts.terms))
    assert parts.error() <= allowed(parts, longest_sum=4 * 512 if by == "token" else 0)


@BOTH
def test_states_are_the_models_own_hidden_states(model, batch, by):
    output = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        decoder_input_ids=batch.decoder_input_ids,
        output_hidden_states=True,
    )
    own = torch.stack(output.decoder_hidden_states)
    parts = addends.decompose(model, batch, by=by)
    gap = (parts.states - own).norm(dim=-1) / own.norm(dim=-1)
    assert gap[:, parts.mask].max() <= bound("float32", layers=2, longest_sum=128)


@BOTH
@CENTERINGS
def test_a_sentence_in_a_padded_batch_is_the_sentence_alone(model, tokenizer, batch, by, centering):
    together = addends.decompose(model, batch, by=by, centering=centering)
    for index, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        alone = addends.decompose(
            model, addends.encode(model, tokenizer, [source], [target]), by=by, centering=centering
        )
        real = alone.vectors.shape[3]
        assert together.mask[index].sum() == real
        gap = (together.vectors[:, :, index, :real] - alone.vectors[:, :, 0]).norm(dim=-1)
        assert (gap / alone.states[:, None, 0].norm(dim=-1)).max() < 1e-5


@BOTH
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attention_implementation_is_left_alone_and_does_not_matter(make_marian, tokenizer, by, implementation):
    model = make_marian()
    model.set_attn_implementation(implementation)
    batch = addends.encode(model, tokenizer, SOURCES, TARGETS)
    parts = addends.decompose(model, batch, by=by)
    assert parts.error() <= allowed(parts, longest_sum=128 if by == "token" else 0)
    assert model.config._attn_implementation == implementation
    assert model.model.decoder.config._attn_implementation == implementation


@pytest.mark.parametrize("activation", ["relu", "gelu", "swish", "tanh"])
@pytest.mark.parametrize("biases", [True, False])
def test_by_token_holds_for_any_activation_and_without_biases(make_marian, tokenizer, activation, biases):
    model = make_marian(dtype="float64", activation_function=activation)
    if not biases:
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name.endswith("bias"):
                    weight.zero_()
    parts = addends.decompose(model, addends.encode(model, tokenizer, SOURCES, TARGETS), by="token")
    assert parts.error() < 1e-12


@pytest.mark.parametrize("legacy", [False, True])
def test_by_token_equals_its_definition_written_out(make_marian, tokenizer, legacy):
    """The equations for one sentence, one head and one vector at a time, sharing no code with the library.

    With ``legacy`` they are what the released code computes: it differs in what it feeds the decoder.
    """
    model = make_marian(dtype="float64")
    batch = addends.encode(model, tokenizer, SOURCES[2:3], TARGETS[2:3], legacy=legacy)
    parts = addends.decompose(model, batch, by="token", centering="own")
    expected = naive_by_token(model, batch)
    torch.testing.assert_close(parts.vectors[:, :, 0], expected, rtol=1e-9, atol=1e-10)


def naive_by_token(model, batch):
    model.set_attn_implementation("eager")
    out = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        decoder_input_ids=batch.decoder_input_ids,
        output_hidden_states=True,
        output_attentions=True,
    )
    model.set_attn_implementation("sdpa")
    decoder = model.model.decoder
    source = out.encoder_last_hidden_state[0].detach()
    embedded = out.decoder_hidden_states[0][0].detach()
    length, dim = embedded.shape
    s, t, c = torch.zeros_like(embedded), embedded.clone(), torch.zeros_like(embedded)
    history = [torch.stack([s, t, c])]

    def attend(module, weights, read):
        heads, inner = module.num_heads, module.head_dim
        result = torch.zeros(length, dim, dtype=read.dtype)
        for head in range(heads):
            rows = slice(head * inner, (head + 1) * inner)
            value, output = module.v_proj.weight[rows].detach(), module.out_proj.weight[:, rows].detach()
            for i in range(length):
                for j in range(len(read)):
                    result[i] += weights[head, i, j] * (output @ (value @ read[j]))
        return result

    def constant(module):
        return (module.out_proj.weight @ module.v_proj.bias + module.out_proj.bias).detach()

    def normalise(norm, s, t, c):
        state = s + t + c
        scale = ((state - state.mean(-1, keepdim=True)) ** 2).mean(-1, keepdim=True).add(norm.eps).sqrt()
        g, b = norm.weight.detach(), norm.bias.detach()
        s, t, c = (g * (x - x.mean(-1, keepdim=True)) / scale for x in (s, t, c))
        return s, t, c + b

    for number, layer in enumerate(decoder.layers):
        own, cross = out.decoder_attentions[number][0].detach(), out.cross_attentions[number][0].detach()
        s, t, c = (x + attend(layer.self_attn, own, x) for x in (s, t, c))
        s, t, c = normalise(layer.self_attn_layer_norm, s, t, c + constant(layer.self_attn))
        s = s + attend(layer.encoder_attn, cross, source)
        s, t, c = normalise(layer.encoder_attn_layer_norm, s, t, c + constant(layer.encoder_attn))
        w1, b1 = layer.fc1.weight.detach(), layer.fc1.bias.detach()
        w2, b2 = layer.fc2.weight.detach(), layer.fc2.bias.detach()
        z = (s + t + c) @ w1.T + b1
        sigmoid = 1 / (1 + torch.exp(-z))
        slope = sigmoid + z * sigmoid * (1 - sigmoid)  # of swish, by hand
        intercept = z * sigmoid - slope * z
        s, t, new_c = ((x + (slope * (x @ w1.T)) @ w2.T) for x in (s, t, c))
        c = new_c + (slope * b1 + intercept) @ w2.T + b2
        s, t, c = normalise(layer.final_layer_norm, s, t, c)
        history.append(torch.stack([s, t, c]))
    return torch.stack(history)


def test_by_sublayer_equals_its_definition_on_one_layer(make_marian, tokenizer):
    """Terms of a one-layer model from the sublayers called by hand, in the published centring."""
    model = make_marian(layers=1, dtype="float64")
    batch = addends.encode(model, tokenizer, SOURCES[:1], TARGETS[:1])
    parts = addends.decompose(model, batch, by="sublayer")
    layer = model.model.decoder.layers[0]
    with torch.no_grad():
        i = parts.states[0]
        encoded = model.model.encoder(batch.input_ids, batch.attention_mask).last_hidden_state
        length = i.shape[1]
        causal = torch.full((1, 1, length, length), -torch.inf, dtype=i.dtype).triu(1)
        self_constant = layer.self_attn.out_proj(layer.self_attn.v_proj.bias)
        cross_constant = layer.encoder_attn.out_proj(layer.encoder_attn.v_proj.bias)
        t = layer.self_attn(i, attention_mask=causal)[0] - self_constant
        terms = {"I": i, "S": 0 * i, "T": t, "F": 0 * i, "C": 0 * i + self_constant}
        terms = published_norm(layer.self_attn_layer_norm, terms)
        terms["S"] = layer.encoder_attn(sum(terms.values()), key_value_states=encoded)[0] - cross_constant
        terms["C"] = terms["C"] + cross_constant
        terms = published_norm(layer.encoder_attn_layer_norm, terms)
        terms["F"] = layer.fc2(layer.activation_fn(layer.fc1(sum(terms.values())))) - layer.fc2.bias
        terms["C"] = terms["C"] + layer.fc2.bias
        terms = published_norm(layer.final_layer_norm, terms)
    expected = torch.stack([terms[name] for name in parts.terms])
    torch.testing.assert_close(parts.vectors[1], expected, rtol=1e-9, atol=1e-10)


def published_norm(norm, terms):
    state = sum(terms.values())
    mean, scale = state.mean(-1, keepdim=True), state.var(-1, correction=0, keepdim=True).add(norm.eps).sqrt()
    scaled = {name: norm.weight * x / scale for name, x in terms.items()}
    scaled["C"] = scaled["C"] - norm.weight * mean / scale + norm.bias
    return scaled


def test_layer_zero_is_all_input(model, batch):
    sublayer = addends.decompose(model, batch, by="sublayer")
    assert sublayer.terms == ("I", "S", "T", "F", "C")
    assert torch.equal(sublayer.vectors[0, 0], sublayer.states[0])
    assert sublayer.vectors[0, 1:].abs().max() == 0
    token = addends.decompose(model, batch, by="token")
    assert token.terms == ("S", "T", "C")
    assert torch.equal(token.vectors[0, 1], token.states[0])


def test_stream_gives_what_decompose_stacks(model, batch):
    parts = addends.decompose(model, batch, by="sublayer")
    terms, layers = stream(model, batch, by="sublayer")
    assert terms == parts.terms
    for number, (vectors, state) in enumerate(layers):
        assert torch.equal(vectors, parts.vectors[number])
        assert torch.equal(state, parts.states[number])


def test_error_sees_a_part_that_is_off(model, batch):
    parts = addends.decompose(model, batch)
    parts.vectors[1, 2, 0, 0] *= 1.01
    assert parts.error() > 1e-4


def test_a_batch_made_from_tensors_needs_no_tokenizer(model, batch):
    bare = addends.Batch(batch.input_ids, batch.attention_mask, batch.decoder_input_ids, batch.decoder_mask)
    assert torch.equal(addends.decompose(model, bare).vectors, addends.decompose(model, batch).vectors)
    assert addends.Batch(batch.input_ids, batch.attention_mask, batch.decoder_input_ids).mask.all()


@BOTH
def test_nothing_of_the_model_or_of_torch_is_changed(make_marian, tokenizer, by):
    model = make_marian()
    batch = addends.encode(model, tokenizer, SOURCES, TARGETS)
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    state, grad = torch.get_rng_state(), torch.is_grad_enabled()
    addends.decompose(model, batch, by=by)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled() == grad
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    assert hooks(model) == 0
    assert all(weight.grad is None for weight in model.parameters())


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@BOTH
def test_hooks_and_settings_go_even_when_an_error_passes_through(make_marian, tokenizer, by, monkeypatch):
    model = make_marian()
    batch = addends.encode(model, tokenizer, SOURCES, TARGETS)

    def breaks(*_):
        assert hooks(model) > 0
        raise KeyError("on the way")

    monkeypatch.setattr(model.model.decoder.layers[1].fc2, "forward", breaks)
    with pytest.raises(KeyError, match="on the way"):
        addends.decompose(model, batch, by=by)
    assert hooks(model) == 0
    assert model.config._attn_implementation == "sdpa"


# --- bad input ---


def test_training_mode_is_refused(make_marian, batch):
    with pytest.raises(ModelStateError, match=r"model\.eval\(\)"):
        addends.decompose(make_marian().train(), batch)


def test_nan_in_the_weights_names_the_first_parameter(make_marian, batch):
    model = make_marian()
    with torch.no_grad():
        model.model.decoder.layers[1].fc1.weight[0, 0] = math.nan
        model.model.decoder.layers[1].fc2.bias[0] = math.inf
    with pytest.raises(ModelStateError, match=r"decoder\.layers\.1\.fc1\.weight"):
        addends.decompose(model, batch)


def test_unsupported_architecture_lists_the_supported_and_how_to_add_a_row(batch):
    from transformers import ViTConfig, ViTModel

    model = ViTModel(ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)).eval()
    with pytest.raises(UnsupportedModelError, match=r"(?s)'vit'.*marian.*register\(Architecture"):
        addends.decompose(model, batch)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"by": "layer"}, r"by='layer'.*sublayer.*token"), ({"centering": "none"}, r"centering='none'.*constant.*own")],
)
def test_unknown_options_are_refused(model, batch, arguments, message):
    with pytest.raises(InputError, match=message):
        addends.decompose(model, batch, **arguments)


def test_a_batch_without_a_decoder_side_is_refused(model, batch):
    with pytest.raises(InputError, match="decoder_input_ids"):
        addends.decompose(model, addends.Batch(batch.input_ids, batch.attention_mask))


def test_a_batch_on_another_device_is_refused(model, batch):
    with pytest.raises(InputError, match=r"on meta.*on cpu"):
        addends.decompose(model, batch.to("meta"))


def test_all_errors_are_value_or_runtime_errors():
    assert issubclass(InputError, ValueError)
    assert issubclass(ModelStateError, RuntimeError)
    assert issubclass(UnsupportedModelError, AddendsError)

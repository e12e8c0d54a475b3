"""Every row of the table: the parts sum to transformers' own states, in any batch, by both methods."""

from __future__ import annotations

import copy
import re
from dataclasses import replace

import pytest
import torch
import transformers
from torch import nn
from torch.autograd import forward_ad
from torch.nn import functional
from torch.overrides import TorchFunctionMode

import addends
from addends.decomposition import (
    Architecture,
    Attention,
    FeedForward,
    Stack,
    architecture_of,
    cancellation,
    relative_gap,
)
from addends.decomposition.exactness import BOUNDS
from addends.errors import InputError, UnsupportedModelError
from tests.decomposition.small_models import ENCODERS, NAMES, PAIRS, alone, batch_for, make, transformers_states
from tests.rounding import allowed, bound

EVERY = pytest.mark.parametrize("name", NAMES)
BOTH = pytest.mark.parametrize("by", ["sublayer", "token"])
CENTERINGS = pytest.mark.parametrize("centering", ["own", "constant"])
SINGLE = [name for name in NAMES if name not in PAIRS]

# Nothing goes to their constant: no bias, by token no intercept of a curved activation (relu, or a gate).
WITHOUT_CONSTANT = [name for name in NAMES if name.partition(":")[0] in ("t5", "mt5", "umt5", "longt5")]
WITHOUT_CONSTANT += ["llama", "llama: grouped queries", "mistral", "ministral", "gemma"]


def has_gates(name):
    stack = architecture_of(make(name).config).stack
    return any(getattr(sublayer, "gate", None) for sublayer in stack.sublayers)


def test_every_row_of_the_table_is_tested():
    assert {name.partition(":")[0] for name in NAMES} == set(addends.architectures()["model_type"])


def test_every_configuration_that_changes_a_row_is_tested():
    table = addends.architectures().set_index("model_type")
    positions = ["roberta", "xlm-roberta", "camembert"]  # whose variant moves these only
    for family in table.index[table["depends_on_config"]].drop(positions):
        variants = [architecture_of(make(name).config) for name in NAMES if name.partition(":")[0] == family]
        assert len(set(variants)) == len(variants) == 2, family


def test_a_variant_sets_its_row_both_ways():
    """What is registered under another name may be the row of any configuration."""
    for name in NAMES:
        for other in NAMES:
            if name.partition(":")[0] == other.partition(":")[0]:
                config = make(other).config
                row, expected = architecture_of(make(name).config), architecture_of(config)
                assert (row.variant(row, config) if row.variant else row) == expected


@EVERY
@BOTH
@CENTERINGS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parts_sum_to_the_states(name, by, centering, dtype):
    model = make(name, dtype)
    for gate in ("frozen", "tangent") if by == "token" and has_gates(name) else ("frozen",):
        parts = addends.decompose(model, batch_for(model), by=by, centering=centering, gate=gate)
        most = BOUNDS[dtype] * cancellation(parts.vectors, parts.states).clamp(min=1)
        assert (relative_gap(parts.vectors, parts.states) <= most)[:, parts.mask].all()
        assert parts.error() <= allowed(parts, longest_sum=64 if by == "token" else 0)


@EVERY
@BOTH
def test_states_are_transformers_own_hidden_states(name, by):
    model = make(name)
    batch = batch_for(model)
    parts, own = addends.decompose(model, batch, by=by), transformers_states(model, batch)
    assert len(parts.states) == len(own) == 3
    for state, expected in zip(parts.states, own, strict=True):
        gap = (state - expected).norm(dim=-1) / expected.norm(dim=-1)
        assert gap[parts.mask].max() <= bound("float32", layers=2, longest_sum=64)


def test_an_opt_that_projects_its_last_state_is_decomposed_before_that():
    model = make("opt: post-norm", word_embed_proj_dim=16)
    batch = batch_for(model)
    parts, own = addends.decompose(model, batch), transformers_states(model, batch)
    assert parts.error() <= allowed(parts)
    torch.testing.assert_close(parts.states[:-1][:, parts.mask], torch.stack(own[:-1])[:, parts.mask])
    with torch.no_grad():
        projected = model.model.decoder.project_out(parts.states[-1])
    torch.testing.assert_close(projected[parts.mask], own[-1][parts.mask])


@EVERY
@BOTH
def test_a_sentence_in_a_padded_batch_is_the_sentence_alone(name, by):
    model = make(name)
    batch = batch_for(model)
    together = addends.decompose(model, batch, by=by)
    check_against_alone(model, batch, together, by)


@pytest.mark.parametrize("name", SINGLE)
@BOTH
def test_padding_on_the_left_changes_nothing_either(name, by):
    model = make(name)
    batch = batch_for(model, left=True)
    assert not batch.attention_mask[1, 0]
    check_against_alone(model, batch, addends.decompose(model, batch, by=by), by)


def check_against_alone(model, batch, together, by):
    for sentence in range(len(batch)):
        single = addends.decompose(model, alone(batch, sentence), by=by)
        gap = (together.vectors[:, :, sentence, batch.mask[sentence]] - single.vectors[:, :, 0]).norm(dim=-1)
        assert (gap / single.states[:, None, 0].norm(dim=-1)).max() < 1e-5


@EVERY
def test_terms_are_those_of_the_kind(name):
    model = make(name)
    kind = architecture_of(model.config).kind
    batch = batch_for(model)
    pair = name in PAIRS
    assert kind == ("encoder-decoder" if pair else "encoder" if name in ENCODERS else "decoder")
    assert "".join(addends.decompose(model, batch).terms) == ("ISTFC" if pair else "ITFC")
    expected = "STC" if pair else "TC"
    parts = addends.decompose(model, batch, by="token")
    assert "".join(parts.terms) == expected
    # Nothing is left to chance: every term has grown by the last layer.
    assert (parts.vectors[-1][..., batch.mask, :].norm(dim=-1) > 0).flatten(1).any(dim=1).tolist() == [
        term != "C" or name not in WITHOUT_CONSTANT for term in expected
    ]


@pytest.mark.parametrize("name", WITHOUT_CONSTANT)
def test_without_biases_the_constant_is_zero_and_its_cosine_missing(name):
    model = make(name)
    parts = addends.decompose(model, batch_for(model), by="sublayer")
    assert not parts.vectors[:, parts.terms.index("C")].any()
    frame = addends.indicators(parts).query("term == 'C'")
    assert frame["cosine"].isna().all()
    assert (frame[["importance", "norm_ratio"]] == 0).all(axis=None)


@pytest.mark.parametrize("name", ["bert", "bart"])
def test_the_bias_of_a_norm_in_front_of_the_layers_is_in_c(name):
    model = make(name)
    parts = addends.decompose(model, batch_for(model), by="token", centering="own")
    row = architecture_of(model.config)
    bias = model.base_model.get_submodule(row.stack.embedding_norm).bias.detach()
    constant = parts.vectors[0, parts.terms.index("C")]
    assert torch.equal(constant, bias.expand_as(constant))


@EVERY
def test_gates_are_frozen_unless_their_tangent_is_asked_for(name):
    model = make(name)
    batch = batch_for(model)
    frozen, tangent = (addends.decompose(model, batch, by="token", gate=gate) for gate in ("frozen", "tangent"))
    assert torch.equal(frozen.vectors, tangent.vectors) == (not has_gates(name))
    with pytest.raises(InputError, match=r"gate='open' is not one of \('frozen', 'tangent'\)"):
        addends.decompose(model, batch, by="token", gate="open")


def test_the_table_says_what_a_family_is():
    table = addends.architectures().set_index("model_type")
    assert table.loc["marian", ["kind", "norm", "terms"]].tolist() == ["encoder-decoder", "post", "ISTFC"]
    assert table.loc["bert", ["kind", "norm", "embedding_norm", "terms"]].tolist() == ["encoder", "post", True, "ITFC"]
    assert table.loc["gpt_neox", ["kind", "norm", "parallel"]].tolist() == ["decoder", "pre", True]
    gated = ["llama", "mistral", "ministral", "qwen2", "qwen3", "smollm3", "gemma", "helium", "seed_oss", "ernie4_5"]
    assert table.index[table["gated"]].tolist() == [*gated, "hunyuan_v1_dense", "stablelm"]  # T5's depends
    depends = ["t5", "mt5", "umt5", "longt5", "roberta", "xlm-roberta", "camembert", "electra", "bert-generation"]
    assert table.index[table["depends_on_config"]].tolist() == [*depends, "opt", "stablelm", "gpt_neox"]


def test_every_row_of_the_table_names_distinct_sublayers():
    for name in NAMES:
        row = architecture_of(make(name).config)
        assert row.terms[0] == "I"
        assert row.terms[-1] == "C"
        norms = {sublayer.norm for sublayer in row.stack.sublayers}
        assert len(norms) == len(row.stack.sublayers) or row.stack.parallel  # which may read one norm


# --- parity: derivatives of the model's own code ---
#
# A part is what a state owes to a term while attention weights, norms' scales and gates stay as they are. Forward-mode
# differentiation of the model itself says the same, and knows neither the row's maps, nor its norms' formulas.


def value(tensor):
    """The tensor without its derivative."""
    return forward_ad.unpack_dual(tensor).primal


class HeldFixed(TorchFunctionMode):
    """Attention weights and the scales of norms have values, and no derivatives."""

    def __torch_function__(self, function, _types, arguments=(), options=None):
        options = options or {}
        if function is functional.layer_norm:
            return self.layer_norm(*arguments, **options)
        if function is functional.softmax:
            options.pop("dtype", None)  # eager attention of some families goes through float32
        result = function(*arguments, **options)
        return value(result) if function in (functional.softmax, torch.rsqrt) else result

    @staticmethod
    def layer_norm(read, _shape, weight, bias, eps):
        scale = (value(read).var(dim=-1, correction=0, keepdim=True) + eps).rsqrt()
        return weight * (read - read.mean(dim=-1, keepdim=True)) * scale + (0 if bias is None else bias)


def derivatives(model, batch):
    """Of the model's own hidden states, along what hooks have put in: (layer, sentence, position, dim)."""
    model.set_attn_implementation("eager")  # whose operations have derivatives
    first = model.base_model.get_submodule(f"{architecture_of(model.config).stack.layers}.0")
    read = []  # LongT5 takes its first hidden state before a hook can have put something in
    handle = on_input(first, read.append)
    with forward_ad.dual_level(), HeldFixed():
        states = transformers_states(model, batch)
        states = [forward_ad.unpack_dual(state) for state in (*read, *states[1:])]
        handle.remove()
        return torch.stack([torch.zeros_like(x.primal) if x.tangent is None else x.tangent for x in states])


def on_input(module, change):
    """Give the states that a module reads to ``change``, and the module what comes back, unless that is None."""

    def hook(_module, inputs, keywords):
        changed = change(inputs[0] if inputs else keywords["hidden_states"])
        if changed is None:
            return None
        return ((changed, *inputs[1:]), keywords) if inputs else ((), {**keywords, "hidden_states": changed})

    return module.register_forward_pre_hook(hook, with_kwargs=True)


def itself(tensor):
    return forward_ad.make_dual(value(tensor), value(tensor).clone())


def follow_input(model):
    """The stack's input, in front of an embedding norm where there is one, is followed."""
    stack = architecture_of(model.config).stack
    return on_input(model.base_model.get_submodule(stack.embedding_norm or f"{stack.layers}.0"), itself)


def follow_source(model):
    def hook(_module, _inputs, output):
        output.last_hidden_state = itself(output.last_hidden_state)
        return output

    return model.get_encoder().register_forward_hook(hook)


def gate_activations(model):
    """The modules whose values multiply another map's; none where feed-forwards are plain."""
    gated = any(path.endswith(("gate_proj", "wi_0")) for path, _ in model.named_modules())
    return [m for path, m in model.named_modules() if gated and path.endswith((".act_fn", ".act"))]


def last_maps(model):
    """Of every sublayer, by layers: its term, and the module that writes."""
    stack = architecture_of(model.config).stack
    for layer in model.base_model.get_submodule(stack.layers):
        for place in stack.sublayers:
            yield place.term, layer.get_submodule(getattr(place, "output", None) or place.second)


def constants(model, batch):
    """What each sublayer writes though it reads nothing, in the order of `last_maps`."""
    blind, stack = copy.deepcopy(model), architecture_of(model.config).stack
    written = []
    for layer in blind.base_model.get_submodule(stack.layers):
        for place in stack.sublayers:
            nn.init.zeros_(layer.get_submodule(getattr(place, "value", None) or place.second).weight)
    for _, module in last_maps(blind):
        module.register_forward_hook(lambda _module, _inputs, output: written.append(output.flatten(0, -2)[0]))
    transformers_states(blind, batch)
    return written


def gap(parts, term, expected):
    """The largest ||part - expected||, relative to what is added, sum_k ||x_k||, over layers and real tokens."""
    difference = (parts.vectors[:, parts.terms.index(term)] - expected).norm(dim=-1)
    return float((difference / parts.vectors.norm(dim=-1).sum(dim=1))[:, parts.mask].max())


def room_for_rounding(model):
    """Products of up to 64 numbers, a dozen in a row; RMSNorms round to float32 in any model, each number twice."""
    rounded = any("RMSNorm" in type(m).__name__ or type(m).__name__.endswith("T5LayerNorm") for m in model.modules())
    return 64 * torch.finfo(torch.float32).eps if rounded else 12 * 64 * torch.finfo(torch.float64).eps


@EVERY
def test_the_rows_class_is_the_models_own(name):
    model = make(name)
    auto_class = getattr(transformers, architecture_of(model.config).auto_class)
    assert type(auto_class.from_config(model.config)) is type(model)


@EVERY
def test_by_token_parts_are_derivatives_of_the_models_own_code(name):
    batch = batch_for(make(name))
    for gate in ("tangent", "frozen"):
        model = make(name, torch.float64)
        parts = addends.decompose(model, batch, by="token", gate=gate)
        gates = gate_activations(model) if gate == "frozen" else []
        for module in gates:  # they have values, and no derivatives
            module.register_forward_hook(lambda _module, _inputs, output: value(output))
        for term, follow in {"S": follow_source, "T": follow_input}.items():
            if term in parts.terms:
                handle = follow(model)
                assert gap(parts, term, derivatives(model, batch)) < room_for_rounding(model), (gate, term)
                handle.remove()


@EVERY
def test_by_sublayer_parts_are_derivatives_of_the_models_own_code(name):
    model = make(name, torch.float64)
    batch = batch_for(model)
    parts = addends.decompose(model, batch, centering="own")
    fixed = constants(model, batch)
    for term in parts.terms[:-1]:
        twin = copy.deepcopy(model)
        for (wrote, module), constant in zip(last_maps(twin), fixed, strict=True):

            def hook(_module, _inputs, output, constant=constant, wanted=wrote == term):
                written = value(output)
                return forward_ad.make_dual(written, written - constant) if wanted else written

            module.register_forward_hook(hook)
        if term == "I":
            follow_input(twin)
        assert gap(parts, term, derivatives(twin, batch)) < room_for_rounding(model), term


# --- rows of one's own ---


@pytest.mark.parametrize("name", ["umt5", "umt5: plain"])
@pytest.mark.parametrize("gated", [True, False])
def test_a_row_under_another_name_keeps_its_variant(table, name, gated):
    del table["umt5"]
    config = make("t5: gated" if gated else "t5").config
    addends.register(replace(architecture_of(config), model_type="umt5"))
    model = make(name, torch.float64)
    assert addends.decompose(model, batch_for(model), by="token").error() < 1e-12


def test_a_refusal_says_how_to_try_a_row_and_that_works(table):
    model = make("llama: biases", torch.float64)
    model.config.model_type = "alike"
    with pytest.raises(UnsupportedModelError, match="No row for model type 'alike'") as refused:
        addends.decompose(model, batch_for(model))
    for name in table:
        assert repr(name) in str(refused.value)
    program = re.search(r"from dataclasses .*model_type='alike'\)\)", str(refused.value)).group()
    exec(program, {"addends": addends, "transformers": transformers})
    for by in ("sublayer", "token"):
        assert addends.decompose(model, batch_for(model), by=by).error() < 1e-12


def test_a_row_that_is_there_may_be_registered_again(table):
    before = dict(table)
    for row in before.values():
        addends.register(row)
    assert table == before


# --- bad input ---


def test_a_configuration_without_the_positions_that_its_row_names_is_refused(table):
    addends.register(replace(architecture_of(transformers.BartConfig()), model_type="led"))
    with pytest.raises(UnsupportedModelError, match=r"'led'.*'max_position_embeddings', which this one lacks.*=None"):
        architecture_of(transformers.LEDConfig())


def row_of(model_type, *sublayers, norm="pre"):
    return Architecture(model_type, "AutoModel", Stack("layers", sublayers, norm))


def test_a_row_that_says_too_little_is_refused():
    feed_forward = FeedForward("F", "fc1", "act", "fc2", "norm")
    for row in ("llama", row_of("mine")):
        with pytest.raises(InputError, match="at least one sublayer"):
            addends.register(row)
    with pytest.raises(InputError, match=r"norm='middle' is not one of \('pre', 'post'\)"):
        addends.register(row_of("mine", feed_forward, norm="middle"))
    assert "mine" not in addends.architectures()["model_type"].tolist()


def test_a_variant_that_does_not_know_the_configuration_is_refused_by_its_setting(table):
    row = replace(architecture_of(make("t5").config), model_type="bart")
    addends.register(row, replace_existing=True)
    with pytest.raises(UnsupportedModelError, match=r"'bart' depends on .* 'is_gated_act', which a BartConfig lacks"):
        architecture_of(make("bart").config)


def test_a_row_is_replaced_only_when_that_is_asked_for(table):
    attention = Attention("T", "own", "attn", "attn.value", "attn.output", "norm")
    with pytest.raises(InputError, match=r"'bert' has another row.*replace_existing=True"):
        addends.register(row_of("bert", attention))
    addends.register(row_of("bert", attention), replace_existing=True)
    with pytest.raises(UnsupportedModelError, match="names the module 'layers', which a BertModel"):
        addends.decompose(make("bert"), batch_for(make("bert")))

"""Each row says what its models compute: parts are derivatives of the model's own code, with what is held fixed fixed.

A part is what a state owes to a term while attention weights, norms' scales and gates stay as they are. Forward-mode
differentiation of the model itself says the same, and knows neither the row's maps, nor its norms' formulas.
"""

from __future__ import annotations

import copy

import pytest
import torch
import transformers
from torch import nn
from torch.autograd import forward_ad
from torch.nn import functional
from torch.overrides import TorchFunctionMode

import addends
from addends.decomposition.architectures import architecture_of
from tests.decomposition.small_models import NAMES, batch_for, make, transformers_states

EVERY = pytest.mark.parametrize("name", NAMES)


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


def bound(model):
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
                assert gap(parts, term, derivatives(model, batch)) < bound(model), (gate, term)
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
        assert gap(parts, term, derivatives(twin, batch)) < bound(model), term

"""A model whose sums do not check out is refused by layer and gap; one made up on the spot is supported by its row."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

import addends
from addends.decomposition import (
    Architecture,
    FeedForward,
    Stack,
    architecture_of,
    cancellation,
    measure_batch,
    relative_gap,
)
from addends.decomposition.exactness import BOUNDS, check_sum
from addends.decomposition.parts import stream
from addends.errors import InputError, UnsupportedModelError
from addends.runs.training import seeded
from tests.decomposition.small_models import batch_for, make
from tests.rounding import allowed

BOTH = pytest.mark.parametrize("by", ["sublayer", "token"])
HALVED = ("marian", "t5", "llama", "gpt2", "opt", "bert", "gpt_neox", "gemma", "qwen3", "helium", "stablelm", "phi")


def test_the_gap_is_relative_to_the_state_and_zero_where_nothing_is_wrong():
    state = torch.tensor([[[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]]])  # (sentence, position, dim)
    vectors = torch.stack([state, torch.zeros_like(state)])
    vectors[1, 0, 0, 0], vectors[1, 0, 2, 0] = 0.5, 1
    assert relative_gap(vectors, state).tolist() == [[pytest.approx(0.1), 0, torch.inf]]
    assert cancellation(vectors, state)[0, 0] == pytest.approx(1.1)


# --- models that compute what no row knows of ---


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_layer_that_adds_a_constant_is_refused(by, dtype):
    model = make("gpt2", dtype)
    extra = torch.linspace(0, 2, 32, dtype=dtype)  # not the same in every dimension: a norm would take that away
    model.transformer.h[1].register_forward_hook(lambda _module, _inputs, output: output + extra)
    advice = "undo the change" if dtype == torch.float64 else "dtype='float64'"
    with pytest.raises(UnsupportedModelError, match=rf"parts of layer 2 .* gpt2 .* gap reaches \d.*e[-+]\d.*{advice}"):
        addends.decompose(model, batch_for(model), by=by)


@BOTH
def test_a_subclass_that_scales_a_sublayer_is_refused(by):
    model = make("marian")

    class Louder(type(model.model.decoder.layers[0])):
        def forward(self, hidden_states, *arguments, **options):
            return super().forward(1.001 * hidden_states, *arguments, **options)

    model.model.decoder.layers[1].__class__ = Louder
    with pytest.raises(UnsupportedModelError, match="layer 2"):
        addends.decompose(model, batch_for(model), by=by)


@BOTH
def test_what_is_wrong_in_padding_alone_does_not_count(by):
    model = make("bert")
    batch = batch_for(model)
    padding = ~batch.mask[..., None]
    model.encoder.layer[1].register_forward_hook(lambda _module, _inputs, output: output + padding)
    parts = addends.decompose(model, batch, by=by)
    assert parts.error() <= allowed(parts, longest_sum=64 if by == "token" else 0)


def test_measuring_checks_its_first_batch_and_streaming_what_it_is_told_to():
    model = make("bert")
    model.encoder.layer[0].register_forward_hook(lambda _module, _inputs, output: output + 0.5)
    batch = batch_for(model)
    with pytest.raises(UnsupportedModelError, match="layer 1"):
        measure_batch(model, batch, "sublayer")
    assert len(measure_batch(model, batch, "sublayer", check=False)) == 3 * 3 * 4
    _, layers = stream(model, batch, "sublayer")
    next(layers)
    with pytest.raises(UnsupportedModelError, match="layer 1"):
        next(layers)
    _, layers = stream(model, batch, "sublayer", check=False)
    assert len(list(layers)) == 3


def test_a_type_without_a_bound_is_refused(monkeypatch):
    model = make("bert")
    monkeypatch.setattr(type(model), "dtype", torch.float8_e5m2)
    with pytest.raises(UnsupportedModelError, match=r"float8_e5m2 cannot be checked.*'float32'"):
        addends.decompose(model, batch_for(model))


@BOTH
def test_a_deep_model_stays_within_the_bounds(by):
    for dtype in BOUNDS:
        model = make("gpt2", dtype, n_layer=24, n_embd=64)
        parts = addends.decompose(model, batch_for(model), by=by)
        ratio = cancellation(parts.vectors, parts.states).clamp(min=1)
        assert (relative_gap(parts.vectors, parts.states) / ratio)[:, parts.mask].max() <= BOUNDS[dtype]


def test_a_batch_without_a_real_token_is_refused():
    model = make("gpt2")
    batch = batch_for(model)
    nothing = addends.Batch(batch.input_ids, batch.attention_mask, decoder_mask=torch.zeros_like(batch.mask))
    with pytest.raises(InputError, match="False everywhere"):
        addends.decompose(model, nothing)
    parts = addends.decompose(model, batch)
    parts.mask[:] = False
    with pytest.raises(InputError, match="False everywhere"):
        parts.error()


# --- half precision ---


@BOTH
@pytest.mark.parametrize("name", HALVED)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_parts_sum_to_the_states_but_for_the_models_rounding(name, dtype, by):
    model = make(name, dtype)
    parts = addends.decompose(model, batch_for(model), by=by)
    assert parts.vectors.dtype == parts.states.dtype == torch.float32
    assert torch.equal(parts.states, parts.states.to(dtype).float())  # the model's own: widened, not computed again
    ratio = cancellation(parts.vectors, parts.states).clamp(min=1)
    assert (relative_gap(parts.vectors, parts.states) / ratio)[:, parts.mask].max() <= BOUNDS[dtype]
    importance = addends.indicators(parts).groupby(["layer", "sentence", "position"])["importance"].sum()
    assert importance.to_numpy() == pytest.approx(1, abs=5 * BOUNDS[dtype])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_parts_in_half_precision_are_those_of_float32_but_for_rounding(dtype):
    model = make("marian", dtype)
    half, full = (addends.decompose(each, batch_for(model), by="token") for each in (model, make("marian")))
    gap = (half.vectors - full.vectors).norm(dim=-1) / full.states.norm(dim=-1)[:, None]
    assert gap.movedim(1, -1)[:, full.mask].max() < 20 * BOUNDS[dtype]


# --- a family made up on the spot ---


class MadeUpConfig(PretrainedConfig):
    model_type = "made_up"


class MadeUpLayer(nn.Module):
    """Pre-norm; two feed-forwards, the second of them gated."""

    def __init__(self, dim):
        super().__init__()
        self.norm_a, self.norm_b = nn.LayerNorm(dim), nn.RMSNorm(dim)
        self.up, self.act, self.down = nn.Linear(dim, 3 * dim), nn.SiLU(), nn.Linear(3 * dim, dim)
        self.gate, self.value, self.out = (nn.Linear(dim, dim) for _ in range(3))

    def forward(self, hidden_states):
        hidden_states = hidden_states + self.down(self.act(self.up(self.norm_a(hidden_states))))
        read = self.norm_b(hidden_states)
        return hidden_states + self.out(self.act(self.gate(read)) * self.value(read))


class MadeUpModel(PreTrainedModel):
    config_class = MadeUpConfig
    base_model_prefix = ""

    def __init__(self, config):
        super().__init__(config)
        self.embedding = nn.Embedding(40, 16)
        self.layers = nn.ModuleList(MadeUpLayer(16) for _ in range(3))
        self.post_init()

    def forward(self, input_ids, attention_mask):
        hidden_states = self.embedding(input_ids)
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        return BaseModelOutput(last_hidden_state=hidden_states)


FIRST = FeedForward("F", "up", "act", "down", "norm_a")
SECOND = FeedForward("F", "value", "act", "out", "norm_b", gate="gate")


def row(*sublayers, norm="pre"):
    return Architecture("made_up", "AutoModel", Stack("layers", sublayers, norm), positions=None, causal=False)


@pytest.fixture
def made_up(table):
    with seeded(0):
        model = MadeUpModel(MadeUpConfig()).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.normal_(0, 0.3)
    ids = torch.randint(0, 40, (2, 5), generator=torch.Generator().manual_seed(0))
    return model.double(), addends.Batch(ids, torch.ones_like(ids))


def test_a_family_of_ones_own_is_exact_with_the_right_row(made_up):
    model, batch = made_up
    with pytest.raises(UnsupportedModelError, match="No row for model type 'made_up'"):
        addends.decompose(model, batch)
    addends.register(row(FIRST, SECOND))
    assert "made_up" in addends.architectures()["model_type"].tolist()
    for by, terms in (("sublayer", "IFC"), ("token", "TC")):
        for gate in ("frozen", "tangent"):
            parts = addends.decompose(model, batch, by=by, gate=gate)
            assert "".join(parts.terms) == terms
            assert parts.error() <= 1e-12
            assert (parts.vectors[-1].norm(dim=-1) > 0).all()


@BOTH
@pytest.mark.parametrize("wrong", [row(FIRST), row(FIRST, SECOND, norm="post")], ids=["one is missing", "post-norm"])
def test_with_a_wrong_row_it_is_refused(made_up, by, wrong):
    model, batch = made_up
    addends.register(wrong)
    with pytest.raises(UnsupportedModelError, match=r"parts of layer 1 do not sum .* made_up model.*correct the row"):
        addends.decompose(model, batch, by=by)


def test_a_row_that_forgets_the_gate_is_refused_by_token(made_up):
    model, batch = made_up
    addends.register(row(FIRST, FeedForward("F", "value", "act", "out", "norm_b")))
    assert addends.decompose(model, batch, by="sublayer").error() <= 1e-12  # who wrote it does not depend on gates
    with pytest.raises(UnsupportedModelError, match="parts of layer 1"):
        addends.decompose(model, batch, by="token")


def test_a_row_that_names_no_module_or_one_that_is_not_called_is_refused_by_path(made_up):
    model, batch = made_up
    addends.register(row(FIRST, FeedForward("F", "walue", "act", "out", "norm_b", gate="gate")))
    with pytest.raises(UnsupportedModelError, match="names the module 'walue', which a MadeUpLayer"):
        addends.decompose(model, batch)
    model.layers[2].idle = nn.Linear(16, 16).double()
    for layer in model.layers:
        layer.idle = nn.Linear(16, 16).double()
    addends.register(row(FIRST, FeedForward("F", "idle", "act", "out", "norm_b")), replace_existing=True)
    with pytest.raises(UnsupportedModelError, match=r"names first='idle' of layer 0, which this model did not call"):
        addends.decompose(model.eval(), batch)


def test_a_float32_sum_a_little_worse_than_its_bound_is_warned_of_and_a_wrong_one_refused():
    model = make("bert")
    state = torch.randn(1, 3, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, 3, dtype=torch.bool)
    for gap, expected in ((1e-8, None), (1e-5, UserWarning), (1e-3, UnsupportedModelError)):
        vectors = torch.stack([0.5 * state, (0.5 + gap) * state])
        if expected is None:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                check_sum(vectors, state, mask, 4, model)
        elif expected is UserWarning:
            with pytest.warns(UserWarning, match=r"Layer 4.*dtype='float64'"):
                check_sum(vectors, state, mask, 4, model)
        else:
            with pytest.raises(UnsupportedModelError, match="layer 4"):
                check_sum(vectors, state, mask, 4, model)


@pytest.mark.parametrize("tokens", ["grouped", "each"])
@pytest.mark.parametrize("place", [0, 1])
def test_a_row_with_the_wrong_value_map_of_an_attention_is_refused_by_token(table, place, tokens):
    """Of self-attention and of cross-attention alike: what was written is no proof of how it came about."""
    model = make("marian", torch.float64)
    row = architecture_of(model.config)
    sublayers = list(row.stack.sublayers)
    wrong = sublayers[place].value.replace("v_proj", "k_proj")
    sublayers[place] = replace(sublayers[place], value=wrong)
    stack = replace(row.stack, sublayers=tuple(sublayers))
    addends.register(replace(row, stack=stack), replace_existing=True)
    with pytest.raises(UnsupportedModelError, match="layer 1"):
        addends.decompose(model, batch_for(model), by="token", tokens=tokens)

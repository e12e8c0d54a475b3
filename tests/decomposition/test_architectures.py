"""Every row of the table: the parts sum to transformers' own states, in any batch, by both methods."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import transformers as tr

import addends
from addends.decomposition import architectures
from addends.decomposition.architectures import Architecture, Attention, FeedForward, Stack, architecture_of
from addends.decomposition.exactness import BOUNDS, cancellation, relative_gap
from addends.errors import InputError, UnsupportedModelError
from tests.decomposition.small_models import NAMES, alone, batch_for, make, transformers_states

EVERY = pytest.mark.parametrize("name", NAMES)
BOTH = pytest.mark.parametrize("by", ["sublayer", "token"])
CENTERINGS = pytest.mark.parametrize("centering", ["own", "constant"])
SINGLE = [name for name in NAMES if name.partition(":")[0] in ("bert", "roberta", "distilbert", "gpt2", "opt")]
SINGLE += [name for name in NAMES if name.partition(":")[0] in ("llama", "gpt_neox")]

# By sublayer; what each family has.
TERMS = {"encoder-decoder": "ISTFC", "encoder": "ITFC", "decoder": "ITFC"}


def has_gates(name):
    stack = architecture_of(make(name).config).stack
    return any(getattr(sublayer, "gate", None) for sublayer in stack.sublayers)


def test_every_row_of_the_table_is_tested():
    assert {name.partition(":")[0] for name in NAMES} == set(addends.architectures()["model_type"])


def test_every_configuration_that_changes_a_row_is_tested():
    table = addends.architectures().set_index("model_type")
    rows = {name: architecture_of(make(name).config) for name in NAMES}
    for family in table.index[table["depends_on_config"]].drop("roberta"):  # its variant moves positions only
        variants = [row for name, row in rows.items() if name.partition(":")[0] == family]
        assert len({(row.stack.norm, row.stack.parallel, row.stack.sublayers) for row in variants}) == 2, family


@EVERY
@BOTH
@CENTERINGS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parts_sum_to_the_states(name, by, centering, dtype):
    model = make(name, dtype)
    for gate in ("frozen", "tangent") if by == "token" and has_gates(name) else ("frozen",):
        parts = addends.decompose(model, batch_for(model), by=by, centering=centering, gate=gate)
        bound = BOUNDS[dtype] * cancellation(parts.vectors, parts.states).clamp(min=1)
        assert (relative_gap(parts.vectors, parts.states) <= bound)[:, parts.mask].all()
        assert parts.error() <= (1e-12 if dtype == torch.float64 else 2e-6)


@EVERY
@BOTH
def test_states_are_transformers_own_hidden_states(name, by):
    model = make(name)
    batch = batch_for(model)
    parts, own = addends.decompose(model, batch, by=by), transformers_states(model, batch)
    assert len(parts.states) == len(own) == 3
    for state, expected in zip(parts.states, own, strict=True):
        gap = (state - expected).norm(dim=-1) / expected.norm(dim=-1)
        assert gap[parts.mask].max() < 2e-6


def test_an_opt_that_projects_its_last_state_is_decomposed_before_that():
    model = make("opt: post-norm", word_embed_proj_dim=16)
    batch = batch_for(model)
    parts, own = addends.decompose(model, batch), transformers_states(model, batch)
    assert parts.error() < 1e-6
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
    assert "".join(addends.decompose(model, batch).terms) == TERMS[kind]
    expected = "STC" if kind == "encoder-decoder" else "TC"
    parts = addends.decompose(model, batch, by="token")
    assert "".join(parts.terms) == expected
    # Nothing is left to chance: every term has grown by the last layer.
    assert (parts.vectors[-1][..., batch.mask, :].norm(dim=-1) > 0).flatten(1).any(dim=1).tolist() == [
        term != "C" or has_constant(name) for term in expected
    ]


def has_constant(name):
    """Whether anything goes to C by token: a bias, or the intercept of a curved activation (not of relu, or a gate)."""
    return name not in ("t5", "mt5", "t5: gated", "mt5: plain", "llama", "llama: grouped queries")


@pytest.mark.parametrize("name", ["t5", "t5: gated", "mt5", "mt5: plain", "llama", "llama: grouped queries"])
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
    assert table.loc["llama", "gated"]
    assert not table["gated"].drop("llama").any()  # T5's depends on the configuration
    assert table.index[table["depends_on_config"]].tolist() == ["t5", "mt5", "roberta", "opt", "gpt_neox"]


def test_every_row_of_the_table_names_distinct_sublayers():
    for row in architectures._TABLE.values():
        assert row.terms[0] == "I"
        assert row.terms[-1] == "C"
        assert len({sublayer.norm for sublayer in row.stack.sublayers}) == len(row.stack.sublayers)


@pytest.mark.parametrize("gated", [True, False])
def test_a_row_taken_over_for_another_family_keeps_what_depends_on_the_configuration(monkeypatch, gated):
    monkeypatch.setattr(architectures, "_TABLE", dict(architectures._TABLE))
    plain = tr.T5Config(feed_forward_proj="relu" if gated else "gated-gelu")  # the other kind than the model's
    addends.register(replace(architecture_of(plain), model_type="umt5"))
    options = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 40}
    options |= {"feed_forward_proj": "gated-gelu" if gated else "relu", "decoder_start_token_id": 0, "pad_token_id": 1}
    model = tr.UMT5ForConditionalGeneration(tr.UMT5Config(**options)).double().eval()
    for by in ("sublayer", "token"):
        assert addends.decompose(model, batch_for(model), by=by).error() <= 1e-12


@pytest.mark.parametrize("after", [True, False])
def test_a_variant_of_a_variant_is_the_variant(after):
    for model_type, name in (("opt", "do_layer_norm_before"), ("gpt_neox", "use_parallel_residual")):
        config = tr.AutoConfig.for_model(model_type, **{name: after})
        other = tr.AutoConfig.for_model(model_type, **{name: not after})
        row = architecture_of(other)
        assert row.variant(row, config) == architecture_of(config) != row


# --- bad input ---


def test_a_configuration_without_the_positions_that_its_row_names_is_refused(monkeypatch):
    monkeypatch.setattr(architectures, "_TABLE", dict(architectures._TABLE))
    addends.register(replace(architecture_of(tr.BartConfig()), model_type="led"))
    with pytest.raises(UnsupportedModelError, match=r"'led'.*'max_position_embeddings', which this one lacks.*=None"):
        architecture_of(tr.LEDConfig())


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


def test_a_row_is_replaced_only_when_that_is_asked_for(monkeypatch):
    monkeypatch.setattr(architectures, "_TABLE", dict(architectures._TABLE))
    attention = Attention("T", "own", "attn", "attn.value", "attn.output", "norm")
    with pytest.raises(InputError, match=r"'bert' has a row.*replace_existing=True"):
        addends.register(row_of("bert", attention))
    addends.register(row_of("bert", attention), replace_existing=True)
    with pytest.raises(UnsupportedModelError, match="names the module 'layers', which a BertModel"):
        addends.decompose(make("bert"), batch_for(make("bert")))

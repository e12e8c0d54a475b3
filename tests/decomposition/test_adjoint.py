"""Single tokens' shares by one walk backward: what carrying parts forward gives, what autograd gives, and the whole."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

import addends
from addends.decomposition import (
    architecture_of,
    backward,
    importance_by_input,
    logit_shares,
    token_importance,
    token_logit_shares,
)
from addends.decomposition.norms import Norm
from addends.decomposition.record import AttentionSublayer, FeedForwardSublayer
from addends.errors import InputError, UnsupportedModelError
from tests.decomposition import small_models
from tests.decomposition.small_models import alone, batch_for, make

NAMES = pytest.mark.parametrize("name", small_models.NAMES)
WITH_HEAD = [name for name in small_models.NAMES if name not in small_models.ENCODERS]
# Of the sizes that are added up: what two orders of summation may differ by.
BOUNDS = {torch.float64: 1e-11, torch.float32: 1e-5}


def through(model):
    """Whether the encoder can be gone through."""
    encoder = architecture_of(model.config).encoder
    return encoder is not None and len(encoder.sublayers) > 0


def longer(model, length=17):
    """Two sentences of 17 and 12 tokens: three positions make a chunk."""
    ids = torch.randint(3, small_models.VOCABULARY, (2, 2, length), generator=torch.Generator().manual_seed(3))
    mask = torch.arange(length) < torch.tensor([[length], [12]])
    ids = ids.masked_fill(~mask, small_models.PAD)
    if architecture_of(model.config).encoder is None:
        return addends.Batch(ids[0], mask.long())
    return addends.Batch(ids[0], mask.long(), ids[1], mask)


def importance_of(parts, layer=-1):
    """<x, e> / |e|^2 of carried parts, of shape (term, sentence, position)."""
    vectors, state = parts.vectors[layer], parts.states[layer]
    return (vectors * state).sum(dim=-1) / state.square().sum(dim=-1)


def gap(found, expected, mask):
    """The largest difference, relative to the sum of sizes over terms where that is more than 1."""
    size = expected.abs().sum(dim=0).clamp(min=1)
    return float(((found - expected).abs() / size)[:, mask].max())


# --- identities ---


@NAMES
def test_importances_sum_to_one_in_every_layer(name):
    model = make(name, torch.float64)
    batch = batch_for(model)
    for layer in range(3):
        whole = token_importance(model, batch, layer).sum(dim=0)[batch.mask]
        assert (whole - 1).abs().max() < 1e-11


@pytest.mark.parametrize("name", WITH_HEAD)
def test_shares_sum_to_the_models_own_logits(name):
    model = make(name)
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.normal_(generator=torch.Generator().manual_seed(1))
    batch = batch_for(model)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if batch.decoder_input_ids is not None:
        inputs["decoder_input_ids"] = batch.decoder_input_ids
    with torch.no_grad():
        logits = model(**inputs).logits
    ids = logits.topk(3).indices  # (sentence, position, choice)
    found = token_logit_shares(model, batch, ids).sum(dim=0)
    assert ((found - logits.gather(-1, ids)).abs() / logits.abs().amax())[batch.mask].max() < 1e-4


@NAMES
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_importance_is_that_of_the_parts_that_are_carried(name, dtype):
    model = make(name, dtype)
    batch = batch_for(model)
    for centering, gate in (("own", "frozen"), ("constant", "tangent")):
        for through_encoder in (False, True) if through(model) else (False,):
            options = {"centering": centering, "gate": gate, "through_encoder": through_encoder}
            parts = addends.decompose(model, batch, by="token", tokens="each", **options)
            for layer in range(3):
                expected = importance_of(parts, layer)
                found = token_importance(model, batch, layer, **options)
                assert found.shape == expected.shape
                assert found.dtype == dtype
                assert gap(found, expected, batch.mask) < BOUNDS[dtype]
                mean = token_importance(model, batch, layer, **options, mean=True)
                of_parts = expected.masked_fill(~batch.mask, torch.nan).nanmean(dim=-1)
                assert gap(mean, of_parts, slice(None)) < BOUNDS[dtype]


@pytest.mark.parametrize("name", WITH_HEAD)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_logit_shares_are_those_of_the_parts_that_are_carried(name, dtype):
    model = make(name, dtype)
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.normal_(generator=torch.Generator().manual_seed(1))
    batch = batch_for(model)
    ids = torch.randint(small_models.VOCABULARY, (*batch.mask.shape, 2), generator=torch.Generator().manual_seed(2))
    for gate, through_encoder in (("frozen", False), ("tangent", through(model))):
        options = {"gate": gate, "through_encoder": through_encoder}
        parts = addends.decompose(model, batch, by="token", tokens="each", **options)
        for chosen in (ids, ids[0, 0]):
            found, expected = token_logit_shares(model, batch, chosen, **options), logit_shares(parts, model, chosen)
            assert found.shape == expected.shape
            assert gap(found, expected, batch.mask) < BOUNDS[dtype]


@NAMES
def test_so_it_is_where_several_positions_are_walked_together(name, monkeypatch):
    model = make(name, torch.float64)
    batch = longer(model)
    parts = addends.decompose(model, batch, by="token", tokens="each", through_encoder=through(model))
    expected = importance_of(parts)
    for floats in (backward.CHUNK_FLOATS, 1):  # three positions at a time, and one
        monkeypatch.setattr(backward, "CHUNK_FLOATS", floats)
        found = token_importance(model, batch, through_encoder=through(model))
        assert gap(found, expected, batch.mask) < 1e-11


@pytest.mark.parametrize("name", ["marian", "t5: gated", "bert", "llama: grouped queries", "gpt_neox"])
def test_a_batch_is_its_sentences(name):
    model = make(name, torch.float64)
    batch = batch_for(model)
    together, means = token_importance(model, batch), token_importance(model, batch, mean=True)
    sources = 0 if batch.decoder_input_ids is None else batch.input_ids.shape[1]
    for sentence in range(len(batch)):
        single = alone(batch, sentence)
        found = token_importance(model, single)  # (term, 1, position)
        length, own = single.input_ids.shape[1], single.mask.shape[1]
        terms = [*range(length if sources else 0), *range(sources, sources + own), len(together) - 1]
        torch.testing.assert_close(together[terms, sentence, :own], found[:, 0], rtol=0, atol=1e-6)
        torch.testing.assert_close(means[terms, sentence], found[:, 0].mean(dim=-1), rtol=0, atol=1e-6)


# --- against autograd ---


class Rms(nn.Module):
    """RMSNorm in the model's own type; ``fixed`` holds its scale fixed."""

    def __init__(self, norm):
        super().__init__()
        self.weight, self.variance_epsilon, self.fixed = norm.weight, norm.variance_epsilon, False

    def forward(self, read):
        scale = (read.square().mean(dim=-1, keepdim=True) + self.variance_epsilon).rsqrt()
        return self.weight * read * (scale.detach() if self.fixed else scale)


def fixed_attention(module, query, key, value, attention_mask, scaling=None, **_others):
    """softmax(q k') v with the softmax held fixed."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    weights = (query @ key.transpose(2, 3) * scaling + attention_mask).softmax(dim=-1).detach()
    return (weights @ value).transpose(1, 2).contiguous(), weights


AttentionInterface.register("fixed_in_a_test", fixed_attention)
AttentionMaskInterface.register("fixed_in_a_test", eager_mask)


@pytest.mark.parametrize("name", ["llama", "llama: grouped queries", "qwen3", "mistral"])
def test_it_is_the_detached_jacobian_of_a_model_with_rmsnorm(name):
    """Golden (2025): with norm scales, attention weights and gates held fixed, the state is J x, exactly."""
    model = make(name, torch.float64, attention_bias=False)
    for path, module in list(model.named_modules()):
        if type(module).__name__.endswith("RMSNorm"):  # transformers' own go through float32
            parent, _, attribute = path.rpartition(".")
            setattr(model.get_submodule(parent), attribute, Rms(module).eval())
    batch = alone(batch_for(model), 0)
    found = token_importance(model, batch)[:, 0]  # (term, position)
    ids = torch.tensor([5, 7])
    shares = token_logit_shares(model, batch, ids)[:, 0]  # (term, position, choice)

    inputs = model.get_input_embeddings()(batch.input_ids).detach()
    for module in model.modules():
        if isinstance(module, Rms):
            module.fixed = True
        if hasattr(module, "act_fn"):
            module.act_fn.register_forward_hook(lambda _module, _inputs, gate: gate.detach())
    model.set_attn_implementation("fixed_in_a_test")

    def state(embeddings):
        return model.base_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state[0]

    end = state(inputs).detach()
    jacobian = torch.autograd.functional.jacobian(state, inputs)[:, :, 0]  # (position, dim, token, dim)
    parts = torch.einsum("pdje,je->jpd", jacobian, inputs[0])  # (token, position, dim)
    assert (parts.sum(dim=0) - end).norm() < 1e-10 * end.norm()
    expected = (parts * end).sum(dim=-1) / end.square().sum(dim=-1)
    assert (found[:-1] - expected).abs().max() < 1e-10
    assert not found[-1].any()  # no biases: no constant
    of_logits = parts @ model.lm_head.weight[ids].T.detach()
    assert (shares[:-1] - of_logits).abs().max() < 1e-10


# --- what is known to be zero ---


@pytest.mark.parametrize("name", ["marian", "gpt2", "mistral", "gpt_neox"])
def test_later_tokens_have_no_share_at_all(name):
    model = make(name)
    batch = longer(model)
    sources = 0 if batch.decoder_input_ids is None else batch.input_ids.shape[1]
    own = token_importance(model, batch)[sources:-1]  # (token, sentence, position)
    assert not own.permute(1, 2, 0).triu(1).any()  # (sentence, position, token)
    assert own.permute(1, 2, 0).diagonal(dim1=1, dim2=2)[batch.mask].all()
    if sources:
        found = token_importance(model, batch)[:sources]
        assert found[12:, 1].abs().sum() == 0  # padding that nobody reads
        assert token_importance(model, batch, layer=0)[:sources].abs().sum() == 0


# --- the picture ---


def of_decompose(model, batch, sentence, **options):
    """The same rows from all parts of all layers, by the places that they have in the padded batch."""
    parts = addends.decompose(model, batch, by="token", tokens="each", **options)
    frame = addends.indicators(parts).query(f"layer == layer.max() and sentence == {sentence}")
    side = parts.terms[0][0]
    places = [f"{side}{place}" for place, real in enumerate(batch.attention_mask[sentence]) if real]
    frame = frame[frame["term"].isin(places)].assign(source=lambda rows: rows["term"].map(places.index))
    frame["position"] = frame["position"].rank(method="dense").astype(int) - 1
    return frame.sort_values(["position", "source"], ignore_index=True)


@pytest.mark.parametrize(("name", "left"), [("marian", False), ("t5", False), ("bert", False), ("llama", True)])
def test_by_input_it_is_the_importance_of_the_parts_of_single_tokens(name, left):
    model = make(name)
    batch = batch_for(model, left)
    for sentence, through_encoder in ((0, False), (1, through(model))):
        found = importance_by_input(model, batch, sentence, through_encoder)
        expected = of_decompose(model, batch, sentence, through_encoder=through_encoder)
        assert list(found) == ["position", "source", "importance"]
        assert len(found) == batch.attention_mask[sentence].sum() * batch.mask[sentence].sum()
        for column in ("position", "source"):
            assert (found[column] == expected[column]).all()
        assert found["importance"].to_numpy() == pytest.approx(expected["importance"].to_numpy(), abs=1e-5)


@pytest.mark.parametrize("name", ["marian", "m2m_100", "roberta", "gpt2"])
def test_by_input_it_sums_to_the_grouped_term(name):
    model = make(name)
    batch = batch_for(model)
    parts = addends.decompose(model, batch, by="token")
    grouped = addends.indicators(parts).query(f"layer == layer.max() and sentence == 2 and term == '{parts.terms[0]}'")
    summed = importance_by_input(model, batch, 2).groupby("position")["importance"].sum()
    assert summed.to_numpy() == pytest.approx(grouped["importance"].to_numpy(), abs=1e-5)


def test_by_input_a_decoder_only_model_has_nothing_from_later_tokens():
    found = importance_by_input(make("gpt2"), batch_for(make("gpt2")), 0)
    later = found[found["source"] > found["position"]]
    assert len(later) == 21
    assert (later["importance"] == 0).all()


def test_a_sentence_or_an_encoder_that_is_not_there():
    model = make("bert")
    with pytest.raises(InputError, match="sentence=3: the batch has sentences 0 to 2"):
        importance_by_input(model, batch_for(model), 3)
    with pytest.raises(InputError, match="no encoder to go through"):
        importance_by_input(model, batch_for(model), 0, through_encoder=True)


# --- other types, other states ---


@pytest.mark.parametrize("name", ["marian", "t5: gated", "llama"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened(name, dtype):
    model = make(name, dtype)
    batch = batch_for(model)
    found = token_importance(model, batch)
    assert found.dtype == torch.float32
    expected = importance_of(addends.decompose(model, batch, by="token", tokens="each"))
    assert gap(found, expected, batch.mask) < 1e-5


def test_a_sentence_of_which_no_row_counts_has_no_mean():
    model = make("marian")
    batch = batch_for(model)
    mask = batch.decoder_mask.clone()
    mask[1] = False
    found = token_importance(model, dataclasses.replace(batch, decoder_mask=mask), mean=True)
    assert found[:, 1].isnan().all()
    kept = token_importance(model, batch, mean=True)
    torch.testing.assert_close(found[:, [0, 2]], kept[:, [0, 2]])


# --- what the sum refuses ---


def _scaled(cls, name, field):
    """What changes one field of what a method returns by 1 %."""
    method = getattr(cls, name)

    def changed(*args, **options):
        found = method(*args, **options)
        value = getattr(found, field)
        return found._replace(**{field: None if value is None else value * 1.01})

    return cls, name, changed


@pytest.mark.parametrize(
    "fault",
    [
        _scaled(FeedForwardSublayer, "tangent", "slope"),
        _scaled(FeedForwardSublayer, "tangent", "constant"),
        _scaled(Norm, "scaled", "gain"),
        _scaled(Norm, "scaled", "added"),
        (AttentionSublayer, "constant", property(lambda _self: None)),
        (backward, "of_values", lambda *args, of=backward.of_values: 1.01 * of(*args)),
    ],
    ids=["slope", "intercept", "gain", "bias", "attention's bias", "attention"],
)
@pytest.mark.parametrize("mean", [False, True])
def test_shares_that_do_not_sum_to_the_whole_are_refused(fault, mean, monkeypatch):
    model = make("marian")
    batch = batch_for(model)
    token_importance(model, batch, mean=mean)
    monkeypatch.setattr(*fault)
    with pytest.raises(UnsupportedModelError, match=r"do not sum to the whole: they are off by .*by='token'"):
        token_importance(model, batch, mean=mean)
    with pytest.raises(UnsupportedModelError, match="do not sum to the whole"):
        token_logit_shares(model, batch, torch.tensor([5]))


def test_a_span_that_leaves_out_what_was_read_is_refused(monkeypatch):
    model = make("marian")
    monkeypatch.setattr(backward, "reach", lambda weights: torch.eye(weights.shape[-1], dtype=torch.bool))
    with pytest.raises(UnsupportedModelError, match="do not sum to the whole"):
        token_importance(model, batch_for(model))


def test_logits_that_the_model_bends_are_refused():
    model = make("llama")
    model.lm_head.register_forward_hook(lambda _module, _inputs, output: 0.1 * torch.tanh(output / 0.1))
    with pytest.raises(UnsupportedModelError, match="do not sum to the logits"):
        token_logit_shares(model, batch_for(model), torch.arange(3))


# --- bad input ---


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("marian", {"layer": 3}, r"layer=3: the model has layers 0 .* to 2"),
        ("marian", {"layer": -1}, "layer=-1"),
        ("marian", {"centering": "none"}, r"centering='none'.*own"),
        ("llama", {"gate": "open"}, r"gate='open'.*frozen"),
        ("gpt2", {"through_encoder": True}, "a gpt2 has no encoder"),
    ],
)
def test_options_that_do_not_fit(name, options, message):
    model = make(name)
    with pytest.raises(InputError, match=message):
        token_importance(model, batch_for(model), **options)


def test_a_mask_without_a_token_a_head_that_is_not_there_and_an_encoder_of_its_own():
    model = make("marian")
    batch = batch_for(model)
    nothing = dataclasses.replace(batch, decoder_mask=torch.zeros_like(batch.decoder_mask))
    with pytest.raises(InputError, match="no token is real"):
        token_importance(model, nothing, mean=True)
    for ids in (torch.zeros(2, 3, dtype=torch.long), torch.tensor([small_models.VOCABULARY]), torch.tensor([-1])):
        with pytest.raises(InputError, match="token_ids"):
            token_logit_shares(model, batch, ids)
    bert = make("bert")
    with pytest.raises(UnsupportedModelError, match="no output head"):
        token_logit_shares(bert, batch_for(bert), torch.arange(2))
    longt5 = make("longt5")
    with pytest.raises(UnsupportedModelError, match="attends by code of its own"):
        token_importance(longt5, batch_for(longt5), through_encoder=True)

"""One part a token: they sum to the groups, and each holds what its own token brought and nothing else."""

from __future__ import annotations

import pytest
import torch

import addends
from addends.errors import InputError, UnsupportedModelError
from tests.decomposition import small_models
from tests.rounding import allowed

CENTERINGS = pytest.mark.parametrize("centering", ["own", "constant"])


def grouped(parts, names):
    """Parts of single tokens added up by their first letter, of shape (layer, name, sentence, position, dim)."""
    index = {name: [k for k, term in enumerate(parts.terms) if term[0] == name] for name in names}
    return torch.stack([parts.vectors[:, index[name]].sum(dim=1) for name in names], dim=1)


def at_real_tokens(vectors, mask):
    """(layer, term, sentence, position, dim) -> (layer, term, token, dim)."""
    return vectors[:, :, mask]


@pytest.mark.parametrize("name", small_models.NAMES)
@CENTERINGS
def test_single_tokens_sum_to_the_groups(name, centering):
    model = small_models.make(name)
    batch = small_models.batch_for(model)
    groups = addends.decompose(model, batch, by="token", centering=centering)
    each = addends.decompose(model, batch, by="token", centering=centering, tokens="each")
    lengths = [batch.input_ids.shape[1]]
    if batch.decoder_input_ids is not None:
        lengths.append(batch.decoder_input_ids.shape[1])
    assert len(each.terms) == sum(lengths) + 1
    gap = at_real_tokens(grouped(each, groups.terms) - groups.vectors, groups.mask).norm(dim=-1)
    relative = (gap / at_real_tokens(groups.states[:, None], groups.mask).norm(dim=-1)).max()
    assert relative <= allowed(each, longest_sum=64)


@pytest.mark.parametrize("name", [name for name in small_models.PAIRS if not name.startswith("longt5")])
@pytest.mark.parametrize("tokens", ["grouped", "each"])
def test_through_the_encoder_is_exact_and_its_biases_go_to_the_constant(name, tokens):
    model = small_models.make(name, torch.float64)
    batch = small_models.batch_for(model)
    options = {"by": "token", "tokens": tokens}
    atoms = addends.decompose(model, batch, **options)
    through = addends.decompose(model, batch, through_encoder=True, **options)
    assert through.error() < 1e-12
    own = [k for k, term in enumerate(atoms.terms) if term[0] == "T"]
    difference = at_real_tokens(through.vectors - atoms.vectors, atoms.mask)
    assert difference[:, own].abs().max() < 1e-9  # the target's side does not know the difference
    has_biases = not name.startswith(("t5", "mt5", "umt5"))
    assert (difference[-1, -1].norm() > 0.1) == has_biases


def test_a_source_token_that_nobody_reads_has_no_part():
    model = small_models.make("marian", torch.float64)
    batch = small_models.batch_for(model)
    parts = addends.decompose(model, batch, by="token", tokens="each")
    places = batch.attention_mask.bool()
    for sentence in range(len(batch)):
        padding = [f"S{place}" for place in range(places.shape[1]) if not places[sentence, place]]
        index = [parts.terms.index(term) for term in padding]
        assert parts.vectors[:, index, sentence].abs().sum() == 0


def test_a_target_token_speaks_only_from_its_own_position_on():
    model = small_models.make("gpt2", torch.float64)
    parts = addends.decompose(model, small_models.batch_for(model), by="token", tokens="each", centering="own")
    for place in range(parts.mask.shape[1]):
        before = parts.vectors[:, parts.terms.index(f"T{place}"), :, :place]
        assert before.abs().sum() == 0


def test_one_source_tokens_part_is_what_leaving_out_the_others_leaves():
    """With everything held fixed the parts are linear in the encoder's states: scaling one state scales its part."""
    from addends.decomposition import linearised
    from addends.decomposition.capture import capture
    from addends.decomposition.tokens import split_by_token

    model = small_models.make("marian", torch.float64)
    record = capture(model, small_models.batch_for(model), attention_weights=True)
    cross = record.main.layers[0][1]
    read = torch.zeros(1, *record.main.states[0].shape, dtype=torch.float64)
    to = torch.zeros(1, dtype=torch.long)
    states = record.encoder_states
    parts = split_by_token(states, "each")

    def added(sublayer, read, source):
        vectors, spans = torch.zeros_like(read), [(0, read.shape[2])]
        linearised.add_written(vectors, spans, sublayer, read, "frozen", source=source)
        return vectors

    bias = added(cross, read, source=(torch.zeros_like(states[None]), to))
    alone = added(cross, read, source=(parts[2:3], to)) - bias
    tripled = added(cross, read, source=(3 * parts[2:3], to)) - bias
    torch.testing.assert_close(tripled, 3 * alone)


@pytest.mark.parametrize("name", ["marian", "llama: grouped queries", "t5: gated"])
def test_chunks_change_nothing(name):
    model = small_models.make(name, torch.float64)
    batch = small_models.batch_for(model)
    whole = addends.decompose(model, batch, by="token", tokens="each", gate="tangent")
    for chunk in (1, 4, 1000):
        parts = addends.decompose(model, batch, by="token", tokens="each", gate="tangent", chunk=chunk)
        torch.testing.assert_close(parts.vectors, whole.vectors)


# --- per head ---


@pytest.mark.parametrize("name", small_models.NAMES)
@CENTERINGS
def test_heads_sum_to_their_attention(name, centering):
    model = small_models.make(name)
    batch = small_models.batch_for(model)
    whole = addends.decompose(model, batch, centering=centering)
    heads = addends.decompose(model, batch, centering=centering, heads=True)
    attentions = [term for term in whole.terms if term in "ST"]
    layers = len(whole.states) - 1
    assert len(heads.terms) == len(whole.terms) - len(attentions) + 4 * layers * len(attentions)
    gap = at_real_tokens(grouped(heads, whole.terms) - whole.vectors, whole.mask).norm(dim=-1)
    relative = (gap / at_real_tokens(whole.states[:, None], whole.mask).norm(dim=-1)).max()
    assert relative <= allowed(heads, longest_sum=64)


def test_a_head_is_zero_until_its_layer():
    parts = addends.decompose(model := small_models.make("bert"), small_models.batch_for(model), heads=True)
    second = [k for k, term in enumerate(parts.terms) if term.startswith("T2.")]
    assert parts.vectors[1, second].abs().sum() == 0
    assert parts.vectors[2, second].abs().sum() > 0


def test_silencing_a_head_silences_its_part():
    model = small_models.make("marian", torch.float64)
    with torch.no_grad():
        model.model.decoder.layers[0].encoder_attn.out_proj.weight[:, 8:16] = 0  # of four heads of 8, the second
    parts = addends.decompose(model, small_models.batch_for(model), heads=True)
    assert parts.vectors[:, parts.terms.index("S1.1")].abs().sum() == 0
    assert parts.vectors[1, parts.terms.index("S1.0")].abs().sum() > 0


# --- bad input ---


@pytest.mark.parametrize("name", ["longt5", "longt5: gated, global"])
def test_an_encoder_that_attends_in_its_own_way_is_not_gone_through(name):
    model = small_models.make(name)
    with pytest.raises(UnsupportedModelError, match=r"encoder of a longt5 attends by code of its own.*Leave through_e"):
        addends.decompose(model, small_models.batch_for(model), by="token", through_encoder=True)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("marian", {"tokens": "each"}, "need by='token'"),
        ("marian", {"through_encoder": True}, "need by='token'"),
        ("marian", {"by": "token", "heads": True}, "needs by='sublayer'"),
        ("marian", {"by": "token", "tokens": "all"}, r"tokens='all'.*each"),
        ("marian", {"by": "token", "chunk": 0}, "chunk=0"),
        ("llama", {"by": "token", "gate": "open"}, r"gate='open'.*frozen"),
        ("gpt2", {"by": "token", "through_encoder": True}, "a gpt2 has no encoder"),
    ],
)
def test_options_that_do_not_fit(name, options, message):
    model = small_models.make(name)
    with pytest.raises(InputError, match=message):
        addends.decompose(model, small_models.batch_for(model), **options)

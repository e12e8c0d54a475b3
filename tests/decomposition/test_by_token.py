"""One part a token: they sum to the groups, and each holds what its own token brought and nothing else."""

from __future__ import annotations

import pytest
import torch

import addends
from addends.decomposition import architecture_of, by_token
from addends.decomposition.by_token import EMPTY, SourceParts, Span, chunks_of, reach, reached, split_by_token
from addends.decomposition.capture import capture
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
    model = small_models.make("marian", torch.float64)
    record = capture(model, small_models.batch_for(model), attention_weights=True)
    cross = record.main.layers[0][1]
    read = torch.zeros(1, *record.main.states[0].shape, dtype=torch.float64)
    to = torch.zeros(1, dtype=torch.long)
    states = record.encoder_states
    parts, _ = split_by_token(states, "each")

    def added(part):
        vectors, spans = torch.zeros_like(read), [Span(0, read.shape[2])]
        by_token.add_written(vectors, spans, cross, read, "frozen", source=SourceParts(part, to))
        return vectors

    bias = added(torch.zeros_like(states[None]))
    alone = added(parts[2:3]) - bias
    tripled = added(3 * parts[2:3]) - bias
    torch.testing.assert_close(tripled, 3 * alone)


@pytest.mark.parametrize("name", ["marian", "llama: grouped queries", "t5: gated"])
def test_chunks_change_nothing(name):
    model = small_models.make(name, torch.float64)
    batch = small_models.batch_for(model)
    whole = addends.decompose(model, batch, by="token", tokens="each", gate="tangent")
    for chunk in (1, 4, 1000):
        parts = addends.decompose(model, batch, by="token", tokens="each", gate="tangent", chunk=chunk)
        torch.testing.assert_close(parts.vectors, whole.vectors)


# --- what is known to be zero ---


@pytest.mark.parametrize("name", small_models.NAMES)
def test_leaving_out_zeros_changes_nothing(name, monkeypatch):
    model = small_models.make(name, torch.float64)
    batch = small_models.batch_for(model)
    # Encoder-decoders by way of the encoder too: its spans start at single positions.
    options = {"by": "token", "tokens": "each", "gate": "tangent"}
    encoder = architecture_of(model.config).encoder
    options["through_encoder"] = encoder is not None and len(encoder.sublayers) > 0
    narrow = addends.decompose(model, batch, **options)
    seen = []

    def everywhere(spans, floats, chunk):
        seen.append(1)
        widest = max(spans)[1]
        yield from chunks_of([Span(0, widest)] * len(spans), floats, chunk)

    # Spans that are everything: a decomposition that knows of no zero.
    monkeypatch.setattr(by_token, "chunks_of", everywhere)
    monkeypatch.setattr(by_token, "reached", lambda reads, span: Span(0, len(reads)))
    wide = addends.decompose(model, batch, **options)
    assert seen
    torch.testing.assert_close(narrow.vectors, wide.vectors, rtol=1e-12, atol=1e-12)


def test_a_decoders_target_token_leaves_nothing_before_itself():
    model = small_models.make("marian")
    parts = addends.decompose(model, small_models.batch_for(model), by="token", tokens="each")
    for number, term in enumerate(parts.terms):
        if term[0] == "T":
            place = int(term[1:])
            assert not parts.vectors[:, number, :, :place].any()
            assert parts.vectors[-1, number, :, place:].any()
    source = [number for number, term in enumerate(parts.terms) if term[0] == "S"]
    assert not parts.vectors[0, source].any()
    assert parts.vectors[1, source].any()


def test_chunks_take_neighbours_of_one_span_up_to_a_chunk_and_no_empty_ones():
    spans = [EMPTY, *[Span(0, 4)] * 3, Span(2, 4), EMPTY, Span(2, 4)]
    assert list(chunks_of(spans, floats=8, chunk=None)) == [
        (slice(1, 3), (0, 4)),
        (slice(3, 4), (0, 4)),
        (slice(4, 5), (2, 4)),
        (slice(6, 7), (2, 4)),
    ]
    assert [chosen for chosen, _ in chunks_of(spans, floats=1, chunk=3)] == [
        slice(1, 4),
        slice(4, 5),
        slice(6, 7),
    ]


def test_spans_join_and_follow_who_reads_whom():
    assert Span(1, 2).joined(Span(4, 6)) == (1, 6)
    assert EMPTY.joined(Span(4, 6)) == Span(4, 6).joined(EMPTY) == (4, 6)
    weights = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5]])[None, None]  # (sentence, head, position, read)
    assert reached(reach(weights), Span(0, 1)) == (0, 2)
    assert reached(reach(weights), Span(1, 2)) == (1, 3)
    assert reached(reach(weights), Span(2, 3)) == (2, 3)
    assert reached(reach(weights[..., :2, :]), Span(2, 3)) == EMPTY


def test_a_source_token_that_is_an_atom_is_one_product_less():
    """The two ways through a cross-attention: by position, and as parts that could overlap."""
    model = small_models.make("marian", torch.float64)
    batch = small_models.batch_for(model)
    each = addends.decompose(model, batch, by="token", tokens="each")
    grouped = addends.decompose(model, batch, by="token")
    source = [number for number, term in enumerate(each.terms) if term[0] == "S"]
    torch.testing.assert_close(each.vectors[:, source].sum(dim=1), grouped.vectors[:, 0], rtol=1e-10, atol=1e-10)


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

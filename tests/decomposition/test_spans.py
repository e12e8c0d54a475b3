"""What is known to be zero is zero, and leaving it out changes nothing."""

from __future__ import annotations

import pytest
import torch

import addends
from addends.decomposition import linearised
from addends.decomposition.architectures import architecture_of
from addends.decomposition.spans import EMPTY, reach, reached, runs, union
from tests.decomposition import small_models


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
        yield from runs([(0, widest)] * len(spans), floats, chunk)

    # Spans that are everything: a decomposition that knows of no zero.
    monkeypatch.setattr(linearised, "runs", everywhere)
    monkeypatch.setattr(linearised, "reached", lambda reads, span: (0, len(reads)))
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


def test_runs_take_neighbours_of_one_span_up_to_a_chunk_and_no_empty_ones():
    spans = [EMPTY, (0, 4), (0, 4), (0, 4), (2, 4), EMPTY, (2, 4)]
    assert list(runs(spans, floats=8, chunk=None)) == [
        (slice(1, 3), (0, 4)),
        (slice(3, 4), (0, 4)),
        (slice(4, 5), (2, 4)),
        (slice(6, 7), (2, 4)),
    ]
    assert [chosen for chosen, _ in runs(spans, floats=1, chunk=3)] == [
        slice(1, 4),
        slice(4, 5),
        slice(6, 7),
    ]


def test_spans_join_and_follow_who_reads_whom():
    assert union((1, 2), (4, 6)) == (1, 6)
    assert union(EMPTY, (4, 6)) == union((4, 6), EMPTY) == (4, 6)
    weights = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5]])[None, None]  # (sentence, head, position, read)
    assert reached(reach(weights), (0, 1)) == (0, 2)
    assert reached(reach(weights), (1, 2)) == (1, 3)
    assert reached(reach(weights), (2, 3)) == (2, 3)
    assert reached(reach(weights[..., :2, :]), (2, 3)) == EMPTY


def test_a_source_token_that_is_an_atom_is_one_product_less():
    """The two ways through a cross-attention: by position, and as parts that could overlap."""
    model = small_models.make("marian", torch.float64)
    batch = small_models.batch_for(model)
    each = addends.decompose(model, batch, by="token", tokens="each")
    grouped = addends.decompose(model, batch, by="token")
    source = [number for number, term in enumerate(each.terms) if term[0] == "S"]
    torch.testing.assert_close(each.vectors[:, source].sum(dim=1), grouped.vectors[:, 0], rtol=1e-10, atol=1e-10)

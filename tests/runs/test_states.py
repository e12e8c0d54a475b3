"""Vectors in rows: the same sentences and tokens in every run, and sums that are the states."""

import numpy as np
import pytest

import addends
from addends.errors import InputError
from addends.runs.states import state_vectors
from tests.conftest import SOURCES, TARGETS


def rows_of(model, tokenizer, **arguments):
    return state_vectors(model, tokenizer, SOURCES, TARGETS, progress=False, **arguments)


@pytest.mark.parametrize("by", ["sublayer", "token"])
def test_tokens_are_those_of_decompose_sentence_by_sentence(make_marian, tokenizer, by):
    model = make_marian()
    found = rows_of(model, tokenizer, by=by, rows="token", batch_size=3)
    row = 0
    for index, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        batch = addends.encode(model, tokenizer, [source], [target])
        parts = addends.decompose(model, batch, by=by)
        length = batch.mask.sum().item()
        here = slice(row, row + length)
        np.testing.assert_allclose(found.vectors[:, :, here], parts.vectors[:, :, 0].numpy(), atol=1e-5)
        state = found.vectors[:, :, here].sum(axis=1)  # (layer, row, dim)
        np.testing.assert_allclose(state, parts.states[:, 0].numpy(), atol=1e-4)
        assert found.labels[here].tolist() == batch.labels[0].tolist()
        assert found.sentences[here].tolist() == [index] * length
        assert found.positions[here].tolist() == list(range(length))
        row += length
    assert found.vectors.shape[2] == row
    assert found.terms == parts.terms


def test_sentences_are_means_over_their_tokens(make_marian, tokenizer):
    model = make_marian()
    tokens, means = (rows_of(model, tokenizer, rows=rows) for rows in ("token", "sentence"))
    for index in range(len(SOURCES)):
        expected = tokens.vectors[:, :, tokens.sentences == index].mean(axis=2)
        np.testing.assert_allclose(means.vectors[:, :, index], expected, atol=1e-5)
    assert means.sentences.tolist() == list(range(len(SOURCES)))
    assert means.vectors.dtype == np.float32


def test_rows_agree_between_runs_and_batches(make_marian, tokenizer):
    one, two = (rows_of(make_marian(seed=seed), tokenizer, rows="token", batch_size=seed + 1) for seed in (0, 1))
    for name in ("sentences", "positions", "labels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert one.vectors.shape == two.vectors.shape
    again = rows_of(make_marian(seed=0), tokenizer, rows="token", batch_size=4)
    np.testing.assert_allclose(again.vectors, one.vectors, atol=1e-5)


def test_a_run_is_nearer_to_its_neighbour_than_to_another_run(make_marian, tokenizer):
    import torch

    from addends.statistics.spaces import similarities

    models = {seed: make_marian(seed=seed) for seed in (0, 1)}
    spaces = {f"run {seed}": rows_of(model, tokenizer, rows="token") for seed, model in models.items()}
    with torch.no_grad():
        for weight in models[0].parameters():
            weight.mul_(1.001)
    near = rows_of(models[0], tokenizer, rows="token")
    vectors = {run: found.vectors for run, found in spaces.items()}
    found = similarities(vectors, near.terms, {"run 0": near.vectors}, near.sentences, shuffles=2)
    state = found[(found["term"] == "state") & (found["layer"] == 2)].set_index("comparison")
    assert state.loc["neighbour", "cka"] > state.loc["runs", "cka"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": "head"}, "by='head' is not one of"),
        ({"rows": "word"}, r"rows='word' is not one of \('sentence', 'token'\)"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"targets": None}, "targets are needed"),
        ({"targets": TARGETS[:2]}, "2"),
        ({"sources": [*SOURCES[:3], " "]}, "3"),
    ],
)
def test_bad_input(make_marian, tokenizer, arguments, message):
    given = {"sources": SOURCES, "targets": TARGETS, "progress": False} | arguments
    with pytest.raises(InputError, match=message):
        state_vectors(make_marian(), tokenizer, **given)

"""Vectors in rows, and divergences: identities, the rows of a batch, a plain computation, bad input."""

import numpy as np
import pytest
import torch

import addends
from addends.errors import InputError
from addends.interventions import STATE, divergences, token_vectors
from tests.conftest import SOURCES, TARGETS


@pytest.fixture(scope="module")
def model(make_marian):
    return make_marian(seed=1, dtype="float64")


@pytest.fixture(scope="module")
def found(model, tokenizer):
    return token_vectors(model, tokenizer, SOURCES, TARGETS, progress=False)


def test_the_parts_of_each_method_sum_to_the_state(found):
    state = found.vectors[:, found.names.index((STATE, STATE))]
    for by in ("sublayer", "token"):
        places = [place for place, (method, _) in enumerate(found.names) if method == by]
        np.testing.assert_allclose(found.vectors[:, places].sum(axis=1), state, atol=1e-5)
    assert found.names[:5] == tuple(("sublayer", term) for term in "ISTFC")


def test_rows_are_the_real_tokens_sentence_by_sentence(found, model, tokenizer):
    batch = addends.encode(model, tokenizer, SOURCES, TARGETS)
    np.testing.assert_array_equal(found.labels, batch.labels[batch.mask].numpy())
    np.testing.assert_array_equal(found.sentences, batch.mask.nonzero()[:, 0].numpy())
    parts = addends.decompose(model, batch, by="token")
    place = found.names.index(("token", "S"))
    expected = parts.vectors[:, parts.terms.index("S")][:, batch.mask]  # (layer, row, dim)
    np.testing.assert_allclose(found.vectors[:, place], expected.numpy(), rtol=1e-5, atol=1e-5)


def test_batches_change_nothing(found, model, tokenizer):
    one = token_vectors(model, tokenizer, SOURCES, TARGETS, batch_size=1, progress=False)
    np.testing.assert_array_equal(one.labels, found.labels)
    np.testing.assert_allclose(one.vectors, found.vectors, atol=1e-6)


def test_a_model_does_not_diverge_from_itself(model, tokenizer):
    frame = divergences({"a": model, "b": model}, tokenizer, SOURCES, TARGETS)
    assert frame["kl"].abs().max() == 0
    assert frame["sentence"].tolist() == [0, 1, 2, 3]


def test_divergences_are_those_of_torchs_distributions(model, make_marian, tokenizer):
    models = {"x": model, "y": make_marian(seed=2, dtype="float64"), "a": make_marian(seed=3, dtype="float64")}
    frame = divergences(models, tokenizer, SOURCES, TARGETS, batch_size=2)
    assert frame[["a", "b"]].drop_duplicates().to_numpy().tolist() == [["x", "y"], ["x", "a"], ["y", "a"]]
    batch = addends.encode(model, tokenizer, SOURCES[2:3], TARGETS[2:3])
    logits = {}
    for name, each in models.items():
        with torch.no_grad():
            logits[name] = each(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                decoder_input_ids=batch.decoder_input_ids,
            ).logits
    p, q = (torch.distributions.Categorical(logits=logits[name]) for name in ("x", "a"))
    expected = (torch.distributions.kl_divergence(p, q) + torch.distributions.kl_divergence(q, p)).mean() / 2
    row = frame[(frame["a"] == "x") & (frame["b"] == "a") & (frame["sentence"] == 2)]
    assert row["kl"].item() == pytest.approx(float(expected), rel=1e-9)
    assert row["tokens"].item() == int(batch.mask.sum())


@pytest.mark.parametrize(
    ("sources", "targets", "words"),
    [
        (SOURCES, TARGETS[:3], "4.*3"),
        (SOURCES[:3], TARGETS, "3.*4"),
        ([], [], "sources"),
        ("abc", "abc", "sources"),  # not three sentences of one letter
        (SOURCES, [*TARGETS[:2], "", TARGETS[3]], r"targets\[2\] is ''"),  # counted in the whole list, not in a batch
    ],
)
def test_sentences_that_cannot_be_read_are_refused_before_anything_is_encoded(
    sources, targets, words, model, tokenizer, monkeypatch
):
    for module in ("vectors", "divergence"):
        monkeypatch.setattr(f"addends.interventions.{module}.encode", None)
    with pytest.raises(InputError, match=words):
        token_vectors(model, tokenizer, sources, targets, batch_size=1)
    with pytest.raises(InputError, match=words):
        divergences({"a": model, "b": model}, tokenizer, sources, targets, batch_size=1)


def test_one_method_may_be_named_by_itself(found, model, tokenizer):
    one = token_vectors(model, tokenizer, SOURCES, TARGETS, by="token", progress=False)
    assert one.names == (("token", "S"), ("token", "T"), ("token", "C"), (STATE, STATE))
    np.testing.assert_allclose(one.vectors, found.vectors[:, -4:], atol=1e-6)


def test_bad_input(model, make_marian, tokenizer):
    for by in ((), ("token", "token")):
        with pytest.raises(InputError, match="each once, are wanted"):
            token_vectors(model, tokenizer, SOURCES, TARGETS, by=by)
    with pytest.raises(InputError, match="by='words' is not one of"):
        token_vectors(model, tokenizer, SOURCES, TARGETS, by="words", progress=False)
    for batch_size in (0, True):
        with pytest.raises(InputError, match=f"batch_size={batch_size}"):
            token_vectors(model, tokenizer, SOURCES, TARGETS, batch_size=batch_size)
        with pytest.raises(InputError, match=f"batch_size={batch_size}"):
            divergences({"a": model, "b": model}, tokenizer, SOURCES, TARGETS, batch_size=batch_size)
    with pytest.raises(InputError, match="two models or more"):
        divergences({"a": model}, tokenizer, SOURCES, TARGETS)
    other = make_marian(seed=1, vocab_size=len(tokenizer) + 3)
    with pytest.raises(InputError, match=r"'a' predicts .* 'b' predicts .* different vocabularies"):
        divergences({"a": model, "b": other}, tokenizer, SOURCES, TARGETS)

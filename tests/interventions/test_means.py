"""Means: those of the corpus however it is batched, kept with their hash, and of one model alone."""

from __future__ import annotations

import dataclasses
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

import addends
from addends.decomposition.capture import capture
from addends.errors import DataError, InputError
from addends.interventions import Means, batches_of, take_means, weights_sha256
from tests.conftest import SOURCES, TARGETS
from tests.interventions.labelled import batch_for, make, moved_right


@pytest.fixture(scope="module")
def model():
    return make("marian", torch.float64)


@pytest.fixture(scope="module")
def means(model):
    return take_means(model, [batch_for(model)], positions=3)


def expected(vectors, mask, place, positions):
    """By place, beyond, and of all: of vectors (sentence, position, dim), with loops."""
    rows = [vectors[mask & (place == each)] for each in range(positions)]
    rows += [vectors[mask & (place >= positions)], vectors[mask]]
    return torch.stack([row.mean(dim=0) if len(row) else vectors[mask].mean(dim=0) for row in rows])


def test_means_are_those_of_parts_and_of_what_sublayers_wrote(model, means):
    batch = batch_for(model)
    place = torch.arange(batch.mask.shape[1]).expand_as(batch.mask)
    assert (means.sentences, means.tokens, means.positions) == (3, 12, 3)
    for by, sublayers in (("sublayer", "each"), ("token", "grouped")):
        parts = addends.decompose(model, batch, by=by, sublayers=sublayers)
        for k, term in enumerate(parts.terms):
            wanted = expected(parts.vectors[-1, k], batch.mask, place, 3)
            torch.testing.assert_close(means.values[f"{by} {term}"], wanted)
    for number, layer in enumerate(capture(model, batch).main.layers, start=1):
        for sublayer in layer:
            wanted = expected(sublayer.written, batch.mask, place, 3)
            torch.testing.assert_close(means.values[f"output {sublayer.place.term}{number}"], wanted)
    assert len(means.values) == 8 + 3 + 6


def test_a_place_that_no_token_stands_in_has_the_mean_of_all(model):
    means = take_means(model, [batch_for(model)], positions=20)
    for value in means.values.values():
        assert value.shape == (22, 32)
        torch.testing.assert_close(value[6:21], value[-1:].expand(15, -1))
        assert not torch.equal(value[5], value[-1])


def test_how_the_corpus_is_batched_does_not_matter(model, means):
    batch = batch_for(model)
    apart = take_means(model, (batch.sentence(index, padded=False) for index in (2, 0, 1)), positions=3)
    assert (apart.sentences, apart.tokens) == (3, 12)
    for name, value in means.values.items():
        torch.testing.assert_close(apart.values[name], value, rtol=1e-9, atol=1e-12)


def test_places_count_from_the_first_token_where_padding_stands_in_front():
    model = make("gpt2", torch.float64)
    right = batch_for(model)
    one, other = (take_means(model, [each], positions=3) for each in (right, moved_right(model, right)))
    for name, value in one.values.items():
        torch.testing.assert_close(other.values[name], value, rtol=1e-5, atol=1e-6)


def test_what_stands_at_a_place(means):
    value = means.values["token S"]
    places = torch.tensor([[0, 2, 3], [9, 1, 0]])
    torch.testing.assert_close(means.at("token S", places), value[torch.tensor([[0, 2, 3], [3, 1, 0]])])
    whole = means.values["sublayer S1"] + means.values["sublayer S2"]
    torch.testing.assert_close(means.at("sublayer S", places)[0], whole[[0, 2, 3]])
    pooled = means.pooled()
    torch.testing.assert_close(pooled.at("token S", places), value[-1].expand(2, 3, -1))
    assert pooled.digest != means.digest
    with pytest.raises(InputError, match="no 'token X'"):
        means.at("token X", places)


def test_sentences_without_a_token_that_counts_are_passed_by(model, means):
    batch = batch_for(model)
    silent = dataclasses.replace(batch, decoder_mask=torch.zeros_like(batch.decoder_mask))
    again = take_means(model, [silent, batch], positions=3)
    assert again.digest == means.digest


# --- the file ---


def test_means_come_back_as_they_were(means, tmp_path):
    path = means.save(tmp_path / "new" / "means.safetensors")
    back = Means.load(path)
    assert back.digest == means.digest
    assert (back.model, back.positions, back.sentences, back.tokens) == (means.model, 3, 3, 12)
    assert all(torch.equal(back.values[name], value) for name, value in means.values.items())
    assert [file.name for file in path.parent.iterdir()] == ["means.safetensors"]


def test_the_digest_depends_on_each_number(means):
    changes = [{"model": "0" * 64}, {"positions": 2}, {"sentences": 4}, {"tokens": 13}]
    values = dict(means.values)
    values["token S"] = values["token S"].clone()
    values["token S"][1, 5] += 1e-9
    found = {dataclasses.replace(means, **change).digest for change in [*changes, {"values": values}]}
    assert len(found | {means.digest}) == 6


def test_a_write_that_fails_leaves_the_old_file(means, tmp_path, monkeypatch):
    path = means.save(tmp_path / "means.safetensors")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        means.pooled().save(path)
    assert Means.load(path).digest == means.digest
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_is_no_means_is_refused(means, tmp_path):
    path = means.save(tmp_path / "means.safetensors")
    with pytest.raises(DataError, match="cannot be read as means"):
        Means.load(tmp_path / "missing.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    with pytest.raises(DataError, match="cannot be read as means"):
        Means.load(path)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match="its digest is another"):
        Means.load(path)
    save_file(load_file(means.save(path)), path)  # the same values, and nothing said about them
    with pytest.raises(DataError, match="cannot be read as means"):
        Means.load(path)


# --- the weights ---


def test_the_digest_of_weights_is_of_their_values_names_and_types(model):
    digest = weights_sha256(model)
    assert weights_sha256(make("marian", torch.float64)) == digest
    other = make("marian", torch.float64)
    assert weights_sha256(other.float()) != digest
    other = make("marian", torch.float64)
    weights_sha256(other)
    with torch.no_grad():
        other.final_logits_bias[0, 3] += 1e-12
    assert weights_sha256(other) != digest
    assert weights_sha256(make("marian", torch.bfloat16)) != weights_sha256(make("marian", torch.float16))


# --- a corpus ---


def test_a_corpus_is_encoded_by_length(make_marian, tokenizer):
    model = make_marian()
    batches = list(batches_of(model, tokenizer, SOURCES, TARGETS, batch_size=3, progress=False))
    assert [len(batch) for batch in batches] == [3, 1]
    order = sorted(range(4), key=lambda index: len(SOURCES[index]))
    assert [text for batch in batches for text in batch.texts] == [TARGETS[index] for index in order]
    with pytest.raises(InputError, match="1 sources and 2 targets"):
        list(batches_of(model, tokenizer, SOURCES[:1], TARGETS[:2], progress=False))


def test_nothing_to_take_means_over(model):
    with pytest.raises(InputError, match="No batch has a token that counts"):
        take_means(model, [])
    for positions in (-1, 2.5, True):
        with pytest.raises(InputError, match="positions"):
            take_means(model, [batch_for(model)], positions=positions)

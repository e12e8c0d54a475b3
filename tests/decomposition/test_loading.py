"""A saved folder comes back as it was; what cannot be decomposed is refused with a way out."""

from __future__ import annotations

import json
import math

import pytest
import torch

import addends
from addends.errors import InputError, ModelStateError, UnsupportedModelError
from tests.conftest import SOURCES, TARGETS


@pytest.fixture
def folder(tmp_path, make_marian, tokenizer):
    make_marian().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_saved_model_comes_back_in_the_type_asked_for(folder, make_marian, tokenizer, dtype):
    model, own = addends.load(folder, dtype=dtype)
    assert model.dtype == getattr(torch, dtype)
    assert not model.training
    before = make_marian(dtype=dtype)
    first = addends.decompose(model, addends.encode(model, own, SOURCES, TARGETS))
    second = addends.decompose(before, addends.encode(before, tokenizer, SOURCES, TARGETS))
    assert all(torch.equal(weight, before.state_dict()[name]) for name, weight in model.state_dict().items())
    torch.testing.assert_close(first.vectors, second.vectors)


def test_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(InputError, match=r"holds no model: config\.json is missing"):
        addends.load(tmp_path)


def test_a_name_that_is_neither_folder_nor_on_the_hub(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="no-such-folder/at-all"):
        addends.load("no-such-folder/at-all")


def test_unknown_type(folder):
    with pytest.raises(InputError, match=r"dtype='float8'.*float32"):
        addends.load(folder, dtype="float8")


def test_nan_in_the_weights_names_the_parameter(folder, make_marian):
    model = make_marian()
    with torch.no_grad():
        model.model.encoder.layers[0].fc2.bias[3] = math.nan
    model.save_pretrained(folder)
    with pytest.raises(ModelStateError, match=r"encoder\.layers\.0\.fc2\.bias' holds 1 value"):
        addends.load(folder)


def test_a_family_without_a_row(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "vit"}))
    with pytest.raises(UnsupportedModelError, match=r"'vit'.*'marian'"):
        addends.load(folder)


def test_a_tokenizer_too_large_for_its_model(folder):
    vocabulary = json.loads((folder / "vocab.json").read_text())
    vocabulary["extra"] = len(vocabulary)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    with pytest.raises(InputError, match="do not belong"):
        addends.load(folder)

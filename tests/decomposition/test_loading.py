"""A saved folder comes back as it was; what cannot be decomposed is refused with a way out."""

from __future__ import annotations

import json
import math

import huggingface_hub
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import addends
from addends.errors import InputError, ModelStateError, UnsupportedModelError
from tests.conftest import SOURCES, TARGETS
from tests.decomposition.small_models import make


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


def test_a_device_that_is_not_there_is_refused(folder):
    with pytest.raises(InputError, match=r"cannot be put on device='cuda:99'.*such as 'cpu'"):
        addends.load(folder, device="cuda:99")


def test_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(InputError, match=r"holds no model: config\.json is missing"):
        addends.load(tmp_path)


@pytest.fixture
def offline(monkeypatch):
    """As if HF_HUB_OFFLINE had been set before anything was imported."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("offline")
def test_a_name_that_may_not_be_looked_up(tmp_path):
    with pytest.raises(InputError, match=r"no-such-folder/at-all.*HF_HUB_OFFLINE forbids looking the name up"):
        addends.load("no-such-folder/at-all")


def test_a_name_that_is_neither_folder_nor_on_the_hub(monkeypatch):
    def unknown(*_, **__):
        raise OSError("no-such/model is not a valid model identifier\nand more")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", unknown)
    with pytest.raises(InputError, match=r"'no-such/model'.*\(no-such/model is not a valid model identifier\)"):
        addends.load("no-such/model")


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_missing_weights_are_refused_by_name(folder):
    def drop(weights):
        for name in [name for name in weights if "decoder.layers.1.fc2" in name]:
            del weights[name]

    change_weights(folder, drop)
    with pytest.raises(
        InputError, match=r"lacks 2 weight\(s\) of a MarianMTModel: .*decoder\.layers\.1\.fc2\.bias.*random"
    ):
        addends.load(folder)


def test_weights_of_another_shape_are_refused_by_name(folder):
    change_weights(folder, lambda weights: weights.update({"model.encoder.layers.0.fc1.bias": torch.zeros(3)}))
    with pytest.raises(
        InputError, match=r"1 weight\(s\) of another shape.*layers\.0\.fc1\.bias.*\(3,\) where \(128,\)"
    ):
        addends.load(folder)


def test_what_is_tied_computed_or_never_run_may_be_missing(tmp_path, tokenizer):
    for name in ("marian", "t5", "gpt2"):  # tied embeddings and heads, tables of positions
        make(name, vocab_size=64).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        loaded, _ = load_without_tokenizer_of(name, tmp_path / name)
        assert loaded.dtype == torch.float32
    encoder = make("bert", vocab_size=64)
    transformers.BertModel(encoder.config, add_pooling_layer=False).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    assert load_without_tokenizer_of("bert", tmp_path / "bert")[0].pooler is not None


def load_without_tokenizer_of(name, folder):
    """Marian's tokenizer stands in for the family's own."""
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "tokenizer_class": "MarianTokenizer"}))
    return addends.load(folder)


@pytest.mark.parametrize("kept", [0.5, 0.0001])
def test_truncated_weights_are_refused_by_folder(folder, kept):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    with pytest.raises(InputError, match=rf"weights in '{folder}' cannot be read .*truncated or damaged"):
        addends.load(folder)


def test_a_folder_without_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=rf"'{folder}'.*no file named model\.safetensors"):
        addends.load(folder)


def test_a_folder_without_a_tokenizer(folder):
    for file in folder.iterdir():
        if file.name not in ("config.json", "generation_config.json", "model.safetensors"):
            file.unlink()
    with pytest.raises(InputError, match=rf"'{folder}' holds a model but no complete tokenizer.*save_pretrained"):
        addends.load(folder)


def test_a_tokenizer_that_would_be_made_empty(tmp_path):
    make("bert").save_pretrained(tmp_path)
    with pytest.raises(
        InputError, match=r"no complete tokenizer: none of \['tokenizer\.json', 'vocab\.txt'\] is there"
    ):
        addends.load(tmp_path)


@pytest.mark.parametrize("model_type", ["no_such_family", None])
def test_a_configuration_of_no_known_family(folder, model_type):
    config = json.loads((folder / "config.json").read_text())
    config.pop("model_type")
    (folder / "config.json").write_text(
        json.dumps(config if model_type is None else {**config, "model_type": model_type})
    )
    with pytest.raises(UnsupportedModelError, match=r"(?s)config\.json of .*'bart'.*'t5'.*addends\.register"):
        addends.load(folder)


def test_a_configuration_that_is_no_json(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="not a valid JSON file"):
        addends.load(folder)


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


def test_a_target_vocabulary_too_large_for_the_decoder(tokenizer):
    options = {"share_encoder_decoder_embeddings": False, "tie_word_embeddings": False}
    model = make("marian", vocab_size=len(tokenizer), decoder_vocab_size=len(tokenizer) - 5, **options)
    with pytest.raises(
        InputError, match=rf"knows {len(tokenizer)} tokens for targets, its model embeds {len(tokenizer) - 5}"
    ):
        addends.encode(model, tokenizer, SOURCES, TARGETS)

"""A multilingual model reads and writes the languages that it is told, and no other."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import M2M100Tokenizer, MBartTokenizer

import addends
from addends.decomposition.encoding import encode_or_translate
from addends.decomposition.languages import set_languages
from addends.errors import InputError
from tests.conftest import SOURCES, TARGETS
from tests.decomposition.small_models import make


@pytest.fixture(scope="module")
def m2m(tmp_path_factory, tokenizer):
    """M2M100's tokenizer with the pieces of eight sentences; its class adds a token for each of a hundred languages."""
    folder = tmp_path_factory.mktemp("m2m")
    tokenizer.save_pretrained(folder)
    pieces = [
        piece for piece in json.loads((folder / "vocab.json").read_text()) if piece not in ("</s>", "<unk>", "<pad>")
    ]
    ids = {piece: number for number, piece in enumerate(("<s>", "<pad>", "</s>", "<unk>", *pieces))}
    (folder / "m2m.json").write_text(json.dumps(ids))
    return M2M100Tokenizer(str(folder / "m2m.json"), str(folder / "source.spm"))


@pytest.fixture
def mbart():
    return MBartTokenizer()


def test_both_sides_get_their_languages_token(m2m, mbart):
    options = set_languages(m2m, "fr", "de")
    french, german = (m2m.convert_tokens_to_ids(token) for token in ("__fr__", "__de__"))
    assert options == {"forced_bos_token_id": german}
    assert m2m(SOURCES[0])["input_ids"][0] == french
    assert m2m(text_target=TARGETS[0])["input_ids"][0] == german
    options = set_languages(mbart, "fr_XX", "en_XX")
    french, english = (mbart.convert_tokens_to_ids(token) for token in ("fr_XX", "en_XX"))
    assert french != english
    assert options == {"forced_bos_token_id": english}
    assert mbart(SOURCES[0])["input_ids"][-1] == french
    assert mbart(text_target=TARGETS[0])["input_ids"][-1] == english


def test_a_translation_begins_with_the_language_asked_for(m2m):
    model = make("m2m_100", vocab_size=200, max_position_embeddings=60)
    for language in ("de", "en"):
        options = set_languages(m2m, "fr", language)
        batch = encode_or_translate(model, m2m, SOURCES, max_new_tokens=5, **options)
        assert (batch.labels[:, 0] == m2m.convert_tokens_to_ids(f"__{language}__")).all()
        assert addends.decompose(model, batch, by="token").error() < 1e-6
    given = encode_or_translate(model, m2m, SOURCES, TARGETS, **options)
    assert torch.equal(given.labels[:, 0], batch.labels[:, 0])


def test_none_leaves_everything_as_it_is(m2m, tokenizer):
    before = m2m.src_lang, m2m.tgt_lang
    assert set_languages(m2m) == {}
    assert set_languages(tokenizer) == {}
    assert (m2m.src_lang, m2m.tgt_lang) == before


@pytest.mark.parametrize("language", ["fr_FR", "french", "<s>", "zz"])
def test_a_language_that_the_tokenizer_lacks(m2m, language):
    before = m2m.src_lang, m2m.tgt_lang
    with pytest.raises(InputError, match=rf"tgt_lang='{language}' is no language of this M2M100Tokenizer. Nearest: "):
        set_languages(m2m, "de", language)
    assert (m2m.src_lang, m2m.tgt_lang) == before  # neither side, when one is wrong


def test_the_nearest_spelling_is_named(mbart):
    with pytest.raises(InputError, match="'fr_XX'"):
        set_languages(mbart, "fr", "en_XX")


def test_a_tokenizer_without_languages(tokenizer):
    with pytest.raises(InputError, match=r"src_lang='fr': a MarianTokenizer has no languages.*\(None\)"):
        set_languages(tokenizer, "fr")

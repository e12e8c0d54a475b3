"""The vocabulary: one set of ids, however they are asked for, and a folder that is whole or not there."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer, MarianTokenizer

from addends.errors import InputError
from addends.runs import vocabulary
from tests.conftest import MADE_UP

TEXT = [*MADE_UP, *[f"{first} {second}" for first in MADE_UP for second in MADE_UP]]
PIECES = 300
ODD = [
    "la maison est grande",
    "木が水に浮く",  # characters never seen
    "ÆØÅ 😀 zzz",
    "  leading,  double and trailing  ",
    "tab\tand\nline",
    "e\u0301te\u0301 ﬁn Ｆｕｌｌ",  # normalised by SentencePiece
    "a\u2028b\u200bc",
    "</s> la <unk> maison <pad>",
    ">>eng<< la maison",
    ">> la maison",
    "▁la <0xE4>",
    "1 < 2 > 0",
]


def names_in(folder: Path) -> list[str]:
    """What is in a folder, but for the empty files that stand for claims."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".claim")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabulary") / "new" / "vocabulary"
    vocabulary.train(TEXT, folder, PIECES)
    return folder


@pytest.fixture(scope="module")
def byte_tokenizer(folder):
    return MarianTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("text", ODD)
def test_ids_are_the_tokenizers_own(byte_tokenizer, text):
    (ids,) = vocabulary.encode_all(byte_tokenizer, [text])
    assert ids.tolist() == byte_tokenizer(text)["input_ids"] == byte_tokenizer(text_target=text)["input_ids"]


def test_ids_are_the_tokenizers_own_without_bytes_too(tokenizer):
    ids = vocabulary.encode_all(tokenizer, ODD)
    assert [row.tolist() for row in ids] == tokenizer(ODD)["input_ids"]
    assert all(row[-1] == tokenizer.eos_token_id for row in ids)
    assert vocabulary.encode_all(tokenizer, []) == []


@pytest.mark.parametrize("text", ["la maison est grande", "木が水に浮く", "ÆØÅ 😀 zzz"])
def test_text_survives_encoding_and_decoding(byte_tokenizer, text):
    (ids,) = vocabulary.encode_all(byte_tokenizer, [text])
    assert byte_tokenizer.unk_token_id not in ids
    assert byte_tokenizer.decode(ids, skip_special_tokens=True) == text
    assert byte_tokenizer.batch_decode([ids], skip_special_tokens=True) == [text]


def test_special_symbols_are_where_marian_wants_them(byte_tokenizer):
    assert len(byte_tokenizer) == PIECES
    assert (byte_tokenizer.eos_token_id, byte_tokenizer.unk_token_id, byte_tokenizer.pad_token_id) == (0, 1, PIECES - 1)


@pytest.mark.parametrize("loader", [AutoTokenizer, MarianTokenizer])
def test_the_folder_loads_as_any_marian_folder_does(folder, byte_tokenizer, loader):
    loaded = loader.from_pretrained(folder)
    assert isinstance(loaded, MarianTokenizer)
    assert loaded(ODD)["input_ids"] == byte_tokenizer(ODD)["input_ids"]
    files = sorted(file.name for file in folder.iterdir())
    assert files == ["source.spm", "target.spm", "tokenizer_config.json", "vocab.json"]


def test_a_sentence_given_twice_counts_once(folder, tmp_path):
    again = vocabulary.train([*TEXT, *TEXT], tmp_path / "vocabulary", PIECES)
    assert (tmp_path / "vocabulary" / "vocab.json").read_bytes() == (folder / "vocab.json").read_bytes()
    assert len(again) == PIECES


def test_a_folder_that_holds_one_is_not_trained_anew(folder):
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.iterdir()}

    def sentences():
        raise AssertionError("no sentence is to be read")
        yield

    assert len(vocabulary.train(sentences(), folder, PIECES)) == PIECES
    assert {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.iterdir()} == before


def test_a_folder_that_holds_another_size_is_refused(folder):
    with pytest.raises(InputError, match=f"holds a vocabulary of {PIECES} pieces, not of pieces=299"):
        vocabulary.train(TEXT, folder, 299)


def test_a_folder_of_something_else_is_refused_before_training_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"is no vocabulary, and not empty"):
        vocabulary.train(TEXT, tmp_path, PIECES)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_too_many_pieces_are_refused_and_leave_nothing(tmp_path):
    with pytest.raises(InputError, match=r"pieces=4000: .*too high"):
        vocabulary.train(TEXT, tmp_path / "vocabulary", 4000)
    assert names_in(tmp_path) == []


def test_sentences_that_cannot_be_read_leave_nothing(tmp_path):
    def sentences():
        yield "la maison"
        raise InputError("line 2 is bad")

    with pytest.raises(InputError, match="line 2 is bad"):
        vocabulary.train(sentences(), tmp_path / "vocabulary", PIECES)
    assert names_in(tmp_path) == []


def test_training_that_was_cut_off_leaves_no_half_folder_and_starts_again(folder, tmp_path, monkeypatch):
    def killed(self, *arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MarianTokenizer, "save_pretrained", killed)
        with pytest.raises(KeyboardInterrupt):
            vocabulary.train(TEXT, tmp_path / "vocabulary", PIECES)
    assert not (tmp_path / "vocabulary").exists()
    vocabulary.train(TEXT, tmp_path / "vocabulary", PIECES)
    assert names_in(tmp_path) == ["vocabulary"]
    assert (tmp_path / "vocabulary" / "vocab.json").read_bytes() == (folder / "vocab.json").read_bytes()


def test_global_random_state_is_left_alone(tmp_path):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    vocabulary.train(TEXT, tmp_path / "vocabulary", PIECES)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_of_several_processes_one_trains_and_all_have_the_same(tmp_path):
    """Jobs of an array begin at the same time, and find no vocabulary."""
    sentences = TEXT
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(3, mp_context=context) as pool:
        found = list(pool.map(_pieces_of, [sentences] * 3, [tmp_path / "work" / "vocabulary"] * 3))
    assert found[0] == found[1] == found[2]


def _pieces_of(sentences: list[str], folder: Path) -> dict:
    return vocabulary.train(sentences, folder, PIECES).get_vocab()


def test_one_of_another_corpus_is_refused_not_loaded(tmp_path):
    vocabulary.train(TEXT, tmp_path / "vocabulary", PIECES, of={"corpus": ["ora"], "coverage": 1.0})
    vocabulary.train((), tmp_path / "vocabulary", PIECES, of={"corpus": ["ora"], "coverage": 1.0})
    with pytest.raises(InputError, match=r"trained with other corpus \(.*'ora'.*; now .*'uri'.*\)\. Delete the folder"):
        vocabulary.train((), tmp_path / "vocabulary", PIECES, of={"corpus": ["ora", "uri"], "coverage": 1.0})

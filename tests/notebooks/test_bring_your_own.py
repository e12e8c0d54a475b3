"""The notebook for a reader's own model runs on any kind of model, with nothing changed but its parameters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import ByteLevelBPETokenizer
from tokenizers.processors import RobertaProcessing
from transformers import M2M100Tokenizer, PreTrainedTokenizerFast

from tests.conftest import MADE_UP, SOURCES, TARGETS
from tests.decomposition import small_models
from tests.notebooks.execution import figures, notebook, run, values


def executed(folder: Path, **parameters) -> tuple[dict, list]:
    """Execute the notebook on a saved model: what it glued, by name, and its figures."""
    parameters = {"model_name": str(folder), "sources": SOURCES, **parameters}
    content = run(notebook("bring_your_own_model"), **parameters)
    return values(content), figures(content)


def saved(model, tokenizer, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def byte_level(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer like RoBERTa's, with symbols around a text, or like a decoder-only model's, padding on the left."""
    trained = ByteLevelBPETokenizer()
    symbols = ["<s>", "<pad>", "</s>", "<unk>"]
    trained.train_from_iterator(MADE_UP * 3, vocab_size=320, min_frequency=1, special_tokens=symbols)
    if kind == "encoder":
        trained._tokenizer.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
    side = "right" if kind == "encoder" else "left"
    return PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, pad_token="<pad>", eos_token="</s>", padding_side=side
    )


def multilingual(folder: Path, tokenizer) -> M2M100Tokenizer:
    """M2M100's own tokenizer, which adds a token for each of its languages, over the pieces of eight sentences."""
    tokenizer.save_pretrained(folder)
    known = [
        piece for piece in json.loads((folder / "vocab.json").read_text()) if piece not in ("</s>", "<unk>", "<pad>")
    ]
    ids = {piece: number for number, piece in enumerate(("<s>", "<pad>", "</s>", "<unk>", *known))}
    (folder / "pieces.json").write_text(json.dumps(ids))
    return M2M100Tokenizer(str(folder / "pieces.json"), str(folder / "source.spm"))


def check(glued: dict, figures: list, family: str, terms: tuple[str, str], shown: int = 5) -> None:
    assert glued["supported"] == "yes"
    assert glued["family"] == family
    assert (glued["terms_sublayer"], glued["terms_token"]) == terms
    for by in ("sublayer", "token"):
        assert 0 < glued[f"error_{by}"] <= glued[f"limit_{by}"]
        assert 0 < glued[f"error64_{by}"] < 1e-12
        assert glued[f"largest_{by}"] in glued[f"terms_{by}"]
        # The largest of parts that sum to one, or nearly, in half precision.
        assert glued[f"share_{by}"] > 0.95 / len(glued[f"terms_{by}"].split(", "))
    assert glued["difference"] < 1e-4
    assert len(figures) == shown


PAIR, STACK = ("I, S, T, F, C", "S, T, C"), ("I, T, F, C", "T, C")


@pytest.mark.slow
def test_a_translation_model_that_reads_its_own_translations(tmp_path, make_marian, tokenizer):
    folder = saved(make_marian(layers=3), tokenizer, tmp_path / "marian")
    check(*executed(folder, targets=None), "marian, encoder-decoder", PAIR)


@pytest.mark.slow
def test_a_multilingual_model_with_language_tokens(tmp_path, tokenizer):
    own = multilingual(tmp_path, tokenizer)
    folder = saved(small_models.make("m2m_100", vocab_size=200, max_position_embeddings=60), own, tmp_path / "m2m")
    languages = {"source_language": "fr", "target_language": "en"}
    glued, pictures = executed(folder, targets=TARGETS, shown=0, **languages)
    check(glued, pictures, "m2m_100, encoder-decoder", PAIR)


@pytest.mark.slow
def test_an_encoder_in_half_precision(tmp_path):
    own = byte_level("encoder")
    model = small_models.make("roberta", vocab_size=len(own), max_position_embeddings=60)
    glued, pictures = executed(saved(model, own, tmp_path / "roberta"), dtype="bfloat16")
    check(glued, pictures, "roberta, encoder", STACK)
    assert glued["error_token"] > 1e-5  # the model's own rounding


@pytest.mark.slow
def test_a_decoder_only_model_that_is_padded_on_the_left(tmp_path):
    own = byte_level("decoder")
    model = small_models.make("llama: grouped queries", vocab_size=len(own), max_position_embeddings=60)
    glued, pictures = executed(saved(model, own, tmp_path / "llama"), shown=3)
    check(glued, pictures, "llama, decoder-only", STACK)

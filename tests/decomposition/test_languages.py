"""A multilingual model reads and writes the languages that it is told, and no other."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import M2M100Tokenizer, MBart50Tokenizer, MBartTokenizer, NllbTokenizer

import addends
from addends.decomposition import encode_or_translate, set_languages
from addends.decomposition.languages import language_ids
from addends.errors import InputError, ModelStateError
from tests.conftest import SOURCES, TARGETS
from tests.decomposition.small_models import make
from tests.rounding import allowed


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
        parts = addends.decompose(model, batch, by="token")
        assert parts.error() <= allowed(parts, longest_sum=64)
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


# --- a target that is given and a translation that is made begin alike, as the model is trained ---

SYMBOLS = ("<s>", "<pad>", "</s>", "<unk>", "▁")
LETTERS = sorted(set("".join(SOURCES + TARGETS)) - {" "})
SPELLED = {"m2m": ("fr", "en"), "nllb": ("fra_Latn", "eng_Latn")}


@pytest.fixture
def family(request, m2m):
    """A model of a multilingual family and its tokenizer, which knows letters and its class's languages."""
    pieces = [*SYMBOLS, *LETTERS]
    scored = [(piece, -1.0) for piece in pieces]
    tokenizer = {
        "mbart-25": lambda: MBartTokenizer(vocab=scored),
        "mbart-50": lambda: MBart50Tokenizer(vocab=scored),
        "nllb": lambda: NllbTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[]),
        "m2m": lambda: m2m,
    }[request.param]()
    name = "mbart" if "mbart" in request.param else "m2m_100"
    model = make(name, vocab_size=max(len(tokenizer), 250), max_position_embeddings=60)
    source, target = SPELLED.get(request.param, ("fr_XX", "en_XX"))
    tokenizer.src_lang, tokenizer.tgt_lang = source, None
    return model, tokenizer, source, target


FAMILIES = pytest.mark.parametrize("family", ["mbart-25", "mbart-50", "nllb", "m2m"], indirect=True)


def first_rows(batch, tokenizer):
    """What the decoder reads up to and with the language, and how many rows that takes."""
    languages = set(language_ids(tokenizer).values())
    read = batch.decoder_input_ids[0].tolist()
    place = next(place for place, number in enumerate(read) if number in languages)
    return read[: place + 1]


def own_inputs(model, batch):
    """What the model itself makes of the labels, to learn from them."""
    read = []
    handle = model.get_decoder().register_forward_pre_hook(
        lambda _module, _inputs, keywords: read.append(keywords["input_ids"]), with_kwargs=True
    )
    with torch.no_grad():
        model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels)
    handle.remove()
    return read[0]


@FAMILIES
@pytest.mark.parametrize("told", ["by options", "by the tokenizer", "by the configuration"])
def test_a_translation_begins_as_a_target_does(family, told):
    model, own, source, target = family
    options = set_languages(own, source, target)
    given = addends.encode(model, own, SOURCES, TARGETS)
    assert torch.equal(given.decoder_input_ids[given.mask], own_inputs(model, given)[given.mask])
    if told != "by options":
        forced, options = options, {}
    if told == "by the configuration":
        own.tgt_lang = None
        model.generation_config.forced_bos_token_id = forced["forced_bos_token_id"]
    made = addends.translate(model, own, SOURCES, max_new_tokens=5, **options)
    begun = first_rows(made, own)
    assert begun == first_rows(given, own)
    assert begun[-1] == language_ids(own)[target]
    assert begun[:-1] == ([] if type(own) is MBartTokenizer else [own.eos_token_id])
    measured = addends.measure(
        model, own, SOURCES, batch_size=3, by="token", progress=False, max_new_tokens=5, **options
    )
    assert measured.groupby("sentence")["tokens"].first().tolist() == made.mask.sum(dim=1).tolist()


@FAMILIES
def test_no_language_is_refused_before_anything_runs_and_leaves_the_tokenizer_alone(family):
    model, own, _, _ = family

    def never(*_, **__):
        raise AssertionError("nothing is to run")

    model.register_forward_pre_hook(never)
    for call in (addends.translate, lambda *given: addends.measure(*given, progress=False)):
        with pytest.raises(InputError, match=r"target languages, and none is named.*set_languages"):
            call(model, own, SOURCES)
        assert own.tgt_lang is None
    for call in (addends.encode, lambda *given: addends.measure(*given, progress=False)):
        with pytest.raises(InputError, match="no target language, and would write the targets as another one's"):
            call(model, own, SOURCES, TARGETS)
        assert own.tgt_lang is None


@FAMILIES
def test_language_tokens_are_special(family):
    model, own, source, target = family
    set_languages(own, source, target)
    every = addends.encode(model, own, SOURCES, TARGETS)
    words = addends.encode(model, own, SOURCES, TARGETS, special_tokens=False)
    assert torch.equal(every.decoder_input_ids, words.decoder_input_ids)
    assert (every.mask.sum(dim=1) - words.mask.sum(dim=1)).tolist() == [2] * len(SOURCES)  # the language and the end
    left_out = every.labels[every.mask & ~words.mask]
    assert set(left_out.tolist()) == {own.eos_token_id, language_ids(own)[target]}


@pytest.mark.parametrize("family", ["mbart-25"], indirect=True)
def test_a_start_that_is_given_stands(family):
    model, own, source, target = family
    options = set_languages(own, source, target)
    language = options["forced_bos_token_id"]
    made = addends.translate(model, own, SOURCES, max_new_tokens=3, decoder_start_token_id=language)
    assert made.decoder_input_ids[:, 0].tolist() == [language] * len(SOURCES)
    assert torch.equal(made.labels, addends.translate(model, own, SOURCES, max_new_tokens=3, **options).labels)
    both = {**options, "decoder_start_token_id": own.bos_token_id}
    made = addends.translate(model, own, SOURCES, max_new_tokens=3, **both)
    assert made.decoder_input_ids[:, :2].tolist() == [[own.bos_token_id, language]] * len(SOURCES)


@pytest.mark.parametrize("family", ["nllb"], indirect=True)
def test_a_language_that_the_decoder_would_read_too_late_is_refused(family):
    model, _, source, target = family
    pieces = {piece: number for number, piece in enumerate([*SYMBOLS, *LETTERS])}
    legacy = NllbTokenizer(vocab=pieces, merges=[], legacy_behaviour=True, src_lang=source, tgt_lang=target)
    for call in (addends.encode, addends.measure):
        with pytest.raises(InputError, match=r"writes the language of a target behind it.*legacy_behaviour=False"):
            call(model, legacy, SOURCES, TARGETS)


def test_configurations_that_begin_differently_are_refused(make_marian, tokenizer, monkeypatch):
    model = make_marian()
    monkeypatch.setattr(model.generation_config, "decoder_start_token_id", 7)
    with pytest.raises(
        ModelStateError, match=r"trained to begin with the token \d+, but .*generation_config begins.* 7"
    ):
        addends.translate(model, tokenizer, SOURCES)
    batch = addends.translate(model, tokenizer, SOURCES, max_new_tokens=2, decoder_start_token_id=7)
    assert (batch.decoder_input_ids[:, 0] == 7).all()


def test_a_configuration_without_a_start_is_refused(tokenizer, monkeypatch):
    """transformers would begin translations with the bos token, and no target."""
    model = make("bart", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, max_position_embeddings=60)
    model.generation_config.decoder_start_token_id = model.config.decoder_start_token_id = None
    for call in (
        lambda: addends.translate(model, tokenizer, SOURCES),
        lambda: addends.encode(model, tokenizer, SOURCES, TARGETS),
    ):
        with pytest.raises(ModelStateError, match="names no decoder_start_token_id"):
            call()


# --- Marian says the language in the source ---


@pytest.fixture
def several(tokenizer, monkeypatch):
    """Marian's tokenizer with two pieces taken for codes of languages."""
    codes = {">>fra<<": 5, ">>deu<<": 6}
    monkeypatch.setattr(tokenizer, "encoder", {**tokenizer.encoder, **codes})
    monkeypatch.setattr(tokenizer, "supported_language_codes", list(codes))
    return tokenizer


def test_a_source_that_names_no_language_is_refused_by_its_index(make_marian, several):
    model = make_marian()
    named = [f">>deu<< {text}" for text in SOURCES]
    assert (addends.encode(model, several, named, TARGETS).input_ids[:, 0] == 6).all()
    assert (addends.translate(model, several, named, max_new_tokens=2).input_ids[:, 0] == 6).all()
    wrong = [*named[:2], *SOURCES[2:]]
    for call in (addends.translate, lambda *given: addends.measure(*given, progress=False)):
        with pytest.raises(InputError, match=r"sources\[2\] names no target language, and this MarianTokenizer has 2"):
            call(model, several, wrong)
    with pytest.raises(InputError, match=r"sources\[2\] names no target language"):
        addends.encode(model, several, wrong, TARGETS)


def test_a_code_that_the_tokenizer_lacks_is_refused_by_its_index(make_marian, several, tokenizer):
    model = make_marian()
    with pytest.raises(InputError, match=r"sources\[1\] begins with '>>eng<<'.*>>fra<<"):
        addends.encode(model, several, [">>fra<< il pleut", ">>eng<< il"], TARGETS[:2])
    with pytest.raises(InputError, match=r"targets\[0\] begins with '>>eng<<'"):
        addends.encode(model, several, [">>fra<< il pleut"], [">>eng<< it"])


def test_a_model_with_one_language_needs_no_code(make_marian, tokenizer):
    assert len(addends.encode(make_marian(), tokenizer, SOURCES, TARGETS)) == 4
    with pytest.raises(InputError, match="a Marian model with several target languages wants its code in the source"):
        set_languages(tokenizer, target="fra")

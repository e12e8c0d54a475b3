"""Row t predicts label t; a row counts exactly if its label is real; nothing is cut or dropped in silence."""

from __future__ import annotations

import dataclasses
import string

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

import addends
from addends.decomposition import architecture_of, labels
from addends.decomposition import batch as batches
from addends.errors import InputError, UnsupportedModelError
from tests.conftest import SOURCES, TARGETS
from tests.decomposition.small_models import PAD, VOCABULARY, make
from tests.rounding import allowed


@pytest.fixture(scope="module")
def model(make_marian):
    return make_marian()


def test_row_t_reads_what_comes_before_label_t(model, tokenizer):
    batch = addends.encode(model, tokenizer, SOURCES, TARGETS)
    start = model.config.decoder_start_token_id
    for index, target in enumerate(TARGETS):
        ids = tokenizer(text_target=target)["input_ids"]
        assert batch.decoder_input_ids[index, : len(ids)].tolist() == [start, *ids[:-1]]
        assert batch.labels[index, : len(ids)].tolist() == ids
        assert batch.decoder_mask[index].sum() == len(ids)


def test_the_start_symbol_counts_though_it_is_the_pad_symbol(model, tokenizer):
    batch = addends.encode(model, tokenizer, SOURCES, TARGETS)
    assert model.config.decoder_start_token_id == model.config.pad_token_id
    assert batch.decoder_mask[:, 0].all()
    assert (batch.decoder_mask.sum(dim=1) == (batch.labels != model.config.pad_token_id).sum(dim=1)).all()


def test_the_target_is_read_by_the_targets_tokenizer(tmp_path, tokenizer, make_marian):
    """With two different vocabularies the two sides get different ids."""
    import json
    import shutil

    from transformers import MarianTokenizer

    tokenizer.save_pretrained(tmp_path)
    ids = json.loads((tmp_path / "vocab.json").read_text())
    fixed = {"</s>", "<unk>", "<pad>"}
    free = [piece for piece in ids if piece not in fixed]
    turned = {**ids, **dict(zip(free, [ids[piece] for piece in reversed(free)], strict=True))}
    (tmp_path / "target_vocab.json").write_text(json.dumps(turned))
    shutil.copy(tmp_path / "source.spm", tmp_path / "target.spm")
    both = MarianTokenizer(
        *(str(tmp_path / name) for name in ("source.spm", "target.spm", "vocab.json", "target_vocab.json")),
        separate_vocabs=True,
    )
    model = make_marian()
    proper = addends.encode(model, both, SOURCES[:1], TARGETS[:1]).labels[0].tolist()
    legacy = addends.encode(model, both, SOURCES[:1], TARGETS[:1], legacy=True).decoder_input_ids[0].tolist()
    assert proper == both(text_target=TARGETS[0])["input_ids"] != legacy
    assert legacy == both(TARGETS[0])["input_ids"]


def test_legacy_is_unshifted_and_counts_the_row_fed_with_the_end_symbol(model, tokenizer):
    batch = addends.encode(model, tokenizer, SOURCES, TARGETS, legacy=True)
    for index, target in enumerate(TARGETS):
        ids = tokenizer(target)["input_ids"]
        assert batch.decoder_input_ids[index, : len(ids)].tolist() == ids
        assert ids[-1] == tokenizer.eos_token_id
        assert batch.decoder_mask[index].tolist() == [True] * len(ids) + [False] * (batch.mask.shape[1] - len(ids))
    parts = addends.decompose(model, batch)
    assert parts.error() <= allowed(parts)
    usual = addends.decompose(model, addends.encode(model, tokenizer, SOURCES, TARGETS))
    assert not torch.equal(parts.states, usual.states)


def test_legacy_drops_rows_that_hold_the_pad_id_as_the_released_mask_does(model, tokenizer):
    """A target that says the pad symbol itself: proper encoding counts that row, the released code's mask does not."""
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    targets = ["it <pad> rains", "it rains"]
    ids = tokenizer(targets)["input_ids"]
    assert ids[0].count(pad) == 1
    assert pad not in ids[1]
    place, length = ids[0].index(pad), len(ids[0])
    legacy = addends.encode(model, tokenizer, SOURCES[:2], targets, legacy=True)
    assert legacy.decoder_mask[0, :length].tolist() == [row != place for row in range(length)]
    assert legacy.decoder_mask[1].tolist() == [True] * len(ids[1]) + [False] * (legacy.mask.shape[1] - len(ids[1]))
    assert legacy.decoder_input_ids[0, length - 1] == end
    proper = addends.encode(model, tokenizer, SOURCES[:2], targets)
    assert proper.decoder_mask[0, :length].all()


def test_a_translation_keeps_the_ids_the_model_generated(model, tokenizer):
    batch = addends.translate(model, tokenizer, SOURCES, max_new_tokens=9)
    generated = model.generate(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, num_beams=1, do_sample=False, max_new_tokens=9
    )
    assert torch.equal(batch.decoder_input_ids, generated[:, :-1])
    assert torch.equal(batch.labels, generated[:, 1:])
    assert len(batch.texts) == len(SOURCES)
    parts = addends.decompose(model, batch)
    assert parts.error() <= allowed(parts)


def test_rows_after_the_first_end_symbol_do_not_count(model, tokenizer, monkeypatch):
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    made = torch.tensor([[pad, 5, 6, end, pad], [pad, end, pad, pad, pad], [pad, 7, 8, 9, 5]])
    monkeypatch.setattr(model, "generate", lambda **_: made)
    batch = addends.translate(model, tokenizer, SOURCES[:3])
    # A translation that says nothing still has the row that predicts its end; one that was cut off has all its rows.
    assert batch.decoder_mask.tolist() == [[True] * 3 + [False], [True] + [False] * 3, [True] * 4]


def test_too_long_is_refused_by_index_and_cut_only_when_asked(model, tokenizer):
    sources = [SOURCES[0], " ".join(SOURCES * 6)]
    with pytest.raises(InputError, match=r"sources\[1\] has \d+ tokens, the model has 40 positions"):
        addends.encode(model, tokenizer, sources, TARGETS[:2])
    with pytest.raises(InputError, match=r"targets\[0\]"):
        addends.encode(model, tokenizer, SOURCES[:1], [" ".join(TARGETS * 6)])
    with pytest.raises(InputError, match=r"sources\[1\]"):
        addends.translate(model, tokenizer, sources)
    batch = addends.encode(model, tokenizer, sources, TARGETS[:2], truncation=True)
    assert batch.truncated == (("sources", 1),)
    assert batch.input_ids.shape[1] == 40
    assert batch.input_ids[1, -1] == tokenizer.eos_token_id
    assert addends.encode(model, tokenizer, SOURCES, TARGETS, truncation=True).truncated == ()


SYMBOLS_AROUND = {  # what a tokenizer puts before and behind a text
    "none": ((), ()),
    "before": (("<s>",), ()),
    "around": (("<s>",), ("</s>",)),
    "two behind": ((), ("</s>", "<lang>")),
}


def letters(before, behind):
    """A tokenizer of one letter a token, with symbols around a text."""
    symbols = ["<s>", "<pad>", "</s>", "<unk>", "<lang>"]
    ids = {piece: number for number, piece in enumerate([*symbols, *string.ascii_lowercase])}
    whole = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    whole.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    template = " ".join([*before, "$A", *behind])
    whole.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(symbol, ids[symbol]) for symbol in {*before, *behind}]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=whole, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.mark.parametrize("around", list(SYMBOLS_AROUND))
@pytest.mark.parametrize("name", ["gpt2", "roberta"])
def test_what_is_cut_is_text_and_never_a_symbol_around_it(name, around):
    before, behind = SYMBOLS_AROUND[around]
    model, own = make(name), letters(before, behind)
    text = "abcdefghijklmnopqrstuvwxyz"
    batch = addends.encode(model, own, [text, "abc"], truncation=True)
    room = batch.input_ids.shape[1]
    assert room == (20 if name == "gpt2" else 18)
    kept = room - len(before) - len(behind)
    assert own.convert_ids_to_tokens(batch.input_ids[0].tolist()) == [*before, *text[:kept], *behind]
    assert batch.truncated == (("texts", 0),)
    assert own._tokenizer.truncation is None  # the tokenizer is left as it was
    assert own(text)["input_ids"] == own(text, truncation=False)["input_ids"]


@pytest.mark.parametrize("around", list(SYMBOLS_AROUND))
@pytest.mark.parametrize("name", ["gpt2", "roberta"])
def test_rows_of_special_tokens_are_left_out_on_request(name, around):
    before, behind = SYMBOLS_AROUND[around]
    model, own = make(name), letters(before, behind)
    own.add_special_tokens({"additional_special_tokens": ["<lang>"]})
    every, words = (addends.encode(model, own, ["ab?", "abcdef"], special_tokens=counted) for counted in (True, False))
    assert torch.equal(every.attention_mask, words.attention_mask)
    assert words.mask.sum(dim=1).tolist() == [3, 6]  # an unknown word is a word
    assert every.mask.sum(dim=1).tolist() == [3 + len(before) + len(behind), 6 + len(before) + len(behind)]
    whole, part = addends.decompose(model, every), addends.decompose(model, words)
    assert torch.equal(whole.vectors, part.vectors)  # the model reads the same
    rows = addends.indicators(part)
    assert rows.groupby("sentence")["position"].nunique().tolist() == [3, 6]
    assert labels(model, own, words).states == ("a", "b", "<unk>")


def test_a_translation_leaves_special_rows_out_on_request(model, tokenizer):
    every, words = (
        addends.translate(model, tokenizer, SOURCES, max_new_tokens=9, special_tokens=counted)
        for counted in (True, False)
    )
    ends = every.labels == tokenizer.eos_token_id
    ends |= every.labels == tokenizer.pad_token_id
    assert torch.equal(every.labels, words.labels)
    assert torch.equal(words.mask, every.mask & ~ends)


# --- bad input ---


@pytest.mark.parametrize("half", [0xD83D, 0xDCFF])
def test_half_a_character_is_refused_by_side_and_index(model, tokenizer, half):
    bad = ["il pleut", f"il {chr(half)}"]
    for call in (
        lambda: addends.encode(model, tokenizer, bad, TARGETS[:2]),
        lambda: addends.translate(model, tokenizer, bad),
    ):
        with pytest.raises(
            InputError, match=r"sources\[1\] holds '\\ud[0-9a-f]{3}' at character 3: half of a character"
        ):
            call()
    with pytest.raises(InputError, match=r"targets\[1\] holds"):
        addends.encode(model, tokenizer, SOURCES[:2], bad)
    with pytest.raises(InputError, match=r"texts\[1\] holds"):
        addends.encode(make("gpt2"), OneSided("left"), bad)
    assert addends.encode(model, tokenizer, ["il \U0001f600"], ["it"]).input_ids.shape[0] == 1  # a whole one is read


def test_a_text_without_a_token_is_refused_by_its_index():
    own = letters((), ())
    own._tokenizer.normalizer = normalizers.Replace("z", "")
    with pytest.raises(InputError, match=r"texts\[1\] is 'zz', which is no token to the tokenizer"):
        addends.encode(make("gpt2"), own, ["ab", "zz"])


def test_a_text_of_which_the_symbols_around_it_alone_are_left_is_refused(model, tokenizer):
    """A space without a width is no blank to Python, and nothing to the tokenizer."""
    own = letters(("<s>",), ("</s>",))
    own._tokenizer.normalizer = normalizers.Replace("z", "")
    with pytest.raises(InputError, match=r"texts\[1\] is 'zz', which is no token to the tokenizer"):
        addends.encode(make("gpt2"), own, ["ab", "zz"])
    nothing = "\N{ZERO WIDTH SPACE}"
    assert nothing.strip()
    for call in (
        lambda: addends.encode(model, tokenizer, [SOURCES[0], nothing], TARGETS[:2]),
        lambda: addends.translate(model, tokenizer, [SOURCES[0], nothing]),
    ):
        with pytest.raises(InputError, match=r"sources\[1\] is '\\u200b', which is no token"):
            call()
    with pytest.raises(InputError, match=r"targets\[1\] is '\\u200b', which is no token"):
        addends.encode(model, tokenizer, SOURCES[:2], [TARGETS[0], nothing])


def test_a_row_that_names_no_number_of_positions_of_this_configuration(monkeypatch):
    """As LED's and Whisper's configurations, which say it by other names."""
    model = make("gpt2")
    row = dataclasses.replace(architecture_of(model.config), positions="max_source_positions")
    monkeypatch.setattr(batches, "architecture_of", lambda _: row)
    with pytest.raises(UnsupportedModelError, match="positions 'max_source_positions', which a GPT2Config lacks"):
        addends.encode(model, OneSided("right"), SOURCES)


def test_lists_of_different_length(model, tokenizer):
    with pytest.raises(InputError, match="4 sources and 3 targets"):
        addends.encode(model, tokenizer, SOURCES, TARGETS[:3])


@pytest.mark.parametrize("blank", ["", "   ", "\t\n", None])
def test_blank_sentences_are_named(model, tokenizer, blank):
    with pytest.raises(InputError, match=r"sources\[1\]"):
        addends.encode(model, tokenizer, ["il pleut", blank], TARGETS[:2])
    with pytest.raises(InputError, match=r"targets\[0\]"):
        addends.encode(model, tokenizer, SOURCES[:2], [blank, "it rains"])
    with pytest.raises(InputError, match=r"sources\[1\]"):
        addends.translate(model, tokenizer, ["il pleut", blank])


def test_one_string_is_not_a_list_of_sentences(model, tokenizer):
    with pytest.raises(InputError, match="one string"):
        addends.encode(model, tokenizer, "il pleut", ["it rains"])


def test_no_sentences(model, tokenizer):
    with pytest.raises(InputError, match="sources is empty"):
        addends.encode(model, tokenizer, [], [])


def test_a_tokenizer_that_knows_more_tokens_than_the_model_embeds(make_marian, tokenizer):
    model = make_marian(vocab_size=len(tokenizer) - 5, pad_token_id=0, decoder_start_token_id=0)
    with pytest.raises(InputError, match=rf"knows {len(tokenizer)} tokens.*embeds {len(tokenizer) - 5}"):
        addends.encode(model, tokenizer, SOURCES, TARGETS)


# --- multilingual models: the language token is where the model's own training puts it ---

LANGUAGES = {"en_XX": 30, "fr_XX": 31}


class Multilingual:
    """A tokenizer that writes a language token, as those of mBART (last) and of M2M100 and NLLB (first) do."""

    pad_token_id, eos_token_id, padding_side = PAD, 2, "right"

    def __init__(self, last):
        self.last = last

    def __len__(self):
        return VOCABULARY

    def __call__(self, texts=None, text_target=None):
        language = LANGUAGES["fr_XX" if text_target is None else "en_XX"]
        rows = [[3 + len(word) for word in text.split()] for text in texts or text_target]
        return {"input_ids": [[*row, 2, language] if self.last else [language, *row, 2] for row in rows]}


def what_the_decoder_reads(model, batch):
    """Given labels to learn from and nothing else, the model makes its decoder's inputs itself."""
    read = []

    def hook(_module, _inputs, keywords):
        read.append(keywords["input_ids"])

    handle = model.get_decoder().register_forward_pre_hook(hook, with_kwargs=True)
    with torch.no_grad():
        model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels)
    handle.remove()
    return read[0]


@pytest.mark.parametrize(("name", "last"), [("mbart", True), ("m2m_100", False)])
def test_decoder_inputs_are_the_models_own(name, last):
    model = make(name, decoder_start_token_id=None if last else 2)
    batch = addends.encode(model, Multilingual(last), SOURCES, TARGETS)
    own = what_the_decoder_reads(model, batch)
    assert torch.equal(batch.decoder_input_ids[batch.mask], own[batch.mask])
    expected = [LANGUAGES["en_XX"]] * 4 if last else [2] * 4
    assert batch.decoder_input_ids[:, 0].tolist() == expected
    if not last:
        assert (batch.decoder_input_ids[:, 1] == LANGUAGES["en_XX"]).all()
    parts = addends.decompose(model, batch)
    assert parts.error() <= allowed(parts)


@pytest.mark.parametrize("name", ["marian", "bart", "pegasus", "t5"])
def test_decoder_inputs_are_the_models_own_with_one_language_too(name, tokenizer):
    model = make(name, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, max_position_embeddings=40)
    batch = addends.encode(model, tokenizer, SOURCES, TARGETS)
    own = what_the_decoder_reads(model, batch)
    assert torch.equal(batch.decoder_input_ids[batch.mask], own[batch.mask])


# --- single stacks ---


class OneSided(Multilingual):
    def __init__(self, side):
        super().__init__(last=False)
        self.padding_side = side


SINGLE = [
    "gpt2",
    "opt",
    "biogpt",
    "llama",
    "mistral",
    "phi",
    "gpt_neox",
    "bert",
    "roberta",
    "xlm-roberta",
    "distilbert",
]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", SINGLE)
def test_texts_are_padded_on_the_tokenizers_side_and_positions_count_real_tokens(name, side):
    model, own = make(name), OneSided(side)
    batch = addends.encode(model, own, SOURCES)
    assert batch.decoder_input_ids is None
    assert (batch.position_ids is None) == (side == "right")
    together = addends.decompose(model, batch)
    for index, text in enumerate(SOURCES):
        single = addends.decompose(model, addends.encode(model, own, [text]))
        gap = (together.states[:, index, batch.mask[index]] - single.states[:, 0]).norm(dim=-1)
        assert (gap / single.states[:, 0].norm(dim=-1)).max() < 1e-5


def test_texts_longer_than_the_positions_are_refused_by_index():
    with pytest.raises(InputError, match=r"texts\[1\] has 20 tokens, the model has 18 positions"):
        addends.encode(make("roberta"), OneSided("right"), ["it rains", "on and on " * 6])
    with pytest.raises(InputError, match=r"texts\[0\] is ' '"):
        addends.encode(make("gpt2"), OneSided("right"), [" "])


def test_sides_that_the_model_lacks_are_refused(model, tokenizer):
    with pytest.raises(InputError, match="A gpt2 has one stack only"):
        addends.encode(make("gpt2"), OneSided("left"), SOURCES, TARGETS)
    with pytest.raises(InputError, match="marian is an encoder-decoder: give targets"):
        addends.encode(model, tokenizer, SOURCES)

"""Measuring: sentence means of the indicators, the same however the sentences are batched."""

from __future__ import annotations

import math
import sys
import weakref

import numpy as np
import pandas as pd
import pytest
import torch

import addends
from addends.decomposition import corpus_means, measure_batch, parts
from addends.errors import AddendsError, InputError, UnsupportedModelError
from addends.tables import INDICATORS
from tests.conftest import SOURCES, TARGETS
from tests.decomposition.small_models import make

KEY = ["sentence", "layer", "by", "term"]
TERMS = {"sublayer": "CFIST", "token": "CST"}


@pytest.fixture(scope="module")
def model(make_marian):
    return make_marian()


@pytest.fixture(scope="module")
def measured(model, tokenizer):
    return addends.measure(model, tokenizer, SOURCES, TARGETS, progress=False)


def test_rows_are_sentences_crossed_with_layers_and_terms(measured):
    assert list(measured) == [*KEY, *INDICATORS, "tokens"]
    expected = [
        (sentence, layer, by, term)
        for sentence in range(len(SOURCES))
        for by in TERMS
        for layer in range(3)
        for term in TERMS[by]
    ]
    assert [tuple(row) for row in measured[KEY].itertuples(index=False)] == expected


@pytest.mark.parametrize("by", list(TERMS))
def test_numbers_are_the_means_of_the_indicators_of_each_sentence(model, tokenizer, measured, by):
    for index, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        batch = addends.encode(model, tokenizer, [source], [target])
        rows = addends.indicators(addends.decompose(model, batch, by=by))
        expected = rows.groupby(["layer", "term"])[list(INDICATORS)].mean()
        here = measured[(measured["sentence"] == index) & (measured["by"] == by)].set_index(["layer", "term"])
        pd.testing.assert_frame_equal(here[list(INDICATORS)], expected, rtol=1e-4, atol=1e-6, check_dtype=False)
        assert here["tokens"].unique().tolist() == [len(tokenizer(text_target=target)["input_ids"])]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_batch_size_does_not_change_the_numbers(make_marian, tokenizer, batch_size):
    model = make_marian(dtype="float64")
    whole = addends.measure(model, tokenizer, SOURCES, TARGETS, progress=False)
    parted = addends.measure(model, tokenizer, SOURCES, TARGETS, batch_size=batch_size, progress=False)
    pd.testing.assert_frame_equal(parted, whole, rtol=1e-9)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_nor_does_it_in_float32_beyond_rounding(model, tokenizer, measured, batch_size):
    parted = addends.measure(model, tokenizer, SOURCES, TARGETS, batch_size=batch_size, progress=False)
    # An indicator near zero is a difference of larger numbers: 1e-5 of the size of the state, not of itself.
    pd.testing.assert_frame_equal(parted, measured, rtol=1e-5, atol=1e-6)


def test_the_order_of_the_sentences_does_not_matter(model, tokenizer, measured):
    order = [2, 0, 3, 1]
    turned = addends.measure(
        model, tokenizer, [SOURCES[i] for i in order], [TARGETS[i] for i in order], batch_size=2, progress=False
    )
    turned["sentence"] = turned["sentence"].map(dict(enumerate(order)))
    turned = turned.sort_values(["sentence", "by", "layer", "term"], ignore_index=True)
    pd.testing.assert_frame_equal(turned, measured, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("targets", [TARGETS, None], ids=["reference", "own"])
def test_importance_sums_to_one(model, tokenizer, targets):
    frame = addends.measure(model, tokenizer, SOURCES, targets, by=["sublayer"], progress=False)
    sums = frame.groupby(["sentence", "layer"])["importance"].sum()
    assert sums.to_numpy() == pytest.approx(1, abs=1e-5)


def test_the_cosine_of_a_part_that_is_zero_is_missing(measured):
    zero = (measured["layer"] == 0) & (measured["by"] == "sublayer") & measured["term"].isin(["S", "T", "F", "C"])
    zero |= (measured["layer"] == 0) & (measured["by"] == "token") & measured["term"].isin(["S", "C"])
    assert zero.sum() == 6 * len(SOURCES)
    assert measured.loc[zero, "cosine"].isna().all()
    assert (measured.loc[zero, ["importance", "norm_ratio"]] == 0).all(axis=None)
    assert np.isfinite(measured.loc[~zero, list(INDICATORS)]).all(axis=None)


def measured_in_pieces(model, tokenizer, sources, targets, size, order):
    """`measure` of the sentences in another order and in batches of another size, with the rows back in place."""
    turned = [None if texts is None else [texts[index] for index in order] for texts in (sources, targets)]
    frame = addends.measure(model, tokenizer, *turned, batch_size=size, progress=False)
    frame["sentence"] = frame["sentence"].map(dict(enumerate(order)))
    return frame.sort_values(["sentence", "by", "layer", "term"], ignore_index=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("name", "zero"), [("llama", True), ("t5", True), ("t5: gated", True), ("bart", False)])
def test_what_is_zero_is_zero_in_every_batch(name, zero, dtype, tokenizer):
    """Without biases, and where no tangent has an intercept, the constant is zero by arithmetic."""
    room = {"max_position_embeddings": 60} if name in ("llama", "bart") else {}
    model = make(name, dtype, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **room)
    targets = TARGETS if model.config.is_encoder_decoder else None
    frames = [
        measured_in_pieces(model, tokenizer, SOURCES, targets, size, order)
        for size, order in ((4, [0, 1, 2, 3]), (1, [0, 1, 2, 3]), (1, [3, 1, 0, 2]), (2, [2, 0, 3, 1]))
    ]
    exact = [*INDICATORS[:3]]
    constant = frames[0].query("term == 'C' and layer > 0")
    assert constant["cosine"].isna().all() if zero else constant["cosine"].notna().all()
    for frame in frames[1:]:
        assert frame["cosine"].isna().equals(frames[0]["cosine"].isna())
        assert (frame[exact] == 0).equals(frames[0][exact] == 0)
        if dtype == torch.float32:
            # Nothing is had by subtraction, so a small part is as exact as a large one.
            pd.testing.assert_frame_equal(frame, frames[0], rtol=1e-5, atol=1e-6)
    if targets is None:
        batch = addends.encode(model, tokenizer, SOURCES)
    else:
        batch = addends.encode(model, tokenizer, SOURCES, targets)
    for by in TERMS:
        rows = addends.indicators(addends.decompose(model, batch, by=by))
        whole = rows.groupby(["sentence", "layer", "term"])["cosine"].apply(lambda values: values.isna().all())
        here = frames[0].query("by == @by").set_index(["sentence", "layer", "term"])["cosine"].isna()
        assert (whole == here.loc[whole.index]).all()


def test_a_small_part_is_as_exact_in_later_batches_as_in_the_first(make_marian, tokenizer):
    """Biases of 1e-3 make a constant of 1e-3: its direction is not to be lost in the rounding of the rest."""
    model = make_marian(activation_function="relu")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.mul_(1e-3)
    first, later = (measured_in_pieces(model, tokenizer, SOURCES, TARGETS, size, [0, 1, 2, 3]) for size in (4, 1))
    constant = first.query("by == 'token' and term == 'C' and layer == 2")
    assert (constant["norm_ratio"] < 0.01).all()
    later = later.loc[constant.index]
    np.testing.assert_allclose(later["cosine"], constant["cosine"], atol=2e-6)


def test_options_are_those_of_translate(model, tokenizer):
    for options in ({"max_new_tokens": 3}, {"num_beams": 3, "max_new_tokens": 6, "length_penalty": 0.1}):
        frame = addends.measure(model, tokenizer, SOURCES, batch_size=2, progress=False, **options)
        for index, source in enumerate(SOURCES):
            batch = addends.translate(model, tokenizer, [source], **options)
            assert (frame.loc[frame["sentence"] == index, "tokens"] == int(batch.mask.sum())).all()
    # Where targets are given nothing is translated.
    given = addends.measure(model, tokenizer, SOURCES, TARGETS, progress=False, num_beams=3)
    pd.testing.assert_frame_equal(given, addends.measure(model, tokenizer, SOURCES, TARGETS, progress=False))


def test_special_tokens_are_left_out_on_request(model, tokenizer, measured):
    frame = addends.measure(model, tokenizer, SOURCES, TARGETS, progress=False, special_tokens=False)
    assert (frame["tokens"] == measured["tokens"] - 1).all()  # the end symbol
    batch = addends.encode(model, tokenizer, SOURCES, TARGETS)
    rows = addends.indicators(addends.decompose(model, batch))
    last = batch.mask.sum(dim=1).numpy()[rows["sentence"]] - 1
    expected = rows[rows["position"] < last].groupby(["sentence", "layer", "term"])[list(INDICATORS)].mean()
    here = frame.query("by == 'sublayer'").set_index(["sentence", "layer", "term"])[list(INDICATORS)]
    pd.testing.assert_frame_equal(here.loc[expected.index], expected, rtol=1e-4, atol=1e-6, check_dtype=False)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_translation_that_says_nothing_has_a_row_and_no_numbers(model, tokenizer, monkeypatch, batch_size):
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id

    def generate(input_ids, **_):
        rows = [[pad, end, pad] if len(row[row != pad]) < 8 else [pad, 5, end] for row in input_ids]
        return torch.tensor(rows)

    monkeypatch.setattr(model, "generate", generate)
    frame = addends.measure(model, tokenizer, SOURCES, batch_size=batch_size, progress=False, special_tokens=False)
    silent = frame["tokens"] == 0
    assert 0 < frame.loc[silent, "sentence"].nunique() < len(SOURCES)
    assert frame.loc[silent, list(INDICATORS)].isna().all(axis=None)
    assert frame.loc[~silent, "importance"].notna().all()


def test_without_targets_the_models_own_ids_are_measured(model, tokenizer):
    frame = addends.measure(model, tokenizer, SOURCES, None, batch_size=3, progress=False)
    for index, source in enumerate(SOURCES):
        batch = addends.translate(model, tokenizer, [source])
        expected = measure_batch(model, batch).sort_values(["by", "layer", "term"])
        here = frame[frame["sentence"] == index]
        assert here["tokens"].unique().tolist() == [int(batch.mask.sum())]
        np.testing.assert_allclose(here[list(INDICATORS)], expected[list(INDICATORS)], rtol=1e-4, atol=1e-5)


def test_one_method_may_be_named_by_itself(model, tokenizer, measured):
    expected = measured[measured["by"] == "token"].reset_index(drop=True)
    for by in ("token", ["token"]):
        frame = addends.measure(model, tokenizer, SOURCES, TARGETS, by=by, progress=False)
        pd.testing.assert_frame_equal(frame, expected)


def test_corpus_means_weigh_every_sentence_alike(measured):
    means = corpus_means(measured).set_index(["by", "layer", "term"])
    rows = measured.query("by == 'token' and layer == 2 and term == 'S'")
    assert rows["tokens"].min() < rows["tokens"].max()
    assert means.loc[("token", 2, "S"), "distance"] == pytest.approx(rows["distance"].sum() / len(SOURCES))
    assert math.isnan(means.loc[("token", 0, "S"), "cosine"])


def test_no_vectors_are_kept(model, tokenizer, monkeypatch):
    """Layers come and go: no `Parts` is made, and no layer's vectors outlive the next one's."""

    def refuse(*arguments, **options):
        raise AssertionError("Parts keep every vector")

    monkeypatch.setattr(parts.Parts, "__init__", refuse)
    references, counts = [], []
    module = sys.modules[measure_batch.__module__]
    real = module.of_vectors

    def watched(vectors, states):
        references.append(weakref.ref(vectors))
        counts.append(len({id(tensor()) for tensor in references if tensor() is not None}))
        return real(vectors, states)

    monkeypatch.setattr(module, "of_vectors", watched)
    addends.measure(model, tokenizer, SOURCES, TARGETS, batch_size=1, progress=False)
    assert len(counts) == len(SOURCES) * 2 * 3  # sentence, method, layer
    assert max(counts) <= 2


def test_the_gradient_mode_and_the_random_state_are_left_alone(model, tokenizer):
    before = torch.get_rng_state()
    addends.measure(model, tokenizer, SOURCES, None, progress=False)
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("sources", "targets", "options", "message"),
    [
        (SOURCES, TARGETS[:3], {}, "4 sources and 3 targets"),
        (SOURCES, TARGETS, {"batch_size": 0}, "batch_size=0"),
        (SOURCES, TARGETS, {"batchsize": 2}, "batchsize is no option of generate"),
        (SOURCES, None, {"num_beam": 2}, "num_beam is no option of generate"),
        (SOURCES, None, {"max_new_tokens": 99}, "max_new_tokens=99"),
        (
            ["il pleut", "il \udcff", "il"],
            TARGETS[:3],
            {"batch_size": 1},
            r"sources\[1\] holds '\\udcff' at character 3",
        ),
        (SOURCES, ["it", "it", "\ud83d it", "it"], {"batch_size": 1}, r"targets\[2\] holds '\\ud83d' at character 0"),
        (SOURCES, TARGETS, {"by": "word"}, "by='word'.*'sublayer', 'token'"),
        (SOURCES, TARGETS, {"by": ()}, r"by=\(\)"),
        ([], None, {}, "sources is empty"),
        ("il pleut", None, {}, "sources is one string"),
        (SOURCES, "it rains", {}, "targets is one string"),
        # The index is that in the list given, however the sentences are sorted and cut into batches.
        ([*SOURCES, " "], [*TARGETS, "blank"], {"batch_size": 2}, r"sources\[4\] is ' '"),
        ([*SOURCES, "il"], [*TARGETS, ""], {"batch_size": 2}, r"targets\[4\] is ''"),
        (["il pleut", "la maison " * 30, "il dort"], None, {"batch_size": 2}, r"sources\[1\] has \d+ tokens"),
        (["il", "la maison"], ["it", "the house " * 30], {"batch_size": 1}, r"targets\[1\] has \d+ tokens"),
    ],
)
def test_bad_input_is_refused_before_anything_is_run(model, tokenizer, sources, targets, options, message):
    calls = []
    handle = model.register_forward_pre_hook(lambda *arguments: calls.append(1))
    try:
        with pytest.raises(InputError, match=message):
            addends.measure(model, tokenizer, sources, targets, progress=False, **options)
    finally:
        handle.remove()
    assert not calls


def test_unknown_methods_are_refused_before_anything_is_tokenized(model):
    def never(*_, **__):
        raise AssertionError("nothing is to be tokenized")

    for by in ("word", ["sublayer", "word"]):
        with pytest.raises(InputError, match="name at least one of"):
            addends.measure(model, never, SOURCES, TARGETS, by=by, progress=False)


def test_any_iterable_of_sentences_will_do(model, tokenizer, measured):
    index = [3, 1, 0, 2]  # the labels of a Series are not the positions of its sentences
    series = pd.Series(SOURCES, index=index), pd.Series(TARGETS, index=index)
    for sources, targets in (series, (iter(SOURCES), iter(TARGETS)), (tuple(SOURCES), np.array(TARGETS, dtype=object))):
        frame = addends.measure(model, tokenizer, sources, targets, progress=False)
        pd.testing.assert_frame_equal(frame, measured)


def test_a_method_named_twice_counts_once(model, tokenizer, measured):
    frame = addends.measure(
        model, tokenizer, SOURCES, TARGETS, by=["token", "sublayer", "token"], batch_size=3, progress=False
    )
    assert not frame.duplicated(KEY).any()
    pd.testing.assert_frame_equal(frame, measured, rtol=1e-5, atol=1e-6)


class Letters:
    """A tokenizer of a single stack: a letter a token, padded on the side given."""

    pad_token_id, eos_token_id = 1, 2

    def __init__(self, side):
        self.padding_side = side

    def __len__(self):
        return 40

    def __call__(self, texts):
        return {"input_ids": [[3 + ord(letter) % 30 for letter in text[:15]] for text in texts]}


@pytest.mark.parametrize(("name", "side"), [("bert", "right"), ("gpt2", "left"), ("gpt2", "right")])
def test_the_texts_of_a_single_stack_are_measured(name, side):
    model, letters = make(name), Letters(side)
    frame = addends.measure(model, letters, SOURCES, batch_size=3, progress=False)
    assert list(frame) == [*KEY, *INDICATORS, "tokens"]
    assert frame.groupby("by")["term"].unique().map(sorted).to_dict() == {"sublayer": [*"CFIT"], "token": [*"CT"]}
    assert not frame.duplicated(KEY).any()
    for index, text in enumerate(SOURCES):
        alone = measure_batch(model, addends.encode(model, letters, [text])).sort_values(["by", "layer", "term"])
        here = frame[frame["sentence"] == index]
        assert here["tokens"].unique().tolist() == [min(len(text), 15)]
        np.testing.assert_allclose(here[list(INDICATORS)], alone[list(INDICATORS)], rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="one stack only"):
        addends.measure(model, letters, SOURCES, TARGETS, progress=False)
    with pytest.raises(InputError, match=r"texts\[1\] is ''"):
        addends.measure(model, letters, ["il pleut", ""], progress=False)


def test_both_methods_share_one_pass_and_give_what_each_gives_alone(make_marian, tokenizer):
    model = make_marian()
    batch = addends.encode(model, tokenizer, SOURCES, TARGETS)
    passes = []
    measure_batch(model, batch)  # proves the model
    model.model.encoder.register_forward_hook(lambda *_given: passes.append("encoder"))
    model.model.decoder.register_forward_hook(lambda *_given: passes.append("decoder"))
    measure_batch(model, batch)  # hooks are new: proven again
    passes.clear()
    both = measure_batch(model, batch)
    assert passes == ["encoder", "decoder"]
    alone = [measure_batch(model, batch, method) for method in ("sublayer", "token")]
    pd.testing.assert_frame_equal(both, pd.concat(alone, ignore_index=True), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 32])
def test_the_sums_are_checked_on_the_first_batch(make_marian, tokenizer, batch_size, monkeypatch):
    model = make_marian()
    checked = []
    monkeypatch.setattr(parts, "check_sum", lambda *given: checked.append(given[3]))
    addends.measure(model, tokenizer, SOURCES, TARGETS, batch_size=batch_size, progress=False)
    assert checked == [0, 1, 2] * 2  # layers, by both methods
    monkeypatch.undo()
    model.model.decoder.layers[1].register_forward_hook(lambda _module, _inputs, output: output + 1)
    with pytest.raises(UnsupportedModelError, match="parts of layer 2"):
        addends.measure(model, tokenizer, SOURCES, TARGETS, batch_size=batch_size, progress=False)


def test_a_model_that_drops_units_is_refused(make_marian, tokenizer):
    with pytest.raises(AddendsError, match="eval"):
        addends.measure(make_marian().train(), tokenizer, SOURCES, TARGETS, progress=False)

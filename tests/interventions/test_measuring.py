"""A corpus's effects: the sentence means of what `intervene` says, however the sentences are batched."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import addends
from addends import tables
from addends.errors import InputError, UnsupportedModelError
from addends.interventions import (
    agreement_means,
    batches_of,
    beside_effects,
    intervene,
    mean_source_embedding,
    measure_agreement,
    measure_effects,
    measuring,
    part_removals,
    rank_agreement,
    source_attributions,
    source_floors,
    source_removals,
    take_means,
)
from tests.conftest import SOURCES, TARGETS
from tests.decomposition.small_models import make

KEY = ["sentence", "effect", "replace", "by", "layer", "term"]
VALUES = ["logprob", "logit", "share", "importance", "cosine", "norm_ratio"]
QUIET = {"progress": False}
COUNTS = {5: 8, 6: 3, 9: 1}


@pytest.fixture(scope="module")
def model(make_marian):
    return make_marian()


@pytest.fixture(scope="module")
def means(model, tokenizer):
    return take_means(model, batches_of(model, tokenizer, SOURCES, TARGETS, **QUIET), positions=4)


@pytest.fixture(scope="module")
def measured(model, tokenizer, means):
    return measure_effects(
        model, tokenizer, SOURCES, TARGETS, means, replace=["mean", "pooled", "zero"], batch_size=3, **QUIET
    )


def test_rows_are_those_of_the_table(measured, tmp_path):
    assert list(measured) == [*KEY, *VALUES, "tokens"]
    back = tables.read(tables.write(measured.assign(run="a"), tmp_path / "a.parquet", "interventions"), "interventions")
    assert len(back) == len(measured) == 4 * 3 * (5 + 6 + 3 + 3 * 3)
    assert (back["layer"].isna() == ((back["effect"] == "total") & (back["layer"].isna()))).all()
    assert back["layer"].isna().sum() == 4 * 3 * 3


@pytest.mark.parametrize("replace", ["mean", "pooled", "zero"])
@pytest.mark.parametrize("options", [{}, {"by": "token"}, {"sublayers": "each"}, {"effect": "total"}])
def test_numbers_are_sentence_means(model, tokenizer, means, measured, replace, options):
    given = None if replace == "zero" else means
    for index, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        batch = addends.encode(model, tokenizer, [source], [target])
        frame = intervene(model, batch, replace=replace, means=given, **options)
        frame = frame.merge(beside_effects(model, batch, **options))
        keys = ["effect", "by", "layer", "term"]
        expected = frame.groupby(keys, dropna=False)[VALUES].mean().reset_index()
        here = measured[(measured["sentence"] == index) & (measured["replace"] == replace)]
        joined = expected.merge(here, on=keys, suffixes=("", "_here"))
        assert len(joined) == len(expected)
        for name in VALUES:
            np.testing.assert_allclose(joined[f"{name}_here"], joined[name], rtol=1e-3, atol=2e-5)
        assert joined["tokens"].unique().tolist() == [int(batch.mask.sum())]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_batch_size_does_not_change_the_numbers(make_marian, tokenizer, batch_size):
    model = make_marian(dtype="float64")
    means = take_means(model, batches_of(model, tokenizer, SOURCES, TARGETS, **QUIET))
    whole, parted = (
        measure_effects(model, tokenizer, SOURCES, TARGETS, means, batch_size=size, **QUIET) for size in (3, batch_size)
    )
    pd.testing.assert_frame_equal(parted, whole, rtol=1e-6)


def test_no_sentence_is_left_without_another(model, tokenizer):
    frame = measure_effects(
        model, tokenizer, SOURCES, TARGETS, batch_size=3, replace="sentence", effect="total", **QUIET
    )
    assert sorted(frame["sentence"].unique()) == [0, 1, 2, 3]
    assert frame["replace"].unique().tolist() == ["sentence"]


def test_texts_of_a_single_stack_are_scored_by_their_next_tokens(tokenizer):
    model = make("llama", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, max_position_embeddings=60)
    frame = measure_effects(model, tokenizer, SOURCES, replace="zero", **QUIET)
    assert sorted(frame["term"].unique()) == ["C", "F", "F1", "F2", "I", "T", "T1", "T2"]
    lengths = [len(tokenizer(source)["input_ids"]) - 1 for source in SOURCES]
    assert frame.groupby("sentence")["tokens"].unique().map(list).tolist() == [[length] for length in lengths]


def test_texts_of_one_token_have_no_rows(tokenizer, monkeypatch):
    model = make("llama", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, max_position_embeddings=60)

    def encode(model, tokenizer, texts, targets):  # without an end symbol, of which decoder-only models have none
        batch = addends.encode(model, tokenizer, texts, targets)
        return addends.Batch(batch.input_ids[:, :1], batch.attention_mask[:, :1]) if texts == ["il pleut"] else batch

    monkeypatch.setattr(measuring, "encode", encode)
    frame = measure_effects(model, tokenizer, ["il pleut", "le chat dort"], replace="zero", batch_size=1, **QUIET)
    assert frame["sentence"].unique().tolist() == [1]
    with pytest.raises(InputError, match="No text has a token with a next one"):
        measure_effects(model, tokenizer, ["il pleut"], replace="zero", **QUIET)


def test_what_is_not_allowed_is_refused_in_words(model, tokenizer, means, make_marian):
    def ask(sources=SOURCES, targets=TARGETS, given=means, **options):
        return measure_effects(options.pop("of", model), tokenizer, sources, targets, given, **QUIET, **options)

    with pytest.raises(InputError, match="needs means="):
        ask(given=None)
    with pytest.raises(InputError, match="those of another model"):
        ask(of=make_marian(seed=1))
    with pytest.raises(InputError, match="at least two sentences"):
        ask(SOURCES[:1], TARGETS[:1], replace="sentence")
    with pytest.raises(InputError, match="needs by='sublayer'"):
        ask(effect="total", by="token")
    for name in ("effect", "by", "replace"):
        with pytest.raises(InputError, match=f"{name}='other'"):
            ask(**{name: "other"})
        with pytest.raises(InputError, match="names none"):
            ask(**{name: []})
    with pytest.raises(InputError, match="batch_size=0"):
        ask(batch_size=0)
    with pytest.raises(InputError, match="sources is empty"):
        ask([], [])
    with pytest.raises(InputError, match="one string"):
        ask("il pleut", "it rains")


def test_an_encoder_is_refused(tokenizer):
    with pytest.raises(UnsupportedModelError, match="no output head"):
        measure_effects(make("bert", vocab_size=len(tokenizer)), tokenizer, SOURCES, replace="zero", **QUIET)


# --- agreement of attributions with what taking a token away does ---


@pytest.fixture(scope="module")
def double(make_marian):
    return make_marian(dtype="float64")


@pytest.fixture(scope="module")
def mean(double, tokenizer):
    return mean_source_embedding(double, batches_of(double, tokenizer, SOURCES, TARGETS, **QUIET))


def test_agreement_is_that_of_each_sentence_however_they_are_batched(double, tokenizer, mean):
    found = measure_agreement(double, tokenizer, SOURCES, TARGETS, mean, COUNTS, batch_size=3, seed=4, **QUIET)
    columns = ["sentence", "method", "yardstick", "sense", "special_tokens", "agreement", "permuted", "rows", "kind"]
    assert list(found) == columns
    key = ["method", "yardstick", "sense", "special_tokens"]
    for index, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        batch = addends.encode(double, tokenizer, [source], [target])
        special = [int(batch.input_ids[0, -1])]  # the end
        said = [
            source_attributions(double, batch, special),
            source_floors(double, batch, COUNTS, 4, special),
            part_removals(double, batch, special),
        ]
        expected = rank_agreement(pd.concat(said), source_removals(double, batch, mean, special)).set_index(key)
        here = found[found["sentence"] == index].set_index(key).reindex(expected.index)
        assert (here["rows"] == expected["rows"]).all()
        # Ranks are the same as long as rounding puts no two tokens in another order: in float64 it does not.
        np.testing.assert_allclose(here["agreement"], expected["agreement"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(here["permuted"], expected["permuted"], rtol=0, atol=1e-9)


def test_the_yardsticks_are_shown_among_the_methods(double, tokenizer, mean):
    found = measure_agreement(double, tokenizer, SOURCES, TARGETS, mean, COUNTS, **QUIET)
    itself = found[found["method"] == "removal, " + found["yardstick"]]
    np.testing.assert_allclose(itself["agreement"], 1)
    kinds = found.groupby("kind")["method"].unique().map(sorted)
    assert kinds["removal"] == ["removal, embedding", "removal, mask", "removal, part"]
    assert kinds["floor"] == ["diagonal", "random", "rarity"]
    assert len(kinds["attribution"]) == 12
    assert set(kinds.index) == set(tables.KINDS)
    with pytest.raises(InputError, match="one stack only"):
        measure_agreement(make("gpt2"), tokenizer, SOURCES, TARGETS, mean, COUNTS, **QUIET)


def test_a_run_has_the_means_of_its_sentences_and_a_sentence_without_a_control_is_in_neither_mean(
    double, tokenizer, mean, tmp_path
):
    found = measure_agreement(double, tokenizer, SOURCES, TARGETS, mean, COUNTS, **QUIET)
    found.loc[found["sentence"] == 2, "permuted"] = np.nan
    means = agreement_means(found)
    tables.write(means.assign(run="a"), tmp_path / "a.parquet", "attributions")
    assert len(means) == 18 * 2 * 2 * 2
    of_one = found.query("method == 'alti' and yardstick == 'mask' and sense == 'size' and not special_tokens")
    of_one = of_one[of_one["sentence"] != 2]
    row = means.query("method == 'alti' and yardstick == 'mask' and sense == 'size' and not special_tokens").iloc[0]
    assert row["agreement"] == pytest.approx(of_one["agreement"].mean(), rel=1e-12)
    assert row["permuted"] == pytest.approx(of_one["permuted"].mean(), rel=1e-12)
    assert (row["rows"], row["sentences"], row["kind"]) == (of_one["rows"].sum(), len(of_one), "attribution")

"""The numbers are those of `decompose`; support is decided on the weights; what fails is a row that says why."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace

import pytest
import torch
from transformers import BertConfig, ErnieConfig, ErnieModel

import addends
from addends.decomposition import architecture_of, cancellation, encode_or_translate, preflight, require_supported
from addends.decomposition.exactness import BOUNDS
from addends.errors import InputError, UnsupportedModelError
from addends.runs.training import seeded
from addends.tables import METHODS
from tests.conftest import SOURCES, TARGETS
from tests.decomposition.small_models import make
from tests.rounding import allowed

FAMILIES = ("marian", "t5: gated", "mbart", "roberta", "gpt2", "llama: grouped queries", "gpt_neox")


def fitting(name, tokenizer, dtype=torch.float32, **options):
    """A small model of a family that embeds what the tokenizer knows, with room for its sentences."""
    room = {"n_positions" if name == "gpt2" else "max_position_embeddings": 60 + len(tokenizer)}
    symbols = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    return make(name, dtype, **room, **symbols, **options)


def checked(model, tokenizer, sources=SOURCES, **options):
    """The table by check. Every row has all columns; a row that fails says why."""
    table = preflight(model, tokenizer, sources, **options)
    assert list(table.columns) == ["check", "result", "passed", "detail", "value", "limit"]
    assert table["check"].is_unique
    assert table["check"].iloc[0] == "supported"
    assert (table.loc[table["passed"].eq(False).fillna(False), "detail"].str.len() > 20).all()
    return table.set_index("check")


@pytest.mark.parametrize("name", FAMILIES)
def test_the_numbers_are_those_of_decompose(name, tokenizer):
    model = fitting(name, tokenizer)
    pair = architecture_of(model.config).kind == "encoder-decoder"
    targets = TARGETS if pair else None
    table = checked(model, tokenizer, targets=targets)
    assert table.loc["supported", "result"] == "yes"
    assert table["passed"].dropna().all()
    assert name.partition(":")[0] in table.loc["family", "result"]
    for check, number in {"layers": 2, "dim": 32, "heads": 4, "sentences": 4}.items():
        assert table.loc[check, "result"] == str(number)
    assert table.loc["parameters", "value"] == model.num_parameters()
    batch = encode_or_translate(model, tokenizer, SOURCES, targets)
    for by in METHODS:
        parts = addends.decompose(model, batch, by=by)
        row = table.loc[f"exact by {by}, float32"]
        assert row["value"] == pytest.approx(parts.error())
        ratio = row["limit"] / BOUNDS[torch.float32]
        assert 1 <= ratio <= max(1, float(cancellation(parts.vectors, parts.states)[:, parts.mask].max())) * 1.000001
        assert 0 < table.loc[f"exact by {by}, float64", "value"] <= table.loc[f"exact by {by}, float64", "limit"] < 1e-9
        # All layers twice, copied and stacked, and the one that is being made.
        assert table.loc[f"MiB, parts by {by}", "value"] == pytest.approx(parts.vectors.nbytes / 2**20 * (2 + 1 / 3))
        assert table.loc[f"seconds, by {by}", "value"] > 0
    each = addends.decompose(model, batch, by="token", tokens="each")
    assert table.loc["MiB, parts by token, each", "value"] == pytest.approx(each.vectors.nbytes / 2**20 * (2 + 1 / 3))


def test_without_targets_a_translation_model_translates_with_the_options_given(make_marian, tokenizer):
    table = checked(make_marian(), tokenizer, translation={"max_new_tokens": 3})
    assert table.loc["supported", "result"] == "yes"
    source = max(len(ids) for ids in tokenizer(SOURCES)["input_ids"])
    assert table.loc["sentences", "value"] == source
    assert table.loc["sentences", "limit"] == 40


def test_the_model_is_left_as_it_is(tokenizer):
    model = fitting("bert", tokenizer, torch.bfloat16)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    checked(model, tokenizer)
    after = model.state_dict()
    assert all(
        torch.equal(weight, after[name]) and weight.dtype == after[name].dtype for name, weight in before.items()
    )
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


# --- support is decided in float64, on the model's own weights ---


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_decided_in_float64(dtype, tokenizer):
    table = checked(fitting("gpt2", tokenizer, dtype), tokenizer)
    short = str(dtype).removeprefix("torch.")
    for by in METHODS:
        assert 1e-5 < table.loc[f"exact by {by}, {short}", "value"] <= table.loc[f"exact by {by}, {short}", "limit"]
        assert table.loc[f"exact by {by}, float64", "value"] < 1e-12
    assert table.loc["supported", "result"] == "yes"


def test_a_model_in_float64_is_checked_once(tokenizer):
    table = checked(fitting("gpt2", tokenizer, torch.float64), tokenizer)
    assert [check for check in table.index if check.startswith("exact")] == [
        f"exact by {by}, float64" for by in METHODS
    ]


def test_a_fault_that_hides_in_rounding_is_found_in_float64(tokenizer):
    model = fitting("gpt2", tokenizer, torch.bfloat16)
    model.transformer.h[1].register_forward_hook(
        lambda _module, _inputs, output: output + 1e-4 * torch.linspace(0, 2, 32, dtype=output.dtype)
    )
    table = checked(model, tokenizer)
    for by in METHODS:
        assert table.loc[f"exact by {by}, bfloat16", "passed"]
        assert not table.loc[f"exact by {by}, float64", "passed"]
        assert "layer 2" in table.loc[f"exact by {by}, float64", "detail"]
    assert table.loc["supported", "result"] == "no"
    without = checked(model, tokenizer, float64=False)
    assert without.loc["exact by token, float64", "result"] == "not tried"
    assert "float64=True" in without.loc["exact by token, float64", "detail"]
    assert without.loc["exact by token, float64", "passed"] is not False
    assert without.loc["supported", "result"] == "yes"
    assert "decided in bfloat16" in without.loc["supported", "detail"]


def test_a_model_that_rounds_too_much_is_supported_but_not_in_its_own_type(tokenizer, monkeypatch):
    monkeypatch.setitem(BOUNDS, torch.bfloat16, 1e-5)
    table = checked(fitting("gpt2", tokenizer, torch.bfloat16), tokenizer)
    assert not table.loc["exact by sublayer, bfloat16", "passed"]
    assert table.loc["supported", "result"] == "yes"
    assert "decided in float64" in table.loc["supported", "detail"]
    assert "see the row 'exact by sublayer, bfloat16'" in table.loc["supported", "detail"]


def test_a_large_copy_is_made_only_when_asked_for(tokenizer, monkeypatch):
    monkeypatch.setattr(sys.modules[preflight.__module__], "LARGEST_COPY", 1000)
    model = fitting("bert", tokenizer)
    assert checked(model, tokenizer).loc["exact by sublayer, float64", "result"] == "not tried"
    asked = checked(model, tokenizer, float64=True)
    assert asked.loc["exact by sublayer, float64", "passed"]


def test_an_inexact_model_is_a_row_with_the_layer_and_the_gap(tokenizer):
    model = fitting("bert", tokenizer)
    model.encoder.layer[0].register_forward_hook(lambda _module, _inputs, output: 1.5 * output)
    table = checked(model, tokenizer)
    assert table.loc["supported", "result"] == "no"
    assert table.loc["supported", "detail"] == "See the row 'exact by sublayer, float64'."
    for by in METHODS:
        row = table.loc[f"exact by {by}, float32"]
        assert not row["passed"]
        assert "layer 1" in row["detail"]
        assert row["value"] > 0.1 > row["limit"]


@pytest.mark.parametrize("name", ["llama: grouped queries", "gpt2", "gpt_neox", "opt"])
def test_eager_attention_with_padding_on_the_left_is_supported(name, tokenizer):
    """In float64 transformers' eager softmax makes NaN of the rows of such padding."""
    model = fitting(name, tokenizer)
    model.set_attn_implementation("eager")
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.padding_side = "left"
    table = checked(model, tokenizer)
    assert table.loc["supported", "result"] == "yes"
    assert table["passed"].dropna().all()
    model, batch = model.double(), addends.encode(model, tokenizer, SOURCES)
    assert not batch.attention_mask[:, 0].all()
    for by in METHODS:
        parts = addends.decompose(model, batch, by=by)
        assert parts.error() <= 1e-12
        for sentence, text in enumerate(SOURCES):
            alone = addends.decompose(model, addends.encode(model, tokenizer, [text]), by=by)
            gap = parts.states[:, sentence, parts.mask[sentence]] - alone.states[:, 0]
            assert (gap.norm(dim=-1) / alone.states[:, 0].norm(dim=-1)).max() < 1e-5


# --- what fails earlier ---


def test_a_family_without_a_row_and_then_with_the_row_of_the_book(tokenizer, table):
    with seeded(0):
        config = ErnieConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            pad_token_id=tokenizer.pad_token_id,
        )
        model = ErnieModel(config).eval()
    table = checked(model, tokenizer)
    assert table.loc["supported", "result"] == table.loc["family", "result"] == "no"
    assert "addends.register" in table.loc["family", "detail"]
    assert table.loc["parameters", "value"] == model.num_parameters()
    addends.register(replace(architecture_of(BertConfig()), model_type="ernie"))
    table = checked(model, tokenizer)
    assert table.loc["supported", "result"] == "yes"
    parts = addends.decompose(model, addends.encode(model, tokenizer, SOURCES), by="token")
    assert parts.error() <= allowed(parts, longest_sum=64)


def test_a_row_with_a_wrong_path(tokenizer, table):
    row = architecture_of(BertConfig())
    addends.register(replace(row, stack=replace(row.stack, layers="encoder.blocks")), replace_existing=True)
    table = checked(fitting("bert", tokenizer), tokenizer)
    assert table.loc["supported", "result"] == table.loc["forward pass", "result"] == "no"
    assert "encoder.blocks" in table.loc["forward pass", "detail"]


@pytest.mark.parametrize(
    ("name", "sources", "targets", "said"),
    [
        ("gpt2", ["il pleut", " "], None, r"texts\[1\]"),
        ("gpt2", SOURCES, TARGETS, "one stack"),
        ("bart", SOURCES, TARGETS[:2], "4 sources and 2 targets"),
        ("bart", [" ".join(SOURCES * 20)], None, r"sources\[0\] has \d+ tokens"),
    ],
)
def test_sentences_that_cannot_be_read(name, sources, targets, said, tokenizer):
    table = checked(fitting(name, tokenizer), tokenizer, sources, targets=targets)
    assert table.loc["supported", "result"] == table.loc["sentences", "result"] == "no"
    assert table["detail"].str.contains(said, regex=True).any()


def test_a_model_in_training_mode(tokenizer):
    table = checked(fitting("bert", tokenizer).train(), tokenizer)
    assert table.loc["supported", "result"] == "no"
    assert "eval()" in table.loc["forward pass", "detail"]


def test_an_error_of_the_models_own_is_a_row_too(tokenizer):
    model = fitting("bert", tokenizer)

    def broken(_module, _inputs):
        raise ZeroDivisionError("by zero\nand more")

    model.encoder.layer[1].register_forward_pre_hook(broken)
    table = checked(model, tokenizer)
    assert table.loc["forward pass", "detail"].startswith("ZeroDivisionError: by zero. Does the model run")


# --- the batch of any model ---


def test_the_batch_of_any_model(make_marian, tokenizer):
    model = make_marian()
    own = encode_or_translate(model, tokenizer, SOURCES, max_new_tokens=4)
    assert torch.equal(own.labels, addends.translate(model, tokenizer, SOURCES, max_new_tokens=4).labels)
    given = encode_or_translate(model, tokenizer, SOURCES, TARGETS)
    assert torch.equal(given.labels, addends.encode(model, tokenizer, SOURCES, TARGETS).labels)
    bert = fitting("bert", tokenizer)
    texts = encode_or_translate(bert, tokenizer, SOURCES)
    assert torch.equal(texts.input_ids, addends.encode(bert, tokenizer, SOURCES).input_ids)
    with pytest.raises(InputError, match="one stack"):
        encode_or_translate(bert, tokenizer, SOURCES, TARGETS)


def test_a_supported_model_passes_and_another_is_refused_in_the_words_of_its_row(make_marian, tokenizer):
    model = make_marian()
    require_supported(preflight(model, tokenizer, SOURCES, TARGETS))
    too_long = preflight(model, tokenizer, ["le chat dort " * 60])
    why = too_long.set_index("check").loc["sentences", "detail"]
    with pytest.raises(UnsupportedModelError) as refused:
        require_supported(too_long)
    assert str(refused.value) == f"The pre-flight check says no: sentences: {why}"

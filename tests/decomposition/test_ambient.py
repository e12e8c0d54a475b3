"""What stands around a model changes no number, or is refused in one sentence; the model is left as it was."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import transformers as tr
from torch import nn

import addends
from addends.decomposition import (
    Architecture,
    Attention,
    FeedForward,
    Stack,
    cross_attention,
    logit_shares,
    preflight,
)
from addends.errors import AddendsError, InputError, ModelStateError, UnsupportedModelError
from tests.conftest import SOURCES
from tests.decomposition.small_models import NAMES, batch_for, make

BOTH = pytest.mark.parametrize("by", ["sublayer", "token"])


def settings(model):
    """All that a call might leave behind: hooks, modes, settings of every configuration."""
    configs = [module.config for module in model.modules() if hasattr(module, "config")]
    return (
        [(list(module._forward_hooks), list(module._forward_pre_hooks), module.training) for module in model.modules()],
        [sorted(vars(module)) for module in model.modules()],
        [(config._attn_implementation, config.to_dict()) for config in configs],
    )


# --- settings of the configuration ---


@pytest.mark.parametrize("name", NAMES)
@BOTH
def test_what_modules_return_by_the_configuration_changes_nothing(name, by):
    model = make(name)
    batch = batch_for(model)
    expected = addends.decompose(model, batch, by=by)
    model.config.return_dict = False
    model.config.output_hidden_states = True
    before = settings(model)
    found = addends.decompose(model, batch, by=by)
    assert found.terms == expected.terms
    assert torch.equal(found.vectors, expected.vectors)
    assert torch.equal(found.states, expected.states)
    assert settings(model) == before


@BOTH
@pytest.mark.parametrize("name", ["marian", "t5", "bert", "llama"])
def test_attentions_asked_for_by_the_configuration_change_nothing(name, by):
    model = make(name)
    model.set_attn_implementation("eager")
    batch = batch_for(model)
    expected = addends.decompose(model, batch, by=by)
    model.config.output_attentions = True
    assert torch.equal(addends.decompose(model, batch, by=by).vectors, expected.vectors)


@BOTH
def test_a_feed_forward_that_works_by_pieces_is_refused(by):
    model = make("bert", chunk_size_feed_forward=1)
    with pytest.raises(UnsupportedModelError, match=r"intermediate\.dense.*more than once.*chunk_size_feed_forward"):
        addends.decompose(model, batch_for(model), by=by)


@BOTH
@pytest.mark.parametrize("name", ["marian", "t5", "gpt2"])
def test_the_model_is_as_it_was_whatever_happens(name, by):
    model = make(name)
    model.config.return_dict = False
    batch = batch_for(model)
    before = settings(model)
    addends.decompose(model, batch, by=by)
    assert settings(model) == before
    head = model.get_output_embeddings()
    if model.base_model is not model:
        logit_shares(addends.decompose(model, batch, by=by), model, torch.arange(3))
        assert settings(model) == before

    def fails(*_):
        raise KeyError("in the middle")

    handle = model.base_model.get_submodule("h.1" if name == "gpt2" else "decoder").register_forward_hook(fails)
    broken = settings(model)
    with pytest.raises(KeyError, match="in the middle"):
        addends.decompose(model, batch, by=by)
    assert settings(model) == broken
    handle.remove()
    assert head is model.get_output_embeddings()
    assert settings(model) == before


@BOTH
def test_a_default_device_changes_nothing(by):
    model = make("marian")
    batch = batch_for(model)
    expected = addends.decompose(model, batch, by=by)
    shares = logit_shares(expected, model, torch.arange(4))
    fresh = make("marian")
    with torch.device("meta"):
        found = addends.decompose(fresh, batch, by=by)
        again = logit_shares(found, fresh, torch.arange(4, device="cpu"))
    assert torch.equal(found.vectors, expected.vectors)
    assert torch.equal(again, shares)


# --- threads ---


def test_two_threads_on_one_model_get_what_one_gets():
    model = make("marian", torch.float64)
    batches = [batch_for(model) for _ in range(3)]
    for number, batch in enumerate(batches):
        batch.input_ids[:] = batch.input_ids.roll(number, dims=0)
    expected = {
        by: [addends.decompose(model, batch, by=by).vectors for batch in batches] for by in ("sublayer", "token")
    }
    before = settings(model)

    def one(number):
        by = ("sublayer", "token")[number // 3 % 2]
        return torch.equal(addends.decompose(model, batches[number % 3], by=by).vectors, expected[by][number % 3])

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(one, range(60)))
    assert settings(model) == before


def test_two_threads_on_two_models_of_one_configuration_get_what_one_gets():
    first = make("llama", torch.float64)
    second = type(first)(first.config).double().eval()
    assert first.config is second.config
    models, batch, before = (first, second), batch_for(first), settings(first)
    expected = [addends.decompose(model, batch, by="token").vectors for model in models]
    inside, entered, done = threading.Event(), threading.Event(), threading.Event()

    def first_is_inside(*_):  # waits once for the other model's pass, which is to wait for the end of this one
        if not inside.is_set():
            inside.set()
            entered.wait(1)

    def second_is_inside(*_):
        entered.set()
        done.wait(10)

    with ThreadPoolExecutor(2) as pool:
        handles = [
            model.model.layers[0].mlp.act_fn.register_forward_hook(hook)
            for model, hook in zip(models, (first_is_inside, second_is_inside), strict=True)
        ]
        slow = pool.submit(addends.decompose, first, batch, by="token")
        slow.add_done_callback(lambda _: done.set())
        inside.wait(10)
        found = [slow, pool.submit(addends.decompose, second, batch, by="token")]
        found = [future.result() for future in found]
        for handle in handles:
            handle.remove()
    assert all(torch.equal(parts.vectors, one) for parts, one in zip(found, expected, strict=True))
    assert settings(first) == before


@pytest.mark.parametrize("name", ["marian", "t5", "gpt2"])
def test_a_pass_that_another_thread_makes_itself_is_neither_recorded_nor_changed(name):
    model = make(name, torch.float64)
    batch = batch_for(model)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "use_cache": False}
    if batch.decoder_input_ids is not None:
        inputs["decoder_input_ids"] = batch.decoder_input_ids
    with torch.no_grad():
        plain = model(**inputs).logits
    expected = addends.decompose(model, batch, by="token").vectors
    other, found = [], []

    def elsewhere(*_):
        if threading.current_thread() is threading.main_thread() and not other:
            other.append(True)

            def work():
                with torch.no_grad():
                    found.append(model(**inputs).logits)

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

    base = model.base_model
    layer = base.h[1] if name == "gpt2" else base.decoder.block[1] if name == "t5" else base.decoder.layers[1]
    handle = layer.register_forward_pre_hook(elsewhere)
    parts = addends.decompose(model, batch, by="token")
    handle.remove()
    torch.testing.assert_close(found[0], plain, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(parts.vectors, expected)


# --- what is refused ---


@pytest.mark.parametrize(
    "call",
    [
        lambda model, batch: addends.decompose(model, batch),
        lambda model, batch: addends.decompose(model, batch, by="token", through_encoder=True),
        cross_attention,
    ],
)
@pytest.mark.parametrize("kind", ["parallel", "compiled", "adapted", "autocast", "training", "nothing"])
def test_a_wrapped_model_is_refused_in_one_sentence_that_says_what_to_do(call, kind):
    model = make("marian")
    batch = batch_for(model)

    class Adapted(nn.Module):
        """As PEFT's models are: the model inside, and a way to merge."""

        def __init__(self):
            super().__init__()
            self.base_model, self.config = nn.ModuleDict({"model": model}), model.config

        def merge_and_unload(self):
            return model

    wrapped, error, message = {
        "parallel": (nn.DataParallel(model), UnsupportedModelError, r"DataParallel is a wrapper.*model\.module"),
        "compiled": (torch.compile(model), UnsupportedModelError, r"compiled by torch\.compile.*model\._orig_mod"),
        "adapted": (Adapted(), UnsupportedModelError, r"Adapted.*model\.merge_and_unload\(\)"),
        "autocast": (model, ModelStateError, r"autocast is on.*outside of the autocast block"),
        "training": (make("marian").train(), ModelStateError, r"model\.eval\(\)"),
        "nothing": (nn.Linear(2, 2), InputError, "model is a Linear; a transformers model"),
    }[kind]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind == "autocast"), pytest.raises(error, match=message):
        call(wrapped, batch)


def test_what_is_wrapped_inside_is_refused_too():
    model = make("marian")
    batch = batch_for(model)
    model.model.decoder.layers[1] = torch.compile(model.model.decoder.layers[1])
    with pytest.raises(UnsupportedModelError, match=r"'decoder\.layers\.1' is compiled"):
        addends.decompose(model, batch)
    model = make("marian")
    model.model.decoder.layers[0].fc1.base_layer = nn.Linear(2, 2).eval()
    with pytest.raises(UnsupportedModelError, match=r"'decoder\.layers\.0\.fc1' is a torch adapter.*merge_and_unload"):
        addends.decompose(model, batch)
    model = make("marian")
    model.model.encoder.layers[0].fc1.to("meta")
    with pytest.raises(ModelStateError, match=r"cpu and meta.*spread over devices or offloaded"):
        addends.decompose(model, batch)


def test_a_quantised_model_is_refused_as_such():
    model = make("marian")
    batch = batch_for(model)
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    for by in ("sublayer", "token"):
        with pytest.raises(
            UnsupportedModelError, match=r"(?s)'encoder\.layers.* quantised Linear.*without quantisation"
        ):
            addends.decompose(quantised, batch, by=by)
    model.is_quantized = True
    with pytest.raises(UnsupportedModelError, match=r"MarianMTModel is quantised.*without quantisation"):
        addends.decompose(model, batch)


def test_autocast_is_refused_by_logit_shares():
    model = make("gpt2")
    parts = addends.decompose(model, batch_for(model))
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(ModelStateError, match="autocast"):
        logit_shares(parts, model, torch.arange(3))


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_the_pre_flight_check_says_so_in_a_row(wrap, tokenizer):
    table = preflight(wrap(make("marian")), tokenizer, SOURCES).set_index("check")
    assert table.loc["supported", "result"] == "no"
    assert "Give the model" in table.loc["forward pass", "detail"]


def test_an_attention_that_calls_no_interface_is_refused_by_token_and_right_by_sublayer(bloom):
    parts = addends.decompose(bloom, batch_for(bloom), by="sublayer")
    assert parts.error() <= 1e-12
    with pytest.raises(UnsupportedModelError, match=r"attention BloomAttention does not.*by='sublayer'"):
        addends.decompose(bloom, batch_for(bloom), by="token")


@pytest.fixture
def bloom(table):
    own, query = "self_attention", "self_attention.query_key_value"
    sublayers = (
        Attention("T", "own", own, query, "self_attention.dense", "input_layernorm", rows="heads"),
        FeedForward("F", "mlp.dense_h_to_4h", "mlp.gelu_impl", "mlp.dense_4h_to_h", "post_attention_layernorm"),
    )
    stack = Stack("h", sublayers, "pre", embedding_norm="word_embeddings_layernorm", final_norm="ln_f")
    addends.register(Architecture("bloom", "AutoModelForCausalLM", stack, positions=None))
    return tr.BloomForCausalLM(tr.BloomConfig(vocab_size=40, hidden_size=32, n_layer=2, n_head=4)).double().eval()


def test_all_of_it_is_this_packages_own():
    assert issubclass(UnsupportedModelError, AddendsError)

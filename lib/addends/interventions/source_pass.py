"""Passes of an encoder-decoder's own code whose source is changed: its mask, or what its tokens' embeddings are.

What is replaced is the output of the encoder's embedding module, before positions are added and before the scale that
Marian and Pegasus multiply with. A hook does it, while the encoder runs and no longer: the decoder may share the
module. All hooks are of the thread that sets them, and are gone afterwards, even when an error passes through.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from addends.decomposition import Batch, architecture_of
from addends.decomposition.ambient import check_model, own_thread, undisturbed
from addends.decomposition.batch import inputs_of
from addends.decomposition.capture import goes_through_float32, recorded_weights, removed, run
from addends.decomposition.linear import widened
from addends.decomposition.logits import linear_head
from addends.errors import InputError, UnsupportedModelError
from addends.interventions.reading import Reading


def pair_reading(model: PreTrainedModel, batch: Batch) -> Reading:
    """The reading of a batch with labels by an encoder-decoder with a linear head; other models are refused in words.

    Raises
    ------
    InputError
        If the model has one stack only, model and batch do not fit, or the batch has no labels.
    UnsupportedModelError, ModelStateError
        As `logit_shares`.
    """
    check_pair(model)
    linear_head(model)
    reading = Reading(model, batch)
    inputs_of(reading.row, model, batch)
    _ = reading.rows  # raises, in words, where there is nothing to ask about
    return reading


def check_pair(model: PreTrainedModel) -> None:
    """Raise InputError unless the model has an encoder, whose tokens are the source."""
    check_model(model)
    row = architecture_of(model.config)
    if row.encoder is None:
        raise InputError(
            f"A {row.model_type} has one stack only, and no source to attribute to. Give an encoder-decoder; of single "
            "stacks, indicators(decompose(model, batch, by='token', tokens='each')) tells each input's part."
        )


def source_embeddings(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """What the encoder's embedding module gives for the source, of shape (sentence, source, dim)."""
    with torch.no_grad():
        return _embedding_module(model)(batch.input_ids)


def mean_source_embedding(model: PreTrainedModel, batches: Iterable[Batch]) -> torch.Tensor:
    """The mean, over all real source tokens of a corpus, of what the encoder's embedding module gives.

    Parameters
    ----------
    batches : iterable of Batch
        Such as ``batches_of(model, tokenizer, sources, targets)``.

    Returns
    -------
    Tensor of shape (dim,)
        Before the scale by which Marian and Pegasus multiply embeddings: that of a mean is the mean of the scaled.

    Raises
    ------
    InputError
        If there is no source token, or the model is no encoder-decoder.
    """
    check_pair(model)
    total, count, like = torch.zeros((), dtype=torch.float64), 0, None
    for batch in batches:
        found = source_embeddings(model, batch)[batch.attention_mask.bool()]  # (token, dim)
        total, count, like = total + found.double().sum(dim=0).cpu(), count + len(found), found
    if like is None or not count:
        raise InputError("No batch has a source token: give mean_source_embedding sentences to take the mean over.")
    return (total / count).to(like)


def last_states(
    reading: Reading, embedded: torch.Tensor | None = None, attention_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """The decoder's states after its last layer, past any final norm, when the source is changed.

    The caller's gradient mode holds: with it on, the states can be differentiated by ``embedded``.

    Parameters
    ----------
    embedded : Tensor of shape (sentence, source, dim), optional
        In place of what the encoder's embedding module gives.
    attention_mask : Tensor of shape (sentence, source), optional
        In place of the batch's: for the encoder's self-attention and for the cross-attention.

    Returns
    -------
    Tensor of shape (sentence, position, dim)

    Raises
    ------
    UnsupportedModelError
        If the encoder does not call its embedding module.
    """
    model, row = reading.model, reading.row
    base = model.base_model
    caught: list[torch.Tensor] = []
    inside: list[bool] = []
    replaced: list[bool] = []
    inputs = inputs_of(row, model, reading.batch)
    if attention_mask is not None:
        inputs["attention_mask"] = attention_mask

    def give(_module: nn.Module, _inputs: tuple, _output: Any) -> Any:
        if not inside:
            return None
        replaced.append(True)
        return embedded

    with contextlib.ExitStack() as stack:
        stack.enter_context(undisturbed(base))
        if goes_through_float32(base, model.dtype):
            stack.enter_context(recorded_weights(base, {}))
        if embedded is not None:
            encoder = _encoder(model)
            for handle in (
                encoder.register_forward_pre_hook(own_thread(lambda *_: inside.append(True))),
                encoder.register_forward_hook(own_thread(lambda *_: inside.clear())),
                _embedding_module(model).register_forward_hook(own_thread(give)),
            ):
                stack.enter_context(removed(handle))
        whole = base.get_submodule(row.stack.layers.rpartition(".")[0])
        catch = own_thread(lambda _module, _inputs, output: caught.append(output["last_hidden_state"]))
        stack.enter_context(removed(whole.register_forward_hook(catch)))
        run(stack, base, inputs)
    if embedded is not None and len(replaced) != 1:
        raise UnsupportedModelError(
            f"The encoder of this {type(model).__name__} calls its embedding module {len(replaced)} times in one pass; "
            "once is wanted, so that a token's embedding can be replaced."
        )
    return widened(caught[-1])


def special_sources(reading: Reading, special_ids: Sequence[int] | None) -> torch.Tensor:
    """Which source tokens are special, of shape (sentence, source): those that the configuration names, or these."""
    if special_ids is None:
        config = reading.model.config
        given = [getattr(config, f"{name}_token_id", None) for name in ("bos", "eos", "pad", "sep", "decoder_start")]
        special_ids = [one for each in given for one in (each if isinstance(each, list) else [each]) if one is not None]
    ids = reading.batch.input_ids
    return torch.isin(ids, ids.new_tensor(sorted(special_ids)))


def _encoder(model: PreTrainedModel) -> nn.Module:
    stack = architecture_of(model.config).encoder
    assert stack is not None  # check_pair has seen to it
    return model.base_model.get_submodule(stack.layers.rpartition(".")[0])


def _embedding_module(model: PreTrainedModel) -> nn.Module:
    encoder: Any = _encoder(model)
    return encoder.get_input_embeddings()

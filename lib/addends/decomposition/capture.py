"""One forward pass of the model's own code, recording what each sublayer of a stack read and wrote.

Nothing is recomputed: hooks read the model's own tensors. They are removed, and the attention implementation is put
back, even when an error passes through.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from addends.decomposition.architectures import Architecture, Attention, FeedForward, Stack, architecture_of
from addends.decomposition.attention import recorded_weights
from addends.decomposition.batches import Batch
from addends.decomposition.loading import check_finite
from addends.decomposition.norms import Norm
from addends.errors import InputError, ModelStateError


@dataclass
class Sublayer:
    """What one sublayer did in this pass; tensors are of shape (sentence, position, dim) unless said otherwise.

    ``written``: its output, biases included. ``preactivation`` and ``gate``: of a feed-forward, what its first map and
    its gate gave, of shape (sentence, position, inner). ``weights``: of an attention, of shape (sentence, head,
    position, read position); recorded on request.
    """

    place: Attention | FeedForward
    modules: dict[str, nn.Module]
    norm: Norm
    written: torch.Tensor = None
    preactivation: torch.Tensor | None = None
    gate: torch.Tensor | None = None
    weights: torch.Tensor | None = None


@dataclass
class StackRecord:
    """A stack in this pass: what its first layer read, its layers' sublayers in order, and the states it gave.

    ``states`` are transformers' own hidden_states: the first layer's input, then each layer's output, the last one
    past the final norm where there is one.
    """

    stack: Stack
    embedding_norm: Norm | None = None
    final_norm: Norm | None = None
    layers: list[list[Sublayer]] = field(default_factory=list)
    states: list[torch.Tensor] = field(default_factory=list)


@dataclass
class Capture:
    """A forward pass: the decomposed stack and, of an encoder-decoder, its encoder's record or states alone."""

    row: Architecture
    main: StackRecord
    encoder: StackRecord | None = None
    encoder_states: torch.Tensor | None = None


def capture(model, batch: Batch, attention_weights: bool = False, encoder: bool = False) -> Capture:
    """Run the base model (never the output head) once and record it.

    Raises
    ------
    UnsupportedModelError
        If the architectures table has no row for the model.
    ModelStateError
        If dropout is switched on, or a state comes out NaN or infinite (the first bad parameter is named).
    InputError
        If model and batch are on different devices, or the batch lacks the decoder side that the model needs.
    """
    row = architecture_of(model.config)
    base = model.base_model
    if base.training:
        raise ModelStateError(
            "The model is in training mode: dropout would change every state. Call model.eval() first."
        )
    if batch.input_ids.device != model.device:
        raise InputError(
            f"The batch is on {batch.input_ids.device}, the model on {model.device}. Call batch.to(model.device)."
        )
    with contextlib.ExitStack() as stack:
        record = Capture(row, _hook_stack(stack, base, row.stack))
        if encoder and row.encoder is not None:
            record.encoder = _hook_stack(stack, base, row.encoder)
        if attention_weights:
            records = [record.main, *([record.encoder] if record.encoder else [])]
            attentions = [sub for each in records for layer in each.layers for sub in layer if "module" in sub.modules]
            stack.enter_context(recorded_weights(base, {sub.modules["module"]: sub for sub in attentions}))
        stack.enter_context(torch.no_grad())
        output = base(**_inputs(row, batch))
    record.encoder_states = getattr(output, "encoder_last_hidden_state", None)
    for each in (record.main, record.encoder):
        if each is not None:
            _finish(each)
    if not torch.isfinite(record.main.states[-1][batch.mask]).all():
        check_finite(model)
        raise ModelStateError(
            "A state is NaN or infinite though every weight is finite: the dtype "
            f"{model.dtype} is too narrow for this model. Load it with dtype='float32'."
        )
    return record


def _finish(record: StackRecord) -> None:
    """Put the last state past the final norm, and what was recorded by row back into sentences and positions."""
    if record.final_norm is not None:
        record.states[-1] = record.final_norm.gave
    sentences = record.states[0].shape[:2]
    for sublayer in (sublayer for layer in record.layers for sublayer in layer):
        for holder, name in (
            *((sublayer, name) for name in ("written", "preactivation", "gate")),
            *((sublayer.norm, name) for name in ("read", "gave")),
        ):
            tensor = getattr(holder, name)
            if tensor is not None and tensor.ndim == 2:  # OPT: (sentence * position, dim)
                setattr(holder, name, tensor.unflatten(0, sentences))


def _inputs(row: Architecture, batch: Batch) -> dict:
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if row.kind == "encoder-decoder":
        if batch.decoder_input_ids is None:
            raise InputError(
                "The batch has no decoder_input_ids. Make it with encode(model, tokenizer, sources, targets)."
            )
        return {**inputs, "decoder_input_ids": batch.decoder_input_ids, "use_cache": False}
    if batch.decoder_input_ids is not None:
        raise InputError(
            f"The batch has decoder_input_ids, but a {row.model_type} has one stack only. Make it with "
            "encode(model, tokenizer, texts)."
        )
    if batch.position_ids is not None:
        inputs["position_ids"] = batch.position_ids
    return {**inputs, "use_cache": False} if row.kind == "decoder" else inputs


def _hook_stack(stack: contextlib.ExitStack, base: nn.Module, place: Stack) -> StackRecord:
    """Register the hooks of a stack and return the record that they fill."""
    record = StackRecord(place)
    layers = base.get_submodule(place.layers)
    for layer in layers:
        record.layers.append([_hook_sublayer(stack, layer, sublayer) for sublayer in place.sublayers])
        _on_output(stack, layer, record.states.append)
    if place.embedding_norm:
        record.embedding_norm = _hook_norm(stack, base.get_submodule(place.embedding_norm))
    if place.final_norm:
        record.final_norm = _hook_norm(stack, base.get_submodule(place.final_norm))

    def first_input(_module, inputs, keywords):
        record.states.append(inputs[0] if inputs else keywords["hidden_states"])

    stack.enter_context(_removed(layers[0].register_forward_pre_hook(first_input, with_kwargs=True)))
    return record


def _hook_sublayer(stack: contextlib.ExitStack, layer: nn.Module, place: Attention | FeedForward) -> Sublayer:
    attention = isinstance(place, Attention)
    names = ("module", "value", "output") if attention else ("first", "activation", "second", "gate")
    modules = {name: layer.get_submodule(getattr(place, name)) for name in names if getattr(place, name)}
    record = Sublayer(place, modules, _hook_norm(stack, layer.get_submodule(place.norm)))
    _on_output(stack, modules["output" if attention else "second"], lambda out: setattr(record, "written", out))
    if not attention:
        _on_output(stack, modules["first"], lambda out: setattr(record, "preactivation", out))
    if "gate" in modules:
        _on_output(stack, modules["gate"], lambda out: setattr(record, "gate", out))
    return record


def _hook_norm(stack: contextlib.ExitStack, module: nn.Module) -> Norm:
    record = Norm(module)

    def hook(_module, inputs, output):
        record.read, record.gave = inputs[0], output

    stack.enter_context(_removed(module.register_forward_hook(hook)))
    return record


def _on_output(stack: contextlib.ExitStack, module: nn.Module, sink) -> None:
    """Pass a module's output on to ``sink``; some modules return it alone, some first in a tuple."""
    hook = module.register_forward_hook(lambda _m, _i, out: sink(out[0] if isinstance(out, tuple) else out))
    stack.enter_context(_removed(hook))


@contextlib.contextmanager
def _removed(handle) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()

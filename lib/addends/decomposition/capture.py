"""One forward pass of the model's own code, recording what each sublayer of the decoder wrote.

Nothing is recomputed: hooks read the model's own tensors. They are removed, and the attention implementation is put
back, even when an error passes through.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from addends.decomposition.architectures import Architecture, Attention, architecture_of
from addends.decomposition.batches import Batch
from addends.decomposition.loading import check_finite
from addends.errors import InputError, ModelStateError


@dataclass
class Sublayer:
    """What one sublayer did in this pass; tensors are of shape (sentence, position, dim) unless said otherwise.

    ``written``: its output, biases included. ``before_norm``: what its norm read. ``preactivation``: of a
    feed-forward, of shape (sentence, position, inner). ``weights``: of an attention, of shape (sentence, head,
    position, read position); recorded on request.
    """

    modules: dict[str, nn.Module]
    written: torch.Tensor = None
    before_norm: torch.Tensor = None
    preactivation: torch.Tensor | None = None
    weights: torch.Tensor | None = None


@dataclass
class Capture:
    """A forward pass: the first layer's input, then each layer's sublayers and output, in order."""

    row: Architecture
    initial: torch.Tensor = None
    encoder_states: torch.Tensor | None = None
    layers: list[list[Sublayer]] = field(default_factory=list)
    states: list[torch.Tensor] = field(default_factory=list)


def capture(model, batch: Batch, attention_weights: bool = False) -> Capture:
    """Run the base model (never the output head) once and record its decoder.

    Raises
    ------
    UnsupportedModelError
        If the architectures table has no row for the model.
    ModelStateError
        If dropout is switched on, or a state comes out NaN or infinite (the first bad parameter is named).
    InputError
        If model and batch are on different devices, or the batch has no decoder side.
    """
    row = architecture_of(model.config)
    base = model.base_model
    if base.training:
        raise ModelStateError(
            "The model is in training mode: dropout would change every state. Call model.eval() first."
        )
    if batch.decoder_input_ids is None:
        raise InputError("The batch has no decoder_input_ids. Make it with encode(model, tokenizer, sources, targets).")
    if batch.input_ids.device != model.device:
        raise InputError(
            f"The batch is on {batch.input_ids.device}, the model on {model.device}. Call batch.to(model.device)."
        )
    decoder = base.get_submodule(row.decoder)
    record = Capture(row)
    with contextlib.ExitStack() as stack:
        layers = decoder.get_submodule(row.layers)
        for layer in layers:
            record.layers.append([_hook(stack, layer, sublayer) for sublayer in row.sublayers])
            stack.enter_context(_removed(layer.register_forward_hook(_keep(record.states.append))))
        first = layers[0].register_forward_pre_hook(_keep_first_input(record), with_kwargs=True)
        stack.enter_context(_removed(first))
        if attention_weights:
            stack.enter_context(_recorded_attention(base, record))
        stack.enter_context(torch.no_grad())
        output = base(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            decoder_input_ids=batch.decoder_input_ids,
            use_cache=False,
        )
    record.encoder_states = output.encoder_last_hidden_state
    if not torch.isfinite(record.states[-1][batch.mask]).all():
        check_finite(model)
        raise ModelStateError(
            "A decoder state is NaN or infinite though every weight is finite: the dtype "
            f"{model.dtype} is too narrow for this model. Load it with dtype='float32'."
        )
    return record


def _hook(stack: contextlib.ExitStack, layer: nn.Module, sublayer) -> Sublayer:
    """Register the hooks of one sublayer and return the record that they fill."""
    names = ("module", "value", "output") if isinstance(sublayer, Attention) else ("first", "activation", "second")
    record = Sublayer({name: layer.get_submodule(getattr(sublayer, name)) for name in (*names, "norm")})

    def written(_module, _inputs, output):
        record.written = output

    def before_norm(_module, inputs):
        record.before_norm = inputs[0]

    def preactivation(_module, _inputs, output):
        record.preactivation = output

    last = record.modules["output" if isinstance(sublayer, Attention) else "second"]
    stack.enter_context(_removed(last.register_forward_hook(written)))
    stack.enter_context(_removed(record.modules["norm"].register_forward_pre_hook(before_norm)))
    if "first" in record.modules:
        stack.enter_context(_removed(record.modules["first"].register_forward_hook(preactivation)))
    return record


def _keep(sink):
    """A forward hook that passes a layer's output state on to ``sink``; layers return a tensor or a tuple."""
    return lambda _module, _inputs, output: sink(output[0] if isinstance(output, tuple) else output)


def _keep_first_input(record: Capture):
    def hook(_module, inputs, keywords):
        record.initial = inputs[0] if inputs else keywords["hidden_states"]
        record.states.insert(0, record.initial)

    return hook


@contextlib.contextmanager
def _removed(handle) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


# --- attention weights -----------------------------------------------------------------------------------------------
# transformers looks attention up by name at each call. A name of our own, which computes the weights in the open and
# hands them to the capture that is active, gets them from any model whose implementation hides them (sdpa, flash),
# with its own masks and scaling.

_NAME = "addends_recorded"
_ACTIVE: ContextVar[dict[nn.Module, Sublayer] | None] = ContextVar("addends_active_capture", default=None)


def _attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **_):
    """softmax(q k' * scaling + mask) v, recording the softmax. Query, key, value: (sentence, head, position, dim)."""
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = query @ key.transpose(2, 3) * scaling  # (sentence, head, position, read position)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(dim=-1)
    sublayer = (_ACTIVE.get() or {}).get(module)
    if sublayer is not None:
        sublayer.weights = weights
    return (weights @ value).transpose(1, 2).contiguous(), weights  # (sentence, position, head, dim)


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, eager_mask)


@contextlib.contextmanager
def _recorded_attention(base: nn.Module, record: Capture) -> Iterator[None]:
    """Within the block the base model computes its attention by `_attention`; its configuration is restored after."""
    configs = {id(m.config): m.config for m in base.modules() if hasattr(m, "config")}.values()
    before = [(config, config._attn_implementation) for config in configs]
    token = _ACTIVE.set(
        {sub.modules["module"]: sub for layer in record.layers for sub in layer if "module" in sub.modules}
    )
    try:
        for config, _ in before:
            config._attn_implementation = _NAME
        yield
    finally:
        _ACTIVE.reset(token)
        for config, name in before:
            config._attn_implementation = name

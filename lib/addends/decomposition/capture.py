"""One forward pass of the model's own code, recording what each sublayer of a stack read and wrote.

Hooks read the model's own tensors; what a model in half precision wrote is kept in float32. They are removed, and the
attention implementation is put back, even when an error passes through. What is recorded is proven in
`addends.decomposition.proofs`.

Attention weights, where they are asked for, need an attention computed in the open. transformers looks attention up by
name at each call. A name of our own gets the weights from any model (sdpa, flash), with its own masks, scaling,
relative positions and grouped queries: in such a pass attention is computed by this module instead of the model's own
implementation, and states differ from its by rounding. The model's configuration says its own name again as soon as
the pass is over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.hooks import RemovableHandle
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask

from addends.decomposition.ambient import configs_of, own_thread, undisturbed
from addends.decomposition.architecture import Architecture, Attention, FeedForward, Stack
from addends.decomposition.architectures import architecture_of
from addends.decomposition.batch import Batch, inputs_of
from addends.decomposition.linear import HALF, widened
from addends.decomposition.loading import check_finite
from addends.decomposition.norms import Norm
from addends.decomposition.record import AttentionSublayer, Capture, FeedForwardSublayer, StackRecord, Sublayer
from addends.errors import ModelStateError, UnsupportedModelError


def capture(
    model: PreTrainedModel, batch: Batch, attention_weights: bool = False, encoder: bool = False, inner: bool = True
) -> Capture:
    """Run the base model (never the output head) once and record it.

    Without ``inner``, what stands between a sublayer's two maps (``mixed``, ``preactivation``, ``gate``) is not kept.

    Raises
    ------
    UnsupportedModelError
        If the architectures table has no row for the model, or its row names modules that the model lacks or does
        not call.
    ModelStateError
        If a state comes out NaN or infinite (the first bad parameter is named), or the device cannot compute in the
        model's half precision.
    InputError
        If model and batch do not fit: see `addends.decomposition.batch.inputs_of`.
    """
    row = architecture_of(model.config)
    base = model.base_model
    inputs = inputs_of(row, model, batch)
    with undisturbed(base), torch.no_grad():
        record = _recorded(base, row, inputs, attention_weights, encoder, inner)
        if not _finite(record, batch) and not attention_weights and goes_through_float32(base, model.dtype):
            record = _recorded(base, row, inputs, attention_weights, encoder, inner, in_the_open=True)
    if not _finite(record, batch):
        check_finite(model)
        wider = {torch.float32: "float64", torch.float64: None}.get(model.dtype, "float32")
        advice = f"Load it with dtype={wider!r}." if wider else "No wider type is left: look at its inputs and hooks."
        raise ModelStateError(
            f"A state is NaN or infinite though every weight is finite: the dtype {model.dtype} is too narrow for this "
            f"model, or an attention has nothing to read. {advice}"
        )
    return record


def goes_through_float32(base: nn.Module, dtype: torch.dtype) -> bool:
    """Whether transformers' eager attention computes a float64 model's softmax in float32.

    There a mask's lowest number of float64 is -inf, and a row that is masked altogether, such as padding on the left,
    is NaN and spreads. Attention computed by torch's kernel has no such rows.
    """
    return dtype == torch.float64 and any(config._attn_implementation == "eager" for config in configs_of(base))


def _finite(record: Capture, batch: Batch) -> bool:
    return bool(torch.isfinite(record.main.states[-1][batch.mask]).all())


def _recorded(
    base: nn.Module,
    row: Architecture,
    inputs: dict[str, Any],
    attention_weights: bool,
    encoder: bool,
    inner: bool,
    in_the_open: bool = False,
) -> Capture:
    """One pass with hooks; ``in_the_open`` computes attention as with ``attention_weights``, and keeps no weights."""
    with contextlib.ExitStack() as stack:
        hooks = _Hooks(stack, base, inner)
        record = Capture(row, hooks.on_stack(row.stack))
        if encoder and row.encoder is not None:
            record.encoder = hooks.on_stack(row.encoder)
        attentions = {sub.modules["module"]: sub for sub in record.sublayers if isinstance(sub, AttentionSublayer)}
        kept = attentions if attention_weights else {}
        if attention_weights or in_the_open:
            stack.enter_context(recorded_weights(base, kept))
        output = run(stack, base, inputs)
    hooks.check_called()
    states = getattr(output, "encoder_last_hidden_state", None)
    record.encoder_states = None if states is None else widened(states)
    for each in (record.main, record.encoder):
        if each is not None:
            _finish(each)
    silent = [type(module).__name__ for module, sub in kept.items() if not hasattr(sub, "weights")]
    if silent:
        raise UnsupportedModelError(
            f"The attention {silent[0]} does not attend through transformers' attention interface, so that its weights "
            "cannot be had: by token this model is not supported. decompose(..., by='sublayer') needs no weights, and "
            "works."
        )
    return record


def run(stack: contextlib.ExitStack, base: Any, inputs: dict[str, Any]) -> Any:
    """The base model's output; its head, where it has one (T5's class), gets no row to work on."""
    head = base.get_output_embeddings()
    if head is not None:
        silent = own_thread(lambda _module, inputs: (inputs[0][:, :0],))
        stack.enter_context(removed(head.register_forward_pre_hook(silent)))
    try:
        return base(**inputs)
    except RuntimeError as error:
        if "not implemented for" not in str(error) or base.dtype not in HALF:
            raise
        raise ModelStateError(
            f"The device {base.device} cannot run this model in {base.dtype} ({error}). Load it with dtype='float32'."
        ) from error


def _finish(record: StackRecord) -> None:
    """Widen what was recorded, bring it back into sentences and positions, put the last state past the final norm."""
    if record.final_norm is not None:
        record.states[-1] = record.final_norm.gave
    record.states = [widened(state) for state in record.states]
    sentences = record.states[0].shape[:2]
    norms = [norm for norm in (record.embedding_norm, record.final_norm) if norm is not None]
    for holder in (*norms, *record.sublayers, *(sublayer.norm for sublayer in record.sublayers)):
        for name, tensor in list(vars(holder).items()):
            if isinstance(tensor, torch.Tensor):  # two dimensions: OPT's (sentence * position, dim)
                tensor = widened(tensor)
                setattr(holder, name, tensor.unflatten(0, sentences) if tensor.ndim == 2 else tensor)


# --- hooks ---


class _Hooks:
    """The hooks of one pass, and the modules that the row names and the pass has not called yet."""

    def __init__(self, stack: contextlib.ExitStack, base: nn.Module, inner: bool) -> None:
        self.stack, self.base, self.inner = stack, base, inner
        self.waiting: dict[object, str] = {}

    def on_stack(self, place: Stack) -> StackRecord:
        """Register the hooks of a stack and return the record that they fill."""
        record = StackRecord(place)
        for name in ("embedding_norm", "final_norm"):
            path = getattr(place, name)
            if path:
                self.on_norm(self.base, path, f"{name}={path!r}", record, name)
        layers: Any = _submodule(self.base, place.layers)  # a ModuleList
        for number, layer in enumerate(layers):
            record.layers.append([self.on_sublayer(layer, sublayer, number) for sublayer in place.sublayers])
            _on_output(self.stack, layer, record.states.append)

        def first_input(_module: nn.Module, inputs: tuple, keywords: dict) -> None:
            record.states.append(inputs[0] if inputs else keywords["hidden_states"])

        self.stack.enter_context(
            removed(layers[0].register_forward_pre_hook(own_thread(first_input), with_kwargs=True))
        )
        return record

    def on_sublayer(self, layer: nn.Module, place: Attention | FeedForward, number: int) -> Sublayer:
        attention = isinstance(place, Attention)
        names = ("module", "value", "output") if attention else ("first", "activation", "second", "gate")
        modules = {name: _submodule(layer, getattr(place, name)) for name in names if getattr(place, name)}
        record: Sublayer
        if isinstance(place, Attention):
            record, gives = AttentionSublayer(place, modules), {"output": "written"}
        else:
            record = FeedForwardSublayer(place, modules)
            gives = {"second": "written", "first": "preactivation", "gate": "gate"}
        for name, attribute in gives.items():
            if name in modules:
                wanted = self.inner or attribute == "written"
                self.on_map(modules[name], place, name, number, record, attribute if wanted else None)
        if attention and self.inner:
            hook = own_thread(lambda _module, inputs: setattr(record, "mixed", inputs[0]))
            self.stack.enter_context(removed(modules["output"].register_forward_pre_hook(hook)))
        self.on_norm(layer, place.norm, f"norm={place.norm!r} of layer {number}", record, "norm")
        return record

    def on_map(
        self,
        module: nn.Module,
        place: Attention | FeedForward,
        name: str,
        number: int,
        record: Sublayer,
        attribute: str | None,
    ) -> None:
        path = getattr(place, name)
        called = self.once(module, path, f"{name}={path!r} of layer {number}")

        def sink(output: torch.Tensor) -> None:
            called()
            if attribute is not None:
                setattr(record, attribute, output)

        _on_output(self.stack, module, sink)

    def on_norm(self, parent: nn.Module, path: str, what: str, record: StackRecord | Sublayer, attribute: str) -> None:
        module = _submodule(parent, path)
        called = self.once(module, path, what)

        def hook(_module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            called()
            setattr(record, attribute, Norm(module, inputs[0], output, output.dtype))

        self.stack.enter_context(removed(module.register_forward_hook(own_thread(hook))))

    def once(self, module: nn.Module, path: str, what: str) -> Callable[[], None]:
        """Wait for a call of a module; what is returned says that it came, and refuses a second one."""
        key = object()
        self.waiting[key] = what

        def called() -> None:
            if self.waiting.pop(key, None) is None:  # what the module did at its first call would be lost
                raise UnsupportedModelError(
                    f"The module {path!r} ({type(module).__name__}) is called more than once in one pass, by pieces or "
                    "by layers that share it, which is not supported. If the configuration has "
                    "chunk_size_feed_forward, set it to 0."
                )

        return called

    def check_called(self) -> None:
        """Raise UnsupportedModelError unless every module that the row names was called, by naming the first."""
        for what in self.waiting.values():
            raise UnsupportedModelError(
                f"The row of the architectures table names {what}, which this model did not call: correct the path "
                "(addends.register(row, replace_existing=True))."
            )


def _submodule(parent: nn.Module, path: str) -> nn.Module:
    try:
        return parent.get_submodule(path)
    except AttributeError as error:
        raise UnsupportedModelError(
            f"The row of the architectures table names the module {path!r}, which a {type(parent).__name__} of this "
            "model lacks: correct the path (addends.register(row, replace_existing=True))."
        ) from error


def _on_output(stack: contextlib.ExitStack, module: nn.Module, sink: Callable[[torch.Tensor], object]) -> None:
    """Pass a module's output on to ``sink``; some modules return it alone, some first in a tuple."""

    def hook(_module: nn.Module, _inputs: tuple, output: Any) -> None:
        sink(output[0] if isinstance(output, tuple) else output)

    stack.enter_context(removed(module.register_forward_hook(own_thread(hook))))


@contextlib.contextmanager
def removed(handle: RemovableHandle) -> Iterator[None]:
    """Remove a hook at the end of the block, whatever happens in it."""
    try:
        yield
    finally:
        handle.remove()


# --- attention in the open ---

_NAME = "addends_recorded"
_ACTIVE: ContextVar[Mapping[nn.Module, AttentionSublayer] | None] = ContextVar("addends_active_capture", default=None)

# Keywords of an attention call that change nothing here: masks carry causality, windows and packing already, and there
# is no cache and no dropout in evaluation.
_HARMLESS = {
    "is_causal",
    "sliding_window",
    "position_ids",
    "cache_position",
    "use_cache",
    "deterministic",
    "output_attentions",
    "output_hidden_states",
}


@contextlib.contextmanager
def recorded_weights(base: nn.Module, records: Mapping[nn.Module, AttentionSublayer]) -> Iterator[None]:
    """Within the block, each module of ``records`` writes its weights to its record's attribute ``weights``.

    ``records`` maps attention modules to records; other modules attend by torch's own kernel. Weights are of shape
    (sentence, head, position, read position). A pass that another thread makes in the meantime attends as transformers
    does with sdpa.

    Raises
    ------
    UnsupportedModelError
        By a pass within the block, if an attention is called with a keyword that would change its weights and is not
        known (sinks, say): the message names it.
    """
    before = [(config, config._attn_implementation) for config in configs_of(base)]
    token = _ACTIVE.set(records)
    try:
        for config, _ in before:
            config._attn_implementation = _NAME
        yield
    finally:
        _ACTIVE.reset(token)
        for config, name in before:
            config._attn_implementation = name


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_bias: torch.Tensor | None = None,
    softcap: float | None = None,
    **keywords: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """softmax(cap(q k' * scaling + bias) + mask) v, recording the softmax. q, k, v: (sentence, head, position, dim).

    cap(x) = softcap * tanh(x / softcap), where there is a ``softcap``.
    """
    records = _ACTIVE.get()
    if records is None:  # another thread's pass
        given = {"scaling": scaling, "dropout": dropout, "position_bias": position_bias, "softcap": softcap, **keywords}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **given)
    unknown = [name for name, given in keywords.items() if given is not None and name not in _HARMLESS]
    if unknown:
        raise UnsupportedModelError(
            f"The attention {type(module).__name__} is called with {unknown[0]!r}, which changes its weights in a way "
            "that addends does not know: by token it is not supported. decompose(..., by='sublayer') needs no weights."
        )
    groups = query.shape[1] // key.shape[1]  # grouped queries: several heads read the same keys and values
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    record = records.get(module)
    if record is None and softcap is None:  # weights that nobody reads (an encoder's): the faster kernel
        bias = attention_mask
        if position_bias is not None:
            bias = position_bias if bias is None else position_bias + bias
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scaling)
        return mixed.transpose(1, 2).contiguous(), None  # (sentence, position, head, dim)
    # Half precision is widened: neither long products nor masked scores, the lowest numbers there are, may overflow.
    scores = (widened(query) @ widened(key).transpose(2, 3)).mul_(scaling)  # (sentence, head, position, read position)
    if position_bias is not None:
        scores.add_(widened(position_bias))
    if softcap is not None:
        scores = (scores / softcap).tanh_().mul_(softcap)
    if attention_mask is not None:
        scores.add_(widened(attention_mask))
    weights = scores.softmax(dim=-1).to(value.dtype)
    if record is not None:
        record.weights = weights
    return (weights @ value).transpose(1, 2).contiguous(), weights  # (sentence, position, head, dim)


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, eager_mask)

"""One forward pass of the model's own code, recording what each sublayer of a stack read and wrote.

Hooks read the model's own tensors; what a model in half precision wrote is kept in float32. Attention weights, where
they are asked for, cost an attention computed in the open (`addends.decomposition.attention`), so that states then
differ by rounding from the default implementation's. Hooks are removed, and the attention implementation is put back,
even when an error passes through. What is recorded is proven in `addends.decomposition.proofs`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from addends.decomposition.ambient import configs_of, own_thread, undisturbed
from addends.decomposition.architectures import Architecture, Attention, FeedForward, Stack, architecture_of
from addends.decomposition.attention import recorded_weights
from addends.decomposition.batches import Batch
from addends.decomposition.inputs import inputs_of
from addends.decomposition.loading import check_finite
from addends.decomposition.norms import Norm
from addends.decomposition.weights import widened
from addends.errors import ModelStateError, UnsupportedModelError


@dataclass
class Sublayer:
    """What one sublayer did in this pass; tensors are of shape (sentence, position, dim) unless said otherwise.

    ``written``: its output, biases included. ``mixed``: of an attention, what its output map read, the heads side by
    side, of shape (sentence, position, head * inner). ``preactivation`` and ``gate``: of a feed-forward, what its first
    map and its gate gave, of shape (sentence, position, inner). ``weights``: of an attention, of shape (sentence, head,
    position, read position); recorded on request. ``called``: which of its modules the pass went through.
    """

    place: Attention | FeedForward
    modules: dict[str, nn.Module]
    norm: Norm
    written: torch.Tensor = None
    mixed: torch.Tensor | None = None
    preactivation: torch.Tensor | None = None
    gate: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    called: set[str] = field(default_factory=set)


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


def capture(model, batch: Batch, attention_weights: bool = False, encoder: bool = False, inner: bool = True) -> Capture:
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
        If model and batch do not fit: see `addends.decomposition.inputs`.
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
    inputs: dict,
    attention_weights: bool,
    encoder: bool,
    inner: bool,
    in_the_open: bool = False,
) -> Capture:
    """One pass with hooks; ``in_the_open`` computes attention as with ``attention_weights``, and keeps no weights."""
    with contextlib.ExitStack() as stack:
        record = Capture(row, _hook_stack(stack, base, row.stack, inner))
        if encoder and row.encoder is not None:
            record.encoder = _hook_stack(stack, base, row.encoder, inner)
        kept = {}
        if attention_weights:
            kept = {sub.modules["module"]: sub for sub in sublayers_of(record) if "module" in sub.modules}
        if attention_weights or in_the_open:
            stack.enter_context(recorded_weights(base, kept))
        output = run(stack, base, inputs)
    record.encoder_states = widened(getattr(output, "encoder_last_hidden_state", None))
    for each in (record.main, record.encoder):
        if each is not None:
            _finish(each)
    silent = [type(module).__name__ for module, sub in kept.items() if sub.weights is None]
    if silent:
        raise UnsupportedModelError(
            f"The attention {silent[0]} does not attend through transformers' attention interface, so that its weights "
            "cannot be had: by token this model is not supported. decompose(..., by='sublayer') needs no weights, and "
            "works."
        )
    return record


def run(stack: contextlib.ExitStack, base: nn.Module, inputs: dict):
    """The base model's output; its head, where it has one (T5's class), gets no row to work on."""
    head = base.get_output_embeddings()
    if head is not None:
        silent = own_thread(lambda _module, inputs: (inputs[0][:, :0],))
        stack.enter_context(removed(head.register_forward_pre_hook(silent)))
    try:
        return base(**inputs)
    except RuntimeError as error:
        if "not implemented for" not in str(error) or base.dtype not in (torch.float16, torch.bfloat16):
            raise
        raise ModelStateError(
            f"The device {base.device} cannot run this model in {base.dtype} ({error}). Load it with dtype='float32'."
        ) from error


def sublayers_of(record: Capture) -> list[Sublayer]:
    """Every sublayer of the recorded stacks, the decomposed stack's first."""
    stacks = [each for each in (record.main, record.encoder) if each is not None]
    return [sublayer for each in stacks for layer in each.layers for sublayer in layer]


def _finish(record: StackRecord) -> None:
    """Widen what was recorded, bring it back into sentences and positions, put the last state past the final norm."""
    _check_called(record)
    if record.final_norm is not None:
        record.states[-1] = record.final_norm.gave
    record.states = [widened(state) for state in record.states]
    sentences = record.states[0].shape[:2]
    recorded = [(norm, name) for norm in (record.embedding_norm, record.final_norm) for name in ("read", "gave")]
    for sublayer in (sublayer for layer in record.layers for sublayer in layer):
        recorded += [(sublayer, name) for name in ("written", "mixed", "preactivation", "gate", "weights")]
        recorded += [(sublayer.norm, name) for name in ("read", "gave")]
    for holder, name in recorded:
        tensor = widened(getattr(holder, name, None))
        if tensor is not None:  # two dimensions: OPT's (sentence * position, dim)
            setattr(holder, name, tensor.unflatten(0, sentences) if tensor.ndim == 2 else tensor)


def _check_called(record: StackRecord) -> None:
    """Raise UnsupportedModelError unless every module that the row names was called, by naming the first."""
    norms = {"embedding_norm": record.embedding_norm, "final_norm": record.final_norm}
    silent = [f"{name}={getattr(record.stack, name)!r}" for name, norm in norms.items() if norm and norm.read is None]
    for number, layer in enumerate(record.layers):
        for sublayer in layer:
            place = sublayer.place
            wanted = ["output"] if isinstance(place, Attention) else ["second", "first"]
            wanted += ["gate"] if "gate" in sublayer.modules else []
            uncalled = [name for name in wanted if name not in sublayer.called]
            uncalled += ["norm"] if sublayer.norm.read is None else []
            silent += [f"{name}={getattr(place, name)!r} of layer {number}" for name in uncalled]
    if silent:
        raise UnsupportedModelError(
            f"The row of the architectures table names {silent[0]}, which this model did not call: correct the path "
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


def _hook_stack(stack: contextlib.ExitStack, base: nn.Module, place: Stack, inner: bool) -> StackRecord:
    """Register the hooks of a stack and return the record that they fill."""
    record = StackRecord(place)
    layers = _submodule(base, place.layers)
    for layer in layers:
        record.layers.append([_hook_sublayer(stack, layer, sublayer, inner) for sublayer in place.sublayers])
        _on_output(stack, layer, record.states.append)
    if place.embedding_norm:
        record.embedding_norm = _hook_norm(stack, base, place.embedding_norm)
    if place.final_norm:
        record.final_norm = _hook_norm(stack, base, place.final_norm)

    def first_input(_module, inputs, keywords):
        record.states.append(inputs[0] if inputs else keywords["hidden_states"])

    stack.enter_context(removed(layers[0].register_forward_pre_hook(own_thread(first_input), with_kwargs=True)))
    return record


def _hook_sublayer(
    stack: contextlib.ExitStack, layer: nn.Module, place: Attention | FeedForward, inner: bool
) -> Sublayer:
    attention = isinstance(place, Attention)
    names = ("module", "value", "output") if attention else ("first", "activation", "second", "gate")
    modules = {name: _submodule(layer, getattr(place, name)) for name in names if getattr(place, name)}
    record = Sublayer(place, modules, _hook_norm(stack, layer, place.norm))

    def keep(name: str, attribute: str, wanted: bool = True):
        def sink(output):
            _check_first(name in record.called, modules[name], getattr(place, name))
            record.called.add(name)
            if wanted:
                setattr(record, attribute, output)

        _on_output(stack, modules[name], sink)

    keep("output" if attention else "second", "written")
    if attention and inner:
        hook = own_thread(lambda _module, inputs: setattr(record, "mixed", inputs[0]))
        stack.enter_context(removed(modules["output"].register_forward_pre_hook(hook)))
    if not attention:
        keep("first", "preactivation", inner)
    if "gate" in modules:
        keep("gate", "gate", inner)
    return record


def _hook_norm(stack: contextlib.ExitStack, parent: nn.Module, path: str) -> Norm:
    module = _submodule(parent, path)
    record = Norm(module)

    def hook(_module, inputs, output):
        _check_first(record.read is not None, module, path)
        record.read, record.gave, record.dtype = inputs[0], output, output.dtype

    stack.enter_context(removed(module.register_forward_hook(own_thread(hook))))
    return record


def _check_first(called: bool, module: nn.Module, path: str) -> None:
    """Raise UnsupportedModelError at a module's second call in one pass: what it did in the first would be lost."""
    if called:
        raise UnsupportedModelError(
            f"The module {path!r} ({type(module).__name__}) is called more than once in one pass, by pieces or by "
            "layers that share it, which is not supported. If the configuration has chunk_size_feed_forward, set it to "
            "0."
        )


def _on_output(stack: contextlib.ExitStack, module: nn.Module, sink) -> None:
    """Pass a module's output on to ``sink``; some modules return it alone, some first in a tuple."""
    hook = own_thread(lambda _module, _inputs, out: sink(out[0] if isinstance(out, tuple) else out))
    stack.enter_context(removed(module.register_forward_hook(hook)))


@contextlib.contextmanager
def removed(handle) -> Iterator[None]:
    """Remove a hook at the end of the block, whatever happens in it."""
    try:
        yield
    finally:
        handle.remove()

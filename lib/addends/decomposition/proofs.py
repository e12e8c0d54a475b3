"""Proofs, on a model's own weights, that it is what the method takes it for. Each of them can fail.

Sums alone prove little. A gain that is read off what a norm gave makes any sum exact. What a sublayer wrote is taken as
it was written. States that are recorded in a pass with attention computed in the open are those of that pass. So six
things are proven once for a model, before anything is said of it:

    states       those recorded equal transformers' own hidden_states, the last one included, of a plain pass
    maps         a value map, an output map, a second map gives W x + b for the x that it reads in a pass
    constants    with the same value c at every position an attention mixes exactly c, so that W_O b_V + b_O is constant
    activations  each number changes with its own pre-activation alone, at the slope that is used
    norms        the formula, on vectors that no pass has seen: `addends.decomposition.norms.form_of`
    sums         at every layer and real token of every batch that is checked: `addends.decomposition.exactness`

A proof holds until a weight, a hook, the row, the type or the attention implementation changes, and for sentences up to
the next power of two in length: a window or a sparse pattern shows in sentences longer than it.

The proofs do not see what a model does to other sentences than those it was proven on: a branch, or an expert that none
of their tokens was sent to. They do not see faults smaller than the bounds below, nor weights that were written through
``.data`` since. By sublayer they do not see a hook that was there at the proof and did nothing then.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import PreTrainedModel

from addends.decomposition.ambient import check_model, configs_of, own_thread, undisturbed
from addends.decomposition.architecture import Architecture
from addends.decomposition.architectures import architecture_of
from addends.decomposition.batch import Batch, inputs_of
from addends.decomposition.capture import capture, goes_through_float32, removed, run
from addends.decomposition.linear import HALF, fingerprint, linear_map, own_noise, rounding, stored_map, widened
from addends.decomposition.record import AttentionSublayer, Capture, FeedForwardSublayer, StackRecord, Sublayer
from addends.errors import UnsupportedModelError

# How far a state may be off a plain pass's, relative to its length: rounding of many layers, in another order. Float64
# goes through float32 in transformers' own norms and softmax. Half precision rounds every step, and layers make that
# grow: there each layer is given the plain pass's own state, and one layer's rounding counts, 16 unit roundoffs twice.
STATE_BOUNDS = {torch.float64: 1e-5, torch.float32: 1e-4}
STATE_BOUNDS |= {dtype: 16 * torch.finfo(dtype).eps for dtype in HALF}

_ROWS = 64  # as many of the vectors that a map reads are enough to see what it is
_ADVICE = (
    "The model computes something that its row of the architectures table does not know of (a hook, an adapter, a "
    "changed layer, a wrong path). Undo the change, or correct the row (addends.register(row, replace_existing=True))."
)

# For each base model, what has been proven under which circumstances, and for sentences of up to which length.
_PROVEN: WeakKeyDictionary[nn.Module, dict[tuple, tuple[tuple, int]]] = WeakKeyDictionary()


def proven_capture(
    model: PreTrainedModel, batch: Batch, attention_weights: bool = False, encoder: bool = False, inner: bool = True
) -> Capture:
    """`capture`, of a model that has been proven: the first time this takes two more passes.

    A batch without a real token proves nothing, and leaves the proof to the next.

    Raises
    ------
    UnsupportedModelError
        If something is not what the method takes it for: the message names it and says how far it is off. And as
        `capture`.
    ModelStateError, InputError
        As `capture`.
    """
    check_model(model)
    base = model.base_model
    with undisturbed(base), torch.no_grad():
        record = capture(model, batch, attention_weights, encoder, inner)
        if not batch.mask.any():  # nothing to prove it on: a later batch will, and whoever checks sums refuses this one
            return record
        attends = tuple(config._attn_implementation for config in configs_of(base))
        circumstances = (record.row, attention_weights, encoder, inner, attends)
        proven = _PROVEN.setdefault(base, {})
        now, length = fingerprint(base), max(batch.input_ids.shape[1], batch.mask.shape[1])
        before, longest = proven.get(circumstances, (None, 0))
        if before != now or length > longest:
            _prove_states(model, batch, record, attention_weights)
            # In that attention rows that read nothing are NaN: one sentence alone has none.
            _prove_maps(model, _longest(batch) if goes_through_float32(base, model.dtype) else batch, record)
            if inner:
                _prove_activations(record, batch)
            proven[circumstances] = (now, 1 << (length - 1).bit_length())
    return record


# --- states ---


def _prove_states(model: PreTrainedModel, batch: Batch, record: Capture, attention_weights: bool) -> None:
    """Raise unless the recorded states are those of a plain pass: no hook of ours, the user's attention.

    Where the model's forward does not know output_hidden_states, the last state alone is compared.
    """
    output = _plain(model, batch)
    if goes_through_float32(model.base_model, model.dtype) and not _finite(output, batch):
        batch = _longest(batch)
        record = capture(model, batch, attention_weights=True, encoder=record.encoder is not None)
        output = _plain(model, batch)
    if attention_weights and model.dtype in HALF:
        with contextlib.ExitStack() as stack:
            _give_states(stack, model.base_model, record.row, output)
            record = capture(model, batch, attention_weights=True, encoder=record.encoder is not None)
    pair = record.row.kind == "encoder-decoder"
    own = getattr(output, "decoder_hidden_states" if pair else "hidden_states", None)
    last = getattr(output, "last_hidden_state", None)
    _compare(model, record.main, own, last, batch.mask)
    if record.encoder_states is not None:
        mask = batch.attention_mask.bool()
        last = output.encoder_last_hidden_state
        if record.encoder is not None:
            _compare(model, record.encoder, output.encoder_hidden_states, last, mask)
        _check_state(model, record.encoder_states, last, mask, "The encoder's last state")


def _give_states(stack: contextlib.ExitStack, base: nn.Module, row: Architecture, output: Any) -> None:
    """Let each layer read the state that the plain pass gave before it, where the output has them."""
    named = {"hidden_states": row.stack}
    if row.encoder is not None:
        named = {"decoder_hidden_states": row.stack, "encoder_hidden_states": row.encoder}
    for name, place in named.items():
        states = getattr(output, name, None) or ()
        layers: Any = base.get_submodule(place.layers)  # a ModuleList
        for layer, state in zip(layers, states, strict=False):

            def give(_module: nn.Module, inputs: tuple, keywords: dict, state: torch.Tensor = state) -> tuple:
                return ((state, *inputs[1:]), keywords) if inputs else (inputs, {**keywords, "hidden_states": state})

            stack.enter_context(removed(layer.register_forward_pre_hook(own_thread(give), with_kwargs=True)))


def _plain(model: PreTrainedModel, batch: Batch) -> Any:
    """What the base model returns, its states included, when it is called as the user calls it, without output head."""
    base = model.base_model
    inputs = inputs_of(architecture_of(model.config), model, batch)
    parameters = inspect.signature(base.forward).parameters
    if "output_hidden_states" in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        inputs["output_hidden_states"] = True
    with contextlib.ExitStack() as stack:
        return run(stack, base, inputs)


def _finite(output: Any, batch: Batch) -> bool:
    states = getattr(output, "decoder_hidden_states", None) or getattr(output, "hidden_states", None)
    last = output.last_hidden_state if not states else states[-1]
    return bool(torch.isfinite(last[batch.mask]).all())


def _longest(batch: Batch) -> Batch:
    """The batch of its longest sentence alone, without padding on the side that has the attention mask."""
    return batch.sentence(int(batch.attention_mask.sum(dim=1).argmax()), padded=False)


def _compare(
    model: PreTrainedModel,
    record: StackRecord,
    own: Sequence[torch.Tensor] | None,
    last: torch.Tensor | None,
    mask: torch.Tensor,
) -> None:
    states = list(record.states)
    if record.stack.projection:
        projection: Any = model.base_model.get_submodule(record.stack.projection)
        states[-1] = widened(projection(states[-1].to(projection.weight.dtype)))
    if own is not None:
        if len(own) != len(states):
            raise UnsupportedModelError(
                f"The model gives {len(own)} hidden states, its row's layers {record.stack.layers!r} give "
                f"{len(states)}. {_ADVICE}"
            )
        for number, (state, expected) in enumerate(zip(states, own, strict=True)):
            _check_state(model, state, expected, mask, f"State {number}")
    if last is not None:
        _check_state(model, states[-1], last, mask, "The last state")


def _check_state(
    model: PreTrainedModel, state: torch.Tensor, expected: torch.Tensor, mask: torch.Tensor, what: str
) -> None:
    expected = widened(expected)
    bound = STATE_BOUNDS.get(model.dtype, STATE_BOUNDS[torch.float32])
    gap = _gap(state, expected)[mask].max() if state.shape == expected.shape else torch.tensor(torch.inf)
    if not gap <= bound:  # a NaN is off too
        raise UnsupportedModelError(
            f"{what} is not that of a plain pass of this {model.config.model_type} model: it is off by "
            f"{float(gap):.1e} (relative), where {model.dtype} allows {bound:.0e}. {_ADVICE}"
        )


def _gap(found: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """||found - expected|| / ||expected||, 0 where both are equal; over the last axis."""
    gap = torch.linalg.vector_norm(found - expected, dim=-1)
    return torch.where(gap == 0, gap, gap / torch.linalg.vector_norm(expected, dim=-1))


# --- maps and constants ---


def _prove_maps(model: PreTrainedModel, batch: Batch, record: Capture) -> None:
    """Raise unless the maps of every sublayer are what their weights say, in a pass of its own.

    In this pass an attention with a value bias is given the same value at every position, c = b_V + noise. Its output
    map then reads c exactly if two things hold: its weights sum to one, and its heads lie side by side as the method
    takes them.
    """
    stacks = ((record.main, batch.mask), (record.encoder, batch.attention_mask.bool()))
    with contextlib.ExitStack() as stack:
        for each, mask in stacks:
            for number, layer in enumerate(each.layers if each else (), start=1):
                for sublayer in layer:
                    for name in sublayer.modules.keys() & {"first", "gate", "second", "output", "value"}:
                        _watch(stack, sublayer, name, number, mask)
        run(stack, model.base_model, inputs_of(record.row, model, batch))


def _watch(stack: contextlib.ExitStack, sublayer: Sublayer, name: str, number: int, mask: torch.Tensor) -> None:
    """Check a map while it is called; of a value map, replace the values and check what the output map reads."""
    module, path = sublayer.modules[name], f"{getattr(sublayer.place, name)!r} of layer {number}"
    output_path = getattr(sublayer.place, "output", None)
    same: list[torch.Tensor] = []  # the value that every position was given, as the query heads read it

    def called(module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor | None:
        _check_map(module, path, inputs[0], output)
        if name != "value" or not isinstance(sublayer, AttentionSublayer):
            return None
        bias = stored_map(module).bias
        if bias is None:
            return None
        values = sublayer.value_rows(widened(bias))  # (value head * inner,)
        values = (values + own_noise(tuple(values.shape), values)).to(output.dtype)
        same[:] = [sublayer.by_query_head(values)]  # (head * inner,)
        places = sublayer.value_rows(torch.arange(output.shape[-1], device=output.device))
        return output.index_copy(-1, places, values.expand(*output.shape[:-1], -1))

    def read(_module: nn.Module, inputs: tuple) -> None:
        for expected in same:
            mixed = inputs[0].reshape(*mask.shape, -1)[mask]  # (token, head * inner)
            bound = rounding(mixed.dtype)
            gap = _gap(widened(mixed), widened(expected).expand(mixed.shape)).max()
            if not gap <= bound:
                raise UnsupportedModelError(
                    f"The attention {type(sublayer.modules['module']).__name__} does not mix what its value map "
                    f"{path} gives with weights that sum to 1: where that is the same at every position, "
                    f"{output_path!r} reads another vector, off by {float(gap):.1e} (relative; "
                    f"{bound:.0e} is allowed), and the map's bias is no constant. {_ADVICE}"
                )

    stack.enter_context(removed(module.register_forward_hook(own_thread(called))))
    if name == "value":
        stack.enter_context(removed(sublayer.modules["output"].register_forward_pre_hook(own_thread(read))))


def _check_map(module: nn.Module, path: str, read: torch.Tensor, gave: torch.Tensor) -> None:
    """Raise unless a module gave W x + b for some of the x that it read."""
    weight, bias = linear_map(module)
    read, gave = (each.reshape(-1, each.shape[-1]) for each in (read, gave))
    every = slice(None, None, max(1, len(read) // _ROWS))
    kept = torch.isfinite(read[every]).all(dim=-1)
    read, gave = (widened(each[every][kept]) for each in (read, gave))
    product = nn.functional.linear(read.to(weight.dtype), weight)
    size = torch.linalg.vector_norm(product, dim=-1)
    if bias is not None:
        product, size = product + bias, size + torch.linalg.vector_norm(bias)
    gap = torch.linalg.vector_norm(gave - product, dim=-1)
    gap = torch.where(gap == 0, gap, gap / size)
    bound = rounding(stored_map(module).weight.dtype)
    if not (gap <= bound).all():
        raise UnsupportedModelError(
            f"The module {path} ({type(module).__name__}) does not give W x + b of its own weights: it is off by "
            f"{float(gap.nan_to_num(torch.inf).max()):.1e} (relative), where {bound:.0e} is allowed. {_ADVICE}"
        )


# --- activations ---


def _prove_activations(record: Capture, batch: Batch) -> None:
    """Raise unless every activation acts on each number by itself, and its slope is its derivative.

    The slope by differences over a small step lies between the slopes at its ends, with room for its rounding.
    """
    seen: set[int] = set()
    for sublayer in record.sublayers:
        if not isinstance(sublayer, FeedForwardSublayer) or id(sublayer.modules["activation"]) in seen:
            continue
        seen.add(id(sublayer.modules["activation"]))
        z = sublayer.preactivation if sublayer.gate is None else sublayer.gate
        z = z.flatten(0, -2)
        z = z[torch.isfinite(z).all(dim=-1)][:8]  # (token, inner)
        value, slope = sublayer.value_and_slope(z)
        noise = own_noise(tuple(z.shape), z)
        others = noise > 0
        disturbed, _ = sublayer.value_and_slope(torch.where(others, z + noise, z))
        step = 1e-2 * (1 + z.abs())
        ends = [sublayer.value_and_slope(z + sign * step) for sign in (-1, 1)]
        difference = (ends[1][0] - ends[0][0]) / (2 * step)
        slopes = torch.stack([slope, ends[0][1], ends[1][1]])
        room = 1e-2 * (1 + slopes.abs().amax(dim=0))
        between = (difference >= slopes.amin(dim=0) - room) & (difference <= slopes.amax(dim=0) + room)
        alone = torch.isclose(value, disturbed, rtol=1e-5, atol=1e-6) | others
        if not (between.all() and alone.all()):
            what = "has another slope than its values show" if alone.all() else "does not act on each number by itself"
            name = f"{type(sublayer.modules['activation']).__name__} ({sublayer.place.activation!r})"
            raise UnsupportedModelError(
                f"The activation {name} {what}, so that its tangent is not known: by token this model is not "
                "supported. decompose(..., by='sublayer') needs no tangent."
            )

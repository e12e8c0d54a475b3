"""Method 2, by token: every state is the sum of what came from the source, from the target, and from nowhere.

    e = s + t + c

T starts as the first layer's input (in front of an embedding norm, where there is one). A stack without an encoder has
no S. The terms travel THROUGH the sublayers, which are made linear around this pass: attention weights A are held
fixed, so that W_O A W_V applies to each term; cross-attention adds the encoder states' share to S; a feed-forward is
replaced by its tangent at its pre-activation z,

    W_2 f(W_1 x + b_1) + b_2  =  sum_k W_2 (f'(z) * W_1 x_k)  +  W_2 (f(z) - f'(z) * (z - b_1)) + b_2,

whose last part, like every bias, goes to C. Of a gated feed-forward, with gate g = W_g x + b_g and u = W_1 x + b_1,

    gate="frozen"    f(g) * u  =  sum_k f(g) * W_1 x_k  +  f(g) * b_1
    gate="tangent"   f(g) * u  =  sum_k (f(g) * W_1 x_k + f'(g) u * W_g x_k)  +  f(g) * b_1 - f'(g) u * (g - b_g).

With the tangent, parts grow and cancel with depth: read errors against sum_k |x_k| / |e|. All terms are propagated
independently; none is had by subtraction.

References
----------
Oh & Schuler (2023), Token-wise Decomposition of Autoregressive Language Model Hidden States, ACL, equations 4-13.
Mickus & Vázquez (2023), Why bother with geometry?, BlackboxNLP, section 2.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn.functional import linear

from addends.decomposition.architectures import Attention
from addends.decomposition.capture import Capture, Sublayer
from addends.decomposition.sublayers import constant_output
from addends.decomposition.weights import linear_map, value_map
from addends.errors import InputError

GATES = ("frozen", "tangent")


def check_gate(gate: str) -> None:
    """Raise InputError unless ``gate`` is allowed."""
    if gate not in GATES:
        raise InputError(f"gate={gate!r} is not one of {GATES}.")


def terms_of(record: Capture) -> tuple[str, ...]:
    """S, T and C; T and C of a stack without an encoder."""
    return ("S", "T", "C") if record.encoder_states is not None else ("T", "C")


def propagate(record: Capture, centering: str, gate: str = "frozen") -> Iterator[torch.Tensor]:
    """Yield the terms layer by layer, from layer 0 (the first layer's input). Needs captured attention weights.

    Yields
    ------
    Tensor of shape (term, sentence, position, dim)
        The next layer's terms may be made in the same memory: copy what is to be kept.
    """
    main, terms = record.main, terms_of(record)
    target, constant = terms.index("T"), terms.index("C")
    vectors = main.states[0].new_zeros((len(terms), *main.states[0].shape))
    vectors[target] = main.states[0] if main.embedding_norm is None else main.embedding_norm.read
    if main.embedding_norm is not None:
        vectors = main.embedding_norm.of_sum(vectors, constant, centering)
    yield vectors
    for number, layer in enumerate(main.layers, start=1):
        before = vectors
        for sublayer in layer:
            read = before if main.stack.parallel else vectors
            if main.stack.norm == "pre":
                read = sublayer.norm.of_sum(read, constant, centering)
            vectors = vectors + _written(sublayer, read, constant, record.encoder_states, gate)
            if main.stack.norm == "post":
                vectors = sublayer.norm.of_sum(vectors, constant, centering)
        if number == len(main.layers) and main.final_norm is not None:
            vectors = main.final_norm.of_sum(vectors, constant, centering)
        yield vectors


def _written(
    sublayer: Sublayer, read: torch.Tensor, constant: int, encoder_states: torch.Tensor | None, gate: str
) -> torch.Tensor:
    """What the sublayer writes to each term, of shape (term, sentence, position, dim), from the terms that it read."""
    if not isinstance(sublayer.place, Attention):
        written = _through_feed_forward(sublayer, read, constant, gate)
    elif sublayer.place.reads == "encoder":
        written = torch.zeros_like(read)
        written[0] = _attended(sublayer, encoder_states[None])[0]  # S is the first term
    else:
        written = _attended(sublayer, read)
    bias = constant_output(sublayer)
    if bias is not None:
        written[constant] += bias
    return written


def _attended(sublayer: Sublayer, read: torch.Tensor) -> torch.Tensor:
    """W_O A W_V x for each term x that the attention read, of shape (term, sentence, read position, dim)."""
    heads = sublayer.weights.shape[1]
    weight_output, _ = linear_map(sublayer.modules["output"])
    weight_value, _ = value_map(sublayer.place, sublayer.modules["value"], heads)
    inner = weight_output.shape[1] // heads
    values = linear(read, weight_value).unflatten(-1, (-1, inner))  # (term, sentence, read position, value head, inner)
    values = values.transpose(2, 3)  # (term, sentence, value head, read position, inner)
    values = values.repeat_interleave(heads // values.shape[2], dim=2)  # grouped queries share values
    mixed = sublayer.weights @ values  # (term, sentence, head, position, inner)
    return linear(mixed.transpose(2, 3).flatten(-2), weight_output)  # (term, sentence, position, head * inner)


def _through_feed_forward(sublayer: Sublayer, read: torch.Tensor, constant: int, gate: str) -> torch.Tensor:
    """The feed-forward made linear, without b_2, for each term, of shape (term, sentence, position, dim)."""
    weight_first, bias_first = linear_map(sublayer.modules["first"])
    weight_second, _ = linear_map(sublayer.modules["second"])
    inner = linear(read, weight_first)  # (term, sentence, position, inner)
    if sublayer.gate is None:
        value, slope = _value_and_slope(sublayer, sublayer.preactivation)
        z = sublayer.preactivation
        inner *= slope
        inner[constant] += value - slope * (z if bias_first is None else z - bias_first)
    else:
        value, slope = _value_and_slope(sublayer, sublayer.gate)
        inner *= value
        if bias_first is not None:
            inner[constant] += value * bias_first
        if gate == "tangent":
            weight_gate, bias_gate = linear_map(sublayer.modules["gate"])
            tilt = slope * sublayer.preactivation
            inner += tilt * linear(read, weight_gate)
            inner[constant] -= tilt * (sublayer.gate if bias_gate is None else sublayer.gate - bias_gate)
    return linear(inner, weight_second)


def _value_and_slope(sublayer: Sublayer, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """f(z) and f'(z), by differentiating the model's own activation module; both of the shape of z."""
    # Inference mode, if the caller is in it, makes tensors that autograd refuses: leave it, and differentiate a copy.
    with torch.inference_mode(False), torch.enable_grad():
        z = z.detach().clone().requires_grad_()
        value = sublayer.modules["activation"](z)
        (slope,) = torch.autograd.grad(value.sum(), z)
    return value.detach(), slope

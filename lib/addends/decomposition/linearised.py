"""What a sublayer writes, made linear around one forward pass, so that it can be told apart by what was read.

Attention weights A are held fixed, so that W_O A W_V applies to each term. A feed-forward is replaced by its tangent at
its pre-activation z, or, if it is gated, by one of two exact splits; see `addends.decomposition.tokens`.
"""

from __future__ import annotations

import torch
from torch.nn.functional import linear

from addends.decomposition.architectures import Attention
from addends.decomposition.capture import Sublayer
from addends.decomposition.sublayers import constant_output, written
from addends.decomposition.weights import linear_map, value_map

# Floats that a chunk of terms may fill inside a sublayer, unless told otherwise: 32 MiB of float32. Larger ones are
# slower too, because each is fresh memory from the system.
_CHUNK_FLOATS = 2**23


def add_written(
    vectors: torch.Tensor,
    sublayer: Sublayer,
    read: torch.Tensor,
    gate: str,
    chunk: int | None = None,
    source: tuple[torch.Tensor, torch.Tensor] | None = None,
    constant: int | None = -1,
) -> None:
    """Add to each term what the sublayer writes to it.

    Parameters
    ----------
    vectors : Tensor of shape (term, sentence, position, dim)
        The terms of the residual stream; changed in place.
    read : Tensor of shape (term, sentence, position, dim)
        The terms of what the sublayer read (``vectors`` themselves, in post-norm layers).
    gate : {"frozen", "tangent"}
        For gated feed-forwards.
    chunk : int, optional
        How many terms go through at once: bounds memory, changes nothing else.
    source : (Tensor, Tensor), optional
        For a cross-attention: the parts of the encoder's states, of shape (part, sentence, read position, dim), and
        the index of the term that each goes to, of shape (part,). Without it the encoder's states are one part, the
        first term, and what the cross-attention wrote for it is what it wrote.
    constant : int or None
        The index of the constant term, the last; None leaves out what goes there.
    """
    bias = constant_output(sublayer)
    if not isinstance(sublayer.place, Attention):
        _add_feed_forward(vectors, sublayer, read, gate, chunk, with_constant=constant is not None)
    elif sublayer.place.reads == "encoder" and source is None:
        vectors[0].add_(written(sublayer, bias))
    elif sublayer.place.reads == "encoder":
        parts, to = source
        weight, _ = linear_map(sublayer.modules["output"])
        for start, stop in _chunks(parts, parts[0].numel(), chunk):
            vectors.index_add_(0, to[start:stop], linear(_mixed(sublayer, parts[start:stop]), weight))
    else:
        weight, _ = linear_map(sublayer.modules["output"])
        for start, stop in _chunks(read, read[0].numel(), chunk):
            _add_product(vectors[start:stop], _mixed(sublayer, read[start:stop]), weight)
    if constant is not None and bias is not None:
        vectors[constant].add_(bias)


def _chunks(read: torch.Tensor, floats: int, chunk: int | None) -> list[tuple[int, int]]:
    """Where chunks of terms start and stop: ``chunk`` terms each, or as many as `_CHUNK_FLOATS` allow."""
    chunk = chunk or max(1, _CHUNK_FLOATS // floats)
    return [(start, min(start + chunk, len(read))) for start in range(0, len(read), chunk)]


def _add_product(vectors: torch.Tensor, read: torch.Tensor, weight: torch.Tensor) -> None:
    """Add W x to each vector in place, in one product: no array of the size of ``vectors`` in between."""
    rows = vectors.view(-1, vectors.shape[-1])  # (term * sentence * position, dim)
    rows.addmm_(read.reshape(-1, read.shape[-1]), weight.T)


def _mixed(sublayer: Sublayer, read: torch.Tensor) -> torch.Tensor:
    """A W_V x, heads side by side: (term, sentence, position, head * inner), of terms (term, sentence, read position, dim)."""
    heads = sublayer.weights.shape[1]
    weight_value, _ = value_map(sublayer.place, sublayer.modules["value"], heads)
    inner = linear_map(sublayer.modules["output"])[0].shape[1] // heads
    values = linear(read, weight_value).unflatten(-1, (-1, inner))  # (term, sentence, read position, value head, inner)
    values = values.permute(1, 3, 2, 0, 4)  # (sentence, value head, read position, term, inner)
    if values.shape[1] < heads:
        values = values.repeat_interleave(heads // values.shape[1], dim=1)  # grouped queries share values
    # All terms of a head in one product: (position, read position) by (read position, term * inner).
    mixed = sublayer.weights @ values.flatten(3)  # (sentence, head, position, term * inner)
    mixed = mixed.unflatten(3, (len(read), inner)).permute(3, 0, 2, 1, 4)  # (term, sentence, position, head, inner)
    return mixed.flatten(3)


def _add_feed_forward(
    vectors: torch.Tensor, sublayer: Sublayer, read: torch.Tensor, gate: str, chunk: int | None, with_constant: bool
) -> None:
    """Add the feed-forward made linear, without b_2, to each term, of shape (term, sentence, position, dim)."""
    weight_first, bias_first = linear_map(sublayer.modules["first"])
    weight_second, _ = linear_map(sublayer.modules["second"])
    z, gated = sublayer.preactivation, sublayer.gate
    if gated is None:
        value, slope = _value_and_slope(sublayer, z)
        if with_constant:
            constant = torch.addcmul(value, slope, z if bias_first is None else z - bias_first, value=-1)
    else:
        slope, tilt = _value_and_slope(sublayer, gated)  # the gate's value is what the other factor is multiplied by
        constant = 0 if bias_first is None else slope * bias_first
        if gate == "tangent":
            weight_gate, bias_gate = linear_map(sublayer.modules["gate"])
            tilt = tilt * z
            constant = constant - tilt * (gated if bias_gate is None else gated - bias_gate)
    for start, stop in _chunks(read, z.numel(), chunk):
        piece = read[start:stop]
        inner = linear(piece, weight_first).mul_(slope)  # (term, sentence, position, inner)
        if gated is not None and gate == "tangent":
            inner.add_(tilt * linear(piece, weight_gate))
        if with_constant and stop == len(read):
            inner[-1].add_(constant)
        _add_product(vectors[start:stop], inner, weight_second)


def _value_and_slope(sublayer: Sublayer, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """f(z) and f'(z), by differentiating the model's own activation module; both of the shape of z."""
    # Inference mode, if the caller is in it, makes tensors that autograd refuses: leave it, and differentiate a copy.
    with torch.inference_mode(False), torch.enable_grad():
        z = z.detach().clone().requires_grad_()
        value = sublayer.modules["activation"](z)
        (slope,) = torch.autograd.grad(value.sum(), z)
    return value.detach(), slope

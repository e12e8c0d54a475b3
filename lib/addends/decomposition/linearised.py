"""What a sublayer writes, made linear around one forward pass, so that it can be told apart by what was read.

Attention weights A are held fixed, so that W_O A W_V applies to each term. A feed-forward is replaced by its tangent at
its pre-activation z, or, if it is gated, by one of two exact splits; see `addends.decomposition.tokens`.
"""

from __future__ import annotations

import torch
from torch.nn.functional import linear

from addends.decomposition.architectures import Attention
from addends.decomposition.capture import Sublayer
from addends.decomposition.spans import EMPTY, Span, reach, reached, runs, union
from addends.decomposition.sublayers import constant_output, written
from addends.decomposition.weights import linear_map, value_map

# Floats that a chunk of terms may fill inside a sublayer, unless told otherwise: 16 MiB of float32. Larger ones are
# slower too, because each is fresh memory from the system.
_CHUNK_FLOATS = 2**22


def add_written(
    vectors: torch.Tensor,
    spans: list[Span],
    sublayer: Sublayer,
    read: torch.Tensor,
    gate: str,
    chunk: int | None = None,
    source: tuple[torch.Tensor, torch.Tensor] | torch.Tensor | None = None,
    constant: int | None = -1,
) -> None:
    """Add to each term what the sublayer writes to it.

    Parameters
    ----------
    vectors : Tensor of shape (term, sentence, position, dim)
        The terms of the residual stream; changed in place.
    spans : list of (first, stop)
        Where each term can be other than zero; changed in place.
    read : Tensor of shape (term, sentence, position, dim)
        The terms of what the sublayer read (``vectors`` themselves, in post-norm layers).
    gate : {"frozen", "tangent"}
        For gated feed-forwards.
    chunk : int, optional
        How many terms go through at once: bounds memory, changes nothing else.
    source : None, Tensor or (Tensor, Tensor)
        For a cross-attention, the parts of the encoder's states. None: they are one part, the first term, and what the
        cross-attention wrote for it is taken as it was written: no check of its value map. The states, of shape
        (sentence, read position, dim): each position is a part, in the order of the first terms. Two: parts of shape
        (part, sentence, read position, dim), and the index of the term that each goes to, of shape (part,).
    constant : int or None
        The index of the constant term, the last; None leaves out what goes there.
    """
    whole = isinstance(sublayer.place, Attention) and sublayer.place.reads == "encoder" and source is None
    bias = constant_output(sublayer) if whole or constant is not None else None
    if not isinstance(sublayer.place, Attention):
        _add_feed_forward(vectors, spans, sublayer, read, gate, chunk, with_constant=constant is not None)
    elif sublayer.place.reads != "encoder":
        _add_self_attention(vectors, spans, sublayer, read, chunk)
    elif whole:
        vectors[0].add_(written(sublayer, bias))
        spans[0] = (0, vectors.shape[2])
    else:
        _add_cross_attention(vectors, spans, sublayer, source, chunk)
    if constant is not None and bias is not None:
        vectors[constant].add_(bias)


def _add_self_attention(
    vectors: torch.Tensor, spans: list[Span], sublayer: Sublayer, read: torch.Tensor, chunk: int | None
) -> None:
    weight, everywhere = linear_map(sublayer.modules["output"])[0], (0, read.shape[2])
    reads = None if all(span in (EMPTY, everywhere) for span in spans) else reach(sublayer.weights)
    for terms, span in runs(spans, _positions(read), chunk):
        to = everywhere if reads is None else reached(reads, span)
        mixed = _mixed(sublayer, read[terms, :, slice(*span)], span, to)
        _add_product(vectors[terms, :, slice(*to)], mixed, weight)
        spans[terms] = [union(span, to)] * len(spans[terms])


def _add_cross_attention(vectors: torch.Tensor, spans: list[Span], sublayer: Sublayer, source, chunk) -> None:
    weight, everywhere = linear_map(sublayer.modules["output"])[0], (0, vectors.shape[2])
    if isinstance(source, tuple):
        parts, to = source
        places = (0, parts.shape[2])
        for chosen, _ in runs([places] * len(parts), _positions(parts), chunk):
            mixed = _mixed(sublayer, parts[chosen], places, everywhere)
            vectors.index_add_(0, to[chosen], linear(mixed, weight))
        numbers = to.tolist()
    else:  # every part stands at one position, and no other part does: no product over positions is needed
        values = _values(sublayer, source[None])[..., 0, :]  # (sentence, head, read position, inner)
        for chosen, _ in runs([everywhere] * source.shape[1], _positions(vectors), chunk):
            weights = sublayer.weights[..., chosen].permute(3, 0, 2, 1)  # (part, sentence, position, head)
            one = values[:, :, chosen].permute(2, 0, 1, 3)[:, :, None]  # (part, sentence, 1, head, inner)
            _add_product(vectors[chosen], (weights[..., None] * one).flatten(3), weight)
        numbers = range(source.shape[1])
    for number in numbers:
        spans[number] = everywhere


def _positions(vectors: torch.Tensor) -> int:
    """The number of positions that a chunk may have, when each is as large as those of ``vectors``."""
    return _CHUNK_FLOATS // (vectors.shape[1] * vectors.shape[3])


def _add_product(vectors: torch.Tensor, read: torch.Tensor, weight: torch.Tensor) -> None:
    """Add W x to each vector in place."""
    if vectors.is_contiguous():  # in one product: no array of the size of ``vectors`` in between
        rows = vectors.view(-1, vectors.shape[-1])  # (term * sentence * position, dim)
        rows.addmm_(read.reshape(-1, read.shape[-1]), weight.T)
    else:
        vectors.add_(linear(read, weight))


def _mixed(sublayer: Sublayer, read: torch.Tensor, span: Span, to: Span) -> torch.Tensor:
    """A W_V x, the heads side by side: (term, sentence, position, head * inner), for each term x that was read.

    ``read`` has the read positions of ``span`` alone, and what is given those of ``to``.
    """
    values = _values(sublayer, read).flatten(3)  # (sentence, head, read position, term * inner)
    # All terms of a head in one product: (position, read position) by (read position, term * inner).
    mixed = sublayer.weights[:, :, slice(*to), slice(*span)] @ values  # (sentence, head, position, term * inner)
    mixed = mixed.unflatten(3, (len(read), -1)).permute(3, 0, 2, 1, 4)  # (term, sentence, position, head, inner)
    return mixed.flatten(3)


def _values(sublayer: Sublayer, read: torch.Tensor) -> torch.Tensor:
    """W_V x by head, of shape (sentence, head, read position, term, inner)."""
    heads = sublayer.weights.shape[1]
    weight, _ = value_map(sublayer.place, sublayer.modules["value"], heads)
    inner = linear_map(sublayer.modules["output"])[0].shape[1] // heads
    values = linear(read, weight).unflatten(-1, (-1, inner))  # (term, sentence, read position, value head, inner)
    values = values.permute(1, 3, 2, 0, 4)  # (sentence, value head, read position, term, inner)
    shared = heads // values.shape[1]  # grouped queries share values
    return values if shared == 1 else values.repeat_interleave(shared, dim=1)


def _add_feed_forward(
    vectors: torch.Tensor,
    spans: list[Span],
    sublayer: Sublayer,
    read: torch.Tensor,
    gate: str,
    chunk: int | None,
    with_constant: bool,
) -> None:
    """Add the feed-forward made linear, without b_2, to each term."""
    weight_first, bias_first = linear_map(sublayer.modules["first"])
    weight_second, _ = linear_map(sublayer.modules["second"])
    z, gated = sublayer.preactivation, sublayer.gate
    if gated is None:
        value, slope = value_and_slope(sublayer, z)
        if with_constant:
            constant = torch.addcmul(value, slope, z if bias_first is None else z - bias_first, value=-1)
    else:
        slope, tilt = value_and_slope(sublayer, gated)  # the gate's value is what the other factor is multiplied by
        constant = 0 if bias_first is None else slope * bias_first
        if gate == "tangent":
            weight_gate, bias_gate = linear_map(sublayer.modules["gate"])
            tilt = tilt * z
            constant = constant - tilt * (gated if bias_gate is None else gated - bias_gate)
    for terms, span in runs(spans, _CHUNK_FLOATS // z[:, 0].numel(), chunk):
        places = slice(*span)
        piece = read[terms, :, places]
        inner = linear(piece, weight_first).mul_(slope[:, places])  # (term, sentence, position, inner)
        if gated is not None and gate == "tangent":
            inner.add_(tilt[:, places] * linear(piece, weight_gate))
        if with_constant and terms.stop == len(spans):
            inner[-1].add_(constant)
        _add_product(vectors[terms, :, places], inner, weight_second)


def value_and_slope(sublayer: Sublayer, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """f(z) and f'(z), by differentiating the model's own activation module; both of the shape of z."""
    # Inference mode, if the caller is in it, makes tensors that autograd refuses: leave it, and differentiate a copy.
    with torch.inference_mode(False), torch.enable_grad():
        z = z.detach().clone().requires_grad_()
        value = sublayer.modules["activation"](z)
        # Of each value by its own z; the sum of all values has the same slopes and takes twice as long.
        (slope,) = torch.autograd.grad(value, z, torch.ones((), dtype=z.dtype, device=z.device).expand_as(value))
    return value.detach(), slope

"""Method 2, by token: every state is the sum of what came from the source, from the target, and from nowhere.

    e = s + t + c

T starts as the first layer's input. The terms travel THROUGH the sublayers, which are made linear around this pass:
attention weights A are held fixed, so that W_O A W_V applies to each term; cross-attention adds the encoder states'
share to S; a feed-forward is replaced by its tangent at its pre-activation z,

    W_2 f(W_1 x + b_1) + b_2  =  sum_k W_2 (f'(z) * W_1 x_k)  +  W_2 (f(z) - f'(z) * (z - b_1)) + b_2,

whose last part, like every bias, goes to C. All terms are propagated independently; none is had by subtraction.

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
from addends.decomposition.norms import through_norm
from addends.decomposition.sublayers import constant_output

TERMS = ("S", "T", "C")
_SOURCE, _TARGET, _CONSTANT = range(3)


def propagate(record: Capture, centering: str) -> Iterator[torch.Tensor]:
    """Yield S, T and C layer by layer, from layer 0 (the first layer's input). Needs captured attention weights.

    Yields
    ------
    Tensor of shape (term, sentence, position, dim)
        The next layer's terms are made in the same memory: copy what is to be kept.
    """
    vectors = record.initial.new_zeros((len(TERMS), *record.initial.shape))
    vectors[_TARGET] = record.initial
    yield vectors
    for layer in record.layers:
        for sublayer, place in zip(layer, record.row.sublayers, strict=True):
            if not isinstance(place, Attention):
                vectors += _tangent(sublayer, vectors)
                vectors[_CONSTANT] += _intercept(sublayer)
            elif place.reads == "encoder":
                vectors[_SOURCE] += _attended(sublayer, record.encoder_states[None])[0]
            else:
                vectors += _attended(sublayer, vectors)
            bias = constant_output(sublayer)
            if bias is not None:
                vectors[_CONSTANT] += bias
            vectors = through_norm(sublayer.modules["norm"], sublayer.before_norm, vectors, _CONSTANT, centering)
        yield vectors


def _attended(sublayer: Sublayer, read: torch.Tensor) -> torch.Tensor:
    """W_O A W_V x for each term x that the attention read, of shape (term, sentence, read position, dim)."""
    heads = sublayer.weights.shape[1]
    values = linear(read, sublayer.modules["value"].weight)  # (term, sentence, read position, head * inner)
    values = values.unflatten(-1, (heads, -1)).transpose(2, 3)  # (term, sentence, head, read position, inner)
    mixed = sublayer.weights @ values  # (term, sentence, head, position, inner)
    mixed = mixed.transpose(2, 3).flatten(-2)  # (term, sentence, position, head * inner)
    return linear(mixed, sublayer.modules["output"].weight)


def _tangent(sublayer: Sublayer, vectors: torch.Tensor) -> torch.Tensor:
    """W_2 (f'(z) * W_1 x) for each term x, of shape (term, sentence, position, dim)."""
    first, second = sublayer.modules["first"], sublayer.modules["second"]
    return linear(linear(vectors, first.weight) * _slope(sublayer), second.weight)


def _intercept(sublayer: Sublayer) -> torch.Tensor:
    """W_2 (f(z) - f'(z) * (z - b_1)): what the tangent adds whatever the terms are; b_2 is counted with the biases."""
    z, first = sublayer.preactivation, sublayer.modules["first"]
    from_weights = z if first.bias is None else z - first.bias
    with torch.no_grad():
        kept = sublayer.modules["activation"](z) - _slope(sublayer) * from_weights
    return linear(kept, sublayer.modules["second"].weight)


def _slope(sublayer: Sublayer) -> torch.Tensor:
    """f'(z), by differentiating the model's own activation module; of shape (sentence, position, inner)."""
    with torch.enable_grad():
        z = sublayer.preactivation.detach().requires_grad_()
        return torch.autograd.grad(sublayer.modules["activation"](z).sum(), z)[0]

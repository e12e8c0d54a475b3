"""Method 1, by sublayer: every state is the sum of what each kind of sublayer wrote into it.

    e = i + s + t + f + c

I starts as the first layer's input (scaled embedding + position). Self-attention writes to T, cross-attention to S,
the feed-forward to F. What a sublayer writes whatever it reads is constant and goes to C: of an attention
W_O b_V + b_O (its weights sum to 1), of a feed-forward b_2 (b_1 stays in F, before the activation). Each LayerNorm
scales all terms alike; see `addends.decomposition.norms`.

Every term is some sublayer's output already, so the cost is one forward pass and element-wise work.

References
----------
Mickus, Paperno & Constant (2022), How to Dissect a Muppet, TACL 10, equations 1-9. Mickus & Vázquez (2023), Why
bother with geometry?, BlackboxNLP, section 2.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from addends.decomposition.capture import Capture, Sublayer
from addends.decomposition.norms import through_norm


def propagate(record: Capture, centering: str) -> Iterator[torch.Tensor]:
    """Yield the terms layer by layer, from layer 0 (the first layer's input), in the order of ``record.row.terms``.

    Yields
    ------
    Tensor of shape (term, sentence, position, dim)
        The next layer's terms are made in the same memory: copy what is to be kept.
    """
    terms = record.row.terms
    constant = terms.index("C")
    vectors = record.initial.new_zeros((len(terms), *record.initial.shape))
    vectors[0] = record.initial
    yield vectors
    for layer in record.layers:
        for sublayer, place in zip(layer, record.row.sublayers, strict=True):
            bias = constant_output(sublayer)
            vectors[terms.index(place.term)] += sublayer.written
            if bias is not None:
                vectors[terms.index(place.term)] -= bias
                vectors[constant] += bias
            vectors = through_norm(sublayer.modules["norm"], sublayer.before_norm, vectors, constant, centering)
        yield vectors


def constant_output(sublayer: Sublayer) -> torch.Tensor | None:
    """What a sublayer writes whatever it reads: W_O b_V + b_O, or b_2; of shape (dim,). None without biases."""
    last = sublayer.modules["output" if "output" in sublayer.modules else "second"]
    value = sublayer.modules.get("value")
    if value is None or value.bias is None:
        return last.bias
    return torch.nn.functional.linear(value.bias, last.weight, last.bias)

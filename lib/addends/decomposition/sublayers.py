"""Method 1, by sublayer: every state is the sum of what each kind of sublayer wrote into it.

    e = i + s + t + f + c

I starts as the first layer's input (in front of an embedding norm, where there is one). Self-attention writes to T,
cross-attention to S, the feed-forward to F; a stack without an encoder has no S. What a sublayer writes whatever it
reads is constant and goes to C: of an attention W_O b_V + b_O (its weights sum to 1), of a feed-forward b_2 (b_1 stays
in F, before the activation). Each norm in the residual stream scales all terms alike: `addends.decomposition.norms`.

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
from addends.decomposition.weights import linear_map, value_map


def propagate(record: Capture, centering: str) -> Iterator[torch.Tensor]:
    """Yield the terms layer by layer, from layer 0 (the first layer's input), in the order of ``record.row.terms``.

    Yields
    ------
    Tensor of shape (term, sentence, position, dim)
        The next layer's terms may be made in the same memory: copy what is to be kept.
    """
    terms, main = record.row.terms, record.main
    constant = terms.index("C")
    vectors = main.states[0].new_zeros((len(terms), *main.states[0].shape))
    vectors[0] = main.states[0] if main.embedding_norm is None else main.embedding_norm.read
    if main.embedding_norm is not None:
        vectors = main.embedding_norm.of_sum(vectors, constant, centering)
    yield vectors
    for number, layer in enumerate(main.layers, start=1):
        for sublayer in layer:
            term, bias = terms.index(sublayer.place.term), constant_output(sublayer)
            vectors[term] += sublayer.written
            if bias is not None:
                vectors[term] -= bias
                vectors[constant] += bias
            if main.stack.norm == "post":
                vectors = sublayer.norm.of_sum(vectors, constant, centering)
        if number == len(main.layers) and main.final_norm is not None:
            vectors = main.final_norm.of_sum(vectors, constant, centering)
        yield vectors


def constant_output(sublayer: Sublayer) -> torch.Tensor | None:
    """What a sublayer writes whatever it reads: W_O b_V + b_O, or b_2; of shape (dim,). None without biases."""
    if "value" not in sublayer.modules:
        return linear_map(sublayer.modules["second"])[1]
    weight, bias = linear_map(sublayer.modules["output"])
    value = value_map(sublayer.place, sublayer.modules["value"], heads_of(sublayer))[1]
    if value is None:
        return bias
    # Grouped queries: every head of a group reads the same values.
    groups = weight.shape[1] // len(value)
    inner = len(value) // (heads_of(sublayer) // groups) if groups > 1 else len(value)
    value = value.unflatten(0, (-1, inner)).repeat_interleave(groups, dim=0).flatten() if groups > 1 else value
    return torch.nn.functional.linear(value, weight, bias)


def heads_of(sublayer: Sublayer) -> int:
    """The number of query heads of an attention, by whatever name its module calls it."""
    module = sublayer.modules["module"]
    for name in ("num_heads", "n_heads", "num_attention_heads"):
        if hasattr(module, name):
            return getattr(module, name)
    config = module.config
    return config.num_attention_heads

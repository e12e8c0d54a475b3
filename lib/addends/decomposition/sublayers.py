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
from addends.decomposition.weights import linear_map, roundoff, value_map


def terms_of(record: Capture, heads: bool = False) -> tuple[str, ...]:
    """The row's terms; with ``heads``, one a layer and head ("T2.0" is layer 2's first) in place of T and of S."""
    if not heads:
        return record.row.terms
    split = [
        f"{sublayer.place.term}{number}.{head}"
        for number, layer in enumerate(record.main.layers, start=1)
        for sublayer in layer
        if "output" in sublayer.modules
        for head in range(heads_of(sublayer))
    ]
    return ("I", *sorted(split, key=lambda name: name[0]), "F", "C")


def propagate(record: Capture, centering: str, heads: bool = False) -> Iterator[torch.Tensor]:
    """Yield the terms layer by layer, from layer 0 (the first layer's input), in the order of `terms_of`.

    Yields
    ------
    Tensor of shape (term, sentence, position, dim)
        The next layer's terms may be made in the same memory: copy what is to be kept.
    """
    terms, main = terms_of(record, heads), record.main
    constant = terms.index("C")
    vectors = main.states[0].new_zeros((len(terms), *main.states[0].shape))
    vectors[0] = main.states[0] if main.embedding_norm is None else main.embedding_norm.read
    if main.embedding_norm is not None:
        vectors = main.embedding_norm.of_sum(vectors, constant, centering)
    yield vectors
    for number, layer in enumerate(main.layers, start=1):
        for sublayer in layer:
            bias = constant_output(sublayer)
            if heads and "output" in sublayer.modules:
                first = terms.index(f"{sublayer.place.term}{number}.0")
                by_head = written_by_head(sublayer)
                vectors[first : first + len(by_head)].add_(by_head)
            else:
                term = terms.index(sublayer.place.term)
                own = written(sublayer, bias)
                if bias is not None:  # what is left of nothing but rounding stays with the constant that it rounds
                    nothing = is_rounding(own, sublayer.written, bias)
                    own, bias = own.masked_fill(nothing, 0), torch.where(nothing, sublayer.written, bias)
                vectors[term].add_(own)
            if bias is not None:
                vectors[constant].add_(bias)
            if main.stack.norm == "post":
                sublayer.norm.of_sum(vectors, constant, centering, in_place=True)
        if number == len(main.layers) and main.final_norm is not None:
            main.final_norm.of_sum(vectors, constant, centering, in_place=True)
        yield vectors


def written(sublayer: Sublayer, constant: torch.Tensor | None) -> torch.Tensor:
    """What a sublayer wrote less what it writes whatever it reads, of shape (sentence, position, dim)."""
    return sublayer.written if constant is None else sublayer.written - constant


def is_rounding(difference: torch.Tensor, *terms: torch.Tensor) -> torch.Tensor:
    """Where a difference is within the rounding of its terms, u sqrt(d) times their lengths; of shape (..., 1)."""
    length = sum(torch.linalg.vector_norm(term, dim=-1, keepdim=True) for term in terms)
    return torch.linalg.vector_norm(difference, dim=-1, keepdim=True) <= roundoff(difference) * length


def written_by_head(sublayer: Sublayer) -> torch.Tensor:
    """W_O,h A_h W_V,h x for each head h of an attention, of shape (head, sentence, position, dim).

    From what its output map read, the heads' mixed values side by side. The heads sum to what the attention wrote less
    its constant.
    """
    weight, _ = linear_map(sublayer.modules["output"])
    heads = heads_of(sublayer)
    mixed = sublayer.mixed.unflatten(-1, (heads, -1))  # (sentence, position, head, inner)
    value = _value_bias(sublayer)
    if value is not None:
        mixed = mixed - value.unflatten(0, (heads, -1))
    return torch.einsum("sphi,dhi->hspd", mixed, weight.unflatten(1, (heads, -1)))


def constant_output(sublayer: Sublayer) -> torch.Tensor | None:
    """What a sublayer writes whatever it reads: W_O b_V + b_O, or b_2; of shape (dim,). None without biases."""
    if "value" not in sublayer.modules:
        return linear_map(sublayer.modules["second"])[1]
    weight, bias = linear_map(sublayer.modules["output"])
    value = _value_bias(sublayer)
    return bias if value is None else torch.nn.functional.linear(value, weight, bias)


def _value_bias(sublayer: Sublayer) -> torch.Tensor | None:
    """b_V of every query head, of shape (head * inner,): heads that share values (grouped queries) share their bias."""
    value = value_map(sublayer.place, sublayer.modules["value"], heads_of(sublayer))[1]
    if value is None:
        return None
    return by_query_head(sublayer, value)


def by_query_head(sublayer: Sublayer, value: torch.Tensor) -> torch.Tensor:
    """Of values (value head * inner,), those that each query head reads, of shape (head * inner,)."""
    inner = linear_map(sublayer.modules["output"])[0].shape[1] // heads_of(sublayer)
    value = value.unflatten(0, (-1, inner))  # (value head, inner)
    return value.repeat_interleave(heads_of(sublayer) // len(value), dim=0).flatten()


def heads_of(sublayer: Sublayer) -> int:
    """The number of query heads of an attention, by whatever name its module calls it."""
    module = sublayer.modules["module"]
    for name in ("num_heads", "n_heads", "num_attention_heads"):
        if hasattr(module, name):
            return getattr(module, name)
    config = module.config
    return config.num_attention_heads

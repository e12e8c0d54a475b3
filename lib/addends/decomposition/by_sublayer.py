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

from addends.decomposition.linear import roundoff
from addends.decomposition.record import AttentionSublayer, Capture


def terms_of(record: Capture, heads: bool = False, sublayers: str = "grouped") -> tuple[str, ...]:
    """The row's terms.

    With ``heads``, one a layer and head ("T2.0" is layer 2's first) in place of T and of S. With ``sublayers="each"``,
    one a layer and kind ("T2" is layer 2's) in place of S, T and F.
    """
    if sublayers == "each":
        layers = range(1, len(record.main.layers) + 1)
        return ("I", *(f"{kind}{number}" for kind in record.row.terms[1:-1] for number in layers), "C")
    if not heads:
        return record.row.terms
    split = [
        f"{sublayer.place.term}{number}.{head}"
        for number, layer in enumerate(record.main.layers, start=1)
        for sublayer in layer
        if isinstance(sublayer, AttentionSublayer)
        for head in range(sublayer.heads)
    ]
    return ("I", *sorted(split, key=lambda name: name[0]), "F", "C")


def propagate(
    record: Capture, centering: str, heads: bool = False, sublayers: str = "grouped"
) -> Iterator[torch.Tensor]:
    """Yield the terms layer by layer, from layer 0 (the first layer's input), in the order of `terms_of`.

    Yields
    ------
    Tensor of shape (term, sentence, position, dim)
        The next layer's terms may be made in the same memory: copy what is to be kept.
    """
    terms, main = terms_of(record, heads, sublayers), record.main
    constant = terms.index("C")
    vectors = main.start.new_zeros((len(terms), *main.start.shape))  # (term, sentence, position, dim)
    vectors[0] = main.start
    if main.embedding_norm is not None:
        vectors = main.embedding_norm.of_sum(vectors, constant, centering)
    yield vectors
    for number, layer in enumerate(main.layers, start=1):
        for sublayer in layer:
            bias = sublayer.constant
            term = sublayer.place.term + (str(number) if sublayers == "each" else "")
            if heads and isinstance(sublayer, AttentionSublayer):
                first = terms.index(f"{sublayer.place.term}{number}.0")
                by_head = written_by_head(sublayer)
                vectors[first : first + len(by_head)].add_(by_head)
            elif bias is None:
                vectors[terms.index(term)].add_(sublayer.written)
            else:
                own = sublayer.written - bias
                # What is left of nothing but rounding stays with the constant that it rounds.
                nothing = is_rounding(own, sublayer.written, bias)
                vectors[terms.index(term)].add_(own.masked_fill(nothing, 0))
                bias = torch.where(nothing, sublayer.written, bias)
            if bias is not None:
                vectors[constant].add_(bias)
            sublayer.forget()
            if main.stack.norm == "post":
                sublayer.norm.of_sum(vectors, constant, centering, in_place=True)
        if number == len(main.layers) and main.final_norm is not None:
            main.final_norm.of_sum(vectors, constant, centering, in_place=True)
        yield vectors


def is_rounding(difference: torch.Tensor, *terms: torch.Tensor) -> torch.Tensor:
    """Where a difference is within the rounding of its terms, u sqrt(d) times their lengths; of shape (..., 1)."""
    length = sum(torch.linalg.vector_norm(term, dim=-1, keepdim=True) for term in terms)
    return torch.linalg.vector_norm(difference, dim=-1, keepdim=True) <= roundoff(difference) * length


def written_by_head(sublayer: AttentionSublayer) -> torch.Tensor:
    """W_O,h A_h W_V,h x for each head h of an attention, of shape (head, sentence, position, dim).

    From what its output map read, the heads' mixed values side by side. The heads sum to what the attention wrote less
    its constant.
    """
    heads, bias = sublayer.heads, sublayer.value_bias
    mixed = sublayer.mixed.unflatten(-1, (heads, -1))  # (sentence, position, head, inner)
    if bias is not None:
        mixed = mixed - bias.unflatten(0, (heads, -1))
    return torch.einsum("sphi,dhi->hspd", mixed, sublayer.output_map.weight.unflatten(1, (heads, -1)))

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

``tokens="each"`` keeps one term per source token, one per target token, and the constant. The encoder's states are
atoms, or, ``through_encoder=True``, carried through the encoder from the source's embeddings by the same rules; the
encoder's biases then go to C.

With the tangent, parts grow and cancel with depth: read errors against sum_k |x_k| / |e|. All terms are propagated
independently; none is had by subtraction.

References
----------
Oh & Schuler (2023), Token-wise Decomposition of Autoregressive Language Model Hidden States, ACL, equations 4-13.
Mickus & Vázquez (2023), Why bother with geometry?, BlackboxNLP, section 2.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch

from addends.decomposition.capture import Capture, StackRecord
from addends.decomposition.linearised import add_written
from addends.decomposition.spans import EMPTY, Span
from addends.errors import InputError

GATES = ("frozen", "tangent")
TOKENS = ("grouped", "each")


def check_options(gate: str, tokens: str, chunk: int | None) -> None:
    """Raise InputError unless each option is allowed."""
    for name, value, allowed in (("gate", gate, GATES), ("tokens", tokens, TOKENS)):
        if value not in allowed:
            raise InputError(f"{name}={value!r} is not one of {allowed}.")
    if chunk is not None and chunk < 1:
        raise InputError(f"chunk={chunk}: at least one term at a time is needed, or None for a chunk chosen by size.")


def terms_of(record: Capture, tokens: str = "grouped") -> tuple[str, ...]:
    """S, T and C, or S0, S1, ..., T0, T1, ..., C with ``tokens="each"``; a stack without an encoder has no S."""
    sides = {"T": record.main.states[0].shape[1]}
    if record.encoder_states is not None:
        sides = {"S": record.encoder_states.shape[1], **sides}
    if tokens == "grouped":
        return (*sides, "C")
    return (*(f"{side}{place}" for side, length in sides.items() for place in range(length)), "C")


def propagate(
    record: Capture,
    centering: str,
    gate: str = "frozen",
    tokens: str = "grouped",
    through_encoder: bool = False,
    chunk: int | None = None,
) -> Iterator[torch.Tensor]:
    """Yield the terms layer by layer, from layer 0 (the first layer's input), in the order of `terms_of`.

    Needs captured attention weights; ``through_encoder`` needs the encoder's record. ``chunk`` is the number of terms
    that go through a sublayer at once.

    Yields
    ------
    Tensor of shape (term, sentence, position, dim)
        The next layer's terms may be made in the same memory: copy what is to be kept.
    """
    terms = terms_of(record, tokens)
    own = split_by_token(_input(record.main), tokens)
    sources = len(terms) - 1 - len(own)
    vectors = own.new_zeros((len(terms), *own.shape[1:]))
    vectors[sources : sources + len(own)] = own
    spans = [EMPTY] * sources + spans_of(own, tokens)
    source = record.encoder_states if tokens == "each" else None
    if source is None and record.encoder_states is not None:
        # One part, carried like any other: a wrong value map of the cross-attention is to show in the sum.
        source = (record.encoder_states[None], torch.zeros(1, dtype=torch.long, device=own.device))
    if through_encoder:
        parts = split_by_token(_input(record.encoder), tokens)
        inside = spans_of(parts, tokens)
        parts = torch.cat([parts, torch.zeros_like(parts[:1])])
        layers = _carried(record.encoder, parts, inside, centering, gate, chunk)
        parts = deque(layers, maxlen=1).pop()  # the last layer's
        # The encoder's constant joins the decoder's.
        source = (parts, torch.tensor([*range(sources), len(terms) - 1], device=parts.device))
    yield from _carried(record.main, vectors, spans, centering, gate, chunk, source)


def propagate_inputs(
    record: Capture, centering: str, gate: str = "frozen", through_encoder: bool = False, chunk: int | None = None
) -> Iterator[torch.Tensor]:
    """The parts of the input's single tokens alone, as `propagate` with ``tokens="each"`` makes them, layer by layer.

    The input is the source of an encoder-decoder, and what a single stack reads. The rest of the sum is left out, so
    there is no sum to check: whoever uses these parts adds the other terms of a grouped propagation, and checks that.

    Yields
    ------
    Tensor of shape (input token, sentence, position, dim)
        As `propagate`.
    """
    if record.encoder_states is None:
        vectors = split_by_token(_input(record.main), "each")
        yield from _carried(
            record.main, vectors, spans_of(vectors, "each"), centering, gate, chunk, with_constant=False
        )
        return
    source, count = record.encoder_states, record.encoder_states.shape[1]
    if through_encoder:
        parts = split_by_token(_input(record.encoder), "each")
        spans = spans_of(parts, "each")
        layers = _carried(record.encoder, parts, spans, centering, gate, chunk, with_constant=False)
        source = (deque(layers, maxlen=1).pop(), torch.arange(count, device=parts.device))
    own = record.main.states[0]
    vectors = own.new_zeros((count, *own.shape))  # (input token, sentence, position, dim)
    yield from _carried(record.main, vectors, [EMPTY] * count, centering, gate, chunk, source, with_constant=False)


def split_by_token(states: torch.Tensor, tokens: str) -> torch.Tensor:
    """States (sentence, position, dim) as one term, or one term a position that is zero at all others."""
    if tokens == "grouped":
        return states[None]
    length = states.shape[1]
    places = torch.eye(length, dtype=states.dtype, device=states.device)  # (term, position)
    return places[:, None, :, None] * states[None]  # (term, sentence, position, dim)


def spans_of(terms: torch.Tensor, tokens: str) -> list[Span]:
    """Where the terms that `split_by_token` makes can be other than zero."""
    return [(0, terms.shape[2])] if tokens == "grouped" else [(place, place + 1) for place in range(len(terms))]


def _input(record: StackRecord) -> torch.Tensor:
    """The first layer's input, in front of the embedding norm where there is one."""
    return record.states[0] if record.embedding_norm is None else record.embedding_norm.read


def _carried(
    record: StackRecord,
    vectors: torch.Tensor,
    spans: list[Span],
    centering: str,
    gate: str,
    chunk: int | None,
    source: tuple[torch.Tensor, torch.Tensor] | torch.Tensor | None = None,
    with_constant: bool = True,
) -> Iterator[torch.Tensor]:
    """Carry terms in place, the constant last if there is one: yield them at a stack's input and after each layer.

    ``spans`` are those of all terms but the constant, which biases and means fill everywhere.
    """
    constant = len(vectors) - 1 if with_constant else None
    spans = [*spans, (0, vectors.shape[2])] if with_constant else list(spans)
    if record.embedding_norm is not None:
        record.embedding_norm.of_sum(vectors, constant, centering, in_place=True)
    yield vectors
    for number, layer in enumerate(record.layers, start=1):
        start = vectors.clone() if record.stack.parallel else None
        for sublayer in layer:
            read = vectors if start is None else start
            if record.stack.norm == "pre":
                read = sublayer.norm.of_sum(read, constant, centering)
            add_written(vectors, spans, sublayer, read, gate, chunk, source, constant)
            del read  # many terms are large: keep no more of them alive than are needed
            if record.stack.norm == "post":
                sublayer.norm.of_sum(vectors, constant, centering, in_place=True)
        if number == len(record.layers) and record.final_norm is not None:
            record.final_norm.of_sum(vectors, constant, centering, in_place=True)
        yield vectors

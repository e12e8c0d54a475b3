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

With the tangent, parts grow and cancel with depth: read errors against sum_k |x_k| / |e|. Every term is propagated by
itself. No term is what the others leave of the state, so that a wrong map shows in the sum.

References
----------
Oh & Schuler (2023), Token-wise Decomposition of Autoregressive Language Model Hidden States, ACL, equations 4-13.
Mickus & Vázquez (2023), Why bother with geometry?, BlackboxNLP, section 2.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.nn.functional import linear

from addends.decomposition.record import AttentionSublayer, Capture, FeedForwardSublayer, StackRecord, Sublayer

# Floats that a chunk of terms may fill inside a sublayer, unless told otherwise: 16 MiB of float32. Larger ones are
# slower too, because each is fresh memory from the system.
CHUNK_FLOATS = 2**22


def terms_of(record: Capture, tokens: str = "grouped") -> tuple[str, ...]:
    """S, T and C, or S0, S1, ..., T0, T1, ..., C with ``tokens="each"``; a stack without an encoder has no S."""
    sides = {"T": record.main.states[0].shape[1]}
    if record.encoder_states is not None:
        sides = {"S": record.encoder_states.shape[1], **sides}
    if tokens == "grouped":
        return (*sides, "C")
    return (*(f"{side}{place}" for side, length in sides.items() for place in range(length)), "C")


# --- where terms are not zero ---


class Span(NamedTuple):
    """The positions from ``first`` to before ``stop``, the same for all sentences: where a term may be other than zero.

    With one term a token, most of what would be computed is zero. The term of token j starts at position j alone; in a
    decoder it never reaches the positions before j; and a source's terms are zero until the first cross-attention. What
    is known to be zero is not computed.

    Examples
    --------
    >>> Span(1, 2).joined(Span(4, 6)), Span(4, 6).joined(EMPTY)
    (Span(first=1, stop=6), Span(first=4, stop=6))
    """

    first: int
    stop: int

    def joined(self, other: Span) -> Span:
        """The smallest span that holds both."""
        if self.first == self.stop:
            return other
        if other.first == other.stop:
            return self
        return Span(min(self.first, other.first), max(self.stop, other.stop))


EMPTY = Span(0, 0)


def chunks_of(spans: list[Span], floats: int, chunk: int | None) -> Iterator[tuple[slice, Span]]:
    """Terms that stand side by side and have one span, no more at a time than a chunk allows; no empty ones.

    A chunk is ``chunk`` terms, or as many as ``floats`` allow, the number of positions of all terms together.
    """
    start = 0
    while start < len(spans):
        span = spans[start]
        length = span.stop - span.first
        most = chunk or max(1, floats // max(1, length))
        stop = start + 1
        while stop < len(spans) and spans[stop] == span and stop - start < most:
            stop += 1
        if length:
            yield slice(start, stop), span
        start = stop


def reach(weights: torch.Tensor) -> torch.Tensor:
    """Which position an attention lets read which, in any sentence or head: (position, read position), of bool."""
    return (weights > 0).flatten(0, 1).any(dim=0)


def reached(reach: torch.Tensor, span: Span) -> Span:
    """The positions that read from this span."""
    places = reach[:, slice(*span)].any(dim=1).nonzero()
    return Span(int(places[0]), int(places[-1]) + 1) if len(places) else EMPTY


# --- through the layers ---


class SourceParts(NamedTuple):
    """What a cross-attention reads, in parts.

    Attributes
    ----------
    vectors : Tensor of shape (part, sentence, read position, dim)
        The parts of the encoder's states.
    terms : Tensor of int, of shape (part,)
        The index of the term that each part goes to.

    Examples
    --------
    >>> SourceParts(torch.ones(1, 2, 7, 32), torch.tensor([0])).terms  # all of the states, to the first term
    tensor([0])
    """

    vectors: torch.Tensor
    terms: torch.Tensor


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
    own, spans = split_by_token(record.main.start, tokens)
    sources = len(terms) - 1 - len(own)
    vectors = own.new_zeros((len(terms), *own.shape[1:]))
    vectors[sources : sources + len(own)] = own
    spans = [EMPTY] * sources + spans
    source: torch.Tensor | SourceParts | None = record.encoder_states
    if through_encoder and record.encoder is not None:
        parts, inside = split_by_token(record.encoder.start, tokens)
        parts = torch.cat([parts, torch.zeros_like(parts[:1])])
        layers = _carried(record.encoder, parts, inside, centering, gate, chunk)
        parts = deque(layers, maxlen=1).pop()  # the last layer's
        # The encoder's constant joins the decoder's.
        source = SourceParts(parts, torch.tensor([*range(sources), len(terms) - 1], device=parts.device))
    elif record.encoder_states is not None and tokens == "grouped":
        # One part, carried like any other: a wrong value map of the cross-attention is to show in the sum.
        source = SourceParts(record.encoder_states[None], torch.zeros(1, dtype=torch.long, device=own.device))
    yield from _carried(record.main, vectors, spans, centering, gate, chunk, source)


def split_by_token(states: torch.Tensor, tokens: str) -> tuple[torch.Tensor, list[Span]]:
    """States (sentence, position, dim) as one term, or one term a position that is zero at all others; their spans."""
    length = states.shape[1]
    if tokens == "grouped":
        return states[None], [Span(0, length)]
    places = torch.eye(length, dtype=states.dtype, device=states.device)  # (term, position)
    terms = places[:, None, :, None] * states[None]  # (term, sentence, position, dim)
    return terms, [Span(place, place + 1) for place in range(length)]


def _carried(
    record: StackRecord,
    vectors: torch.Tensor,
    spans: list[Span],
    centering: str,
    gate: str,
    chunk: int | None,
    source: torch.Tensor | SourceParts | None = None,
) -> Iterator[torch.Tensor]:
    """Carry terms in place, the constant last: yield them at a stack's input and after each layer.

    ``spans`` are those of all terms but the constant, which biases and means fill everywhere.
    """
    constant = len(vectors) - 1
    spans = [*spans, Span(0, vectors.shape[2])]
    if record.embedding_norm is not None:
        record.embedding_norm.of_sum(vectors, constant, centering, in_place=True)
    yield vectors
    for number, layer in enumerate(record.layers, start=1):
        start = vectors.clone() if record.stack.parallel else None
        for sublayer in layer:
            read = vectors if start is None else start
            if record.stack.norm == "pre":
                read = sublayer.norm.of_sum(read, constant, centering)
            add_written(vectors, spans, sublayer, read, gate, chunk, source)
            sublayer.forget()
            del read  # many terms are large: keep no more of them alive than are needed
            if record.stack.norm == "post":
                sublayer.norm.of_sum(vectors, constant, centering, in_place=True)
        if number == len(record.layers) and record.final_norm is not None:
            record.final_norm.of_sum(vectors, constant, centering, in_place=True)
        yield vectors


# --- through one sublayer ---


def add_written(
    vectors: torch.Tensor,
    spans: list[Span],
    sublayer: Sublayer,
    read: torch.Tensor,
    gate: str,
    chunk: int | None = None,
    source: torch.Tensor | SourceParts | None = None,
) -> None:
    """Add to each term what the sublayer writes to it.

    Parameters
    ----------
    vectors : Tensor of shape (term, sentence, position, dim)
        The terms of the residual stream; changed in place.
    spans : list of Span
        Where each term can be other than zero; changed in place.
    read : Tensor of shape (term, sentence, position, dim)
        The terms of what the sublayer read (``vectors`` themselves, in post-norm layers).
    gate : {"frozen", "tangent"}
        For gated feed-forwards.
    chunk : int, optional
        How many terms go through at once: bounds memory, changes nothing else.
    source : Tensor or SourceParts
        What a cross-attention reads. A tensor holds the encoder's states, of shape (sentence, read position, dim): the
        state at each read position is a part by itself, and goes to the term of the same number.
    """
    if isinstance(sublayer, FeedForwardSublayer):
        _add_feed_forward(vectors, spans, sublayer, read, gate, chunk)
    elif isinstance(sublayer, AttentionSublayer) and sublayer.place.reads != "encoder":
        _add_self_attention(vectors, spans, sublayer, read, chunk)
    elif isinstance(sublayer, AttentionSublayer) and source is not None:
        _add_cross_attention(vectors, spans, sublayer, source, chunk)
    if sublayer.constant is not None:
        vectors[-1].add_(sublayer.constant)


def _add_self_attention(
    vectors: torch.Tensor, spans: list[Span], sublayer: AttentionSublayer, read: torch.Tensor, chunk: int | None
) -> None:
    everywhere = Span(0, read.shape[2])
    reads = None if all(span in (EMPTY, everywhere) for span in spans) else reach(sublayer.weights)
    for terms, span in chunks_of(spans, _positions(read), chunk):
        to = everywhere if reads is None else reached(reads, span)
        mixed = _mixed(sublayer, read[terms, :, slice(*span)], span, to)
        _add_product(vectors[terms, :, slice(*to)], mixed, sublayer.output_map.weight)
        spans[terms] = [span.joined(to)] * len(spans[terms])


def _add_cross_attention(
    vectors: torch.Tensor,
    spans: list[Span],
    sublayer: AttentionSublayer,
    source: torch.Tensor | SourceParts,
    chunk: int | None,
) -> None:
    weight, everywhere = sublayer.output_map.weight, Span(0, vectors.shape[2])
    if isinstance(source, SourceParts):
        parts, to = source
        places = Span(0, parts.shape[2])
        for chosen, _ in chunks_of([places] * len(parts), _positions(parts), chunk):
            mixed = _mixed(sublayer, parts[chosen], places, everywhere)
            vectors.index_add_(0, to[chosen], linear(mixed, weight))
        written = to.tolist()
    else:  # every part stands at one position, and no other part does: no product over positions is needed
        values = _values(sublayer, source[None])[..., 0, :]  # (sentence, head, read position, inner)
        for chosen, _ in chunks_of([everywhere] * source.shape[1], _positions(vectors), chunk):
            weights = sublayer.weights[..., chosen].permute(3, 0, 2, 1)  # (part, sentence, position, head)
            one = values[:, :, chosen].permute(2, 0, 1, 3)[:, :, None]  # (part, sentence, 1, head, inner)
            _add_product(vectors[chosen], (weights[..., None] * one).flatten(3), weight)
        written = list(range(source.shape[1]))
    for number in written:
        spans[number] = everywhere


def _positions(vectors: torch.Tensor) -> int:
    """The number of positions that a chunk may have, when each is as large as those of ``vectors``."""
    return CHUNK_FLOATS // (vectors.shape[1] * vectors.shape[3])


def _add_product(vectors: torch.Tensor, read: torch.Tensor, weight: torch.Tensor) -> None:
    """Add W x to each vector in place."""
    if vectors.is_contiguous():  # in one product: no array of the size of ``vectors`` in between
        rows = vectors.view(-1, vectors.shape[-1])  # (term * sentence * position, dim)
        rows.addmm_(read.reshape(-1, read.shape[-1]), weight.T)
    else:
        vectors.add_(linear(read, weight))


def _mixed(sublayer: AttentionSublayer, read: torch.Tensor, span: Span, to: Span) -> torch.Tensor:
    """A W_V x, the heads side by side: (term, sentence, position, head * inner), for each term x that was read.

    ``read`` has the read positions of ``span`` alone, and what is given those of ``to``.
    """
    values = _values(sublayer, read).flatten(3)  # (sentence, head, read position, term * inner)
    # All terms of a head in one product: (position, read position) by (read position, term * inner).
    mixed = sublayer.weights[:, :, slice(*to), slice(*span)] @ values  # (sentence, head, position, term * inner)
    mixed = mixed.unflatten(3, (len(read), -1)).permute(3, 0, 2, 1, 4)  # (term, sentence, position, head, inner)
    return mixed.flatten(3)


def _values(sublayer: AttentionSublayer, read: torch.Tensor) -> torch.Tensor:
    """W_V x by head, of shape (sentence, head, read position, term, inner)."""
    values = linear(read, sublayer.value_map.weight)  # (term, sentence, read position, value head * inner)
    values = values.unflatten(-1, (-1, sublayer.inner))  # (term, sentence, read position, value head, inner)
    values = values.permute(1, 3, 2, 0, 4)  # (sentence, value head, read position, term, inner)
    shared = sublayer.heads // values.shape[1]  # grouped queries share values
    return values if shared == 1 else values.repeat_interleave(shared, dim=1)


def _add_feed_forward(
    vectors: torch.Tensor,
    spans: list[Span],
    sublayer: FeedForwardSublayer,
    read: torch.Tensor,
    gate: str,
    chunk: int | None,
) -> None:
    """Add the feed-forward made linear, without b_2, to each term."""
    slope, tilt, constant = sublayer.tangent(gate)
    for terms, span in chunks_of(spans, CHUNK_FLOATS // slope[:, 0].numel(), chunk):
        places = slice(*span)
        piece = read[terms, :, places]
        inner = linear(piece, sublayer.first_map.weight).mul_(slope[:, places])  # (term, sentence, position, inner)
        if tilt is not None:
            inner.add_(tilt[:, places] * linear(piece, sublayer.gate_map.weight))
        if terms.stop == len(spans):
            inner[-1].add_(constant)
        _add_product(vectors[terms, :, places], inner, sublayer.second_map.weight)

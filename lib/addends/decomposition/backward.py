"""Walking backward: what becomes of the cotangents of a stack's states on their way down to its input.

A number <g, e> that is linear in a state e is a sum over what the state is made of: see
`addends.decomposition.adjoint`. Its cotangent g goes backward through the sublayers of one recorded pass, with the
transposed maps W',

    a norm            g  ->  gain * g / s(x), less its own mean where terms lose theirs (centering="own")
    an attention      g  ->  W_V' A' W_O' g, summed over heads
    a feed-forward    g  ->  W_1' (f'(z) * W_2' g)
      gated           g  ->  W_1' (f(gate) * W_2' g), and with the tangent  + W_g' (f'(gate) z * W_2' g)

and leaves a share <g, b> at every bias, mean and intercept b, which goes to the constant, and <g, x_j> at the input x_j
of token j. In an encoder-decoder, source token j gets <W_V e_j, A' W_O' g> from every cross-attention, e_j the
encoder's state there. ``through_encoder=True`` lets the cotangent of the encoder's states go on down the encoder, to
the source's embeddings.

What is known to be zero is not computed: until the first attention the cotangent of position t stands at t alone, and
in a decoder it never reaches the positions after t.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch.nn.functional import linear

from addends.decomposition.by_token import CHUNK_FLOATS, Span, reach
from addends.decomposition.norms import Norm
from addends.decomposition.record import AttentionSublayer, Capture, FeedForwardSublayer, StackRecord, Sublayer

# --- the shares ---


@dataclass(eq=False)
class Shares:
    """What the walk adds up, of each number that is asked for: a query is (choice, position), or one in all.

    Attributes
    ----------
    own, source : Tensor of shape (query, sentence, token)
        Those of the decomposed stack's own tokens, and of the source's: no tokens without an encoder.
    constant : Tensor of shape (query, sentence)
        That of biases, means and intercepts.
    magnitude : Tensor of shape (query, sentence)
        Of all that was added, without its sign: what rounding is relative to.
    choices : int
        How many choices the queries are of.

    Examples
    --------
    >>> Shares.zero(torch.zeros(2, 1, 5, 8), 7, 10).by_term().shape  # (term, sentence, position, choice)
    torch.Size([13, 1, 5, 2])
    """

    own: torch.Tensor
    source: torch.Tensor
    constant: torch.Tensor
    magnitude: torch.Tensor
    choices: int

    @classmethod
    def zero(cls, ends: torch.Tensor, sources: int, queries: int) -> Shares:
        """For cotangents (choice, sentence, position, dim)."""
        choices, sentences, length, _ = ends.shape
        own, source = (ends.new_zeros((queries, sentences, size)) for size in (length, sources))
        return cls(own, source, own[..., 0].clone(), own[..., 0].clone(), choices)

    def by_term(self) -> torch.Tensor:
        """All shares, of shape (term, sentence, position, choice); one position if there is one query in all."""
        every = torch.cat([self.source, self.own, self.constant[..., None]], dim=-1)  # (query, sentence, term)
        return every.unflatten(0, (self.choices, -1)).permute(3, 2, 1, 0).contiguous()

    @property
    def size(self) -> torch.Tensor:
        """The magnitude, of shape (choice, sentence, position)."""
        return self.magnitude.unflatten(0, (self.choices, -1)).transpose(1, 2)

    def add_constant(self, beam: Cotangents, vectors: torch.Tensor | None) -> None:
        """Add <g, b> of what is written, whatever is read: b of shape (dim,) or (sentence, position, dim)."""
        if vectors is None:
            return
        if vectors.ndim == 1:
            found = beam.vectors @ vectors  # (query, sentence, position)
        else:
            found = (beam.vectors * vectors[:, slice(*beam.span)]).sum(dim=-1)
        # Of cotangents that still stand at their own positions, (choice, sentence, position), each is a query's.
        found = found.transpose(1, 2).flatten(0, 1) if beam.standing else found.sum(dim=-1)
        self.constant[beam.queries] += found
        self.magnitude[beam.queries] += found.abs()

    def add_tokens(self, to: torch.Tensor, beam: Cotangents, vectors: torch.Tensor, span: Span) -> None:
        """Add (query, sentence, token) shares of the tokens of a span to ``own`` or ``source``."""
        to[beam.queries, :, slice(*span)] += vectors
        self.magnitude[beam.queries] += vectors.abs().sum(dim=-1)


# --- backward through the layers ---


@dataclass(eq=False)
class Cotangents:
    """The cotangents of some queries at the positions of a span, zero at all others.

    Attributes
    ----------
    queries : slice
        Which of all queries they are.
    span : Span
        The positions.
    vectors : Tensor of shape (query, sentence, position of the span, dim)
        While ``standing``, of shape (choice, sentence, position, dim).
    standing : bool
        Whether no attention has been passed yet: the cotangent of position t is at t alone, where it began.
    encoder : Tensor of shape (query, sentence, read position, dim), or None
        The cotangents of the encoder's states, if they are followed.

    Examples
    --------
    >>> Cotangents(slice(0, 10), Span(0, 5), torch.ones(2, 1, 5, 8), standing=True).span.stop
    5
    """

    queries: slice
    span: Span
    vectors: torch.Tensor
    standing: bool = False
    encoder: torch.Tensor | None = None


def walked(
    record: Capture,
    ends: torch.Tensor,
    layer: int,
    centering: str,
    gate: str,
    through_encoder: bool,
    at_once: bool = False,
) -> Shares:
    """Walk cotangents (choice, sentence, position, dim) of the states after a layer back to the stack's input.

    With ``at_once`` those of all positions are one query.
    """
    choices, _, length, _ = ends.shape
    queries = choices * (1 if at_once else length)
    shares = Shares.zero(ends, 0 if record.encoder_states is None else record.encoder_states.shape[1], queries)
    # A copy: what is walked is changed in place.
    beams = [Cotangents(slice(0, queries), Span(0, length), ends.clone(), standing=not at_once)]
    walk = _Walk(shares, centering, gate, record.encoder_states, through_encoder)
    beams = walk.down(record.main, beams, layer, shares.own)
    if through_encoder and record.encoder is not None:
        span = Span(0, record.encoder.start.shape[1])
        inside = [Cotangents(beam.queries, span, beam.encoder) for beam in beams if beam.encoder is not None]
        del beams
        walk.down(record.encoder, inside, len(record.encoder.layers), shares.source)
    return shares


@dataclass(eq=False)
class _Walk:
    """How cotangents go backward, and where the shares go that they leave on the way."""

    shares: Shares
    centering: str
    gate: str
    source: torch.Tensor | None  # the encoder's states
    through_encoder: bool

    def down(self, record: StackRecord, beams: list[Cotangents], depth: int, to: torch.Tensor) -> list[Cotangents]:
        """From the states after layer ``depth`` to the stack's input, whose tokens' shares are added to ``to``."""
        widths = [sub.preactivation.shape[-1] for sub in record.sublayers if isinstance(sub, FeedForwardSublayer)]
        room = CHUNK_FLOATS // (record.start.shape[0] * max([record.start.shape[2], *widths]))
        if depth == len(record.layers) and record.final_norm is not None:
            self.through_norm(record.final_norm, beams)
        for layer in reversed(record.layers[:depth]):
            beams = self.through_layer(record, layer, beams, room)
        if record.embedding_norm is not None:
            self.through_norm(record.embedding_norm, beams)
        beams = apart(beams, room)
        for beam in beams:
            found = (beam.vectors * record.start[:, slice(*beam.span)]).sum(dim=-1)  # (query, sentence, position)
            self.shares.add_tokens(to, beam, found, beam.span)
        return beams

    def through_layer(
        self, record: StackRecord, layer: list[Sublayer], beams: list[Cotangents], room: int
    ) -> list[Cotangents]:
        parallel, norm = record.stack.parallel, record.stack.norm
        if parallel:
            beams = apart(beams, room)
        reads = []  # the cotangents of what each sublayer of a parallel layer read, which is the layer's input
        for sublayer in reversed(layer):
            if norm == "post":
                self.through_norm(sublayer.norm, beams)
            if isinstance(sublayer, AttentionSublayer):
                beams = apart(beams, room)
            read = self.through_sublayer(sublayer, beams)
            if norm == "pre":
                self.through_norm(sublayer.norm, read)
            if parallel:
                reads.append(read)
            elif read:
                beams = [joined(beam, more) for beam, more in zip(beams, read, strict=True)]
            sublayer.forget()
        for read in reads:
            beams = [joined(beam, more) for beam, more in zip(beams, read, strict=True)] if read else beams
        return beams

    def through_norm(self, norm: Norm, beams: list[Cotangents]) -> None:
        """From what a norm gave to what it read, in place."""
        if not beams:
            return
        gain, centres, added = norm.scaled(self.centering)
        for beam in beams:
            self.shares.add_constant(beam, added)
            if gain is not None:
                beam.vectors.mul_(gain[:, slice(*beam.span)])
            if centres:
                beam.vectors.sub_(beam.vectors.mean(dim=-1, keepdim=True))

    def through_sublayer(self, sublayer: Sublayer, beams: list[Cotangents]) -> list[Cotangents]:
        """The cotangents of what a sublayer read from the stack, given those of what it wrote; none if it read else."""
        if isinstance(sublayer, FeedForwardSublayer):
            return self.through_feed_forward(sublayer, beams)
        assert isinstance(sublayer, AttentionSublayer)
        for beam in beams:
            self.shares.add_constant(beam, sublayer.constant)
        if sublayer.place.reads != "encoder":
            return self.through_self_attention(sublayer, beams)
        if self.source is not None:
            self.through_cross_attention(sublayer, self.source, beams)
        return []

    def through_self_attention(self, sublayer: AttentionSublayer, beams: list[Cotangents]) -> list[Cotangents]:
        reads, weight, read = reach(sublayer.weights), sublayer.value_map.weight, []
        for beam in beams:
            span = read_by(reads, beam.span).joined(beam.span)
            read.append(replace(beam, span=span, vectors=of_values(sublayer, beam, span) @ weight))
        return read

    def through_cross_attention(
        self, sublayer: AttentionSublayer, source: torch.Tensor, beams: list[Cotangents]
    ) -> None:
        span, weight = Span(0, source.shape[1]), sublayer.value_map.weight
        values = linear(source, weight)  # (sentence, read position, value head * inner)
        for beam in beams:
            back = of_values(sublayer, beam, span)  # (query, sentence, read position, value head * inner)
            if not self.through_encoder:
                self.shares.add_tokens(self.shares.source, beam, (back * values).sum(dim=-1), span)
            elif beam.encoder is None:
                beam.encoder = back @ weight
            else:
                beam.encoder.add_(back @ weight)

    def through_feed_forward(self, sublayer: FeedForwardSublayer, beams: list[Cotangents]) -> list[Cotangents]:
        slope, tilt, constant = sublayer.tangent(self.gate)
        first, second = sublayer.first_map.weight, sublayer.second_map.weight
        constant = linear(constant, second, sublayer.constant)  # (sentence, position, dim)
        read = []
        for beam in beams:
            self.shares.add_constant(beam, constant)
            places = slice(*beam.span)
            inner = beam.vectors @ second  # (query, sentence, position, inner)
            tilted = None if tilt is None else (inner * tilt[:, places]) @ sublayer.gate_map.weight
            vectors = inner.mul_(slope[:, places]) @ first
            read.append(replace(beam, vectors=vectors if tilted is None else vectors.add_(tilted)))
        return read


def of_values(sublayer: AttentionSublayer, beam: Cotangents, to: Span) -> torch.Tensor:
    """A' W_O' g: the cotangents of an attention's values at the positions of a span that it reads.

    Returns
    -------
    Tensor of shape (query, sentence, read position, value head * inner)
    """
    back = beam.vectors @ sublayer.output_map.weight  # (query, sentence, position, head * inner)
    # All queries of a head in one product: (read position, position) by (position, query * inner).
    back = back.unflatten(-1, (sublayer.heads, -1)).permute(1, 3, 2, 0, 4).flatten(3)
    back = sublayer.weights[:, :, slice(*beam.span), slice(*to)].transpose(2, 3) @ back
    shared = sublayer.heads * sublayer.inner // len(sublayer.value_map.weight)
    if shared > 1:  # grouped queries: several heads read the same values
        back = back.unflatten(1, (-1, shared)).sum(dim=2)
    back = back.unflatten(-1, (len(beam.vectors), -1))  # (sentence, value head, read position, query, inner)
    return back.permute(3, 0, 2, 1, 4).flatten(3)


def read_by(reads: torch.Tensor, span: Span) -> Span:
    """The positions that a span's read, of `addends.decomposition.by_token.reach`: (position, read position)."""
    places = reads[slice(*span)].any(dim=0).nonzero()
    return Span(int(places[0]), int(places[-1]) + 1) if len(places) else span


def apart(beams: list[Cotangents], room: int) -> list[Cotangents]:
    """Standing cotangents query by query, some neighbours together, as they are to go through attentions.

    A chunk's queries share one span. In a decoder it ends with the last query's position, and what lies behind is never
    computed: chunks are no longer than an eighth of all positions, and than ``room`` allows, the number of positions of
    all queries of a chunk together.
    """
    found = []
    for beam in beams:
        if not beam.standing:
            found.append(beam)
            continue
        choices, _, length, _ = beam.vectors.shape
        most = max(1, min(-(-length // 8), room // length))
        for choice in range(choices):
            for start in range(0, length, most):
                span = Span(start, min(start + most, length))
                piece = beam.vectors[choice, :, slice(*span)]  # (sentence, position, dim)
                places = torch.eye(piece.shape[1], dtype=piece.dtype, device=piece.device)
                vectors = places[:, None, :, None] * piece  # (query, sentence, position, dim)
                queries = slice(*(choice * length + place for place in span))
                found.append(Cotangents(queries, span, vectors))
    return found


def joined(beam: Cotangents, read: Cotangents) -> Cotangents:
    """The sum of two cotangents of the same queries, in the memory of the one that spans more."""
    into, added = (read, beam) if len_of(read.span) >= len_of(beam.span) else (beam, read)
    first = added.span.first - into.span.first
    into.vectors[:, :, first : first + len_of(added.span)].add_(added.vectors)
    return replace(into, encoder=beam.encoder)


def len_of(span: Span) -> int:
    """The number of a span's positions."""
    return span.stop - span.first

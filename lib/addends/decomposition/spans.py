"""Where terms are not zero: the positions from the first to the last at which a term can have left anything.

With one term a token, most of what would be computed is zero. The term of token j starts at position j alone; in a
decoder it never reaches the positions before j; and a source's terms are zero until the first cross-attention. What is
known to be zero is not computed. A span is (first, stop), the same for all sentences of a batch; (0, 0) is empty.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

Span = tuple[int, int]
EMPTY: Span = (0, 0)


def union(one: Span, other: Span) -> Span:
    """The smallest span that holds both."""
    if one[0] == one[1]:
        return other
    return one if other[0] == other[1] else (min(one[0], other[0]), max(one[1], other[1]))


def runs(spans: list[Span], floats: int, chunk: int | None) -> Iterator[tuple[slice, Span]]:
    """Terms that stand side by side and have the same span, no more at a time than a chunk allows; empty ones not.

    A chunk is ``chunk`` terms, or as many as ``floats`` allow, the number of positions of all terms together.
    """
    start = 0
    while start < len(spans):
        span = spans[start]
        length = span[1] - span[0]
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
    return (int(places[0]), int(places[-1]) + 1) if len(places) else EMPTY

"""How far rounding alone can move a state or a sum of parts: bounds that follow from the arithmetic."""

from __future__ import annotations

import torch

from addends.decomposition import Parts, cancellation


def bound(
    dtype: torch.dtype | str, layers: int, terms: int = 5, longest_sum: int = 0, cancellation: float = 1.0
) -> float:
    """The largest relative error, in lengths of the state, that rounding explains.

    Each of the three sublayers of a layer ends with a norm, by which a part is moved, scaled and added to: three
    roundings, of relative size u (the unit roundoff) each. Where a part also travels through linear maps, their sums of
    n products add n more. In the end ``terms`` parts are added, which are larger than their sum by ``cancellation``,
    sum_k |x_k| / |e|. Roundings come with either sign, so N of them add up to about sqrt(N) u, with three standard
    deviations as the bound::

        3 sqrt(N) u max(1, cancellation),    N = 3 layers (3 + n) + terms

    Threads and instruction sets change the order of a sum, which the bound does not depend on.

    Parameters
    ----------
    longest_sum : int
        n: 0 by sublayer, where no part is mapped; otherwise the width of the feed-forward.
    """
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    roundings = 3 * max(layers, 1) * (3 + longest_sum) + terms
    return 3 * roundings**0.5 * torch.finfo(dtype).eps / 2 * max(1.0, cancellation)


def allowed(parts: Parts, longest_sum: int = 0) -> float:
    """`bound` for the sums of a decomposition: of its own depth, terms, type and cancellation."""
    ratio = cancellation(parts.vectors, parts.states)[:, parts.mask].max()
    return bound(parts.vectors.dtype, len(parts.vectors) - 1, len(parts.terms), longest_sum, float(ratio))

"""How far rounding alone can move a state or a sum of parts: bounds that follow from the arithmetic."""

from __future__ import annotations

import torch


def bound(
    dtype: torch.dtype | str, layers: int, terms: int = 5, longest_sum: int = 0, cancellation: float = 1.0
) -> float:
    """The largest relative error, in lengths of the state, that rounding explains.

    Each of the three sublayers of a layer ends with a norm, by which a part is moved, scaled and added to: three
    roundings, of relative size u (the unit roundoff) each. Where a part also travels through linear maps, their sums of
    n products add about sqrt(n) u, since errors come with either sign. In the end ``terms`` parts are added, which are
    larger than their sum by ``cancellation``, sum_k |x_k| / |e|::

        (3 layers (3 + sqrt(n)) + terms) u max(1, cancellation)

    Threads and instruction sets change the order of a sum, which the bound does not depend on.

    Parameters
    ----------
    longest_sum : int
        n: 0 by sublayer, where no part is mapped; otherwise the width of the feed-forward.
    """
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    unit_roundoff = torch.finfo(dtype).eps / 2
    roundings = 3 * max(layers, 1) * (3 + longest_sum**0.5) + terms
    return roundings * unit_roundoff * max(1.0, cancellation)

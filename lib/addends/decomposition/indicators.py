"""Indicators: how much, and in which direction, each part contributes to its state.

For a part x of a state e, all from <x, e>, |x|^2 and |e|^2:

    importance   <x, e> / |e|^2        share of the squared norm; sums to 1 over the terms (the released code's spim)
    cosine       <x, e> / (|x| |e|)    missing where x is zero
    norm_ratio   |x| / |e|             share of the norm, not bounded by 1
    distance     |x - e|               in the units of the state

What is zero: rounding leaves something of a part that is zero by arithmetic, in directions that depend on how the
sentences were batched. A sum of d products rounds by about u sqrt(d) of the size of what is summed, so

    x is zero where  |x| <= u sqrt(d) (|e| + sum_k |x_k|)        d: the width of the model

with the unit roundoff u = 2^-24 in float32 and 2^-53 in float64 (parts of a model in half precision are carried in
float32). In a state of width 512 whose parts are twice as long as it is, that is 4e-6 of its length. Of a zero part
importance and norm_ratio are 0, its distance is |e|, and its cosine is missing: exactly, in every batch. By the same
bound a state that its parts cancel to is zero, and has nothing but distances.

By sublayer, a difference is held to the same bound earlier: what a sublayer wrote, less its constant. It is zero by the
lengths of those two, because a constant may be much longer than the state, where later constants cancel it. The
rounding of a model in half precision is not covered: in bfloat16, parts shorter than about 1 % of the state may be
nothing else.

References
----------
Mickus & Vázquez (2023), Why bother with geometry?, BlackboxNLP, section 2.2.
"""

from __future__ import annotations

import pandas as pd
import torch

from addends.decomposition.linear import roundoff, widened
from addends.decomposition.parts import Parts
from addends.errors import InputError
from addends.tables import INDICATORS


def indicators(parts: Parts) -> pd.DataFrame:
    """The four indicators of every part at every real token.

    Returns
    -------
    DataFrame
        Tidy: layer, term, sentence, position, importance, cosine, norm_ratio, distance. Padding has no rows, nor have
        the special tokens that `encode` or `translate` left out; what is undefined (the cosine of a zero part) is
        missing. What counts as zero is said at the head of this module.
    """
    values = of_vectors(parts.vectors.transpose(0, 1), parts.states)  # (indicator, term, layer, sentence, position)
    values = values.transpose(1, 2)  # (indicator, layer, term, sentence, position)
    layers = len(parts.vectors)
    sentence, position = parts.mask.nonzero(as_tuple=True)  # (token,), (token,)
    values = values[..., parts.mask]  # (indicator, layer, term, token)
    index = pd.MultiIndex.from_product(
        [range(layers), parts.terms, range(len(sentence))], names=["layer", "term", "token"]
    )
    frame = pd.DataFrame(
        values.flatten(1).T.cpu().double().numpy(), index=index, columns=list(INDICATORS)
    ).reset_index()
    token = frame.pop("token").to_numpy()
    frame.insert(2, "sentence", sentence.cpu().numpy()[token])
    frame.insert(3, "position", position.cpu().numpy()[token])
    return frame


def with_places(frame: pd.DataFrame) -> pd.DataFrame:
    """The same rows with the terms of ``tokens="each"`` taken apart: "S3" is of the group "S" and the place 3.

    Returns
    -------
    DataFrame
        With two more columns behind term: group ("S", "T", "C") and place (an integer, counted from 0 in the padded
        batch; missing where the term is that of no single token).

    Raises
    ------
    InputError
        If a term names more than one place, as those of single heads do.
    """
    pieces = frame["term"].str.extract(r"^([A-Z])(\d*)$")
    if pieces[0].isna().any():
        term = frame["term"][pieces[0].isna()].iloc[0]
        raise InputError(
            f"The term {term!r} is no group with one place, such as 'S3': give the indicators of a decomposition by "
            "token with tokens='each'."
        )
    at = frame.columns.get_loc("term") + 1
    result = frame.copy()
    result.insert(at, "group", pieces[0].astype(str))
    result.insert(at + 1, "place", pd.to_numeric(pieces[1]).astype("Int64"))
    return result


def of_vectors(vectors: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """The four indicators of all parts of states.

    Parameters
    ----------
    vectors : Tensor of shape (term, ..., dim)
        Every part of the states: what is zero is decided by the size of all of them. Half precision is widened to
        float32 before anything is squared.
    states : Tensor of shape (..., dim)

    Returns
    -------
    Tensor of shape (indicator, term, ...)
        NaN where undefined.
    """
    vectors, states = widened(vectors), widened(states)
    inner = (vectors * states).sum(dim=-1)
    length, state_length = (torch.linalg.vector_norm(each, dim=-1) for each in (vectors, states))
    # |x - e| is not expanded into inner products: where x is nearly e the squares would cancel.
    distance = torch.linalg.vector_norm(vectors - states, dim=-1)
    summed = length.sum(dim=0)
    rounding = roundoff(vectors)
    zero = length <= rounding * (state_length + summed)
    distance = torch.where(zero, state_length, distance)
    # Nothing is a share of a state that its parts cancel to.
    whole = state_length.masked_fill(state_length <= rounding * summed, torch.nan)
    cosine = inner.masked_fill(zero, torch.nan) / (length * whole)
    importance, norm_ratio = inner.masked_fill(zero, 0) / whole**2, length.masked_fill(zero, 0) / whole
    return torch.stack([importance, cosine, norm_ratio, distance])

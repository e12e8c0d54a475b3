"""Indicators: how much, and in which direction, each part contributes to its state.

For a part x of a state e, all from <x, e>, |x|^2 and |e|^2:

    importance   <x, e> / |e|^2        share of the squared norm; sums to 1 over the terms (the released code's spim)
    cosine       <x, e> / (|x| |e|)    missing where x is zero
    norm_ratio   |x| / |e|             share of the norm, not bounded by 1
    distance     |x - e|               in the units of the state

References
----------
Mickus & Vázquez (2023), Why bother with geometry?, BlackboxNLP, section 2.2.
"""

from __future__ import annotations

import pandas as pd
import torch

from addends.decomposition.parts import Parts
from addends.decomposition.weights import widened
from addends.errors import InputError

NAMES = ("importance", "cosine", "norm_ratio", "distance")


def indicators(parts: Parts) -> pd.DataFrame:
    """The four indicators of every part at every real token.

    Returns
    -------
    DataFrame
        Tidy: layer, term, sentence, position, importance, cosine, norm_ratio, distance. Padding has no rows; what is
        undefined (the cosine of a zero vector) is missing.
    """
    values = of_vectors(parts.vectors, parts.states[:, None])  # (indicator, layer, term, sentence, position)
    layers = len(parts.vectors)
    sentence, position = parts.mask.nonzero(as_tuple=True)  # (token,), (token,)
    values = values[..., parts.mask]  # (indicator, layer, term, token)
    index = pd.MultiIndex.from_product(
        [range(layers), parts.terms, range(len(sentence))], names=["layer", "term", "token"]
    )
    frame = pd.DataFrame(values.flatten(1).T.cpu().double().numpy(), index=index, columns=list(NAMES)).reset_index()
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
    """The four indicators of vectors in states.

    Parameters
    ----------
    vectors : Tensor of shape (..., dim)
        Half precision is widened to float32 before anything is squared.
    states : Tensor that broadcasts to it

    Returns
    -------
    Tensor of shape (indicator, ...)
        NaN where undefined.
    """
    vectors, states = widened(vectors), widened(states)
    inner = (vectors * states).sum(dim=-1)
    length = torch.linalg.vector_norm(vectors, dim=-1)
    state_length = torch.linalg.vector_norm(states, dim=-1).expand_as(length)
    # |x - e| is not expanded into inner products: where x is nearly e the squares would cancel.
    distance = torch.linalg.vector_norm(vectors - states, dim=-1)
    cosine = inner / (length * state_length)  # 0 / 0 is NaN: missing
    return torch.stack([inner / state_length**2, cosine, length / state_length, distance])

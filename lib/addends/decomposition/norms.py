"""What a LayerNorm does to a sum: every term is scaled alike, and its mean and bias find a home.

y = g * (x - m(x)) / s(x) + b, with s(x) = sqrt(var(x) + eps). For x = sum_k x_k and fixed s(x),

    centering="constant":  y_k = g * x_k / s(x),            and  -g * m(x) / s(x) + b  goes to C
    centering="own":       y_k = g * (x_k - m(x_k)) / s(x), and                    b  goes to C

so that in both cases sum_k y_k = y: the mean of a sum is the sum of the means.
"""

from __future__ import annotations

import torch
from torch import nn

from addends.errors import InputError

CENTERINGS = ("constant", "own")


def check_centering(centering: str) -> None:
    """Raise InputError unless ``centering`` is allowed."""
    if centering not in CENTERINGS:
        raise InputError(f"centering={centering!r} is not one of {CENTERINGS}.")


def through_norm(
    norm: nn.LayerNorm, before: torch.Tensor, vectors: torch.Tensor, constant: int, centering: str
) -> torch.Tensor:
    """Carry the terms of a sum through a LayerNorm.

    Parameters
    ----------
    norm : LayerNorm
        The model's own module.
    before : Tensor of shape (sentence, position, dim)
        What the norm read in the forward pass: the sum of the terms.
    vectors : Tensor of shape (term, sentence, position, dim)
        The terms; changed in place.
    constant : int
        The index of the constant term C.
    centering : {"constant", "own"}
        Where the mean goes.

    Returns
    -------
    Tensor of shape (term, sentence, position, dim)
    """
    variance, mean = torch.var_mean(before, dim=-1, correction=0, keepdim=True)  # (sentence, position, 1)
    if centering == "own":
        vectors -= vectors.mean(dim=-1, keepdim=True)
    else:
        vectors[constant] -= mean
    gain = (variance + norm.eps).rsqrt()  # (sentence, position, 1)
    if norm.weight is not None:
        gain = gain * norm.weight  # (sentence, position, dim)
    vectors *= gain
    if getattr(norm, "bias", None) is not None:
        vectors[constant] += norm.bias
    return vectors

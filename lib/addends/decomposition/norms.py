"""What a norm does to a sum: every term is scaled alike, and its mean and bias find a home.

LayerNorm: y = g * (x - m(x)) / s(x) + b, with s(x) = sqrt(var(x) + eps). For x = sum_k x_k and fixed s(x),

    centering="constant":  y_k = g * x_k / s(x),            and  -g * m(x) / s(x) + b  goes to C
    centering="own":       y_k = g * (x_k - m(x_k)) / s(x), and                    b  goes to C

so that in both cases sum_k y_k = y: the mean of a sum is the sum of the means. RMSNorm, y = g * x / rms(x), has
neither mean nor bias: y_k = g * x_k / rms(x) in both cases.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from addends.decomposition.weights import widened
from addends.errors import InputError

CENTERINGS = ("constant", "own")


def check_centering(centering: str) -> None:
    """Raise InputError unless ``centering`` is allowed."""
    if centering not in CENTERINGS:
        raise InputError(f"centering={centering!r} is not one of {CENTERINGS}.")


@dataclass
class Norm:
    """A norm in one forward pass: what it read and what it gave, both of shape (sentence, position, dim)."""

    module: nn.Module
    read: torch.Tensor = None
    gave: torch.Tensor = None

    def of_sum(
        self, vectors: torch.Tensor, constant: int | None, centering: str, in_place: bool = False
    ) -> torch.Tensor:
        """Carry the terms of a sum through the norm.

        Parameters
        ----------
        vectors : Tensor of shape (term, sentence, position, dim)
            The terms of what the norm read; left as they are unless ``in_place``.
        constant : int or None
            The index of the constant term C; None leaves out what goes there.
        centering : {"constant", "own"}
            Where the mean goes.

        Returns
        -------
        Tensor of shape (term, sentence, position, dim)
        """
        if not isinstance(self.module, nn.LayerNorm):
            return vectors.mul_(self._rms_gain()) if in_place else vectors * self._rms_gain()
        # The kernel under every LayerNorm gives both in one pass; var_mean takes ten times as long.
        shape, eps = self.module.normalized_shape, self.module.eps
        _, mean, gain = torch.native_layer_norm(self.read, shape, None, None, eps)  # (sentence, position, 1)
        if self.module.weight is not None:
            gain = gain * widened(self.module.weight)  # (sentence, position, dim)
        if centering == "own":
            own = vectors.mean(dim=-1, keepdim=True)  # (term, sentence, position, 1)
            vectors = (vectors.sub_(own) if in_place else vectors - own).mul_(gain)
        else:
            vectors = vectors.mul_(gain) if in_place else vectors * gain
            if constant is not None:
                vectors[constant].addcmul_(mean, gain, value=-1)
        if constant is not None and self.module.bias is not None:
            vectors[constant].add_(widened(self.module.bias))
        return vectors

    def _rms_gain(self) -> torch.Tensor:
        """g / rms(x), of shape (sentence, position, dim), as this module applied it.

        An RMSNorm multiplies, so its gain is the ratio of what it gave to what it read. That holds whatever precision
        the module computes in: transformers' own go through float32 even in a float64 model. Where an entry is too
        small to divide by, or where a module in half precision has rounded what it gave, the gain is the formula's.
        """
        eps = getattr(self.module, "variance_epsilon", getattr(self.module, "eps", 0.0)) or 0.0
        square = self.read.square().mean(dim=-1, keepdim=True)
        formula = widened(self.module.weight) * (square + eps).rsqrt()
        if widened(self.module.weight) is not self.module.weight:
            return formula
        small = self.read.abs() <= 1e-6 * square.sqrt()
        return torch.where(small, formula, self.gave / torch.where(small, 1, self.read))

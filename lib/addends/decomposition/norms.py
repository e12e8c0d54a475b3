"""Norms: finding the formula that a module computes, and carrying the terms of a sum through it.

A norm scales every term alike, and its mean and bias find a home. LayerNorm: y = g * (x - m(x)) / s(x) + b, with
s(x) = sqrt(var(x) + eps). For x = sum_k x_k and fixed s(x),

    centering="constant":  y_k = g * x_k / s(x),            and  -g * m(x) / s(x) + b  goes to C
    centering="own":       y_k = g * (x_k - m(x_k)) / s(x), and                    b  goes to C

so that in both cases sum_k y_k = y: the mean of a sum is the sum of the means. RMSNorm, y = g * x / rms(x), has
neither mean nor bias: y_k = g * x_k / rms(x) in both cases. The gain g is the module's weight w, 1 + w (Gemma), or 1.

Which of them a module computes is found by its formula, not by its class: see `form_of`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn

from addends.decomposition.linear import HALF, fingerprint, own_noise, rounding, widened
from addends.errors import UnsupportedModelError

CENTERINGS = ("constant", "own")

# Names by which norms call their gain, their bias and their eps; other eps that are tried stand beside them.
_WEIGHTS, _BIASES = ("weight", "scale", "gamma"), ("bias", "beta")
_EPSILONS = ("eps", "variance_epsilon", "epsilon", "norm_eps", "layer_norm_eps")
_USUAL_EPSILONS = (1e-5, 1e-6, 1e-12, 0.0)


@dataclass(frozen=True)
class Form:
    """A norm's formula: y = (offset + w) * (x - m(x)) / s(x) + b.

    Attributes
    ----------
    centred : bool
        Whether there is a mean m(x), as in a LayerNorm.
    divides : bool
        Without it y = x: an identity stands where a norm may stand.
    weight, bias : str, optional
        The names of the module's own tensors w and b; None where it has none.
    offset : float
        1 in Gemma's norms, else 0.
    eps : float
        What is added to the variance (the mean square, without a mean).
    rounds : bool
        Whether the module goes through float32 in a float64 model.

    Examples
    --------
    >>> form_of(nn.LayerNorm(4), torch.zeros(1, 1, 4))
    Form(centred=True, divides=True, weight='weight', offset=0.0, bias='bias', eps=1e-05, rounds=False)
    """

    centred: bool = False
    divides: bool = True
    weight: str | None = None
    offset: float = 0.0
    bias: str | None = None
    eps: float = 0.0
    rounds: bool = False

    def gain_of(self, module: nn.Module) -> torch.Tensor | None:
        """offset + w, of shape (dim,); None without a weight."""
        if self.weight is None:
            return None
        weight = widened(getattr(module, self.weight))
        return weight + self.offset if self.offset else weight

    def bias_of(self, module: nn.Module) -> torch.Tensor | None:
        """b, of shape (dim,), or None."""
        return None if self.bias is None else widened(getattr(module, self.bias))

    def mean_and_scale(self, read: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        """m(x), None without one, and 1 / s(x); both of shape (..., 1)."""
        if self.centred:
            # The kernel under every LayerNorm gives both in one pass; var_mean takes ten times as long.
            _, mean, scale = torch.native_layer_norm(read, read.shape[-1:], None, None, self.eps)
            return mean, scale
        return None, (read.square().mean(dim=-1, keepdim=True) + self.eps).rsqrt()

    def __call__(self, module: nn.Module, read: torch.Tensor) -> torch.Tensor:
        """What the formula gives for ``read``."""
        if not self.divides:
            return read
        mean, scale = self.mean_and_scale(read)
        gave = (read if mean is None else read - mean) * scale
        gain, bias = self.gain_of(module), self.bias_of(module)
        gave = gave if gain is None else gave * gain
        return gave if bias is None else gave + bias


class Scaled(NamedTuple):
    """A norm at fixed s(x): a term x_k becomes gain * (x_k - m(x_k)), or gain * x_k, and C is given ``added`` as well.

    Attributes
    ----------
    gain : Tensor of shape (sentence, position, dim) or (sentence, position, 1), or None
        g / s(x); None where the norm is an identity.
    centres : bool
        Whether each term loses its own mean.
    added : Tensor of shape (dim,) or (sentence, position, dim), or None
        The bias, with the mean of what was read where terms keep their own.

    Examples
    --------
    >>> read = torch.tensor([[[1.0, 3.0]]])
    >>> Norm(nn.LayerNorm(2, eps=0.0), read, torch.tensor([[[-1.0, 1.0]]])).scaled("own").gain.tolist()
    [[[1.0, 1.0]]]
    """

    gain: torch.Tensor | None
    centres: bool
    added: torch.Tensor | None


@dataclass
class Norm:
    """A norm in one forward pass.

    Attributes
    ----------
    module : Module
        The norm.
    read, gave : Tensor of shape (sentence, position, dim)
        What it read and what it gave.
    dtype : torch.dtype, optional
        The type in which the module computed, before anything was widened.

    Examples
    --------
    >>> module, terms = nn.LayerNorm(4), torch.randn(3, 1, 2, 4)  # (term, sentence, position, dim)
    >>> norm = Norm(module, terms.sum(dim=0), module(terms.sum(dim=0)))
    >>> torch.allclose(norm.of_sum(terms, constant=2, centering="own").sum(dim=0), norm.gave, atol=1e-6)
    True
    """

    module: nn.Module
    read: torch.Tensor
    gave: torch.Tensor
    dtype: torch.dtype | None = None

    def of_sum(self, vectors: torch.Tensor, constant: int, centering: str, in_place: bool = False) -> torch.Tensor:
        """Carry the terms of a sum through the norm.

        Parameters
        ----------
        vectors : Tensor of shape (term, sentence, position, dim)
            The terms of what the norm read; left as they are unless ``in_place``.
        constant : int
            The index of the constant term C.
        centering : {"constant", "own"}
            Where the mean goes.

        Returns
        -------
        Tensor of shape (term, sentence, position, dim)

        Raises
        ------
        UnsupportedModelError
            If the module computes none of the known formulas: see `form_of`.
        """
        scaled = self.scaled(centering)
        if scaled.gain is None:
            return vectors if in_place else vectors.clone()
        if scaled.centres:
            own = vectors.mean(dim=-1, keepdim=True)  # (term, sentence, position, 1)
            vectors = (vectors.sub_(own) if in_place else vectors - own).mul_(scaled.gain)
        else:
            vectors = vectors.mul_(scaled.gain) if in_place else vectors * scaled.gain
        if scaled.added is not None:
            vectors[constant].add_(scaled.added)
        return vectors

    def scaled(self, centering: str) -> Scaled:
        """What the norm does to the terms of what it read, in this pass.

        Raises
        ------
        UnsupportedModelError
            As `of_sum`.
        """
        form = form_of(self.module, self.read, self.dtype)
        if not form.divides:
            return Scaled(None, False, None)
        mean, gain = form.mean_and_scale(self.read)  # (sentence, position, 1)
        weight, bias = form.gain_of(self.module), form.bias_of(self.module)
        gain = gain if weight is None else gain * weight  # (sentence, position, dim)
        if bias is None and (form.rounds or not form.centred) and self._own_type() not in HALF:
            gain = self._applied(gain, mean)
        centres = mean is not None and centering == "own"
        added = bias
        if mean is not None and not centres:
            added = -mean * gain if bias is None else torch.addcmul(bias, mean, gain, value=-1)
        if bias is not None and form.rounds:  # what the module rounds on its way through float32 is no term's
            rest = self.gave - form(self.module, self.read)
            rest = rest.masked_fill(rest.abs() > self._room(gain, mean, bias), 0)
            added = rest if added is None else added + rest
        return Scaled(gain, centres, added)

    def _own_type(self) -> torch.dtype:
        return self.dtype or _own_dtype(self.module, self.read)

    def _applied(self, formula: torch.Tensor, mean: torch.Tensor | None) -> torch.Tensor:
        """The gain as this module applied it, of shape (sentence, position, dim).

        A norm without a bias multiplies, so its gain is the ratio of what it gave to what it read. That holds whatever
        precision the module computes in: transformers' own RMSNorms go through float32 even in a float64 model. Where
        an entry is too small to divide by, the gain is the formula's. So it is where the ratio is off by more than
        rounding: in this pass the module did something else than `form_of` has proven (a hook that was off then), and
        the sum is to show it.
        """
        read = self.read if mean is None else self.read - mean
        small = read.abs() <= 1e-6 * read.square().mean(dim=-1, keepdim=True).sqrt()
        another = (self.gave - formula * read).abs() > self._room(formula, mean)
        return torch.where(small | another, formula, self.gave / torch.where(small, 1, read))

    def _room(self, gain: torch.Tensor, mean: torch.Tensor | None, bias: torch.Tensor | None = None) -> torch.Tensor:
        """How far rounding takes what this module gives off its formula, of shape (sentence, position, dim)."""
        added = gain.abs() * (self.read.abs() if mean is None else self.read.abs() + mean.abs())
        return rounding(self._own_type()) * (added if bias is None else added + bias.abs())


_FORMS: WeakKeyDictionary[nn.Module, tuple[tuple, Form]] = WeakKeyDictionary()


def form_of(module: nn.Module, read: torch.Tensor, dtype: torch.dtype | None = None) -> Form:
    """The formula that a norm computes, whatever its class; found once, and again after its weights or hooks change.

    The module is called on vectors that it did not see in any pass: random ones with means far from zero, in two sizes,
    one of them so small that eps counts. What it gives must be, on its own weights, what a LayerNorm or an RMSNorm
    gives, with the gain w, 1 + w or none, with its bias or without one, or what it read (an identity). It must be so to
    a few roundings of the type it computes in. Not seen: a module that computes something else on other vectors than
    such random ones, or under another number of positions.

    Raises
    ------
    UnsupportedModelError
        If none of the formulas fits; the message names the class and how far the nearest is off.
    """
    dtype = dtype or _own_dtype(module, read)
    now = (fingerprint(module), dtype, read.device, tuple(getattr(module, name, None) for name in _EPSILONS))
    known = _FORMS.get(module)
    if known is None or known[0] != now:
        known = _FORMS[module] = (now, _found(module, read, dtype))
    return known[1]


def _found(module: nn.Module, read: torch.Tensor, dtype: torch.dtype) -> Form:
    dim = read.shape[-1]
    unseen = 0.5 + own_noise((1, 8, dim), read)
    unseen[:, 4:] *= 2e-3
    with torch.no_grad():
        unseen = unseen.to(dtype)
        gave = widened(module(unseen))
        unseen = widened(unseen)
        tried = []
        for form in _forms(module, dim, dtype):
            expected = form(module, unseen)
            gap = torch.linalg.vector_norm(gave - expected, dim=-1) / torch.linalg.vector_norm(gave, dim=-1)
            tried.append((float(gap.nan_to_num(torch.inf).max()), form))
    nearest, form = min(tried, key=lambda each: each[0])
    if not nearest <= rounding(dtype):
        raise UnsupportedModelError(
            f"A {type(module).__name__} stands where a norm was expected, and gives neither what a LayerNorm nor what "
            f"an RMSNorm gives (with the gain w, 1 + w or none): the nearest formula is off by {nearest:.1e} "
            f"(relative), where {rounding(dtype):.1e} is allowed. Undo what changes it (a hook), or correct the row's "
            "path (addends.register(row, replace_existing=True))."
        )
    return replace(form, rounds=dtype == torch.float64 and nearest > 64 * torch.finfo(dtype).eps)


def _forms(module: nn.Module, dim: int, dtype: torch.dtype) -> list[Form]:
    """Every formula that the module's own tensors allow, the likeliest first."""

    def own(names: tuple[str, ...]) -> str | None:
        tensors = ((name, getattr(module, name, None)) for name in names)
        return next(
            (name for name, tensor in tensors if isinstance(tensor, torch.Tensor) and tensor.numel() == dim), None
        )

    weight, bias = own(_WEIGHTS), own(_BIASES)
    values = [getattr(module, name, None) for name in _EPSILONS]
    named = [float(value) for value in values if isinstance(value, (int, float))]
    # nn.RMSNorm without an eps takes that of the type.
    epsilons = dict.fromkeys([*named, *_USUAL_EPSILONS, *(torch.finfo(each).eps for each in (dtype, torch.float32))])
    forms = [
        Form(centred=centred, weight=name, offset=offset, bias=bias, eps=eps)
        for eps in epsilons
        for centred in (True, False)
        for name, offset in (((weight, 0.0), (weight, 1.0)) if weight else ((None, 0.0),))
    ]
    return [*forms, Form(divides=False)]


def _own_dtype(module: nn.Module, read: torch.Tensor) -> torch.dtype:
    return next((weight.dtype for weight in module.parameters() if weight.is_floating_point()), read.dtype)

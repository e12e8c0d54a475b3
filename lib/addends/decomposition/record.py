"""What one forward pass left: what each sublayer read and wrote, beside the maps that it is made of.

    Capture -> StackRecord -> a list of layers -> a list of sublayers -> AttentionSublayer or FeedForwardSublayer

A sublayer knows its own maps. They are read, and widened where the model is in half precision, when they are first
asked for. They are kept until `Sublayer.forget`, which whoever walks through the layers calls at each sublayer's end:
the widened maps of one sublayer are held at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import nn

from addends.decomposition.architecture import Architecture, Attention, FeedForward, Stack
from addends.decomposition.linear import LinearMap, linear_map, stored_map, widened
from addends.decomposition.norms import Norm


@dataclass(eq=False)
class Sublayer:
    """One sublayer in one forward pass: an `AttentionSublayer` or a `FeedForwardSublayer`.

    Attributes
    ----------
    place : Attention or FeedForward
        What the architecture's row says of it.
    modules : dict of str to Module
        Its modules by the names that ``place`` gives them: "value", "output", "first", ...
    norm : Norm
        Its norm in this pass.
    written : Tensor of shape (sentence, position, dim)
        Its output, biases included.

    Examples
    --------
    >>> sublayer = record.main.layers[0][0]  # record: what `capture` returned
    >>> sublayer.place.term, sublayer.written.shape, sublayer.constant.shape
    ('T', torch.Size([1, 5, 128]), torch.Size([128]))
    """

    place: Attention | FeedForward
    modules: dict[str, nn.Module] = field(repr=False)
    norm: Norm = field(init=False, repr=False)
    written: torch.Tensor = field(init=False, repr=False)

    @property
    def constant(self) -> torch.Tensor | None:
        """What the sublayer writes whatever it reads, of shape (dim,); None without biases."""
        raise NotImplementedError

    def forget(self) -> None:
        """Let go of the maps that were read; they are read anew when they are asked for again."""
        for name in [name for name, kept in vars(self).items() if isinstance(kept, LinearMap)]:
            del self.__dict__[name]


@dataclass(eq=False)
class AttentionSublayer(Sublayer):
    """An attention in one forward pass: y = W_O A W_V x + (W_O b_V + b_O).

    Attributes
    ----------
    mixed : Tensor of shape (sentence, position, head * inner)
        What its output map read, the heads side by side. There only where `capture` was asked for ``inner``.
    weights : Tensor of shape (sentence, head, position, read position)
        A. There only where `capture` was asked for ``attention_weights``.

    Examples
    --------
    >>> sublayer = record.main.layers[0][0]
    >>> sublayer.heads, sublayer.inner, sublayer.value_map.weight.shape
    (4, 32, torch.Size([128, 128]))
    """

    place: Attention
    mixed: torch.Tensor = field(init=False, repr=False)
    weights: torch.Tensor = field(init=False, repr=False)

    @cached_property
    def heads(self) -> int:
        """The number of query heads, by whatever name the module calls it."""
        module = self.modules["module"]
        for name in ("num_heads", "n_heads", "num_attention_heads"):
            if hasattr(module, name):
                return getattr(module, name)
        config: Any = module.config
        return config.num_attention_heads

    @cached_property
    def inner(self) -> int:
        """The width of one head."""
        return stored_map(self.modules["output"]).weight.shape[1] // self.heads

    @cached_property
    def output_map(self) -> LinearMap:
        """W_O, of shape (dim, head * inner), and b_O."""
        return linear_map(self.modules["output"])

    @cached_property
    def value_map(self) -> LinearMap:
        """W_V, of shape (value head * inner, dim), and b_V: the values' rows alone, where they are fused with others.

        With grouped queries there are fewer value heads than query heads.
        """
        weight, bias = linear_map(self.modules["value"])
        return LinearMap(self.value_rows(weight), None if bias is None else self.value_rows(bias))

    def value_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows (along the first axis) that belong to the values, of all rows of the ``value`` module."""
        return value_rows(self.place, rows, self.heads)

    def by_query_head(self, values: torch.Tensor) -> torch.Tensor:
        """Of values (value head * inner,), those that each query head reads, of shape (head * inner,)."""
        values = values.unflatten(0, (-1, self.inner))  # (value head, inner)
        return values.repeat_interleave(self.heads // len(values), dim=0).flatten()

    @cached_property
    def value_bias(self) -> torch.Tensor | None:
        """b_V as each query head reads it, of shape (head * inner,): heads that share values share their bias."""
        bias = stored_map(self.modules["value"]).bias
        return None if bias is None else self.by_query_head(self.value_rows(widened(bias)))

    @cached_property
    def constant(self) -> torch.Tensor | None:
        """W_O b_V + b_O, of shape (dim,): its weights sum to 1, whatever it reads. None without biases."""
        if self.value_bias is None:
            bias = stored_map(self.modules["output"]).bias
            return None if bias is None else widened(bias)
        return nn.functional.linear(self.value_bias, *self.output_map)


def value_rows(place: Attention, rows: torch.Tensor, heads: int) -> torch.Tensor:
    """The rows (along the first axis) of a ``value`` module that belong to the values: see `Attention`."""
    if place.rows == "thirds":
        return rows.chunk(3)[2]
    if place.rows == "heads":
        return rows.unflatten(0, (heads, 3, -1))[:, 2].flatten(0, 1)  # (head * 3 * inner, ...) -> (head * inner, ...)
    return rows


class Tangent(NamedTuple):
    """A feed-forward made linear: y = W_2 (slope * W_1 x + tilt * W_g x + constant) + b_2.

    Attributes
    ----------
    slope, constant : Tensor of shape (sentence, position, inner)
    tilt : Tensor of shape (sentence, position, inner), or None
        None where there is no gate, or a frozen one.

    Examples
    --------
    >>> Tangent(torch.ones(1, 5, 64), None, torch.zeros(1, 5, 64)).tilt is None
    True
    """

    slope: torch.Tensor
    tilt: torch.Tensor | None
    constant: torch.Tensor


@dataclass(eq=False)
class FeedForwardSublayer(Sublayer):
    """A feed-forward in one forward pass: y = W_2 f(z) + b_2, or gated, y = W_2 (f(g) * z) + b_2.

    Attributes
    ----------
    preactivation : Tensor of shape (sentence, position, inner)
        z = W_1 x + b_1. There only where `capture` was asked for ``inner``.
    gate : Tensor of shape (sentence, position, inner), or None
        g = W_g x + b_g, likewise; None without a gate.

    Examples
    --------
    >>> sublayer = record.main.layers[0][2]
    >>> sublayer.first_map.weight.shape, sublayer.gate
    (torch.Size([512, 128]), None)
    """

    place: FeedForward
    preactivation: torch.Tensor = field(init=False, repr=False)
    gate: torch.Tensor | None = field(default=None, init=False, repr=False)

    @cached_property
    def first_map(self) -> LinearMap:
        """W_1, of shape (inner, dim), and b_1."""
        return linear_map(self.modules["first"])

    @cached_property
    def second_map(self) -> LinearMap:
        """W_2, of shape (dim, inner), and b_2."""
        return linear_map(self.modules["second"])

    @cached_property
    def gate_map(self) -> LinearMap:
        """W_g, of shape (inner, dim), and b_g."""
        return linear_map(self.modules["gate"])

    @cached_property
    def constant(self) -> torch.Tensor | None:
        """b_2, of shape (dim,), or None: b_1 stands before the activation."""
        bias = stored_map(self.modules["second"]).bias
        return None if bias is None else widened(bias)

    def tangent(self, gate: str) -> Tangent:
        """The feed-forward made linear in what it reads, around this pass; ``gate`` is "frozen" or "tangent".

        As `addends.decomposition.by_token` writes it.
        """
        z, bias = self.preactivation, self.first_map.bias
        if self.gate is None:
            value, slope = self.value_and_slope(z)
            return Tangent(slope, None, torch.addcmul(value, slope, z if bias is None else z - bias, value=-1))
        slope, steepness = self.value_and_slope(self.gate)  # the gate's value is what the other factor is multiplied by
        constant = torch.zeros_like(slope) if bias is None else slope * bias
        if gate == "frozen":
            return Tangent(slope, None, constant)
        tilt, bias = steepness * z, self.gate_map.bias
        return Tangent(slope, tilt, constant - tilt * (self.gate if bias is None else self.gate - bias))

    def value_and_slope(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """f(z) and f'(z), by differentiating the model's own activation module; both of the shape of z."""
        # Inference mode, if the caller is in it, makes tensors that autograd refuses: leave it, differentiate a copy.
        with torch.inference_mode(False), torch.enable_grad():
            z = z.detach().clone().requires_grad_()
            value = self.modules["activation"](z)
            # Of each value by its own z; the sum of all values has the same slopes and takes twice as long.
            (slope,) = torch.autograd.grad(value, z, torch.ones((), dtype=z.dtype, device=z.device).expand_as(value))
        return value.detach(), slope


@dataclass(eq=False)
class StackRecord:
    """A stack in one forward pass.

    Attributes
    ----------
    stack : Stack
        What the architecture's row says of it.
    layers : list of list of Sublayer
        Its layers' sublayers, in order.
    states : list of Tensor of shape (sentence, position, dim)
        transformers' own hidden_states: the first layer's input, then each layer's output, the last one past the final
        norm where there is one.
    embedding_norm, final_norm : Norm, optional
        Those of the stack, in this pass.

    Examples
    --------
    >>> len(record.main.layers), len(record.main.states)  # of a decoder of three layers
    (3, 4)
    """

    stack: Stack
    layers: list[list[Sublayer]] = field(default_factory=list, repr=False)
    states: list[torch.Tensor] = field(default_factory=list, repr=False)
    embedding_norm: Norm | None = field(default=None, repr=False)
    final_norm: Norm | None = field(default=None, repr=False)

    @property
    def start(self) -> torch.Tensor:
        """What a decomposition starts with: the first layer's input, in front of the embedding norm if there is one."""
        return self.states[0] if self.embedding_norm is None else self.embedding_norm.read

    @property
    def sublayers(self) -> list[Sublayer]:
        """Those of all layers, in order."""
        return [sublayer for layer in self.layers for sublayer in layer]


@dataclass(eq=False)
class Capture:
    """One forward pass.

    Attributes
    ----------
    row : Architecture
        The row by which the model was read.
    main : StackRecord
        The stack that is decomposed.
    encoder : StackRecord, optional
        The encoder of an encoder-decoder, where `capture` was asked for it.
    encoder_states : Tensor of shape (sentence, read position, dim), optional
        What the encoder of an encoder-decoder gave.

    Examples
    --------
    >>> record.main.states[-1].shape  # record: what `capture` returned; (sentence, position, dim)
    torch.Size([1, 5, 128])
    """

    row: Architecture
    main: StackRecord
    encoder: StackRecord | None = None
    encoder_states: torch.Tensor | None = None

    @property
    def sublayers(self) -> list[Sublayer]:
        """Every sublayer of the recorded stacks, those of the decomposed stack first."""
        return [*self.main.sublayers, *(self.encoder.sublayers if self.encoder is not None else [])]

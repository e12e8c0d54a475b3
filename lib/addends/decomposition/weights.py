"""Reading linear maps off modules, however the family stores them: nn.Linear, GPT-2's Conv1D, fused projections.

What is read from a model in half precision is widened to float32, which changes no value: sums of many terms are not
carried in half precision.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks

from addends.decomposition.architectures import Attention
from addends.errors import UnsupportedModelError


def widened(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """The tensor in float32 if it is in half precision, else itself; None stays None."""
    return tensor.float() if tensor is not None and tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def roundoff(vectors: torch.Tensor) -> float:
    """u sqrt(d): by how much of its size a sum of d products rounds, with the unit roundoff u of the vectors' type."""
    return torch.finfo(vectors.dtype).eps / 2 * vectors.shape[-1] ** 0.5


def linear_map(module: nn.Module) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The weight, of shape (out, in), and the bias, of shape (out,) or None, of y = W x + b.

    The weights are read, not what the module does with them: that is proven by `addends.decomposition.proofs`.

    Raises
    ------
    UnsupportedModelError
        If the module is no linear map that is known, or a quantised one.
    """
    name = type(module).__name__
    weight = getattr(module, "weight", None)
    packed = any(hasattr(module, attribute) for attribute in ("qweight", "quant_state", "SCB"))
    if packed or "quantized" in type(module).__module__ or _is_packed(weight):
        raise UnsupportedModelError(
            f"A quantised {name} stands where a linear map was expected: its weights are packed. Load the model "
            "without quantisation (addends.load, or from_pretrained without quantization_config)."
        )
    if isinstance(module, nn.Linear):
        return widened(module.weight), widened(module.bias)
    if name == "Conv1D":  # GPT-2's: y = x W + b
        return widened(module.weight).T, widened(module.bias)
    raise UnsupportedModelError(
        f"A {name} stands where a linear map was expected; nn.Linear and Conv1D can be read. Check "
        "the paths of the model's row in the architectures table."
    )


def _is_packed(weight) -> bool:
    """Whether a weight is no plain tensor of floating-point numbers."""
    if callable(weight):  # torch's own quantised maps: a method
        return True
    return isinstance(weight, torch.Tensor) and (
        not weight.is_floating_point() or type(weight.data) not in (torch.Tensor, nn.Parameter)
    )


def value_map(place: Attention, module: nn.Module, heads: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """W_V, of shape (heads * inner, dim), and b_V of an attention whose ``value`` module this is.

    ``heads`` is the number of query heads: it is needed where query, key and value are interleaved by head.
    """
    weight, bias = linear_map(module)
    return value_rows(place, weight, heads), None if bias is None else value_rows(place, bias, heads)


def value_rows(place: Attention, rows: torch.Tensor, heads: int) -> torch.Tensor:
    """The rows (along the first axis) that belong to the values, of all rows of the ``value`` module."""
    if place.rows == "thirds":
        return rows.chunk(3)[2]
    if place.rows == "heads":
        return rows.unflatten(0, (heads, 3, -1))[:, 2].flatten(0, 1)  # (head * 3 * inner, ...) -> (head * inner, ...)
    return rows


def fingerprint(module: nn.Module) -> tuple:
    """What a proof about a module rests on: its class, its hooks, its tensors. Equal as long as nothing has changed.

    Not seen: a write to a tensor that passes its version by (``.data``), attributes that are no tensors, and a hook
    that does something else from now on.
    """
    found = [*_global_forward_hooks, *_global_forward_pre_hooks]
    for each in module.modules():
        found += [type(each), id(vars(each).get("forward")), *each._forward_hooks, *each._forward_pre_hooks]
        for tensor in (*each._parameters.values(), *each._buffers.values()):
            if tensor is not None:
                found += [id(tensor), tensor.dtype, tensor.device, 0 if tensor.is_inference() else tensor._version]
    return tuple(found)


def own_noise(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Standard normal numbers, the same at every call, of the type and on the device of ``like``.

    From a generator of their own: torch's global one is left alone.
    """
    noise = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(0), device="cpu", dtype=torch.float64)
    return noise.to(like)

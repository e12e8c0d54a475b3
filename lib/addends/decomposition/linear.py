"""Maps: reading them off a model's modules, in the precision that sums are carried in.

A map y = W x + b takes a sum to the sum of its terms' images, and b to the constant. Maps are read by their class, and
proven by `addends.decomposition.proofs`. What is read from a model in half precision is widened to float32, which
changes no value: sums of many terms are not carried in half precision.
"""

from __future__ import annotations

from typing import NamedTuple, overload

import torch
from torch import nn
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks

from addends.errors import UnsupportedModelError

HALF = (torch.float16, torch.bfloat16)


@overload
def widened(tensor: torch.Tensor) -> torch.Tensor: ...
@overload
def widened(tensor: None) -> None: ...
def widened(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """The tensor in float32 if it is in half precision, else itself; None stays None."""
    return tensor.float() if tensor is not None and tensor.dtype in HALF else tensor


def roundoff(vectors: torch.Tensor) -> float:
    """u sqrt(d): by how much of its size a sum of d products rounds, with the unit roundoff u of the vectors' type."""
    return torch.finfo(vectors.dtype).eps / 2 * vectors.shape[-1] ** 0.5


def rounding(dtype: torch.dtype) -> float:
    """The relative error that rounding explains, of a vector that one module gives.

    In half precision it is 8 unit roundoffs of the type: a module rounds up to four times on the way, and as much is
    left for room. In float32 it is 128 of them, for sums of many entries. In float64 it is as large as in float32,
    through which transformers' own modules go.
    """
    return 4 * torch.finfo(dtype).eps if dtype in HALF else 64 * torch.finfo(torch.float32).eps


# --- maps ---


class LinearMap(NamedTuple):
    """y = W x + b.

    Attributes
    ----------
    weight : Tensor of shape (out, in)
        W.
    bias : Tensor of shape (out,), or None
        b.

    Examples
    --------
    >>> weight, bias = linear_map(nn.Linear(3, 2))
    >>> weight.shape, bias.shape
    (torch.Size([2, 3]), torch.Size([2]))
    """

    weight: torch.Tensor
    bias: torch.Tensor | None


def linear_map(module: nn.Module) -> LinearMap:
    """The map of a module (nn.Linear, or GPT-2's Conv1D), widened.

    The weights are read, not what the module does with them: that is proven by `addends.decomposition.proofs`.

    Raises
    ------
    UnsupportedModelError
        If the module is no linear map that is known, or a quantised one.
    """
    weight, bias = stored_map(module)
    return LinearMap(widened(weight), None if bias is None else widened(bias))


def stored_map(module: nn.Module) -> LinearMap:
    """`linear_map` in the type in which the module holds it: its shapes and its bias cost nothing to read."""
    name = type(module).__name__
    weight = getattr(module, "weight", None)
    packed = any(hasattr(module, attribute) for attribute in ("qweight", "quant_state", "SCB"))
    if packed or "quantized" in type(module).__module__ or _is_packed(weight):
        raise UnsupportedModelError(
            f"A quantised {name} stands where a linear map was expected: its weights are packed. Load the model "
            "without quantisation (addends.load, or from_pretrained without quantization_config)."
        )
    if isinstance(module, nn.Linear):
        return LinearMap(module.weight, module.bias)
    if name == "Conv1D" and isinstance(weight, torch.Tensor):  # GPT-2's: y = x W + b
        return LinearMap(weight.T, getattr(module, "bias", None))
    raise UnsupportedModelError(
        f"A {name} stands where a linear map was expected; nn.Linear and Conv1D can be read. Check "
        "the paths of the model's row in the architectures table."
    )


def _is_packed(weight: object) -> bool:
    """Whether a weight is no plain tensor of floating-point numbers."""
    if callable(weight):  # torch's own quantised maps: a method
        return True
    return isinstance(weight, torch.Tensor) and (
        not weight.is_floating_point() or type(weight.data) not in (torch.Tensor, nn.Parameter)
    )


def fingerprint(module: nn.Module) -> tuple:
    """What a proof about a module rests on: its class, its hooks, its tensors. Equal as long as nothing has changed.

    Not seen: a write to a tensor that passes its version by (``.data``), attributes that are no tensors, and a hook
    that does something else from now on.
    """
    found: list = [*_global_forward_hooks, *_global_forward_pre_hooks]
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

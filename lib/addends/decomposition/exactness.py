"""A model is supported when its sums check out on its own weights, not because of its class name.

A sum shows that the parts are all there. It does not show that each is what it is called: that is proven, once for a
model, in `addends.decomposition.proofs`.

The gap of a token is ||sum_k x_k - e|| / ||e||; it may be as large as

    bound(dtype) * max(1, sum_k ||x_k|| / ||e||),

because rounding is relative to what is added, and parts that cancel are larger than their sum. Support is decided in
float64 (bound 1e-12). In float32 trained weights can round a little worse than the bound, where a sublayer's inner
values cancel: up to a hundred times the bound is let through with a warning that gives the size, for a wrong row or a
changed layer is off by far more. The bounds of narrower types say what rounding alone explains: float32 1e-6, float16
5e-3, bfloat16 2e-2. They leave room for about 30 layers by token, whose gap grows with depth; a deeper model may need
float64. In half precision it is the model that rounds: its states are compared with sums carried in float32.
"""

from __future__ import annotations

import warnings

import torch
from transformers import PreTrainedModel

from addends.errors import InputError, UnsupportedModelError

# How much worse than its bound a sum in float32 may be before it is refused and not only warned of.
_SLACK = 100

BOUNDS = {torch.float64: 1e-12, torch.float32: 1e-6, torch.float16: 5e-3, torch.bfloat16: 2e-2}


def relative_gap(vectors: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """||sum of parts - state|| / ||state||, of shape (sentence, position), of vectors (term, sentence, position, dim).

    0 where both are zero.
    """
    gap = torch.linalg.vector_norm(vectors.sum(dim=-4) - state, dim=-1)
    return torch.where(gap == 0, gap, gap / torch.linalg.vector_norm(state, dim=-1))


def cancellation(vectors: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """sum_k ||x_k|| / ||e||, at least 1 where the sum is exact; of shape (sentence, position), inputs as above."""
    return torch.linalg.vector_norm(vectors, dim=-1).sum(dim=-3) / torch.linalg.vector_norm(state, dim=-1)


def check_sum(
    vectors: torch.Tensor, state: torch.Tensor, mask: torch.Tensor, layer: int, model: PreTrainedModel
) -> None:
    """Raise UnsupportedModelError unless a layer's parts sum to its states, at every real token, within the bound.

    In float32 a gap of up to 100 times the bound gives a warning instead.

    Raises
    ------
    UnsupportedModelError
        With the layer, the size of the gap, and what to do.
    InputError
        If no token is real, so that there is nothing to check.
    """
    check_any(mask)
    if model.dtype not in BOUNDS:
        known = tuple(str(dtype).removeprefix("torch.") for dtype in BOUNDS)
        raise UnsupportedModelError(f"A model in {model.dtype} cannot be checked. Load it with a dtype of {known}.")
    bound = BOUNDS[model.dtype]
    gap = relative_gap(vectors, state)[mask]  # (token,)
    ratio = cancellation(vectors, state)[mask].clamp(min=1)  # (token,)
    refused = bound * (_SLACK if model.dtype == torch.float32 else 1)
    bad = ~(gap <= refused * ratio)  # a NaN is bad
    if not bad.any():
        if (gap > bound * ratio).any():
            warnings.warn(
                f"Layer {layer}: the parts sum to the states to {float(gap.max()):.1e} (relative), a little worse than "
                f"float32 usually does ({bound:.0e} times {float(ratio[gap.argmax()]):.1f}, by how much parts cancel). "
                "For an exact check load the model with dtype='float64'.",
                stacklevel=2,
            )
        return
    worst = int((gap / ratio).where(bad, -1).nan_to_num(torch.inf).argmax())
    narrower = (
        "" if model.dtype == torch.float64 else "load it with dtype='float64', where support is decided; if it fails, "
    )
    raise UnsupportedModelError(
        f"The parts of layer {layer} do not sum to the states of this {model.config.model_type} model: the relative "
        f"gap reaches {float(gap[worst]):.1e}, where {model.dtype} allows {float(refused * ratio[worst]):.1e}. The "
        "model computes something that its row of the architectures table does not know of (a changed layer, a hook, "
        f"an adapter, a wrong path). To go on, {narrower}undo the change or correct the row "
        "(addends.register(row, replace_existing=True))."
    )


def check_any(mask: torch.Tensor) -> None:
    """Raise InputError unless a token is real."""
    if not mask.any():
        raise InputError(
            "The mask is False everywhere: no token is real, and there is nothing to sum. Give a batch whose "
            "decoder_mask (attention_mask, of a single stack) is True where tokens stand."
        )

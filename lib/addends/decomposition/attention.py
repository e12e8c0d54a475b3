"""Attention weights of any model, whatever its attention implementation hides.

transformers looks attention up by name at each call. A name of our own, which computes the weights in the open and
hands them to the capture that is active, gets them from any model (sdpa, flash), with its own masks, scaling, relative
positions and grouped queries: in such a pass attention is computed by this module instead of the model's own
implementation, and states differ from its by rounding. The model's configuration says its own name again as soon as
the pass is over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from addends.decomposition.weights import widened

_NAME = "addends_recorded"
_ACTIVE: ContextVar[dict | None] = ContextVar("addends_active_capture", default=None)


@contextlib.contextmanager
def recorded_weights(base: nn.Module, records: dict) -> Iterator[None]:
    """Within the block, each module of ``records`` writes its weights to its record's attribute ``weights``.

    ``records`` maps attention modules to records; other modules attend by torch's own kernel. Weights are of shape
    (sentence, head, position, read position).
    """
    configs = {id(module.config): module.config for module in base.modules() if hasattr(module, "config")}.values()
    before = [(config, config._attn_implementation) for config in configs]
    token = _ACTIVE.set(records)
    try:
        for config, _ in before:
            config._attn_implementation = _NAME
        yield
    finally:
        _ACTIVE.reset(token)
        for config, name in before:
            config._attn_implementation = name


def _attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, position_bias=None, **_):
    """softmax(q k' * scaling + bias + mask) v, recording the softmax. q, k, v: (sentence, head, position, dim)."""
    groups = query.shape[1] // key.shape[1]  # grouped queries: several heads read the same keys and values
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    record = (_ACTIVE.get() or {}).get(module)
    if record is None:  # an attention whose weights nobody reads (an encoder's): the faster kernel
        bias = attention_mask
        if position_bias is not None:
            bias = position_bias if bias is None else position_bias + bias
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scaling)
        return mixed.transpose(1, 2).contiguous(), None  # (sentence, position, head, dim)
    # Half precision is widened: neither long products nor masked scores, the lowest numbers there are, may overflow.
    scores = (widened(query) @ widened(key).transpose(2, 3)).mul_(scaling)  # (sentence, head, position, read position)
    for bias in (position_bias, attention_mask):
        if bias is not None:
            scores.add_(widened(bias))
    weights = record.weights = scores.softmax(dim=-1).to(value.dtype)
    return (weights @ value).transpose(1, 2).contiguous(), weights  # (sentence, position, head, dim)


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, eager_mask)

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
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask

from addends.decomposition.ambient import configs_of
from addends.decomposition.weights import widened
from addends.errors import UnsupportedModelError

_NAME = "addends_recorded"
_ACTIVE: ContextVar[dict | None] = ContextVar("addends_active_capture", default=None)


# Keywords of an attention call that change nothing here: masks carry causality, windows and packing already, and there
# is no cache and no dropout in evaluation.
_HARMLESS = {
    "is_causal",
    "sliding_window",
    "position_ids",
    "cache_position",
    "use_cache",
    "deterministic",
    "output_attentions",
    "output_hidden_states",
}


@contextlib.contextmanager
def recorded_weights(base: nn.Module, records: dict) -> Iterator[None]:
    """Within the block, each module of ``records`` writes its weights to its record's attribute ``weights``.

    ``records`` maps attention modules to records; other modules attend by torch's own kernel. Weights are of shape
    (sentence, head, position, read position). A pass that another thread makes in the meantime attends as transformers
    does with sdpa.

    Raises
    ------
    UnsupportedModelError
        By a pass within the block, if an attention is called with a keyword that would change its weights and is not
        known (sinks, say): the message names it.
    """
    before = [(config, config._attn_implementation) for config in configs_of(base)]
    token = _ACTIVE.set(records)
    try:
        for config, _ in before:
            config._attn_implementation = _NAME
        yield
    finally:
        _ACTIVE.reset(token)
        for config, name in before:
            config._attn_implementation = name


def _attention(
    module,
    query,
    key,
    value,
    attention_mask,
    scaling=None,
    dropout=0.0,
    position_bias=None,
    softcap=None,
    **keywords,
):
    """softmax(cap(q k' * scaling + bias) + mask) v, recording the softmax. q, k, v: (sentence, head, position, dim).

    cap(x) = softcap * tanh(x / softcap), where there is a ``softcap``.
    """
    records = _ACTIVE.get()
    if records is None:  # another thread's pass
        given = {"scaling": scaling, "dropout": dropout, "position_bias": position_bias, "softcap": softcap, **keywords}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **given)
    unknown = [name for name, given in keywords.items() if given is not None and name not in _HARMLESS]
    if unknown:
        raise UnsupportedModelError(
            f"The attention {type(module).__name__} is called with {unknown[0]!r}, which changes its weights in a way "
            "that addends does not know: by token it is not supported. decompose(..., by='sublayer') needs no weights."
        )
    groups = query.shape[1] // key.shape[1]  # grouped queries: several heads read the same keys and values
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    record = records.get(module)
    if record is None and softcap is None:  # weights that nobody reads (an encoder's): the faster kernel
        bias = attention_mask
        if position_bias is not None:
            bias = position_bias if bias is None else position_bias + bias
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scaling)
        return mixed.transpose(1, 2).contiguous(), None  # (sentence, position, head, dim)
    # Half precision is widened: neither long products nor masked scores, the lowest numbers there are, may overflow.
    scores = (widened(query) @ widened(key).transpose(2, 3)).mul_(scaling)  # (sentence, head, position, read position)
    if position_bias is not None:
        scores.add_(widened(position_bias))
    if softcap is not None:
        scores = (scores / softcap).tanh_().mul_(softcap)
    if attention_mask is not None:
        scores.add_(widened(attention_mask))
    weights = scores.softmax(dim=-1).to(value.dtype)
    if record is not None:
        record.weights = weights
    return (weights @ value).transpose(1, 2).contiguous(), weights  # (sentence, position, head, dim)


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, eager_mask)

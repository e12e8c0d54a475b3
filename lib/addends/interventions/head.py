"""From a change of the last state to that of what the model says: the head reads e + d in place of e.

    logit_v        s <w_v, d>
    log p(y)       s <w_y, d> - (log sum_v exp(l_v + s <w_v, d>) - log sum_v exp l_v)

with l the logits of e, biases included: they stay as they are. Both are computed from d, not as a difference of two
logits: a small change keeps its digits, and no change gives exactly zero.
"""

from __future__ import annotations

import torch
from torch.nn.functional import linear
from transformers import PreTrainedModel

from addends.decomposition.logits import check_logits, linear_head

_FLOATS = 2**22  # how many logits are held at a time, unless one token has more: 16 MiB of float32


def label_effects(
    model: PreTrainedModel,
    states: torch.Tensor,
    changes: torch.Tensor,
    labels: torch.Tensor,
    wanted: torch.Tensor | None = None,
) -> torch.Tensor:
    """The changes of the labels' log-probabilities (nats) and logits.

    Parameters
    ----------
    states : Tensor of shape (token, dim)
        After the last layer.
    changes : Tensor of shape (change, token, dim)
    labels : Tensor of int, of shape (token,)
    wanted : Tensor of bool, of shape (change, token), optional
        Which to compute.

    Returns
    -------
    Tensor of shape (2, change, token)
        NaN where not wanted.

    Raises
    ------
    UnsupportedModelError
        If the model has no output head, one that is not linear, or one whose logits are not those of the model.
    """
    given, scale, bias = linear_head(model)
    weight, label = given.detach().to(states.dtype), labels[:, None]  # (vocabulary, dim), (token, 1)
    bias = None if bias is None else bias.detach().to(states.dtype)
    result = states.new_full((2, *changes.shape[:2]), torch.nan)
    wanted = torch.ones_like(result[0], dtype=torch.bool) if wanted is None else wanted
    step = max(1, _FLOATS // len(weight))
    with torch.no_grad():
        for start in range(0, len(states), step):
            here = slice(start, start + step)
            before = linear(scale * states[here], weight, bias)  # (token, vocabulary)
            if start == 0:
                _check(model, states[here], label[here], before, scale * weight[labels[here]])
            norm = before.logsumexp(dim=-1)
            every_change, every_token = wanted[:, here].nonzero(as_tuple=True)
            for change, token in zip(every_change.split(step), every_token.split(step), strict=True):
                moved = linear(scale * changes[change, start + token], weight)  # (pair, vocabulary)
                logit = moved.gather(-1, label[start + token])[:, 0]
                after = moved.add_(before[token]).logsumexp(dim=-1)
                result[:, change, start + token] = torch.stack([logit - (after - norm[token]), logit])
    return result


def _check(
    model: PreTrainedModel, states: torch.Tensor, label: torch.Tensor, logits: torch.Tensor, rows: torch.Tensor
) -> None:
    """Raise unless these labels' logits are the model's own: tokens are given as one sentence, states as one part.

    Shapes: states and rows (token, dim), label (token, 1), logits (token, vocabulary).
    """
    sizes = (rows.norm(dim=-1) * states.norm(dim=-1))[None, :, None]  # (1, token, 1)
    real = torch.ones_like(sizes[..., 0], dtype=torch.bool)  # (1, token)
    check_logits(model, real, states[None], label[None], logits.gather(-1, label)[None, None], sizes)

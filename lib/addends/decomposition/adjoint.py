"""The adjoint path: each token's share of a number that is linear in a state, by one walk backward.

By token, with attention weights, norm scales and slopes held fixed, a state e_t is linear in the input tokens x_j and
in the biases. Whatever is linear in it, <g, e_t>, is so too, and one product with the transposed maps, layer by layer
backward, gives every token's share of it without any part being carried:

    <g, e_t>  =  sum_j <g_j, x_j>  +  sum_b <g_b, b>        g_j, g_b: what becomes of g on its way down to x_j, to b

Importance is g = e_t / |e_t|^2, a logit is g = s w_v. How g is walked backward is said in
`addends.decomposition.backward`. The constant is made on the way and not as a rest: that all shares sum to <g, e_t>
(1, or the logit less the head's bias) is a check that can fail, and is made at every row that counts.

The cotangents of each position t are walked back by themselves. The mean over a sentence's states needs one walk alone,
with e_t / |e_t|^2 divided by their number at all positions t at once.

What it gives is what carrying parts gives (`addends.decomposition.by_token`), in another order: parts have directions
and lengths too, shares alone are cheaper. On a single stack with RMSNorm without biases the walk is a product with
the detached Jacobian of Golden (2025).

References
----------
Golden (2025), Large Language Models are Locally Linear Mappings, arXiv 2505.24293.
Oh & Schuler (2023), Token-wise Decomposition of Autoregressive Language Model Hidden States, ACL, equations 4-13.
"""

from __future__ import annotations

import pandas as pd
import torch
from transformers import PreTrainedModel

from addends.checks import check_choice
from addends.decomposition.ambient import check_model
from addends.decomposition.architectures import architecture_of
from addends.decomposition.backward import Shares, walked
from addends.decomposition.batch import Batch
from addends.decomposition.exactness import BOUNDS, check_any
from addends.decomposition.logits import check_logits, linear_head
from addends.decomposition.norms import CENTERINGS
from addends.decomposition.parts import GATES, check_encoder
from addends.decomposition.proofs import proven_capture
from addends.decomposition.record import Capture
from addends.errors import InputError, UnsupportedModelError

# How far the shares may sum off the number that they are shares of, in bounds of `exactness`, relative to what was
# added up on the way.
_SLACK = 100


def token_importance(
    model: PreTrainedModel,
    batch: Batch,
    layer: int | None = None,
    centering: str = "own",
    gate: str = "frozen",
    through_encoder: bool = False,
    mean: bool = False,
) -> torch.Tensor:
    """The importance of every single token for the states after one layer: <x_j, e_t> / |e_t|^2.

    It is what `addends.indicators` gives of ``decompose(..., by="token", tokens="each")``, which takes much longer.

    Parameters
    ----------
    model : PreTrainedModel
        As of `decompose`.
    batch : Batch
        Made by `encode`, `translate`, or from tensors.
    layer : int, optional
        As `decompose` counts: 0 is the first layer's input. By default the last.
    centering, gate, through_encoder
        As of `decompose` by token.
    mean : bool
        The mean over each sentence's rows that count, which takes one walk for all of them.

    Returns
    -------
    Tensor of shape (term, sentence, position), or (term, sentence) with ``mean``
        The terms are those of ``tokens="each"``: S0, S1, ... (of an encoder-decoder), T0, T1, ..., C. They sum to 1.
        NaN where the state is zero, and with ``mean`` where no row of a sentence counts.

    Raises
    ------
    InputError
        If an argument is not allowed, no row counts, or model and batch do not fit.
    UnsupportedModelError
        As `decompose`; the sum over terms is checked at every row that counts.
    ModelStateError
        As `decompose`.
    """
    record = _recorded(model, batch, centering, gate, through_encoder)
    last = len(record.main.states) - 1
    layer = last if layer is None else layer
    if not 0 <= layer <= last:
        raise InputError(f"layer={layer}: the model has layers 0 (the first one's input) to {last}, or None: the last.")
    with torch.no_grad():
        state = record.main.states[layer]  # (sentence, position, dim)
        square = state.square().sum(dim=-1, keepdim=True)
        ends = state / square  # e_t / |e_t|^2
        if not mean:
            shares = walked(record, ends[None], layer, centering, gate, through_encoder)
            _check(shares, torch.ones_like(square[None, ..., 0]), 1.0, batch.mask, layer, model)
            return shares.by_term()[..., 0]
        real = batch.mask & (square[..., 0] > 0)
        count = real.sum(dim=1)  # (sentence,)
        ends = (ends / count[:, None, None]).masked_fill(~real[..., None], 0)
        shares = walked(record, ends[None], layer, centering, gate, through_encoder, at_once=True)
        some = (count > 0)[:, None]  # (sentence, 1): there is one number a sentence
        _check(shares, torch.ones_like(some[None], dtype=state.dtype), 1.0, some, layer, model)
        return shares.by_term()[:, :, 0, 0].masked_fill(~some[:, 0], torch.nan)


def token_logit_shares(
    model: PreTrainedModel,
    batch: Batch,
    token_ids: torch.Tensor,
    centering: str = "own",
    gate: str = "frozen",
    through_encoder: bool = False,
) -> torch.Tensor:
    """Every single token's exact share of the logits of chosen tokens, after the last layer: s <w_v, x_j>.

    It is what `logit_shares` gives of the parts of ``tokens="each"``. Each choice is a walk of its own: where many are
    wanted (more than there are tokens in all), carry the parts instead.

    Parameters
    ----------
    token_ids : Tensor of int
        Of shape (choice,): the same tokens at every position; or (sentence, position, choice): tokens for each, such
        as ``batch.labels[..., None]``.
    centering, gate, through_encoder
        As of `decompose` by token.

    Returns
    -------
    Tensor of shape (term, sentence, position, choice)
        The terms are those of `token_importance`. The sum over terms is the model's own logit: the head's bias is in C.

    Raises
    ------
    UnsupportedModelError, ModelStateError, InputError
        As `token_importance` and `logit_shares` do.
    """
    check_model(model)
    head = linear_head(model)
    record = _recorded(model, batch, centering, gate, through_encoder)
    state = record.main.states[-1]
    ids, rows = head.rows_of(token_ids, state)
    with torch.no_grad():
        ends = rows.expand(*state.shape[:2], *rows.shape[-2:]).permute(2, 0, 1, 3)  # (choice, sentence, position, dim)
        last = len(record.main.states) - 1
        shares = walked(record, ends, last, centering, gate, through_encoder)
        floor = torch.linalg.vector_norm(ends, dim=-1) * torch.linalg.vector_norm(state, dim=-1)
        _check(shares, (ends * state).sum(dim=-1), floor, batch.mask, last, model)
        found = shares.by_term()
        if head.bias is not None:
            found[-1] += head.bias[ids].to(found.dtype)
        sizes = (floor + shares.size).permute(1, 2, 0)  # (sentence, position, choice)
        check_logits(model, batch.mask, state, ids, found, sizes)
    return found


def importance_by_input(
    model: PreTrainedModel, batch: Batch, sentence: int = 0, through_encoder: bool = False
) -> pd.DataFrame:
    """`token_importance` of the input's tokens for the states after the last layer, for one sentence of a batch.

    The input is the source of an encoder-decoder, and what a single stack reads. This is what a source-by-target
    picture shows.

    Returns
    -------
    DataFrame
        Tidy: position (of the state) and source (the input token), both counted from 0 over the sentence's real tokens,
        importance.

    Raises
    ------
    InputError
        If the batch has no such sentence; and as `token_importance` does.
    UnsupportedModelError, ModelStateError
        As `token_importance` does.
    """
    batch = batch.sentence(sentence)
    values = token_importance(model, batch, through_encoder=through_encoder)[:, 0]  # (term, position)
    values = values[: batch.input_ids.shape[1]]  # the first terms are the input's, in both kinds of model
    values = values[batch.attention_mask[0].bool()][:, batch.mask[0]].T  # (position, input token)
    index = pd.MultiIndex.from_product([range(size) for size in values.shape], names=["position", "source"])
    return pd.DataFrame({"importance": values.flatten().cpu().double().numpy()}, index=index).reset_index()


def _recorded(model: PreTrainedModel, batch: Batch, centering: str, gate: str, through_encoder: bool) -> Capture:
    check_choice("centering", centering, CENTERINGS)
    check_choice("gate", gate, GATES)
    check_any(batch.mask)
    if through_encoder:
        check_model(model)
        check_encoder(architecture_of(model.config))
    return proven_capture(model, batch, attention_weights=True, encoder=through_encoder)


def _check(
    shares: Shares,
    expected: torch.Tensor,
    floor: torch.Tensor | float,
    mask: torch.Tensor,
    layer: int,
    model: PreTrainedModel,
) -> None:
    """Raise UnsupportedModelError unless shares sum to what was expected, (choice, sentence, position), at real rows.

    ``floor`` is |g| |e|, to which the number itself is rounded.
    """
    total = shares.by_term().sum(dim=0).permute(2, 0, 1)  # (choice, sentence, position)
    gap = (total - expected).abs()[:, mask]
    allowed = (_SLACK * BOUNDS.get(model.dtype, BOUNDS[torch.float32]) * (floor + shares.size))[:, mask]
    bad = ~(gap <= allowed)  # a NaN is bad
    if bad.any():
        worst = (gap / allowed).where(bad, -1).nan_to_num(torch.inf).argmax()
        raise UnsupportedModelError(
            f"Walked back from layer {layer}, the shares of this {model.config.model_type} model's tokens and of the "
            f"constant do not sum to the whole: they are off by {float(gap.flatten()[worst]):.1e}, where {model.dtype} "
            f"allows {float(allowed.flatten()[worst]):.1e}. decompose(..., by='token') names the first layer that is "
            "not what its row of the architectures table says."
        )

"""To the output: which part of a state speaks for which token, exactly, wherever the output head is linear.

The head reads the state e after the last layer, past any final norm. With w_v the head's row for token v, a scale s
(T5's d^-1/2, else 1) and a bias b_v (the head's own, and the final_logits_bias of Marian and its kin),

    logit_v = s <w_v, e> + b_v  =  sum_k s <w_v, x_k> + b_v

so that part k's share is s <w_v, x_k>, and the bias goes to C. At the first real tokens the sum of the shares is
compared with the model's own logits, which have gone through all that stands between a state and the output. What a
model does to the logits of other states than those is not seen.

References
----------
Oh & Schuler (2023), Token-wise Decomposition of Autoregressive Language Model Hidden States, ACL, section 3.3.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel

from addends.decomposition.ambient import check_model, own_thread, undisturbed
from addends.decomposition.architectures import architecture_of
from addends.decomposition.batch import positions
from addends.decomposition.capture import removed
from addends.decomposition.exactness import BOUNDS
from addends.decomposition.linear import HALF
from addends.decomposition.parts import Parts
from addends.errors import InputError, UnsupportedModelError

_PROVEN = 8  # tokens whose logits are compared with the model's own
# What some families do to their logits that no sum goes through unchanged; none of the table's rows does.
_NOT_LINEAR = ("final_logit_softcapping", "logit_scale", "logits_scaling")


def logit_shares(parts: Parts, model: PreTrainedModel, token_ids: torch.Tensor) -> torch.Tensor:
    """Each part's exact share of the logits of chosen tokens, after the last layer.

    Parameters
    ----------
    parts : Parts
        Of this model.
    model : PreTrainedModel
        With its output head, such as `load` returns.
    token_ids : Tensor of int
        Of shape (choice,): the same tokens at every position; or (sentence, position, choice): tokens for each, such
        as ``batch.labels[..., None]``.

    Returns
    -------
    Tensor of shape (term, sentence, position, choice)
        In logits (nats, up to a constant for each position). The sum over terms is the model's own logit.

    Raises
    ------
    UnsupportedModelError
        If the model has no output head, or one that is not linear, or the shares do not sum to the model's own logits.
    ModelStateError
        If autocast is on, or a module is in training mode.
    InputError
        If the ids' shape does not fit or an id is outside the vocabulary.
    """
    check_model(model)
    head = linear_head(model)
    vectors = parts.vectors[-1]  # (term, sentence, position, dim)
    ids, rows = head.rows_of(token_ids, vectors[0])
    with torch.no_grad():
        pattern = "tspd,cd->tspc" if ids.ndim == 1 else "tspd,spcd->tspc"
        shares = torch.einsum(pattern, vectors, rows)  # (term, sentence, position, choice)
        if head.bias is not None:
            shares[parts.terms.index("C")] += head.bias[ids].to(vectors.dtype)
        sizes = vectors.norm(dim=-1).sum(dim=0)[..., None] * rows.norm(dim=-1)  # (sentence, position, choice)
        check_logits(model, parts.mask, parts.states[-1], ids, shares, sizes)
    return shares


def check_logits(
    model: PreTrainedModel,
    mask: torch.Tensor,
    state: torch.Tensor,
    ids: torch.Tensor,
    shares: torch.Tensor,
    sizes: torch.Tensor,
) -> None:
    """Raise UnsupportedModelError unless shares sum to the model's own logits at the first real tokens.

    Parameters
    ----------
    mask : Tensor of bool, of shape (sentence, position)
    state : Tensor of shape (sentence, position, dim)
        After the last layer.
    ids : Tensor of int, of shape (choice,) or (sentence, position, choice)
    shares : Tensor of shape (term, sentence, position, choice)
    sizes : Tensor of shape (sentence, position, choice)
        What the shares are rounded to, and the bound is relative to: such as s |w_v| sum_k |x_k|.
    """
    room = positions(model)
    sentence, position = mask.nonzero()[: _PROVEN if room is None else min(_PROVEN, room)].T  # (token,) each
    own = _own_logits(model, state[sentence, position]).to(shares.dtype)  # (token, vocabulary)
    chosen = ids.expand(len(sentence), -1) if ids.ndim == 1 else ids[sentence, position]  # (token, choice)
    found = shares[:, sentence, position].sum(dim=0)
    allowed = 100 * BOUNDS.get(model.dtype, BOUNDS[torch.float32])
    if model.dtype in HALF:
        allowed = BOUNDS[model.dtype]
    own = own.gather(-1, chosen)
    gap = (found - own).abs() / sizes[sentence, position].clamp(min=torch.finfo(shares.dtype).tiny)
    if not (gap <= allowed).all():
        raise UnsupportedModelError(
            f"The shares do not sum to the logits of this {type(model).__name__}: they are off by up to "
            f"{float((found - own).abs().max()):.1e}. The model changes its states or its logits around the output "
            "head in a way that is not known, or the parts are not this model's."
        )


def _own_logits(model: PreTrainedModel, states: torch.Tensor) -> torch.Tensor:
    """What the model makes of these states (token, dim): its own pass, with them as its stack's last states."""
    row, base, count = architecture_of(model.config), model.base_model, len(states)
    path = row.stack.layers.rpartition(".")[0]
    ids = torch.zeros(1, count, dtype=torch.long, device=model.device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    if row.encoder is not None:
        inputs["decoder_input_ids"] = ids

    def replaced(_module: nn.Module, _inputs: tuple, output: Any) -> Any:
        output["last_hidden_state"] = states[None].to(device=model.device, dtype=model.dtype)
        return output

    with contextlib.ExitStack() as stack:
        stack.enter_context(undisturbed(base))
        stack.enter_context(removed(base.get_submodule(path).register_forward_hook(own_thread(replaced))))
        return model(**inputs).logits[0]


class Head(NamedTuple):
    """A linear output head: logit_v = s <w_v, e> + b_v.

    Attributes
    ----------
    weight : Tensor of shape (vocabulary, dim)
    scale : float
        s.
    bias : Tensor of shape (vocabulary,), or None
        All biases added up.

    Examples
    --------
    >>> head = Head(torch.eye(3), 0.5, None)
    >>> head.rows_of(torch.tensor([2]), torch.ones(1, 5, 3))[1]
    tensor([[0.0000, 0.0000, 0.5000]])
    """

    weight: torch.Tensor
    scale: float
    bias: torch.Tensor | None

    def rows_of(self, token_ids: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The ids on the state's device, and their s w_v of its type, of shape (*ids.shape, dim).

        Raises
        ------
        InputError
            If the ids' shape does not fit the state (sentence, position, dim), or an id is outside the vocabulary.
        """
        ids = torch.as_tensor(token_ids, device=state.device)
        shape = tuple(state.shape[:2])
        if ids.ndim not in (1, 3) or (ids.ndim == 3 and tuple(ids.shape[:2]) != shape):
            raise InputError(
                f"token_ids of shape {tuple(ids.shape)}: (choice,), or (sentence, position, choice) with {shape} "
                "sentences and positions, is wanted."
            )
        if ids.numel() == 0 or ids.min() < 0 or ids.max() >= len(self.weight):
            raise InputError(
                f"token_ids hold no id, or one outside 0 to {len(self.weight) - 1}, this head's vocabulary."
            )
        with torch.no_grad():
            return ids, self.scale * self.weight[ids].to(state.dtype)


def linear_head(model: PreTrainedModel) -> Head:
    """The output head of a model.

    Raises
    ------
    UnsupportedModelError
        If the model has no output head, or one that is not linear.
    """
    row = architecture_of(model.config)
    head = model.get_output_embeddings()
    if head is None:
        raise UnsupportedModelError(
            f"{type(model).__name__} has no output head. Load the model with its head, as addends.load does."
        )
    if row.kind == "encoder" or not isinstance(head, nn.Linear):
        raise UnsupportedModelError(
            f"The output head of {type(model).__name__} is not one linear map (encoders' heads have layers of their "
            "own), so that a sum does not go through it. Decoders with a linear head are supported."
        )
    bent = [name for name in _NOT_LINEAR if getattr(model.config, name, None) not in (None, 1, 1.0)]
    if bent or row.stack.projection:
        raise UnsupportedModelError(
            f"{type(model).__name__} changes its states or logits around the output head "
            f"({', '.join(bent) or row.stack.projection}), which is not supported."
        )
    # UMT5 has no such setting, and scales.
    scaled = getattr(model.config, "scale_decoder_outputs", row.model_type == "umt5")
    scale = model.config.d_model**-0.5 if scaled else 1.0
    added = (head.bias, getattr(model, "final_logits_bias", None))
    biases = [bias.flatten() for bias in added if bias is not None]
    return Head(head.weight, scale, functools.reduce(torch.add, biases) if biases else None)

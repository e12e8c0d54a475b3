"""To the output: which part of a state speaks for which token, exactly, wherever the output head is linear.

The head reads the state e after the last layer, past any final norm. With w_v the head's row for token v, a scale s
(T5's d^-1/2, else 1) and a bias b_v (the head's own, and the final_logits_bias of Marian and its kin),

    logit_v = s <w_v, e> + b_v  =  sum_k s <w_v, x_k> + b_v

so that part k's share is s <w_v, x_k>, and the bias goes to C.

References
----------
Oh & Schuler (2023), Token-wise Decomposition of Autoregressive Language Model Hidden States, ACL, section 3.3.
"""

from __future__ import annotations

import torch
from torch import nn

from addends.decomposition.architectures import architecture_of
from addends.decomposition.parts import Parts
from addends.errors import InputError, UnsupportedModelError

# What some families do to their logits that no sum goes through unchanged; none of the table's rows does.
_NOT_LINEAR = ("final_logit_softcapping", "logit_scale", "logits_scaling")


def logit_shares(parts: Parts, model, token_ids: torch.Tensor) -> torch.Tensor:
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
        If the model has no output head, or one that is not linear.
    InputError
        If the ids' shape does not fit or an id is outside the vocabulary.
    """
    head, scale, bias = _linear_head(model)
    vectors = parts.vectors[-1]  # (term, sentence, position, dim)
    ids = torch.as_tensor(token_ids, device=vectors.device)
    shape = tuple(vectors.shape[1:3])
    if ids.ndim not in (1, 3) or (ids.ndim == 3 and tuple(ids.shape[:2]) != shape):
        raise InputError(
            f"token_ids of shape {tuple(ids.shape)}: (choice,), or (sentence, position, choice) with {shape} sentences "
            "and positions, is wanted."
        )
    if ids.numel() == 0 or ids.min() < 0 or ids.max() >= len(head.weight):
        raise InputError(f"token_ids hold no id, or one outside 0 to {len(head.weight) - 1}, this head's vocabulary.")
    with torch.no_grad():
        rows = head.weight[ids].to(vectors.dtype)  # (choice, dim) or (sentence, position, choice, dim)
        pattern = "tspd,cd->tspc" if ids.ndim == 1 else "tspd,spcd->tspc"
        shares = scale * torch.einsum(pattern, vectors, rows)  # (term, sentence, position, choice)
        if bias is not None:
            shares[parts.terms.index("C")] += bias[ids].to(vectors.dtype)
    return shares


def _linear_head(model) -> tuple[nn.Linear, float, torch.Tensor | None]:
    """The output head of a model, its scale, and its biases added up, of shape (vocabulary,)."""
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
    if bent or getattr(model.base_model.get_submodule(row.stack.layers.rpartition(".")[0]), "project_out", None):
        raise UnsupportedModelError(
            f"{type(model).__name__} changes its states or logits around the output head "
            f"({', '.join(bent) or 'project_out'}), which is not supported."
        )
    # UMT5 has no such setting, and scales.
    scaled = getattr(model.config, "scale_decoder_outputs", row.model_type == "umt5")
    scale = model.config.d_model**-0.5 if scaled else 1.0
    biases = [head.bias, getattr(model, "final_logits_bias", None)]
    biases = [bias.flatten() for bias in biases if bias is not None]
    return head, scale, sum(biases) if biases else None

"""A Marian whose labels' log-probabilities are linear in the source's embeddings."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from tests.interventions.labelled import batch_for, make

LABEL = 5


def linear_toy():
    """The model, in float64, and a batch whose labels all are `LABEL`.

    Norms are identities, feed-forwards write a constant, queries are zero, so that attention weights are even. Only the
    label's row of the head is not zero, and its bias is so low that the sum over the vocabulary does not see it:
    log p(label) is its logit less a constant.
    """
    model = make("marian", torch.float64)
    with torch.no_grad():
        for stack in (model.model.encoder, model.model.decoder):
            for layer in stack.layers:
                for name, module in list(layer.named_modules()):
                    if name.endswith("layer_norm"):
                        setattr(layer.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], nn.Identity())
                    if name.endswith("q_proj"):
                        module.weight.zero_()
                        module.bias.zero_()
                    if name == "fc2":
                        module.weight.zero_()
        head = nn.Linear(32, 40, bias=False, dtype=torch.float64)
        head.weight.zero_()
        head.weight[LABEL].normal_(generator=torch.Generator().manual_seed(7))
        model.lm_head = head
        model.final_logits_bias.zero_()
        model.final_logits_bias[0, LABEL] = -1000
    batch = batch_for(model.eval())
    return model, dataclasses.replace(batch, labels=torch.full_like(batch.labels, LABEL))

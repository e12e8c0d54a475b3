"""How differently runs predict: Kullback-Leibler divergence between their next-token distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from addends.checks import check_count
from addends.decomposition import Batch, encode
from addends.decomposition.translation import check_sentences
from addends.errors import InputError


def divergences(
    models: Mapping[str, PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    targets: Sequence[str],
    batch_size: int = 32,
) -> pd.DataFrame:
    """Mean divergence between what every two models expect next, reading the same references.

    With p and q over the vocabulary at a real token of the reference, in nats::

        (KL(p || q) + KL(q || p)) / 2,   KL(p || q) = sum_v p_v (log p_v - log q_v)

    averaged over the tokens of a sentence. All models read one batch at a time, so that no distribution is kept.

    Parameters
    ----------
    models : mapping of str to model
        By the name of the run. All with the vocabulary of ``tokenizer``.
    sources, targets : sequence of str
    batch_size : int

    Returns
    -------
    DataFrame
        a, b, sentence (the index in ``sources``), kl, tokens; one row a pair of models, in their order, and sentence.

    Raises
    ------
    InputError
        If there are fewer than two models, or their vocabularies differ in size: the message names two of them. And as
        `encode` does, before anything is encoded.
    """
    names = list(models)
    if len(names) < 2:
        raise InputError(f"divergences: {names}: two models or more are to be compared.")
    sizes = {name: model.config.vocab_size for name, model in models.items()}
    other = next((name for name in names if sizes[name] != sizes[names[0]]), None)
    if other is not None:
        raise InputError(
            f"divergences: {names[0]!r} predicts {sizes[names[0]]} pieces, {other!r} predicts {sizes[other]}: runs "
            "with different vocabularies do not predict the same things."
        )
    check_count("batch_size", batch_size, "divergences")
    check_sentences(models[names[0]], tokenizer, sources, targets)
    pairs = list(combinations(range(len(names)), 2))
    order, frames = sorted(range(len(sources)), key=lambda index: len(sources[index])), []
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = encode(
            models[names[0]], tokenizer, [sources[index] for index in chosen], [targets[index] for index in chosen]
        )
        logs = [_log_probabilities(model, batch) for model in models.values()]  # each (sentence, position, vocabulary)
        mask = batch.mask
        tokens = mask.sum(dim=1)
        for one, two in pairs:
            # KL(p || q) + KL(q || p) = sum_v (p_v - q_v)(log p_v - log q_v)
            both = ((logs[one].exp() - logs[two].exp()) * (logs[one] - logs[two])).sum(dim=-1) / 2
            means = (both * mask).sum(dim=1) / tokens
            frames.append(
                pd.DataFrame(
                    {
                        "a": names[one],
                        "b": names[two],
                        "sentence": chosen,
                        "kl": means.cpu().double().numpy(),
                        "tokens": tokens.cpu().numpy(),
                    }
                )
            )
    found = pd.concat(frames, ignore_index=True)
    places = {name: place for place, name in enumerate(names)}
    return found.sort_values(
        ["a", "b", "sentence"], key=lambda column: column.map(places) if column.name != "sentence" else column
    ).reset_index(drop=True)


def _log_probabilities(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        logits = model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            decoder_input_ids=batch.decoder_input_ids,
            use_cache=False,
        ).logits  # (sentence, position, vocabulary)
    return logits.log_softmax(dim=-1)

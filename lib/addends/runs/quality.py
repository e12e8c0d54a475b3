"""Translation quality: BLEU and chrF of the model's output by sacreBLEU, and how likely it finds the reference.

Corpus scores are sacreBLEU's defaults. Sentence BLEU uses its smoothing with the effective n-gram order. The
reference's negative log-likelihood, in nats per target token with the end symbol counted, needs no output at all.

References
----------
Post (2018), A call for clarity in reporting BLEU scores, WMT. Popović (2015), chrF, WMT.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from transformers import PreTrainedModel

from addends.decomposition import Batch
from addends.errors import InputError


def corpus_scores(hypotheses: Sequence[str], references: Sequence[str]) -> pd.DataFrame:
    """Corpus BLEU and chrF, both from 0 to 100: a frame with the columns metric and score.

    Raises
    ------
    InputError
        If there are not as many hypotheses as references, or none.
    """
    from sacrebleu.metrics import BLEU, CHRF

    _check(hypotheses, references)
    scores = {"bleu": BLEU(), "chrf": CHRF()}
    return pd.DataFrame(
        [(name, metric.corpus_score(list(hypotheses), [list(references)]).score) for name, metric in scores.items()],
        columns=["metric", "score"],
    )


def sentence_scores(hypotheses: Sequence[str], references: Sequence[str]) -> pd.DataFrame:
    """Sentence chrF and BLEU, both from 0 to 100: one row a sentence, in order, with the columns chrf and bleu.

    Raises
    ------
    InputError
        As `corpus_scores` does.
    """
    from sacrebleu.metrics import BLEU, CHRF

    _check(hypotheses, references)
    chrf, bleu = CHRF(), BLEU(effective_order=True)
    pairs = list(zip(hypotheses, references, strict=True))
    return pd.DataFrame(
        {
            "chrf": [chrf.sentence_score(hypothesis, [reference]).score for hypothesis, reference in pairs],
            "bleu": [bleu.sentence_score(hypothesis, [reference]).score for hypothesis, reference in pairs],
        }
    )


def negative_log_likelihood(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """-1/n sum_t log p(y_t | y_<t, source), in nats per target token; of shape (sentence,).

    Raises
    ------
    InputError
        If the batch has no labels: make it with `encode`.
    """
    if batch.labels is None:
        raise InputError("The batch has no labels. Make it with encode(model, tokenizer, sources, targets).")
    with torch.no_grad():
        logits = model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            decoder_input_ids=batch.decoder_input_ids,
            use_cache=False,
        ).logits  # (sentence, position, piece)
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch.labels, reduction="none")
    mask = batch.mask  # (sentence, position)
    return (losses * mask).sum(dim=1) / mask.sum(dim=1)


def _check(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    for name, texts in (("hypotheses", hypotheses), ("references", references)):
        if isinstance(texts, str):
            raise InputError(f"{name} is one string. Give a list of sentences, [{texts[:30]!r}] for a single one.")
    if len(hypotheses) == 0:
        raise InputError("hypotheses is empty. Give at least one sentence.")
    if len(hypotheses) != len(references):
        raise InputError(f"{len(hypotheses)} hypotheses and {len(references)} references: as many of each are wanted.")

"""The yardstick of attributions: what happens to log p(label) when a source token is taken away.

    mask        its position is taken out of the attention masks: no encoder state and no decoder state reads it
    embedding   its embedding is replaced by a mean embedding; its place, and all positions, stay

Both are changes of the label's log-probability (nats), after minus before, in plain passes of the model: neither knows
of attention weights, gradients or parts. Both leave a model in a condition that it was not trained in, each in its own
way: what holds by one alone may be the way's doing.

Rank agreement of a method with a yardstick, in one row: Spearman's correlation over the source tokens,

    size      of |value| with |change|       which tokens matter for the row, whatever way
    signed    of value with minus change     which tokens speak for the label, and which against it

Weights, mixtures and lengths have no sign: of them, "size" is the fair question.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from addends.checks import keyed_numbers, require_columns
from addends.decomposition import Batch
from addends.errors import InputError
from addends.interventions.attributions import source_frame
from addends.interventions.head import label_effects
from addends.interventions.source_pass import last_states, pair_reading, source_embeddings

PLACE = ["sentence", "position", "source"]
SENSES = ("size", "signed")
AGREEMENT_KEY = ["sentence", "method", "yardstick", "sense", "special_tokens"]


def source_removals(
    model: PreTrainedModel,
    batch: Batch,
    embedding_mean: torch.Tensor | None = None,
    special_ids: Sequence[int] | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """The change of each label's log-probability when a source token is masked, or its embedding is a mean.

    Two passes a source place, all sentences at once.

    Parameters
    ----------
    model : PreTrainedModel
        An encoder-decoder with a linear output head. It is left as it was.
    batch : Batch
        Made by `encode` or `translate`: with labels.
    embedding_mean : Tensor of shape (dim,), optional
        What an embedding is replaced by: see `mean_source_embedding`. By default the mean over the batch's own real
        source tokens, which makes the numbers depend on the batch.
    special_ids : sequence of int, optional
        As for `source_attributions`.
    progress : bool
        Show a progress bar over the source's places.

    Returns
    -------
    DataFrame
        Tidy: sentence, position, source, special, yardstick ("mask", "embedding"), logprob (nats, after minus before).
        Of a source of one token the mask's is missing: nothing would be left to read.

    Raises
    ------
    InputError
        If the model has one stack only, model and batch do not fit, the batch has no labels, the mean is not of the
        embeddings' size, or one sentence's own mean is asked for.
    UnsupportedModelError, ModelStateError
        As `logit_shares`.

    Examples
    --------
    >>> from addends.interventions import mean_source_embedding
    >>> mean = mean_source_embedding(model, [batch])
    >>> frame = source_removals(model, batch, embedding_mean=mean)
    >>> len(frame), frame["yardstick"].unique().tolist()  # 5 rows x 4 source tokens, twice
    (40, ['mask', 'embedding'])
    """
    reading = pair_reading(model, batch)
    rows, real = reading.rows, batch.attention_mask.bool()
    embedded = source_embeddings(model, batch)
    mean = _checked_mean(batch, embedded, embedding_mean)
    with torch.no_grad():
        before = last_states(reading)
    shape = (2, *before.shape[:2], real.shape[1])  # (yardstick, sentence, position, source)
    changed = before.new_full(shape, torch.nan)
    several = real.sum(dim=1) > 1  # of one token, nothing is left: whatever the pass gives there is not looked at
    for place in tqdm(range(real.shape[1]), disable=not progress, unit="place", desc="removals"):
        with torch.no_grad():
            mask = batch.attention_mask.clone()
            mask[:, place] = 0
            replaced = embedded.clone()
            replaced[:, place] = mean
            after = [last_states(reading, attention_mask=mask), last_states(reading, embedded=replaced)]
        changes = (torch.stack(after) - before)[:, rows.sentence, rows.position]  # (yardstick, token, dim)
        there = real[rows.sentence, place]
        wanted = torch.stack([there & several[rows.sentence], there])
        states = before[rows.sentence, rows.position]
        logprob = label_effects(model, states, changes, rows.label, wanted)[0]  # (yardstick, token)
        changed[:, rows.sentence, rows.position, place] = logprob
    return source_frame(reading, special_ids, "yardstick", "logprob", {"mask": changed[0], "embedding": changed[1]})


def rank_agreement(attributions: pd.DataFrame, removals: pd.DataFrame) -> pd.DataFrame:
    """How well each method ranks a row's source tokens as each yardstick does: means over the rows of each sentence.

    Parameters
    ----------
    attributions : DataFrame
        As `source_attributions` returns it, or of another method's values with the same columns.
    removals : DataFrame
        As `source_removals` returns it, of the same tokens.

    Returns
    -------
    DataFrame
        Tidy: sentence, method, yardstick, sense ("size", "signed"), special_tokens (whether special source tokens are
        among those ranked), agreement (from -1 to 1, the mean over rows), rows (how many). Rows where a side is missing
        or does not tell two tokens apart have no agreement, and are left out.

    Raises
    ------
    InputError
        If a column is missing, a key is repeated, or the two are not of the same tokens.

    Examples
    --------
    >>> one = pd.DataFrame({"sentence": 0, "position": 0, "source": [0, 1, 2], "special": [False, False, True]})
    >>> attributions = one.assign(method="mine", value=[0.5, 0.2, 0.1])
    >>> removals = one.assign(yardstick="mask", logprob=[-2.0, -1.0, 0.5])
    >>> rank_agreement(attributions, removals)["agreement"].tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    where = "rank_agreement"
    keyed_numbers(attributions, [*PLACE, "method"], ["value"], f"{where}: attributions")
    keyed_numbers(removals, [*PLACE, "yardstick"], ["logprob"], f"{where}: removals")
    require_columns(removals, ["special"], f"{where}: removals")
    _check_same_places(attributions, removals)
    both = removals[[*PLACE, "special", "yardstick", "logprob"]].merge(
        attributions[[*PLACE, "method", "value"]], on=PLACE
    )
    senses = {
        "size": both.assign(value=both["value"].abs(), logprob=both["logprob"].abs()),
        "signed": both.assign(logprob=-both["logprob"]),
    }
    frames = []
    for sense in SENSES:
        for special_tokens in (True, False):
            chosen = senses[sense] if special_tokens else senses[sense][~both["special"].to_numpy(dtype=bool)]
            frames.append(_agreements(chosen).assign(sense=sense, special_tokens=special_tokens))
    return pd.concat(frames)[[*AGREEMENT_KEY, "agreement", "rows"]].sort_values(AGREEMENT_KEY, ignore_index=True)


def _agreements(frame: pd.DataFrame) -> pd.DataFrame:
    """Spearman's correlation in each row, its mean and the number of rows by sentence, method and yardstick."""
    keys = ["sentence", "position", "method", "yardstick"]
    grouped = frame.groupby(keys, sort=False)
    group = grouped.ngroup().to_numpy()  # of each row of the frame
    ranks = grouped[["value", "logprob"]].rank().to_numpy()
    centred = ranks - ((np.bincount(group) + 1) / 2)[group, None]  # a missing value stays missing, and its group's sums
    method, yardstick = centred.T
    cross, first, second = (np.bincount(group, weights=each) for each in (method * yardstick, method**2, yardstick**2))
    scale = np.sqrt(first * second)
    agreement = frame[keys].drop_duplicates().assign(agreement=cross / np.where(scale > 0, scale, np.nan)).dropna()
    groups = agreement.groupby(["sentence", "method", "yardstick"])["agreement"]
    return groups.agg(agreement="mean", rows="size").reset_index()


def _checked_mean(batch: Batch, embedded: torch.Tensor, given: torch.Tensor | None) -> torch.Tensor:
    if given is None:
        if len(batch) == 1:
            raise InputError(
                "embedding_mean is not given, and the batch has one sentence, whose own mean says what it says. Give "
                "the mean over a corpus, mean_source_embedding(model, batches), or more sentences."
            )
        return embedded[batch.attention_mask.bool()].mean(dim=0)
    size = embedded.shape[-1]
    if not isinstance(given, torch.Tensor) or given.shape != (size,) or not torch.isfinite(given).all():
        said = f"of shape {tuple(given.shape)}" if isinstance(given, torch.Tensor) else f"a {type(given).__name__}"
        raise InputError(
            f"embedding_mean is {said}: a finite tensor of shape ({size},) is wanted, as mean_source_embedding makes."
        )
    return given.to(embedded)


def _check_same_places(attributions: pd.DataFrame, removals: pd.DataFrame) -> None:
    first, second = (frame[PLACE].drop_duplicates() for frame in (attributions, removals))
    unmatched = first.merge(second, on=PLACE, how="outer", indicator=True).query("_merge != 'both'")
    if len(unmatched):
        place = unmatched.iloc[0]
        raise InputError(
            f"rank_agreement: {len(unmatched)} (sentence, position, source) stand in one table alone, the first being "
            f"{tuple(int(place[name]) for name in PLACE)}. Give both of the same batch, and filter both alike."
        )

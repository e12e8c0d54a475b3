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

What a method tells of the sentence, and not of the row, is its control: its values of another row of the sentence,

    agreement = mean over rows t of rho(v_t, d_t)
    permuted  = mean over pairs of rows t != u of rho(v_u, d_t)

with v_t a method's values in row t, d_t the yardstick's. The mean over all pairs is what permutations of the rows that
leave none in its place give on average: nothing is drawn. What a method tells of the row is agreement - permuted.

The removal of our own part (`part_removals`) is an intervention itself: it is shown beside the methods, not ranked.
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
from addends.interventions.intervene import asked, effects_of, replacement_of
from addends.interventions.source_pass import last_states, pair_reading, source_embeddings
from addends.tables import SENSES

PLACE = ["sentence", "position", "source"]
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


def part_removals(model: PreTrainedModel, batch: Batch, special_ids: Sequence[int] | None = None) -> pd.DataFrame:
    """Minus the direct effect of removing each source token's part by token of the last state (nats).

    The parts are those with the encoder's states as atoms, and the head reads the rest: `intervene` with
    ``tokens="each"`` and ``replace="zero"``.

    Parameters
    ----------
    model, batch, special_ids
        As for `source_attributions`.

    Returns
    -------
    DataFrame
        The columns and places of `source_attributions`, with the one method "removal, part".

    Raises
    ------
    InputError, UnsupportedModelError, ModelStateError
        As `source_attributions`.

    Examples
    --------
    >>> from addends.interventions import part_removals
    >>> len(part_removals(model, batch))  # 5 rows x 4 source tokens
    20
    """
    reading = pair_reading(model, batch)
    shape = (*batch.mask.shape, batch.input_ids.shape[1])
    single = asked(reading, by="token", tokens="each", terms=[f"S{place}" for place in range(shape[2])])
    effects = effects_of(reading, single, replacement_of(reading, single, "zero", None, seed=0))
    value, source = np.full(shape, np.nan), effects["term"].str[1:].astype(int)
    value[effects["sentence"], effects["position"], source] = -effects["logprob"]
    gained = torch.from_numpy(value).to(batch.input_ids.device)
    return source_frame(reading, special_ids, "method", "value", {"removal, part": gained})


def rank_agreement(attributions: pd.DataFrame, removals: pd.DataFrame) -> pd.DataFrame:
    """How well each method ranks a row's source tokens as each yardstick does: means over the rows of each sentence.

    See the head of this module for the equations.

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
        among those ranked), agreement (from -1 to 1, the mean over rows), permuted (the same with the method's values
        of the sentence's other rows; missing where there is one row), rows (how many). Rows where a side is missing or
        does not tell two tokens apart have no agreement, and are left out of both.

    Raises
    ------
    InputError
        If a column is missing, a key is repeated, the two are not of the same tokens, or two rows of a sentence have
        other source tokens.

    Examples
    --------
    >>> one = pd.DataFrame({"sentence": 0, "position": 0, "source": [0, 1, 2], "special": [False, False, True]})
    >>> attributions = one.assign(method="mine", value=[0.5, 0.2, 0.1])
    >>> removals = one.assign(yardstick="mask", logprob=[-2.0, -1.0, 0.5])
    >>> rank_agreement(attributions, removals)["agreement"].round(6).tolist()
    [1.0, 1.0, 1.0, 1.0]

    Of two rows that turn the order round, each is foretold by its own values, and by the other's not at all:

    >>> two = pd.concat([one, one.assign(position=1)], ignore_index=True)
    >>> mine = two.assign(method="mine", value=[3.0, 2.0, 1.0, 1.0, 2.0, 3.0])
    >>> found = rank_agreement(mine, two.assign(yardstick="mask", logprob=-mine["value"]))
    >>> found.loc[1, ["agreement", "permuted"]].astype(float).round(6).tolist()
    [1.0, -1.0]
    """
    where = "rank_agreement"
    keyed_numbers(attributions, [*PLACE, "method"], ["value"], f"{where}: attributions")
    keyed_numbers(removals, [*PLACE, "yardstick"], ["logprob"], f"{where}: removals")
    require_columns(removals, ["special"], f"{where}: removals")
    _check_same_places(attributions, removals)
    _check_same_sources(removals)
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
    return pd.concat(frames)[[*AGREEMENT_KEY, "agreement", "permuted", "rows"]].sort_values(
        AGREEMENT_KEY, ignore_index=True
    )


def _agreements(frame: pd.DataFrame) -> pd.DataFrame:
    """Spearman's correlation in each row and between rows: means and numbers by sentence, method and yardstick."""
    keys, question = ["sentence", "position", "method", "yardstick"], ["sentence", "method", "yardstick"]
    grouped = frame.groupby(keys, sort=False)
    group = grouped.ngroup().to_numpy()  # of each row of the frame
    ranks = grouped[["value", "logprob"]].rank().to_numpy()
    centred = ranks - ((np.bincount(group) + 1) / 2)[group, None]  # a missing value stays missing, and its group's sums
    method, yardstick = centred.T
    squares = [np.bincount(group, weights=each**2) for each in (method, yardstick)]
    usable = np.minimum(*squares) > 0  # of each group; not of one with a missing value
    lengths = [np.sqrt(np.where(usable, each, np.nan))[group] for each in squares]
    units = frame[[*keys, "source"]].assign(said=method / lengths[0], done=yardstick / lengths[1])
    units = units[usable[group]]  # ranks of length one: the products of two rows sum to their correlation
    own = (units["said"] * units["done"]).groupby([units[name] for name in question]).sum()
    sums = units.groupby([*question, "source"])[["said", "done"]].sum()
    every = (sums["said"] * sums["done"]).groupby(question).sum()  # over all pairs of rows, each with itself too
    rows = units.drop_duplicates(keys).groupby(question).size()
    others = (rows * (rows - 1)).where(rows > 1)
    return pd.DataFrame({"agreement": own / rows, "permuted": (every - own) / others, "rows": rows}).reset_index()


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


def _check_same_sources(frame: pd.DataFrame) -> None:
    """Raise InputError where a row of a sentence lacks a source token that another one has."""
    places = frame[PLACE].drop_duplicates()
    rows = places.groupby("sentence")["position"].nunique()
    having = places.groupby(["sentence", "source"]).size()
    fewer = having[having < rows.reindex(having.index.get_level_values("sentence")).to_numpy()]
    if len(fewer):
        sentence, source = fewer.index[0]
        raise InputError(
            f"rank_agreement: sentence {sentence} has {rows[sentence]} rows, and its source token {source} stands in "
            f"{fewer.iloc[0]} of them. Give every row the same source tokens: rows are compared with each other."
        )


def _check_same_places(attributions: pd.DataFrame, removals: pd.DataFrame) -> None:
    first, second = (frame[PLACE].drop_duplicates() for frame in (attributions, removals))
    unmatched = first.merge(second, on=PLACE, how="outer", indicator=True).query("_merge != 'both'")
    if len(unmatched):
        place = unmatched.iloc[0]
        raise InputError(
            f"rank_agreement: {len(unmatched)} (sentence, position, source) stand in one table alone, the first being "
            f"{tuple(int(place[name]) for name in PLACE)}. Give both of the same batch, and filter both alike."
        )

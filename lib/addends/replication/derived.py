"""The derived tables: computed from the released files, written, read back, and held against each other."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from addends.checks import repeated
from addends.errors import DataError, InputError
from addends.replication import (
    coefficients,
    distances,
    released,
    released_analyses,
    released_tables,
    replays,
    report,
    sentences,
)
from addends.replication.released import LAYERS
from addends.tables import METHODS, read_parquet, write_parquet
from crossed.threads import one_thread

COMMAND = "addends replicate"
DECIMALS = 4
EXACT = ("gap", "value")
"""Columns that are written as they are: they hold small numbers."""

KEYS = {
    "coefficients": coefficients.KEY,
    "sums": ["level", "target", "by", "run", "layer", "indicator", "metric"],
    "pooled": ["level", "by", "layer", "term", "indicator", "metric"],
    "resamples": coefficients.KEY,
    "sentences": sentences.KEY,
    "distances": ["targets", "by", "layer", "term", "indicator"],
    "agreement": ["layer", "indicator", "term", "until"],
    "standing": [*replays.CLUSTER, "layer", "term"],
    "clusters": replays.CLUSTER,
    "totals": ["set"],
    "quantiles": ["set", "quantile"],
    "facts": ["name"],
}
"""The tables, and the columns whose values name one row of each."""


@one_thread
def compute(
    layers: Sequence[int] = LAYERS, by: Sequence[str] = METHODS, *, progress: bool = False
) -> dict[str, pd.DataFrame]:
    """Derive every table from the released files, for these layers and methods.

    Layer 0 has distances alone: a single term is not zero there, and no correlation was released.

    The replays ("clusters", "totals", "quantiles") are of whole clusters, which hold all layers: they are made where
    all layers and both methods are asked for. That takes some ten minutes on one core, layer 6 by sublayer half one.

    Returns
    -------
    dict of DataFrame
        By name, those of `KEYS`: what `coefficients`, `replays`, `sentences`, `distances` and `report` return;
        "sums" and "standing" hold both levels, checkpoint and sentence. "facts" are single numbers, one row a name, and
        do not depend on ``layers`` and ``by``, but for the gap of the normalised distances.

    Raises
    ------
    InputError
        If a layer or method is not among those released, or there is no layer above 0.
    DataError
        As `released.fetch` does: a file is missing or altered.
    """
    strangers = [layer for layer in layers if layer not in LAYERS] + [method for method in by if method not in METHODS]
    if strangers or not any(layers) or not len(by):
        raise InputError(
            f"layers={layers}, by={by}: name some of {LAYERS}, one above 0 among them, and some of {METHODS}."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # quality() counts stray scores, which are left out here as well
        quality = released_tables.quality()
    wanted = released_tables.trajectories()
    wanted = wanted[wanted["layer"].isin(layers) & wanted["by"].isin(by)]
    above = wanted[wanted["layer"] > 0]
    as_released = released.on_released_targets(above)
    correlations, released_distances = released_analyses.correlations(), released_analyses.distances()
    # Own output for every run, and the references where the released analyses have them.
    both = above[(above["target"] == "own") | released.is_russian(above["run"])]

    single = coefficients.by_term(both, quality, correlations, progress=progress)
    items = _items([layer for layer in layers if layer > 0], by)
    of_items = sentences.by_term(items, correlations, progress=progress)
    sums = pd.concat(
        [
            coefficients.summed(as_released, quality, correlations, progress=progress).assign(level="checkpoint"),
            sentences.summed(items, correlations, progress=progress).assign(level="sentence", target="own"),
        ],
        ignore_index=True,
    )
    between = {targets: distances.distances(wanted, targets, progress=progress) for targets in distances.VERSIONS}
    compared = [distances.compared(found, released_distances, targets) for targets, found in between.items()]
    found = {
        "coefficients": single,
        "sums": sums,
        "pooled": coefficients.pooled(_in_released_form(single, of_items, sums), correlations),
        "resamples": coefficients.over_samples(as_released, quality, correlations, progress=progress),
        "sentences": of_items,
        "distances": pd.concat(compared, ignore_index=True),
        "agreement": report.agreement_over_training(released_analyses.agreement()),
        "facts": _facts(between["mixed"], released_distances, correlations),
    } | _replayed(both, quality, items, correlations, _whole(layers, by), progress)
    return {name: _in_order(frame, name) for name, frame in found.items()}


def write(tables: dict[str, pd.DataFrame], folder: str | os.PathLike) -> Path:
    """Write the tables as ``folder/<name>.parquet``, atomically: the old file or the new one, never half of one.

    Numbers are rounded to four decimals and written in single precision, but for those of `EXACT` columns, which are
    not rounded.

    Raises
    ------
    InputError, DataError
        If there is no table of that name; or one has no rows, lacks a column of its key, or holds a key twice.
    """
    folder = Path(folder)
    for name, frame in tables.items():
        frame = _checked(frame, name, f"The table to be written to {folder}")
        numbers = [column for column in frame.select_dtypes("float") if column not in EXACT]
        narrow = dict.fromkeys([*numbers, *(column for column in EXACT if column in frame)], "float32")
        rounded = frame.round(dict.fromkeys(numbers, DECIMALS)).astype(narrow)
        write_parquet(rounded, folder / f"{name}.parquet")
    return folder


def read(folder: str | os.PathLike) -> dict[str, pd.DataFrame]:
    """Read the tables that `write` wrote.

    Raises
    ------
    DataError
        If one is missing or cannot be read, lacks a column of its key, or holds a key twice; the message names it.
    """
    found = {}
    for name in KEYS:
        file = Path(folder) / f"{name}.parquet"
        remedy = f"Restore it from version control, or run `{COMMAND}`."
        if not file.is_file():
            raise DataError(f"{file} is missing. {remedy}")
        frame = read_parquet(file)
        found[name] = _checked(frame.astype(dict.fromkeys(frame.select_dtypes("float"), "float64")), name, str(file))
    return found


def compare(now: dict[str, pd.DataFrame], stored: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """How far tables computed now are from stored ones, in the rows that were computed.

    Returns
    -------
    DataFrame
        One row a table: rows (computed now), stored (how many rows are stored), largest (the largest absolute
        difference of any number). Stored numbers have four decimals.

    Raises
    ------
    DataError
        If a row that was computed is not stored, or a number is missing in one of the two only.
    """
    rows = []
    for name, frame in now.items():
        key = KEYS[name]
        both = frame.merge(stored[name], on=key, how="left", suffixes=("", "_stored"), indicator=True, validate="1:1")
        values = [column for column in frame.select_dtypes("number") if column not in key]
        one = both[values].to_numpy(dtype=float)
        two = both[[f"{value}_stored" for value in values]].to_numpy(dtype=float)
        odd = (both["_merge"] != "both") | (np.isnan(one) != np.isnan(two)).any(axis=1)
        if odd.any():
            first = both.loc[odd, key].iloc[0].to_dict()
            raise DataError(
                f"The stored table {name!r} lacks {odd.sum()} of {len(both)} rows or numbers that are computed now, "
                f"first {first}. Write it again: `{COMMAND}`."
            )
        largest = float(np.nanmax(np.abs(one - two), initial=0))
        rows.append({"table": name, "rows": len(frame), "stored": len(stored[name]), "largest": largest})
    return pd.DataFrame(rows)


def overlay(now: dict[str, pd.DataFrame], stored: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The stored tables, with the rows that were computed now in the place of theirs."""
    found = dict(stored)
    for name, frame in now.items():
        key = KEYS[name]
        rest = stored[name].merge(frame[key], on=key, how="left", indicator=True)
        rest = rest[rest["_merge"] == "left_only"].drop(columns="_merge")
        found[name] = _in_order(pd.concat([frame, rest], ignore_index=True) if len(rest) else frame, name)
    return found


def underivable() -> pd.DataFrame:
    """The released results that the released measurements do not give, and why: file, what, why."""
    rows = [
        ("decomps, decomps-oh-schuler", "means and SDs of the indicators", "need the models and the corpus"),
        ("bleu-, chrf-, comet-scores2", "scores of quality", "need the translations (but see BLEU, above)"),
        ("sentence-level/res-*", "indicators and COMET of single sentences", "need the models, and a model for COMET"),
        ("corr/no-gen", "agreement of two seeds, token by token", "needs the indicators of single tokens"),
        ("DTWdistances, first version", "two distances in layer 0", "are of curves that are 1 but for rounding"),
        ("Spearmancorrelations", "the last digits of means and stdv", "samples were drawn without a seed"),
        ("the paper", "its figures and tables", "are not among the released result files"),
    ]
    return pd.DataFrame(rows, columns=["file", "what", "why"])


def _whole(layers: Sequence[int], by: Sequence[str]) -> bool:
    """Whether the clusters of these layers and methods are those of the released samples."""
    return set(LAYERS) - {0} <= set(layers) and set(METHODS) <= set(by)


def _replayed(
    both: pd.DataFrame,
    quality: pd.DataFrame,
    items: pd.DataFrame,
    correlations: pd.DataFrame,
    whole: bool,
    progress: bool,
) -> dict[str, pd.DataFrame]:
    """How far the released coefficients are from the exact ones; and the replays, of whole clusters."""
    as_released = released.on_released_targets(both)
    of_checkpoints = replays.checkpoint_clusters(as_released, quality, correlations)
    clusters = itertools.chain(of_checkpoints, replays.sentence_clusters(items, correlations))
    found = replays.replay(clusters, progress=progress)._asdict() if whole else {"standing": replays.standing(clusters)}
    rest = both.drop(index=as_released.index)
    own = replays.standing(replays.checkpoint_clusters(rest, quality, correlations))
    return found | {"standing": pd.concat([found["standing"], own], ignore_index=True)}


def _items(layers: Sequence[int], by: Sequence[str]) -> pd.DataFrame:
    """The items with their COMET and their place in the released file."""
    key = ["run", "checkpoint", "sentence"]
    measured = released_tables.measurements()
    measured = measured[measured["layer"].isin(layers) & measured["by"].isin(by)]
    for frame in (released_tables.translations()[[*key, "comet"]], released_tables.places()):
        measured = measured.merge(frame, on=key, validate="many_to_one")
    return measured


def _in_released_form(single: pd.DataFrame, of_items: pd.DataFrame, sums: pd.DataFrame) -> pd.DataFrame:
    """All coefficients as they were released: those over checkpoints with the sign turned, but for the sums."""
    single = released.on_released_targets(single)
    frames = [
        single.assign(level="checkpoint", as_released=-single["rho_pairs"]),
        of_items.assign(level="sentence", as_released=of_items["rho_sentence_pairs"]),
        sums.assign(term=released.ALL_TERMS, as_released=sums["signed"]),
    ]
    return pd.concat(frames, ignore_index=True)


def _facts(mixed: pd.DataFrame, released_distances: pd.DataFrame, correlations: pd.DataFrame) -> pd.DataFrame:
    """Single numbers. Two released coefficients are quoted: they are what the text is about."""
    quoted = correlations[
        (correlations["level"] == "checkpoint")
        & (correlations["metric"] == "bleu")
        & (correlations["by"] == "sublayer")
        & (correlations["layer"] == 6)
    ].set_index(["run", "indicator", "term"])["mean"]
    agreement = released_analyses.agreement().query("layer == 6 and indicator == 'cosine' and term == 'S'")
    agreement = agreement.set_index("checkpoint")["rho_tokens"]
    scores = pd.read_csv(released.fetch("results/bleu-scores2.csv"))
    facts = {
        "released_importance_S": quoted["rus-eng-s0", "importance", "S"],
        "released_cosine_I": quoted[released.POOLED, "cosine", "I"],
        "bleu_gap": report.bleu_gap(scores),
        "bleu_scores": len(scores),
        "stray_scores": len(released_tables.stray_scores()),
        "agreement_10000": agreement[10_000],
        "agreement_last": agreement.iloc[-1],
        "agreement_last_step": agreement.index[-1],
    }
    if (mixed["layer"] == 6).any():
        facts["normalized_gap"] = distances.normalized_gap(mixed, released_distances)
    return pd.DataFrame({"name": list(facts), "value": [float(value) for value in facts.values()]})


def _in_order(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    rest = [column for column in frame.columns if column not in KEYS[name]]
    return frame[[*KEYS[name], *rest]].sort_values(KEYS[name], kind="stable").reset_index(drop=True)


def _checked(frame: pd.DataFrame, name: str, origin: str) -> pd.DataFrame:
    if name not in KEYS:
        raise InputError(f"{origin}: there is no table {name!r}; there are {tuple(KEYS)}.")
    lacking, wrong = [column for column in KEYS[name] if column not in frame], ""
    if lacking:
        wrong = f"lacks the columns {lacking}"
    elif frame.empty:
        wrong = "has no rows"
    elif cases := repeated(frame, KEYS[name]):
        wrong = f"holds a key twice ({cases[0]})"
    if wrong:
        raise DataError(f"{origin}: the table {name!r} {wrong}; its key is {KEYS[name]}.")
    return frame

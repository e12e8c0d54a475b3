"""The released procedure played again: how many released coefficients should lie far from the exact ones by chance?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from tqdm.auto import tqdm

from addends.errors import InputError
from addends.replication import sentences
from addends.replication.coefficients import KEY, SERIES, generator_of
from addends.replication.released import ALL_TERMS, PAIRS, SAMPLES, is_russian
from addends.replication.released_analyses import beside
from addends.replication.series import aligned, unit, unit_ranks
from addends.tables import INDICATORS

CLUSTER = ["level", "target", "by", "run", "indicator", "metric"]
DRAWS, MOST = 150, 5_000
SIZE = 0.05
T_LIMIT = float(stats.t.ppf(1 - SIZE / 2, SAMPLES - 1))
"""2.26: the mean of ten draws is further than that from what it estimates, in its standard errors, in 5 % of cases."""

NOT_RELEASED = "Russian runs, own output"
"""The set of coefficients, by its name in the tables, that nothing was released of."""

GRID = np.arange(-4, 4.01, 0.25)
"""Quantiles of Student's t at which the released numbers and the replays are compared."""


class Cluster(NamedTuple):
    """The coefficients that rest on the same ten samples: all layers and terms of a run, indicator and metric.

    Importance by token with BLEU, of two terms in one layer, over the three pairs of three checkpoints::

        Cluster(
            names={"level": "checkpoint", "target": "own", "by": "token", "run": "sla-eng",
                   "indicator": "importance", "metric": "bleu"},
            cells=DataFrame:  layer  term   mean   std  upside_down  exact
                                  6     S  -0.48  0.02         True   0.50
                                  6     T   0.52  0.01         True  -0.50,
            ranks=array([[2, 0, 1], [0, 2, 1]]),  # of the cells' changes, of shape (cell, pair)
            quality=array([2, 1, 0]),             # of the changes of quality, (pair,); equal changes have one rank
        )

    ``mean`` and ``std`` are the released ones, ``exact`` is the coefficient over all pairs; ``upside_down`` says that
    the released code turned the sign.
    """

    names: dict[str, object]
    cells: pd.DataFrame
    ranks: np.ndarray
    quality: np.ndarray


class Replayed(NamedTuple):
    """What replays say: of each coefficient, of each cluster, and by set of clusters. `replay` names the columns.

    ``replayed.totals`` of a set with 8 clusters may have outside=5, expected=3.8, lower=0, upper=14, p=.29: five of
    its coefficients are far from the exact ones, and replays have as many or more in 29 % of cases.
    """

    standing: pd.DataFrame
    clusters: pd.DataFrame
    totals: pd.DataFrame
    quantiles: pd.DataFrame


def standing(clusters: Iterable[Cluster]) -> pd.DataFrame:
    """How far each released coefficient is from the exact one, in standard errors.

    With rho the coefficient over all pairs, and m and s the mean and deviation of ten samples of pairs, as released::

        t = (m - rho) sqrt(10) / s

    ``t`` is of -m where the released code turned the sign; ``t_as_released`` is of m everywhere.

    Returns
    -------
    DataFrame
        One row a coefficient: set (see `replay`), the cluster's names, layer, term; t, t_as_released.
    """
    return pd.concat([_standing(cluster) for cluster in clusters], ignore_index=True)


def replay(
    clusters: Iterable[Cluster],
    *,
    draws: int = DRAWS,
    most: int = MOST,
    pairs: int = PAIRS,
    seed: int = 0,
    progress: bool = False,
) -> Replayed:
    """Count the released coefficients that are far from the exact ones, and how many are when chance alone acts.

    With t as in `standing`, a coefficient is *outside* where |t| > 2.26. Were each one sampled for itself, t would have
    Student's distribution with 9 degrees of freedom, and 5 % would be outside. But the coefficients of a `Cluster`
    share their samples, and go out together. So the procedure is replayed: ten samples of ``pairs`` pairs are drawn for
    the whole cluster, ``draws`` times, and the number outside is counted each time. A cluster's p is the share of
    replays with as many outside as were released, the released ones among them. Where no replay has as many, more are
    drawn, until one has or there are ``most`` (Besag and Clifford 1991): so p can be small enough for a finding among
    many clusters.

    Clusters are independent of each other, and make up sets: the Russian runs and the other ones, each on the
    references or on their own output, and single sentences.

    Returns
    -------
    Replayed
        standing : as `standing` returns it.
        clusters : set, the names; cells, outside, expected (the mean over replays), p, draws.
        totals : one row a set: cells, outside, expected, lower and upper (95 % of the replays), p (of that many outside
        or more); clusters, unlikely (those with p <= .05), unlikely_expected, unlikely_p; smallest_p and smallest_holm.
        quantiles : one row a set and quantile of Student's t: that of the released numbers, and 95 % of the replays.

    Raises
    ------
    InputError
        If there is no cluster, draws or pairs are too few, or a run has too few pairs to draw from.

    References
    ----------
    Besag and Clifford (1991), Sequential Monte Carlo p-values, Biometrika 78.
    """
    if draws < 1 / SIZE or pairs < 3:
        raise InputError(
            f"replay: draws={draws}, pairs={pairs}: {1 / SIZE:.0f} draws or more of 3 pairs or more are needed."
        )
    found = []
    for cluster in tqdm(clusters, disable=not progress, unit="cluster"):
        if len(cluster.quality) <= pairs:
            raise InputError(
                f"replay: {cluster.names} has {len(cluster.quality)} pairs; samples of pairs={pairs} need more."
            )
        found.append(_replayed(cluster, draws, most, pairs, seed))
    if not found:
        raise InputError("replay: there is no cluster. Keep layers above 0, and runs that were released.")
    return _together(found)


def checkpoint_clusters(trajectories: pd.DataFrame, quality: pd.DataFrame, released: pd.DataFrame) -> Iterator[Cluster]:
    """The clusters of pairs of checkpoints, in trajectories of any targets; cells are the terms and their sum.

    Scores are subtracted as the released code does it, in floating point, where .3 - .2 is not .2 - .1: equal changes
    of a score with one decimal do not tie there. (`coefficients` has them tie.)

    Raises
    ------
    InputError
        As `series.aligned` does, or if a series has no released coefficient.
    """
    decimals = [float(str(score)) for score in quality["score"].to_numpy()]  # .3, where float32 has .30000001
    read = pd.Series(decimals, index=pd.MultiIndex.from_frame(quality[["run", "metric", "checkpoint"]])).sort_index()
    groups: dict[tuple, dict] = {}
    for series in aligned(trajectories, quality, INDICATORS, SERIES, "checkpoint_clusters"):
        names = {"level": "checkpoint"} | series.names
        groups.setdefault(tuple(names[name] for name in CLUSTER), {})[names["layer"], names["term"]] = series
    known: dict[tuple, dict] = {}
    for group, cells in sorted(groups.items()):  # the metrics of an indicator in a row: they share its ranks
        names, t = dict(zip(CLUSTER, group, strict=True)), next(iter(cells.values())).t
        if any(not np.array_equal(series.t, t) for series in cells.values()):
            raise InputError(f"checkpoint_clusters: the series of {names} do not stand at the same checkpoints.")
        pairs, same = np.triu_indices(len(t), 1), (*group[:-1], t.tobytes())
        if same not in known:
            changes = {cell: _change(series.x, pairs) for cell, series in cells.items()}
            for layer in dict.fromkeys(layer for layer, _ in cells):
                x = np.array([series.x for (at, _), series in cells.items() if at == layer])  # (term, checkpoint)
                x /= x.std(axis=1, keepdims=True)
                changes[layer, ALL_TERMS] = sum(np.abs(_change(each, pairs)) for each in x)
            known = {same: _ranks(changes)} | dict(list(known.items())[:1])
        scores = read.loc[names["run"], names["metric"]].loc[t].to_numpy()
        yield _cluster(group, known[same], _change(scores, pairs), released)


def sentence_clusters(items: pd.DataFrame, released: pd.DataFrame) -> Iterator[Cluster]:
    """The clusters of pairs of single sentences, in the items that `sentences.by_term` takes.

    Raises
    ------
    InputError
        As `sentences.by_term` does.
    """
    groups: dict[tuple, tuple] = {}
    for names, wide, comet in sentences.in_order_of_place(items):
        names = names | {"level": "sentence", "target": "own", "metric": "comet"}
        pairs = np.triu_indices(len(comet), 1)
        comet = comet / 10**sentences.COMET_DECIMALS  # as it is read: equal changes do not tie, see above
        changes, _ = groups.setdefault(tuple(names[name] for name in CLUSTER), ({}, _change(comet, pairs)))
        of_terms = {(names["layer"], term): _change(x, pairs) for term, x in wide.items()}
        changes |= of_terms | {(names["layer"], ALL_TERMS): sum(np.abs(change) for change in of_terms.values())}
    for group, (changes, quality) in groups.items():
        yield _cluster(group, _ranks(changes), quality, released)


def _change(x: np.ndarray, pairs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return x[pairs[1]] - x[pairs[0]]


def _ranks(changes: dict[tuple, np.ndarray]) -> dict[tuple, np.ndarray]:
    """The rank of each change among all pairs, 0, 1, ...; of equal ones the earlier pair's is the lower.

    The released indicators have fifteen digits, and no two changes alike; ties of the tables' seven mean nothing.
    """
    found = {}
    for cell, change in changes.items():
        found[cell] = np.empty(len(change), dtype=np.uint32)
        found[cell][np.argsort(change, kind="stable")] = np.arange(len(change), dtype=np.uint32)
    return found


def _cluster(group: tuple, ranks: dict, quality: np.ndarray, released: pd.DataFrame) -> Cluster:
    names = dict(zip(CLUSTER, group, strict=True))
    cells = pd.DataFrame(list(ranks), columns=["layer", "term"])
    key = [name for name in KEY if name != "target"]
    cells = beside(cells.assign(**names), released, str(names["level"]), key)[["layer", "term", "mean", "std"]]
    # Sums are of sizes, which have no sign; single sentences were not standardised.
    cells["upside_down"] = (cells["term"] != ALL_TERMS) & (names["level"] == "checkpoint")
    cells["exact"] = [unit(each) @ unit_ranks(quality) for each in ranks.values()]
    return Cluster(names, cells, np.array(list(ranks.values())), np.unique(quality, return_inverse=True)[1])


def _standing(cluster: Cluster) -> pd.DataFrame:
    """What `standing` returns, of one cluster."""
    cells = cluster.cells
    error = cells["std"] / np.sqrt(SAMPLES)
    turned = cells["mean"].where(~cells["upside_down"], -cells["mean"])
    values = {"t": (turned - cells["exact"]) / error, "t_as_released": (cells["mean"] - cells["exact"]) / error}
    return cells[["layer", "term"]].assign(set=_set(cluster.names), **cluster.names, **values)


def _replayed(cluster: Cluster, draws: int, most: int, pairs: int, seed: int) -> tuple:
    """A cluster's standing; its row of the table of clusters; t in the first ``draws`` replays, (draw, cell)."""
    generator = generator_of(cluster.names, seed)
    stand = _standing(cluster)
    outside = int((stand["t"].abs() > T_LIMIT).sum())
    chance = _replays(cluster, draws, pairs, generator)
    count = (np.abs(chance) > T_LIMIT).sum(axis=1)
    as_many, drawn = int((count >= outside).sum()), draws
    while not as_many and drawn < most:
        more = (np.abs(_replays(cluster, draws, pairs, generator)) > T_LIMIT).sum(axis=1) >= outside
        as_many, drawn = int(more.any()), drawn + (int(more.argmax()) if more.any() else draws)
    row = {"set": _set(cluster.names), **cluster.names, "cells": len(stand), "outside": outside}
    return stand, row | {"expected": count.mean(), "p": (as_many + 1) / (drawn + 1), "draws": drawn}, chance


def _replays(cluster: Cluster, draws: int, pairs: int, generator: np.random.Generator) -> np.ndarray:
    """Student's t of every cell in ``draws`` replays, of shape (draw, cell)."""
    size = len(cluster.quality)
    drawn = np.array([generator.choice(size, pairs, replace=False) for _ in range(draws * SAMPLES)])  # (sample, pair)
    quality = _doubled_midranks(cluster.quality[drawn])
    length = np.linalg.norm(quality - quality.mean(axis=1, keepdims=True), axis=1)
    weights = unit(np.arange(pairs, dtype=float))  # no ties: the ranks of a sample are 0, 1, ...
    # The rank of quality travels in the last bits of the rank of the indicator, which is sorted: faster than argsort.
    bits = (2 * pairs).bit_length()
    kind = np.uint32 if size << bits <= 2**32 else np.uint64
    quality, found = quality.astype(kind), np.empty((draws, len(cluster.cells)))
    for cell, ranks in enumerate(cluster.ranks):
        keys = np.sort((ranks.astype(kind) << kind(bits))[drawn] | quality, axis=1)
        rho = ((keys & kind(2**bits - 1)).astype(float) @ weights / length).reshape(draws, SAMPLES)
        error = rho.std(axis=1, ddof=1) / np.sqrt(SAMPLES)
        found[:, cell] = (rho.mean(axis=1) - cluster.cells["exact"].iloc[cell]) / error
    return found


def _doubled_midranks(values: np.ndarray) -> np.ndarray:
    """Twice the mid-rank of whole numbers along the last axis, counted from 0: whole numbers as well."""
    length = values.shape[1]
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    new = np.ones(values.shape, dtype=bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    places = np.arange(length)
    first = np.maximum.accumulate(np.where(new, places, 0), axis=1)
    ends = np.where(np.roll(new, -1, axis=1), places, length)  # the last of a sample is an end, as its first is new
    last = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    found = np.empty_like(first)
    np.put_along_axis(found, order, first + last, axis=1)
    return found


def _together(found: list[tuple]) -> Replayed:
    """The tables of all clusters, from what `_replayed` returns of each."""
    standing, rows, chance = zip(*found, strict=True)
    clusters = pd.DataFrame(rows)
    totals, quantiles = [], []
    for name in dict.fromkeys(clusters["set"]):
        own = np.flatnonzero(clusters["set"] == name)
        totals.append(
            _total(name, clusters.iloc[own], np.array([(np.abs(chance[k]) > T_LIMIT).sum(axis=1) for k in own]))
        )
        t = np.concatenate([standing[k]["t"] for k in own])
        quantiles.append(_quantiles(name, t, np.hstack([chance[k] for k in own])))
    return Replayed(
        pd.concat(standing, ignore_index=True), clusters, pd.DataFrame(totals), pd.concat(quantiles, ignore_index=True)
    )


def _set(names: dict) -> str:
    if names["level"] == "sentence":
        return "sentences"
    if is_russian(pd.Series([names["run"]])).item():
        return f"Russian runs, {'references' if names['target'] == 'reference' else 'own output'}"
    return f"other runs, {'references' if names['target'] == 'reference' else 'own output'}"


def _total(group: str, clusters: pd.DataFrame, counts: np.ndarray) -> dict:
    """One row of totals; ``counts`` has the cells outside, of shape (cluster, draw)."""
    draws = counts.shape[1]
    total, outside = counts.sum(axis=0), int(clusters["outside"].sum())
    lower, upper = np.quantile(total, [0.025, 0.975])
    # Each replay judged by the others of its cluster, as the released numbers are.
    own_p = np.array([(row[:, None] <= row[None, :]).sum(axis=1) / draws for row in counts])  # (cluster, draw)
    chance, unlikely = (own_p <= SIZE).sum(axis=0), int((clusters["p"] <= SIZE).sum())
    row = {"set": group, "cells": int(clusters["cells"].sum()), "outside": outside, "expected": total.mean()}
    row |= {"lower": lower, "upper": upper, "p": (1 + (total >= outside).sum()) / (1 + draws)}
    row |= {"clusters": len(clusters), "unlikely": unlikely, "unlikely_expected": chance.mean()}
    row |= {"unlikely_p": (1 + (chance >= unlikely).sum()) / (1 + draws)}
    return row | {"smallest_p": clusters["p"].min()} | {"smallest_holm": min(1, clusters["p"].min() * len(clusters))}


def _quantiles(group: str, released: np.ndarray, replayed: np.ndarray) -> pd.DataFrame:
    """Quantiles of the released t, (cell,), and of the replays, (draw, cell), at those of Student's t."""
    probabilities = stats.t.cdf(GRID, SAMPLES - 1)
    lower, upper = np.quantile(np.quantile(replayed, probabilities, axis=1), [0.025, 0.975], axis=1)
    observed = np.quantile(released, probabilities)
    return pd.DataFrame({"set": group, "quantile": GRID, "released": observed, "lower": lower, "upper": upper})

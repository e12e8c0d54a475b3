"""The released procedure played again: how many released coefficients should lie far from the exact ones by chance?"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from tqdm.auto import tqdm

from addends.errors import InputError
from addends.runs.tables import INDICATORS
from addends.statistics.replication import items
from addends.statistics.replication.coefficients import ALL_TERMS, KEY, LIMIT, SAMPLES, beside, is_russian
from addends.statistics.replication.resamples import PAIRS
from addends.statistics.series import aligned

CLUSTER = ["level", "target", "by", "run", "indicator", "metric"]
DRAWS, MOST = 150, 5_000
SIZE = 0.05
NOT_RELEASED = "Russian runs, own output"
"""The one set of coefficients, by its name in the tables, that the released numbers are not those of."""

GRID = np.arange(-4, 4.01, 0.25)
"""Quantiles of Student's t at which the released numbers and the replays are compared."""


class Cluster(NamedTuple):
    """The coefficients that rest on the same ten samples: all layers and terms of a run, indicator and metric.

    ``cells`` names them (layer, term). Over all pairs of the run, ``ranks`` holds the ranks of the cells' changes, of
    shape (cell, pair), and ``quality`` the changes of quality, (pair,). ``released`` is (mean, std), (cell, 2);
    ``upside_down``, (cell,), says where the released code turned the sign.
    """

    names: dict
    cells: pd.DataFrame
    ranks: np.ndarray
    quality: np.ndarray
    released: np.ndarray
    upside_down: np.ndarray


class Replayed(NamedTuple):
    """What replays say: `clusters`, one row a cluster; `totals` and `quantiles`, by set of clusters."""

    clusters: pd.DataFrame
    totals: pd.DataFrame
    quantiles: pd.DataFrame


def standing(clusters: Iterable[Cluster]) -> pd.DataFrame:
    """How far each released coefficient is from the exact one, in standard errors.

    With rho the coefficient over all pairs, and m and s the mean and deviation of ten samples of pairs, as released::

        t = (m - rho) sqrt(10) / s

    Where the released code turned the sign, ``t`` is of -m; ``t_as_stored`` is of m everywhere.

    Returns
    -------
    DataFrame
        One row a coefficient: set (see `replay`), the cluster's names, layer, term; t, t_as_stored.
    """
    frames = []
    for cluster in clusters:
        rho = _exact(cluster)
        values = {"t": _released_t(cluster, rho), "t_as_stored": _released_t(cluster, rho, turned=False)}
        frames.append(cluster.cells.assign(set=_set(cluster.names), **cluster.names, **values))
    return pd.concat(frames, ignore_index=True)


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
    rows, counts, values = [], [], {}
    for cluster in tqdm(clusters, disable=not progress, unit="cluster"):
        if len(cluster.quality) <= pairs:
            raise InputError(
                f"replay: {cluster.names} has {len(cluster.quality)} pairs; samples of pairs={pairs} need more."
            )
        # A seed of its own for each cluster, so that those computed along with it do not matter.
        name = " ".join(str(value) for value in cluster.names.values())
        generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
        rho, group = _exact(cluster), _set(cluster.names)
        t = _released_t(cluster, rho)
        outside = int((np.abs(t) > LIMIT).sum())
        chance = _replays(cluster, rho, draws, pairs, generator)  # (draw, cell)
        count = (np.abs(chance) > LIMIT).sum(axis=1)
        as_many, drawn = int((count >= outside).sum()), draws
        while not as_many and drawn < most:
            more = (np.abs(_replays(cluster, rho, draws, pairs, generator)) > LIMIT).sum(axis=1) >= outside
            as_many, drawn = int(more.any()), drawn + (int(more.argmax()) if more.any() else draws)
        row = {"set": group, **cluster.names, "cells": len(t), "outside": outside, "expected": count.mean()}
        rows.append(row | {"p": (as_many + 1) / (drawn + 1), "draws": drawn})
        counts.append(count)
        values.setdefault(group, []).append((t, chance))
    if not rows:
        raise InputError("replay: there is no cluster. Keep layers above 0, and runs that were released.")
    found, counts = pd.DataFrame(rows), np.array(counts)
    totals = [_total(group, found[of], counts[of]) for group in values for of in [(found["set"] == group).to_numpy()]]
    quantiles = [
        _quantiles(group, *(np.hstack(part) for part in zip(*of, strict=True))) for group, of in values.items()
    ]
    return Replayed(found, pd.DataFrame(totals), pd.concat(quantiles, ignore_index=True))


def over_checkpoints(trajectories: pd.DataFrame, quality: pd.DataFrame, released: pd.DataFrame) -> Iterator[Cluster]:
    """The clusters of pairs of checkpoints, in trajectories of any targets; cells are the terms and their sum.

    Scores are subtracted as the released code does it, in floating point, where .3 - .2 is not .2 - .1: equal changes
    of a score with one decimal do not tie there. (`coefficients` has them tie.)

    Raises
    ------
    InputError
        As `series.aligned` does, or if a series has no released coefficient.
    """
    by = [name for name in KEY if name not in ("indicator", "metric")]
    decimals = [float(str(score)) for score in quality["score"].to_numpy()]  # .3, where float32 has .30000001
    read = pd.Series(decimals, index=pd.MultiIndex.from_frame(quality[["run", "metric", "checkpoint"]]))
    groups: dict[tuple, dict] = {}
    for series in aligned(trajectories, quality, INDICATORS, by, "over_checkpoints"):
        names = {"level": "checkpoint"} | series.names
        groups.setdefault(tuple(names[name] for name in CLUSTER), {})[names["layer"], names["term"]] = series
    known: dict[tuple, dict] = {}
    for group, cells in sorted(groups.items()):  # the metrics of an indicator in a row: they share its ranks
        names, t = dict(zip(CLUSTER, group, strict=True)), next(iter(cells.values())).t
        if any(not np.array_equal(series.t, t) for series in cells.values()):
            raise InputError(f"over_checkpoints: the series of {names} do not stand at the same checkpoints.")
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


def over_sentences(of_items: pd.DataFrame, released: pd.DataFrame) -> Iterator[Cluster]:
    """The clusters of pairs of single sentences, in the items that `items.by_term` takes.

    Raises
    ------
    InputError
        As `items.by_term` does.
    """
    groups: dict[tuple, tuple] = {}
    for names, wide, comet in items.of_runs(of_items):
        names = names | {"level": "sentence", "target": "own", "metric": "comet"}
        pairs = np.triu_indices(len(comet), 1)
        comet = comet / 10**items.COMET_DECIMALS  # as it is read: equal changes do not tie, see above
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
    return {cell: (stats.rankdata(change, method="ordinal") - 1).astype(np.int32) for cell, change in changes.items()}


def _cluster(group: tuple, ranks: dict, quality: np.ndarray, released: pd.DataFrame) -> Cluster:
    names = dict(zip(CLUSTER, group, strict=True))
    cells = pd.DataFrame(list(ranks), columns=["layer", "term"])
    both = beside(cells.assign(**names), released, str(names["level"]), [name for name in KEY if name != "target"])
    values = both[["mean", "std"]].to_numpy(dtype=float)
    upside_down = (both["level"] == "checkpoint") & (both["term"] != ALL_TERMS)  # sums are of sizes, which have no sign
    return Cluster(names, cells, np.array(list(ranks.values())), quality, values, upside_down.to_numpy())


def _exact(cluster: Cluster) -> np.ndarray:
    """Spearman's rho of every cell over all pairs, of shape (cell,)."""
    quality = _unit(stats.rankdata(cluster.quality))
    return np.array([_unit(ranks) @ quality for ranks in cluster.ranks])


def _released_t(cluster: Cluster, rho: np.ndarray, turned: bool = True) -> np.ndarray:
    """Student's t of the released means, of shape (cell,)."""
    mean, std = cluster.released.T
    sign = np.where(cluster.upside_down & turned, -1, 1)
    return (sign * mean - rho) * np.sqrt(SAMPLES) / std


def _replays(cluster: Cluster, rho: np.ndarray, draws: int, pairs: int, generator: np.random.Generator) -> np.ndarray:
    """Student's t of every cell in ``draws`` replays, of shape (draw, cell)."""
    size = len(cluster.quality)
    drawn = np.array([generator.choice(size, pairs, replace=False) for _ in range(draws * SAMPLES)])  # (sample, pair)
    quality = _unit(stats.rankdata(cluster.quality[drawn], axis=1))
    weights = _unit(np.arange(pairs, dtype=float))  # no ties: the ranks of a sample are 1, 2, ...
    # The place in the sample travels in the last bits of the number that is sorted: faster than argsort.
    bits = (pairs - 1).bit_length()
    kind = np.uint32 if size << bits <= 2**32 else np.uint64
    places, found = np.arange(pairs, dtype=kind), np.empty((draws, len(rho)))
    for cell, ranks in enumerate(cluster.ranks):
        keys = np.sort((ranks[drawn].astype(kind) << kind(bits)) | places, axis=1)
        sampled = np.take_along_axis(quality, keys & kind(2**bits - 1), axis=1) @ weights
        sampled = sampled.reshape(draws, SAMPLES)
        found[:, cell] = (sampled.mean(axis=1) - rho[cell]) * np.sqrt(SAMPLES) / sampled.std(axis=1, ddof=1)
    return found


def _unit(ranks: np.ndarray) -> np.ndarray:
    """Ranks along the last axis, centred and of length 1."""
    ranks = ranks - ranks.mean(axis=-1, keepdims=True)
    return ranks / np.linalg.norm(ranks, axis=-1, keepdims=True)


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

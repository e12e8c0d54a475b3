"""How alike are the state spaces of two runs that read the same sentences, and what is that worth?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from addends.errors import InputError
from addends.statistics.alignment import debiased_cka, procrustes_distance

__all__ = ["STATE", "debiased_cka", "procrustes_distance", "similarities"]

STATE = "state"
"""The name of the sum of all terms, the whole state."""


def similarities(
    spaces: Mapping[str, np.ndarray],
    terms: Sequence[str],
    neighbours: Mapping[str, np.ndarray] | None = None,
    sentences: np.ndarray | None = None,
    *,
    shuffles: int = 20,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Debiased CKA and Procrustes distance of every two runs, of each term and of the whole state, with two baselines.

    The whole state is the sum of its terms. The baselines say what a number is worth:

    - "neighbour": the same run at a neighbouring checkpoint, which is as alike as two spaces get in practice;
    - "shuffled": the same two runs with the sentences of one in another order, so that rows no longer belong together:
      what dimensions and number of rows give by themselves. Sentences move as a whole, with their tokens in order.

    Parameters
    ----------
    spaces : mapping of str to ndarray of shape (layer, term, row, dim)
        One array a run. Rows must be the same tokens or sentences in the same order in all runs: references, not the
        runs' own translations, see `addends.runs.states`.
    terms : sequence of str
        The names along the term axis.
    neighbours : mapping of str to ndarray, optional
        The same arrays of a neighbouring checkpoint, for some runs or all.
    sentences : ndarray of shape (row,), optional
        Which sentence each row belongs to, the rows of one sentence standing together. None: each row is one.
    shuffles, seed : int
        How many orders of the sentences to average over, and their seed. The k-th order is the same for all pairs.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DataFrame
        One row a layer, term (and "state"), and comparison: layer, term, run, other, comparison ("runs", "neighbour" or
        "shuffled"), cka, procrustes, cka_sd, procrustes_sd (over the shuffles; else missing), shuffles, seed, rows,
        sentences. ``other`` is the run itself in "neighbour".

    Raises
    ------
    InputError
        If there is neither a second run nor a neighbour; arrays differ in more than their dimension, or hold NaN or
        infinite values; ``terms`` or ``sentences`` do not fit; a neighbour's run is unknown; or there are fewer than
        two sentences to shuffle.
    """
    where = "similarities"
    spaces = _whole_states(spaces, terms, where)
    nearby = _whole_states(neighbours or {}, terms, where)
    if len(spaces) < 2 and not nearby:
        raise InputError(f"{where}: one run ({list(spaces)}) and no neighbour: there is nothing to compare it with.")
    strangers = [run for run in nearby if run not in spaces]
    if strangers:
        raise InputError(f"{where}: neighbours of unknown runs {strangers}; spaces has {list(spaces)}.")
    everything = {**spaces, **{f"the neighbour of {run}": array for run, array in nearby.items()}}
    shapes = {run: array.shape[:3] for run, array in everything.items()}
    if len(set(shapes.values())) > 1:
        raise InputError(
            f"{where}: arrays of shapes (layer, term and state, row) {shapes}: these must be the same sentences, "
            "layers and terms in all runs."
        )
    rows = next(iter(shapes.values()))[2]
    blocks = _blocks(sentences, rows, where)
    if isinstance(shuffles, bool) or not isinstance(shuffles, (int, np.integer)) or shuffles < 0:
        raise InputError(f"{where}: shuffles={shuffles!r} is not a whole number of 0 or more.")
    if shuffles and len(blocks) < 2:
        raise InputError(f"{where}: {len(blocks)} sentence(s) cannot be shuffled. Give more, or shuffles=0.")
    generator = np.random.default_rng(seed)
    orders = [_another_order(blocks, generator) for _ in range(shuffles)]
    names = list(spaces)
    pairs = [(one, two, "runs", spaces[two]) for place, one in enumerate(names) for two in names[place + 1 :]]
    pairs += [(run, run, "neighbour", array) for run, array in nearby.items()]
    results = []
    layers = next(iter(shapes.values()))[0]
    for one, two, comparison, other in tqdm(pairs, disable=not progress, unit="pair"):
        for layer in range(layers):
            for place, term in enumerate([*terms, STATE]):
                x, y = (array[layer, place] for array in (spaces[one], other))  # (row, dim)
                about = {"layer": layer, "term": term, "run": one, "other": two}
                counts = {"rows": rows, "sentences": len(blocks)}
                results.append(about | {"comparison": comparison} | _both([(x, y)]) | counts)
                if orders and comparison == "runs":
                    shuffled = _both([(x, y[order]) for order in orders]) | {"shuffles": shuffles, "seed": seed}
                    results.append(about | {"comparison": "shuffled"} | shuffled | counts)
    columns = ["layer", "term", "run", "other", "comparison", "cka", "procrustes", "cka_sd", "procrustes_sd"]
    frame = pd.DataFrame(results).reindex(columns=[*columns, "shuffles", "seed", "rows", "sentences"])
    return frame.astype({"shuffles": "Int64", "seed": "Int64"})


def _both(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Means over pairs of arrays, and standard deviations over more than one."""
    found = {"cka": debiased_cka, "procrustes": procrustes_distance}
    values = {name: np.array([function(x, y) for x, y in pairs]) for name, function in found.items()}
    means = {name: float(each.mean()) for name, each in values.items()}
    return means | {f"{name}_sd": float(each.std(ddof=1)) for name, each in values.items() if len(each) > 1}


def _whole_states(spaces: Mapping[str, np.ndarray], terms: Sequence[str], where: str) -> dict[str, np.ndarray]:
    """Each array with the sum over its terms behind them: (layer, term and state, row, dim)."""
    if isinstance(terms, str) or len(set(terms)) < len(terms) or STATE in terms or not len(terms):
        raise InputError(f"{where}: terms={terms!r} must be a list of different names, none of them {STATE!r}.")
    whole = {}
    for run, array in spaces.items():
        array = np.asarray(array)
        if array.ndim != 4 or array.shape[1] != len(terms):
            raise InputError(
                f"{where}: the array of {run!r} is of shape {array.shape}; (layer, term, row, dim) with {len(terms)} "
                "terms is wanted."
            )
        if not np.isfinite(array).all():
            layer, term, row, _ = np.argwhere(~np.isfinite(array))[0]
            raise InputError(
                f"{where}: NaN or infinite values in the array of {run!r}, first in layer {layer}, term "
                f"{terms[term]}, row {row}."
            )
        whole[run] = np.concatenate([array, array.sum(axis=1, keepdims=True)], axis=1)  # (layer, term + 1, row, dim)
    return whole


def _blocks(sentences: np.ndarray | None, rows: int, where: str) -> list[np.ndarray]:
    """The rows of each sentence."""
    if sentences is None:
        return [np.array([row]) for row in range(rows)]
    sentences = np.asarray(sentences)
    if sentences.shape != (rows,):
        raise InputError(f"{where}: sentences is of shape {sentences.shape}; one for each of {rows} rows is wanted.")
    begins = np.flatnonzero(np.r_[True, sentences[1:] != sentences[:-1]])
    if len(begins) != len(np.unique(sentences)):
        raise InputError(f"{where}: the rows of a sentence must stand together; some sentence is interrupted.")
    return np.split(np.arange(rows), begins[1:])


def _another_order(blocks: list[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """The rows with their sentences in another order."""
    order = np.arange(len(blocks))
    while (order == np.arange(len(blocks))).all():
        order = generator.permutation(len(blocks))
    return np.concatenate([blocks[place] for place in order])

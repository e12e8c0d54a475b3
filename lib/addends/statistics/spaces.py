"""How alike are the state spaces of two runs that read the same sentences?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from addends.errors import InputError

FEWEST_ROWS = 4
STATE = "state"
"""The name of the sum of all terms, the whole state."""


def debiased_cka(one: np.ndarray, two: np.ndarray) -> float:
    """Centred kernel alignment of two sets of vectors with linear kernels, debiased.

    With K = X X' and L = Y Y' (rows are the same tokens or sentences), their diagonals set to zero::

        h(K, L) = (tr(K L) + (1'K1)(1'L1) / ((n - 1)(n - 2)) - 2 (1'KL1) / (n - 2)) / (n (n - 3))
        CKA = h(K, L) / sqrt(h(K, K) h(L, L))

    h is the unbiased estimate of the Hilbert-Schmidt independence criterion. CKA is 1 for two spaces that differ by a
    rotation, a shift and a scale; it is near 0, on either side of it, for independent ones, however few the rows and
    many the dimensions: without the debiasing independent noise comes near 1 when dimensions outnumber rows.

    Parameters
    ----------
    one, two : ndarray of shape (row, dim)
        Row k of both is the same token or sentence. The dimensions may differ.

    Returns
    -------
    float
        At most 1; missing where one of the two does not vary beyond chance (its h with itself is not positive).

    Raises
    ------
    InputError
        If the arrays are not two-dimensional, differ in rows, have fewer than 4, or hold NaN or infinite values.

    References
    ----------
    Song and others (2012), Feature selection via dependence maximization, JMLR 13, 1393-1434, eq. 4. Kornblith and
    others (2019), Similarity of neural network representations revisited, ICML. Nguyen, Raghu and Kornblith (2021), Do
    wide and deep networks learn the same things?, ICLR, eq. 3.
    """
    one, two = _pair(one, two, "debiased_cka")
    with_itself = [_unbiased(x, x) for x in (one, two)]
    if min(with_itself) <= 0:
        return np.nan
    return float(_unbiased(one, two) / np.sqrt(with_itself[0] * with_itself[1]))


def procrustes_distance(one: np.ndarray, two: np.ndarray) -> float:
    """What is left between two sets of vectors after the best rotation or reflection, both of the same size.

    With X and Y centred and divided by their Frobenius norms, and the nuclear norm, the sum of singular values::

        d = min over Q'Q = I of |X Q - Y| = sqrt(2 - 2 |X'Y|_nuclear)

    0 for two spaces that differ by a rotation, a reflection, a shift and a scale; at most sqrt(2). It is a metric. With
    few rows and many dimensions a rotation fits noise: with as many dimensions as rows, independent noise is as near as
    any two spaces are. Read it beside its shuffled baseline only (`similarities`).

    Parameters, Raises
    ------------------
    As `debiased_cka`. Spaces of differing dimension are compared as if the smaller had zeros in the others.

    Returns
    -------
    float
        Missing where one of the two does not vary.

    References
    ----------
    Schönemann (1966), A generalized solution of the orthogonal Procrustes problem, Psychometrika 31, 1-10. Williams and
    others (2021), Generalized shape metrics on neural representations, NeurIPS, eq. 4.
    """
    one, two = _pair(one, two, "procrustes_distance")
    sizes = np.linalg.norm(one), np.linalg.norm(two)
    if min(sizes) == 0:
        return np.nan
    overlap = np.linalg.svd((one / sizes[0]).T @ (two / sizes[1]), compute_uv=False).sum()
    return float(np.sqrt(max(0.0, 2 - 2 * overlap)))


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


def _unbiased(one: np.ndarray, two: np.ndarray) -> float:
    """h(K, L) in time linear in rows, without n x n matrices; the rows are centred, which h does not see."""
    n = len(one)
    squares = [np.einsum("ij,ij->i", x, x) for x in (one, two)]  # the diagonals of K and L, (row,)
    trace = ((one.T @ two) ** 2).sum() - squares[0] @ squares[1]
    sums = [x @ x.sum(axis=0) - diagonal for x, diagonal in zip((one, two), squares, strict=True)]  # K1 and L1, (row,)
    total = sums[0].sum() * sums[1].sum() / ((n - 1) * (n - 2))
    return (trace + total - 2 * (sums[0] @ sums[1]) / (n - 2)) / (n * (n - 3))


def _both(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Means over pairs of arrays, and standard deviations over more than one."""
    found = {"cka": debiased_cka, "procrustes": procrustes_distance}
    values = {name: np.array([function(x, y) for x, y in pairs]) for name, function in found.items()}
    means = {name: float(each.mean()) for name, each in values.items()}
    return means | {f"{name}_sd": float(each.std(ddof=1)) for name, each in values.items() if len(each) > 1}


def _pair(one: np.ndarray, two: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64, centred over rows, and as exact zeros where they do not vary."""
    arrays = []
    for name, array in (("one", one), ("two", two)):
        array = np.asarray(array)
        if array.ndim != 2 or array.dtype.kind not in "fiu":
            raise InputError(
                f"{where}: {name} is of shape {array.shape} and type {array.dtype}: numbers (row, dim) are wanted."
            )
        rounding = 4 * np.finfo(array.dtype if array.dtype.kind == "f" else "float64").eps
        array = array.astype("float64")
        if not np.isfinite(array).all():
            bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
            raise InputError(f"{where}: NaN or infinite values in {len(bad)} row(s) of {name}, the first {bad[0]}.")
        arrays.append(
            np.where(np.ptp(array, axis=0) <= rounding * np.abs(array).max(initial=0), 0.0, array - array.mean(axis=0))
        )
    if len(arrays[0]) != len(arrays[1]):
        raise InputError(
            f"{where}: {len(arrays[0])} and {len(arrays[1])} rows: row k of both must be the same token or sentence."
        )
    if len(arrays[0]) < FEWEST_ROWS:
        raise InputError(f"{where}: {len(arrays[0])} row(s); {FEWEST_ROWS} or more are needed.")
    return arrays[0], arrays[1]


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

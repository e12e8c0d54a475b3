"""Two measures of how alike two sets of vectors are, however rotated: aligned kernels, and the best rotation."""

from __future__ import annotations

import numpy as np

from addends.errors import InputError

FEWEST_ROWS = 4


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


def _unbiased(one: np.ndarray, two: np.ndarray) -> float:
    """h(K, L) in time linear in rows, without n x n matrices; the rows are centred, which h does not see."""
    n = len(one)
    squares = [np.einsum("ij,ij->i", x, x) for x in (one, two)]  # the diagonals of K and L, (row,)
    trace = ((one.T @ two) ** 2).sum() - squares[0] @ squares[1]
    sums = [x @ x.sum(axis=0) - diagonal for x, diagonal in zip((one, two), squares, strict=True)]  # K1 and L1, (row,)
    total = sums[0].sum() * sums[1].sum() / ((n - 1) * (n - 2))
    return (trace + total - 2 * (sums[0] @ sums[1]) / (n - 2)) / (n * (n - 3))


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

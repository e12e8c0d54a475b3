"""How alike the spaces of two runs are: arrays in, numbers out.

Rows are the same tokens in both spaces. Two measures do not see how a space is turned: the alignment of kernels, and
what is left after the best rotation. Any two models of one language share which type each token is: the same measures
are therefore read after each type's mean is taken off, and beside rows that are permuted within their type.
"""

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
    any two spaces are. Read it beside rows in another order only (`permuted_within`).

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


def without_type_means(vectors: np.ndarray, types: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row less the mean of the rows of its type; rows whose type occurs once have nothing of their own left.

    >>> rows, kept = without_type_means(np.array([[1.0], [3.0], [9.0]]), np.array([5, 5, 8]))
    >>> rows.ravel().tolist(), kept.tolist()
    ([-1.0, 1.0], [0, 1])

    Parameters
    ----------
    vectors : ndarray of shape (row, dim)
    types : ndarray of shape (row,)
        Which type each row is, such as the id of the token that is to be predicted.

    Returns
    -------
    rows : float64 ndarray of shape (kept row, dim)
        Of types that occur twice or more.
    kept : ndarray of int, of shape (kept row,)
        Which rows these are: the same in every run that reads the same tokens.

    Raises
    ------
    InputError
        If the shapes do not fit, or every type occurs once.
    """
    vectors, codes = _typed(vectors, types, "without_type_means")
    counts = np.bincount(codes)
    kept = np.flatnonzero(counts[codes] > 1)
    if not len(kept):
        raise InputError("without_type_means: every type occurs once, so that nothing is left of any row.")
    sums = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(sums, codes, vectors)
    return (vectors - (sums / counts[:, None])[codes])[kept], kept


def permuted_within(types: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """An order of the rows in which each row's place is taken by one of its own type, of shape (row,).

    >>> order = permuted_within(np.array([5, 8, 5, 8, 8]), np.random.default_rng(0))
    >>> np.array([5, 8, 5, 8, 8])[order].tolist()
    [5, 8, 5, 8, 8]

    Raises
    ------
    InputError
        If ``types`` is not of shape (row,).
    """
    types = np.asarray(types)
    if types.ndim != 1:
        raise InputError(f"permuted_within: types is of shape {types.shape}; one for each row is wanted.")
    _, codes = np.unique(types, return_inverse=True)
    order = np.empty(len(types), dtype=int)
    # Rows sorted by type, drawn order within a type: the k-th place of a type gets its k-th row of the draw.
    order[np.argsort(codes, kind="stable")] = np.lexsort((generator.random(len(types)), codes))
    return order


def _typed(vectors: np.ndarray, types: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Vectors in float64, and their types as numbers from 0."""
    vectors, types = np.asarray(vectors, dtype="float64"), np.asarray(types)
    if vectors.ndim != 2 or types.shape != vectors.shape[:1]:
        raise InputError(
            f"{where}: vectors of shape {vectors.shape} and types of shape {types.shape}: (row, dim) and (row,) are "
            "wanted."
        )
    return vectors, np.unique(types, return_inverse=True)[1]


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

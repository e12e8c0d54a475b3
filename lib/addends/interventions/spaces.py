"""How alike the spaces of two runs are: arrays in, numbers out.

Rows are the same tokens in both spaces. Two measures do not see how a space is turned: the alignment of kernels, and
what is left after the best rotation. Any two models of one language share which type each token is: the same measures
are therefore read after each type's mean is taken off, and beside rows that are permuted within their type.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from addends.checks import check_count
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


class Similarity(NamedTuple):
    """How alike two spaces are, with standard errors over sentences.

    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(40, 3))
    >>> space = Space(rows, np.repeat(np.arange(10), 4))
    >>> round(similarity(space, space).cka, 6)
    1.0

    Attributes
    ----------
    cka, procrustes : float
        `debiased_cka` and `procrustes_distance`.
    cka_se, procrustes_se : float
        Of the jackknife over groups of sentences: see `similarity`.
    """

    cka: float
    cka_se: float
    procrustes: float
    procrustes_se: float


@dataclass(eq=False)
class Space:
    """The rows of one run, ready to be compared with those of many others.

    Attributes
    ----------
    rows : float64 ndarray of shape (row, dim)
        Centred, the rows of one group of sentences side by side.
    starts : ndarray of int, of shape (group + 1,)
        Where the groups begin in ``rows``, and their end.

    Parameters
    ----------
    rows : ndarray of shape (row, dim)
    groups : ndarray of int, of shape (row,)
        The group of sentences that a row belongs to: `groups_of`. The same in every space that is compared.

    Raises
    ------
    InputError
        As `debiased_cka`; or if there are fewer than two groups, or one holds nearly all rows.

    Examples
    --------
    >>> import numpy as np
    >>> Space(np.eye(8), np.array([0, 0, 0, 0, 1, 1, 1, 1])).rows.shape
    (8, 8)
    """

    rows: np.ndarray
    groups: np.ndarray = field(repr=False)
    starts: np.ndarray = field(init=False, repr=False)
    squares: np.ndarray = field(init=False, repr=False)
    with_itself: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rows, _ = _pair(self.rows, self.rows, "Space")
        groups = np.asarray(self.groups)
        if groups.shape != rows.shape[:1]:
            raise InputError(f"Space: groups of shape {groups.shape} for {len(rows)} rows: one for each is wanted.")
        _, codes = np.unique(groups, return_inverse=True)
        counts = np.bincount(codes)
        if len(counts) < 2 or len(rows) - counts.max() < FEWEST_ROWS:
            raise InputError(
                f"Space: {len(counts)} group(s) of {counts.tolist()} rows: without any one of them, {FEWEST_ROWS} or "
                "more rows are to be left."
            )
        self.rows = rows[np.argsort(codes, kind="stable")]
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        self.squares = np.einsum("ij,ij->i", self.rows, self.rows)
        self.with_itself = _unbiased_without_each(self, self)[0]


def groups_of(sentences: np.ndarray, groups: int = 20) -> np.ndarray:
    """For each row, the group that its sentence is put into: whole sentences, dealt out in turn; of shape (row,).

    >>> groups_of(np.array([7, 7, 3, 9, 9]), groups=2).tolist()
    [1, 1, 0, 0, 0]

    Raises
    ------
    InputError
        If ``groups`` is no whole number of 2 or more.
    """
    check_count("groups", groups, "groups_of", least=2)
    _, codes = np.unique(np.asarray(sentences), return_inverse=True)
    return codes % groups


def similarity(one: Space, two: Space) -> Similarity:
    """Debiased CKA and Procrustes distance of two spaces, with standard errors over sentences.

    Sentences, not tokens, are what a corpus is drawn in. With v_g the value without group g, of G groups of sentences::

        se^2 = (G - 1) / G * sum_g (v_g - mean(v))^2

    Everything that either value needs is a sum over rows, so that leaving out a group is a subtraction.

    Raises
    ------
    InputError
        If the spaces have different numbers of rows in a group.

    References
    ----------
    Kott (2001), The delete-a-group jackknife, Journal of Official Statistics 17, 521-526.
    """
    if not np.array_equal(one.starts, two.starts):
        raise InputError(
            f"similarity: {len(one.rows)} and {len(two.rows)} rows, in different groups: row k of both must be the "
            "same token. Runs that have different vocabularies cannot be compared token by token."
        )
    between, products = _unbiased_without_each(one, two)
    own = one.with_itself * two.with_itself  # (1 + group,)
    positive = (one.with_itself > 0) & (two.with_itself > 0)
    cka = np.where(positive, between / np.sqrt(np.where(positive, own, 1)), np.nan)
    procrustes = _procrustes_without_each(one, two, products)
    return Similarity(float(cka[0]), _jackknife(cka[1:]), float(procrustes[0]), _jackknife(procrustes[1:]))


def _sums(space: Space, values: np.ndarray) -> np.ndarray:
    """Sums of values (row, ...) over all rows, and over all but each group, of shape (1 + group, ...)."""
    by_group = np.add.reduceat(values, space.starts[:-1], axis=0)
    total = by_group.sum(axis=0, keepdims=True)
    return np.concatenate([total, total - by_group])


def _counts(space: Space) -> np.ndarray:
    return np.concatenate([[len(space.rows)], len(space.rows) - np.diff(space.starts)])


def _unbiased_without_each(one: Space, two: Space) -> tuple[np.ndarray, np.ndarray]:
    """`_unbiased` of all rows and of all but each group (1 + group,), and X'Y likewise (1 + group, dim, dim)."""
    spans = [slice(*span) for span in zip(one.starts[:-1], one.starts[1:], strict=True)]
    by_group = np.stack([one.rows[span].T @ two.rows[span] for span in spans])  # (group, dim, dim)
    total = by_group.sum(axis=0, keepdims=True)
    products = np.concatenate([total, total - by_group])
    n = _counts(one)
    sums = [_sums(space, space.rows) for space in (one, two)]  # (1 + group, dim)
    lengths = [_sums(space, space.squares) for space in (one, two)]  # (1 + group,)
    both = _sums(one, one.squares * two.squares)
    weighted = [_sums(one, two.squares[:, None] * one.rows), _sums(two, one.squares[:, None] * two.rows)]
    trace = np.square(products).sum(axis=(1, 2)) - both
    # sum_i (K1)_i (L1)_i with (K1)_i = x_i . sum(x) - |x_i|^2, multiplied out.
    cross = np.einsum("gi,gij,gj->g", sums[0], products, sums[1]) + both
    cross -= sum(np.einsum("gi,gi->g", total, each) for total, each in zip(sums, weighted, strict=True))
    total_one, total_two = (np.square(s).sum(axis=1) - length for s, length in zip(sums, lengths, strict=True))
    found = trace + total_one * total_two / ((n - 1) * (n - 2)) - 2 * cross / (n - 2)
    return found / (n * (n - 3)), products


def _procrustes_without_each(one: Space, two: Space, products: np.ndarray) -> np.ndarray:
    """`procrustes_distance` of all rows and of all but each group, of shape (1 + group,)."""
    n = _counts(one)
    sums = [_sums(space, space.rows) for space in (one, two)]
    centred = products - sums[0][:, :, None] * sums[1][:, None, :] / n[:, None, None]
    left = [
        np.maximum(_sums(space, space.squares) - np.square(total).sum(axis=1) / n, 0)
        for space, total in zip((one, two), sums, strict=True)
    ]
    sizes = np.sqrt(left[0] * left[1])
    overlap = np.linalg.svd(centred, compute_uv=False).sum(axis=1)
    found = np.sqrt(np.maximum(0, 2 - 2 * overlap / np.where(sizes > 0, sizes, 1)))
    return np.where(sizes > 0, found, np.nan)


def _jackknife(values: np.ndarray) -> float:
    count = len(values)
    return float(np.sqrt((count - 1) / count * np.square(values - values.mean()).sum()))


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

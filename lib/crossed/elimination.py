r"""Many-level random intercepts taken out of a mixed model in closed form, from sums made once.

Let W = [D X y] hold the columns of the few-level random effects, the fixed effects and the outcome, (row, m). With
random intercepts of a factor "leaf" (run:sentence, say) nested in a factor "mid" (sentence), of SDs theta_leaf and
theta_mid times the residual SD, V0 = I + theta_leaf^2 Z_leaf Z_leaf' + theta_mid^2 Z_mid Z_mid' has, for a leaf level
c of n_c rows with column sums s_c in mid level j::

    g_c = 1 / (1 + theta_leaf^2 n_c)
    t_j = sum_(c in j) g_c s_c,    N_j = sum_(c in j) g_c n_c,    w_j = theta_mid^2 / (1 + theta_mid^2 N_j)
    G   = W' inverse(V0) W = within + sum_c (g_c / n_c) s_c s_c' - sum_j w_j t_j t_j'
    log det V0 = sum_c log(1 + theta_leaf^2 n_c) + sum_j log(1 + theta_mid^2 N_j)

where "within" are the cross-products of W less its leaf means. g_c depends on c through n_c alone, so leaf levels with
equal counts share one sum of s_c s_c', and mid levels made of the same counts share their sums of t_j t_j': in a
balanced design one evaluation costs m^2, whatever the number of rows or levels. Where several interactions are nested
in one factor and not in each other, the module `nested` takes out all of them.

Rows of three sentences (mid) in three runs; a star is a row, a cell with stars is a level of run:sentence (leaf)::

              run 1   run 2   run 3      pattern: counts, and how many leaves have each
    A          **      **       *        1: one, 2: two
    B           *      **      **        1: one, 2: two       the pattern of A: one sum for both
    C         ***               *        1: one, 3: one       alone: its sums stay loose

    counts = [1, 2, 3], the distinct n_c; the kind of a leaf is the place of its count there: 1 for (A, run 1)
    kinds  = [3, 4, 1], leaves of each kind
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

_ENTRIES = 4_000_000
"""Numbers that a dense block made on the way may hold: 32 MB."""


class Elimination:
    """The sums behind G, and G itself at given (theta_leaf, theta_mid).

    Parameters
    ----------
    dense : sparse matrix (row, few-level effect)
        Columns of the random effects that are not eliminated; zero columns wide if there are none.
    others : array (row, k)
        The fixed part and the outcome, standardised by the caller.
    leaf, mid : array (row,) of int, optional
        Codes 0, 1, ... of the factors to eliminate; ``leaf`` nested in ``mid``. No mid without a leaf.
    """

    def __init__(
        self, dense: sparse.csr_array, others: np.ndarray, leaf: np.ndarray | None = None, mid: np.ndarray | None = None
    ):
        self.size = dense.shape[1] + others.shape[1]
        self.leaf, self.mid = leaf, mid
        if leaf is None:
            self.within = _cross(dense, others, others)
            return
        counts = np.bincount(leaf).astype("float64")
        sums = np.column_stack([np.bincount(leaf, column) for column in others.T])  # (leaf, k)
        centred = others - (sums / counts[:, None])[leaf]
        membership = sparse.csr_array((np.ones(len(leaf)), leaf, np.arange(len(leaf) + 1)), (len(leaf), len(counts)))
        dense_sums = (membership.T @ dense).tocsr()  # (leaf, few-level effect)
        self.within = _cross(dense, others, centred)
        q = dense.shape[1]
        self.within[q:, q:] = centred.T @ centred
        scaled = sparse.diags_array(1 / counts) @ dense_sums
        self.within[:q, :q] -= (dense_sums.T @ scaled).toarray()

        self.counts, kind = np.unique(counts, return_inverse=True)  # distinct counts, (kind,)
        self.kinds = np.bincount(kind).astype("float64")  # leaf levels of each count
        rows = sparse.hstack([dense_sums, sparse.csr_array(sums)], format="csr")  # (leaf, m): s_c
        order = np.argsort(kind, kind="stable")
        ends = np.cumsum(np.bincount(kind))
        groups = (rows[order[end - size : end]] for end, size in zip(ends, np.bincount(kind), strict=True))
        # (kind, m, m): sum of s_c s_c'; where that would be too large, the rows themselves.
        self.between: np.ndarray | None = None
        if len(self.counts) * self.size**2 <= 8 * _ENTRIES:
            self.between = np.stack([_gram(group) for group in groups])
        else:
            self.rows, self.kind = rows, kind
        if mid is not None:
            parent = np.empty(len(counts), dtype="int64")
            parent[leaf] = mid  # (leaf,) -> mid level
            self._collect(rows, kind, parent)

    def _collect(self, rows: sparse.csr_array, kind: np.ndarray, parent: np.ndarray) -> None:
        """Sum over the mid levels of one pattern, where that saves work; keep the rows of all others, the loose ones.

        A pair is a mid level with one of its kinds: A of the example has the pairs (A, 1) and (A, 2).
        """
        kinds, levels = len(self.counts), int(parent.max()) + 1
        pair, where = np.unique(parent * kinds + kind, return_inverse=True)
        level, pair_kind = np.divmod(pair, kinds)  # (pair,): mid level, kind
        number = np.bincount(where)  # (pair,): leaves of that kind in that level
        adder = sparse.csr_array((np.ones(len(where)), (where, np.arange(len(where)))), (len(pair), len(where)))
        rows = (adder @ rows).tocsr()  # (pair, m): sums of s_c
        starts = np.searchsorted(level, np.arange(levels))
        held = np.diff(np.append(starts, len(pair)))  # (level,): pairs of each level

        _, first, pattern = np.unique(
            _patterns(starts, held, pair_kind * np.int64(number.max() + 1) + number),
            return_index=True,
            return_inverse=True,
        )
        members = np.bincount(pattern)
        width = held[first]  # (pattern,): kinds in it
        worth = width**2 <= members
        worth &= np.cumsum(np.where(worth, width**2, 0)) * self.size**2 <= 4 * _ENTRIES
        self.patterns = []  # for each width: kinds (pattern, kind), numbers (the same), levels, sums of t t'
        for size in np.unique(width[worth]):
            chosen = np.flatnonzero(worth & (width == size))
            pairs = starts[first[chosen]][:, None] + np.arange(size)  # (pattern, kind)
            products = np.empty((len(chosen), size, size, self.size, self.size))
            for one, which in enumerate(chosen):
                parts = [rows[starts[pattern == which] + column] for column in range(size)]
                products[one] = [[_gram(a, b) for b in parts] for a in parts]
            self.patterns.append((pair_kind[pairs], number[pairs], members[chosen], products))
        loose = ~worth[pattern]
        chosen = np.flatnonzero(loose[level])
        self.loose, self.loose_kind, self.loose_number = rows[chosen], pair_kind[chosen], number[chosen]
        self.loose_ends = np.append(0, np.cumsum(held[loose]))  # where each loose level's pairs begin

    def _weights(self, leaf: float) -> np.ndarray:
        return 1 / (1 + leaf**2 * self.counts)

    def _between(self, weights: np.ndarray) -> np.ndarray:
        """Sum over leaf levels of weight s_c s_c', (m, m), by their counts."""
        if self.between is not None:
            return np.tensordot(weights, self.between, 1)
        return (self.rows.T @ (sparse.diags_array(weights[self.kind]) @ self.rows)).toarray()

    def gram(self, leaf: float = 0.0, mid: float = 0.0) -> tuple[np.ndarray, float]:
        """G, (m, m), and log det V0."""
        if self.leaf is None:
            return self.within.copy(), 0.0
        g = self._weights(leaf)
        result = self.within + self._between(g / self.counts)
        logdet = -self.kinds @ np.log(g)
        if self.mid is None:
            return result, logdet
        for kinds, numbers, levels, products in self.patterns:
            total = np.sum(numbers * g[kinds] * self.counts[kinds], axis=1)  # (pattern,): N_j
            weight = mid**2 / (1 + mid**2 * total)
            weights = weight[:, None, None] * g[kinds][:, :, None] * g[kinds][:, None, :]  # (pattern, kind, kind)
            result -= np.tensordot(weights, products, 3)
            logdet += levels @ np.log1p(mid**2 * total)
        for ((sums, total),) in self._loose(g):
            scaled = sums * np.sqrt(mid**2 / (1 + mid**2 * total))[:, None]
            result -= scaled.T @ scaled
            logdet += np.log1p(mid**2 * total).sum()
        return result, logdet

    def slopes(self, upstream: np.ndarray, leaf: float = 0.0, mid: float = 0.0) -> list[float]:
        """Derivatives by theta_leaf and theta_mid of f(G) + log det V0, where ``upstream`` is df/dG, (m, m)."""
        if self.leaf is None:
            return []
        g = self._weights(leaf)
        dg = -2 * leaf * self.counts * g**2
        by_leaf = np.sum(self._between(dg / self.counts) * upstream)
        by_leaf += self.kinds @ (2 * leaf * self.counts * g)
        if self.mid is None:
            return [float(by_leaf)]
        by_mid = 0.0
        for kinds, numbers, levels, products in self.patterns:
            total = np.sum(numbers * g[kinds] * self.counts[kinds], axis=1)
            change = np.sum(numbers * dg[kinds] * self.counts[kinds], axis=1)
            inner = np.tensordot(products, upstream, 2)  # (pattern, kind, kind)
            squares = np.einsum("pk,pkl,pl->p", g[kinds], inner, g[kinds])
            crossed = np.einsum("pk,pkl,pl->p", g[kinds], inner + inner.transpose(0, 2, 1), dg[kinds])
            one, two = _mid_slopes(mid, total, change, squares, crossed, levels)
            by_leaf, by_mid = by_leaf + one.sum(), by_mid + two.sum()
        for (sums, total), (changes, change) in self._loose(g, dg):
            half = sums @ upstream
            squares, crossed = np.sum(half * sums, axis=1), 2 * np.sum(half * changes, axis=1)
            one, two = _mid_slopes(mid, total, change, squares, crossed, 1)
            by_leaf, by_mid = by_leaf + one.sum(), by_mid + two.sum()
        return [float(by_leaf), float(by_mid)]

    def effects(self, left: np.ndarray, leaf: float = 0.0, mid: float = 0.0) -> list[np.ndarray]:
        """The predicted effects of leaf and mid, (level,) each, for what all others leave of the outcome, (row,)."""
        if self.leaf is None:
            return []
        counts, sums = np.bincount(self.leaf), np.bincount(self.leaf, left)
        g = 1 / (1 + leaf**2 * counts)
        if self.mid is None:
            return [leaf**2 * g * sums]
        parent = np.empty(len(counts), dtype="int64")
        parent[self.leaf] = self.mid
        total, weighted = np.bincount(parent, g * counts), np.bincount(parent, g * sums)
        of_mid = mid**2 * weighted / (1 + mid**2 * total)
        return [leaf**2 * g * (sums - counts * of_mid[parent]), of_mid]

    def _loose(self, *weights: np.ndarray) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
        """For blocks of the loose mid levels, and each of ``weights`` (kind,): t_j, (level, m), and N_j, (level,)."""
        ends, step = self.loose_ends, max(1, _ENTRIES // self.size)
        for begin in range(0, len(ends) - 1, step):
            stop = min(begin + step, len(ends) - 1)
            pairs = slice(ends[begin], ends[stop])
            kinds, numbers = self.loose_kind[pairs], self.loose_number[pairs]
            rows, starts = self.loose[pairs], ends[begin : stop + 1] - ends[begin]
            parts = []
            for weight in weights:
                shape = (stop - begin, len(kinds))
                adder = sparse.csr_array((weight[kinds], np.arange(len(kinds)), starts), shape)
                totals = np.add.reduceat(numbers * weight[kinds] * self.counts[kinds], starts[:-1])
                parts.append(((adder @ rows).toarray(), totals))
            yield parts


def _patterns(starts: np.ndarray, held: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """A number for each mid level, (level,): the same for two exactly where their pairs have the same marks.

    Parameters
    ----------
    starts, held : array (level,) of int
        Where the pairs of each level begin, and how many there are.
    marks : array (pair,) of int
        The kind of each pair and its number of leaves, as one number; by kind within each level.
    """
    _, marks = np.unique(marks, return_inverse=True)
    found, used, many = np.empty(len(starts), dtype="int64"), 0, int(marks.max()) + 1
    for size in np.unique(held):
        levels = np.flatnonzero(held == size)
        code = np.zeros(len(levels), dtype="int64")
        for column in range(size):
            _, code = np.unique(code * many + marks[starts[levels] + column], return_inverse=True)
        found[levels] = used + code
        used += int(code.max()) + 1
    return found


def _mid_slopes(
    mid: float,
    total: np.ndarray,
    change: np.ndarray,
    squares: np.ndarray,
    crossed: np.ndarray,
    levels: np.ndarray | int,
) -> tuple[np.ndarray, np.ndarray]:
    """By theta_leaf and theta_mid: - w t'Ut + log(1 + mid^2 N), summed over ``levels`` levels of equal N."""
    weight = mid**2 / (1 + mid**2 * total)
    by_leaf = weight**2 * change * squares - weight * crossed + levels * weight * change
    by_mid = -2 * mid / (1 + mid**2 * total) ** 2 * squares + levels * 2 * mid * total / (1 + mid**2 * total)
    return by_leaf, by_mid


def _cross(dense: sparse.csr_array, others: np.ndarray, centred: np.ndarray) -> np.ndarray:
    """[D X]'[D X] as one block, with ``centred`` in place of X where D meets it."""
    q = dense.shape[1]
    result = np.empty((q + others.shape[1],) * 2)
    result[:q, :q] = (dense.T @ dense).toarray()
    result[:q, q:] = dense.T @ centred
    result[q:, :q] = result[:q, q:].T
    result[q:, q:] = others.T @ others
    return result


def _gram(first: sparse.csr_array, second: sparse.csr_array | None = None) -> np.ndarray:
    """first' second, dense, for sparse matrices (row, m)."""
    if first.nnz > 0.2 * first.shape[0] * first.shape[1] and first.shape[0] * first.shape[1] <= _ENTRIES:
        first = first.toarray()
        return first.T @ (first if second is None else second.toarray())
    return (first.T @ (first if second is None else second)).toarray()

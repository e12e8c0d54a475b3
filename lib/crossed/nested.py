r"""Several random intercepts that are all nested in one factor, taken out of a mixed model block by block.

Every level of sentence, init:sentence and order:sentence belongs to one sentence, so their part of a covariance matrix
is block-diagonal by sentence. Let Z_j hold the columns of all these terms that belong to block j, (row, level), Theta
their SDs divided by the residual SD, and W = [D X y] what is left, (row, m), as in the module `elimination`. With an
orthonormal basis Q_j of the columns of Z_j, of rank r, R_j = Q_j' Z_j and T_j = Q_j' W_j::

    V0  = I + Z Theta^2 Z'
    K_j = I + R_j Theta^2 R_j'                                                    (r, r)
    G   = W' inverse(V0) W = within + sum_j T_j' inverse(K_j) T_j,    within = W'W - sum_j T_j' T_j
    log det V0 = sum_j log det K_j

Z_j' Z_j = E diag(d) E', over its positive eigenvalues d, gives R_j = diag(sqrt(d)) E' and T_j = M_j Z_j' W_j with
M_j = diag(1 / sqrt(d)) E', the map. Nothing is divided by Theta, and no K_j has an eigenvalue below 1: a variance may
be 0. Blocks of equal Z_j' Z_j share one pattern: one K_j, and one sum of the products of rows of T_j. So in a balanced
design one evaluation costs r^2 m^2, whatever the number of rows or blocks.

Two sentences in four runs, of two starts and two orders, a row a star; terms sentence, start:sentence and
order:sentence; five levels a block::

                  start 1           start 2        Z'Z of A   4 2 2 2 2    of B   3 2 1 1 2
                order 1  order 2  order 1  order 2            2 2 0 1 1           2 2 0 1 1
    sentence A     *        *        *        *               2 0 2 1 1           1 0 1 0 1
    sentence B     *        *                 *               2 1 1 2 0           1 1 0 1 0
                                                              2 1 1 0 2           2 1 1 0 2     both of rank 3
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

_ENTRIES = 4_000_000
"""Numbers that a dense block made on the way may hold: 32 MB."""

LARGEST = 8 * _ENTRIES
"""Numbers that the matrices Z_j' Z_j of all blocks may hold together: 256 MB."""


@dataclass(frozen=True, eq=False)
class Shape:
    """The blocks that have equally many levels of each term, and equal rank.

    The blocks A and B of the module's docstring are one shape: terms ``[0, 1, 1, 2, 2]``, two patterns, roots and maps
    (2, 3, 5), pattern ``[0, 1]``, levels (2, 5), members ``[1, 1]``.

    Attributes
    ----------
    terms : array (level,) of int
        The place of each level's term among the eliminated terms.
    roots, maps : array (pattern, r, level)
        R_j and M_j.
    levels : array (block, level) of int
        The places of each block's levels among all levels of all terms, term after term.
    pattern : array (block,) of int
    members : array (pattern,)
        Blocks of each pattern.
    shared : array of int
        Patterns whose products are summed once.
    products : array (shared, r x r, m x m)
        Their sums over blocks of (row a of T)' (row b of T).
    loose : array of int
        Blocks of all other patterns.
    sums : sparse matrix (loose x level, m)
        Their Z_j' W_j.
    """

    terms: np.ndarray
    roots: np.ndarray
    maps: np.ndarray
    levels: np.ndarray
    pattern: np.ndarray
    members: np.ndarray
    shared: np.ndarray
    products: np.ndarray
    loose: np.ndarray
    sums: sparse.csr_array

    def factors(self, thetas: np.ndarray) -> np.ndarray:
        """Inverses of the Cholesky factors of K_j, (pattern, r, r)."""
        spread = self.roots * thetas[self.terms]
        k = np.eye(self.roots.shape[1]) + spread @ spread.transpose(0, 2, 1)
        return np.linalg.inv(np.linalg.cholesky(k))

    def blocks(self, maps: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For runs of loose blocks: their patterns, (block,), and ``maps``, (pattern, r, level), times Z_j' W_j."""
        width = len(self.terms)
        step = max(1, _ENTRIES // (width * self.sums.shape[1]))
        for begin in range(0, len(self.loose), step):
            chosen = self.pattern[self.loose[begin : begin + step]]
            sums = self.sums[begin * width : (begin + len(chosen)) * width].toarray()
            yield chosen, maps[chosen] @ sums.reshape(len(chosen), width, -1)  # (block, r, m)


class NestedElimination:
    """G and log det V0 at given SDs of terms that are nested in one of them; see `crossed.elimination.Elimination`.

    Parameters
    ----------
    dense : sparse matrix (row, few-level effect)
        Columns of the random effects that are not eliminated; zero columns wide if there are none.
    others : array (row, k)
        The fixed part and the outcome, standardised by the caller.
    terms : sequence of array (row,) of int
        Codes 0, 1, ... of the terms to eliminate.
    block : array (row,) of int
        Codes of the factor that they are all nested in; as a rule one of the terms.
    """

    def __init__(self, dense: sparse.csr_array, others: np.ndarray, terms: Sequence[np.ndarray], block: np.ndarray):
        rows, q = len(block), dense.shape[1]
        self.size = q + others.shape[1]
        self.codes = terms
        self.counts = [int(codes.max()) + 1 for codes in terms]
        starts = np.cumsum([0, *self.counts])
        term = np.repeat(np.arange(len(terms)), self.counts)  # (level,): the term of each level of all terms
        parent = np.empty(len(term), dtype="int64")  # (level,): its block
        for start, codes in zip(starts, terms, strict=False):
            parent[start + codes] = block
        places = np.column_stack([start + codes for start, codes in zip(starts, terms, strict=False)])
        pointers = np.arange(rows + 1) * len(terms)
        z = sparse.csr_array((np.ones(places.size), places.ravel(), pointers), (rows, len(term)))

        outcome_sums = z.T @ others  # (level, k)
        sums = sparse.hstack([z.T @ dense, sparse.csr_array(outcome_sums)], format="csr")  # (level, m): Z'W
        fitted = np.zeros_like(outcome_sums)  # (level, k): coefficients of the projection of ``others`` on Z
        between = np.zeros((self.size, self.size))  # sum of T_j' T_j
        self.shapes = []
        for levels, grams in _blocks((z.T @ z).tocoo(), parent, term):
            for shape in _shapes(levels, grams, term, sums):
                self.shapes.append(shape)
                for chosen in _steps(len(shape.levels), len(shape.terms) * self.size):
                    which, maps = shape.levels[chosen], shape.maps[shape.pattern[chosen]]
                    t = maps @ sums[which.ravel()].toarray().reshape(*which.shape, -1)  # (block, r, m)
                    fitted[which] = maps.transpose(0, 2, 1) @ t[:, :, q:]
                    t = t[:, :, :q].reshape(t.shape[0] * t.shape[1], q)
                    between[:q, :q] += t.T @ t
        # What the blocks leave of ``others``: by subtraction of cross-products its digits would be lost.
        left = others - z @ fitted
        self.within = np.empty_like(between)
        self.within[:q, :q] = (dense.T @ dense).toarray() - between[:q, :q]
        self.within[:q, q:] = dense.T @ left
        self.within[q:, :q] = self.within[:q, q:].T
        self.within[q:, q:] = left.T @ left

    def gram(self, *thetas: float) -> tuple[np.ndarray, float]:
        """G, (m, m), and log det V0, given the relative SD of each term."""
        result, logdet = self.within.copy(), 0.0
        for shape in self.shapes:
            roots = shape.factors(np.array(thetas))
            logdet -= 2 * float(shape.members @ np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(axis=1))
            if len(shape.shared):
                inverses = (roots.transpose(0, 2, 1) @ roots)[shape.shared].reshape(len(shape.shared), -1)
                result += np.tensordot(inverses, shape.products, 2).reshape(result.shape)
            for _, t in shape.blocks(roots @ shape.maps):
                flat = t.reshape(-1, self.size)
                result += flat.T @ flat
        return result, logdet

    def slopes(self, upstream: np.ndarray, *thetas: float) -> list[float]:
        """Derivatives by each of ``thetas`` of f(G) + log det V0, where ``upstream`` is df/dG, (m, m)."""
        found = np.zeros(len(thetas))
        for shape in self.shapes:
            roots = shape.factors(np.array(thetas))
            inverses = roots.transpose(0, 2, 1) @ roots
            rank = inverses.shape[1]
            inner = np.zeros_like(inverses)  # (pattern, r, r): sum over blocks of T U T'
            inner[shape.shared] = (shape.products @ upstream.ravel()).reshape(-1, rank, rank)
            for pattern, t in shape.blocks(shape.maps):
                np.add.at(inner, pattern, (t @ upstream) @ t.transpose(0, 2, 1))
            middle = shape.members[:, None, None] * inverses - inverses @ inner @ inverses
            by_level = np.einsum("pal,pab,pbl->l", shape.roots, middle, shape.roots, optimize=True)
            found += np.bincount(shape.terms, by_level, len(thetas))
        return [2 * theta * slope for theta, slope in zip(thetas, found.tolist(), strict=True)]

    def effects(self, left: np.ndarray, *thetas: float) -> list[np.ndarray]:
        """The predicted effects of each term, (level,): Theta^2 Z' inverse(V0) left, of what others leave, (row,)."""
        pairs = zip(self.codes, self.counts, strict=True)
        sums = np.concatenate([np.bincount(codes, left, count) for codes, count in pairs])  # Z' left
        found = np.empty_like(sums)
        for shape in self.shapes:
            roots = shape.factors(np.array(thetas))
            half = roots @ shape.maps  # (pattern, r, level)
            back = np.array(thetas)[shape.terms, None] ** 2 * (roots @ shape.roots).transpose(0, 2, 1)
            for chosen in _steps(len(shape.levels), len(shape.terms) ** 2):
                which, pattern = shape.levels[chosen], shape.pattern[chosen]
                found[which] = (back[pattern] @ (half[pattern] @ sums[which][:, :, None]))[:, :, 0]
        return np.split(found, np.cumsum(self.counts)[:-1])


def _steps(length: int, width: int) -> Iterator[slice]:
    """Runs of ``length`` things that hold ``width`` numbers each, none of more than `_ENTRIES`."""
    step = max(1, _ENTRIES // max(width, 1))
    for begin in range(0, length, step):
        yield slice(begin, min(begin + step, length))


def _blocks(gram: sparse.coo_array, parent: np.ndarray, term: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of equally many levels: their levels, (block, level), by term and code; Z_j' Z_j (block, level, level)."""
    order = np.lexsort((np.arange(len(parent)), term, parent))
    held = np.bincount(parent)
    starts = np.cumsum(held) - held
    place = np.empty_like(order)  # (level,): where each stands in its block
    place[order] = np.arange(len(order)) - starts[parent[order]]
    of_entry = parent[gram.row]  # both levels of an entry lie in one block
    for size in np.unique(held):
        chosen = np.flatnonzero(held == size)
        number = np.full(len(held), -1)
        number[chosen] = np.arange(len(chosen))
        here = number[of_entry] >= 0
        grams = np.zeros((len(chosen), size, size))
        grams[number[of_entry[here]], place[gram.row[here]], place[gram.col[here]]] = gram.data[here]
        yield order[starts[chosen][:, None] + np.arange(size)], grams


def _shapes(levels: np.ndarray, grams: np.ndarray, term: np.ndarray, sums: sparse.csr_array) -> Iterator[Shape]:
    """The shapes of the blocks of equally many levels."""
    size, m = levels.shape[1], sums.shape[1]
    marks = np.concatenate([grams.reshape(len(grams), -1), term[levels]], axis=1)
    whole = np.ascontiguousarray(marks).view(np.dtype((np.void, marks.shape[1] * marks.itemsize)))[:, 0]
    _, first, pattern = np.unique(whole, return_index=True, return_inverse=True)
    values, vectors = np.linalg.eigh(grams[first])  # (pattern, level), (pattern, level, level)
    ranks = np.sum(values > 1e-10 * values[:, -1:], axis=1)
    kinds = np.column_stack([ranks, term[levels[first]]])  # (pattern, 1 + level)
    for kind in np.unique(kinds, axis=0):
        chosen = np.flatnonzero((kinds == kind).all(axis=1))
        rank = int(kind[0])
        number = np.full(len(first), -1)
        number[chosen] = np.arange(len(chosen))
        blocks = np.flatnonzero(number[pattern] >= 0)
        here, places = number[pattern[blocks]], levels[blocks]
        bases = vectors[chosen][:, :, size - rank :].transpose(0, 2, 1)  # (pattern, r, level): E'
        scales = np.sqrt(values[chosen][:, size - rank :])[:, :, None]
        maps = bases / scales
        members = np.bincount(here)
        worth = rank * m <= members * (rank + m)  # products of a pattern cost less than its blocks one by one
        worth &= np.cumsum(np.where(worth, (rank * m) ** 2, 0)) <= 4 * _ENTRIES
        shared = np.flatnonzero(worth)
        products = np.empty((len(shared), rank * rank, m * m))
        for one, which in enumerate(shared):
            total = np.zeros((rank * m, rank * m))
            own = places[here == which]
            for some in _steps(len(own), size * m):
                t = maps[which] @ sums[own[some].ravel()].toarray().reshape(-1, size, m)
                flat = t.reshape(-1, rank * m)
                total += flat.T @ flat
            products[one] = total.reshape(rank, m, rank, m).transpose(0, 2, 1, 3).reshape(rank * rank, m * m)
        loose = np.flatnonzero(~worth[here])
        left = sums[places[loose].ravel()]
        yield Shape(kind[1:], bases * scales, maps, places, here, members, shared, products, loose, left)

r"""The profiled likelihood of a linear mixed model, and its gradient, as one small Cholesky factor.

The model, for outcome y (row,), fixed part X (row, p) and random effects b = Lambda u with u ~ N(0, scale I)::

    y = X beta + Z Lambda u + e,    e ~ N(0, scale I)

Lambda is block-diagonal: one k x k block for each level of a random term with k columns, the same for all its levels.
Many-level intercepts are eliminated first, by the module `elimination` or `nested`, which leaves G = [D X y]'
inverse(V0) [D X y]. With S = blockdiag(Lambda_D, I) and H = S' G S + blockdiag(I, 0, 0), one Cholesky factor of H holds
everything: log det V, log det X' inverse(V) X, and the penalised residual sum of squares r^2 = (its last entry)^2::

    -2 log L = log det V + [REML: log det X' inverse(V) X] + nu (1 + log(2 pi r^2 / nu)),    nu = n - [REML: p]

References
----------
Bates, Maechler, Bolker and Walker (2015), Fitting linear mixed-effects models using lme4, Journal of Statistical
Software 67(1), section 3, equations 28 to 42.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse

from crossed.elimination import Elimination
from crossed.errors import InputError
from crossed.nested import LARGEST, NestedElimination

DENSE_COLUMNS = 2000
"""Effects that may be left after the elimination: their block is dense, and its factor costs their number cubed."""


@dataclass(frozen=True, eq=False)
class Term:
    """A random term as the likelihood sees it.

    ``(x | run)`` over six rows of two runs::

        codes    [0, 0, 0, 1, 1, 1]                              columns  [[1, x_1], ..., [1, x_6]]
        levels   2                     intercept_only  False     name     "(Intercept + x | run)"

    Attributes
    ----------
    codes : array (row,) of int
        The level in which each row stands.
    columns : array (row, k)
        What gets a coefficient in each level.
    levels : int
    intercept_only : bool
        ``columns`` is one column of ones.
    name : str
        For messages.
    """

    codes: np.ndarray
    columns: np.ndarray
    levels: int
    intercept_only: bool
    name: str

    @property
    def width(self) -> int:
        return self.columns.shape[1]


class Template:
    """From theta to the blocks of Lambda, and back: which entry of which block each number of theta is.

    theta is lme4's: the lower triangles of the blocks, column by column, their diagonals at least 0. For widths [2, 1],
    of ``(x | run) + (1 | sentence)``, theta = (a, b, c, d) is::

        blocks [[a, 0],    and  [[d]]        places [(0, 0, 0), (0, 1, 0), (0, 1, 1), (1, 0, 0)]
                [b, c]]                      diagonal [True, False, True, True]
                                             columns {0: [0, 1], 2: [2], 3: [3]}

    Attributes
    ----------
    widths : list of int
        Columns of each random term.
    places : list of (term, row, column)
        Where each number of theta stands.
    diagonal : array (parameter,) of bool
    columns : dict of int to array
        For each diagonal entry, by its place in theta: the places of itself and of the entries below it.
    """

    def __init__(self, widths: list[int]):
        self.widths = widths
        self.places = [
            (t, row, column) for t, k in enumerate(widths) for column in range(k) for row in range(column, k)
        ]
        self.diagonal = np.array([row == column for _, row, column in self.places])
        self.columns = {
            number: np.array([n for n, (u, _, c) in enumerate(self.places) if (u, c) == (t, column)])
            for number, (t, row, column) in enumerate(self.places)
            if row == column
        }

    def __len__(self) -> int:
        return len(self.places)

    def blocks(self, theta: np.ndarray) -> list[np.ndarray]:
        blocks = [np.zeros((k, k)) for k in self.widths]
        for value, (term, row, column) in zip(theta, self.places, strict=True):
            blocks[term][row, column] = value
        return blocks

    def vector(self, blocks: list[np.ndarray]) -> np.ndarray:
        return np.array([blocks[term][row, column] for term, row, column in self.places])


@dataclass(frozen=True, eq=False)
class Solution:
    """What the Cholesky factor gives at one point.

    Of ``y ~ x + (1 | run)``, with x and y standardised, beta is [-0.02, 0.41], say, and covariance is 2 x 2.

    Attributes
    ----------
    beta : array (p,)
        The fixed effects.
    covariance : array (p, p)
        Their covariance, divided by the residual variance.
    effects : array (q,)
        The effects u of the random terms that were not eliminated.
    squares : float
        r^2, the penalised residual sum of squares.
    """

    beta: np.ndarray
    covariance: np.ndarray
    effects: np.ndarray
    squares: float


class Likelihood:
    """-2 log likelihood as a function of the blocks of Lambda, one (k, k) array a random term.

    Parameters
    ----------
    terms : list of Term
    y : array (row,)
    x : array (row, p)
        Both standardised by the caller.
    reml : bool

    Raises
    ------
    InputError
        If more than `DENSE_COLUMNS` effects are left after the elimination.
    """

    def __init__(self, terms: list[Term], y: np.ndarray, x: np.ndarray, reml: bool):
        self.terms, self.reml, self.y, self.x = terms, reml, y, x
        self.eliminated, block = _eliminated(terms)
        self.dense = [number for number in range(len(terms)) if number not in self.eliminated]
        widths = [terms[number].levels * terms[number].width for number in self.dense]
        self.q, self.p = sum(widths), x.shape[1]
        if self.q > DENSE_COLUMNS:
            names = ", ".join(f"{terms[number].name} {width}" for number, width in zip(self.dense, widths, strict=True))
            raise InputError(
                f"{self.q} random effects ({names}) are left beside the factors whose intercepts can be eliminated; at "
                f"most {DENSE_COLUMNS} are fitted. One many-level factor may have an intercept, and interactions "
                "nested in it; slopes, and factors that cross it, are for few levels."
            )
        starts = np.cumsum([0, *widths])
        self.slices = {n: slice(a, b) for n, a, b in zip(self.dense, starts[:-1], starts[1:], strict=True)}
        blocks = [_indicator(terms[number]) for number in self.dense]
        dense = sparse.hstack(blocks, format="csr") if blocks else sparse.csr_array((len(y), 0))
        others, codes = np.column_stack([x, y]), [terms[number].codes for number in self.eliminated]
        self.elimination: Elimination | NestedElimination
        if block is None:
            self.elimination = Elimination(dense, others, *codes)
        else:
            self.elimination = NestedElimination(dense, others, codes, terms[block].codes)
        self.degrees = len(y) - (self.p if reml else 0)
        self.template = Template([term.width for term in terms])

    def _thetas(self, blocks: list[np.ndarray]) -> list[float]:
        """The relative SDs of the eliminated terms."""
        return [float(blocks[number][0, 0]) for number in self.eliminated]

    def _spread(self, matrix: np.ndarray, blocks: list[np.ndarray]) -> np.ndarray:
        """matrix @ S, for matrix (a, m)."""
        result = matrix.copy()
        for number, place in self.slices.items():
            part = matrix[:, place].reshape(len(matrix), -1, self.terms[number].width)  # (a, level, k)
            result[:, place] = (part @ blocks[number]).reshape(len(matrix), -1)  # (a, level x k)
        return result

    def _factor(self, blocks: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, float]:
        """The Cholesky factor of H, (m, m); G S, (m, m); and log det V0."""
        gram, logdet = self.elimination.gram(*self._thetas(blocks))
        half = self._spread(gram, blocks)  # G S
        h = self._spread(np.ascontiguousarray(half.T), blocks)  # S' G S, symmetric
        h[np.arange(self.q), np.arange(self.q)] += 1
        factor = linalg.cholesky(h, lower=True, check_finite=False)
        return factor, half, logdet

    def deviance(self, blocks: list[np.ndarray], log_sigma: float | None = None) -> float:
        """-2 log L, profiled over the scale or, given the log of the residual SD, at it.

        Infinite where the factor fails: a residual that has vanished.
        """
        try:
            factor, _, logdet0 = self._factor(blocks)
        except (linalg.LinAlgError, ValueError):
            return np.inf
        return self._value(factor, logdet0, log_sigma)[0]

    def gradient(
        self, blocks: list[np.ndarray], log_sigma: float | None = None
    ) -> tuple[float, list[np.ndarray], float]:
        """`deviance`, its derivatives by each block, (k, k), and by ``log_sigma`` (0 where profiled)."""
        q, p, nu = self.q, self.p, self.degrees
        try:
            factor, half, logdet0 = self._factor(blocks)
        except (linalg.LinAlgError, ValueError):
            return np.inf, [np.zeros_like(block) for block in blocks], 0.0
        value, precision = self._value(factor, logdet0, log_sigma)
        # d(-2 log L)/dH: inverse of the block whose log determinant counts, and v v' / scale with v = [-u; -beta; 1].
        count = q + (p if self.reml else 0)
        inner = factor[: q + p, : q + p]
        v = np.append(-linalg.solve_triangular(inner.T, factor[-1, : q + p], lower=False, check_finite=False), 1)
        upstream = precision * np.outer(v, v)
        if count:
            inverse = linalg.lapack.dpotri(factor[:count, :count], lower=1)[0]
            upstream[:count, :count] += np.tril(inverse) + np.tril(inverse, -1).T
        slopes = []
        for number, term in enumerate(self.terms):
            if number in self.slices:
                here = self.slices[number]
                rows = half[here].reshape(-1, term.width, len(v))  # G S: (level, k, m)
                columns = upstream[here].reshape(-1, term.width, len(v))  # (level, k, m)
                slopes.append(2 * np.einsum("lam,lbm->ab", rows, columns, optimize=True))
            else:
                slopes.append(np.zeros((1, 1)))
        if self.eliminated:
            outer = self._spread_back(upstream, blocks)  # S dH S'
            found = self.elimination.slopes(outer, *self._thetas(blocks))
            for number, slope in zip(self.eliminated, found, strict=True):
                slopes[number] = np.array([[slope]])
        by_sigma = 0.0 if log_sigma is None else 2 * nu - 2 * factor[-1, -1] ** 2 * precision
        return value, slopes, float(by_sigma)

    def _value(self, factor: np.ndarray, logdet0: float, log_sigma: float | None) -> tuple[float, float]:
        """-2 log L, and one over the residual variance."""
        q, p, nu = self.q, self.p, self.degrees
        logs = 2 * np.log(np.diag(factor))
        squares = factor[-1, -1] ** 2
        value = logdet0 + logs[:q].sum() + (logs[q : q + p].sum() if self.reml else 0)
        if log_sigma is None:
            return float(value + nu * (1 + np.log(2 * np.pi * squares / nu))), float(nu / squares)
        precision = np.exp(-2 * log_sigma)
        return float(value + nu * (np.log(2 * np.pi) + 2 * log_sigma) + squares * precision), float(precision)

    def solve(self, blocks: list[np.ndarray]) -> Solution:
        """Fixed effects and what belongs to them, at given blocks."""
        q, p = self.q, self.p
        factor, _, _ = self._factor(blocks)
        inner = factor[: q + p, : q + p]
        both = linalg.solve_triangular(inner.T, factor[-1, : q + p], lower=False)
        root = linalg.solve_triangular(factor[q : q + p, q : q + p], np.eye(p), lower=True)
        return Solution(both[q:], root.T @ root, both[:q], factor[-1, -1] ** 2)

    def random_effects(self, blocks: list[np.ndarray]) -> list[np.ndarray]:
        """The predicted effects b of each term, (level, k); those eliminated follow from the others in closed form."""
        solution = self.solve(blocks)
        effects = [np.zeros((term.levels, term.width)) for term in self.terms]
        left = self.y - self.x @ solution.beta
        for number, place in self.slices.items():
            term = self.terms[number]
            effects[number] = solution.effects[place].reshape(-1, term.width) @ blocks[number].T  # (level, k)
            left = left - np.einsum("rk,rk->r", term.columns, effects[number][term.codes])
        found = self.elimination.effects(left, *self._thetas(blocks))
        for number, effect in zip(self.eliminated, found, strict=True):
            effects[number][:, 0] = effect
        return effects

    def _spread_back(self, upstream: np.ndarray, blocks: list[np.ndarray]) -> np.ndarray:
        """S upstream S', for symmetric upstream (m, m)."""
        turned = [block.T for block in blocks]
        half = self._spread(upstream, turned)
        return self._spread(np.ascontiguousarray(half.T), turned)


def _indicator(term: Term) -> sparse.csr_array:
    """The term's columns of Z, sparse, (row, level x k): level by level, its k columns together."""
    rows, width = term.columns.shape
    columns = (term.codes[:, None] * width + np.arange(width)).ravel()
    pointers = np.arange(rows + 1) * width
    return sparse.csr_array((term.columns.ravel(), columns, pointers), (rows, term.levels * width))


def _eliminated(terms: list[Term]) -> tuple[list[int], int | None]:
    """Which intercepts to eliminate; and the term that they are all nested in, where that takes a matrix a block.

    One intercept, or a leaf and then the one that it is nested in, cost next to nothing. Any number of intercepts
    nested in one factor cost a matrix of q_j effects in each of its levels j. What leaves the smaller sum of cubes,
    (effects left)^3 + sum_j q_j^3, is chosen, of what leaves no more than `DENSE_COLUMNS`.
    """
    pair, saved = _chain(terms)
    left = sum(term.levels * term.width for term in terms)
    best, block, least = pair, None, (left - saved > DENSE_COLUMNS, float(left - saved) ** 3)
    intercepts = [number for number, term in enumerate(terms) if term.intercept_only]
    for outer in intercepts:
        held = [number for number in intercepts if _nested(terms[number], terms[outer])]
        if set(held) <= set(pair):
            continue
        sizes = sum(np.bincount(_parents(terms[number], terms[outer])).astype("float64") for number in held)
        if np.sum(sizes**2) > LARGEST:
            continue
        rest = left - sum(terms[number].levels for number in held)
        cost = (rest > DENSE_COLUMNS, float(rest) ** 3 + float(np.sum(sizes**3)))
        if cost < least:
            best, block, least = held, outer, cost
    return best, block


def _chain(terms: list[Term]) -> tuple[list[int], int]:
    """The intercept, or the leaf and the mid level, that leave the fewest effects; and how many levels they have."""
    candidates = [number for number, term in enumerate(terms) if term.intercept_only]
    best: list[int] = []
    saved = 0
    for leaf in candidates:
        if terms[leaf].levels > saved:
            best, saved = [leaf], terms[leaf].levels
    for leaf in candidates:
        for mid in candidates:
            both = terms[leaf].levels + terms[mid].levels
            if (
                leaf != mid
                and both > saved
                and terms[leaf].levels >= terms[mid].levels
                and _nested(terms[leaf], terms[mid])
            ):
                best, saved = [leaf, mid], both
    return best, saved


def _parents(leaf: Term, mid: Term) -> np.ndarray:
    """For each level of ``leaf`` the level of ``mid`` of its last row, (level,)."""
    parent = np.empty(leaf.levels, dtype=mid.codes.dtype)
    parent[leaf.codes] = mid.codes
    return parent


def _nested(leaf: Term, mid: Term) -> bool:
    """Does each level of ``leaf`` lie in one level of ``mid``?"""
    return bool((_parents(leaf, mid)[leaf.codes] == mid.codes).all())

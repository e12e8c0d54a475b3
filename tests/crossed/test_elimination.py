"""What is eliminated in closed form is the inverse of a covariance matrix, written out."""

import numpy as np
import pytest
from scipy import sparse

from crossed.elimination import Elimination, _patterns

# The example of the module's docstring: rows of sentences A, B and C in runs 1, 2 and 3.
CELLS = [("A", 1, 2), ("A", 2, 2), ("A", 3, 1), ("B", 1, 1), ("B", 2, 2), ("B", 3, 2), ("C", 1, 3), ("C", 3, 1)]


def rows(cells):
    """Codes of the leaf (the cell) and of the mid level (the sentence) of each row."""
    leaf = np.repeat(np.arange(len(cells)), [count for _, _, count in cells])
    mid = np.array([ord(cells[place][0]) - ord("A") for place in leaf])
    return leaf, mid


def indicator(codes):
    return (codes[:, None] == np.unique(codes)).astype(float)


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("copies", [1, 9])
def test_products_and_determinant_are_those_of_the_whole_matrix(copies, nested):
    """With nine copies of the sentences patterns are shared; with one all sums are loose."""
    leaf, mid = rows(CELLS)
    leaf = np.concatenate([leaf + len(CELLS) * copy for copy in range(copies)])
    mid = np.concatenate([mid + 3 * copy for copy in range(copies)])
    generator = np.random.default_rng(0)
    few, others = indicator(generator.integers(0, 3, len(leaf))), generator.normal(size=(len(leaf), 2))
    sums = Elimination(sparse.csr_array(few), others, leaf, mid if nested else None)
    v = np.eye(len(leaf)) + 0.7**2 * indicator(leaf) @ indicator(leaf).T
    if nested:
        v += 1.1**2 * indicator(mid) @ indicator(mid).T
        assert bool(sums.patterns) == (copies > 1)
    gram, logdet = sums.gram(0.7, 1.1)
    whole = np.hstack([few, others])
    np.testing.assert_allclose(gram, whole.T @ np.linalg.solve(v, whole), rtol=1e-12, atol=1e-12)
    assert logdet == pytest.approx(np.linalg.slogdet(v)[1], rel=1e-12)


def test_counts_and_patterns_of_the_example():
    leaf, mid = rows(CELLS)
    sums = Elimination(sparse.csr_array((len(leaf), 0)), np.ones((len(leaf), 1)), leaf, mid)
    np.testing.assert_array_equal(sums.counts, [1, 2, 3])
    np.testing.assert_array_equal(sums.kinds, [3, 4, 1])


def test_levels_have_one_pattern_exactly_where_their_marks_are_the_same():
    levels = [[3, 5], [3], [3, 5], [5], [3, 6], [3, 5, 6], [3], [10**9, 10**12]]
    starts = np.cumsum([0, *map(len, levels[:-1])])
    found = _patterns(starts, np.array([len(level) for level in levels]), np.concatenate(levels))
    for one, first in zip(levels, found, strict=True):
        for two, second in zip(levels, found, strict=True):
            assert (first == second) == (one == two)

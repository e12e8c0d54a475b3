"""p-values by permutation, and adjusted over a family."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from addends.errors import InputError
from addends.statistics import adjusted
from addends.statistics.p_values import permutation_p


def test_few_runs_are_permuted_in_every_way():
    pairs = np.random.default_rng(0).normal(size=(5, 5))
    sums = np.array([sum(pairs[run, other] for run, other in enumerate(order)) for order in permutations(range(5))])
    assert permutation_p(pairs, 120, 0) == np.mean(sums >= sums[0] - 1e-12)
    assert permutation_p(pairs, 120, 0, two_sided=True) == np.mean(np.abs(sums) >= abs(sums[0]) - 1e-12)
    drawn = permutation_p(pairs, 119, 0)  # one too few to go through them all: the p-value of 119 draws is of 120ths
    assert drawn * 120 == pytest.approx(round(drawn * 120), abs=1e-9)


def test_no_p_is_0_and_a_tie_counts():
    assert permutation_p(np.diag([1.0, 2, 3, 4, 5, 6, 7, 8]), 99, 0) == 1 / 100
    assert permutation_p(np.full((4, 4), 0.1), 99, 0) == 1.0
    assert permutation_p(np.full((12, 12), 0.1), 99, 0) == 1.0


@pytest.mark.parametrize("runs", [5, 9])
def test_the_p_of_a_null_is_uniform(runs):
    generator = np.random.default_rng(1)
    p = [permutation_p(generator.normal(size=(runs, runs)), 199, seed) for seed in range(400)]
    assert stats.kstest(p, "uniform").pvalue > 1e-4  # the steps of 1/120 and 1/200 are far below what 400 values show


def test_a_missing_p_stays_missing_and_the_others_are_adjusted_without_it():
    np.testing.assert_allclose(adjusted([0.04, np.nan, 0.01, 0.02]), [0.04, np.nan, 0.03, 0.04])
    np.testing.assert_allclose(adjusted([0.04, np.nan, 0.01, 0.02], "fdr_bh"), [0.04, np.nan, 0.03, 0.03])
    assert np.isnan(adjusted([np.nan])).all()
    assert len(adjusted([])) == 0


def test_what_is_no_probability_is_refused():
    with pytest.raises(InputError, match="numbers from 0 to 1"):
        adjusted([1.2])
    with pytest.raises(InputError, match="method='bonferroni'"):
        adjusted([0.2], "bonferroni")

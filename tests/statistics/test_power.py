"""Power: at the effect that is said to be detectable, the test finds it as often as was asked."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, special, stats

from addends.errors import InputError
from addends.statistics import detectable_correlation, detectable_difference, detectable_mean, detectable_slope


def power_of_r(rho, runs, level=0.95):
    """From the density of r itself: Hotelling (1953), Journal of the Royal Statistical Society B 15, 193-232."""
    limit = stats.t.ppf((1 + level) / 2, runs - 2)
    limit = limit / np.sqrt(runs - 2 + limit**2)
    constant = np.log(runs - 2) + special.gammaln(runs - 1) - special.gammaln(runs - 0.5) - np.log(2 * np.pi) / 2

    def density(r):
        logs = constant + (runs - 1) / 2 * np.log1p(-(rho**2)) + (runs - 4) / 2 * np.log1p(-(r**2))
        return np.exp(logs - (runs - 1.5) * np.log1p(-rho * r)) * special.hyp2f1(
            0.5, 0.5, runs - 0.5, (rho * r + 1) / 2
        )

    return integrate.quad(density, limit, 1)[0] + integrate.quad(density, -1, -limit)[0]


@pytest.mark.parametrize(
    ("runs", "power", "level"), [(4, 0.8, 0.95), (6, 0.5, 0.95), (20, 0.8, 0.95), (17, 0.9, 0.998)]
)
def test_a_detectable_correlation_is_found_as_often_as_was_asked(runs, power, level):
    found = detectable_correlation(runs, power, level)
    assert power_of_r(found, runs, level) == pytest.approx(power, abs=1e-5)


def test_fishers_z_gives_nearly_the_same_correlation_with_many_runs():
    for runs in (20, 80):
        fisher = np.tanh((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) / np.sqrt(runs - 3))
        assert abs(detectable_correlation(runs) - fisher) < 0.3 / runs  # its error is of the order of 1 / runs


def test_a_mean_and_a_slope_are_those_of_the_noncentral_t():
    for runs in (3, 6, 20):
        shift = detectable_mean(runs, sd=2.0) * np.sqrt(runs) / 2
        limit = stats.t.ppf(0.975, runs - 1)
        power = stats.nct.sf(limit, runs - 1, shift) + stats.nct.cdf(-limit, runs - 1, shift)
        assert power == pytest.approx(0.8, abs=1e-6)
        # A slope over runs is a mean on one degree of freedom less.
        slope = detectable_slope(runs + 1, residual_sd=2.0, predictor_sd=0.5) * 0.5 * np.sqrt(runs) / 2
        assert slope == pytest.approx(shift, rel=1e-6)


@pytest.mark.parametrize(("runs", "sd"), [((3, 3), (1, 1)), ((3, 20), (3, 1)), ((20, 2), (1, 1)), ((4, 4), (1, 5))])
def test_a_detectable_difference_is_found_by_welchs_test_as_often_as_was_asked(runs, sd):
    """Simulated: the count is within what a binomial with .8 allows once in 10,000 times."""
    generator, count = np.random.default_rng(0), 20_000
    shift = detectable_difference(runs, sd)
    first = generator.normal(shift, sd[0], (count, runs[0]))
    second = generator.normal(0, sd[1], (count, runs[1]))
    found = (stats.ttest_ind(first, second, axis=1, equal_var=False).pvalue < 0.05).sum()
    low, high = stats.binom.ppf([5e-5, 1 - 5e-5], count, 0.8)
    assert low <= found <= high


def test_more_runs_less_power_and_a_lower_level_make_smaller_effects_detectable():
    for find in (
        detectable_correlation,
        detectable_mean,
        detectable_slope,
        lambda r, **k: detectable_difference((r, r), **k),
    ):
        assert find(20) < find(10) < find(10, power=0.9)
        assert find(10) < find(10, level=0.99)


def test_units_go_through():
    effects = detectable_correlation(5), detectable_mean(5), detectable_slope(5), detectable_difference((5, 9))
    assert {type(effect) for effect in effects} == {float}  # a page shows a number, and not how numpy writes it
    assert detectable_mean(5, sd=3.0) == pytest.approx(3 * detectable_mean(5))
    assert detectable_difference((5, 9), (3.0, 6.0)) == pytest.approx(3 * detectable_difference((5, 9), (1.0, 2.0)))
    assert detectable_slope(5, 3.0, 2.0) == pytest.approx(1.5 * detectable_slope(5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: detectable_correlation(3), r"runs=3 is not a whole number of 4"),
        (lambda: detectable_mean(1), "runs=1"),
        (lambda: detectable_slope(2.5), r"runs=2\.5"),
        (lambda: detectable_difference((3, 1)), "runs=1"),
        (lambda: detectable_mean(3, power=0.05), r"power=0\.05 must be between 0\.05.* and 1"),
        (lambda: detectable_mean(3, power=1.0), "power=1.0"),
        (lambda: detectable_mean(3, level=95), "level"),
        (lambda: detectable_mean(3, sd=0.0), "standard deviation of 0.0"),
        (lambda: detectable_difference((3, 3), (1.0, float("nan"))), "standard deviation of nan"),
    ],
)
def test_what_has_no_power_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()

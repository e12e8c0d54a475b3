import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

import crossed
from crossed.balanced import crossed_shares
from crossed.errors import InputError
from crossed.profiled_squares import deviance, estimates, profile_limits, sd_held, share_held

RUNS, SENTENCES = 4, 7
DF = np.array([3, 6, 18])


def table(seed, sds=(0.8, 1.0, 0.7)):
    generator = np.random.default_rng(seed)
    values = generator.normal(0, sds[0], (RUNS, 1)) + generator.normal(0, sds[1], (1, SENTENCES))
    return values + generator.normal(0, sds[2], (RUNS, SENTENCES))


def mean_squares(values):
    rows, columns, mean = values.mean(axis=1), values.mean(axis=0), values.mean()
    rest = values - rows[:, None] - columns + mean
    sums = [SENTENCES * np.sum((rows - mean) ** 2), RUNS * np.sum((columns - mean) ** 2), np.sum(rest**2)]
    return np.array(sums) / DF


def dense(variances, values):
    """-2 log of the restricted likelihood from the whole covariance matrix, constant and all."""
    run, sentence, residual = variances
    y, ones = values.ravel(), np.ones(values.size)
    v = np.kron(run * np.eye(RUNS), np.ones((SENTENCES, SENTENCES)))
    v += np.kron(np.ones((RUNS, RUNS)), sentence * np.eye(SENTENCES)) + residual * np.eye(values.size)
    inverse = np.linalg.inv(v)
    mean = ones @ inverse @ y / (ones @ inverse @ ones)
    return np.linalg.slogdet(v)[1] + np.log(ones @ inverse @ ones) + (y - mean) @ inverse @ (y - mean)


def searched(objective, starts):
    """The least value of a function of two logarithms, by a search that shares nothing with the module's."""
    found = [
        optimize.minimize(objective, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
        for start in starts
    ]
    return min(each.fun for each in found)


STARTS = [(0.0, 0.0), (-3.0, -1.0), (-25.0, 0.0)]


@pytest.fixture(scope="module", params=[(0.8, 1.0, 0.7), (0.0, 1.0, 1.0), (2.0, 0.0, 1.0)], ids=str)
def tables(request):
    return [table(seed, request.param) for seed in range(3)]


def test_three_mean_squares_hold_the_restricted_likelihood(tables):
    points = [(0.5, 1.0, 0.4), (0.0, 0.3, 2.0), (3.0, 0.0, 0.1)]
    for values in tables:
        whole = [dense(point, values) for point in points]
        expectations = np.array([[e + SENTENCES * a, e + RUNS * b, e] for a, b, e in points])
        ours = deviance(expectations, mean_squares(values), DF)
        np.testing.assert_allclose(np.diff(ours), np.diff(whole), rtol=1e-10)


def test_estimates_are_the_moments_inside_and_the_best_on_the_boundary(tables):
    squares = np.array([mean_squares(values) for values in tables])
    found = estimates(squares, RUNS, SENTENCES)
    assert (found[:, :2] >= found[:, 2:] - 1e-15).all()
    for values, square, best in zip(tables, squares, found, strict=True):
        if square[2] <= square[:2].min():
            np.testing.assert_allclose(best, square)
        variances = [(best[0] - best[2]) / SENTENCES, (best[1] - best[2]) / RUNS, best[2]]
        least = optimize.minimize(
            lambda logs, values=values: dense(np.exp(logs), values),
            [0.0, 0.0, 0.0],
            method="Nelder-Mead",
            options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 5000},
        ).fun
        assert dense(variances, values) <= least + 1e-9


@pytest.mark.parametrize(
    ("squares", "expected"),
    [
        ([0.5, 0.95, 1.0], [19.5 / 21, 0.95, 19.5 / 21]),  # the run joins, and then the sentence is above
        ([0.95, 0.2, 1.0], [0.95, 0.8, 0.8]),  # the smaller first: the run would join if asked before the sentence
        ([0.5, 0.3, 1.0], [21.3 / 27, 21.3 / 27, 21.3 / 27]),
    ],
)
def test_mean_squares_in_the_wrong_order_are_pooled(squares, expected):
    np.testing.assert_allclose(estimates(np.array([squares]), RUNS, SENTENCES)[0], expected)


@pytest.mark.parametrize("held", [0.0, 0.05, 0.3, 0.8])
def test_what_is_held_is_minimised_over_the_rest(tables, held):
    squares = np.array([mean_squares(values) for values in tables])
    point = np.full(len(tables), held)
    reference = estimates(squares, RUNS, SENTENCES)
    least = deviance(reference, squares, DF)
    sds, shares = sd_held(point, squares, RUNS, SENTENCES), share_held(point, squares, RUNS, SENTENCES)
    for number, values in enumerate(tables):
        best = reference[number]
        origin = dense([(best[0] - best[2]) / SENTENCES, (best[1] - best[2]) / RUNS, best[2]], values) - least[number]
        odds = held / (1 - held)
        by_sd = searched(lambda logs, v=values: dense([held**2, *np.exp(logs)], v), STARTS)
        by_share = searched(
            lambda logs, v=values, odds=odds: dense([odds * np.exp(logs).sum(), *np.exp(logs)], v), STARTS
        )
        assert sds[number] + origin == pytest.approx(by_sd, abs=1e-7)
        assert shares[number] + origin == pytest.approx(by_share, abs=1e-7)


@pytest.mark.parametrize(("quantity", "held"), [("sd", sd_held), ("share", share_held)])
def test_limits_lie_where_the_profile_has_risen_by_the_quantile(tables, quantity, held):
    squares = np.array([mean_squares(values) for values in tables])
    limits = profile_limits(squares, RUNS, SENTENCES, quantity, level=0.9)
    rise = deviance(estimates(squares, RUNS, SENTENCES), squares, DF) + stats.chi2.ppf(0.9, 1)
    np.testing.assert_allclose(held(limits[:, 1], squares, RUNS, SENTENCES), rise, atol=1e-5)
    lower = held(limits[:, 0], squares, RUNS, SENTENCES)
    at_zero = limits[:, 0] == 0
    np.testing.assert_allclose(lower[~at_zero], rise[~at_zero], atol=1e-5)
    assert (lower[at_zero] <= rise[at_zero]).all()


def test_limits_scale_with_the_outcome_and_widen_with_the_level():
    squares = np.array([[9.0, 5.0, 1.0]])
    narrow, wide = (profile_limits(squares, 6, 40, "sd", level)[0] for level in (0.8, 0.99))
    assert 0 < wide[0] < narrow[0] < np.sqrt(8 / 40) < narrow[1] < wide[1]
    np.testing.assert_allclose(profile_limits(1e12 * squares, 6, 40, "sd", 0.8)[0], 1e6 * narrow, rtol=1e-6)
    shares = profile_limits(squares, 6, 40, "share")
    np.testing.assert_allclose(profile_limits(1e-12 * squares, 6, 40, "share"), shares, rtol=1e-6)
    assert 0 < shares[0, 0] < shares[0, 1] < 1


def test_mean_squares_below_the_residuals_give_a_lower_limit_of_zero():
    limits = profile_limits(np.array([[0.5, 5.0, 1.0], [1e-6, 5.0, 1.0]]), 6, 40, "share")
    assert (limits[:, 0] == 0).all()
    assert (limits[:, 1] > 0).all()


def test_limits_are_those_of_the_fitted_model():
    values = table(5)
    data = pd.DataFrame(values).rename_axis("run").reset_index().melt("run", var_name="sentence", value_name="y")
    fit = crossed.fit("y ~ 1 + (1 | run) + (1 | sentence)", data)
    theirs = fit.profile_intervals(method="profile").query("group == 'run'").set_index("quantity")
    squares = crossed_shares(data, "y", draws=1000)["mean_square"].to_numpy()[None]
    for quantity in ("sd", "share"):
        ours = profile_limits(squares, RUNS, SENTENCES, quantity)[0]
        np.testing.assert_allclose(theirs.loc[quantity, ["lower", "upper"]].astype(float), ours, rtol=1e-4)


@pytest.mark.parametrize(
    ("squares", "quantity", "message"),
    [
        ([[1.0, 1.0, 1.0]], "icc", "quantity='icc'"),
        ([[1.0, 1.0]], "share", r"an array \(table, 3\)"),
        ([[1.0, 1.0, 0.0]], "share", "above zero"),
        ([[1.0, np.nan, 1.0]], "sd", "finite"),
    ],
)
def test_bad_input(squares, quantity, message):
    with pytest.raises(InputError, match=message):
        profile_limits(np.array(squares), 4, 7, quantity)

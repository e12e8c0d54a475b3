from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

import crossed
from crossed.balanced import crossed_shares
from crossed.coverage import (
    METHODS,
    Crossing,
    bootstrap,
    coverage,
    deviance,
    estimates,
    generalised,
    profile_limits,
    sd_held,
    share_held,
)
from crossed.errors import InputError

STORED = Path(__file__).parents[2] / "data" / "statistics" / "coverage.parquet"


def simulate(runs=5, sentences=12, seed=0):
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(runs, 1)) + generator.normal(size=sentences)
    return values + generator.normal(0, 0.7, (runs, sentences))


def frame(values):
    data = pd.DataFrame(values).rename_axis("run").reset_index()
    return data.melt("run", var_name="sentence", value_name="y")


def sufficient(values):
    """Means of the runs, and W from the centred rows: turning the sentences changes no product."""
    means = values.mean(axis=1)
    centred = values - means[:, None]
    return means, centred @ centred.T


# What stands in for a table


def test_mean_squares_are_those_of_the_table():
    values = simulate()
    found = Crossing(5, 12, 0.3).mean_squares(*sufficient(values))
    table = crossed_shares(frame(values), "y", "run", "sentence", draws=1000)
    np.testing.assert_allclose(found, table["mean_square"], rtol=1e-10)
    np.testing.assert_allclose((Crossing(5, 12, 0.3).weights @ found).clip(min=0), table["variance"], rtol=1e-10)
    np.testing.assert_array_equal(Crossing(5, 12, 0.3).df, table["df"])


def test_mean_squares_of_drawn_runs_are_those_of_the_drawn_table():
    values = simulate()
    counts = np.array([[2, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 4, 1, 0]])
    found = Crossing(5, 12, 0.3).mean_squares(*sufficient(values), counts)
    for row, count in zip(found, counts, strict=True):
        table = crossed_shares(frame(np.repeat(values, count, axis=0)), "y", "run", "sentence", draws=1000)
        np.testing.assert_allclose(row, table["mean_square"], rtol=1e-10)


@pytest.mark.parametrize(("runs", "share"), [(3, 0.3), (6, 0.0)])
def test_drawn_mean_squares_have_their_distribution(runs, share):
    """Independent, with mean L and variance 2 L^2 / df, as of chi-squared; each within 4.5 standard errors."""
    crossing, count = Crossing(runs, 20, share), 20_000
    squares = crossing.mean_squares(*crossing.draw(count, np.random.default_rng(3)))
    residual = 1 - share - 0.3
    expected = np.array([residual + 20 * share, residual + runs * 0.3, residual])
    ratio = squares / expected
    np.testing.assert_array_less(np.abs(ratio.mean(axis=0) - 1), 4.5 * np.sqrt(2 / crossing.df / count))
    # Of a sample variance of chi-squared / df: excess kurtosis is 12 / df.
    spread = 2 / crossing.df * np.sqrt((2 + 12 / crossing.df) / count)
    np.testing.assert_array_less(np.abs(ratio.var(axis=0) - 2 / crossing.df), 4.5 * spread)
    apart = np.corrcoef(squares.T)[np.triu_indices(3, 1)]
    np.testing.assert_array_less(np.abs(apart), 4.5 / np.sqrt(count))


# The intervals


def test_generalised_limits_are_those_of_crossed_shares():
    values = simulate()
    crossing, table = Crossing(5, 12, 0.3), crossed_shares(frame(values), "y", "run", "sentence", draws=2000, seed=4)
    squares = crossing.mean_squares(*sufficient(values))
    found = generalised(crossing, squares, 0.95, 2000, np.random.default_rng(4))
    np.testing.assert_allclose(found["share"], table.loc[0, ["share_lower", "share_upper"]].astype(float))
    np.testing.assert_allclose(found["sd"] ** 2, table.loc[0, ["variance_lower", "variance_upper"]].astype(float))


def test_bootstrap_limits_are_those_of_drawn_tables():
    values = simulate(runs=4)
    found = bootstrap(Crossing(4, 12, 0.3), *sufficient(values), 0.9, 200, np.random.default_rng(6))
    counts = np.random.default_rng(6).multinomial(4, np.full(4, 1 / 4), size=200)
    drawn = [np.repeat(values, count, axis=0) for count in counts]
    shares = [crossed_shares(frame(table), "y", "run", "sentence", draws=1000).loc[0, "share"] for table in drawn]
    np.testing.assert_allclose(found["share"], np.quantile(shares, [0.05, 0.95]), atol=1e-12)


# The simulation


@pytest.fixture(scope="module")
def small():
    return coverage(runs=(3, 6), shares=(0.05, 0.3), simulations=300, draws=400, seed=1)


def test_each_row_accounts_for_all_its_simulations(small):
    assert len(small) == 2 * 2 * 2 * len(METHODS)
    np.testing.assert_allclose(small["coverage"] + small["below"] + small["above"], 1)
    assert not small.duplicated(["runs", "true_share", "quantity", "method"]).any()
    assert (small["lower"] < small["upper"]).all()
    assert set(small["method"]) == set(METHODS)
    held = small["coverage"]
    np.testing.assert_allclose(small["standard_error"], np.sqrt(held * (1 - held) / 300))


def test_the_bootstrap_over_few_runs_falls_short_and_the_others_do_not(small):
    found = small.pivot_table(index=["runs", "true_share", "quantity"], columns="method", values="coverage")
    assert (found["generalised"] > 0.91).all()  # .95 less three standard errors of .013
    assert (found["REML profile"] > 0.88).all()  # an approximation: about .93
    assert (found["percentile bootstrap over runs"] < 0.8).all()


def test_the_seed_decides_and_the_global_state_is_left_alone():
    arguments = {"runs": (3,), "shares": (0.1,), "simulations": 20, "draws": 100}
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - read only, to see that nothing changed it
    first, again, other = (coverage(**arguments, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not np.allclose(first["upper"], other["upper"])
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_the_stored_table_is_what_the_command_makes(small):
    """The same combinations, simulated with another seed and fewer draws: within 4 joint standard errors."""
    stored = pd.read_parquet(STORED)
    assert sorted(stored["runs"].unique()) == [3, 6, 20]
    assert sorted(stored["true_share"].unique()) == [0, 0.05, 0.3]
    assert (stored["seed"] == 0).all()
    keys = ["runs", "sentences", "true_share", "quantity", "method", "level"]
    both = stored.merge(small, on=keys, suffixes=("", "_small"), validate="one_to_one")
    assert len(both) == len(small)
    error = np.sqrt(both["coverage"] * (1 - both["coverage"]) * (1 / both["simulations"] + 1 / 300))
    # Few draws make a quantile rougher, and an interval of few draws holds the truth a little less often.
    assert (np.abs(both["coverage"] - both["coverage_small"]) < 4 * error + 0.01).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runs": (1,)}, "runs=1, sentences=300: two runs or more"),
        ({"runs": (20,), "sentences": 20}, "more sentences than"),
        ({"shares": (0.7,)}, "share=0.7, sentence=0.3"),
        ({"shares": (-0.1,)}, "share=-0.1"),
        ({"level": 95}, "level=95"),
        ({"draws": 10}, "draws=10 must be 100 or more"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        coverage(**({"runs": (3,), "shares": (0.1,), "simulations": 5, "draws": 100} | arguments))


# Profiles from three mean squares


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
    squares = crossed_shares(data, "y", "run", "sentence", draws=1000)["mean_square"].to_numpy()[None]
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
def test_mean_squares_without_limits(squares, quantity, message):
    with pytest.raises(InputError, match=message):
        profile_limits(np.array(squares), 4, 7, quantity)

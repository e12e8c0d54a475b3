"""Two factors of the runs: identities, parity with other computations, coverage, and what is refused."""

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import crossed
from crossed.errors import InputError
from crossed.factorial import (
    EFFECTS,
    complete_rectangle,
    factorial_contrast,
    factorial_mean_squares,
    factorial_shares,
    factorial_weights,
)
from crossed.pivots import pivotal_quantities, sd_multipliers
from tests.crossed.simulated import factorial, variances

SDS = (0.9, 0.8, 0.5, 1.0, 0.6, 0.5, 0.4, 0.3)
RUN_SIDE = ["init_seed", "order_seed", "init_seed:order_seed", "init_seed:sentence", "order_seed:sentence"]
LAST = "init_seed:order_seed:sentence + residual"


def shares(data, **options):
    return factorial_shares(data, "y", **({"draws": 1000} | options))


@pytest.mark.parametrize(("replicates", "replicate"), [(1, None), (3, "checkpoint")])
def test_sums_of_squares_add_up_to_the_whole(replicates, replicate):
    data = factorial(3, 4, 7, SDS, replicates)
    table = shares(data, replicate=replicate)
    left = data["y"] - data.groupby("checkpoint")["y"].transform("mean")  # the replicates' effects are fixed
    assert (table["df"] * table["mean_square"]).sum() == pytest.approx((left**2).sum())
    assert table["df"].sum() == len(data) - replicates
    assert table["share"].sum() == pytest.approx(1)


def test_replicates_may_differ_in_level():
    data = factorial(3, 4, 7, SDS, 3)
    moved = data.assign(y=data["y"] + 100.0 * data["checkpoint"])
    one, other = shares(data, replicate="checkpoint"), shares(moved, replicate="checkpoint")
    np.testing.assert_allclose(one["moment"], other["moment"], rtol=1e-8)


def test_mean_squares_are_those_of_ordinary_least_squares():
    import statsmodels.api as sm
    import statsmodels.formula.api as smf

    data = factorial(3, 2, 4, SDS)
    whole = smf.ols("y ~ C(init_seed) * C(order_seed) * C(sentence)", data).fit()
    table = sm.stats.anova_lm(whole, typ=1)
    ours = shares(data).set_index("component")
    for name in (*RUN_SIDE, "sentence"):
        theirs = table.loc[":".join(f"C({factor})" for factor in name.split(":"))]
        assert ours.loc[name, "df"] == theirs["df"]
        assert ours.loc[name, "mean_square"] == pytest.approx(theirs["mean_sq"])


@pytest.mark.parametrize("replicates", [1, 2])
def test_weights_undo_the_expectations_of_the_docstring(replicates):
    a, b, s, k = 3, 4, 7, replicates
    A, B, ab, c, ac, bc, abc = 2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0
    e = 19.0 if k > 1 else 0.0
    rest = e + k * abc
    expected = [
        rest + k * (b * ac + s * ab + b * s * A),
        rest + k * (a * bc + s * ab + a * s * B),
        rest + k * s * ab,
        rest + k * (b * ac + a * bc + a * b * c),
        rest + k * b * ac,
        rest + k * a * bc,
        rest,
    ]
    found = factorial_weights((a, b, s, k)) @ (expected + [e] * (k > 1))
    np.testing.assert_allclose(found, [A, B, ab, c, ac, bc, abc] + [e] * (k > 1), rtol=1e-10)


def test_runs_together_are_the_run_of_the_plain_crossing():
    data = factorial(3, 4, 9, SDS)
    data["run"] = data["init_seed"].astype(str) + "-" + data["order_seed"].astype(str)
    table = shares(data).set_index("component")
    sums = table["df"] * table["mean_square"]
    plain = crossed.crossed_shares(data, "y", "run", "sentence", draws=1000)
    assert sums[RUN_SIDE[:3]].sum() == pytest.approx(plain.loc[0, "df"] * plain.loc[0, "mean_square"])
    assert sums["sentence"] == pytest.approx(plain.loc[1, "df"] * plain.loc[1, "mean_square"])


def test_restricted_likelihood_gives_the_same_variances():
    data = factorial(3, 3, 12, SDS, seed=2).rename(columns={"init_seed": "init", "order_seed": "order"})
    table = shares(data, factors=("init", "order"))
    assert (table["moment"] > 0).all()
    groups = "(1|init) + (1|order) + (1|init:order) + (1|sentence) + (1|init:sentence) + (1|order:sentence)"
    fit = crossed.fit(f"y ~ 1 + {groups}", data)
    np.testing.assert_allclose(variances(fit).to_numpy(), table["moment"], rtol=1e-4)


def test_a_main_effect_of_four_levels_has_three_degrees_of_freedom():
    table = shares(factorial(4, 4, 300, SDS)).set_index("component")
    assert list(table["df"]) == [3, 3, 9, 299, 897, 897, 2691]
    lower, upper = sd_multipliers(table.loc["init_seed", "df"] + 1)
    assert (round(float(lower), 2), round(float(upper), 1)) == (0.57, 3.7)


@pytest.mark.parametrize("truth", [(0.3, 0.2, 0.1, 1.0, 0.3, 0.2, 0.5), (0.02, 0.0, 0.01, 1.0, 0.05, 0.01, 0.15)])
def test_intervals_hold_the_truth_as_often_as_they_say(truth):
    """A variance of zero is held by every interval that starts there: more often is no fault, less often is."""
    shape, tables, draws = (4, 4, 300, 1), 400, 1000
    weights = factorial_weights(shape)
    df = np.array([np.prod([shape[axis] - 1 for axis in axes]) for axes in EFFECTS])
    expectations = np.linalg.solve(weights, truth)
    generator = np.random.default_rng(1)
    held = np.zeros(7)
    for _ in range(tables):
        squares = expectations * generator.chisquare(df) / df
        pivots, _ = pivotal_quantities(df, squares, weights, draws, generator)
        lower, upper = np.quantile(pivots, [0.025, 0.975], axis=0)
        held += (lower <= truth) & (truth <= upper)
    least = stats.binom.ppf(1e-5, tables, 0.94)  # draws: an interval from 1,000 is a little short
    assert (held >= least).all()
    assert held[3] <= stats.binom.ppf(1 - 1e-5, tables, 0.96)  # the sentence's is exact but for the draws


def test_mean_squares_have_the_expectations_that_the_intervals_take():
    tables, shape = 300, (3, 4, 5)
    found = [
        factorial_mean_squares(factorial(*shape, SDS, seed=seed)["y"].to_numpy().reshape(*shape, 1))
        for seed in range(tables)
    ]
    df, squares = found[0][0], np.array([each[1] for each in found])
    truth = np.square(SDS[:7])
    truth[6] += SDS[7] ** 2
    expected = np.linalg.solve(factorial_weights((*shape, 1)), truth)
    errors = expected * np.sqrt(2 / df / tables)
    assert (np.abs(squares.mean(axis=0) - expected) < 4.5 * errors).all()


def test_a_contrast_is_the_difference_of_the_shares():
    data = factorial(3, 4, 20, SDS).assign(layer=1)
    table = shares(data).set_index("component")["share"]
    found = factorial_contrast(data, "y", [*RUN_SIDE, LAST], ["sentence"], by="layer", draws=1000).iloc[0]
    assert found["plus"] == pytest.approx(table[[*RUN_SIDE, LAST]].sum())
    assert found["estimate"] == pytest.approx(1 - 2 * table["sentence"])
    assert found["lower"] < found["estimate"] < found["upper"]
    assert found["layer"] == 1


def test_contrast_of_everything_is_as_wide_as_twice_the_sentence():
    data = factorial(3, 4, 20, SDS)
    sentence = shares(data).set_index("component").loc["sentence"]
    found = factorial_contrast(data, "y", [*RUN_SIDE, LAST], ["sentence"], draws=1000).iloc[0]
    assert found["lower"] == pytest.approx(1 - 2 * sentence["share_upper"])
    assert found["upper"] == pytest.approx(1 - 2 * sentence["share_lower"])


def largest(cells):
    """By trying all rectangles."""
    rows, columns = sorted({r for r, _ in cells}), sorted({c for _, c in cells})
    subsets = [[kept for n in range(len(x)) for kept in combinations(x, n + 1)] for x in (rows, columns)]
    return max(len(r) * len(c) for r, c in product(*subsets) if set(product(r, c)) <= cells)


@pytest.mark.parametrize("seed", range(12))
def test_the_rectangle_is_the_largest_and_complete(seed):
    generator = np.random.default_rng(seed)
    cells = {(r, c) for r, c in product(range(5), range(4)) if generator.random() < 0.7}
    rows, columns = complete_rectangle(pd.DataFrame(list(cells), columns=["a", "b"]), "a", "b")
    assert set(product(rows, columns)) <= cells
    assert len(rows) * len(columns) == largest(cells)


def test_a_missing_combination_is_refused_with_the_rectangle_that_is_left():
    data = factorial(4, 4, 5, SDS)
    gone = (data["init_seed"] == 3) & (data["order_seed"] > 1)
    with pytest.raises(InputError, match=r"2 of 16 combinations.*init_seed in \[0, 1, 2\].*3 x 4"):
        shares(data[~gone])


def test_other_bad_input_is_refused():
    data = factorial(3, 3, 5, SDS)
    with pytest.raises(InputError, match=r"more than one value"):
        shares(pd.concat([data, data.iloc[:1]]))
    with pytest.raises(InputError, match=r"is missing"):
        shares(data.drop(index=3))
    with pytest.raises(InputError, match=r"no column 'start'"):
        shares(data, factors=("start", "order_seed"))
    with pytest.raises(InputError, match=r"two are wanted"):
        shares(data, factors=("init_seed",))
    with pytest.raises(InputError, match=r"each component stands on one side.*components are"):
        factorial_contrast(data, "y", ["run"], ["sentence"])
    with pytest.raises(InputError, match=r"has columns \['moment'\] of its own"):
        shares(data.assign(moment=1), by="moment")
    with pytest.raises(InputError, match=r"there are no rows"):
        complete_rectangle(data.iloc[:0], "init_seed", "order_seed")
    many = pd.DataFrame([(i, j) for i in range(18) for j in range(18) if i != j], columns=["a", "b"])
    with pytest.raises(InputError, match=r"16 can be searched"):
        complete_rectangle(many, "a", "b")
    mixed = pd.DataFrame({"a": [1, "x"], "b": [1, 2]})
    for row, column in (("a", "b"), ("b", "a")):
        with pytest.raises(InputError, match="'a' mixes numbers and text"):
            complete_rectangle(mixed, row, column)

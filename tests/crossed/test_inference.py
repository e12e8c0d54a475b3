import numpy as np
import pytest
from scipy import stats

import crossed
from crossed.balanced import crossed_shares
from crossed.errors import InputError
from crossed.inference import degrees
from tests.crossed.simulated import dense_covariance, dense_likelihood, simulate, variances

# Degrees of freedom


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_closed_form_of_a_balanced_crossing(seed):
    """Var(mean) = (M_run + M_sentence - M_error) / n: Satterthwaite's own sum of mean squares."""
    data = simulate(seed=seed)
    fit = crossed.fit("y ~ 1 + (1 | run) + (1 | sentence)", data)
    table = crossed_shares(data, "y", "run", "sentence", draws=1000)
    squares, df = table["mean_square"].to_numpy(), table["df"].to_numpy()
    expected = (squares[0] + squares[1] - squares[2]) ** 2 / np.sum(squares**2 / df)
    assert fit.df["Intercept"] == pytest.approx(expected, rel=1e-6)
    assert "Satterthwaite" in fit.summary()


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("term", ["(1 | run) + (1 | sentence)", "(0 + x | run) + (1 | sentence)"])
def test_the_definition_in_the_variances_themselves(term, reml):
    """In variances in place of theta, from the dense likelihood: the delta method does not depend on the parameters."""
    data = simulate(runs=5, sentences=9, seed=2, slope=1.0).sample(n=40, random_state=1)
    data["x"] -= 10
    fit = crossed.fit(f"y ~ x + {term}", data, reml=reml)
    x = np.column_stack([np.ones(len(data)), data["x"]])
    sizes = fit.vcomp["variance"].to_numpy()

    def covariance(values):
        return np.linalg.inv(x.T @ np.linalg.solve(dense_covariance(fit.vcomp.assign(variance=values), data), x))

    def deviance(values):
        return -2 * dense_likelihood(fit.vcomp.assign(variance=values), data, x, reml)

    def moved(one, two=None, signs=(1, 1)):
        values = sizes.copy()
        values[one] += signs[0] * 1e-3 * sizes[one]
        if two is not None:
            values[two] += signs[1] * 1e-3 * sizes[two]
        return values

    count = len(sizes)
    hessian, slopes = np.empty((count, count)), np.empty((2, count))
    for one in range(count):
        up, down = moved(one), moved(one, signs=(-1, 1))
        slopes[:, one] = np.diag(covariance(up) - covariance(down)) / (2e-3 * sizes[one])
        for two in range(count):
            corners = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
            pp, pm, mp, mm = (deviance(moved(one, two, signs)) for signs in corners)
            hessian[one, two] = (pp - pm - mp + mm) / (4e-6 * sizes[one] * sizes[two])
    spread = 2 * np.linalg.inv(hessian)
    expected = 2 * np.diag(covariance(sizes)) ** 2 / np.einsum("pi,ij,pj->p", slopes, spread, slopes)
    np.testing.assert_allclose(fit.df, expected, rtol=1e-3)


def test_contrasts_of_parameters():
    data = simulate(runs=6, sentences=10)
    data["kind"] = np.where(data["sentence"] < "s005", "a", "b")
    fit = crossed.fit("y ~ kind + (1 | run) + (1 | sentence)", data)
    turned = crossed.fit("y ~ 0 + kind + (1 | run) + (1 | sentence)", data)
    df, _ = degrees(fit, np.array([[1.0, 1.0], [1.0, 0.0]]))
    np.testing.assert_allclose(df, [turned.df["kind[b]"], turned.df["kind[a]"]], rtol=1e-5)
    found = fit.contrasts([[1, 1], [1, 0]], level=0.9)
    for column, values in (("estimate", turned.params), ("se", turned.bse), ("p", turned.pvalues)):
        np.testing.assert_allclose(found[column], [values["kind[b]"], values["kind[a]"]], rtol=1e-5)
    np.testing.assert_allclose(found[["lower", "upper"]], turned.conf_int(0.9).loc[["kind[b]", "kind[a]"]], rtol=1e-5)


def test_contrasts_that_are_none():
    fit = crossed.fit("y ~ x + (1 | run)", simulate(runs=6, sentences=10))
    for weights, message in (([[1, 0, 0]], r"shape \(1, 3\).*\['Intercept', 'x'\]"), ([0, np.nan], "finite")):
        with pytest.raises(InputError, match=message):
            fit.contrasts(weights)
    with pytest.raises(InputError, match="level=2"):
        fit.contrasts([0, 1], level=2)


@pytest.mark.parametrize("fixed", ["C(kind) * x", "x * kind", "T(kind, 'b') * x", "S(kind) * x", "0 + kind + kind:x"])
def test_the_slope_of_each_level_however_the_formula_says_it(fixed):
    data = simulate(runs=6, sentences=10)
    data["kind"] = np.where(data["sentence"] < "s005", "a", "b")
    plain = crossed.fit("y ~ kind + kind:x + (1 | run) + (1 | sentence)", data)  # parameters kind[a]:x, kind[b]:x
    fit = crossed.fit(f"y ~ {fixed} + (1 | run) + (1 | sentence)", data)
    weights = fit.slope_weights("x", "kind")
    assert list(weights.index) == ["a", "b"]
    assert list(weights.columns) == fit.names
    found, right = fit.contrasts(weights), [f"kind[{level}]:x" for level in "ab"]
    np.testing.assert_allclose(found["estimate"], plain.params[right], rtol=1e-6)
    np.testing.assert_allclose(found["se"], plain.bse[right], rtol=1e-6)


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ("kind * x * run", "depends on something else too"),
        ("kind * x + I(x**2)", "no slope of its own"),
        ("kind + x", "no slope of 'x' for each level of 'kind'.*Write"),
        ("kind + kind:poly(x, 2)", "no slope of its own"),
    ],
)
def test_a_slope_that_is_not_one_for_each_level(fixed, message):
    data = simulate(runs=6, sentences=10)
    data["kind"] = np.where(data["sentence"] < "s005", "a", "b")
    with pytest.raises(InputError, match=message):
        crossed.fit(f"y ~ {fixed} + (1 | sentence)", data).slope_weights("x", "kind")


def test_p_and_interval_say_the_same():
    fit = crossed.fit("y ~ x + (x | run) + (1 | sentence)", simulate(runs=5, slope=0.4))
    level = 1 - fit.pvalues["x"]
    bounds = fit.conf_int(level).loc["x"]
    assert min(abs(bounds)) == pytest.approx(0, abs=1e-8)
    half = stats.t.ppf(0.975, fit.df["x"]) * fit.bse["x"]
    np.testing.assert_allclose(fit.conf_int().loc["x"], [fit.params["x"] - half, fit.params["x"] + half])
    with pytest.raises(ValueError, match="level=95"):
        fit.conf_int(95)


def test_what_is_at_zero_is_left_out_and_said():
    data = simulate(seed=3)
    data["y"] -= data.groupby("run")["y"].transform("mean")
    fit, alone = (crossed.fit(f"y ~ x + {term}(1 | sentence)", data) for term in ("(1 | run) + ", ""))
    assert variances(fit)["run"] < 1e-8
    np.testing.assert_allclose(fit.df, alone.df, rtol=1e-5)
    assert "computed without the variances at zero" in fit.inference
    assert "zero" not in alone.inference


# Nested models


INTERCEPTS = "y ~ x + (1 | run) + (1 | sentence)"
SLOPES = "y ~ x + (x | run) + (1 | sentence)"


@pytest.fixture(scope="module")
def data():
    data = simulate(runs=8, sentences=12, seed=1, slope=0.1)
    return data.assign(z=np.random.default_rng(2).normal(size=len(data)))


def test_fixed_effects_by_chi_squared(data):
    small, large = (crossed.fit(f"y ~ {part} + (1 | run)", data, reml=False) for part in ("x", "x * z"))
    found = crossed.compare(small, large)
    statistic = 2 * (large.llf - small.llf)
    assert found["statistic"] == pytest.approx(statistic)
    assert found["df"] == 2
    assert found["p"] == pytest.approx(stats.chi2.sf(statistic, 2))
    assert found["distribution"] == "chi-squared on 2 degrees of freedom"


@pytest.mark.parametrize("reml", [True, False])
def test_one_variance_more_has_half_the_p(data, reml):
    small, large = (crossed.fit(f"y ~ x {part} + (1 | sentence)", data, reml=reml) for part in ("", "+ (1 | run)"))
    found = crossed.compare(small, large)
    assert found["p"] == pytest.approx(stats.chi2.sf(found["statistic"], 1) / 2)
    assert "mixture of chi-squared on 0 and 1" in found["distribution"]


def test_a_correlated_slope_more_is_a_mixture_on_1_and_2(data):
    found = crossed.compare(crossed.fit(INTERCEPTS, data), crossed.fit(SLOPES, data))
    expected = (stats.chi2.sf(found["statistic"], 1) + stats.chi2.sf(found["statistic"], 2)) / 2
    assert found["p"] == pytest.approx(expected)
    assert found["df"] == 2


def test_a_correlation_alone_is_no_boundary_and_several_variances_are_conservative(data):
    uncorrelated = crossed.fit("y ~ x + (x || run) + (1 | sentence)", data)
    found = crossed.compare(uncorrelated, crossed.fit(SLOPES, data))
    assert found["distribution"] == "chi-squared on 1 degree of freedom"
    found = crossed.compare(crossed.fit("y ~ x + (1 | sentence)", data), uncorrelated)
    assert "conservative" in found["distribution"]
    assert found["p"] == pytest.approx(stats.chi2.sf(found["statistic"], 2))


def test_a_variance_at_zero_has_p_1():
    data = simulate(seed=3)
    data["y"] -= data.groupby("run")["y"].transform("mean")
    found = crossed.compare(
        crossed.fit("y ~ 1 + (1 | sentence)", data), crossed.fit("y ~ 1 + (1 | run) + (1 | sentence)", data)
    )
    assert found["statistic"] == pytest.approx(0, abs=1e-7)
    assert found["p"] == pytest.approx(1, abs=1e-3) or found["p"] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_statistic_in_closed_form(seed):
    """Balanced crossing: without the run its mean square is pooled with the error's, both chi-squared times a scale."""
    runs, sentences = 10, 12
    data = simulate(runs=runs, sentences=sentences, sds=(0.5, 0.6, 1.0), seed=seed)
    small, large = (crossed.fit(f"y ~ 1 {part} + (1 | sentence)", data) for part in ("", "+ (1 | run)"))
    table = crossed_shares(data, "y", "run", "sentence", draws=1000)
    assert not table["boundary"].any()
    df, squares = table["df"].to_numpy()[[0, 2]], table["mean_square"].to_numpy()[[0, 2]]
    expected = df.sum() * np.log(df @ squares / df.sum()) - df @ np.log(squares)
    assert crossed.compare(small, large)["statistic"] == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("other", ["scale(x)", "I(1000*x - 3)", "I(x/7)"])
def test_units_of_the_fixed_part_do_not_count(data, other, reml):
    """Restricted likelihoods of X and X T differ by log |det T|: the statistic is that of one fixed part."""
    right = crossed.compare(
        *(crossed.fit(f"y ~ x {part} + (1 | run)", data, reml) for part in ("", "+ (1 | sentence)"))
    )
    for one, two in (("x", other), (other, "x")):
        small, large = (
            crossed.fit(f"y ~ {one} + (1 | run)", data, reml),
            crossed.fit(f"y ~ {two} + (1|run) + (1|sentence)", data, reml),
        )
        found = crossed.compare(small, large)
        assert found["statistic"] == pytest.approx(right["statistic"], abs=1e-6)
        assert found["statistic"] == pytest.approx(2 * (found["llf_large"] - found["llf_small"]), abs=1e-9)


@pytest.mark.parametrize(
    ("one", "two", "d"),
    [
        ("(1 | run)", "(0 + kind | run)", 2),
        ("(x | run)", "(I(2*x + 1) | run) + (1 | sentence)", 1),
        ("(1 | run:kind)", "(1 | kind:run) + (1 | run)", 1),
        ("(1 | run:kind)", "(1 | cell) + (1 | run)", 1),
        ("(x || run)", "(x | run)", 1),
    ],
)
def test_what_is_contained_in_other_words_is_nested(data, one, two, d):
    data = data.assign(kind=np.where(data["sentence"] < "s006", "a", "b"))
    data["cell"] = data["kind"] + data["run"]
    found = crossed.compare(*(crossed.fit(f"y ~ x + {part}", data) for part in (one, two)))
    assert found["df"] == d
    assert found["statistic"] >= 0


@pytest.mark.parametrize(
    ("one", "two"),
    [("(0 + kind | run)", "(x | run)"), ("(1 | run)", "(0 + x | run) + (1 | sentence)"), ("(1|run:kind)", "(1|run)")],
)
def test_what_is_not_contained_is_not_nested(data, one, two):
    data = data.assign(kind=np.where(data["sentence"] < "s006", "a", "b"))
    with pytest.raises(InputError, match="not nested"):
        crossed.compare(*(crossed.fit(f"y ~ x + {part}", data) for part in (one, two)))


def test_what_cannot_be_compared(data):
    base = crossed.fit(INTERCEPTS, data)
    pairs = [
        (base, crossed.fit("y ~ z + x + (1 | run) + (1 | sentence)", data), "different fixed parts do not compare"),
        (base, crossed.fit(INTERCEPTS, data, reml=False), "one fit is by REML"),
        (base, crossed.fit(SLOPES, data.iloc[:-1]), "different outcomes or rows"),
        (base, crossed.fit(SLOPES, data.assign(y=data["y"] * 2)), "different outcomes or rows"),
        (crossed.fit(SLOPES, data), base, "random term of run"),
        (base, base, "nothing to test"),
        (base, "model", "large is a str"),
        (
            crossed.fit("y ~ z + (1 | run)", data, reml=False),
            crossed.fit("y ~ x + (x | run)", data, reml=False),
            "is not contained",
        ),
    ]
    for small, large, message in pairs:
        with pytest.raises(InputError, match=message):
            crossed.compare(small, large)


def test_a_fixed_part_in_other_words_is_the_same(data):
    data = data.assign(kind=np.where(data["sentence"] < "s006", "a", "b"))
    small = crossed.fit("y ~ kind + (1 | run)", data)
    large = crossed.fit("y ~ 0 + kind + (1 | run) + (1 | sentence)", data)
    assert crossed.compare(small, large)["df"] == 1

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from addends import mixed
from addends.errors import InputError
from addends.statistics import slopes

FORMULA = "y ~ C(run) + C(run):x + (1 | sentence)"


def crossed(slopes_of=(0.5, 0.5, 0.5), seed=0, sentences=60):
    generator = np.random.default_rng(seed)
    run, sentence = (part.ravel() for part in np.meshgrid(range(len(slopes_of)), range(sentences), indexing="ij"))
    x = generator.normal(size=len(run))
    y = 3 + run + np.asarray(slopes_of)[run] * x + generator.normal(0, 1, sentences)[sentence]
    y += generator.normal(0, 0.5, len(run))
    return pd.DataFrame({"run": [f"r{n}" for n in run], "sentence": sentence, "x": x, "y": y})


def test_a_slope_for_each_run_is_the_regression_of_that_run_where_no_sentence_is_shared():
    data = crossed((0.2, 0.9, -0.4), sentences=80)
    data["sentence"] = data["sentence"] // 2 + 40 * data["run"].str[1].astype(int)  # two rows each, in one run only
    table = slopes.each_level(mixed.fit(FORMULA, data), "x").set_index("run")
    for run, rows in data.groupby("run"):
        alone = mixed.fit("y ~ x + (1 | sentence)", rows)
        assert table.loc[run, "estimate"] == pytest.approx(alone.params["x"], abs=0.05)
    assert (table["lower"] < table["estimate"]).all()
    assert (table["estimate"] < table["upper"]).all()


def test_either_order_of_the_interaction_and_numbers_of_runs_will_do():
    data = crossed((0.2, 0.9, -0.4)).assign(run=lambda d: d["run"].str[1].astype(int))
    one = slopes.each_level(mixed.fit(FORMULA, data), "x")
    two = slopes.each_level(mixed.fit(FORMULA.replace("C(run):x", "x:C(run)"), data), "x")
    pd.testing.assert_frame_equal(one, two, rtol=1e-6)
    assert list(one["run"]) == ["0", "1", "2"]


def test_the_spread_has_closed_limits_where_all_estimates_are_equally_known():
    b, v = np.array([1.0, 2.0, 4.0, 4.5]), 0.3
    found = slopes.heterogeneity(b, v * np.eye(4))
    squares, df = np.sum((b - b.mean()) ** 2), 3
    expected = [squares / target - v for target in (df, stats.chi2.ppf(0.975, df), stats.chi2.ppf(0.025, df))]
    np.testing.assert_allclose(found[["sd", "sd_lower", "sd_upper"]] ** 2, np.clip(expected, 0, None), rtol=1e-6)
    assert found["p_equal"] == pytest.approx(stats.chi2.sf(squares / v, df))
    assert found["p"] == pytest.approx(stats.ttest_1samp(b, 0).pvalue)
    assert found["lower"] < b.mean() == found["mean"] < found["upper"]


def test_equality_is_tested_on_the_differences():
    """Any two contrasts of three estimates, with the covariance that theirs gives them, say the same."""
    b, v = np.array([1.0, 2.0, 4.0]), np.array([[0.2, 0.1, 0.0], [0.1, 0.9, -0.2], [0.0, -0.2, 0.4]])
    contrasts = np.array([[1, -1, 0], [1, 1, -2]])
    differences = contrasts @ b
    q = differences @ np.linalg.solve(contrasts @ v @ contrasts.T, differences)
    assert slopes.heterogeneity(b, v)["p_equal"] == pytest.approx(stats.chi2.sf(q, 2))


def test_what_all_estimates_have_in_common_does_not_count_as_agreement():
    """A covariance shared by all moves them together and leaves their differences as uncertain as before."""
    b = np.array([1.0, 2.0, 4.0])
    alone, shared = (slopes.heterogeneity(b, 0.3 * np.eye(3) + common) for common in (0.0, 5.0))
    np.testing.assert_allclose(shared[["sd", "sd_lower", "sd_upper"]], alone[["sd", "sd_lower", "sd_upper"]], rtol=1e-6)


def test_the_interval_of_the_spread_covers_it_at_three_runs():
    generator, hits, total = np.random.default_rng(1), 0, 400
    v = np.diag([0.2, 0.5, 0.3]) + 0.1
    for _ in range(total):
        b = 1 + generator.normal(0, 0.7, 3) + generator.multivariate_normal(np.zeros(3), v)
        found = slopes.heterogeneity(b, v)
        hits += found["sd_lower"] <= 0.7 <= found["sd_upper"]
    assert abs(hits / total - 0.95) < 0.033  # three standard errors


def test_equal_slopes_have_no_spread_and_unequal_ones_have():
    none = slopes.over_levels(mixed.fit(FORMULA, crossed()), "x")
    some = slopes.over_levels(mixed.fit(FORMULA, crossed((-1, 0.5, 2))), "x")
    assert none["sd_lower"] == 0
    assert none["p_equal"] > 0.01
    assert some["sd"] == pytest.approx(1.5, rel=0.3)
    assert some["sd_lower"] > 0.5
    assert some["p_equal"] < 1e-6


def test_many_at_once_are_each_by_itself():
    data = pd.concat([crossed((0, 1, 2)).assign(term="S"), crossed((1, 1, 1), seed=1).assign(term="T")])
    each, over = slopes.slopes_each(FORMULA, data, ["term"], "x", progress=False)
    fit = mixed.fit(FORMULA, data[data["term"] == "T"])
    assert list(each.columns[:3]) == ["term", "run", "estimate"]
    pd.testing.assert_frame_equal(
        each[each["term"] == "T"].drop(columns="term").reset_index(drop=True), slopes.each_level(fit, "x")
    )
    assert over.set_index("term").loc["T", "mean"] == slopes.over_levels(fit, "x")["mean"]


def test_leaving_a_run_out_is_fitting_the_others_anew():
    data = crossed((0.5, 0.5, 9)).assign(term="S")
    table = slopes.leave_each_out("y ~ C(run) + x + (1 | sentence)", data, ["term"], parameters=["x"], progress=False)
    assert list(table["left_out"]) == ["r0", "r1", "r2"]
    without = mixed.fit("y ~ C(run) + x + (1 | sentence)", data[data["run"] != "r2"])
    assert table["estimate"].iloc[2] == without.params["x"] == pytest.approx(0.5, abs=0.1)
    assert table["estimate"].iloc[:2].min() > 3

    def halved(rows):
        assert rows["run"].nunique() == 2
        return rows.assign(x=rows["x"] / 2)

    again = slopes.leave_each_out(
        "y ~ C(run) + x + (1 | sentence)", data, ["term"], prepare=halved, parameters=["x"], progress=False
    )
    np.testing.assert_allclose(again["estimate"], 2 * table["estimate"], rtol=1e-6)


@pytest.mark.parametrize(
    "formula",
    ["C(run)*x", "x*run", "x + C(run) + x:C(run)", "T(run, 'r2')*x", "S(run)*x", "run + S(run):x", "0 + run + run:x"],
)
def test_the_slope_of_a_level_is_what_the_formula_makes_it(formula):
    """All of these are one model: a slope is read by what its parameters mean, not by their names."""
    data = crossed((0.2, 0.9, -0.4))
    right = slopes.each_level(mixed.fit(FORMULA, data), "x")
    fit = mixed.fit(f"y ~ {formula} + (1 | sentence)", data)
    found = slopes.each_level(fit, "x").set_index("run").loc[right["run"]].reset_index()
    pd.testing.assert_frame_equal(found, right, rtol=1e-5)
    pd.testing.assert_series_equal(
        slopes.over_levels(fit, "x"), slopes.over_levels(mixed.fit(FORMULA, data), "x"), rtol=1e-5
    )


# --- bad input ---


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("C(run)*x*sentence", "depends on something else too"),
        ("C(run)*x + I(x**2)", "no slope of its own"),
        ("C(run) + x", "no slope of 'x' for each level"),
        ("C(run)*poly(x, 2)", "no slope of its own"),
    ],
)
def test_a_slope_that_is_not_one_for_each_level(formula, words):
    with pytest.raises(InputError, match=words):
        slopes.each_level(mixed.fit(f"y ~ {formula} + (1 | sentence)", crossed(sentences=20)), "x")


def test_a_fit_without_a_slope_for_each_run():
    with pytest.raises(InputError, match=r"no slope of 'x' for each level of 'run'.*Write C\(run\) \+ C\(run\):x"):
        slopes.each_level(mixed.fit("y ~ x + (1 | sentence)", crossed()), "x")


@pytest.mark.parametrize(
    ("estimates", "covariance", "options", "words"),
    [
        ([1.0], [[1.0]], {}, "two finite numbers"),
        ([1.0, np.nan], np.eye(2), {}, "two finite numbers"),
        ([1.0, 2.0], np.eye(3), {}, r"shape \(3, 3\)"),
        ([1.0, 2.0], -np.eye(2), {}, "no covariance matrix"),
        ([1.0, 2.0], np.eye(2), {"level": 2}, "strictly between"),
        ([1.0, 2.0], [[1.0, 0.5], [0.1, 1.0]], {}, "symmetric"),
    ],
)
def test_refused(estimates, covariance, options, words):
    with pytest.raises(InputError, match=words):
        slopes.heterogeneity(estimates, covariance, **options)


def test_of_two_runs_none_can_be_spared():
    with pytest.raises(InputError, match=r"'run' has the levels \['r0', 'r1'\]"):
        slopes.leave_each_out("y ~ x + (1 | sentence)", crossed((1, 1)), ["run"])

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from addends import mixed
from addends.errors import InputError
from addends.statistics import leave_one_out, slopes, split_predictor

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
    each, over = slopes.slopes_by_level(data, FORMULA, "x", ["term"], progress=False)
    fit = mixed.fit(FORMULA, data[data["term"] == "T"])
    assert list(each.columns[:3]) == ["term", "run", "estimate"]
    pd.testing.assert_frame_equal(
        each[each["term"] == "T"].drop(columns="term").reset_index(drop=True), slopes.each_level(fit, "x")
    )
    assert over.set_index("term").loc["T", "mean"] == slopes.over_levels(fit, "x")["mean"]


@pytest.mark.slow
def test_leaving_a_run_out_is_fitting_the_others_anew():
    data, formula = crossed((0.5, 0.5, 9)).assign(term="S"), "y ~ C(run) + x + (1 | sentence)"

    def fitted(rows):
        return mixed.fit_each(formula, rows, ["term"], parameters=["x"], progress=False)

    table = leave_one_out(data, fitted)
    assert list(table["left_out"]) == ["r0", "r1", "r2"]
    without = mixed.fit(formula, data[data["run"] != "r2"])
    assert table["estimate"].iloc[2] == without.params["x"] == pytest.approx(0.5, abs=0.1)
    assert table["estimate"].iloc[:2].min() > 3

    def halved(rows):
        assert rows["run"].nunique() == 2
        return fitted(rows.assign(x=rows["x"] / 2))

    np.testing.assert_allclose(leave_one_out(data, halved)["estimate"], 2 * table["estimate"], rtol=1e-6)


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


# --- a predictor in three parts ---

PARTS = ["between", "within", "change"]


def repeated(seed=0, sentences=8):
    generator = np.random.default_rng(seed)
    rows = [(r, k, s, t) for t in "ST" for r in "abc" for k in (1, 2) for s in range(sentences)]
    data = pd.DataFrame(rows, columns=["run", "checkpoint", "sentence", "term"])
    data["x"] = generator.normal(size=len(data)) + data["sentence"] * (data["term"] == "S")
    return data.sample(frac=1, random_state=seed)


def test_the_parts_and_the_mean_of_each_run_at_each_checkpoint_are_the_whole():
    data = repeated()
    split = split_predictor(data, "x", by=["term"])
    pd.testing.assert_frame_equal(split[data.columns], data)
    for _, rows in split.groupby("term"):
        spread = rows.groupby("sentence")["x"].mean().std()
        block = rows.groupby(["run", "checkpoint"])["x"].transform("mean")
        np.testing.assert_allclose(spread * rows[PARTS].sum(axis=1) + block, rows["x"], atol=1e-12)
        assert rows.groupby("sentence")["between"].first().std() == pytest.approx(1)
        for part in ("within", "change"):
            for groups in (["sentence"], ["run", "checkpoint"]):
                np.testing.assert_allclose(rows.groupby(groups)[part].mean(), 0, atol=1e-12)
        np.testing.assert_allclose(rows.groupby(["run", "sentence"])["change"].mean(), 0, atol=1e-12)


@pytest.mark.parametrize(("part", "groups"), [("between", ["sentence"]), ("within", ["sentence", "run"])])
def test_a_part_is_one_number_for_each_of_its_cells(part, groups):
    rows = split_predictor(repeated().query("term == 'S'"), "x")
    np.testing.assert_allclose(rows.groupby(groups)[part].transform("first"), rows[part], atol=1e-15)


def test_what_shifts_a_run_or_scales_the_predictor_changes_nothing():
    data = repeated()
    other = data.assign(x=1000 * (data["x"] + 5 * (data["run"] == "b")))
    parts = [split_predictor(each, "x", by=["term"])[PARTS] for each in (data, other)]
    pd.testing.assert_frame_equal(*parts)


def test_what_shifts_a_sentence_changes_between_alone():
    data = repeated()
    data = data[data["term"] == "T"]
    other = data.assign(x=data["x"] + 2 * (data["sentence"] == 3))
    one, two = split_predictor(data, "x"), split_predictor(other, "x")
    ratio = (one["within"] / two["within"]).to_numpy()
    np.testing.assert_allclose(ratio, ratio[0])
    np.testing.assert_allclose(one["change"] / two["change"], ratio[0])
    assert not np.allclose(one["between"], two["between"] * ratio[0])


def test_each_part_finds_its_own_slope():
    """Three different slopes; a model with one slope for two of the parts would report a mixture."""
    data = split_predictor(repeated(seed=3, sentences=60).query("term == 'T'"), "x")
    noise = np.random.default_rng(4).normal(0, 0.1, len(data))
    data["y"] = 3 * data["between"] + 1 * data["within"] - 2 * data["change"] + noise
    fit = mixed.fit("y ~ between + within + change + C(run) + C(checkpoint) + (1|sentence) + (1|run:sentence)", data)
    np.testing.assert_allclose(fit.params[PARTS], [3, 1, -2], atol=0.05)


def test_one_name_is_one_group():
    data = repeated()
    pd.testing.assert_frame_equal(split_predictor(data, "x", by="term"), split_predictor(data, "x", by=["term"]))


# --- bad input ---


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.iloc[1:], "47 rows are not one for each of 8 levels of 'sentence', 3 of 'run' and 2"),
        (lambda d: pd.concat([d, d.iloc[[1]]]), "49 rows are not"),
        (lambda d: d.assign(x=d["x"].where(d["sentence"] != 2)), "missing or infinite in 12 row"),
        (lambda d: d.assign(x=d["run"].map({"a": 1.0, "b": 2.0, "c": 3.0})), "nothing between them"),
        (lambda d: d[d["checkpoint"] == 1], "each needs two"),
        (lambda d: d.rename(columns={"x": "y"}), "no column 'x'"),
    ],
)
def test_predictors_that_cannot_be_split(change, words):
    with pytest.raises(InputError, match=words):
        split_predictor(change(repeated()), "x", by=["term"])


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


def test_slopes_by_level_need_a_group():
    with pytest.raises(InputError, match="must name a column"):
        slopes.slopes_by_level(crossed(), FORMULA, "x", by=[])

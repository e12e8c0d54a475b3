import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import optimize, stats

import crossed
from crossed.balanced import crossed_shares
from crossed.errors import InputError
from tests.crossed.simulated import dense_likelihood, simulate, variances

CROSSED = "y ~ 1 + (1 | run) + (1 | sentence)"
WITH_PREDICTOR = "y ~ 1 + x + (1 | run) + (1 | sentence)"
WITH_INTERACTION = CROSSED + " + (1 | run:sentence)"
WITH_SLOPE = "y ~ 1 + x + (x | run) + (1 | sentence)"


@pytest.fixture(scope="module")
def balanced():
    return simulate()


@pytest.fixture(scope="module")
def unbalanced():
    """About forty rows of a crossing with holes."""
    return simulate(runs=5, sentences=12, seed=4).sample(n=41, random_state=2).reset_index(drop=True)


# Identities


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_balanced_reml_is_the_analysis_of_variance(seed):
    data = simulate(seed=seed)
    fit = crossed.fit(CROSSED, data)
    table = crossed_shares(data, "y", "run", "sentence", draws=1000)
    assert not table["boundary"].any()
    np.testing.assert_allclose(fit.vcomp["variance"], table["variance"], rtol=1e-8)
    np.testing.assert_allclose(fit.icc()["share"], table["share"], rtol=1e-8)
    assert fit.params["Intercept"] == pytest.approx(data["y"].mean(), rel=1e-10)
    squares = table["mean_square"]
    assert fit.bse["Intercept"] == pytest.approx(np.sqrt((squares[0] + squares[1] - squares[2]) / len(data)), rel=1e-8)
    assert fit.converged
    assert not fit.boundary


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_with_replicates_reml_is_the_analysis_of_variance_with_interaction(seed):
    data = simulate(runs=5, sentences=12, repeats=3, interaction=0.6, seed=seed)
    fit = crossed.fit(WITH_INTERACTION, data)
    table = crossed_shares(data, "y", "run", "sentence", replicate="repeat", draws=1000)
    assert not table["boundary"].any()
    np.testing.assert_allclose(fit.vcomp["variance"], table["variance"], rtol=1e-8)
    assert list(fit.icc()["component"]) == ["run", "sentence", "run:sentence", "residual"]
    assert list(fit.levels.values()) == [5, 12, 60]


@pytest.mark.parametrize(("reml", "criterion"), [(True, 330.860589), (False, 332.188349)])
def test_the_published_fit_of_a_24_by_6_crossing(reml, criterion):
    """In a balanced crossing the mean squares and the mean are sufficient: any data that have them give this fit.

    The figures are those of the penicillin assay of Davies and Goldsmith (1972) as lme4 fits it.
    """
    plates, samples = 24, 6
    plate, sample, residual, mean = 0.716905, 3.731132, 0.302415, 22.972222
    generator = np.random.default_rng(0)
    a, b, e = generator.normal(size=plates), generator.normal(size=samples), generator.normal(size=(plates, samples))
    a, b = a - a.mean(), b - b.mean()
    e = e - e.mean(axis=0) - e.mean(axis=1, keepdims=True) + e.mean()
    a *= np.sqrt((residual + samples * plate) * (plates - 1) / samples / (a @ a))
    b *= np.sqrt((residual + plates * sample) * (samples - 1) / plates / (b @ b))
    e *= np.sqrt(residual * (plates - 1) * (samples - 1) / np.sum(e**2))
    data = pd.DataFrame(mean + a[:, None] + b + e).rename_axis("plate").reset_index()
    data = data.melt("plate", var_name="sample", value_name="diameter")
    fit = crossed.fit("diameter ~ 1 + (1 | plate) + (1 | sample)", data, reml=reml)
    # Six decimals of a variance leave the mean squares known to about a part in a million, times 143 of freedom.
    assert -2 * fit.llf == pytest.approx(criterion, abs=1e-4)
    assert fit.params["Intercept"] == pytest.approx(mean, abs=1e-6)
    if reml:
        np.testing.assert_allclose(fit.vcomp["variance"], [plate, sample, residual], rtol=1e-6)
        assert fit.bse["Intercept"] == pytest.approx(0.808595, abs=1e-6)


def test_one_balanced_factor_in_closed_form():
    data = simulate(runs=5, sentences=8)
    fit = crossed.fit("y ~ (1 | run)", data)
    means, overall = data.groupby("run")["y"].mean(), data["y"].mean()
    between, within = 8 * means.var(), data.groupby("run")["y"].var().mean()
    run = (between - within) / 8
    np.testing.assert_allclose(variances(fit), [run, within], rtol=1e-8)
    shrunk = run / (run + within / 8) * (means - overall)
    np.testing.assert_allclose(fit.random_effects["run"]["Intercept"].loc[shrunk.index], shrunk, rtol=1e-5)
    t = stats.ttest_1samp(means, 0)  # a balanced one-way model tests the mean of the group means
    assert fit.df["Intercept"] == pytest.approx(4, rel=1e-6)
    assert fit.pvalues["Intercept"] == pytest.approx(t.pvalue, rel=1e-5)
    np.testing.assert_allclose(fit.conf_int().loc["Intercept"], t.confidence_interval(0.95), rtol=1e-6)
    assert list(fit.icc()["component"]) == ["run", "residual"]


def test_shares_sum_to_one_and_name_what_one_value_a_cell_cannot_separate(balanced):
    icc = crossed.fit(CROSSED, balanced).icc()
    assert icc["share"].sum() == pytest.approx(1, abs=1e-12)
    assert list(icc["component"]) == ["run", "sentence", "interaction + residual"]
    assert list(icc["levels"].dropna()) == [6, 20]


@pytest.mark.parametrize("formula", [CROSSED, WITH_PREDICTOR, WITH_SLOPE])
def test_relabelled_levels_and_permuted_rows_give_the_same_fit(unbalanced, formula):
    first = crossed.fit(formula, unbalanced)
    names = {f"r{n}": name for n, name in enumerate("ebdac")}
    other = unbalanced.assign(run=unbalanced["run"].map(names)).sample(frac=1, random_state=0)
    second = crossed.fit(formula, other)
    assert second.llf == pytest.approx(first.llf, abs=1e-8)
    np.testing.assert_allclose(variances(second), variances(first), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(second.params, first.params, rtol=1e-6)
    np.testing.assert_allclose(second.bse, first.bse, rtol=1e-6)
    np.testing.assert_allclose(second.df, first.df, rtol=1e-4)
    effects = first.random_effects["run"]["Intercept"].rename(names)
    np.testing.assert_allclose(
        second.random_effects["run"]["Intercept"].loc[effects.index], effects, rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("factor", [1e-12, 1e-6, 1e6, 1e12])
def test_scaling_and_shifting_scale_and_shift_the_fit(unbalanced, factor, reml):
    before = crossed.fit(WITH_PREDICTOR, unbalanced, reml=reml)
    moved = unbalanced.assign(y=factor * (unbalanced["y"] - 7), x=1000 + 50 * unbalanced["x"])
    after = crossed.fit(WITH_PREDICTOR, moved, reml=reml)
    assert after.converged
    np.testing.assert_allclose(variances(after), factor**2 * variances(before), rtol=1e-6)
    np.testing.assert_allclose(after.icc()["share"], before.icc()["share"], rtol=1e-6)
    np.testing.assert_allclose(after.pvalues["x"], before.pvalues["x"], rtol=1e-4)
    assert after.params["x"] == pytest.approx(factor * before.params["x"] / 50, rel=1e-6, abs=0)
    assert after.bse["x"] == pytest.approx(factor * before.bse["x"] / 50, rel=1e-6, abs=0)
    intercept = factor * (before.params["Intercept"] - 7 - 1000 / 50 * before.params["x"])
    assert after.params["Intercept"] == pytest.approx(intercept, rel=1e-6, abs=0)
    jacobian = (41 - 2 * reml) * np.log(factor) + reml * np.log(50)
    assert after.llf == pytest.approx(before.llf - jacobian, abs=1e-6)


def test_moving_a_predictor_moves_the_intercepts_of_a_correlated_slope():
    """With z = 50 x + 1000, b_0 + b_1 x is (b_0 - 20 b_1) + (b_1 / 50) z, in each run."""
    data = simulate(runs=8, sentences=12, slope=0.4)
    before = crossed.fit(WITH_SLOPE, data)
    after = crossed.fit(WITH_SLOPE, data.assign(x=1000 + 50 * data["x"]))
    turn = np.array([[1, -20], [0, 1 / 50]])
    np.testing.assert_allclose(after.covariances[0], turn @ before.covariances[0] @ turn.T, rtol=1e-6)
    np.testing.assert_allclose(after.random_effects["run"], before.random_effects["run"] @ turn.T, rtol=1e-5)
    assert after.llf == pytest.approx(before.llf - np.log(50), abs=1e-7)


def test_an_uncorrelated_slope_is_the_correlated_one_without_covariance():
    data = simulate(runs=8, sentences=12, slope=0.4)
    one, two = (crossed.fit(f"y ~ x + {term} + (1 | sentence)", data) for term in ("(x || run)", "(1|run) + (0+x|run)"))
    pd.testing.assert_frame_equal(one.vcomp, two.vcomp)
    assert list(one.vcomp["term"][:2]) == ["Intercept", "x"]
    assert one.vcomp["term2"].isna().all()
    assert list(one.random_effects["run"].columns) == ["Intercept", "x"]
    whole = crossed.fit("y ~ x + (x | run) + (1 | sentence)", data)
    assert whole.llf > one.llf
    assert list(whole.vcomp["term2"].dropna()) == ["x"]


def test_nested_levels_may_share_their_names():
    data = simulate(runs=6, sentences=8, repeats=3, interaction=0.5)
    own = data.assign(cell=data["run"] + data["sentence"])
    nested, joint, named = (
        crossed.fit(f"y ~ x + {term}", own)
        for term in ("(1 | run/sentence)", "(1|run) + (1|run:sentence)", "(1|run) + (1|cell)")
    )
    assert nested.llf == joint.llf == pytest.approx(named.llf, abs=1e-9)
    effects = nested.random_effects["run:sentence"]["Intercept"]
    assert effects.index.names == ["run", "sentence"]
    other = named.random_effects["cell"]["Intercept"]
    assert effects["r2", "s003"] == pytest.approx(other["r2s003"], rel=1e-6)


@pytest.mark.parametrize("kind", ["integer", "text", "category", "category with unused levels"])
def test_ids_of_any_kind(unbalanced, kind):
    ids = unbalanced["run"].str[1:].astype(int)
    if kind == "text":
        ids = ids.astype(str)
    elif kind == "category":
        ids = pd.Categorical(ids)
    elif kind != "integer":
        ids = pd.Categorical(ids, categories=[7, 4, 3, 9, 2, 1, 0])
    fit = crossed.fit(WITH_PREDICTOR, unbalanced.assign(run=ids))
    assert fit.levels == {"run": 5, "sentence": 12}
    assert fit.llf == pytest.approx(crossed.fit(WITH_PREDICTOR, unbalanced).llf, abs=1e-9)
    assert len(fit.random_effects["run"]) == 5


def test_an_unused_level_of_a_predictor_makes_no_parameter(balanced):
    kind = pd.Categorical(np.where(balanced.index % 2, "b", "a"), categories=["c", "a", "b"])
    assert list(crossed.fit("y ~ kind + (1 | run)", balanced.assign(kind=kind)).params.index) == [
        "Intercept",
        "kind[b]",
    ]


def test_a_predictor_of_the_run_is_tested_against_the_runs():
    """With balanced data it is the regression of run means on it, with runs - 2 degrees of freedom."""
    data = simulate(runs=8, sentences=15, seed=2)
    data["size"] = data["run"].str[1:].astype(float) ** 1.5
    fit = crossed.fit("y ~ size + (1 | run)", data)
    means = data.groupby("run")[["size", "y"]].mean()
    line = stats.linregress(means["size"], means["y"])
    assert fit.df["size"] == pytest.approx(6, rel=1e-5)
    assert fit.params["size"] == pytest.approx(line.slope, rel=1e-8)
    assert fit.pvalues["size"] == pytest.approx(line.pvalue, rel=1e-5)


def test_repeated_cells_and_a_sentence_missing_from_some_runs(balanced):
    missing = balanced[~((balanced["sentence"] == "s003") & balanced["run"].isin(["r0", "r1", "r4"]))]
    doubled = pd.concat([missing, missing.iloc[:9].assign(y=lambda d: d["y"] + 0.1)], ignore_index=True)
    for data in (missing, doubled):
        fit = crossed.fit(WITH_PREDICTOR, data)
        x = np.column_stack([np.ones(len(data)), data["x"]])
        assert fit.converged
        assert fit.llf == pytest.approx(dense_likelihood(fit.vcomp, data, x, True), abs=1e-8)


def test_params_follow_the_formula_and_categories_their_first_level(balanced):
    data = balanced.assign(step=np.arange(len(balanced)) % 3 * 1000, kind=np.where(balanced.index % 2, "b", "a"))
    fit = crossed.fit("y ~ kind + x + C(step) + (1|run)", data)
    names = ["Intercept", "kind[b]", "x", "C(step)[1000]", "C(step)[2000]"]
    assert (
        list(fit.params.index) == list(fit.bse.index) == list(fit.pvalues.index) == list(fit.conf_int().index) == names
    )
    assert list(crossed.fit("y ~ x + 1 + (1|run)", data).params.index) == ["Intercept", "x"]
    assert list(crossed.fit("y ~ 0 + kind + x:kind + (1|run)", data).params.index) == [
        "kind[a]",
        "kind[b]",
        "x:kind[a]",
        "x:kind[b]",
    ]


def test_functions_in_a_formula_are_columns_made_beforehand(balanced):
    data = balanced.assign(logy=np.log(balanced["y"] + 10), shifted=balanced["y"] + 10, logx=np.log(balanced["x"]))
    data["z"] = (data["x"] - data["x"].mean()) / data["x"].std(ddof=0)
    one, two = crossed.fit("log(shifted) ~ log(x) + (1|run)", data), crossed.fit("logy ~ logx + (1|run)", data)
    np.testing.assert_allclose(one.params, two.params, rtol=1e-8)
    one, two = crossed.fit("y ~ scale(x) + (scale(x)|run)", data), crossed.fit("y ~ z + (z|run)", data)
    np.testing.assert_allclose(variances(one), variances(two), rtol=1e-6)
    assert one.llf == pytest.approx(two.llf, abs=1e-9)


@pytest.mark.parametrize(
    ("side", "column"),
    [
        ("y - x", lambda d: d["y"] - d["x"]),
        ("(y - x)", lambda d: d["y"] - d["x"]),
        ("scale(y) - x", lambda d: (d["y"] - d["y"].mean()) / d["y"].std(ddof=0) - d["x"]),
        ("y**2", lambda d: d["y"] ** 2),
        ("y^2 + 1", lambda d: d["y"] ** 2 + 1),
        ("y/x", lambda d: d["y"] / d["x"]),
        ("y*x - small", lambda d: d["y"] * d["x"] - d["small"].astype(int)),
        ("y > 5", lambda d: (d["y"] > 5).astype(float)),
    ],
)
def test_the_left_side_is_arithmetic(balanced, side, column):
    data = balanced.assign(small=np.arange(len(balanced), dtype="int8"))
    one = crossed.fit(f"{side} ~ x + (1 | run)", data)
    two = crossed.fit("column ~ x + (1 | run)", data.assign(column=column(data)))
    assert one.llf == pytest.approx(two.llf, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "place"), [("run id", "run"), ("a:b", "run"), ("chrF++", "x"), ("BLEU-4", "x"), ("y (raw)", "y")]
)
def test_names_in_backticks(balanced, name, place):
    formula = (
        WITH_PREDICTOR.replace(place, f"`{name}`") if place != "x" else f"y ~ 1 + `{name}` + (1 | run) + (1 | sentence)"
    )
    fit = crossed.fit(formula, balanced.rename(columns={place: name}))
    assert fit.llf == pytest.approx(crossed.fit(WITH_PREDICTOR, balanced).llf, abs=1e-9)
    assert name in [*fit.names, *fit.levels, fit.design.formula.outcome.columns[0]]


def test_a_boolean_outcome_is_0_and_1(balanced):
    data = balanced.assign(high=balanced["y"] > 5)
    one, two = (crossed.fit(CROSSED, data.assign(y=data["high"].astype(kind))) for kind in (bool, float))
    assert one.llf == two.llf


@pytest.mark.parametrize("copied", [lambda fit: pickle.loads(pickle.dumps(fit)), copy.deepcopy])
@pytest.mark.parametrize("part", ["x", "scale(x) + C(step)", "bs(x, df=4)*step", "S(step):x", "np.log(x + 20)"])
def test_a_copy_of_a_fit_is_the_fit(balanced, copied, part):
    data = balanced.assign(step=np.arange(len(balanced)) % 3)
    fit = crossed.fit(f"y ~ {part} + (x | run)", data)
    other = copied(fit)
    np.testing.assert_array_equal(other.predict(data.head(3)), fit.predict(data.head(3)))
    pd.testing.assert_frame_equal(other.vcomp, fit.vcomp)


def test_a_predictor_of_few_runs_without_variance_comes_with_the_test_of_means():
    data = simulate(runs=4, sentences=30, seed=3)
    data["y"] -= data.groupby("run")["y"].transform("mean")
    data["size"] = data["run"].str[1:].astype(int) % 2
    words = " ".join(crossed.fit("y ~ size + x + (1 | run)", data).summary().split())
    assert "size is constant within each run" in words
    assert "data.groupby(['run']).mean(numeric_only=True)" in words
    for formula, rows in (
        ("y ~ x + (1 | run)", data),
        ("y ~ size + (1 | run)", simulate(runs=6).assign(size=1.0 * data["size"])),
    ):
        assert "constant within" not in crossed.fit(formula, rows.dropna()).summary()


def test_three_crossed_factors(balanced):
    data = balanced.assign(language=balanced["sentence"].str[-1])
    fit = crossed.fit("y ~ 1 + (1 | run) + (1 | sentence) + (1 | language)", data)
    assert list(fit.vcomp["group"]) == ["run", "sentence", "language", "Residual"]
    assert fit.converged
    assert fit.llf >= crossed.fit(CROSSED, data).llf - 1e-8  # the smaller model is the larger one at a boundary


# Parity


@pytest.mark.slow
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("formula", "columns"), [(CROSSED, []), (WITH_PREDICTOR, ["x"])])
def test_a_search_by_the_dense_likelihood_ends_in_the_same_place(unbalanced, formula, columns, reml):
    fit = crossed.fit(formula, unbalanced, reml=reml)
    x = np.column_stack([np.ones(len(unbalanced)), *(unbalanced[name] for name in columns)])
    search = optimize.minimize(
        lambda logs: -dense_likelihood(fit.vcomp.assign(variance=np.exp(logs)), unbalanced, x, reml),
        [0.0, 0.0, 0.0],
        method="Nelder-Mead",
        options={"fatol": 1e-9, "xatol": 1e-5},
    )
    assert fit.llf == pytest.approx(-search.fun, abs=1e-7)
    np.testing.assert_allclose(variances(fit), np.exp(search.x), rtol=1e-3)


@pytest.mark.parametrize("reml", [True, False])
def test_statsmodels_own_formula_call(unbalanced, reml):
    from statsmodels.regression.mixed_linear_model import MixedLM

    fit = crossed.fit(WITH_PREDICTOR, unbalanced, reml=reml)
    components = {"run": "0 + C(run)", "sentence": "0 + C(sentence)"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MixedLM.from_formula("y ~ x", unbalanced, groups=np.ones(len(unbalanced)), vc_formula=components)
        theirs = model.fit(reml=reml, method="bfgs", gtol=1e-9)
    assert fit.llf == pytest.approx(theirs.llf, abs=1e-6)
    np.testing.assert_allclose(fit.params, theirs.fe_params, rtol=1e-4)
    # Theirs come from the joint Hessian, with the variances; ours, as lme4's, take the variances as known.
    np.testing.assert_allclose(fit.bse, theirs.bse_fe, rtol=1e-2)
    np.testing.assert_allclose(variances(fit), [*theirs.vcomp, theirs.scale], rtol=1e-3)
    effects = pd.concat([fit.random_effects[name]["Intercept"] for name in ("run", "sentence")])
    np.testing.assert_allclose(np.sort(effects), np.sort(theirs.random_effects[1.0]), atol=1e-3)


def test_900_rows_of_3_runs():
    data = simulate(runs=3, sentences=300, seed=11)
    data["y"] *= 1e-6
    fit = crossed.fit(WITH_PREDICTOR, data)
    assert fit.converged
    assert fit.params["x"] == pytest.approx(0.2e-6, abs=4 * fit.bse["x"])
    assert variances(fit)["sentence"] == pytest.approx(1e-12, rel=0.3)


# Honest reports


def test_a_variance_at_zero_is_zero_flagged_and_leaves_the_other_factor_its_own_fit():
    data = simulate(seed=3)
    data["y"] -= data.groupby("run")["y"].transform("mean")
    fit = crossed.fit(CROSSED, data)
    assert fit.boundary
    assert fit.converged
    assert variances(fit)["run"] == 0
    alone = crossed.fit("y ~ (1 | sentence)", data)
    np.testing.assert_allclose(variances(fit)[["sentence", "Residual"]], variances(alone), rtol=1e-5)
    assert fit.llf == pytest.approx(alone.llf, abs=1e-8)
    assert (fit.random_effects["run"]["Intercept"] == 0).all()
    assert fit.df["Intercept"] == pytest.approx(alone.df["Intercept"], rel=1e-4)
    assert "without the variances at zero" in " ".join(fit.summary().split())
    assert "boundary" in repr(fit)
    assert "not shown to be absent" in " ".join(fit.summary().split())


def test_both_variances_at_zero_are_ordinary_least_squares():
    data = simulate(seed=3)
    for _ in range(3):
        for name in ("run", "sentence"):
            data["y"] -= data.groupby(name)["y"].transform("mean")
    fit = crossed.fit(CROSSED, data)
    assert fit.boundary
    assert list(variances(fit)[["run", "sentence"]]) == [0, 0]
    assert fit.scale == pytest.approx(data["y"].var(), rel=1e-8)


def test_tables_and_text(balanced):
    fit = crossed.fit(WITH_PREDICTOR, balanced)
    assert list(fit.vcomp.columns) == ["group", "term", "term2", "variance", "sd"]
    assert list(fit.vcomp["group"]) == ["run", "sentence", "Residual"]
    assert list(fit.vcomp["term"][:2]) == ["Intercept", "Intercept"]
    assert fit.vcomp["term2"].isna().all()
    assert fit.vcomp["term"].isna().tolist() == [False, False, True]
    np.testing.assert_allclose(fit.vcomp["sd"] ** 2, fit.vcomp["variance"])
    assert fit.scale == variances(fit)["Residual"]
    narrow, wide = fit.conf_int(0.5), fit.conf_int()
    assert (wide["lower"] < narrow["lower"]).all()
    assert (narrow["upper"] < wide["upper"]).all()
    assert "known only within a factor" in fit.summary()
    shown = fit.summary()._repr_html_()
    assert shown.count("<table") == shown.count("<caption>") == 2
    assert "<th></th>" not in shown
    assert fit.aic == pytest.approx(2 * 5 - 2 * fit.llf)
    assert fit.bic == pytest.approx(5 * np.log(120) - 2 * fit.llf)
    assert fit.nobs == 120
    assert repr(fit).startswith(f"<MixedFit '{WITH_PREDICTOR}': 120 observations")


# Bad input


def dictionary():
    return pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.assign(run="r0"), "the group 'run' has one level"),
        (lambda d: d.assign(run=range(len(d))), "as many levels as there are rows"),
        (lambda d: d.assign(run=d["sentence"] + "!"), "group the rows alike"),
        (lambda d: d.assign(y=d["y"].where(~d.index.isin([3, 17]))), r"'y' is .* in 2 row\(s\), counted from 0: 3, 17"),
        (lambda d: d.assign(x=d["x"].where(d.index != 5, -np.inf)), r"'x' is missing or infinite in 1 row\(s\).*: 5"),
        (lambda d: d.assign(run=d["run"].where(d.index != 8)), "'run' is missing or infinite.*: 8"),
        (lambda d: d.assign(y=0.1), "constant"),
        (lambda d: d.iloc[:0], "constant"),
        (lambda d: d.assign(x=1.0), "'x' is constant or a linear combination"),
        (lambda d: d.assign(x="one"), "'x' is constant or a linear combination"),
        (lambda d: d.assign(y=d["x"] * 2 + 1), "no residual"),
        (lambda d: d.assign(y=3e12 * d["x"] + 1e12), "no residual"),
        (lambda d: d.iloc[:100].assign(y=lambda d: d["run"].str[1:].astype(int) * 1.5 - 0.1 * d["x"]), "no residual"),
        (lambda d: d.assign(y=d["run"].str[1:].astype(float) + d["sentence"].str[1:].astype(float)), "no residual"),
        (lambda d: pd.concat([d, d[["x"]]], axis=1), "2 columns named 'x'"),
        (lambda d: d.to_numpy(), "data is a numpy.ndarray; a pandas DataFrame"),
        (lambda d: d.assign(x=d["x"] + 1j), "'x' holds complex128"),
        (lambda d: d.assign(run=pd.factorize(d["run"])[0] + 1j), "'run' holds complex128"),
        (lambda d: d.assign(y=d["y"] + 1j), "'y' holds complex128"),
        (
            lambda d: d.assign(x=pd.to_datetime(d["x"], unit="D")),
            r"'x' holds datetime64.*not numbers, text or categories",
        ),
        (lambda d: d.assign(x=pd.to_timedelta(d["x"], unit="D")), "'x' holds timedelta64"),
        (lambda d: d.assign(x=d["x"].astype(object)), "'x' holds object of float"),
        (lambda d: d.assign(x=pd.period_range("2020", periods=len(d), freq="D")), "'x' holds period"),
        (lambda d: d.assign(x=d["run"].astype("category").astype(dictionary())), "'x' holds dictionary"),
        (lambda d: d.assign(run=[[n % 3] for n in range(len(d))]), "'run' holds object.*cannot be sorted"),
        (lambda d: d.assign(sentence="s0"), "the group 'sentence' has one level"),
        (lambda d: d.rename(columns={"sentence": "sentences"}), "no column 'sentence'. Did you mean 'sentences'"),
        (lambda d: d.assign(y=d["y"].astype(str)), "'y' holds .*, not numbers"),
        (lambda d: d.iloc[:2], "fixed parameters and 2 rows"),
    ],
)
def test_data_that_cannot_be_fitted(balanced, change, message):
    with pytest.raises(InputError, match=message):
        crossed.fit(WITH_PREDICTOR, change(balanced))


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ x + twice + (1 | run)", r"'twice' is constant or a linear combination of \['x'\]"),
        ("y ~ x + level + (level | run)", "'level' is constant within every level of 'run'"),
        ("y ~ x + (level || run)", "'level' is constant within every level of 'run'"),
        ("y ~ log(below) + (1 | run)", r"'log\(below\)' is no finite number in 3 row\(s\), counted from 0: 0, 1, 2\."),
        ("y ~ x + (kind || run)", "'0 \\+ kind' before a double bar is a category of 2 columns"),
        ("y ~ x + (1 | run) + (x | run)", "'Intercept' by 'run' stands in two random terms"),
        ("y ~ x + (1 | run:sentence)", "as many levels as there are rows"),
        ("y ~ offset(x) + (1 | run)", r"offset\(\) is not fitted"),
        ("y ~ nothing(x) + (1 | run)", "cannot be computed from the data"),
        ("y ~ 0 + (1 | run)", "leaves no column"),
        ("y ~ Intercept + (1 | run)", "a predictor named 'Intercept' cannot be told"),
        ("y ~ x + (Intercept | run)", "a predictor named 'Intercept' cannot be told"),
        ("y ~ x + (1 | Residual)", "a group named 'Residual' cannot be told"),
        ("y ~ x + (1 | `run:kind`) + (1 | run:kind)", "two groups would be named 'run:kind'"),
        ("y ~ kind + `kind[b]` + (1 | run)", r"two parameters would be named 'kind\[b\]'"),
        ("C(kind) ~ x + (1 | run)", "one column of numbers is wanted"),
        ("poly(x, 2) ~ kind + (1 | run)", "one column of numbers is wanted"),
        ("kind - x ~ x + (1 | run)", "'kind' holds .*, not numbers"),
        ("kind ~ x + (1 | run)", "'kind' holds .*, not numbers"),
        ("log(below) ~ x + (1 | run)", r"'log\(below\)' is no finite number"),
    ],
)
def test_formulas_that_these_data_cannot_carry(balanced, formula, message):
    data = balanced.assign(twice=2 * balanced["x"] + 1, level=balanced["run"].str[1:].astype(float))
    data["below"] = np.arange(len(data)) - 2.0
    data["kind"] = np.where(data.index % 2, "b", "a")
    data["Intercept"], data["Residual"], data["run:kind"] = data["x"], data["run"], data["sentence"]
    data["kind[b]"] = data["x"]
    with pytest.raises(InputError, match=message):
        crossed.fit(formula, data)


def test_reml_is_true_or_false(balanced):
    with pytest.raises(InputError, match="reml='ML'"):
        crossed.fit(CROSSED, balanced, reml="ML")

import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import linalg, optimize, stats

from addends.errors import InputError
from addends.statistics import mixed
from addends.statistics.formulas import parse
from addends.statistics.intervals import crossed_shares
from addends.statistics.likelihood import Likelihood, Moments, maximise

CROSSED = "y ~ 1 + (1 | run) + (1 | sentence)"
WITH_PREDICTOR = "y ~ 1 + x + (1 | run) + (1 | sentence)"


def simulate(runs=6, sentences=20, sds=(0.8, 1.0, 0.7), seed=0):
    generator = np.random.default_rng(seed)
    run, sentence = (part.ravel() for part in np.meshgrid(range(runs), range(sentences), indexing="ij"))
    x = generator.normal(10, 2, len(run))
    y = 3 + 0.2 * x + generator.normal(0, sds[0], runs)[run] + generator.normal(0, sds[1], sentences)[sentence]
    y += generator.normal(0, sds[2], len(run))
    return pd.DataFrame({"run": [f"r{n}" for n in run], "sentence": [f"s{n:03}" for n in sentence], "x": x, "y": y})


@pytest.fixture(scope="module")
def balanced():
    return simulate()


@pytest.fixture(scope="module")
def unbalanced():
    """About forty rows of a crossing with holes."""
    return simulate(runs=5, sentences=12, seed=4).sample(n=41, random_state=2).reset_index(drop=True)


def variances(fit):
    return fit.vcomp.set_index("group")["variance"]


# Identities


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_balanced_reml_is_the_analysis_of_variance(seed):
    data = simulate(seed=seed)
    fit = mixed.fit(CROSSED, data)
    table = crossed_shares(data, "y", draws=1000)
    assert not table["boundary"].any()
    np.testing.assert_allclose(fit.vcomp["variance"], table["variance"], rtol=1e-6)
    np.testing.assert_allclose(fit.icc()["share"], table["share"], rtol=1e-6)
    assert fit.params["Intercept"] == pytest.approx(data["y"].mean(), rel=1e-10)
    squares = table["mean_square"]
    assert fit.bse["Intercept"] == pytest.approx(np.sqrt((squares[0] + squares[1] - squares[2]) / len(data)), rel=1e-6)
    assert fit.converged
    assert not fit.boundary


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
    fit = mixed.fit("diameter ~ 1 + (1 | plate) + (1 | sample)", data, reml=reml)
    # Six decimals of a variance leave the mean squares known to about a part in a million, times 143 of freedom.
    assert -2 * fit.llf == pytest.approx(criterion, abs=1e-4)
    assert fit.params["Intercept"] == pytest.approx(mean, abs=1e-6)
    if reml:
        np.testing.assert_allclose(fit.vcomp["variance"], [plate, sample, residual], rtol=1e-6)
        assert fit.bse["Intercept"] == pytest.approx(0.808595, abs=1e-6)


def test_one_balanced_factor_in_closed_form():
    data = simulate(runs=5, sentences=8)
    fit = mixed.fit("y ~ (1 | run)", data)
    means, overall = data.groupby("run")["y"].mean(), data["y"].mean()
    between, within = 8 * means.var(), data.groupby("run")["y"].var().mean()
    run = (between - within) / 8
    np.testing.assert_allclose(variances(fit), [run, within], rtol=1e-6)
    shrunk = run / (run + within / 8) * (means - overall)
    np.testing.assert_allclose(fit.random_effects["run"]["Intercept"].loc[shrunk.index], shrunk, rtol=1e-5)
    t = stats.ttest_1samp(means, 0)  # a balanced one-way model tests the mean of the group means
    assert fit.df["Intercept"] == pytest.approx(4)
    assert fit.pvalues["Intercept"] == pytest.approx(t.pvalue, rel=1e-5)
    np.testing.assert_allclose(fit.conf_int().loc["Intercept"], t.confidence_interval(0.95), rtol=1e-6)
    assert list(fit.icc()["component"]) == ["run", "residual"]


def test_shares_sum_to_one_and_name_what_one_value_a_cell_cannot_separate(balanced):
    icc = mixed.fit(CROSSED, balanced).icc()
    assert icc["share"].sum() == pytest.approx(1, abs=1e-12)
    assert list(icc["component"]) == ["run", "sentence", "interaction + residual"]
    assert list(icc["levels"].dropna()) == [6, 20]


@pytest.mark.parametrize("formula", [CROSSED, WITH_PREDICTOR])
def test_relabelled_levels_and_permuted_rows_give_the_same_fit(unbalanced, formula):
    first = mixed.fit(formula, unbalanced)
    names = {f"r{n}": name for n, name in enumerate("ebdac")}
    other = unbalanced.assign(run=unbalanced["run"].map(names)).sample(frac=1, random_state=0)
    second = mixed.fit(formula, other)
    assert second.llf == pytest.approx(first.llf, abs=1e-8)
    np.testing.assert_allclose(variances(second), variances(first), rtol=1e-4)
    np.testing.assert_allclose(second.params, first.params, rtol=1e-5)
    np.testing.assert_allclose(second.bse, first.bse, rtol=1e-4)
    effects = first.random_effects["run"]["Intercept"].rename(names)
    np.testing.assert_allclose(second.random_effects["run"]["Intercept"].loc[effects.index], effects, rtol=1e-3)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_scaling_and_shifting_scale_and_shift_the_fit(unbalanced, factor, reml):
    before = mixed.fit(WITH_PREDICTOR, unbalanced, reml=reml)
    moved = unbalanced.assign(y=factor * (unbalanced["y"] - 7), x=1000 + 50 * unbalanced["x"])
    after = mixed.fit(WITH_PREDICTOR, moved, reml=reml)
    assert after.converged
    np.testing.assert_allclose(variances(after), factor**2 * variances(before), rtol=1e-4)
    np.testing.assert_allclose(after.icc()["share"], before.icc()["share"], rtol=1e-4)
    assert after.params["x"] == pytest.approx(factor * before.params["x"] / 50, rel=1e-5)
    assert after.bse["x"] == pytest.approx(factor * before.bse["x"] / 50, rel=1e-5)
    intercept = factor * (before.params["Intercept"] - 7 - 1000 / 50 * before.params["x"])
    assert after.params["Intercept"] == pytest.approx(intercept, rel=1e-5)
    jacobian = (41 - 2 * reml) * np.log(factor) + reml * np.log(50)
    assert after.llf == pytest.approx(before.llf - jacobian, abs=1e-6)


def test_params_follow_the_formula_and_categories_their_first_level(balanced):
    data = balanced.assign(step=np.arange(len(balanced)) % 3 * 1000, kind=np.where(balanced.index % 2, "b", "a"))
    fit = mixed.fit("y ~ kind + x + C(step) + (1|run)", data)
    names = ["Intercept", "kind[T.b]", "x", "C(step)[T.1000]", "C(step)[T.2000]"]
    assert (
        list(fit.params.index) == list(fit.bse.index) == list(fit.pvalues.index) == list(fit.conf_int().index) == names
    )
    assert list(mixed.fit("y ~ x + 1 + (1|run)", data).params.index) == ["Intercept", "x"]


def test_three_crossed_factors(balanced):
    data = balanced.assign(language=balanced["sentence"].str[-1])
    fit = mixed.fit("y ~ 1 + (1 | run) + (1 | sentence) + (1 | language)", data)
    assert list(fit.vcomp["group"]) == ["run", "sentence", "language", "Residual"]
    assert fit.converged
    assert fit.llf >= mixed.fit(CROSSED, data).llf - 1e-8  # the smaller model is the larger one at a boundary


# Parity


def dense_covariance(sizes, data):
    v = sizes[-1] * np.eye(len(data))
    for size, name in zip(sizes, ("run", "sentence"), strict=False):
        v += size * (data[name].to_numpy()[:, None] == data[name].to_numpy())
    return v


def dense_likelihood(sizes, data, columns, reml):
    """The log-likelihood at given variances by the full covariance matrix; restricted by error contrasts."""
    y, x = data["y"].to_numpy(), np.column_stack([np.ones(len(data)), *(data[name] for name in columns)])
    v = dense_covariance(sizes, data)
    if reml:
        contrasts = linalg.null_space(x.T)
        value = stats.multivariate_normal(cov=contrasts.T @ v @ contrasts).logpdf(contrasts.T @ y)
        return value - np.linalg.slogdet(x.T @ x)[1] / 2  # lme4's criterion leaves this constant out
    beta = np.linalg.solve(x.T @ np.linalg.solve(v, x), x.T @ np.linalg.solve(v, y))
    return stats.multivariate_normal(x @ beta, v).logpdf(y)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("formula", "columns"), [(CROSSED, []), (WITH_PREDICTOR, ["x"])])
def test_brute_force(unbalanced, formula, columns, reml):
    fit = mixed.fit(formula, unbalanced, reml=reml)
    assert dense_likelihood(variances(fit).to_numpy(), unbalanced, columns, reml) == pytest.approx(fit.llf, abs=1e-8)
    x = np.column_stack([np.ones(len(unbalanced)), *(unbalanced[name] for name in columns)])
    v = dense_covariance(variances(fit).to_numpy(), unbalanced)
    covariance = np.linalg.inv(x.T @ np.linalg.solve(v, x))
    np.testing.assert_allclose(fit.cov_params, covariance, rtol=1e-8)
    np.testing.assert_allclose(fit.params, covariance @ x.T @ np.linalg.solve(v, unbalanced["y"]), rtol=1e-8)
    np.testing.assert_allclose(fit.bse, np.sqrt(np.diag(covariance)), rtol=1e-8)
    search = optimize.minimize(
        lambda logs: -dense_likelihood(np.exp(logs), unbalanced, columns, reml),
        [0.0, 0.0, 0.0],
        method="Nelder-Mead",
        options={"fatol": 1e-9, "xatol": 1e-5},
    )
    assert fit.llf == pytest.approx(-search.fun, abs=1e-7)
    np.testing.assert_allclose(variances(fit), np.exp(search.x), rtol=1e-3)


@pytest.mark.parametrize("reml", [True, False])
def test_statsmodels_own_formula_call(unbalanced, reml):
    from statsmodels.regression.mixed_linear_model import MixedLM

    fit = mixed.fit(WITH_PREDICTOR, unbalanced, reml=reml)
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
    fit = mixed.fit(WITH_PREDICTOR, data)
    assert fit.converged
    assert fit.params["x"] == pytest.approx(0.2e-6, abs=4 * fit.bse["x"])
    assert variances(fit)["sentence"] == pytest.approx(1e-12, rel=0.3)


# Honest reports


def test_a_variance_at_zero_is_zero_flagged_and_leaves_the_other_factor_its_own_fit():
    data = simulate(seed=3)
    data["y"] -= data.groupby("run")["y"].transform("mean")
    fit = mixed.fit(CROSSED, data)
    assert fit.boundary
    assert fit.converged
    assert variances(fit)["run"] == 0
    alone = mixed.fit("y ~ (1 | sentence)", data)
    np.testing.assert_allclose(variances(fit)[["sentence", "Residual"]], variances(alone), rtol=1e-5)
    assert fit.llf == pytest.approx(alone.llf, abs=1e-8)
    assert (fit.random_effects["run"]["Intercept"] == 0).all()
    assert fit.df["Intercept"] == 5
    assert "boundary" in repr(fit)
    assert "not shown to be absent" in " ".join(fit.summary().split())


def test_both_variances_at_zero_are_ordinary_least_squares():
    data = simulate(seed=3)
    for _ in range(3):
        for name in ("run", "sentence"):
            data["y"] -= data.groupby(name)["y"].transform("mean")
    fit = mixed.fit(CROSSED, data)
    assert fit.boundary
    assert list(variances(fit)[["run", "sentence"]]) == [0, 0]
    assert fit.scale == pytest.approx(data["y"].var(), rel=1e-8)


def test_converged_is_asked_of_the_likelihood(balanced, monkeypatch):
    codes = [pd.factorize(balanced[name])[0] for name in ("run", "sentence")]
    y = (balanced["y"] - balanced["y"].mean()).to_numpy()
    likelihood = Likelihood(codes, y, np.ones((len(y), 1)), reml=True)
    start = Moments(codes, y).start()
    best, converged = maximise(likelihood, start)
    assert converged
    from addends.statistics import likelihood as engine

    # An engine that stops early, and says nothing: the check must notice an SD that is off by 1 %.
    monkeypatch.setattr(engine, "_statsmodels", lambda likelihood, start: start)
    stopped = type("Stopped", (), {"x": best * [1.01, 1.0]})
    monkeypatch.setattr(engine.optimize, "minimize", lambda *arguments, **options: stopped)
    found, converged = maximise(likelihood, best * [1.01, 1.0])
    np.testing.assert_allclose(found, best * [1.01, 1.0])
    assert not converged


def test_a_poor_start_reaches_the_same_maximum(unbalanced):
    codes = [pd.factorize(unbalanced[name])[0] for name in ("run", "sentence")]
    y = (unbalanced["y"] - unbalanced["y"].mean()).to_numpy()
    likelihood = Likelihood(codes, y, np.ones((len(y), 1)), reml=True)
    found = [maximise(likelihood, np.array(start)) for start in ([1.0, 1.0], [0.01, 5.0], [20.0, 0.02])]
    assert all(converged for _, converged in found)
    np.testing.assert_allclose([likelihood(theta) for theta, _ in found], likelihood(found[0][0]), atol=1e-8)


def test_satterthwaite_degrees_of_freedom_and_the_words_beside_them(balanced):
    fit = mixed.fit(CROSSED, balanced)
    table = crossed_shares(balanced, "y", draws=1000)
    squares, df = table["mean_square"].to_numpy(), table["df"].to_numpy()
    expected = (squares[0] + squares[1] - squares[2]) ** 2 / np.sum(squares**2 / df)
    assert fit.df["Intercept"] == pytest.approx(expected)
    assert "Satterthwaite" in fit.summary()
    for other in (mixed.fit(WITH_PREDICTOR, balanced), mixed.fit(CROSSED, balanced, reml=False)):
        assert np.isinf(other.df).all()
        np.testing.assert_allclose(other.pvalues, 2 * stats.norm.sf(np.abs(other.params / other.bse)))
        assert "normal (z), as in statsmodels: too narrow" in other.summary()


def test_tables_and_text(balanced):
    fit = mixed.fit(WITH_PREDICTOR, balanced)
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
    assert repr(fit).startswith(f"<MixedFit '{WITH_PREDICTOR}': 120 observations")


def test_imports_neither_models_nor_statsmodels():
    code = (
        "import sys, addends; addends.mixed.fit\n"
        "assert not {'torch', 'transformers', 'statsmodels'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Formulas and bad input


def test_parse():
    read = parse("chrf ~ tokens+ C( checkpoint ) + (1|run)+(1 | sentence)")
    assert (read.outcome, read.fixed, read.groups) == ("chrf", ("tokens", "C(checkpoint)"), ("run", "sentence"))


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y + (1 | run)", "exactly one '~'"),
        ("y ~ x ~ (1 | run)", "exactly one '~'"),
        (None, "exactly one '~'"),
        ("y ~ x", "no random term"),
        ("y ~ x + (x | run)", "slopes are not fitted now.*Allowed now"),
        ("y ~ x + (1 + x | run)", "slopes are not fitted now"),
        ("y ~ x + (0 + x || run)", "slopes are not fitted now"),
        ("y ~ x * z + (1 | run)", r"'x \* z' is an interaction; not fitted now. Allowed now"),
        ("y ~ x:z + (1 | run)", "'x:z' is an interaction"),
        ("y ~ log(x) + (1 | run)", r"'log\(x\)' is neither a column"),
        ("y ~ 0 + x + (1 | run)", "asks for terms to be taken out"),
        ("y ~ x - 1 + (1 | run)", "asks for terms to be taken out"),
        ("log(y) ~ x + (1 | run)", "compute a transformed outcome"),
        ("y ~ (1 | run) + (1 | run)", "the group 'run' stands twice"),
        ("y ~ (1 | run/sentence)", r"nested factors \(/\)"),
        ("y ~ (1 | run:sentence)", "'run:sentence' is not the name of one column"),
        ("y ~ x + C(x) + (1 | run)", "stands twice"),
        ("y ~ y + (1 | run)", "cannot predict itself"),
        ("y ~ 1 + (1 | y)", "cannot be a grouping factor"),
        ("y ~ 1 + + (1 | run)", "a term is missing"),
        ("y ~ 1 + (1 | run", "brackets do not match"),
        ("y ~ 1 + 1 | run", "stands in brackets"),
        ("y ~ 1 + (1 | runn)", "no column 'runn'. Did you mean 'run'?"),
        ("y ~ z + (1 | run)", "no column 'z'"),
        ("run ~ 1 + (1 | sentence)", "'run' holds .*, not numbers"),
    ],
)
def test_formulas_that_cannot_be_fitted(balanced, formula, message):
    with pytest.raises(InputError, match=message):
        mixed.fit(formula, balanced)


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
        (lambda d: d.assign(y=d["run"].str[1:].astype(float) + d["sentence"].str[1:].astype(float)), "no residual"),
        (lambda d: pd.concat([d, d[["x"]]], axis=1), "2 columns named 'x'"),
        (lambda d: d.to_numpy(), "a pandas DataFrame"),
    ],
)
def test_data_that_cannot_be_fitted(balanced, change, message):
    with pytest.raises(InputError, match=message):
        mixed.fit(WITH_PREDICTOR, change(balanced))

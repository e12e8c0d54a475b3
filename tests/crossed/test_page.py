"""The book's page on mixed models says what is true: its code runs, and so does every statement that can."""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import patsy
import pytest
import statsmodels.formula.api as smf
from scipy import stats

import crossed
from crossed.likelihood import DENSE_COLUMNS
from tests.crossed.simulated import simulate

PAGE = (Path(__file__).parents[2] / "book" / "mixed_models.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
COMPONENTS = {"run": "0 + C(run)", "sentence": "0 + C(sentence)"}
FORMULA = "y ~ x + (1 | run) + (1 | sentence)"


def mixedlm(formula, data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return smf.mixedlm(formula, data.assign(all=1), groups="all", vc_formula=COMPONENTS).fit(**options)


@pytest.fixture(scope="module")
def page():
    """What the page's programs have made when the last has run."""
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MixedLM
        for program in PROGRAMS:
            exec(program, names)
    return names


@pytest.fixture(scope="module")
def data():
    return simulate(runs=5, sentences=8, seed=1)


@pytest.fixture(scope="module")
def theirs(data):
    return mixedlm("y ~ x", data)


@pytest.fixture(scope="module")
def ours(data):
    return crossed.fit(FORMULA, data)


# What the page names


@pytest.mark.slow
def test_the_programs_run(page):
    assert len(PROGRAMS) == 6
    assert page["fit"].converged
    assert page["smaller"].converged
    assert crossed.compare(page["smaller"], page["fit"])["df"] == 2
    assert page["smaller"].llf == pytest.approx(page["m"].llf, abs=1e-5)


def test_every_name_of_the_page_is_there(page, theirs):
    for name in re.findall(r"\bcrossed\.([a-z_0-9]+)", PAGE):
        assert hasattr(crossed, name)
    for name in re.findall(r"\bfit\.([a-z_0-9]+)", PAGE):
        assert hasattr(page["fit"], name)
    third = [row.split(" | ")[2] for row in PAGE.splitlines() if row.startswith("| ") and row.count(" | ") == 3]
    names = re.findall(r"`m\.([a-z_]+)", " ".join(third))
    assert len(names) > 12
    for name in names:
        assert hasattr(theirs, name)


# What is the same in statsmodels


def test_the_numbers_of_the_table_agree(ours, theirs, data):
    assert ours.llf == pytest.approx(theirs.llf, abs=1e-5)  # REML is the default of both
    np.testing.assert_allclose(ours.params, theirs.fe_params, rtol=1e-4)
    assert theirs.model.exog_vc.names == ["run", "sentence"]
    np.testing.assert_allclose(ours.vcomp["variance"], [*theirs.vcomp, theirs.scale], rtol=1e-3)
    np.testing.assert_allclose(ours.predict(data, random=False), theirs.predict(data), rtol=1e-5)
    np.testing.assert_allclose(ours.fittedvalues, theirs.fittedvalues, rtol=1e-4)
    np.testing.assert_allclose(ours.resid, theirs.resid, rtol=1e-3, atol=1e-4)
    found = theirs.random_effects[1]
    np.testing.assert_allclose(ours.random_effects["run"]["Intercept"], found[:5], rtol=1e-3)


def test_standard_errors_take_the_variances_as_known_and_theirs_do_not(ours, theirs):
    hessian, _ = theirs.model.hessian(theirs.params_object)
    alone, joint = (np.sqrt(np.diag(np.linalg.inv(-part)))[:2] for part in (hessian[:2, :2], hessian))
    np.testing.assert_allclose(ours.bse, alone, rtol=1e-4)
    np.testing.assert_allclose(theirs.bse_fe, joint, rtol=1e-6)
    np.testing.assert_allclose(ours.bse, theirs.bse_fe, rtol=1e-2)


def test_maximum_likelihood_and_its_criteria(data):
    fit, other = crossed.fit(FORMULA, data, reml=False), mixedlm("y ~ x", data, reml=False)
    assert (fit.aic, fit.bic) == (pytest.approx(other.aic, abs=1e-4), pytest.approx(other.bic, abs=1e-4))


def test_a_correlated_slope_is_re_formula():
    data = simulate(runs=12, sentences=20, slope=1.0, seed=3).assign(x=lambda data: data["x"] - 10)
    fit = crossed.fit("y ~ x + (x | run)", data)
    other = smf.mixedlm("y ~ x", data, groups="run", re_formula="~ x").fit()
    assert fit.llf == pytest.approx(other.llf, abs=1e-6)
    (intercept, covariance), (_, slope) = other.cov_re.to_numpy()
    np.testing.assert_allclose(fit.vcomp["variance"], [intercept, slope, covariance, other.scale], rtol=1e-3)


# What differs from statsmodels


def test_their_tests_are_by_z_and_ours_by_t(ours, theirs):
    z = (theirs.fe_params / theirs.bse_fe).abs()
    np.testing.assert_allclose(theirs.pvalues[:2], 2 * stats.norm.sf(z), rtol=1e-6)
    assert (ours.pvalues.to_numpy() > theirs.pvalues[:2].to_numpy()).all()
    np.testing.assert_allclose(ours.pvalues, 2 * stats.t.sf(ours.tvalues.abs(), ours.df))


def test_their_intervals_of_variances_are_of_ratios_and_their_criteria_missing(theirs):
    limits = theirs.conf_int().loc["run Var"]
    assert limits.mean() == pytest.approx(theirs.vcomp[0] / theirs.scale)
    assert np.isnan(theirs.aic)
    assert theirs.cov_params().shape == (4, 4)
    assert not any(hasattr(theirs, name) for name in ("compare_lr_test", "icc", "r2"))


def test_a_variance_that_is_best_at_zero_is_zero():
    data = simulate(seed=3)
    data["y"] -= data.groupby("run")["y"].transform("mean")
    fit, other = crossed.fit(FORMULA, data), mixedlm("y ~ x", data)
    assert fit.boundary
    assert fit.vcomp["variance"][0] == 0
    submodel = crossed.fit("y ~ x + (1 | sentence)", data)
    assert fit.llf >= submodel.llf - 1e-8
    assert other.converged
    assert other.llf < submodel.llf - 1e-4


# What is said of `crossed` alone


def test_a_variance_more_has_half_the_p_and_other_fixed_parts_are_refused(data):
    small, large = crossed.fit("y ~ x + (1 | sentence)", data), crossed.fit(FORMULA, data)
    found = crossed.compare(small, large)
    assert found["p"] == pytest.approx(stats.chi2.sf(found["statistic"], 1) / 2)
    with pytest.raises(crossed.InputError, match="fit both with reml=False"):
        crossed.compare(crossed.fit("y ~ 1 + (1 | run) + (1 | sentence)", data), large)


@pytest.mark.parametrize(
    ("formula", "change", "message"),
    [
        (FORMULA, lambda d: d.assign(x=d["x"].where(d.index != 3)), "in 1 row.*: 3"),
        (FORMULA, lambda d: d.assign(y=d["y"].where(d.index != 3, np.inf)), "in 1 row.*: 3"),
        ("y ~ z + (1 | run)", lambda d: d, "no column 'z'"),
        (FORMULA, lambda d: d[d["run"] == "r1"], "one level"),
        ("y ~ x + I(2*x) + (1 | run)", lambda d: d, "linear combination"),
        ("y ~ offset(x) + (1 | run)", lambda d: d, "subtract it from the outcome"),
    ],
)
def test_what_is_refused(data, formula, change, message):
    with pytest.raises(crossed.InputError, match=message):
        crossed.fit(formula, change(data))


def test_new_levels_are_predicted_without_their_effects_only(ours, data):
    new = data.head(3).assign(run="r9")
    with pytest.raises(crossed.InputError, match="r9 was not in the data"):
        ours.predict(new)
    np.testing.assert_allclose(ours.predict(new, random=False), ours.predict(data.head(3), random=False))


def test_ordered_categories_scale_and_splines(data):
    grades = pd.Categorical(np.resize(["low", "mid", "high"], len(data)), ["low", "mid", "high"], ordered=True)
    fit = crossed.fit("y ~ grade + scale(x) + (1 | run)", data.assign(grade=grades))
    assert fit.names == ["Intercept", "grade[mid]", "grade[high]", "scale(x)"]
    np.testing.assert_allclose(fit.design.fixed.columns[:, 3], stats.zscore(data["x"], ddof=0), atol=1e-12)
    spline = crossed.fit("y ~ bs(x, df=4) + (1 | run)", data).design.fixed.columns
    theirs = np.asarray(patsy.dmatrix("bs(x, df=4)", data))  # which is R's
    assert np.linalg.matrix_rank(spline) == np.linalg.matrix_rank(np.hstack([spline, theirs])) == 5


def test_the_restricted_likelihood_depends_on_units(data):
    fit = crossed.fit("y ~ I(10*x) + (1 | run) + (1 | sentence)", data)
    assert fit.llf == pytest.approx(crossed.fit(FORMULA, data).llf - np.log(10), abs=1e-6)


def test_balanced_tables_take_the_intervals_in_closed_form(data):
    plain = crossed.fit("y ~ 1 + (1 | run) + (1 | sentence)", data)
    assert plain.profile_intervals()["method"].str.startswith("generalised").all()
    assert crossed.fit(FORMULA, data).profile_intervals()["method"].eq("REML profile").all()


@pytest.mark.slow
def test_shares_have_intervals_where_no_term_has_slopes(page):
    assert set(page["fit"].profile_intervals()["quantity"]) == {"sd"}
    assert set(page["smaller"].profile_intervals()["quantity"]) == {"sd", "share"}


def test_the_limit_of_dense_effects_is_the_one_that_is_named():
    assert f"may number {DENSE_COLUMNS:,} in all" in " ".join(PAGE.split())

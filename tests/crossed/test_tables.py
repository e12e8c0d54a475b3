import numpy as np
import pandas as pd
import pytest

import crossed
from crossed.errors import InputError
from tests.crossed.simulated import dense_covariance, simulate

FORMULA = "y ~ scale(x) * kind + (x | run) + (1 | sentence) + (1 | run:sentence)"


@pytest.fixture(scope="module")
def data():
    data = simulate(runs=5, sentences=8, repeats=2, seed=2, slope=0.3, interaction=0.4)
    return data.assign(kind=np.where(np.arange(len(data)) % 3, "b", "a"))


@pytest.fixture(scope="module")
def fit(data):
    return crossed.fit(FORMULA, data)


def test_the_rows_of_the_fit_are_predicted_as_they_were_fitted(fit, data):
    np.testing.assert_allclose(fit.predict(data), fit.fittedvalues, rtol=1e-12)
    np.testing.assert_allclose(fit.fittedvalues + fit.resid, data["y"], rtol=1e-12)
    np.testing.assert_allclose(fit.predict(data, random=False), fit.predict(random=False), rtol=1e-12)
    few = data.sample(n=7, random_state=0)  # other means, one category alone: scale() and kind stay as they were
    np.testing.assert_allclose(fit.predict(few), fit.fittedvalues[few.index], rtol=1e-12)


def test_new_levels_get_the_average(fit, data):
    new = data.head(4).assign(run="r77", sentence="s999")
    np.testing.assert_allclose(fit.predict(new, random=False), fit.predict(random=False)[:4])
    np.testing.assert_allclose(fit.predict(new[["x", "kind"]], random=False), fit.predict(random=False)[:4])
    for rows, message in (
        (new, "run r77 was not in the data of the fit"),
        (data.head(4).assign(sentence="s999"), "sentence s999 was not"),
        (data.head(4).drop(columns="x"), "no column 'x'"),
        (data.head(4).assign(x=[1, 2, np.nan, 4]), "'x' is missing or infinite .* 2"),
        (data.head(4).assign(kind="c"), "cannot be computed from the new data"),
    ):
        with pytest.raises(InputError, match=message):
            fit.predict(rows)


def test_a_level_of_another_type_is_named_with_its_type(data):
    numbered = data.assign(run=data["run"].str[1:].astype(int))
    fit = crossed.fit("y ~ x + (1 | run)", numbered)
    with pytest.raises(InputError, match=r"run 1 was not .* fit are int64 .* those given \w+ \(str, e.g. '1'\)"):
        fit.predict(numbered.head(2).assign(run="1"))


def test_r2_are_shares_of_the_total(data):
    fit = crossed.fit("y ~ x + (x | run) + (1 | sentence)", data)
    fixed = np.var(fit.predict(random=False), ddof=1)
    # The mean over rows of V's diagonal is random + residual variance, slopes included.
    both = np.diag(dense_covariance(fit.vcomp, data)).mean()
    found = fit.r2()
    assert found["marginal"] == pytest.approx(fixed / (fixed + both), rel=1e-9)
    assert found["conditional"] == pytest.approx((fixed + both - fit.scale) / (fixed + both), rel=1e-9)
    shares = fit.icc()
    assert shares["share"].sum() == pytest.approx(1)
    assert shares["share"].iloc[-1] == pytest.approx(fit.scale / both, rel=1e-9)


def test_r2_do_not_depend_on_units(data):
    before = crossed.fit("y ~ x + (x | run)", data).r2()
    after = crossed.fit("y ~ x + (x | run)", data.assign(y=1e9 * data["y"] - 5, x=100 * data["x"] + 3)).r2()
    pd.testing.assert_series_equal(before, after, rtol=1e-6)


def test_groups_of_float16_are_those_of_float64(data):
    halves = data.assign(run=data["run"].astype("category").cat.codes / 2)
    small = halves.assign(run=halves["run"].astype("float16"))
    for formula in ("y ~ x + (1 | run)", "y ~ x + (1 | run:sentence)"):
        one, two = (crossed.fit(formula, table) for table in (halves, small))
        assert one.llf == two.llf
        np.testing.assert_array_equal(two.predict(small.iloc[[3, 1]]), one.predict(halves.iloc[[3, 1]]))

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

import crossed
from crossed.errors import InputError
from tests.crossed.simulated import simulate

FORMULA = "y ~ x + (x || run) + (1 | sentence)"


@pytest.fixture(scope="module")
def many():
    parts = [
        simulate(runs=4, sentences=8, seed=10 * layer + place, slope=0.2).assign(layer=layer, term=term)
        for layer in (2, 1)
        for place, term in enumerate("SF")
    ]
    return pd.concat(parts, ignore_index=True)


def fit_each(*arguments, **options):
    return crossed.fit_each(*arguments, progress=False, **options)


def test_each_row_is_the_fit_of_its_group(many):
    table = fit_each(FORMULA, many, by=["layer", "term"])
    assert table[["layer", "term"]].to_numpy().tolist() == [[2, "S"], [2, "F"], [1, "S"], [1, "F"]]
    for row in table.itertuples():
        fit = crossed.fit(FORMULA, many[(many["layer"] == row.layer) & (many["term"] == row.term)])
        assert row.parameter == "x"
        assert (row.estimate, row.se, row.p) == (fit.params["x"], fit.bse["x"], fit.pvalues["x"])
        assert (row.lower, row.upper) == tuple(fit.conf_int().loc["x"])
        assert (row.nobs, row.converged, row.boundary) == (32, fit.converged, fit.boundary)
    sds = ["sd run", "sd run: x", "sd sentence", "sd Residual"]
    np.testing.assert_array_equal(table.loc[3, sds].astype(float), fit.vcomp["sd"])
    assert table["reason"].isna().all()


@pytest.mark.slow
def test_the_family_is_all_of_its_tests(many):
    table = fit_each("y ~ x + repeat2 + (1 | run)", many.assign(repeat2=np.arange(len(many)) % 7.0), by="layer")
    assert table["parameter"].tolist() == ["x", "repeat2"] * 2
    np.testing.assert_allclose(table["p_holm"], multipletests(table["p"], method="holm")[1])
    np.testing.assert_allclose(table["p_bh"], multipletests(table["p"], method="fdr_bh")[1])
    data = many.assign(repeat2=np.arange(len(many)) % 7.0)
    one = fit_each("y ~ x + repeat2 + (1 | run)", data, by="layer", parameters=["repeat2"])
    np.testing.assert_allclose(one["p_holm"], multipletests(one["p"], method="holm")[1])
    assert len(one) == 2
    alone = fit_each("y ~ 1 + (1 | run)", many, by=["layer"])
    assert alone["parameter"].tolist() == ["Intercept"] * 2


@pytest.mark.slow
def test_processes_change_nothing(many):
    one, two = (fit_each(FORMULA, many, by=["layer", "term"], jobs=jobs) for jobs in (1, 2))
    pd.testing.assert_frame_equal(one, two)


def test_a_group_that_cannot_be_fitted_is_a_row_with_its_reason(many):
    broken = many.copy()
    broken.loc[(broken["layer"] == 2) & (broken["term"] == "F"), "x"] = 1.0
    broken.loc[(broken["layer"] == 1) & (broken["term"] == "F"), "y"] = 0.5
    table = fit_each("y ~ x + (1 | run)", broken, by=["layer", "term"])
    assert len(table) == 4
    assert table["reason"].isna().tolist() == [True, False, True, False]
    assert "'x' is constant" in table["reason"][1]
    assert "'y' is constant" in table["reason"][3]
    assert table.loc[[1, 3], ["estimate", "p", "p_holm", "converged"]].isna().all(axis=None)
    np.testing.assert_allclose(table["p_holm"].dropna(), multipletests(table["p"].dropna(), method="holm")[1])
    nothing = fit_each("y ~ x + (1 | run)", broken[broken["x"] == 1.0], by=["layer", "term"])
    assert list(nothing.columns) == [name for name in table.columns if not name.startswith("sd ")]
    assert len(nothing) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": ["layers"]}, "no column 'layers'. Did you mean 'layer'"),
        ({"by": []}, "names no column"),
        ({"by": ["run"]}, r"\['run'\] cannot be in by and in the formula"),
        ({"by": ["layer"], "jobs": 0}, "jobs=0"),
        ({"by": ["layer"], "level": 2}, "level=2"),
        ({"by": ["layer"], "level": "0.95"}, "level='0.95'"),
        ({"by": ["layer"], "reml": "ML"}, "reml='ML'"),
        ({"by": ["layer", "layer"]}, "names one of them twice"),
        ({"by": ["p"]}, r"columns \['p'\] of its own"),
        ({"by": ["sd run"]}, "of its own"),
        ({"by": 3}, "one name or a list"),
        ({"by": ["layer"], "parameters": "tokens"}, r"no group has the parameter\(s\) \['tokens'\]"),
        (
            {"by": ["layer"], "parameters": ["w"]},
            r"no group has the parameter\(s\) \['w'\]. no fixed parameter \['w'\]",
        ),
        ({"by": ["gap"]}, "missing values"),
    ],
)
def test_bad_input(many, arguments, message):
    data = many.assign(gap=many["term"].where(many["layer"] == 1), p=1, **{"sd run": 1})
    with pytest.raises(InputError, match=message):
        fit_each(FORMULA, data, **arguments)


def test_one_name_is_one_group_and_one_parameter(many):
    one, two = (fit_each(FORMULA, many, by, parameters=names) for by, names in (("layer", "x"), (["layer"], ["x"])))
    pd.testing.assert_frame_equal(one, two)


def test_a_parameter_means_the_same_in_every_group(many):
    """ "kind[c]" is c minus the first level that is there: where that is another, the name does not say so."""
    kinds = np.tile(["a", "b", "c"], len(many))[: len(many)]
    data = many.assign(kind=np.where((many["layer"] == 2) & (kinds == "a"), "b", kinds))
    with pytest.raises(InputError, match=r"first level of 'kind' is 'b' where \['layer'\] is 2, and 'a' where it is 1"):
        fit_each("y ~ kind + (1 | run)", data, "layer")
    table = fit_each("y ~ T(kind, 'b') + (1 | run)", data, "layer", parameters="T(kind, 'b')[c]")
    assert table["estimate"].notna().all()


def test_no_rows(many):
    with pytest.raises(InputError, match="no rows"):
        fit_each(FORMULA, many.iloc[:0], by=["layer"])

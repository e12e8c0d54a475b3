"""Parity with R's lme4 and lmerTest: their figures stand in lme4/expected.json, with the script that made them.

``python tests/crossed/test_lme4.py`` prints the largest difference in each quantity.
"""

import json
import shutil
import subprocess
from functools import cache
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import crossed
from crossed.balanced import crossed_shares

FOLDER = Path(__file__).parent / "lme4"
SCRIPT = FOLDER / "make_fixtures.R"

# The largest difference allowed in each quantity; relative, but of log-likelihoods, criteria and p-values.
ALLOWED = {
    "llf": 1e-6,
    "aic": 2e-6,
    "bic": 2e-6,
    "params": 1e-4,
    "variances": 1e-4,
    "covariances": 1e-4,  # relative to the product of the two SDs
    "bse": 1e-3,
    "df": 1e-2,
    "pvalues": 1e-3,
    "random effects": 1e-3,  # relative to their SD
}


@cache
def expected() -> dict:
    return json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


def cases() -> dict[str, dict]:
    return {case["name"]: case for case in expected()["cases"]}


@cache
def table(name: str) -> pd.DataFrame:
    return pd.read_csv(FOLDER / f"{name}.csv")


@cache
def fitted(name: str, reml: bool) -> crossed.MixedFit:
    case = cases()[name]
    return crossed.fit(case["formula"], table(case["table"]), reml=reml)


def _group(name: str) -> str:
    """The interaction of ``(1 | run/sentence)`` is "sentence:run" in lme4, "run:sentence" here."""
    return ":".join(sorted(name.split(":")))


def _components(rows: pd.DataFrame) -> dict[tuple, tuple[float, float]]:
    """Variances and covariances, each with its SD or correlation, by group and the terms concerned."""
    missing = rows[["term", "term2"]].isna()
    return {
        (_group(row.group), *sorted([row.term] * (not no_term) + [row.term2] * (not no_other))): (row.variance, row.sd)
        for row, no_term, no_other in zip(rows.itertuples(), missing["term"], missing["term2"], strict=True)
    }


def _effects(found: dict[str, pd.DataFrame]) -> pd.Series:
    """Predicted effects by group, level and term; the parts of an interaction's level in the order of its name."""
    rows = {}
    for group, frame in found.items():
        order = np.argsort(group.split(":"))
        for level, effects in zip(frame.index, frame.to_dict("records"), strict=True):
            parts = [str(part) for part in (level if isinstance(level, tuple) else str(level).split(":"))]
            name = ":".join(parts[place] for place in order)
            rows |= {(_group(group), name, term): value for term, value in effects.items()}
    return pd.Series(rows).sort_index()


def differences(fit: crossed.MixedFit, stored: dict) -> dict[str, float]:
    """The largest difference in each quantity of `ALLOWED` between a fit and the figures of lme4."""
    found = {name: abs(getattr(fit, name) - stored[name]) for name in ("llf", "aic", "bic")}
    for name in ("params", "bse", "df"):
        given = np.atleast_1d(stored[name])
        found[name] = np.abs(getattr(fit, name).to_numpy() / given - 1).max()
    found["pvalues"] = np.abs(fit.pvalues.to_numpy() - np.atleast_1d(stored["pvalues"])).max()

    ours = _components(fit.vcomp)
    theirs = _components(pd.DataFrame(stored["vcomp"]).reindex(columns=["group", "term", "term2", "variance", "sd"]))
    assert ours.keys() == theirs.keys()
    sds = {(group, terms[0]): sd for (group, *terms), (_, sd) in theirs.items() if len(terms) == 1}
    residual = theirs["Residual",][0]
    variances, covariances = [], [0.0]
    for key, (variance, _) in theirs.items():
        if len(key) == 3:
            group, one, two = key
            covariances.append(abs(ours[key][0] - variance) / (sds[group, one] * sds[group, two]))
        else:  # one at zero has no relative difference: a millionth of the residual variance is as good as zero
            variances.append(abs(ours[key][0] - variance) / max(variance, 1e-2 * residual))
            assert ours[key][1] == pytest.approx(np.sqrt(ours[key][0]), rel=1e-12)
    found["variances"], found["covariances"] = max(variances), max(covariances)

    predicted = _effects(fit.random_effects)
    given = {
        group: pd.DataFrame(part["effects"], index=part["levels"]) for group, part in stored["random_effects"].items()
    }
    given = _effects(given)
    assert predicted.index.equals(given.index)
    spread = np.array([max(sds[group, term], 1e-2 * np.sqrt(residual)) for group, _, term in given.index])
    found["random effects"] = np.max(np.abs(predicted - given) / spread)
    return found


def too_large(found: dict[str, float]) -> dict[str, float]:
    return {quantity: found[quantity] for quantity in ALLOWED if not found[quantity] <= ALLOWED[quantity]}


# Parity


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("name", cases())
def test_figures_are_those_of_lme4(name, reml):
    case = cases()[name]
    stored = case["reml" if reml else "ml"]
    fit = fitted(name, reml)
    assert fit.nobs == case["rows"]
    assert fit.converged
    assert fit.boundary == stored["singular"]
    found = differences(fit, stored)
    assert too_large(found) == {}


@pytest.mark.parametrize("name", [name for name, case in cases().items() if "profile" in case])
def test_profile_intervals_are_those_of_lme4(name):
    """lme4 profiles maximum likelihood, and finds the limits by a spline through its profile: to about 3 figures."""
    found = fitted(name, False).profile_intervals(method="profile").query("quantity == 'sd'").set_index("group")
    stored = pd.DataFrame(cases()[name]["profile"]).set_index("group").loc[found.index]
    np.testing.assert_allclose(found[["lower", "upper"]], stored, rtol=1e-3)


def test_the_cases_hold_what_they_are_named_for():
    """Slopes, correlations, an interaction, several factors, a boundary of each kind, missing and repeated cells."""
    found = {name: pd.DataFrame(case["reml"]["vcomp"]) for name, case in cases().items()}
    assert [name for name, case in cases().items() if case["reml"]["singular"]] == ["boundary", "boundary, correlation"]
    correlation = found["boundary, correlation"].query("group == 'run' and term2 == 'x'")["sd"].item()
    assert correlation == pytest.approx(1, abs=1e-9)
    assert found["uncorrelated slopes"]["term2"].notna().sum() == 0
    assert list(found["uncorrelated slopes"].query("group == 'run'")["term"]) == ["x", "Intercept"]
    assert found["correlated slopes"]["term2"].notna().sum() == 1
    assert {"run", "sentence", "run:sentence"} < set(found["interaction"]["group"])
    assert {"run", "sentence", "checkpoint"} < set(found["three factors"]["group"])
    counts = table("unbalanced").groupby(["run", "sentence"]).size()
    assert len(counts) < table("unbalanced")["run"].nunique() * table("unbalanced")["sentence"].nunique()
    assert counts.max() == 2
    assert (table("balanced").groupby(["run", "sentence"]).size().to_numpy() == 1).all()
    assert len(table("balanced")) == table("balanced")["run"].nunique() * table("balanced")["sentence"].nunique()


def test_a_wrong_fit_is_seen():
    """The comparison can fail: another criterion, and one value of 181 moved by a hundredth."""
    stored = cases()["crossed unbalanced"]["reml"]
    found = differences(fitted("crossed unbalanced", False), stored)
    assert too_large(found).keys() >= {"llf", "variances", "bse", "df"}
    data = table("unbalanced")
    slightly = data.assign(y=data["y"].where(data.index != 3, data["y"] + 0.01))
    found = differences(crossed.fit(cases()["crossed unbalanced"]["formula"], slightly), stored)
    assert too_large(found).keys() >= {"llf", "random effects"}


# R itself, where it is installed


def _r(*arguments: str) -> str:
    """What the script prints; skips where R or one of its packages is missing."""
    program = shutil.which("Rscript")
    if program is None:
        pytest.skip("R is not installed: no Rscript on the path")
    for package in ("lme4", "lmerTest", "jsonlite"):
        probe = f'quit(status = !requireNamespace("{package}", quietly = TRUE))'
        if subprocess.run([program, "-e", probe], capture_output=True).returncode:
            pytest.skip(f"R is installed without its package {package}")
    answer = subprocess.run([program, str(SCRIPT), *arguments], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_r_still_gives_the_stored_tables_and_figures(tmp_path):
    _r(str(tmp_path), "simulate")
    names = {case["table"] for case in cases().values()}
    assert {file.stem for file in FOLDER.glob("*.csv")} == names
    for name in names:
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / f"{name}.csv"), table(name), rtol=0, atol=2e-6)
    again = {case["name"]: case for case in json.loads((tmp_path / "expected.json").read_text())["cases"]}
    assert again.keys() == cases().keys()
    for name, case in cases().items():
        for criterion in ("reml", "ml"):
            one, other = case[criterion], again[name][criterion]
            assert one["llf"] == pytest.approx(other["llf"], abs=1e-6), name
            for quantity, tolerance in (("params", 1e-4), ("bse", 1e-3), ("df", 1e-2)):
                np.testing.assert_allclose(other[quantity], one[quantity], rtol=tolerance, err_msg=name)
            frames = [pd.DataFrame(case["vcomp"])["variance"] for case in (one, other)]
            np.testing.assert_allclose(frames[1], frames[0], rtol=1e-4, atol=1e-8, err_msg=name)


def test_the_published_penicillin_figures():
    """Davies and Goldsmith (1972) by way of lme4's own copy, which is read from R and kept nowhere."""
    answer = json.loads(_r("-", "penicillin"))
    data = pd.read_json(StringIO(json.dumps(answer["data"])))
    assert data.shape == (144, 3)
    formula = "diameter ~ 1 + (1 | plate) + (1 | sample)"
    reml, ml = crossed.fit(formula, data), crossed.fit(formula, data, reml=False)
    assert -2 * reml.llf == pytest.approx(330.860589, abs=1e-6)
    assert -2 * ml.llf == pytest.approx(332.188349, abs=1e-6)
    # As printed these come from lme4's default search, which stops where they are right to a few parts in 100,000 ...
    np.testing.assert_allclose(reml.vcomp["variance"], [0.716905, 3.731132, 0.302415], rtol=1e-4)
    assert reml.params["Intercept"] == pytest.approx(22.972222, abs=1e-6)
    assert reml.bse["Intercept"] == pytest.approx(0.808595, rel=1e-4)
    # ... and here is where the search would have ended: no missing cell, so the analysis of variance in closed form.
    table = crossed_shares(data, "diameter", "plate", "sample", draws=1000)
    np.testing.assert_allclose(reml.vcomp["variance"], table["variance"], rtol=1e-8)
    for fit, criterion in ((reml, "reml"), (ml, "ml")):
        found = differences(fit, answer["fit"][criterion])
        assert too_large(found) == {}


if __name__ == "__main__":
    rows = [
        {"case": name, "criterion": criterion} | differences(fitted(name, criterion == "reml"), case[criterion])
        for name, case in cases().items()
        for criterion in ("reml", "ml")
    ]
    found = pd.DataFrame(rows).set_index(["case", "criterion"])
    print(found.to_string(float_format="{:.1e}".format))
    print(pd.DataFrame({"largest": found.max(), "allowed": pd.Series(ALLOWED)}).to_string(float_format="{:.1e}".format))

"""The likelihood by blocked elimination is the likelihood: by brute force, and by its own differences."""

import numpy as np
import pytest

import crossed
from crossed import likelihood as engine
from crossed.design import design
from crossed.errors import InputError
from crossed.formulas import parse
from crossed.scaling import standardise
from tests.crossed.simulated import dense_covariance, dense_likelihood, simulate

FORMULAS = {
    "y ~ 1 + (1 | run)": [],
    "y ~ 1 + (1 | run) + (1 | sentence)": [],
    "y ~ x + (1 | run) + (1 | sentence)": ["x"],
    "y ~ x + (1 | run) + (1 | sentence) + (1 | run:sentence)": ["x"],
    "y ~ x + (x | run) + (1 | sentence)": ["x"],
    "y ~ x + (x || run) + (1 | sentence) + (1 | run:sentence)": ["x"],
    "y ~ x + (x + z | run)": ["x", "z"],
    "y ~ x + (1 | sentence) + (0 + x | run)": ["x"],
    "y ~ x + (1 | run/sentence)": ["x"],
    "y ~ x + (x | run) + (z | sentence)": ["x", "z"],
    "y ~ (1 | sentence) + (1 | start:sentence) + (1 | order:sentence)": [],
    "y ~ (1 | start) + (1 | sentence) + (1 | start:sentence) + (1 | order:sentence)": [],
    "y ~ x + (x | run) + (1 | sentence) + (1 | start:sentence) + (1 | order:sentence)": ["x"],
}


@pytest.fixture(scope="module")
def forty():
    """Forty rows with missing cells and repeated ones."""
    data = simulate(runs=4, sentences=7, repeats=3, seed=4, slope=0.3, interaction=0.5)
    data["z"] = np.random.default_rng(9).normal(size=len(data))
    data["start"], data["order"] = data["run"].isin(["r0", "r1"]), data["run"].isin(["r0", "r2"])
    return data.sample(n=40, random_state=3).reset_index(drop=True)


def fixed(formula, data):
    names = ["x"] if "~ x" in formula else []
    return np.column_stack([np.ones(len(data)), *(data[name] for name in names)])


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("formula", FORMULAS)
def test_brute_force_at_the_fit(forty, formula, reml):
    fit, x = crossed.fit(formula, forty, reml=reml), fixed(formula, forty)
    assert fit.converged
    assert dense_likelihood(fit.vcomp, forty, x, reml) == pytest.approx(fit.llf, abs=1e-9)
    v = dense_covariance(fit.vcomp, forty)
    covariance = np.linalg.inv(x.T @ np.linalg.solve(v, x))
    np.testing.assert_allclose(fit.cov_params, covariance, rtol=1e-8)
    np.testing.assert_allclose(fit.params, covariance @ x.T @ np.linalg.solve(v, forty["y"]), rtol=1e-8)
    # Fitted values: y less the part of it that is residual, scale inverse(V) (y - X beta).
    left = fit.scale * np.linalg.solve(v, forty["y"] - x @ fit.params)
    np.testing.assert_allclose(fit.resid, left, atol=1e-9)


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_nearby_components_are_more_likely(forty, formula):
    """By the dense likelihood, which knows nothing of the search."""
    fit, x = crossed.fit(formula, forty), fixed(formula, forty)
    generator = np.random.default_rng(5)
    for _ in range(30):
        moved = fit.vcomp.copy()
        for group in moved["group"].unique():
            moved.loc[moved["group"] == group, "variance"] *= np.exp(generator.normal(0, 0.05))
        assert dense_likelihood(moved, forty, x, True) <= fit.llf + 1e-9


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("formula", FORMULAS)
def test_the_gradient_is_that_of_the_deviance(forty, formula, reml, held):
    _, likelihood = standardise(design(parse(formula), forty), reml)
    template = likelihood.template
    theta = 0.5 + np.random.default_rng(1).random(len(template))
    log_sigma = -0.3 if held else None
    _, slopes, by_sigma = likelihood.gradient(template.blocks(theta), log_sigma)
    step = 1e-5
    for number, slope in enumerate(template.vector(slopes)):
        change = step * (np.arange(len(theta)) == number)
        ahead, behind = (likelihood.deviance(template.blocks(theta + s * change), log_sigma) for s in (1, -1))
        assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-6, abs=1e-6)
    if held:
        ahead, behind = (likelihood.deviance(template.blocks(theta), log_sigma + s) for s in (step, -step))
        assert by_sigma == pytest.approx((ahead - behind) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("share", [1.0, 0.6])
def test_grouped_and_loose_sums_are_the_same(monkeypatch, repeats, share):
    """Balanced designs share their sums; with every sum kept loose nothing changes."""
    data = simulate(runs=5, sentences=60, repeats=repeats, interaction=0.5).sample(frac=share, random_state=1)
    formula = "y ~ x + (x | run) + (1 | sentence)" + (" + (1 | run:sentence)" if repeats > 1 else "")
    arrays = design(parse(formula), data)
    found = []
    for entries in (4_000_000, 1):
        monkeypatch.setattr("crossed.elimination._ENTRIES", entries)
        _, likelihood = standardise(arrays, True)
        template = likelihood.template
        theta = np.linspace(0.4, 1.2, len(template))
        value, slopes, _ = likelihood.gradient(template.blocks(theta))
        found.append((value, template.vector(slopes)))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-8)


def test_what_is_eliminated():
    data = simulate(runs=4, sentences=9, repeats=2)
    data["start"], data["order"] = data["run"].isin(["r0", "r1"]), data["run"].isin(["r0", "r2"])
    by_sentence = ["sentence", "start:sentence", "order:sentence"]
    expected = {
        "y ~ (1 | run) + (1 | sentence)": ["sentence"],
        "y ~ (1 | run) + (1 | sentence) + (1 | run:sentence)": ["run:sentence", "sentence"],
        "y ~ (1 | run/sentence)": ["run:sentence", "run"],
        "y ~ x + (x | run) + (1 | sentence)": ["sentence"],
        "y ~ x + (x | run)": [],
        "y ~ (1 | run) + (1 | sentence) + (1 | start:sentence) + (1 | order:sentence)": by_sentence,
    }
    for formula, names in expected.items():
        fit = crossed.fit(formula, data)
        groups = [effects.grouping.name for effects in fit.design.effects]
        assert [groups[number] for number in fit.likelihood.eliminated] == names


def test_too_many_dense_effects_are_refused(monkeypatch):
    monkeypatch.setattr(engine, "DENSE_COLUMNS", 30)
    data = simulate(runs=5, sentences=20)
    crossed.fit("y ~ x + (1 | run) + (1 | sentence)", data)
    with pytest.raises(InputError, match=r"40 random effects \(\(Intercept \+ x \| sentence\) 40\) are left"):
        crossed.fit("y ~ x + (1 | run) + (x | sentence)", data)

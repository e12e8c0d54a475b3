import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

import crossed
from crossed.balanced import crossed_shares
from crossed.errors import InputError
from crossed.profile import sd_profile, share_profile
from crossed.search import minimise
from tests.crossed.simulated import dense_likelihood, simulate

CROSSED = "y ~ 1 + (1 | run) + (1 | sentence)"


@pytest.fixture(scope="module")
def unbalanced():
    data = simulate(runs=5, sentences=12, seed=4, slope=0.4, repeats=2, interaction=1.5)
    return data.assign(x=data["x"] - 10).sample(n=100, random_state=1).reset_index(drop=True)


@pytest.mark.slow
@pytest.mark.parametrize("reml", [True, False])
def test_limits_lie_where_the_dense_likelihood_has_fallen_by_the_quantile(unbalanced, reml):
    """Each limit held, the other components found anew by a search in the dense likelihood."""
    data = unbalanced.iloc[:40]
    fit = crossed.fit(CROSSED, data, reml=reml)
    table = fit.profile_intervals(method="profile")
    x = np.ones((len(data), 1))
    fall = stats.chi2.ppf(0.95, 1) / 2
    for row in table.itertuples():
        place = ["run", "sentence", "Residual"].index(row.group)
        for limit in (row.lower, row.upper):
            if not 0 < limit < (np.inf if row.quantity == "sd" else 1):
                continue

            def lost(logs, limit=limit, place=place, row=row):
                sizes = np.exp(logs)
                if row.quantity == "sd":
                    sizes = np.insert(sizes, place, limit**2)
                else:
                    others = np.append(sizes[0], 1.0) * sizes[1]  # their ratio, and their sum's size
                    sizes = np.insert(others, place, others.sum() * limit / (1 - limit))
                return -dense_likelihood(fit.vcomp.assign(variance=sizes), data, x, reml)

            found = optimize.minimize(lost, [0.0, 0.0], method="Nelder-Mead", options={"fatol": 1e-8, "xatol": 1e-4})
            assert fit.llf + found.fun == pytest.approx(fall, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "formula",
    [
        CROSSED + " + (1 | run:sentence)",
        "y ~ x + (x | run) + (1 | sentence)",
        "y ~ x + (x || run) + (1 | sentence)",
        "y ~ x + (1 | run)",
    ],
)
def test_a_profile_is_lowest_at_the_estimate(unbalanced, formula):
    fit = crossed.fit(formula, unbalanced)
    table = fit.profile_intervals(method="profile")
    assert ((table["lower"] <= table["estimate"]) & (table["estimate"] <= table["upper"])).all()
    places = [(n, k) for n, e in enumerate(fit.design.effects) for k in range(len(e.names))] + [None]
    for place, row in zip(places, table[table["quantity"] == "sd"].itertuples(), strict=True):
        profile, estimate = sd_profile(fit, place), row.estimate / fit.scaling.unit
        assert profile(estimate) == pytest.approx(fit.optimum.deviance, abs=1e-7)
        values = [profile(ratio * estimate) for ratio in (0.25, 0.5, 0.8, 1.0, 1.25, 2, 4)]
        assert (np.diff(values[:4]) < 0).all()
        assert (np.diff(values[3:]) > 0).all()
    for row in table[table["quantity"] == "share"].itertuples():
        place = None if row.group == "Residual" else (list(fit.levels).index(row.group), 0)
        profile = share_profile(fit, place)
        assert profile(row.estimate) == pytest.approx(fit.optimum.deviance, abs=1e-7)
        assert min(profile(row.estimate * 0.9), profile(row.estimate * 1.05)) > fit.optimum.deviance
    assert set(table["quantity"]) == ({"sd"} if "x |" in formula else {"sd", "share"})


@pytest.mark.slow
def test_an_sd_keeps_its_interval_when_predictors_and_outcome_change_units(unbalanced):
    formula = "y ~ x + (x | run) + (1 | sentence)"
    before = crossed.fit(formula, unbalanced).profile_intervals()
    moved = unbalanced.assign(y=1e9 * unbalanced["y"], x=20 * unbalanced["x"])
    after = crossed.fit(formula, moved).profile_intervals()
    factor = np.where(before["term"] == "x", 1e9 / 20, 1e9)
    for column in ("estimate", "lower", "upper"):
        np.testing.assert_allclose(after[column], factor * before[column], rtol=1e-4)


@pytest.mark.slow
def test_limits_do_not_move_with_a_predictor_nor_with_the_order_of_questions():
    """The SD of a slope is the same wherever its predictor is zero, and what was asked before changes no answer."""
    generator = np.random.default_rng(13)
    run = np.repeat(np.arange(4), 25)
    x, effects = generator.normal(size=100), generator.normal(size=(4, 2)) * [0.2, 1.0]
    y = effects[run, 0] + effects[run, 1] * x + generator.normal(size=100)
    data = pd.DataFrame({"run": run, "x": x, "y": y})
    fits = [crossed.fit("y ~ x + (x | run)", data.assign(x=x + shift)) for shift in (0, 20)]
    limits = [fit.profile_intervals().set_index("term").loc["x", ["lower", "upper"]].astype(float) for fit in fits]
    np.testing.assert_allclose(limits[1], limits[0], rtol=1e-4)
    target = fits[0].optimum.deviance + stats.chi2.ppf(0.95, 1)
    for limit in limits[0] / fits[0].scaling.unit:
        profile = sd_profile(fits[0], (0, 1))  # asked nothing before
        assert profile(limit) == pytest.approx(target, abs=1e-4)
        for _ in range(8):  # searches from elsewhere find nothing lower
            start = np.append(generator.normal(size=2), profile.starts[0][-1])
            lowest = minimise(
                lambda point, h=limit, p=profile: p.objective(h, point), start, profile.lower, profile.zeros
            )
            assert lowest[0] >= target - 1e-4


@pytest.mark.slow
def test_balanced_crossings_get_generalised_intervals(unbalanced):
    data = simulate(runs=4, sentences=15, seed=1)
    table = crossed.fit(CROSSED, data).profile_intervals()
    exact = crossed_shares(data, "y", "run", "sentence")
    assert set(table["method"]) == {"generalised (balanced crossing)"}
    shares, sds = (table[table["quantity"] == quantity] for quantity in ("share", "sd"))
    np.testing.assert_allclose(shares["lower"], exact["share_lower"], rtol=1e-8)
    np.testing.assert_allclose(sds["upper"] ** 2, exact["variance_upper"], rtol=1e-8)
    assert list(table["levels"].dropna()) == [4, 15, 4, 15]
    repeated = simulate(runs=4, sentences=15, repeats=3, interaction=0.5)
    table = crossed.fit(CROSSED + " + (1 | run:sentence)", repeated).profile_intervals()
    exact = crossed_shares(repeated, "y", "run", "sentence", replicate="repeat")
    np.testing.assert_allclose(table["upper"][4:], exact["share_upper"], rtol=1e-8)
    for formula, rows, reason in (
        (CROSSED, unbalanced, "the crossing is not balanced"),
        (CROSSED, repeated, "repeated values and the model has no interaction"),
        ("y ~ x + (1 | run) + (1 | sentence)", data, "no fixed effect but the intercept"),
        ("y ~ 1 + (1 | run)", data, "two crossed factors"),
    ):
        fit = crossed.fit(formula, rows)
        assert set(fit.profile_intervals()["method"]) == {"REML profile"}
        with pytest.raises(InputError, match=reason):
            fit.profile_intervals(method="generalised")


def test_at_the_boundary_the_lower_limit_is_zero_and_the_upper_one_is_not():
    data = simulate(seed=3)
    data["y"] -= 0.95 * data.groupby("run")["y"].transform("mean")
    fit = crossed.fit(CROSSED, data)
    assert fit.boundary
    table = fit.profile_intervals(method="profile")
    runs = table[table["group"] == "run"]
    assert runs["boundary"].all()
    assert (runs["lower"] == 0).all()
    assert ((runs["upper"] > 0) & (runs["upper"] < 0.5)).all()
    assert not table.loc[table["group"] != "run", "boundary"].any()
    exact = fit.profile_intervals(method="generalised")
    assert (exact.loc[exact["group"] == "run", ["estimate", "lower"]] == 0).all(axis=None)


def test_shares_close_to_the_whole_have_limits_too():
    data = simulate(runs=6, sentences=4, sds=(1.0, 0.0, 1e-3), repeats=3)
    data["y"] -= 0.2 * data["x"]
    table = crossed.fit("y ~ 1 + (1 | run)", data).profile_intervals()
    shares = table[table["quantity"] == "share"]
    # With one random term the two shares are one number.
    np.testing.assert_allclose(1 - shares["lower"].iloc[0], shares["upper"].iloc[1], rtol=1e-3)
    np.testing.assert_allclose(1 - shares["upper"].iloc[0], shares["lower"].iloc[1], rtol=1e-3)


def test_a_wider_level_is_wider(unbalanced):
    fit = crossed.fit(CROSSED, unbalanced)
    narrow, wide = (fit.profile_intervals(level) for level in (0.5, 0.99))
    assert (wide["lower"] < narrow["lower"]).all()
    assert (narrow["upper"] < wide["upper"]).all()


@pytest.mark.parametrize(
    ("arguments", "message"), [({"level": 95}, "level=95"), ({"method": "bootstrap"}, "is not one of")]
)
def test_bad_input(unbalanced, arguments, message):
    with pytest.raises(InputError, match=message):
        crossed.fit(CROSSED, unbalanced).profile_intervals(**arguments)

import numpy as np
import pytest
from scipy import stats

import crossed
from crossed.balanced import crossed_shares
from crossed.satterthwaite import degrees
from tests.crossed.simulated import dense_covariance, dense_likelihood, simulate, variances


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_closed_form_of_a_balanced_crossing(seed):
    """Var(mean) = (M_run + M_sentence - M_error) / n: Satterthwaite's own sum of mean squares."""
    data = simulate(seed=seed)
    fit = crossed.fit("y ~ 1 + (1 | run) + (1 | sentence)", data)
    table = crossed_shares(data, "y", draws=1000)
    squares, df = table["mean_square"].to_numpy(), table["df"].to_numpy()
    expected = (squares[0] + squares[1] - squares[2]) ** 2 / np.sum(squares**2 / df)
    assert fit.df["Intercept"] == pytest.approx(expected, rel=1e-6)
    assert "Satterthwaite" in fit.summary()


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("term", ["(1 | run) + (1 | sentence)", "(0 + x | run) + (1 | sentence)"])
def test_the_definition_in_the_variances_themselves(term, reml):
    """In variances in place of theta, from the dense likelihood: the delta method does not depend on the parameters."""
    data = simulate(runs=5, sentences=9, seed=2, slope=1.0).sample(n=40, random_state=1)
    data["x"] -= 10
    fit = crossed.fit(f"y ~ x + {term}", data, reml=reml)
    x = np.column_stack([np.ones(len(data)), data["x"]])
    sizes = fit.vcomp["variance"].to_numpy()

    def covariance(values):
        return np.linalg.inv(x.T @ np.linalg.solve(dense_covariance(fit.vcomp.assign(variance=values), data), x))

    def deviance(values):
        return -2 * dense_likelihood(fit.vcomp.assign(variance=values), data, x, reml)

    def moved(one, two=None, signs=(1, 1)):
        values = sizes.copy()
        values[one] += signs[0] * 1e-3 * sizes[one]
        if two is not None:
            values[two] += signs[1] * 1e-3 * sizes[two]
        return values

    count = len(sizes)
    hessian, slopes = np.empty((count, count)), np.empty((2, count))
    for one in range(count):
        up, down = moved(one), moved(one, signs=(-1, 1))
        slopes[:, one] = np.diag(covariance(up) - covariance(down)) / (2e-3 * sizes[one])
        for two in range(count):
            corners = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
            pp, pm, mp, mm = (deviance(moved(one, two, signs)) for signs in corners)
            hessian[one, two] = (pp - pm - mp + mm) / (4e-6 * sizes[one] * sizes[two])
    spread = 2 * np.linalg.inv(hessian)
    expected = 2 * np.diag(covariance(sizes)) ** 2 / np.einsum("pi,ij,pj->p", slopes, spread, slopes)
    np.testing.assert_allclose(fit.df, expected, rtol=1e-3)


def test_contrasts_of_parameters():
    data = simulate(runs=6, sentences=10)
    data["kind"] = np.where(data["sentence"] < "s005", "a", "b")
    fit = crossed.fit("y ~ kind + (1 | run) + (1 | sentence)", data)
    turned = crossed.fit("y ~ 0 + kind + (1 | run) + (1 | sentence)", data)
    df, _ = degrees(fit, np.array([[1.0, 1.0], [1.0, 0.0]]))
    np.testing.assert_allclose(df, [turned.df["kind[b]"], turned.df["kind[a]"]], rtol=1e-5)


def test_p_and_interval_say_the_same():
    fit = crossed.fit("y ~ x + (x | run) + (1 | sentence)", simulate(runs=5, slope=0.4))
    level = 1 - fit.pvalues["x"]
    bounds = fit.conf_int(level).loc["x"]
    assert min(abs(bounds)) == pytest.approx(0, abs=1e-8)
    half = stats.t.ppf(0.975, fit.df["x"]) * fit.bse["x"]
    np.testing.assert_allclose(fit.conf_int().loc["x"], [fit.params["x"] - half, fit.params["x"] + half])
    with pytest.raises(ValueError, match="level=95"):
        fit.conf_int(95)


def test_what_is_at_zero_is_left_out_and_said():
    data = simulate(seed=3)
    data["y"] -= data.groupby("run")["y"].transform("mean")
    fit, alone = (crossed.fit(f"y ~ x + {term}(1 | sentence)", data) for term in ("(1 | run) + ", ""))
    assert variances(fit)["run"] < 1e-8
    np.testing.assert_allclose(fit.df, alone.df, rtol=1e-5)
    assert "computed without the variances at zero" in fit.inference
    assert "zero" not in alone.inference

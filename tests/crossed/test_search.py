import numpy as np
import pandas as pd
import pytest

from crossed import search
from crossed.design import design
from crossed.formulas import parse
from crossed.likelihood import Template
from crossed.scaling import standardise
from crossed.search import Objective, Optimum, analysis_of_variance, is_minimum, maximise
from tests.crossed.simulated import simulate

SLOPE = "y ~ x + (x | run) + (1 | sentence)"


def prepared(formula, data, reml=True):
    _, likelihood = standardise(design(parse(formula), data), reml)
    return likelihood, likelihood.template


@pytest.fixture(scope="module")
def sloped():
    return simulate(runs=8, sentences=15, slope=0.4, seed=3).sample(frac=0.8, random_state=0)


def test_theta_is_the_lower_triangles_column_by_column():
    template = Template([2, 1, 3])
    theta = np.arange(1.0, 11.0)
    first, second, third = template.blocks(theta)
    np.testing.assert_array_equal(first, [[1, 0], [2, 3]])
    np.testing.assert_array_equal(second, [[4]])
    np.testing.assert_array_equal(third, [[5, 0, 0], [6, 8, 0], [7, 9, 10]])
    np.testing.assert_array_equal(template.vector([first, second, third]), theta)
    assert np.flatnonzero(template.diagonal).tolist() == [0, 2, 3, 4, 7, 9]


@pytest.mark.slow
@pytest.mark.parametrize("start", [[1, 0, 1, 1], [0.01, 0, 5, 5], [20, 3, 0.02, 0.01], [0, 0, 0, 0]])
def test_a_poor_start_reaches_the_same_maximum(sloped, start):
    likelihood, _ = prepared(SLOPE, sloped)
    good = maximise(likelihood, [np.array([0.5, 0.0, 0.5, 0.5])])
    found = maximise(likelihood, [np.array(start, dtype=float)])
    assert found.converged
    assert found.deviance == pytest.approx(good.deviance, abs=1e-9)
    np.testing.assert_allclose(found.theta, good.theta, rtol=1e-5)


def test_converged_is_asked_of_the_likelihood(sloped, monkeypatch):
    likelihood, _ = prepared(SLOPE, sloped)
    best = maximise(likelihood, [np.array([0.5, 0.0, 0.5, 0.5])])
    assert best.converged
    # A search that stops early, and says nothing: an SD that is off by 1 % must be noticed.
    monkeypatch.setattr(search, "_search", lambda objective, start, fixed=None: start)
    monkeypatch.setattr(search, "_search_whole", lambda objective, theta: theta)
    monkeypatch.setattr(search, "_polish", lambda objective, theta: theta)
    for number in range(4):
        off = best.theta * np.where(np.arange(4) == number, 1.01, 1)
        found = maximise(likelihood, [off])
        np.testing.assert_allclose(found.theta, off)
        assert not found.converged


@pytest.mark.parametrize("places", [[3], [2], [0, 1]])
def test_zero_is_no_minimum_where_the_likelihood_would_leave_it(sloped, places):
    """All else at its best: every slope is zero there, and only a step away from the boundary shows the way down."""
    likelihood, _ = prepared(SLOPE, sloped)
    objective = Objective(likelihood)
    fixed = np.isin(np.arange(4), places)
    face = search._search(objective, np.where(fixed, 0.0, 0.5), fixed)
    face = search._polish(objective, face)
    assert (face[places] == 0).all()
    assert np.abs(objective.gradient(face)[1]).max() < 1e-5
    assert not is_minimum(objective, face)
    assert is_minimum(objective, maximise(likelihood, [face]).theta)


def test_a_variance_that_is_best_at_zero_is_exactly_zero():
    data = simulate(seed=3)
    data["y"] -= data.groupby("run")["y"].transform("mean")
    likelihood, template = prepared("y ~ 1 + (1 | run) + (1 | sentence)", data)
    found = maximise(likelihood, [np.ones(2)])
    assert isinstance(found, Optimum)
    assert found.converged
    assert found.theta[0] == 0
    values = [likelihood.deviance(template.blocks(np.array([size, found.theta[1]]))) for size in (1e-3, 1e-2, 0.1)]
    assert min(values) > found.deviance


def test_the_analysis_of_variance_is_the_start_and_the_end_of_a_balanced_search():
    likelihood, template = prepared("y ~ 1 + (1 | run) + (1 | sentence)", simulate(seed=1))
    start = template.vector(analysis_of_variance(likelihood.terms, likelihood.y - likelihood.y.mean()))
    np.testing.assert_allclose(maximise(likelihood, [np.ones(2)]).theta, start, rtol=1e-8)


def few_runs(seed, slopes=1):
    """Three to six runs with effects of any size, none among them, and at most a dozen rows each: hard likelihoods."""
    generator = np.random.default_rng(seed)
    runs, rows = generator.integers(3, 7), generator.integers(5, 14)
    run = np.repeat(np.arange(runs), rows)
    x = generator.normal(size=(len(run), slopes))
    effects = generator.normal(size=(runs, 1 + slopes)) * generator.choice([0, 0.1, 0.3, 1], 1 + slopes)
    y = effects[run, 0] + np.sum(effects[run, 1:] * x, axis=1) + generator.normal(size=len(run))
    return pd.DataFrame({"run": run, "y": y} | {name: x[:, n] for n, name in enumerate("xz"[:slopes])})


@pytest.mark.parametrize("seed", [40, 77, 1001, 1361, 2030])
@pytest.mark.parametrize("reml", [True, False])
def test_no_start_of_many_ends_higher(seed, reml):
    likelihood, template = prepared("y ~ x + (x | run)", few_runs(seed), reml)
    objective, generator = Objective(likelihood), np.random.default_rng(seed)
    found = maximise(likelihood, [template.vector([np.eye(2)])])
    assert found.converged
    for _ in range(10):
        start = search.triangle(generator.normal(size=(2, 2)) * generator.choice([0.03, 0.3, 1.0], (2, 1)))
        other = search._search_whole(objective, template.vector([start]))
        assert found.deviance <= objective(other) + 1e-7


def sign_saddle():
    """A singular covariance at which a triangle has no slope within its bounds, and the covariance itself has one."""
    for seed in range(200):
        likelihood, _ = prepared("y ~ x + (x | run)", few_runs(seed))
        objective = Objective(likelihood)
        face = search._search(objective, np.array([0.0, 1.0, 0.0]), np.array([True, False, True]))
        for sign in (1, -1):
            point = face * [1, sign, 1]
            _, slope = objective.gradient(point)
            if point[1] and slope[0] > 0.1 and abs(slope[1]) < 1e-5:
                return objective, point
    raise AssertionError("no saddle among these tables")


def test_a_saddle_between_two_signs_is_no_minimum_and_is_left():
    """At a first diagonal of 0 the sign below it is arbitrary: one points uphill, and the other downhill."""
    objective, point = sign_saddle()
    assert objective(point) == objective(point * [1, -1, 1])
    assert not is_minimum(objective, point)
    left = search._search_whole(objective, point)
    assert objective(left) < objective(point) - 1e-4
    assert maximise(objective.likelihood, [point]).deviance <= objective(left) + 1e-9


def test_a_saddle_of_slope_zero_is_no_minimum():
    """Two correlated effects of equal sizes halfway between two optima: the slope is zero and a curvature negative."""
    likelihood, _ = prepared("y ~ x + (x | run)", few_runs(1361))
    objective = Objective(likelihood)
    points = [search._search_whole(objective, np.array(start)) for start in ([0.3, 0.9, 0.1], [0.3, -0.9, 0.1])]
    best = min(points, key=objective)
    assert is_minimum(objective, search._polish(objective, best))
    nothing = np.zeros(3)  # all slopes are zero where all variances are
    assert np.abs(objective.gradient(nothing)[1]).max() < 1e-9
    assert not is_minimum(objective, nothing)


@pytest.mark.parametrize("seed", [3, 8])
def test_a_larger_model_is_never_worse_than_one_it_contains(seed):
    data = few_runs(seed, slopes=2)

    def deviance(formula):
        likelihood, template = prepared(formula, data)
        found = maximise(likelihood, [template.vector([np.eye(term.width) for term in likelihood.terms])])
        assert found.converged
        return found.deviance

    whole = deviance("y ~ x + z + (x + z | run)")
    for part in (
        "(x + z || run)",
        "(x | run) + (0 + z | run)",
        "(x | run)",
        "(z | run)",
        "(0 + x + z | run)",
        "(1 | run)",
    ):
        assert whole <= deviance(f"y ~ x + z + {part}") + 1e-8


def test_a_triangle_has_the_covariance_of_its_factor():
    factor = np.random.default_rng(0).normal(size=(3, 5))
    found = search.triangle(factor)
    np.testing.assert_allclose(found @ found.T, factor @ factor.T, atol=1e-14)
    assert (np.triu(found, 1) == 0).all()
    assert (np.diag(found) >= 0).all()


def test_hessian_is_symmetric_and_that_of_the_deviance(sloped):
    likelihood, _ = prepared(SLOPE, sloped)
    objective, theta = Objective(likelihood), np.array([0.7, 0.1, 0.4, 0.6])
    hessian = objective.hessian(theta, np.ones(4, dtype=bool))
    step = 1e-3
    for number in range(4):
        change = step * (np.arange(4) == number)
        second = (objective(theta + change) - 2 * objective(theta) + objective(theta - change)) / step**2
        assert hessian[number, number] == pytest.approx(second, rel=1e-3)
    np.testing.assert_array_equal(hessian, hessian.T)


def test_a_maximum_with_hardly_a_residual_is_found_beside_one_with_a_large_one():
    """Twelve rows and six numbers in theta: two maxima far apart, the usual starts are all near the lower one."""
    data = pd.DataFrame(
        {
            "y": [0.885, 0.423, 0.804, 0.689, 0.233, 0.472, 0.639, 0.489, 1.234, 1.166, 1.426, 0.958],
            "x": [-0.121, -1.425, -0.397, -0.051, 1.487, 1.486, 0.566, 0.555, 0.303, 0.43, -0.282, -1.129],
            "w": [-2.134, -0.577, 0.45, -0.709, -1.144, -1.71, 0.699, -1.995, 0.778, -2.105, -1.305, 0.093],
            "g": [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3],
            "h": [1, 0, 0, 3, 3, 0, 0, 2, 1, 3, 2, 1],
        }
    )
    likelihood, template = prepared("y ~ x + (0 + x + w | g) + (w | h)", data, reml=False)
    plain = template.vector([np.eye(2), np.eye(2)])
    found = maximise(likelihood, [plain])
    assert found.converged
    objective, random = Objective(likelihood), np.random.default_rng(0)
    starts = [random.normal(size=len(template)) * random.choice([1, 10, 50]) for _ in range(20)]
    ends = [search._search(objective, start) for start in starts]
    # Some run away to a residual of zero, where a likelihood of twelve rows has no bound: these are no maxima.
    maxima = [objective(end) for end in ends if abs(end).max() < 1e3]
    assert len(maxima) >= 5
    assert found.deviance <= min(maxima) + 1e-6

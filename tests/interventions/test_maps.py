"""Maps between spaces: what each kind undoes, parity with scipy and least squares, bad input."""

import numpy as np
import pytest
from scipy import linalg

from addends.errors import InputError
from addends.interventions.maps import (
    StateMap,
    explained_variance,
    fit_affine,
    fit_rotation,
    no_map,
    random_rotation,
)


def noise(rows, dim, seed):
    return np.random.default_rng(seed).normal(size=(rows, dim))


def rotation(dim, seed=0):
    return np.linalg.qr(noise(dim, dim, seed))[0]


X = noise(200, 6, 1) * np.arange(1, 7)


def test_a_rotation_with_shift_and_scale_is_undone_by_the_best_rotation():
    y = 2.5 * X @ rotation(6) + noise(1, 6, 2)
    fitted = fit_rotation(X, y)
    np.testing.assert_allclose(fitted(X), y, atol=1e-12)
    assert explained_variance(fitted, X[:50], y[:50]) == pytest.approx(1)
    np.testing.assert_allclose(fitted.weight @ fitted.weight.T, 2.5**2 * np.eye(6), atol=1e-12)


def test_an_affine_map_is_undone_by_the_affine_map_alone():
    y = X @ noise(6, 9, 3) + noise(1, 9, 4)
    fitted = fit_affine(X, y, penalties=[0])
    np.testing.assert_allclose(fitted(X), y, atol=1e-10)
    square = X @ noise(6, 6, 3)
    assert explained_variance(fit_rotation(X, square), X, square) < 0.95


def test_kinds_stand_in_order_on_rows_that_were_not_fitted():
    x = X + noise(200, 6, 8)
    y = 0.7 * X @ rotation(6) @ np.diag([1, 1, 1, 1, 1, 3]) + noise(200, 6, 5) + 4
    here, there = slice(0, 150), slice(150, 200)
    fits = [
        no_map(6),
        random_rotation(x[here], y[here]),
        fit_rotation(x[here], y[here]),
        fit_affine(x[here], y[here], (x[there], y[there])),
    ]
    none, random, turned, affine = (explained_variance(each, x[there], y[there]) for each in fits)
    assert max(none, random) < turned < affine < 1


def test_the_rotation_is_scipys_and_the_scale_is_the_least_squares_one():
    y = X @ rotation(6, 2) + noise(200, 6, 6)
    fitted = fit_rotation(X, y)
    x0, y0 = X - X.mean(axis=0), y - y.mean(axis=0)
    turn, sizes = linalg.orthogonal_procrustes(x0, y0)
    scale = np.sum((x0 @ turn) * y0) / np.sum(x0**2)
    np.testing.assert_allclose(fitted.weight, turn * scale, atol=1e-12)
    assert scale == pytest.approx(sizes / np.sum(x0**2))


@pytest.mark.parametrize("penalty", [0.0, 1e-3, 1.0])
def test_the_affine_map_is_that_of_least_squares_with_rows_of_the_penalty(penalty):
    y = X @ noise(6, 4, 3) + noise(200, 4, 7)
    fitted = fit_affine(X, y, penalties=[penalty])
    x0, y0 = X - X.mean(axis=0), y - y.mean(axis=0)
    size = np.sqrt(penalty * np.square(x0).sum() / 6)  # sqrt(n lambda mean variance)
    expected = np.linalg.lstsq(np.r_[x0, size * np.eye(6)], np.r_[y0, np.zeros((6, 4))], rcond=None)[0]
    np.testing.assert_allclose(fitted.weight, expected, rtol=1e-9, atol=1e-9)


def test_the_penalty_is_the_one_that_explains_most_of_the_rows_held_out():
    x = noise(30, 20, 1)
    y = x @ noise(20, 3, 2) * 0.1 + noise(30, 3, 3)
    other = noise(500, 20, 4)
    held_out = other, other @ noise(20, 3, 2) * 0.1
    chosen = fit_affine(x, y, held_out)
    tried = {p: explained_variance(fit_affine(x, y, penalties=[p]), *held_out) for p in (1e-8, 1e-4, 1e-2, 0.1, 1.0)}
    assert explained_variance(chosen, *held_out) >= max(tried.values()) - 1e-12
    assert chosen.penalty > 1e-3


def test_random_rotations_are_rotations_of_the_right_size_and_are_drawn_by_seed():
    y = 3 * noise(200, 6, 9) + 7
    one, two = random_rotation(X, y, seed=1), random_rotation(X, y, seed=2)
    gram = one.weight @ one.weight.T
    np.testing.assert_allclose(gram, gram[0, 0] * np.eye(6), atol=1e-12)
    assert np.linalg.norm(one(X) - y.mean(axis=0)) == pytest.approx(np.linalg.norm(y - y.mean(axis=0)))
    assert not np.allclose(one.weight, two.weight)
    np.testing.assert_array_equal(one.weight, random_rotation(X, y, seed=1).weight)
    # Uniform: no entry of the first row is of one sign more often than the other.
    signs = np.mean([random_rotation(X, y, seed=seed).weight[0] > 0 for seed in range(400)], axis=0)
    assert (abs(signs - 0.5) < 0.125).all()  # five standard errors


def test_what_is_explained_is_beside_the_mean_of_the_rows_that_are_given():
    """A map that gives their mean explains nothing of them, whatever the mean of the rows that it was fitted on."""
    there = 3 * X[:40] + 7
    flat = StateMap("affine", np.zeros((6, 6)), np.zeros(6), there.mean(axis=0))
    assert explained_variance(flat, X[:40], there) == pytest.approx(0, abs=1e-12)
    far = StateMap("affine", np.zeros((6, 6)), np.zeros(6), np.zeros(6))
    left = np.square(there).sum() / np.square(there - there.mean(axis=0)).sum()
    assert explained_variance(far, X[:40], there) == pytest.approx(1 - left)


def test_few_rows_are_refused_and_regularised_only_when_asked():
    x, y = noise(6, 6, 1), noise(6, 6, 2)
    with pytest.raises(InputError, match="6 rows in 6 dimensions"):
        fit_rotation(x, y)
    with pytest.raises(InputError, match="penalties above 0"):
        fit_affine(x, y, penalties=[0])
    assert np.isfinite(fit_affine(x, y, penalties=[0.1]).weight).all()


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (fit_rotation, (X, X[:, :5]), "6 and 5 dimensions"),
        (random_rotation, (X, X[:, :5]), "6 and 5 dimensions"),
        (fit_rotation, (X, X[:199]), "200 and 199 rows.*vocabularies"),
        (fit_rotation, (X, np.where(X > 8, np.nan, X)), "NaN"),
        (fit_rotation, (np.ones((9, 2)), X[:9, :2]), r"9 row\(s\) of read do not vary"),
        (fit_rotation, (X[0], X), r"shape \(6,\)"),
        (fit_affine, (X, X), "9 penalties and no rows held out"),
        (fit_affine, (X, X, None, [-1]), "0 or more"),
        (fit_affine, (X, X, None, []), "0 or more"),
    ],
)
def test_bad_input(function, arguments, message):
    with pytest.raises(InputError, match=message):
        function(*arguments)

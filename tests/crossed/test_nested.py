"""Intercepts nested in one factor, eliminated block by block: by the matrix written out, and by mean squares."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import crossed
from crossed.nested import NestedElimination
from tests.crossed.simulated import dense_likelihood, variances

FACTORS = "y ~ 1 + (1 | init) + (1 | order) + (1 | init:order) + (1 | sentence)"
FORMULA = FACTORS + " + (1 | init:sentence) + (1 | order:sentence)"
WHOLE = FORMULA + " + (1 | init:order:sentence)"
THETAS = (0.7, 0.0, 1.1)


def factorial(inits=4, orders=4, sentences=30, checkpoints=2, seed=0, interaction=0.6):
    """Every start with every course on every sentence; all components well inside."""
    generator = np.random.default_rng(seed)
    shape = (inits, orders, sentences, checkpoints)
    init, order, sentence, checkpoint = (part.ravel() for part in np.meshgrid(*map(range, shape), indexing="ij"))
    y = 3 + generator.normal(0, 1.5, inits)[init] + generator.normal(0, 1.5, orders)[order]
    y += generator.normal(0, 0.6, (inits, orders))[init, order] + generator.normal(0, 1, sentences)[sentence]
    y += generator.normal(0, 0.6, (inits, sentences))[init, sentence]
    y += generator.normal(0, 0.6, (orders, sentences))[order, sentence]
    y += generator.normal(0, interaction, (inits, orders, sentences))[init, order, sentence]
    y += generator.normal(0, 0.7, len(y))
    return pd.DataFrame({"init": init, "order": order, "sentence": sentence, "checkpoint": checkpoint, "y": y})


def mean_squares(data, three):
    """The variances as the analysis of variance estimates them, from an array init x order x sentence x checkpoint.

    Without ``three``, init:order:sentence is in the residual.
    """
    shape = tuple(data[name].nunique() for name in ("init", "order", "sentence", "checkpoint"))
    y = data["y"].to_numpy().reshape(shape)
    a, b, s, r = shape

    def mean(*axes):
        return y.mean(axis=tuple(axis for axis in range(4) if axis not in axes), keepdims=True)

    def square(effect, df):
        return np.sum(np.broadcast_to(effect, shape) ** 2) / df

    one = {axis: mean(axis) - mean() for axis in range(3)}
    two = {pair: mean(*pair) - mean() - one[pair[0]] - one[pair[1]] for pair in ((0, 1), (0, 2), (1, 2))}
    rest = mean(0, 1, 2) - mean() - sum(one.values()) - sum(two.values())
    of_init, of_order, of_sentence = (square(one[axis], shape[axis] - 1) for axis in range(3))
    pairs = [square(effect, (shape[i] - 1) * (shape[j] - 1)) for (i, j), effect in two.items()]
    rest_df, within_df = (a - 1) * (b - 1) * (s - 1), a * b * s * (r - 1)
    cells, within = np.sum(np.broadcast_to(rest, shape) ** 2), np.sum((y - mean(0, 1, 2)) ** 2)
    found = {}
    if three:
        found["Residual"] = within / within_df
        error = cells / rest_df
        found["init:order:sentence"] = (error - found["Residual"]) / r
    else:
        found["Residual"] = error = (cells + within) / (rest_df + within_df)
    found["init:order"] = (pairs[0] - error) / (s * r)
    found["init:sentence"] = (pairs[1] - error) / (b * r)
    found["order:sentence"] = (pairs[2] - error) / (a * r)
    found["init"] = (of_init - pairs[0] - pairs[1] + error) / (b * s * r)
    found["order"] = (of_order - pairs[0] - pairs[2] + error) / (a * s * r)
    found["sentence"] = (of_sentence - pairs[1] - pairs[2] + error) / (a * b * r)
    return pd.Series(found)


def indicator(codes):
    return (codes[:, None] == np.unique(codes)).astype(float)


def eliminated(data, few=3):
    """The elimination of three terms by sentence; [D X y], with ``few`` columns in D; and Z of each term."""
    generator = np.random.default_rng(1)
    terms = [
        pd.factorize(pd.MultiIndex.from_frame(data[names]), sort=True)[0]
        for names in (["sentence"], ["init", "sentence"], ["order", "sentence"])
    ]
    dense = (generator.integers(0, max(few, 1), len(data))[:, None] == np.arange(few)).astype(float)
    others = generator.normal(size=(len(data), 2))
    found = NestedElimination(sparse.csr_array(dense), others, terms, terms[0])
    return found, np.hstack([dense, others]), [indicator(codes) for codes in terms]


def covariance(columns, thetas):
    return np.eye(len(columns[0])) + sum(theta**2 * z @ z.T for theta, z in zip(thetas, columns, strict=True))


@pytest.fixture(params=["balanced", "unbalanced", "loose", "a few rows at a time"])
def some(request, monkeypatch):
    """Rows whose sums are shared by all sentences, by some, or by none."""
    data = factorial(inits=3, orders=2, sentences=20)
    if request.param != "balanced":
        data = data.sample(frac=0.6, random_state=0)
    if request.param == "loose":
        monkeypatch.setattr("crossed.nested._ENTRIES", 300)
    if request.param == "a few rows at a time":
        monkeypatch.setattr("crossed.nested._ENTRIES", 1)
    return data


# Identities


@pytest.mark.parametrize("few", [3, 0])
@pytest.mark.parametrize("thetas", [THETAS, (0.0, 0.0, 0.0), (0.3, 20.0, 0.4)])
def test_products_and_determinant_are_those_of_the_whole_matrix(some, thetas, few):
    sums, whole, columns = eliminated(some, few)
    v = covariance(columns, thetas)
    gram, logdet = sums.gram(*thetas)
    np.testing.assert_allclose(gram, whole.T @ np.linalg.solve(v, whole), rtol=1e-10, atol=1e-10)
    assert logdet == pytest.approx(np.linalg.slogdet(v)[1], rel=1e-12, abs=1e-10)


def test_slopes_are_those_of_the_whole_matrix(some):
    """d log det V = tr inverse(V) dV, and dG = - W' inverse(V) dV inverse(V) W."""
    sums, whole, columns = eliminated(some)
    inverse = np.linalg.inv(covariance(columns, THETAS))
    upstream = np.random.default_rng(2).normal(size=(whole.shape[1],) * 2)
    upstream += upstream.T
    expected = []
    for theta, z in zip(THETAS, columns, strict=True):
        change = 2 * theta * z @ z.T
        turned = inverse @ whole
        expected.append(np.sum(inverse * change) - np.sum(upstream * (turned.T @ change @ turned)))
    np.testing.assert_allclose(sums.slopes(upstream, *THETAS), expected, rtol=1e-10)


def test_effects_are_those_of_the_whole_matrix(some):
    sums, _, columns = eliminated(some)
    left = np.random.default_rng(3).normal(size=len(some))
    turned = np.linalg.solve(covariance(columns, THETAS), left)
    for found, theta, z in zip(sums.effects(left, *THETAS), THETAS, columns, strict=True):
        np.testing.assert_allclose(found, theta**2 * z.T @ turned, atol=1e-12)


def test_a_balanced_table_has_one_pattern():
    sums, _, _ = eliminated(factorial(inits=3, orders=2, sentences=20))
    (shape,) = sums.shapes
    assert shape.roots.shape == (1, 1 + 2 + 1, 1 + 3 + 2)
    assert list(shape.members) == [20]
    assert len(shape.loose) == 0


def test_the_example_of_the_docstring():
    rows = [("A", 1, 1), ("A", 1, 2), ("A", 2, 1), ("A", 2, 2), ("B", 1, 1), ("B", 1, 2), ("B", 2, 2)]
    sums, _, columns = eliminated(pd.DataFrame(rows, columns=["sentence", "init", "order"]))
    (shape,) = sums.shapes
    np.testing.assert_array_equal(shape.terms, [0, 1, 1, 2, 2])
    grams = [
        [[4, 2, 2, 2, 2], [2, 2, 0, 1, 1], [2, 0, 2, 1, 1], [2, 1, 1, 2, 0], [2, 1, 1, 0, 2]],
        [[3, 2, 1, 1, 2], [2, 2, 0, 1, 1], [1, 0, 1, 0, 1], [1, 1, 0, 1, 0], [2, 1, 1, 0, 2]],
    ]
    z = np.hstack(columns)
    assert shape.roots.shape == (2, 3, 5)
    for levels, pattern, expected in zip(shape.levels, shape.pattern, grams, strict=True):
        root = shape.roots[pattern]
        np.testing.assert_allclose(root.T @ root, expected, atol=1e-12)
        np.testing.assert_array_equal(z[:, levels].T @ z[:, levels], expected)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("formula", "checkpoints", "interaction"), [(FORMULA, 1, 0.0), (FORMULA, 2, 0.0), (WHOLE, 2, 0.6)]
)
def test_balanced_reml_is_the_analysis_of_variance(formula, checkpoints, interaction, seed):
    data = factorial(checkpoints=checkpoints, interaction=interaction, seed=seed)
    expected = mean_squares(data, three=formula == WHOLE)
    assert (expected > 0).all()
    fit = crossed.fit(formula, data)
    assert fit.converged
    found = variances(fit)
    np.testing.assert_allclose(found, expected[found.index], rtol=1e-6)
    assert fit.params["Intercept"] == pytest.approx(data["y"].mean(), rel=1e-10)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("formula", [FORMULA, WHOLE])
def test_unbalanced_likelihood_is_that_of_the_whole_matrix(formula, reml):
    data = factorial(inits=3, orders=3, sentences=9).sample(n=110, random_state=1).reset_index(drop=True)
    fit = crossed.fit(formula, data, reml=reml)
    assert fit.converged
    assert len(fit.likelihood.eliminated) == 3 + (formula == WHOLE)
    assert dense_likelihood(fit.vcomp, data, np.ones((len(data), 1)), reml) == pytest.approx(fit.llf, abs=1e-8)


def test_a_chain_and_a_dense_block_give_the_same_fit(monkeypatch):
    """Without matrices by sentence, init:sentence or order:sentence stays among the dense effects."""
    data = factorial(sentences=20).sample(frac=0.8, random_state=0)
    by_sentence = crossed.fit(FORMULA, data)
    monkeypatch.setattr("crossed.likelihood.LARGEST", 0)
    dense = crossed.fit(FORMULA, data)
    assert (len(by_sentence.likelihood.eliminated), len(dense.likelihood.eliminated)) == (3, 2)
    assert by_sentence.llf == pytest.approx(dense.llf, abs=1e-9)
    np.testing.assert_allclose(variances(by_sentence), variances(dense), rtol=1e-6)
    for name, effects in dense.random_effects.items():
        np.testing.assert_allclose(by_sentence.random_effects[name], effects, atol=1e-6)


# Limits


def test_effects_nested_in_one_factor_are_not_counted(monkeypatch):
    monkeypatch.setattr("crossed.likelihood.DENSE_COLUMNS", 30)
    fit = crossed.fit(FORMULA, factorial(sentences=20))
    assert fit.likelihood.q == 4 + 4 + 16

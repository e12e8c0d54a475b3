"""Similarity of state spaces: identities, parity with the definitions, types, bad input."""

import numpy as np
import pytest
from scipy import linalg

from addends.errors import InputError
from addends.interventions.spaces import (
    Space,
    debiased_cka,
    groups_of,
    permuted_within,
    procrustes_distance,
    similarity,
    without_type_means,
)

BOTH = [debiased_cka, procrustes_distance]
SAME = {debiased_cka: 1.0, procrustes_distance: 0.0}


def noise(rows, dim, seed):
    return np.random.default_rng(seed).normal(size=(rows, dim))


def rotation(dim, seed=0):
    return np.linalg.qr(noise(dim, dim, seed))[0]


@pytest.mark.parametrize("function", BOTH)
@pytest.mark.parametrize(("rows", "dim"), [(50, 8), (20, 40)])
def test_a_space_is_itself_rotated_shifted_and_scaled(function, rows, dim):
    x = noise(rows, dim, 1)
    for other in (x, 3.7 * x, x @ rotation(dim), x + noise(1, dim, 2), -0.2 * x @ rotation(dim, 3) + 5):
        assert function(x, other) == pytest.approx(SAME[function], abs=1e-6)


@pytest.mark.parametrize("function", BOTH)
def test_rotations_shifts_and_scales_of_either_change_nothing(function):
    x, y = noise(60, 10, 1), noise(60, 10, 1) + 0.8 * noise(60, 10, 2)
    found = function(x, y)
    assert 0.05 < found < 0.95
    assert function(y, x) == pytest.approx(found, abs=1e-9)
    assert function(4 * x @ rotation(10) - 3, 0.1 * y @ rotation(10, 5) + noise(1, 10, 3)) == pytest.approx(
        found, abs=1e-9
    )
    order = np.random.default_rng(4).permutation(60)
    assert function(x[order], y[order]) == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize("function", BOTH)
def test_a_general_linear_map_is_not_the_same_space(function):
    x = noise(60, 10, 1)
    stretched = x @ np.diag(np.geomspace(1, 100, 10))
    assert abs(function(x, stretched) - SAME[function]) > 0.1


@pytest.mark.parametrize(("rows", "dim"), [(40, 5), (40, 200), (300, 50)])
def test_independent_noise_is_near_zero_only_when_debiased(rows, dim):
    found = [debiased_cka(noise(rows, dim, 2 * seed), noise(rows, dim, 2 * seed + 1)) for seed in range(40)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(40) + 1e-3  # unbiased: on both sides of 0
    assert np.abs(found).max() < 0.2
    if dim > rows:
        x, y = noise(rows, dim, 0), noise(rows, dim, 1)
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)
        biased = np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
        assert biased > 0.7


def test_cka_agrees_with_the_definition_by_kernels():
    def h(k, m):
        n = len(k)
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        one = np.ones(n)
        total = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
        return (np.trace(k @ m) + total - 2 * (one @ k @ m @ one) / (n - 2)) / (n * (n - 3))

    x, y = noise(30, 6, 1) + 2, noise(30, 9, 2)
    y[:, :6] += x
    k, m = x @ x.T, y @ y.T
    assert debiased_cka(x, y) == pytest.approx(h(k, m) / np.sqrt(h(k, k) * h(m, m)), rel=1e-9)


def test_procrustes_agrees_with_scipys_rotation():
    x, y = noise(30, 6, 1), noise(30, 6, 1) + noise(30, 6, 2)
    x, y = (each - each.mean(axis=0) for each in (x, y))
    x, y = (each / np.linalg.norm(each) for each in (x, y))
    turn, _ = linalg.orthogonal_procrustes(x, y)
    assert procrustes_distance(x, y) == pytest.approx(np.linalg.norm(x @ turn - y), abs=1e-9)


def test_procrustes_is_a_metric():
    x, y, z = (noise(30, 6, seed) for seed in range(3))
    assert procrustes_distance(x, z) <= procrustes_distance(x, y) + procrustes_distance(y, z)
    assert 0 < procrustes_distance(x, y) < np.sqrt(2)


@pytest.mark.parametrize("function", BOTH)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_space_that_does_not_vary_is_missing(function, dtype):
    constant = np.full((20, 4), 0.1, dtype=dtype)
    assert np.isnan(function(constant, noise(20, 4, 0)))
    assert np.isnan(function(noise(20, 4, 0), constant))
    assert np.isnan(function(constant, constant))


@pytest.mark.parametrize("function", BOTH)
@pytest.mark.parametrize(
    ("one", "two", "message"),
    [
        (noise(20, 4, 0), noise(19, 4, 0), "20 and 19 rows"),
        (noise(3, 4, 0), noise(3, 4, 0), r"3 row\(s\); 4 or more"),
        (noise(20, 4, 0)[0], noise(20, 4, 0), r"one is of shape \(4,\)"),
        (noise(20, 4, 0), np.full((20, 4), np.nan), r"20 row\(s\) of two, the first 0"),
        (noise(20, 4, 0) > 0, noise(20, 4, 0), "type bool"),
    ],
)
def test_bad_pairs(function, one, two, message):
    with pytest.raises(InputError, match=message):
        function(one, two)


# --- types ---


def test_a_space_that_is_its_types_alone_has_nothing_left():
    types = np.repeat(np.arange(6), 5)
    rows, kept = without_type_means(noise(6, 4, 0)[types], types)
    np.testing.assert_allclose(rows, 0, atol=1e-15)
    assert len(kept) == 30


def test_type_means_are_taken_off_as_by_pandas():
    import pandas as pd

    types = np.random.default_rng(1).integers(0, 9, size=40)
    vectors = noise(40, 3, 2)
    rows, kept = without_type_means(vectors, types)
    frame = pd.DataFrame(vectors)
    expected = frame - frame.groupby(types).transform("mean")
    several = frame.groupby(types)[0].transform("size").to_numpy() > 1
    np.testing.assert_array_equal(kept, np.flatnonzero(several))
    np.testing.assert_allclose(rows, expected[several].to_numpy(), atol=1e-14)


def test_two_models_that_share_types_alone_are_alike_until_types_are_taken_off():
    types = np.repeat(np.arange(20), 15)
    means = noise(20, 6, 0)
    one, two = means[types] + 0.3 * noise(300, 6, 1), (means @ rotation(6))[types] + 0.3 * noise(300, 6, 2)
    assert debiased_cka(one, two) > 0.8
    rows = [without_type_means(vectors, types)[0] for vectors in (one, two)]
    assert abs(debiased_cka(*rows)) < 0.1
    order = permuted_within(types, np.random.default_rng(3))
    assert debiased_cka(one, one[order]) > 0.8  # what types give, whatever the rows say beyond them


def test_rows_are_permuted_within_their_type_and_every_order_comes_up():
    types = np.array([1, 0, 1, 1, 0])
    generator = np.random.default_rng(0)
    orders = {tuple(permuted_within(types, generator)) for _ in range(400)}
    assert len(orders) == 12  # 3! x 2!
    for order in orders:
        assert sorted(order) == [0, 1, 2, 3, 4]
        np.testing.assert_array_equal(types[list(order)], types)


def test_bad_types():
    with pytest.raises(InputError, match=r"types of shape \(3,\)"):
        without_type_means(noise(4, 2, 0), np.arange(3))
    with pytest.raises(InputError, match="every type occurs once"):
        without_type_means(noise(4, 2, 0), np.arange(4))
    with pytest.raises(InputError, match=r"shape \(2, 2\)"):
        permuted_within(np.zeros((2, 2)), np.random.default_rng(0))


# --- with standard errors over sentences ---


@pytest.fixture
def related():
    one = noise(120, 6, 1) + 3
    return one, one @ rotation(6) + 0.9 * noise(120, 6, 2) - 1, np.repeat(np.arange(30), 4)


def test_similarity_and_its_jackknife_are_those_of_the_rows_that_are_left(related):
    one, two, sentences = related
    groups = groups_of(sentences, 10)
    found = similarity(Space(one, groups), Space(two, groups))
    assert found.cka == pytest.approx(debiased_cka(one, two), rel=1e-10)
    assert found.procrustes == pytest.approx(procrustes_distance(one, two), rel=1e-10)
    for function, se in ((debiased_cka, found.cka_se), (procrustes_distance, found.procrustes_se)):
        left = np.array([function(one[groups != group], two[groups != group]) for group in range(10)])
        assert se == pytest.approx(np.sqrt(9 / 10 * np.square(left - left.mean()).sum()), rel=1e-6)


def test_the_jackknife_knows_how_much_new_sentences_would_change():
    """Its mean over corpora is the standard deviation over corpora, to the accuracy of 200 of them."""
    cka, errors = [], []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        sentence = np.repeat(generator.normal(size=(40, 3)), 3, axis=0)  # tokens of a sentence are alike
        one = sentence + 0.5 * generator.normal(size=(120, 3))
        two = sentence + 1.5 * generator.normal(size=(120, 3))
        groups = groups_of(np.repeat(np.arange(40), 3), 20)
        found = similarity(Space(one, groups), Space(two, groups))
        cka.append(found.cka)
        errors.append(found.cka_se)
    assert np.mean(errors) == pytest.approx(np.std(cka, ddof=1), rel=0.25)


def test_a_space_that_does_not_vary_has_no_similarity(related):
    one, _, sentences = related
    groups = groups_of(sentences, 10)
    found = similarity(Space(one, groups), Space(np.ones((120, 6)), groups))
    assert np.isnan(found).all()


def test_groups_hold_whole_sentences_of_even_numbers():
    sentences = np.repeat(np.arange(45), np.random.default_rng(0).integers(1, 9, size=45))
    groups = groups_of(sentences)
    assert all(len(set(groups[sentences == sentence])) == 1 for sentence in range(45))
    assert {len(set(sentences[groups == group])) for group in range(20)} == {2, 3}


def test_bad_spaces(related):
    one, two, sentences = related
    with pytest.raises(InputError, match="120 rows: one for each"):
        Space(one, sentences[:-1])
    with pytest.raises(InputError, match=r"1 group\(s\)"):
        Space(one, np.zeros(120))
    with pytest.raises(InputError, match="different vocabularies"):
        similarity(Space(one, sentences), Space(two[:-4], sentences[:-4]))


@pytest.mark.parametrize("groups", [0, 1, 2.5])
def test_fewer_than_two_groups_are_refused(groups):
    with pytest.raises(InputError, match=f"groups={groups}"):
        groups_of(np.arange(5), groups)

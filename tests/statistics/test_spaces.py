"""Similarity of state spaces: identities, parity with the definitions, baselines."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import linalg

from addends.errors import InputError
from addends.statistics.spaces import debiased_cka, procrustes_distance, similarities

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


# --- runs, neighbours and shuffled sentences ---

TERMS = ("S", "T")


def run(seed, shared=0.0, rows=80, layers=2):
    """Vectors (layer, term, row, dim) that share a part with all other runs, in a rotation of their own."""
    own, common = noise(layers * 2 * rows, 6, seed), noise(layers * 2 * rows, 6, 99)
    mixed = (shared * common + (1 - shared) * own) @ rotation(6, seed)
    return mixed.reshape(layers, 2, rows, 6)


def test_runs_neighbours_and_shuffles_stand_in_order():
    spaces = {f"r{seed}": run(seed, shared=0.7) for seed in range(3)}
    neighbours = {name: array + 0.05 * run(10) for name, array in spaces.items()}
    found = similarities(spaces, TERMS, neighbours, shuffles=10)
    assert len(found) == 2 * 3 * (3 + 3 + 3)  # layers, terms and state, pairs + shuffled + neighbours
    means = found.groupby("comparison")[["cka", "procrustes"]].mean()
    assert means.loc["neighbour", "cka"] > 0.95
    assert means.loc["neighbour", "cka"] > means.loc["runs", "cka"] > means.loc["shuffled", "cka"]
    assert abs(means.loc["shuffled", "cka"]) < 0.02
    assert means.loc["neighbour", "procrustes"] < means.loc["runs", "procrustes"] < means.loc["shuffled", "procrustes"]


def test_each_row_is_the_similarity_of_the_arrays_it_names():
    spaces = {"a": run(1, 0.5), "b": run(2, 0.5)}
    found = similarities(spaces, TERMS, shuffles=0).set_index(["layer", "term"])
    assert set(found["comparison"]) == {"runs"}
    for layer in (0, 1):
        for place, term in enumerate(TERMS):
            x, y = (array[layer, place] for array in spaces.values())
            assert found.loc[(layer, term), "cka"] == debiased_cka(x, y)
            assert found.loc[(layer, term), "procrustes"] == procrustes_distance(x, y)
        x, y = (array[layer].sum(axis=0) for array in spaces.values())
        assert found.loc[(layer, "state"), "cka"] == pytest.approx(debiased_cka(x, y), rel=1e-12)


def test_a_run_is_its_own_neighbour():
    found = similarities({"a": run(1)}, TERMS, {"a": run(1)})
    np.testing.assert_allclose(found["cka"], 1)
    np.testing.assert_allclose(found["procrustes"], 0, atol=1e-6)
    assert set(found["comparison"]) == {"neighbour"}


def test_sentences_are_shuffled_whole():
    from addends.statistics.spaces import _another_order, _blocks

    sentences = np.array([4, 4, 4, 7, 7, 1])
    generator = np.random.default_rng(0)
    for _ in range(20):
        order = _another_order(_blocks(sentences, 6, "here"), generator)
        assert sorted(order) == list(range(6))
        assert order.tolist() != list(range(6))
        for sentence in (4, 7):
            places = np.flatnonzero(sentences[order] == sentence)
            assert (np.diff(places) == 1).all()
            assert (np.diff(order[places]) == 1).all()


def test_rows_of_one_sentence_resemble_each_other_and_shuffling_sentences_respects_it():
    """Tokens that all stand near their sentence's mean: as few independent units as sentences."""
    generator = np.random.default_rng(0)
    sentences = np.repeat(np.arange(12), 10)
    spaces = {}
    for name in "ab":
        means = generator.normal(size=(12, 4))
        rows = means[sentences] + 0.1 * generator.normal(size=(120, 4))
        spaces[name] = np.stack([rows, 0 * rows])[None]  # (layer, term, row, dim)
    by_sentence = similarities(spaces, TERMS, sentences=sentences, shuffles=30)
    by_row = similarities(spaces, TERMS, shuffles=30)
    sd = [frame.loc[frame["comparison"] == "shuffled", "cka_sd"].iloc[0] for frame in (by_sentence, by_row)]
    assert sd[0] > 2 * sd[1]
    assert set(by_sentence["sentences"]) == {12}
    assert by_sentence.loc[by_sentence["term"] == "T", "cka"].isna().all()  # a term that is zero has no space


def test_seeds_decide_and_global_state_is_left_alone():
    spaces = {"a": run(1), "b": run(2)}
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    one, two, three = (similarities(spaces, TERMS, shuffles=3, seed=seed) for seed in (1, 1, 2))
    assert one.equals(two)
    assert not one["cka"].equals(three["cka"])
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def nan_in(array):
    array = array.copy()
    array[1, 0, 3, 2] = np.nan
    return array


@pytest.mark.parametrize(
    ("spaces", "arguments", "message"),
    [
        ({"a": run(1)}, {}, r"one run \(\['a'\]\) and no neighbour"),
        ({"a": run(1), "b": run(2, rows=79)}, {}, "must be the same sentences"),
        ({"a": run(1), "b": run(2, layers=1)}, {}, "must be the same sentences"),
        ({"a": run(1), "b": run(2)[:, :1]}, {}, "2 terms is wanted"),
        ({"a": run(1), "b": nan_in(run(2))}, {}, "'b', first in layer 1, term S, row 3"),
        ({"a": run(1), "b": run(2)}, {"neighbours": {"c": run(1)}}, r"unknown runs \['c'\]"),
        ({"a": run(1), "b": run(2)}, {"sentences": np.zeros(80)}, r"1 sentence\(s\) cannot be shuffled"),
        ({"a": run(1), "b": run(2)}, {"sentences": np.zeros(79)}, r"sentences is of shape \(79,\)"),
        ({"a": run(1), "b": run(2)}, {"sentences": np.arange(80) % 2}, "interrupted"),
        ({"a": run(1), "b": run(2)}, {"shuffles": -1}, "shuffles=-1"),
        ({"a": run(1), "b": run(2)}, {"terms": ("S", "state")}, "none of them 'state'"),
    ],
)
def test_bad_input(spaces, arguments, message):
    with pytest.raises(InputError, match=message):
        similarities(spaces, **({"terms": TERMS} | arguments))


def test_importing_it_loads_neither_torch_nor_transformers():
    code = "import sys, addends.statistics.spaces; print({'torch', 'transformers'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"

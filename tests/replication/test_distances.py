"""Distances between the curves of runs, their tests, and how far they are from made-up and from released ones."""

import numpy as np
import pandas as pd
import pytest

from addends.errors import InputError
from addends.replication import distances, released_analyses, released_tables
from addends.replication.distances import between_runs
from tests.replication import miniature
from tests.replication.miniature import real


def curves(**values):
    """A table with one group, a curve a run."""
    frames = [
        pd.DataFrame({"run": run, "layer": 6, "term": "S", "checkpoint": np.arange(len(x)) * 10, "x": x})
        for run, x in values.items()
    ]
    return pd.concat(frames, ignore_index=True).astype({"x": "float64"})


@pytest.fixture
def walks():
    generator = np.random.default_rng(7)
    return curves(**dict(zip("abc", generator.normal(size=(3, 40)).cumsum(axis=1), strict=True)))


def compare(data, values="x", by=("layer", "term")):
    return between_runs(data, values, by)


def distance(data):
    return compare(data).set_index(["run", "other"])["distance"]


def standardised(data):
    """The curve of each run less its mean, over its own standard deviation."""
    x = {run: rows["x"].to_numpy() for run, rows in data.groupby("run")}
    return {run: (each - each.mean()) / each.std(ddof=1) for run, each in x.items()}


def warp(one, two):
    """The definition of time warping, by two loops."""
    best = np.full((len(one) + 1, len(two) + 1), np.inf)
    best[0, 0] = 0
    for s in range(len(one)):
        for t in range(len(two)):
            best[s + 1, t + 1] = abs(one[s] - two[t]) + min(best[s, t], best[s, t + 1], best[s + 1, t])
    return best[-1, -1]


def test_a_curve_is_at_no_distance_from_itself_and_distances_are_symmetric(walks):
    a = walks.loc[walks["run"] == "a", "x"].to_numpy()
    np.testing.assert_allclose(distance(curves(a=a, b=a, c=-a))["a", "b"], 0, atol=1e-12)
    swapped = walks.assign(run=walks["run"].map({"a": "b", "b": "a", "c": "c"}))
    one, two = distance(walks), distance(swapped)
    np.testing.assert_allclose(one["a", "b"], two["a", "b"], rtol=1e-12)
    np.testing.assert_allclose(one["a", "c"], two["b", "c"], rtol=1e-12)


def test_parity_with_the_definition(walks):
    found, z = distance(walks), standardised(walks)
    assert list(found.index) == [("a", "b"), ("a", "c"), ("b", "c")]
    for run, other in found.index:
        assert found[run, other] == pytest.approx(warp(z[run], z[other]), rel=1e-12)
        assert found[run, other] < np.abs(z[run] - z[other]).sum()  # point by point is one of the paths


def test_warping_forgives_a_delay():
    x = np.sin(np.linspace(0, 6, 60))
    late = np.concatenate([np.full(5, x[0]), x[:-5]])
    late[-1] = x[-1]
    data = curves(a=x, b=late)
    z = standardised(data)
    assert distance(data).item() < 0.2 * np.abs(z["a"] - z["b"]).sum()


def test_level_and_size_of_a_curve_do_not_matter(walks):
    moved = walks.assign(x=walks["x"] * walks["run"].map({"a": 2.0, "b": 5.0, "c": 1.0}) + 3)
    np.testing.assert_allclose(distance(walks), distance(moved), rtol=1e-9)


def test_order_of_rows_changes_nothing(walks):
    pd.testing.assert_frame_equal(compare(walks), compare(walks.sample(frac=1, random_state=0)))


def test_each_group_and_column_is_compared_by_itself(walks):
    both = pd.concat([walks, walks.assign(term="T", x=walks["x"] ** 3)]).assign(y=lambda d: d["x"] ** 2)
    found = compare(both, ["x", "y"]).set_index(["term", "quantity", "run", "other"])["distance"]
    assert len(found) == 12
    np.testing.assert_allclose(found["S", "x"], distance(walks))
    np.testing.assert_allclose(found["T", "x"], distance(walks.assign(x=walks["x"] ** 3)))
    np.testing.assert_allclose(found["S", "y"], distance(walks.assign(x=walks["x"] ** 2)))


def test_checkpoints_in_common_are_compared_and_the_others_counted(walks):
    """A curve is standardised by all checkpoints of the run, also by those left out."""
    short = walks.drop(index=walks.index[(walks["run"] == "b") & (walks["checkpoint"] >= 350)])
    found = compare(short).set_index(["run", "other"])
    assert set(found["checkpoints"]) == {35}
    assert found["left_out"].to_dict() == {("a", "b"): 5, ("a", "c"): 10, ("b", "c"): 5}
    z = {run: each[:35] for run, each in standardised(short).items()}
    for run, other in found.index:
        assert found.loc[(run, other), "distance"] == pytest.approx(warp(z[run], z[other]), rel=1e-12)


def test_missing_and_constant_curves_have_no_distance_and_say_why(walks):
    gaps = walks.assign(x=walks["x"].where(walks.index != 3))
    found = compare(gaps).set_index(["run", "other"])
    assert found["distance"].isna().to_dict() == {("a", "b"): True, ("a", "c"): True, ("b", "c"): False}
    assert found.loc[("a", "b"), "note"] == "a: missing at 1 checkpoint(s)"
    flat = walks.assign(x=walks["x"].where(walks["run"] != "c", 0.1))
    found = compare(flat).set_index(["run", "other"])
    assert found["distance"].isna().to_dict() == {("a", "b"): False, ("a", "c"): True, ("b", "c"): True}
    assert "c: constant" in found.loc[("b", "c"), "note"]


# --- beside released ones ---


@pytest.fixture(scope="module")
def paths():
    return miniature.trajectories(layers=(5, 6))


def as_released(found: pd.DataFrame, version: str) -> pd.DataFrame:
    """The same distances as a released table: runs of a pair in the other order, another name for the quantity."""
    swapped = found.rename(columns={"run": "other", "other": "run", "quantity": "indicator"})
    return swapped[["by", "layer", "term", "indicator", "run", "other", "distance"]].assign(version=version)


@pytest.mark.parametrize("targets", ["own", "mixed"])
def test_equal_distances_have_no_gap_and_others_have_theirs(paths, targets):
    found = distances.distances(paths, targets)
    assert len(found) == 3 * 2 * 3 * 4
    released = as_released(found, distances.VERSIONS[targets])
    result = distances.compared(found, released, targets)
    assert len(result) == 2 * 3 * 4
    assert (result[["pairs", "pairs_released"]] == 3).all(axis=None)
    np.testing.assert_allclose(result["gap"], 0, atol=1e-12)
    released.loc[0, "distance"] *= 1.01
    assert (distances.compared(found, released, targets)["gap"] > 0.009).sum() == 1
    released.loc[0, "distance"] = np.nan
    counted = distances.compared(found, released, targets)["pairs_released"]
    assert (counted == 2).sum() == 1


def test_the_two_kinds_of_targets_differ_in_pairs_with_a_russian_run_alone(paths):
    key = ["layer", "term", "quantity", "run", "other"]
    own, mixed = (distances.distances(paths, targets).set_index(key)["distance"] for targets in ("own", "mixed"))
    assert not np.isclose(own, mixed).any()  # every pair has a Russian run here
    everywhere = paths[paths["target"] == "own"]
    same = pd.concat([everywhere, everywhere.assign(target="reference")])
    np.testing.assert_array_equal(
        distances.distances(same, "mixed")["distance"], distances.distances(same, "own")["distance"]
    )


def test_a_version_that_was_not_released_has_no_gap_but_a_test(paths):
    found = distances.distances(paths, "own")
    result = distances.compared(found, as_released(found, "final"), "own")
    assert result["gap"].isna().all()
    assert (result["pairs_released"] == 0).all()
    assert (result["p"] >= result["floor"]).all()
    # Two runs of one condition and one of another: the pair that is "same" can be any of three.
    np.testing.assert_allclose(result["floor"], 1 / 3)


def test_normalised_distances_are_those_of_layer_6(paths):
    found = distances.distances(paths, "mixed")
    last = as_released(found[found["layer"] == 6], "normalized")
    groups = last.groupby(["by", "indicator"])["distance"]
    last["distance"] = (last["distance"] - groups.transform("mean")) / groups.transform("std")
    everywhere = pd.concat([last.assign(layer=layer) for layer in (5, 6)], ignore_index=True)
    assert distances.normalized_gap(found, everywhere) < 1e-12
    everywhere.loc[0, "distance"] += 0.5
    assert distances.normalized_gap(found, everywhere) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("change", "by", "message"),
    [
        (lambda d: d[d["run"] == "a"], ["layer", "term"], r"run\(s\) a; two or more"),
        (lambda d: d.drop(columns="x"), ["layer", "term"], "no column 'x'"),
        (
            lambda d: pd.concat([d, d.iloc[[4]]]),
            ["layer", "term"],
            "stand more than once: run='a', layer=6, term='S', checkpoint=40",
        ),
        (lambda d: d.assign(x=d["x"].where(d.index != 5, np.inf)), ["layer", "term"], "from 0: 5"),
        (lambda d: d.assign(term=d["term"].where(d.index != 5)), ["layer", "term"], "from 0: 5"),
        (lambda d: pd.concat([d, d[d["run"] == "a"].assign(term="T")]), ["layer", "term"], "lacks a group"),
        (
            lambda d: d.assign(checkpoint=d["checkpoint"] + d["run"].map({"a": 0, "b": 1, "c": 2})),
            ["layer", "term"],
            r"0 checkpoint\(s\) in common",
        ),
        (lambda d: d, ["run"], "'run', .* must be different columns"),
    ],
)
def test_bad_input(walks, change, by, message):
    with pytest.raises(InputError, match=message):
        compare(change(walks), by=by)


@real
@pytest.mark.parametrize(
    ("version", "by", "term", "layer"),
    [("first", "sublayer", "I", 3), ("final", "sublayer", "S", 4), ("final", "token", "T", 6)],
)
def test_the_released_distances_are_reproduced(version, by, term, layer):
    """All 15 pairs of runs, all four indicators. Tables hold float32, so seven digits can agree and no more."""
    trajectories = released_tables.trajectories()
    russian = trajectories["run"].str.startswith("rus") & (version == "final")
    target = np.where(russian, "reference", "own")
    chosen = trajectories[(trajectories["target"] == target) & (trajectories["by"] == by)]
    chosen = chosen[(chosen["term"] == term) & (chosen["layer"] == layer)]
    values = ["importance", "cosine", "norm_ratio", "distance"]
    found = between_runs(chosen, values, by=["layer", "term"])
    assert set(found["checkpoints"]) == {585}
    released = released_analyses.distances()
    released = released[(released["version"] == version) & (released["by"] == by) & (released["layer"] == layer)]
    released = released[released["term"] == term].rename(columns={"indicator": "quantity"})
    released["pair"] = [frozenset(pair) for pair in zip(released["run"], released["other"], strict=True)]
    found["pair"] = [frozenset(pair) for pair in zip(found["run"], found["other"], strict=True)]
    both = found.merge(released, on=["pair", "quantity"], suffixes=("", "_released"))
    assert len(both) == 60
    np.testing.assert_allclose(both["distance"], both["distance_released"], rtol=2e-5)


@real
def test_the_released_normalized_distances_are_layer_6_alone():
    released = released_analyses.distances()
    key = ["by", "run", "other", "indicator", "term"]
    final = released[(released["version"] == "final") & (released["layer"] == 6)].set_index(key)["distance"]
    by_indicator = final.groupby(["by", "indicator"])
    expected = (final - by_indicator.transform("mean")) / by_indicator.transform("std")
    normalized = released[(released["version"] == "normalized") & (released["layer"] > 0)]
    for _, rows in normalized.groupby("layer"):
        np.testing.assert_allclose(rows.set_index(key)["distance"], expected.loc[rows.set_index(key).index], atol=1e-12)

"""Distances between the curves of runs."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from addends.errors import InputError
from addends.replication.trajectories import between_runs

real = pytest.mark.skipif(
    not (Path(os.environ.get("ADDENDS_DATA") or "/nowhere") / "published").is_dir(),
    reason="ADDENDS_DATA names no folder with published/, the released result files",
)


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


def distance(data, **arguments):
    return between_runs(data, "x", **arguments).set_index(["run", "other"])["distance"]


def warped(one, two, window=None):
    """The definition of time warping, by two loops."""
    window = len(one) if window is None else window
    best = np.full((len(one) + 1, len(two) + 1), np.inf)
    best[0, 0] = 0
    for s in range(len(one)):
        for t in range(max(0, s - window + 1), min(len(two), s + window)):
            best[s + 1, t + 1] = abs(one[s] - two[t]) + min(best[s, t], best[s, t + 1], best[s + 1, t])
    return best[-1, -1]


@pytest.mark.parametrize("method", ["pointwise", "warping"])
@pytest.mark.parametrize("scale", ["none", "own", "group"])
def test_a_curve_is_at_no_distance_from_itself_and_distances_are_symmetric(walks, method, scale):
    arguments = {"method": method, "scale": scale}
    a = walks.loc[walks["run"] == "a", "x"].to_numpy()
    np.testing.assert_allclose(distance(curves(a=a, b=a, c=-a), **arguments)["a", "b"], 0, atol=1e-12)
    swapped = walks.assign(run=walks["run"].map({"a": "b", "b": "a", "c": "c"}))
    one, two = distance(walks, **arguments), distance(swapped, **arguments)
    np.testing.assert_allclose(one["a", "b"], two["a", "b"], rtol=1e-12)
    np.testing.assert_allclose(one["a", "c"], two["b", "c"], rtol=1e-12)


@pytest.mark.parametrize("window", [None, 1, 3, 10])
def test_parity_with_the_definition(walks, window):
    found = distance(walks, method="warping", scale="none", normalisation="sum", window=window)
    x = {run: rows["x"].to_numpy() for run, rows in walks.groupby("run")}
    for run, other in found.index:
        assert found[run, other] == pytest.approx(warped(x[run], x[other], window), rel=1e-12)
    pointwise = distance(walks, scale="none")
    for run, other in found.index:
        assert pointwise[run, other] == pytest.approx(np.abs(x[run] - x[other]).mean(), rel=1e-12)


def test_warping_is_at_most_pointwise_and_pointwise_with_a_window_of_one(walks):
    pointwise = distance(walks)
    previous = None
    for window in (1, 2, 5, 40):
        found = distance(walks, method="warping", window=window)
        if window == 1:
            np.testing.assert_allclose(found, pointwise, rtol=1e-12)
        else:
            assert (found <= previous + 1e-12).all()
        previous = found
    np.testing.assert_allclose(previous, distance(walks, method="warping"), rtol=1e-12)


def test_warping_forgives_a_delay_and_pointwise_does_not():
    x = np.sin(np.linspace(0, 6, 60))
    late = np.concatenate([np.full(5, x[0]), x[:-5]])
    late[-1] = x[-1]
    data = curves(a=x, b=late)
    assert distance(data, method="warping", scale="none").item() < 0.1 * distance(data, scale="none").item()


def test_own_scale_ignores_level_and_size_the_groups_scale_ignores_units_only(walks):
    moved = walks.assign(x=walks["x"] * walks["run"].map({"a": 2.0, "b": 5.0, "c": 1.0}) + 3)
    np.testing.assert_allclose(distance(walks, scale="own"), distance(moved, scale="own"), rtol=1e-9)
    units = walks.assign(x=walks["x"] * 100)
    np.testing.assert_allclose(distance(walks, scale="group"), distance(units, scale="group"), rtol=1e-9)
    np.testing.assert_allclose(distance(walks, scale="none") * 100, distance(units, scale="none"), rtol=1e-9)
    assert not np.allclose(distance(walks, scale="group"), distance(moved, scale="group"), rtol=0.1)


def test_the_result_says_how_it_was_made(walks):
    found = between_runs(walks, "x", method="warping", scale="own", normalisation="sum", window=4).iloc[0]
    about = found[["method", "scale", "normalisation", "window", "checkpoints", "left_out", "quantity"]].tolist()
    assert about == ["warping", "own", "sum", 4, 40, 0, "x"]
    total = distance(walks, normalisation="sum")
    np.testing.assert_allclose(distance(walks) * 40, total)


def test_order_of_rows_changes_nothing(walks):
    shuffled = walks.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(between_runs(walks, "x"), between_runs(shuffled, "x"))


def test_each_group_and_column_is_compared_by_itself(walks):
    both = pd.concat([walks, walks.assign(term="T", x=-2 * walks["x"])]).assign(y=lambda d: d["x"] ** 2)
    found = between_runs(both, ["x", "y"], scale="none").set_index(["term", "quantity", "run", "other"])["distance"]
    assert len(found) == 12
    np.testing.assert_allclose(2 * found["S", "x"], found["T", "x"])
    np.testing.assert_allclose(found["S", "x"], distance(walks, scale="none"))
    np.testing.assert_allclose(found["S", "y"], distance(walks.assign(x=walks["x"] ** 2), scale="none"))


def test_differing_checkpoints_are_refused_or_kept_in_common_and_counted(walks):
    short = walks.drop(index=walks.index[(walks["run"] == "b") & (walks["checkpoint"] >= 350)])
    with pytest.raises(InputError, match=r"35 are common to all, up to 40 .* grid='common'"):
        between_runs(short, "x")
    found = between_runs(short, "x", scale="none", grid="common").set_index(["run", "other"])
    assert set(found["checkpoints"]) == {35}
    assert found["left_out"].to_dict() == {("a", "b"): 5, ("a", "c"): 10, ("b", "c"): 5}
    cut = walks[walks["checkpoint"] < 350]
    np.testing.assert_allclose(found["distance"], distance(cut, scale="none"))
    # own scale: by all checkpoints of the run, also those left out
    x = {run: rows["x"].to_numpy() for run, rows in short.groupby("run")}
    z = {run: ((each - each.mean()) / each.std(ddof=1))[:35] for run, each in x.items()}
    own = distance(short, scale="own", grid="common")
    assert own["a", "b"] == pytest.approx(np.abs(z["a"] - z["b"]).mean(), rel=1e-12)


def test_missing_and_constant_curves_have_no_distance_and_say_why(walks):
    gaps = walks.assign(x=walks["x"].where(walks.index != 3))
    found = between_runs(gaps, "x", scale="none").set_index(["run", "other"])
    assert found["distance"].isna().to_dict() == {("a", "b"): True, ("a", "c"): True, ("b", "c"): False}
    assert found.loc[("a", "b"), "note"] == "a: missing at 1 checkpoint(s)"
    flat = walks.assign(x=walks["x"].where(walks["run"] != "c", 0.1))
    found = between_runs(flat, "x", scale="own").set_index(["run", "other"])
    assert found["distance"].isna().to_dict() == {("a", "b"): False, ("a", "c"): True, ("b", "c"): True}
    assert "c: constant" in found.loc[("b", "c"), "note"]
    assert between_runs(flat, "x", scale="group")["distance"].notna().all()


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda d: d[d["run"] == "a"], {}, r"run\(s\) a; two or more"),
        (lambda d: d.drop(columns="x"), {}, "no column 'x'"),
        (lambda d: pd.concat([d, d.iloc[[4]]]), {}, "stand more than once: run='a', layer=6, term='S', checkpoint=40"),
        (lambda d: d.assign(x=d["x"].where(d.index != 5, np.inf)), {}, "from 0: 5"),
        (lambda d: d.assign(term=d["term"].where(d.index != 5)), {}, "from 0: 5"),
        (lambda d: pd.concat([d, d[d["run"] == "a"].assign(term="T")]), {}, "lacks a group"),
        (
            lambda d: d.assign(checkpoint=d["checkpoint"] + d["run"].map({"a": 0, "b": 1, "c": 2})),
            {"grid": "common"},
            r"0 checkpoint\(s\) in common",
        ),
        (lambda d: d, {"method": "dtw"}, r"method='dtw' is not one of \('pointwise', 'warping'\)"),
        (lambda d: d, {"scale": "z"}, "scale='z'"),
        (lambda d: d, {"normalisation": "path"}, "normalisation='path'"),
        (lambda d: d, {"grid": "union"}, "grid='union'"),
        (lambda d: d, {"method": "warping", "window": 0}, "window=0"),
        (lambda d: d, {"window": 3}, "needs method='warping'"),
        (lambda d: d, {"by": ["run"]}, "without 'run'"),
    ],
)
def test_bad_input(walks, change, arguments, message):
    with pytest.raises(InputError, match=message):
        between_runs(change(walks), "x", **arguments)


@real
@pytest.mark.parametrize(
    ("version", "by", "term", "layer"),
    [("first", "sublayer", "I", 3), ("final", "sublayer", "S", 4), ("final", "token", "T", 6)],
)
def test_the_published_distances_are_reproduced(version, by, term, layer):
    """All 15 pairs of runs, all four indicators. Tables hold float32, so seven digits can agree and no more."""
    from addends import replication

    trajectories = replication.trajectories()
    russian = trajectories["run"].str.startswith("rus") & (version == "final")
    target = np.where(russian, "reference", "own")
    chosen = trajectories[(trajectories["target"] == target) & (trajectories["by"] == by)]
    chosen = chosen[(chosen["term"] == term) & (chosen["layer"] == layer)]
    values = ["importance", "cosine", "norm_ratio", "distance"]
    settings = {"method": "warping", "scale": "own", "normalisation": "sum", "grid": "common"}
    found = between_runs(chosen, values, **settings)
    assert set(found["checkpoints"]) == {585}
    released = replication.distances()
    released = released[(released["version"] == version) & (released["by"] == by) & (released["layer"] == layer)]
    released = released[released["term"] == term].rename(columns={"indicator": "quantity"})
    released["pair"] = [frozenset(pair) for pair in zip(released["run"], released["other"], strict=True)]
    found["pair"] = [frozenset(pair) for pair in zip(found["run"], found["other"], strict=True)]
    both = found.merge(released, on=["pair", "quantity"], suffixes=("", "_released"))
    assert len(both) == 60
    np.testing.assert_allclose(both["distance"], both["distance_released"], rtol=2e-5)


@real
def test_the_published_normalized_distances_are_layer_6_alone():
    from addends import replication

    released = replication.distances()
    key = ["by", "run", "other", "indicator", "term"]
    final = released[(released["version"] == "final") & (released["layer"] == 6)].set_index(key)["distance"]
    by_indicator = final.groupby(["by", "indicator"])
    expected = (final - by_indicator.transform("mean")) / by_indicator.transform("std")
    normalized = released[(released["version"] == "normalized") & (released["layer"] > 0)]
    for _, rows in normalized.groupby("layer"):
        np.testing.assert_allclose(rows.set_index(key)["distance"], expected.loc[rows.set_index(key).index], atol=1e-12)

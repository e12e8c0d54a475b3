"""Distances and their tests, beside made-up released ones."""

import numpy as np
import pandas as pd
import pytest

from addends.replication import warped
from tests.replication import miniature


@pytest.fixture(scope="module")
def paths():
    return miniature.trajectories(layers=(5, 6))


def as_released(found: pd.DataFrame, version: str) -> pd.DataFrame:
    """The same distances as a released table: runs of a pair in the other order, another name for the quantity."""
    swapped = found.rename(columns={"run": "other", "other": "run", "quantity": "indicator"})
    return swapped[["by", "layer", "term", "indicator", "run", "other", "distance"]].assign(version=version)


@pytest.mark.parametrize("targets", ["own", "mixed"])
def test_equal_distances_have_no_gap_and_others_have_theirs(paths, targets):
    found = warped.distances(paths, targets)
    assert len(found) == 3 * 2 * 3 * 4
    released = as_released(found, warped.VERSIONS[targets])
    result = warped.compared(found, released, targets)
    assert len(result) == 2 * 3 * 4
    assert (result[["pairs", "pairs_released"]] == 3).all(axis=None)
    np.testing.assert_allclose(result["gap"], 0, atol=1e-12)
    released.loc[0, "distance"] *= 1.01
    assert (warped.compared(found, released, targets)["gap"] > 0.009).sum() == 1
    released.loc[0, "distance"] = np.nan
    counted = warped.compared(found, released, targets)["pairs_released"]
    assert (counted == 2).sum() == 1


def test_the_two_kinds_of_targets_differ_in_pairs_with_a_russian_run_alone(paths):
    key = ["layer", "term", "quantity", "run", "other"]
    own, mixed = (warped.distances(paths, targets).set_index(key)["distance"] for targets in ("own", "mixed"))
    assert not np.isclose(own, mixed).any()  # every pair has a Russian run here
    everywhere = paths[paths["target"] == "own"]
    same = pd.concat([everywhere, everywhere.assign(target="reference")])
    np.testing.assert_array_equal(
        warped.distances(same, "mixed")["distance"], warped.distances(same, "own")["distance"]
    )


def test_a_version_that_was_not_released_has_no_gap_but_a_test(paths):
    found = warped.distances(paths, "own")
    result = warped.compared(found, as_released(found, "final"), "own")
    assert result["gap"].isna().all()
    assert (result["pairs_released"] == 0).all()
    assert (result["p"] >= result["floor"]).all()
    # Two runs of one condition and one of another: the pair that is "same" can be any of three.
    np.testing.assert_allclose(result["floor"], 1 / 3)


def test_normalised_distances_are_those_of_layer_6(paths):
    found = warped.distances(paths, "mixed")
    last = as_released(found[found["layer"] == 6], "normalized")
    groups = last.groupby(["by", "indicator"])["distance"]
    last["distance"] = (last["distance"] - groups.transform("mean")) / groups.transform("std")
    everywhere = pd.concat([last.assign(layer=layer) for layer in (5, 6)], ignore_index=True)
    assert warped.normalized_gap(found, everywhere) < 1e-12
    everywhere.loc[0, "distance"] += 0.5
    assert warped.normalized_gap(found, everywhere) == pytest.approx(0.5)

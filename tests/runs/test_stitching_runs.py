"""Stitching runs: every row is there, a twin is read as oneself, maps stand in order, bad input."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from addends import tables
from addends.errors import DataError, InputError
from addends.runs import stitching_runs
from addends.runs.suite import UNKNOWN, ExistingModel
from tests.runs import tiny_suite
from tests.runs.tiny_suite import SUITE


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three runs; the third is replaced by a twin of the first."""
    folder = tmp_path_factory.mktemp("stitched")
    tiny_suite.train(folder / "work", folder / "trained")
    shutil.rmtree(folder / "work" / "tiny" / "c")
    shutil.copytree(folder / "work" / "tiny" / "a", folder / "work" / "tiny" / "c")
    return folder


@pytest.fixture(scope="module")
def stitches(trained):
    files = stitching_runs.stitch(SUITE, ["a", "b", "c"], trained / "work", trained / "data", steps=5)
    assert [file.name for file in files] == ["a.parquet", "b.parquet", "c.parquet"]
    return tables.read_suite(trained / "data" / "tiny", "stitches")


def test_every_pair_place_and_map_is_there(stitches):
    read = stitches[stitches["place"] == "encoder"]
    counts = read.groupby(["decoder", "map", "start"]).size().unstack(["map", "start"]).loc["a"]
    assert counts["own", "run"] == 1
    assert counts["trained", "untrained"] == 1
    assert all(counts[kind, "run"] == 2 for kind in ("none", "random", "rotation", "affine", "trained"))
    inside = stitches[stitches["place"] == "layer"]
    assert len(inside) == 6 * 1 * 4  # ordered pairs, layers, maps
    assert inside["bleu"].isna().all()
    assert inside["nll"].notna().all()


def test_a_twin_is_read_as_oneself_by_every_map_that_can_be_the_identity(stitches):
    rows = stitches[(stitches["decoder"] == "a") & (stitches["place"] == "encoder")].set_index(["encoder", "map"])
    own = rows.loc[("a", "own")]
    for kind in ("none", "rotation"):
        for quality in ("bleu", "chrf", "nll"):
            assert rows.loc[("c", kind), quality] == pytest.approx(own[quality], rel=1e-4)
        assert rows.loc[("c", kind), "explained"] == pytest.approx(1, abs=1e-6)
    assert rows.loc[("c", "random"), "explained"] < 0.5


def test_a_fitted_map_explains_more_than_none_and_an_affine_one_more_than_a_rotation(stitches):
    other = stitches[(stitches["encoder"] == "b") & (stitches["decoder"] == "a") & (stitches["place"] == "encoder")]
    explained = other[other["start"] == "run"].set_index("map")["explained"]
    assert explained["affine"] > explained["rotation"] > max(explained["none"], explained["random"])


def test_a_twins_lower_layers_are_ones_own(stitches):
    rows = stitches[(stitches["decoder"] == "a") & (stitches["place"] == "layer") & (stitches["encoder"] == "c")]
    own = stitches[(stitches["decoder"] == "a") & (stitches["map"] == "own")]["nll"].item()
    np.testing.assert_allclose(rows[rows["map"].isin(["none", "rotation"])]["nll"], own, rtol=1e-4)


def test_what_is_there_stays(trained, stitches):
    file = trained / "data" / "tiny" / "stitches" / "a.parquet"
    before = file.stat().st_mtime_ns
    stitching_runs.stitch(SUITE, ["a", "b", "c"], trained / "work", trained / "data", steps=5)
    assert file.stat().st_mtime_ns == before


def test_bad_input(trained, tmp_path):
    with pytest.raises(InputError, match="two runs or more"):
        stitching_runs.stitch(SUITE, ["a"], trained / "work", tmp_path)
    with pytest.raises(DataError, match="train the run first"):
        stitching_runs.stitch(SUITE, ["a", "b"], tmp_path / "nothing", tmp_path)
    existing = dataclasses.replace(
        SUITE,
        recipe=UNKNOWN,
        vocabulary=UNKNOWN,
        keep_states=(),
        models=tuple(ExistingModel(run.name, 12, str(tmp_path)) for run in SUITE.runs),
    )
    with pytest.raises(InputError, match="no training sentences"):
        stitching_runs.stitch(existing, ["a", "b"], trained / "work", tmp_path)

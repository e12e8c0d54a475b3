"""Subsets: what a subset is said to give is what its rows give, and nothing is said that overlapping subsets cannot."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import crossed
from addends.errors import InputError
from addends.statistics import over_subsets, shares_of_subsets, slopes_of_subsets, split_predictor
from addends.statistics.subsets import draw_subsets


@pytest.fixture(scope="module")
def frame():
    generator = np.random.default_rng(3)
    runs, sentences, checkpoints = [f"r{n}" for n in range(7)], [f"s{n:02}" for n in range(12)], [1, 2, 3]
    places = pd.MultiIndex.from_product([runs, sentences, checkpoints], names=["run", "sentence", "checkpoint"])
    shape = (7, 12, 3)

    def crossing(a, b, c, e):
        sizes = ((a, (7, 1, 1)), (b, (1, 12, 1)), (c, (7, 12, 1)), (e, shape))
        return sum(generator.normal(0, sd, size) * np.ones(shape) for sd, size in sizes).ravel()

    x = crossing(0.5, 1.0, 0.6, 0.2)
    data = places.to_frame(index=False).assign(x=5 + x, q=0.4 * x + crossing(0.3, 1.0, 0.5, 0.3))
    return data.sample(frac=1, random_state=0)  # in any order


def rows_of(frame, members):
    return frame[frame["run"].isin(members)]


@pytest.mark.parametrize("replicate", ["checkpoint", None])
def test_shares_of_a_subset_are_those_of_its_rows(frame, replicate):
    data = frame if replicate else frame[frame["checkpoint"] == 2]
    found = shares_of_subsets(data, "x", [2, 4, 7], replicate=replicate, subsets=5, draws=1_000, seed=9)
    assert found.groupby("runs").size().to_dict() == {2: 5, 4: 5, 7: 1}
    for row in found.itertuples():
        part = rows_of(data, row.members)
        table = crossed.crossed_shares(part, "x", "run", "sentence", replicate, draws=1_000, seed=9).iloc[0]
        assert part["run"].nunique() == row.runs
        expected = [*np.sqrt(table[["variance", "variance_lower", "variance_upper"]].astype(float))]
        expected += [*table[["share", "share_lower", "share_upper"]]]
        given = [row.sd, row.sd_lower, row.sd_upper, row.share, row.share_lower, row.share_upper]
        np.testing.assert_allclose(given, expected, rtol=1e-9, atol=1e-12)


def test_slopes_of_a_subset_are_those_of_the_mixed_model_of_its_rows(frame):
    found = slopes_of_subsets(frame, "q", "x", [3, 7], replicate="checkpoint", subsets=2)
    for row in found.itertuples():
        part = split_predictor(rows_of(frame, row.members), "x")
        fit = crossed.fit("q ~ within + change + C(checkpoint) + C(run) + (1 | sentence) + (1 | run:sentence)", part)
        assert not fit.boundary
        bounds = fit.conf_int().loc["within"]
        assert row.slope == pytest.approx(fit.params["within"], rel=1e-6)
        np.testing.assert_allclose([row.slope_lower, row.slope_upper], bounds[["lower", "upper"]], rtol=1e-4)


def test_the_slope_of_each_run_is_by_hand_that_of_its_doubly_centred_cells(frame):
    (row,) = slopes_of_subsets(frame, "q", "x", [7], replicate="checkpoint").itertuples()
    x, q = (frame.pivot_table(index="run", columns="sentence", values=name, aggfunc="mean") for name in ("x", "q"))
    unit = x.sub(x.mean(axis=1), axis=0).mean().std()
    x, q = (each.sub(each.mean(axis=1), axis=0).sub(each.mean(), axis=1) + each.to_numpy().mean() for each in (x, q))
    slopes = unit * (x * q).sum(axis=1) / (x**2).sum(axis=1)
    interval = stats.ttest_1samp(slopes, 0).confidence_interval()
    np.testing.assert_allclose(
        [row.mean, row.mean_lower, row.mean_upper, row.slopes_sd], [slopes.mean(), *interval, slopes.std()], rtol=1e-9
    )


def test_groups_are_divided_apart_and_in_the_same_subsets(frame):
    both = pd.concat([frame.assign(term="S"), frame.assign(term="T", x=frame["x"] ** 2)])
    found = shares_of_subsets(both, "x", [3], by="term", replicate="checkpoint", subsets=4, draws=1_000)
    alone = shares_of_subsets(frame, "x", [3], replicate="checkpoint", subsets=4, draws=1_000)
    pd.testing.assert_frame_equal(found[found["term"] == "S"].drop(columns="term"), alone)
    members = found.groupby("term")["members"].agg(list)
    assert members["S"] == members["T"]


def test_every_subset_is_drawn_once():
    generator = np.random.default_rng(0)
    assert draw_subsets(5, 2, 100, generator).tolist() == [list(pair) for pair in itertools.combinations(range(5), 2)]
    some = draw_subsets(12, 6, 300, generator)
    assert some.shape == (300, 6)
    assert len({tuple(row) for row in some.tolist()}) == 300
    assert (np.diff(some, axis=1) > 0).all()
    # Each of 12 levels in half of the subsets, as far as 300 draws of 924 can tell: 4.5 standard errors.
    counts = np.bincount(some.ravel(), minlength=12)
    assert (np.abs(counts - 150) < 4.5 * np.sqrt(300 / 4)).all()


def test_over_subsets_says_medians_ranges_and_how_many_are_disjoint(frame):
    found = shares_of_subsets(frame, "x", [2, 3, 7], replicate="checkpoint", subsets=15, draws=1_000)
    table = over_subsets(found, "share").set_index("runs")
    assert table["subsets"].to_dict() == {2: 15, 3: 15, 7: 1}
    assert table["disjoint"].to_dict() == {2: 3, 3: 2, 7: 1}
    pairs = found[found["runs"] == 2]
    assert table.loc[2, "median"] == pairs["share"].median()
    assert table.loc[2, ["lowest", "highest"]].tolist() == [pairs["share"].min(), pairs["share"].max()]
    assert table.loc[2, "upper_highest"] == pairs["share_upper"].max()
    assert table.loc[7, "lowest"] == table.loc[7, "median"] == table.loc[7, "highest"]
    assert not {"se", "standard_error", "sem", "std"} & set(table.columns)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sizes": [1]}, "sizes=1"),
        ({"sizes": [8]}, r"sizes=\[8\]: there are 7 runs, r0, r1"),
        ({"subsets": 0}, "subsets=0"),
        ({"value": "z"}, "no column 'z'"),
        ({"level": 95}, "level"),
        ({"replicate": None}, "more than one value"),
    ],
)
def test_subsets_that_cannot_be_meant_are_refused(frame, given, message):
    given = {"value": "x", "sizes": [3], "replicate": "checkpoint", "draws": 1_000} | given
    with pytest.raises(InputError, match=message):
        shares_of_subsets(frame, **given)


def test_a_crossing_with_a_hole_is_refused(frame):
    with pytest.raises(InputError, match="is missing"):
        slopes_of_subsets(frame.iloc[1:], "q", "x", [3], replicate="checkpoint")
    with pytest.raises(InputError, match="no column 'share_lower'"):
        over_subsets(pd.DataFrame({"runs": [3], "members": [("a",)], "share": [0.1]}), "share")


def test_runs_may_have_numbers_for_names(frame):
    numbered = frame.assign(run=frame["run"].str[1:].astype(int))
    for function, columns in ((shares_of_subsets, ("x",)), (slopes_of_subsets, ("q", "x"))):
        found = function(numbered, *columns, [3], replicate="checkpoint", subsets=4)
        expected = function(frame, *columns, [3], replicate="checkpoint", subsets=4)
        assert found["members"].tolist() == [tuple(int(name[1:]) for name in names) for names in expected["members"]]
        pd.testing.assert_frame_equal(found.drop(columns="members"), expected.drop(columns="members"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.assign(layer=d["run"].where(d["run"] > "r2")), "would belong to no group"),
        (
            lambda d: d.assign(layer=1, x=d["sentence"].str[1:].astype(float)),
            "differ between runs by more than a const",
        ),
        (lambda d: d[d["sentence"].isin(["s01", "s02"]) & d["run"].isin(["r1", "r2"])].assign(layer=1), "two degrees"),
    ],
)
def test_slopes_that_are_none_are_refused(frame, change, message):
    data = change(frame[frame["checkpoint"] == 2])
    with pytest.raises(InputError, match=message):
        slopes_of_subsets(data, "q", "x", [2], by="layer", subsets=2)


@pytest.mark.parametrize(("options", "message"), [({"sizes": []}, "names none"), ({"draws": 0}, "draws=0")])
def test_a_table_of_nothing_is_refused(frame, options, message):
    with pytest.raises(InputError, match=message):
        shares_of_subsets(frame, "x", **({"sizes": [3]} | options), replicate="checkpoint")


def test_a_run_whose_name_holds_a_comma_is_one_run(frame):
    renamed = frame.assign(run="a, " + frame["run"])
    found, expected = (
        over_subsets(shares_of_subsets(each, "x", [2, 3], replicate="checkpoint", subsets=4), "share")
        for each in (renamed, frame)
    )
    assert found["disjoint"].tolist() == [3, 2]
    pd.testing.assert_frame_equal(found, expected)

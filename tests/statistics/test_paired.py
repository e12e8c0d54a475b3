"""Differences within runs: those of scipy's paired test, in which what a run has of all levels cancels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from addends.errors import InputError
from addends.statistics import mean_over_runs, paired_differences

LEVELS = ("x", "y", "z")


def runs(seed: int = 0, number: int = 6) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(number, 3)) + np.arange(3)
    index = pd.MultiIndex.from_product([[f"r{k}" for k in range(number)], LEVELS], names=["run", "method"])
    return pd.DataFrame({"rho": values.ravel()}, index=index).reset_index()


@pytest.mark.parametrize("level", [0.95, 0.5])
def test_a_difference_and_its_interval_are_those_of_the_paired_test(level):
    frame = runs()
    found = paired_differences(frame, "rho", "method", level=level)
    wide = frame.pivot(index="run", columns="method", values="rho")
    assert found[["first", "second"]].to_numpy().tolist() == [["x", "y"], ["x", "z"], ["y", "z"]]
    for row in found.itertuples():
        test = stats.ttest_rel(wide[row.first], wide[row.second])
        low, high = test.confidence_interval(level)
        each = wide[row.first] - wide[row.second]
        assert (row.estimate, row.lower, row.upper) == pytest.approx((each.mean(), low, high), rel=1e-12)
        assert row.sd == pytest.approx(each.std(), rel=1e-12)
        assert (row.runs, row.alike) == (6, (each > 0).sum() if each.mean() > 0 else (each < 0).sum())


def test_what_a_run_has_of_all_levels_cancels():
    frame = runs()
    moved = frame.assign(rho=frame["rho"] + 1000 * frame["run"].str[1:].astype(int))
    pd.testing.assert_frame_equal(
        paired_differences(moved, "rho", "method"), paired_differences(frame, "rho", "method"), rtol=1e-9
    )
    x = mean_over_runs(moved[moved["method"] == "x"], "rho").iloc[0]
    assert x["upper"] - x["lower"] > 1000  # of one level by itself it does not


def test_groups_are_compared_by_themselves_and_several_rows_of_a_run_are_averaged():
    frame = pd.concat([runs(0).assign(yardstick="mask"), runs(1).assign(yardstick="embedding")])
    found = paired_differences(frame, "rho", "method", by="yardstick")
    for name, part in frame.groupby("yardstick"):
        alone = paired_differences(part, "rho", "method")
        pd.testing.assert_frame_equal(
            found[found["yardstick"] == name].drop(columns="yardstick").reset_index(drop=True), alone
        )
    pooled = frame.groupby(["run", "method"], as_index=False)["rho"].mean()
    pd.testing.assert_frame_equal(
        paired_differences(frame, "rho", "method"), paired_differences(pooled, "rho", "method"), rtol=1e-12
    )


def test_one_run_has_a_difference_and_no_interval():
    found = paired_differences(runs(number=1), "rho", "method")
    assert found["estimate"].notna().all()
    assert found[["sd", "lower", "upper"]].isna().all(axis=None)


def test_what_cannot_be_compared_is_refused():
    frame = runs()
    with pytest.raises(InputError, match=r"1 run\(s\) lack a level of 'method'.*'r0' has no 'y'"):
        paired_differences(frame.drop(index=1), "rho", "method")
    with pytest.raises(InputError, match="'method' has 1 level"):
        paired_differences(frame[frame["method"] == "x"], "rho", "method")
    with pytest.raises(InputError, match=r"missing or infinite in 1 row\(s\)"):
        paired_differences(frame.assign(rho=[np.nan, *frame["rho"][1:]]), "rho", "method")
    with pytest.raises(InputError, match="must be different columns"):
        paired_differences(frame, "rho", "method", by="method")
    with pytest.raises(InputError, match="other"):
        paired_differences(frame, "rho", "other")
    with pytest.raises(InputError, match="level=2"):
        paired_differences(frame, "rho", "method", level=2)

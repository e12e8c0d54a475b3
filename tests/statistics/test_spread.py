"""The spread of a coefficient over runs."""

import numpy as np
import pandas as pd
import pytest

from addends.errors import InputError
from addends.statistics.intervals import sd_multipliers
from addends.statistics.spread import over_runs


@pytest.fixture
def table():
    values = {"S": [0.1, 0.3, 0.5], "T": [-0.2, 0.1, np.nan]}
    rows = [(f"r{n}", 6, term, rho) for term, each in values.items() for n, rho in enumerate(each)]
    return pd.DataFrame(rows, columns=["run", "layer", "term", "rho"])


def spread(table, **arguments):
    return over_runs(table, by=["layer", "term"], **arguments).set_index("term")


def test_agrees_with_its_definition(table):
    found = spread(table).loc["S"]
    assert found["mean"] == pytest.approx(0.3)
    assert found["sd_runs"] == pytest.approx(0.2)
    low, high = sd_multipliers(3)
    assert found["sd_runs_low"] == pytest.approx(0.2 * low)
    assert found["sd_runs_high"] == pytest.approx(0.2 * high)
    assert found[["smallest", "largest", "runs", "missing"]].tolist() == [0.1, 0.5, 3, 0]
    assert found["same_sign"]


def test_a_missing_coefficient_is_counted_and_breaks_agreement(table):
    found = spread(table).loc["T"]
    assert found[["runs", "missing"]].tolist() == [2, 1]
    assert not found["same_sign"]
    one = spread(table.assign(rho=table["rho"].where(table["run"] == "r0"))).loc["S"]
    assert np.isnan(one[["sd_runs", "sd_runs_low", "sd_runs_high"]].astype(float)).all()
    assert one["mean"] == pytest.approx(0.1)


def test_order_of_runs_changes_nothing(table):
    pd.testing.assert_frame_equal(spread(table), spread(table.iloc[::-1]).loc[["S", "T"]])


def test_identical_runs_have_no_spread(table):
    found = spread(table.assign(rho=0.4))
    np.testing.assert_allclose(found[["sd_runs", "sd_runs_low", "sd_runs_high"]], 0, atol=1e-12)


def test_the_interval_of_the_sd_covers():
    generator = np.random.default_rng(0)
    draws = generator.normal(0, 0.3, (4, 2000))
    rows = pd.DataFrame(draws, index=list("abcd")).rename_axis("run").reset_index().melt("run", var_name="term")
    found = over_runs(rows, "value", by=["term"])
    covered = (found["sd_runs_low"] <= 0.3) & (found["sd_runs_high"] >= 0.3)
    assert covered.mean() == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[t["run"] == "r0"], r"run\(s\) r0; a spread over runs needs two"),
        (lambda t: pd.concat([t, t.iloc[[0]]]), "stand more than once: run='r0', layer=6, term='S'"),
        (lambda t: t.drop(columns="rho"), "no column 'rho'"),
        (lambda t: t.assign(rho=np.inf), "infinite"),
        (lambda t: t.assign(run=t["run"].where(t.index != 2)), "missing value"),
    ],
)
def test_bad_input(table, change, message):
    with pytest.raises(InputError, match=message):
        spread(change(table))


def test_run_is_no_group(table):
    with pytest.raises(InputError, match="by without"):
        over_runs(table, by=["run", "term"])

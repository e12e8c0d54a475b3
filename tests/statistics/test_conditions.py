"""Quality without time: correlation over runs at one step, and conditions compared pair by pair."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from addends.errors import InputError
from addends.statistics import across_runs, contrast_conditions, mean_over_runs


def runs(count: int, slope: float = 0.5, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    quality = generator.normal(size=count)
    indicator = slope * quality + generator.normal(size=count)
    names = [f"r{number}" for number in range(count)]
    return pd.DataFrame({"run": names, "layer": 1, "nll": quality, "importance": indicator})


def test_the_correlation_and_its_interval_are_scipys():
    frame = runs(18)
    (row,) = across_runs(frame, "importance", "nll", "layer", reliability=0.81, draws=99).to_dict("records")
    expected = stats.pearsonr(frame["importance"], frame["nll"])
    assert row["r"] == pytest.approx(expected.statistic, abs=1e-12)
    interval = expected.confidence_interval(0.95)
    assert (row["r_lower"], row["r_upper"]) == pytest.approx(tuple(interval), abs=1e-12)
    assert row["r_disattenuated"] == pytest.approx(expected.statistic / 0.9, abs=1e-12)
    assert row["runs"] == 18


def test_the_permutations_reject_a_null_as_often_as_they_say():
    rejected = [
        across_runs(runs(8, 0.0, s), "importance", "nll", "layer", draws=99)["p"].item() <= 0.1 for s in range(100)
    ]
    assert 2 <= sum(rejected) <= 21  # binomial(100, .1), all but 1e-3 of it


@pytest.mark.parametrize("reliability", [0.0, 1.2])
def test_a_reliability_out_of_range_is_refused(reliability):
    with pytest.raises(InputError, match=f"reliability={reliability}: above 0 and at most 1"):
        across_runs(runs(8), "importance", "nll", "layer", reliability=reliability)


def test_too_few_runs_are_refused():
    with pytest.raises(InputError, match=r"has 3 run\(s\); 4 are wanted"):
        across_runs(runs(3), "importance", "nll", "layer")


def sizes() -> pd.DataFrame:
    generator = np.random.default_rng(1)
    seeds = generator.normal(size=4)
    rows = [
        (condition, seed, shift + of_seed + 0.1 * generator.normal())
        for condition, shift in (("small", 0.0), ("middle", 1.0), ("large", 1.5))
        for seed, of_seed in enumerate(seeds)
    ]
    frame = pd.DataFrame(rows, columns=["condition", "init_seed", "importance"])
    return frame.assign(run=frame["condition"] + "-" + frame["init_seed"].astype(str))


def test_paired_within_seed_is_the_paired_t_test():
    frame = sizes()
    table = contrast_conditions(frame, "importance", pair="init_seed").set_index(["a", "b"])
    wide = frame.pivot(index="init_seed", columns="condition", values="importance")
    expected = stats.ttest_rel(wide["large"], wide["small"])
    row = table.loc[("small", "large")]
    assert row["p"] == pytest.approx(expected.pvalue, rel=1e-9)
    assert (row["lower"], row["upper"]) == pytest.approx(tuple(expected.confidence_interval()), rel=1e-9)
    assert row["difference"] == pytest.approx((wide["large"] - wide["small"]).mean())
    assert row["df"] == 3
    assert list(table.index) == [("small", "middle"), ("small", "large"), ("middle", "large")]
    assert (table["p_holm"] >= table["p"]).all()


def test_without_pairs_it_is_welchs_t_test():
    frame = sizes()
    table = contrast_conditions(frame, "importance").set_index(["a", "b"])
    groups = {name: rows["importance"] for name, rows in frame.groupby("condition")}
    expected = stats.ttest_ind(groups["large"], groups["small"], equal_var=False)
    assert table.loc[("small", "large"), "p"] == pytest.approx(expected.pvalue, rel=1e-9)
    assert table.loc[("small", "large"), "df"] == pytest.approx(expected.df, rel=1e-9)


def test_a_run_without_a_partner_is_named():
    with pytest.raises(InputError, match=r"no pairs; alone are \[3\]"):
        contrast_conditions(sizes().iloc[:-1], "importance", pair="init_seed")


def test_one_run_is_no_condition():
    frame = sizes()
    with pytest.raises(InputError, match="2 are the fewest"):
        contrast_conditions(frame[~((frame["condition"] == "large") & (frame["init_seed"] > 0))], "importance")


def test_few_runs_are_permuted_in_every_way():
    frame = runs(5, slope=0.4, seed=3)
    x, q = frame["importance"].to_numpy(), frame["nll"].to_numpy()
    every = [abs(np.corrcoef(x, q[list(order)])[0, 1]) for order in permutations(range(5))]
    expected = np.mean(np.array(every) >= abs(np.corrcoef(x, q)[0, 1]) - 1e-12)
    assert across_runs(frame, "importance", "nll", "layer")["p"].item() == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("column", ["importance", "nll"])
@pytest.mark.parametrize("value", [0.1, 0.0, 1e8, np.float32(0.3)])
def test_what_is_the_same_in_all_runs_has_no_correlation_and_no_p(column, value):
    frame = pd.concat([runs(9), runs(9).assign(layer=2, **{column: value})])
    constant = across_runs(frame, "importance", "nll", "layer", draws=99).set_index("layer").loc[2]
    assert constant[["r", "r_lower", "r_upper", "p", "r_disattenuated"]].isna().all()
    assert constant["note"] == f"{column} is the same in all runs"


def test_correlations_do_not_depend_on_units_or_on_the_order_of_rows():
    frame = runs(12)
    table = across_runs(frame, "importance", "nll", "layer", draws=99)
    for changed in (
        frame.assign(importance=1e8 + frame["importance"]),
        frame.assign(importance=1e-12 * frame["importance"], nll=3 - frame["nll"] * 1e-9),
        frame.sample(frac=1, random_state=1),
    ):
        again = across_runs(changed, "importance", "nll", "layer", draws=99)
        # 1e8 + x keeps eight digits of x
        assert abs(again["r"].item()) == pytest.approx(abs(table["r"].item()), abs=1e-7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: pd.concat([d, d]), "8 stand more than once.*Each run counts once"),
        (lambda d: d.assign(layer=d["layer"].where(d["run"] > "r3")), r"4 row\(s\) have no value of \['layer'\]"),
        (lambda d: d.assign(nll=d["nll"].where(d["run"] > "r3")), r"'nll' is missing or infinite in 4 row\(s\)"),
        (lambda d: d.assign(nll=np.inf), r"'nll' is missing or infinite in 8 row\(s\)"),
        (lambda d: d.assign(nll="good"), "'nll' holds .*, not numbers"),
        (lambda d: d[:0], "no rows"),
    ],
)
def test_rows_that_would_be_counted_twice_or_lost_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        across_runs(change(runs(8)), "importance", "nll", "layer")


def test_a_group_is_not_named_like_a_result():
    with pytest.raises(InputError, match=r"the result has columns \['runs'\] of its own"):
        across_runs(runs(8).assign(runs=1), "importance", "nll", ["runs"])


@pytest.mark.parametrize("pair", [None, "init_seed"])
def test_conditions_without_spread_have_no_p_and_do_not_count_in_the_family(pair):
    frame = sizes()
    flat = sizes().assign(layer=2, importance=frame["condition"].map({"small": 0.1, "middle": 0.3, "large": 0.7}))
    both = pd.concat([frame.assign(layer=1), flat])
    table = contrast_conditions(both, "importance", pair=pair, by="layer").set_index("layer")
    assert table.loc[2, ["lower", "upper", "p", "p_holm"]].isna().all(axis=None)
    assert (table.loc[2, "note"] != "").all()
    alone = contrast_conditions(frame, "importance", pair=pair)
    np.testing.assert_allclose(table.loc[1, "p_holm"], alone["p_holm"], rtol=1e-12)


def test_rows_in_another_order_give_the_same_contrasts_in_every_group():
    ranked = sizes().assign(
        condition=lambda d: pd.Categorical(d["condition"], ["small", "middle", "large"], ordered=True)
    )
    both = pd.concat([ranked.assign(layer=1), ranked.iloc[::-1].assign(layer=2)])
    table = contrast_conditions(both, "importance", by="layer", pair="init_seed")
    first, second = (table[table["layer"] == layer].drop(columns="layer").reset_index(drop=True) for layer in (1, 2))
    pd.testing.assert_frame_equal(first, second, rtol=1e-12)
    shuffled = contrast_conditions(both.sample(frac=1, random_state=4), "importance", by="layer", pair="init_seed")
    pd.testing.assert_frame_equal(shuffled, table, rtol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.assign(importance=d["importance"].where(d["init_seed"] > 0)), "missing or infinite in 3 row"),
        (lambda d: d.assign(condition=d["condition"].where(d["init_seed"] > 0)), "has no value in one of the columns"),
        (lambda d: pd.concat([d, d]), "Each run counts once"),
        (lambda d: d[d["condition"] == "small"], r"the condition\(s\) \['small'\]; two are compared"),
        (lambda d: d.assign(importance="large"), "not numbers"),
    ],
)
def test_what_would_leave_a_hole_in_the_family_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        contrast_conditions(change(sizes()), "importance")


# --- the mean over runs ---


def test_the_mean_over_runs_has_scipys_interval_and_counts_each_run_once():
    frame = runs(9)
    doubled = pd.concat([frame, frame.head(3)])  # more rows of some runs move nothing
    for rows in (frame, doubled):
        (row,) = mean_over_runs(rows, "importance", "layer").to_dict("records")
        interval = stats.ttest_1samp(frame["importance"], 0).confidence_interval(0.95)
        assert (row["lower"], row["upper"]) == pytest.approx(tuple(interval), rel=1e-12)
        assert (row["estimate"], row["runs"]) == (pytest.approx(frame["importance"].mean()), 9)


def test_one_run_has_a_mean_and_no_interval():
    (row,) = mean_over_runs(runs(1), "importance").to_dict("records")
    assert np.isnan([row["sd"], row["lower"], row["upper"]]).all()
    with pytest.raises(InputError, match="nothing to average"):
        mean_over_runs(runs(3).assign(importance=np.nan), "importance")

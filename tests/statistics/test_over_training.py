"""Similarity over training: agreement with the statistic of one checkpoint, a jackknife by hand, refusals."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from addends.errors import InputError
from addends.statistics import roles_of_runs, similarity_by_kind, similarity_over_training

SEEDS = [(f"{i}{j}", i, j, j) for i in range(3) for j in range(4)]
MASKS = [("00-d9", 0, 0, 9), ("11-d8", 1, 1, 8), ("22-d7", 2, 2, 7)]
RUNS = pd.DataFrame(SEEDS + MASKS, columns=["run", "init_seed", "order_seed", "dropout_seed"])
ROLES = roles_of_runs(RUNS)
STEPS = (10, 100, 1000)


def pairs_of(drift=0.0, noise=0.02, seed=0, steps=STEPS):
    """Pairs whose likeness falls by ``drift`` a checkpoint, runs with one start by a tenth less at the first."""
    generator, rows = np.random.default_rng(seed), []
    for place, step in enumerate(steps):
        of_run = dict(zip(RUNS["run"], noise * generator.normal(size=len(RUNS)), strict=True))
        for one, two in combinations(RUNS.itertuples(), 2):
            start = 0.1 * (one.init_seed == two.init_seed)
            rows.append((one.run, two.run, step, 0.7 + start - drift * place + of_run[one.run] + of_run[two.run]))
        if place:
            rows += [(run, run, step, 0.99) for run in RUNS["run"]]
    return pd.DataFrame(rows, columns=["a", "b", "checkpoint", "cka"])


def test_each_checkpoint_has_the_means_of_similarity_by_kind():
    frame = pairs_of(drift=0.1)
    found = similarity_over_training(frame, "cka", ROLES).set_index(["shares", "checkpoint"])
    for step in STEPS:
        expected = similarity_by_kind(frame[frame["checkpoint"] == step], "cka", ROLES, permutations=99)
        for row in expected[expected["pairs"] > 0].itertuples():
            assert found.loc[(row.shares, step), "mean"] == pytest.approx(row.mean, rel=1e-12)
            assert found.loc[(row.shares, step), "pairs"] == row.pairs


def test_the_change_is_the_difference_of_the_means_and_the_first_has_none():
    found = similarity_over_training(pairs_of(drift=0.1), "cka", ROLES)
    assert found.loc[found["shares"] == "checkpoint before", "change"].isna().all()  # other steps apart each time
    for _, rows in found[found["shares"] != "checkpoint before"].groupby("shares", sort=False):
        assert rows["change"].isna().tolist() == [True] + [False] * (len(rows) - 1)
        np.testing.assert_allclose(rows["change"].iloc[1:], np.diff(rows["mean"]), rtol=0, atol=1e-12)
        assert rows["previous"].iloc[1:].tolist() == rows["checkpoint"].iloc[:-1].tolist()


def test_intervals_are_the_two_way_jackknife():
    frame = pairs_of(seed=3)
    found = similarity_over_training(frame, "cka", ROLES).set_index(["shares", "checkpoint"])
    inside = ROLES[ROLES["role"] == "factorial"].set_index("run")
    known = frame[frame["a"].isin(inside.index) & frame["b"].isin(inside.index) & (frame["a"] != frame["b"])]
    starts, courses = ([known[end].map(inside[factor]) for end in "ab"] for factor in ("init_seed", "order_seed"))
    neither = known[(starts[0] != starts[1]) & (courses[0] != courses[1])]

    def mean(rows, step):
        return rows.loc[rows["checkpoint"] == step, "cka"].mean()

    for what, name in (
        (lambda rows: mean(rows, 100), "mean"),
        (lambda rows: mean(rows, 100) - mean(rows, 10), "change"),
    ):
        square = 0.0
        for factor, levels in (("init_seed", range(3)), ("order_seed", range(4))):
            left = [
                what(neither[(neither["a"].map(inside[factor]) != k) & (neither["b"].map(inside[factor]) != k)])
                for k in levels
            ]
            square += (len(left) - 1) / len(left) * np.square(np.array(left) - np.mean(left)).sum()
        row, reach = found.loc[("neither", 100)], stats.t.ppf(0.975, 2) * np.sqrt(square)
        prefix = "" if name == "mean" else "change_"
        assert row[name] == pytest.approx(what(neither), rel=1e-12)
        assert row[f"{prefix}upper"] - row[name] == pytest.approx(reach, rel=1e-9)
        assert row[name] - row[f"{prefix}lower"] == pytest.approx(reach, rel=1e-9)


def test_other_masks_have_students_interval_over_pairs_and_the_checkpoint_before_none():
    frame = pairs_of(seed=4)
    found = similarity_over_training(frame, "cka", ROLES).set_index(["shares", "checkpoint"])
    twins = frame[frame[["a", "b"]].apply(tuple, axis=1).isin([("00", "00-d9"), ("11", "11-d8"), ("22", "22-d7")])]
    values = twins.loc[twins["checkpoint"] == 100, "cka"]
    interval = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    row = found.loc[("other masks", 100)]
    np.testing.assert_allclose([row["lower"], row["upper"]], interval, rtol=1e-9)
    before = found.loc["checkpoint before"]
    assert before.index.tolist() == [100, 1000]
    assert before["lower"].isna().all()


def test_a_pair_turned_round_is_the_same_pair_and_a_change_is_of_pairs_that_both_checkpoints_have():
    frame = pairs_of(seed=4)
    expected = similarity_over_training(frame, "cka", ROLES)
    one = (frame["a"] == "00") & (frame["b"] == "00-d9") & (frame["checkpoint"] == 100)
    turned = frame.assign(a=frame["a"].where(~one, "00-d9"), b=frame["b"].where(~one, "00"))
    pd.testing.assert_frame_equal(similarity_over_training(turned, "cka", ROLES), expected)
    named = frame.astype({"a": "category", "b": "category"})  # as a file may have them
    pd.testing.assert_frame_equal(similarity_over_training(named, "cka", ROLES), expected)
    found = similarity_over_training(frame[~one], "cka", ROLES).set_index(["shares", "checkpoint"])
    others = frame[
        (frame["b"].isin(["11-d8", "22-d7"])) & (frame["a"].str.cat(frame["b"]).isin(["1111-d8", "2222-d7"]))
    ]
    wide = others.pivot(index="a", columns="checkpoint", values="cka")
    row, changes = found.loc[("other masks", 100)], wide[100] - wide[10]
    reach = stats.t.ppf(0.975, 1) * stats.sem(changes)
    numbers = [row["pairs"], row["change"], row["change_lower"], row["change_upper"]]
    np.testing.assert_allclose(numbers, [2, changes.mean(), changes.mean() - reach, changes.mean() + reach], rtol=1e-9)


def test_a_drift_is_found_in_intervals_that_would_hold_none():
    falls = similarity_over_training(pairs_of(drift=0.2), "cka", ROLES).query("shares == 'neither'").dropna()
    assert (falls["change_upper"] < 0).all()
    still = similarity_over_training(pairs_of(drift=0.0), "cka", ROLES).query("shares == 'neither'").dropna()
    assert (still["change_lower"] < 0).all()
    assert (still["change_upper"] > 0).all()


def test_with_two_starts_there_is_no_interval():
    few = RUNS[RUNS["init_seed"] < 2]
    frame = pairs_of()
    found = similarity_over_training(frame, "cka", roles_of_runs(few)).query("shares == 'neither'")
    assert found["mean"].notna().all()
    assert found["lower"].isna().all()


def test_groups_are_kept_apart():
    both = pd.concat([pairs_of(seed=1).assign(layer=1), pairs_of(drift=0.1).assign(layer=2)])
    found = similarity_over_training(both, "cka", ROLES, by="layer")
    alone = similarity_over_training(pairs_of(drift=0.1), "cka", ROLES)
    assert found.columns[0] == "layer"
    pd.testing.assert_frame_equal(
        found[found["layer"] == 2].drop(columns="layer").reset_index(drop=True), alone, check_dtype=False
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda frame: frame[frame["checkpoint"] == 10], r"one checkpoint \(10\): two or more"),
        (lambda frame: frame.drop(columns="checkpoint"), "checkpoint"),
        (lambda frame: frame.drop(frame.index[0]), r"'00', '01' has 0 values"),
        (lambda frame: pd.concat([frame, frame.head(1)]), r"'00', '01' has 2 values"),
        (lambda frame: frame.assign(cka=np.inf), "cka"),
        (lambda frame: frame.assign(checkpoint=frame["checkpoint"].astype(str)), "'checkpoint' holds str"),
        (lambda frame: frame.assign(checkpoint=frame["checkpoint"].where(frame["checkpoint"] > 10)), "missing or inf"),
        (lambda frame: frame[(frame["checkpoint"] != 100) | (frame["a"] == frame["b"])], r"'00', '01' has 0 values"),
        (lambda frame: pd.concat([frame, frame[frame["b"] == "00-d9"]]), "more than once: a='00', b='00-d9'"),
        (lambda frame: pd.concat([frame, frame.query("a == '00' and b == '00'")]), "more than once: a='00', b='00'"),
        (lambda frame: frame.assign(a=[None, *frame["a"][1:]]), r"1 row\(s\) have no 'a'"),
    ],
)
def test_what_cannot_be_told_is_refused(change, words):
    with pytest.raises(InputError, match=words):
        similarity_over_training(change(pairs_of()), "cka", ROLES)


def test_an_incomplete_factorial_is_refused():
    roles = ROLES[ROLES["run"] != "00"]
    with pytest.raises(InputError, match="11 runs of the factorial for 12 combinations"):
        similarity_over_training(pairs_of(), "cka", roles)

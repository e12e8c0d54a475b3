"""Pairs of runs: what kinds there are, what sharing a start does on made-up runs, and what is refused."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from addends.errors import InputError
from addends.statistics import agreement_by_kind, roles_of_runs


def factorial(starts=4, courses=4, sentences=50, start_sd=0.0, course_sd=0.0, seed=0) -> pd.DataFrame:
    """Runs whose sentences have effects of the sentence (SD 1), of start by sentence, course by sentence, and noise."""
    generator = np.random.default_rng(seed)
    values = generator.normal(0, 1, (1, 1, sentences)) + generator.normal(0, 0.5, (starts, courses, sentences))
    values = values + generator.normal(0, start_sd, (starts, 1, sentences))
    values = values + generator.normal(0, course_sd, (1, courses, sentences))
    names = ["init_seed", "order_seed", "sentence"]
    index = pd.MultiIndex.from_product([range(size) for size in values.shape], names=names)
    frame = pd.DataFrame({"y": values.ravel()}, index=index).reset_index()
    return frame.assign(run=[f"i{i}-o{j}" for i, j in zip(frame["init_seed"], frame["order_seed"], strict=True)])


def rows(frame, measure="spearman", **options):
    table = agreement_by_kind(frame, "y", **({"permutations": 199} | options))
    return table[table["measure"] == measure].set_index("shares")


def test_four_by_four_have_24_and_24_and_72_pairs():
    assert list(rows(factorial())["pairs"]) == [24, 24, 72]
    assert list(rows(factorial(3, 4))["pairs"]) == [18, 12, 36]


def test_means_are_those_of_the_pairs_one_by_one():
    frame = factorial(3, 2, 9, start_sd=0.5)
    runs = {key: part["y"].to_numpy() for key, part in frame.groupby(["init_seed", "order_seed"])}
    found = {"start": [], "course": [], "neither": []}
    for p, q in ((p, q) for p in runs for q in runs if p < q):
        kind = "start" if p[0] == q[0] else "course" if p[1] == q[1] else "neither"
        ranks, plain = stats.spearmanr(runs[p], runs[q])[0], stats.pearsonr(runs[p], runs[q])[0]
        found[kind].append((ranks, plain, (runs[p].mean() - runs[q].mean()) ** 2))
    for number, measure in enumerate(("spearman", "pearson", "squared_distance")):
        table = rows(frame, measure)
        for kind, values in found.items():
            assert table.loc[kind, "mean"] == pytest.approx(np.mean(values, axis=0)[number])
        assert table.loc["start", "excess"] == pytest.approx(table.loc["start", "mean"] - table.loc["neither", "mean"])


@pytest.mark.parametrize(("sds", "found", "other"), [((1, 0), "start", "course"), ((0, 1), "course", "start")])
def test_what_runs_share_is_seen_in_their_pairs(sds, found, other):
    table = rows(factorial(5, 5, start_sd=sds[0], course_sd=sds[1]), permutations=999)
    assert table.loc[found, "p"] == pytest.approx(0.001)
    assert table.loc[found, "lower"] > 0
    assert table.loc[other, "p"] > 0.01
    assert np.isnan(table.loc["neither", ["excess", "p", "p_least"]].astype(float)).all()


@pytest.mark.parametrize(("start_sd", "seed"), [(0.4, 3), (0.0, 1), (0.0, 2)])
def test_starts_within_courses_are_all_that_is_permuted(start_sd, seed):
    """With 3 starts and 2 courses there are 36 labellings, six and six alike: the p-value is known exactly."""
    frame = factorial(3, 2, 12, start_sd=start_sd, seed=seed)
    profiles = {key: part["y"].to_numpy() for key, part in frame.groupby(["init_seed", "order_seed"])}
    agree = {(i, k): np.corrcoef(profiles[i, 0], profiles[k, 1])[0, 1] for i, k in product(range(3), range(3))}
    sums = [sum(agree[i, order[i]] for i in range(3)) for order in permutations(range(3))]
    exact = np.mean([total >= sums[0] - 1e-12 for total in sums])
    found = rows(frame, "pearson", permutations=99)  # more than there are labellings: all are gone through
    assert found.loc["start", "p"] == pytest.approx(exact, abs=1e-15)
    assert found.loc["start", "p_least"] == pytest.approx(1 / 6)
    assert found.loc["course", "p_least"] == pytest.approx(1 / 4)


def test_draws_of_labels_agree_with_all_of_them():
    frame = factorial(3, 4, 12, start_sd=0.3, seed=4)
    every, drawn = (rows(frame, permutations=permutations) for permutations in (216, 215))  # 3!^3 = 216 labellings
    for kind in ("start", "course"):
        exact = every.loc[kind, "p"]
        assert drawn.loc[kind, "p"] == pytest.approx(exact, abs=4.5 * np.sqrt(exact * (1 - exact) / 215) + 1 / 216)


def test_under_the_null_p_values_are_uniform_although_pairs_share_runs_and_courses_matter():
    p = [rows(factorial(4, 3, 20, course_sd=1.0, seed=seed)).loc["start", "p"] for seed in range(120)]
    assert stats.kstest(p, "uniform").pvalue > 1e-4


def test_the_interval_holds_the_truth_where_starts_matter():
    """The truth is the mean over many suites of the same kind."""
    tables = [rows(factorial(5, 5, 40, start_sd=0.5, seed=seed), "pearson", permutations=99) for seed in range(80)]
    start = pd.DataFrame([table.loc["start"] for table in tables]).astype({"lower": float, "upper": float})
    truth = start["excess"].astype(float).mean()
    held = ((start["lower"] <= truth) & (truth <= start["upper"])).sum()
    assert held >= stats.binom.ppf(1e-4, 80, 0.93)


def test_a_part_each_and_no_order_of_rows():
    frame = pd.concat([factorial(seed=1).assign(term="S"), factorial(seed=2, start_sd=1).assign(term="T")])
    table = agreement_by_kind(frame.sample(frac=1, random_state=0), "y", by="term", permutations=99)
    alone = agreement_by_kind(factorial(seed=1), "y", permutations=99)
    mine = table[table["term"] == "S"].drop(columns="term").reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, alone)


def test_two_starts_cannot_be_spared():
    table = rows(factorial(2, 4))
    assert np.isnan(table.loc["start", "se"])
    assert table.loc["start", "p_least"] == pytest.approx(1 / 8)


def test_bad_input_is_refused():
    frame = factorial(3, 3, 5)
    with pytest.raises(InputError, match=r"8 runs for 9 combinations.*role is 'factorial'"):
        rows(frame[frame["run"] != "i0-o0"])
    with pytest.raises(InputError, match=r"10 runs for 9"):
        rows(pd.concat([frame, frame[frame["run"] == "i0-o0"].assign(run="again")]))
    with pytest.raises(InputError, match=r"1 values of a run and sentence are missing"):
        rows(frame.drop(index=7))
    with pytest.raises(InputError, match=r"has several values"):
        rows(pd.concat([frame, frame.iloc[:1]]))
    with pytest.raises(InputError, match=r"same value in all sentences"):
        rows(frame.assign(y=frame["init_seed"]))
    with pytest.raises(InputError, match=r"permutations"):
        rows(frame, permutations=5)
    # An infinite value once made the p-value as small as it can be.
    for value, message in ((np.inf, "missing or infinite in 1 row"), ("high", "not numbers")):
        with pytest.raises(InputError, match=message):
            rows(frame.astype({"y": object}).assign(y=lambda d, v=value: d["y"].where(d.index > 0, v)).infer_objects())
    with pytest.raises(InputError, match=r"\[1, 3\] levels; two of each"):
        rows(frame[frame["init_seed"] == 0])
    with pytest.raises(InputError, match=r"no value in one of"):
        rows(frame.assign(init_seed=frame["init_seed"].where(frame["init_seed"] > 0)))
    with pytest.raises(InputError, match=r"same value in all sentences"):
        rows(frame.assign(y=frame["y"].where(frame["run"] != "i0-o0", 0.1 + 1e-17 * frame["sentence"])))
    with pytest.raises(InputError, match=r"columns \['p'\] of its own"):
        rows(frame.assign(p=1), by="p")


def runs_of(cells, others=()):
    rows = [(f"i{i}-o{j}", i, j, j) for i, j in cells] + [(f"i{i}-o{j}-d{d}", i, j, d) for i, j, d in others]
    return pd.DataFrame(rows, columns=["run", "init_seed", "order_seed", "dropout_seed"])


def test_roles_follow_from_the_seeds():
    cells = [*product((1, 2, 3), (1, 2, 3, 4)), (4, 1)]
    roles = roles_of_runs(runs_of(cells, [(1, 1, 101), (4, 1, 104), (4, 4, 109)])).set_index("run")["role"]
    assert (roles == "factorial").sum() == 12
    assert roles["i4-o1"] == "left out"  # its row is not complete yet
    assert roles["i1-o1-d101"] == roles["i4-o1-d104"] == "other masks"  # beside a run that shares all but the masks
    assert roles["i4-o4-d109"] == "left out"  # nothing to compare it with
    with pytest.raises(InputError, match=r"no run's dropout_seed equals its order_seed"):
        roles_of_runs(runs_of([], [(1, 1, 9)]))


def test_a_run_without_a_seed_of_masks_is_left_out_and_one_without_a_start_is_named():
    runs = runs_of(product((1, 2), (1, 2)), [(1, 1, 101)]).astype({"dropout_seed": "Int64", "init_seed": "Int64"})
    unknown = runs.assign(dropout_seed=runs["dropout_seed"].where(runs["run"] != "i1-o1-d101"))
    roles = roles_of_runs(unknown).set_index("run")["role"]
    assert (roles == "factorial").sum() == 4
    with pytest.raises(InputError, match=r"without name, init_seed or order_seed: \['i2-o2'\]"):
        roles_of_runs(runs.assign(init_seed=runs["init_seed"].where(runs["run"] != "i2-o2")))

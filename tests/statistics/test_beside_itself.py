"""A run beside itself: a jackknife by hand, agreement with the means by kind, signs, refusals."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from addends.errors import InputError
from addends.statistics import apart_from_itself, roles_of_runs, similarity_by_kind

RUNS = pd.DataFrame(
    [*[(f"{i}{j}", i, j, j) for i in range(4) for j in range(3)], ("00-d9", 0, 0, 9)],
    columns=["run", "init_seed", "order_seed", "dropout_seed"],
)
ROLES = roles_of_runs(RUNS)


def pairs_of(seed=0, start=0.1):
    generator, rows = np.random.default_rng(seed), []
    for one, two in combinations(RUNS.itertuples(), 2):
        rows.append((one.run, two.run, 0.5 + start * (one.init_seed == two.init_seed) + 0.05 * generator.normal()))
    rows += [(run, run, 0.95 + 0.01 * generator.normal()) for run in RUNS["run"]]
    return pd.DataFrame(rows, columns=["a", "b", "cka"])


def of_course(frame, kept):
    """What is apart for pairs that share the course, by hand, of the runs of some starts."""
    runs = RUNS[RUNS["init_seed"].isin(kept) & (RUNS["dropout_seed"] == RUNS["order_seed"])]
    values = frame.set_index(["a", "b"])["cka"]
    itself = np.mean([values[run, run] for run in runs["run"]])
    pairs = [values[a.run, b.run] for a, b in combinations(runs.itertuples(), 2) if a.order_seed == b.order_seed]
    return itself - np.mean(pairs)


def test_it_is_the_jackknife_over_starts_by_hand():
    frame = pairs_of()
    row = apart_from_itself(frame, "cka", ROLES).set_index("shares").loc["course"]
    apart, spared = of_course(frame, range(4)), [of_course(frame, {0, 1, 2, 3} - {i}) for i in range(4)]
    se = np.sqrt(3 / 4 * np.square(np.array(spared) - np.mean(spared)).sum())
    assert row["apart"] == pytest.approx(apart, rel=1e-12)
    assert row["se"] == pytest.approx(se, rel=1e-10)
    assert row["upper"] - row["apart"] == pytest.approx(stats.t.ppf(0.975, 3) * se, rel=1e-10)
    assert row["lower"] == pytest.approx(2 * row["apart"] - row["upper"], rel=1e-12)
    assert row["p"] == pytest.approx(2 * stats.t.sf(apart / se, 3), rel=1e-9)


def test_means_are_those_by_kind_and_other_masks_are_left_out():
    frame = pairs_of()
    found = apart_from_itself(frame, "cka", ROLES)
    expected = similarity_by_kind(frame, "cka", ROLES, permutations=99).head(3)
    assert found["between"].tolist() == pytest.approx(expected["mean"].tolist(), rel=1e-12)
    assert found["pairs"].tolist() == expected["pairs"].tolist()
    other = frame["a"].str.contains("d9") | frame["b"].str.contains("d9")
    pd.testing.assert_frame_equal(found, apart_from_itself(frame.assign(cka=frame["cka"].mask(other, 0)), "cka", ROLES))


def test_what_is_closer_where_it_is_less_turns_the_sign():
    frame = pairs_of()
    distance = frame.assign(cka=1 - frame["cka"])
    more, less = apart_from_itself(frame, "cka", ROLES), apart_from_itself(distance, "cka", ROLES, closer="less")
    np.testing.assert_allclose(less[["apart", "lower", "upper"]], more[["apart", "lower", "upper"]], rtol=1e-9)


def test_pairs_with_one_start_are_less_apart():
    found = apart_from_itself(pairs_of(start=0.2), "cka", ROLES).set_index("shares")["apart"]
    assert found["start"] < found["course"] - 0.1


def test_groups_are_kept_apart():
    both = pd.concat([pairs_of(seed=layer).assign(layer=layer) for layer in (1, 2)])
    found = apart_from_itself(both, "cka", ROLES, by="layer")
    alone = apart_from_itself(pairs_of(seed=2), "cka", ROLES)
    pd.testing.assert_frame_equal(found[found["layer"] == 2].drop(columns="layer").reset_index(drop=True), alone)


@pytest.mark.parametrize(
    ("change", "roles", "words"),
    [
        (
            lambda frame: frame[frame["a"] != frame["b"]],
            ROLES,
            "12 run.s., the first '00', have no value with",
        ),
        (lambda frame: pd.concat([frame, frame.tail(2)]), ROLES, "stand more than once: a='32', b='32'"),
        (lambda frame: frame.iloc[1:], ROLES, "'00', '01' has 0 values"),
        (lambda frame: frame, roles_of_runs(RUNS[RUNS["init_seed"] < 2]), "2 starts; 3 are the fewest"),
        (lambda frame: frame.drop(columns="cka"), ROLES, "cka"),
    ],
)
def test_what_cannot_be_told_is_refused(change, roles, words):
    with pytest.raises(InputError, match=words):
        apart_from_itself(change(pairs_of()), "cka", roles)

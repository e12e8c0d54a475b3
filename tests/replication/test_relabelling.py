"""The permutation test of same-condition against cross-condition distances."""

from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest

from addends.errors import InputError
from addends.replication.relabelling import distinct_relabellings, same_against_cross


def table(matrix, names, **about):
    pairs = combinations(range(len(names)), 2)
    rows = [{"run": names[i], "other": names[j], "distance": matrix[i, j], **about} for i, j in pairs]
    return pd.DataFrame(rows)


def random_distances(names, seed, **about):
    points = np.random.default_rng(seed).normal(size=(len(names), 3))
    return table(np.linalg.norm(points[:, None] - points[None], axis=2), names, **about)


def conditions_of(sizes):
    labels = [f"c{number}" for number, size in enumerate(sizes) for _ in range(size)]
    return {f"r{place}": label for place, label in enumerate(labels)}


def brute_force(distances, conditions):
    """p over all R! permutations of the labels."""
    runs = sorted(conditions)
    d = {(row.run, row.other): row.distance for row in distances.itertuples()}

    def statistic(labels):
        same = [v for (a, b), v in d.items() if labels[a] == labels[b]]
        cross = [v for (a, b), v in d.items() if labels[a] != labels[b]]
        return np.mean(cross) - np.mean(same)

    observed = statistic(conditions)
    values = [statistic(dict(zip(runs, labels, strict=True))) for labels in permutations([conditions[r] for r in runs])]
    return observed, np.mean(np.array(values) >= observed - 1e-12)


@pytest.mark.parametrize("sizes", [(2, 2), (3, 3), (3, 2), (2, 2, 2), (3, 1, 1, 1), (2, 2, 1), (4, 2)])
def test_agrees_with_all_permutations_of_the_labels_of_runs(sizes):
    conditions = conditions_of(sizes)
    for seed in range(3):
        distances = random_distances(list(conditions), seed)
        found = same_against_cross(distances, conditions, by=[]).iloc[0]
        statistic, p = brute_force(distances, conditions)
        assert found["statistic"] == pytest.approx(statistic, rel=1e-12)
        assert found["p"] == pytest.approx(p, abs=1e-12)
        assert found["exact"]
        assert found["relabellings"] == distinct_relabellings(sizes)
        assert found["cross"] - found["same"] == pytest.approx(found["statistic"])


@pytest.mark.parametrize(
    ("sizes", "number"),
    [((3, 3), 10), ((3, 1, 1, 1), 20), ((2, 2, 2), 15), ((3, 2), 10), ((5, 5), 126), ((3, 3, 3), 280)],
)
def test_the_number_of_relabellings_and_the_floor(sizes, number):
    assert distinct_relabellings(sizes) == number
    conditions = conditions_of(sizes)
    # As far apart as can be: 0 within conditions, 1 across.
    names = list(conditions)
    matrix = np.array([[float(conditions[a] != conditions[b]) for b in names] for a in names])
    found = same_against_cross(table(matrix, names), conditions, by=[]).iloc[0]
    assert found["floor"] == 1 / number
    assert found["p"] == found["floor"]
    assert found["statistic"] == 1


def test_equal_distances_say_nothing():
    conditions = conditions_of((3, 3))
    found = same_against_cross(table(np.full((6, 6), 0.3), list(conditions)), conditions, by=[]).iloc[0]
    assert found["p"] == 1
    assert found["statistic"] == pytest.approx(0, abs=1e-12)


def test_names_order_and_units_change_nothing():
    conditions = conditions_of((3, 2, 1))
    distances = random_distances(list(conditions), 4)
    one = same_against_cross(distances, conditions, by=[]).iloc[0]
    turned = distances.rename(columns={"run": "other", "other": "run"}).sample(frac=1, random_state=0)
    two = same_against_cross(turned.assign(distance=1e6 * turned["distance"]), conditions, by=[]).iloc[0]
    assert two["p"] == one["p"]
    renamed = {run: run[::-1] for run in conditions}
    three = same_against_cross(
        distances.assign(run=distances["run"].map(renamed), other=distances["other"].map(renamed)),
        {renamed[run]: label for run, label in conditions.items()},
        by=[],
    ).iloc[0]
    assert three["p"] == one["p"]


def test_the_level_holds_although_pairs_share_runs():
    """With odd runs, far from all others, and no effect: p <= .1 in one test of ten, and every other p below a half."""
    conditions = conditions_of((4, 4))
    names = list(conditions)
    generator = np.random.default_rng(0)
    frames = []
    for number in range(400):
        points = generator.standard_t(2, size=(8, 2))
        frames.append(table(np.linalg.norm(points[:, None] - points[None], axis=2), names, layer=number))
    found = same_against_cross(pd.concat(frames), conditions, by="layer")
    assert (found["p"] <= 0.1).mean() <= 0.13
    assert (found["p"] <= 0.5).mean() == pytest.approx(0.5, abs=0.08)


def test_many_relabellings_are_drawn_with_a_seed_and_said_so():
    conditions = conditions_of((10, 10, 2))
    distances = random_distances(list(conditions), 1)
    one, two, three = (
        same_against_cross(distances, conditions, by=[], draws=500, seed=seed).iloc[0] for seed in (1, 1, 2)
    )
    assert not one["exact"]
    assert one["relabellings"] == 501
    assert one["floor"] == 1 / 501
    assert one["p"] == two["p"]
    assert one["p"] == pytest.approx(three["p"], abs=0.1)
    assert one["seed"] == 1


def test_drawn_relabellings_approach_the_exact_test(monkeypatch):
    from addends.replication import relabelling

    conditions = conditions_of((4, 4))
    distances = random_distances(list(conditions), 3)
    exact = same_against_cross(distances, conditions, by=[]).iloc[0]["p"]
    monkeypatch.setattr(relabelling, "MOST_RELABELLINGS", 10)
    drawn = same_against_cross(distances, conditions, by=[], draws=20_000).iloc[0]
    assert not drawn["exact"]
    assert drawn["p"] == pytest.approx(exact, abs=0.015)


def test_groups_are_tested_by_themselves_and_a_missing_distance_only_undoes_its_own():
    conditions = conditions_of((3, 2))
    parts = [random_distances(list(conditions), seed, layer=seed) for seed in (1, 2, 3)]
    parts[1].loc[0, "distance"] = np.nan
    found = same_against_cross(pd.concat(parts), conditions, by="layer").set_index("layer")
    for seed in (1, 3):
        alone = same_against_cross(parts[seed - 1], conditions, by="layer").iloc[0]
        assert found.loc[seed, "p"] == alone["p"]
    assert np.isnan(found.loc[2, "p"])
    assert found.loc[2, "note"] == "a distance is missing"


@pytest.mark.parametrize(
    ("change", "conditions", "message"),
    [
        (lambda d: d, conditions_of((4,)), r"of sizes \[4\]: two conditions are needed"),
        (lambda d: d, conditions_of((1, 1, 1, 1)), "two runs in at least one"),
        (lambda d: d, {"r0": "a", "r1": "b"}, r"no condition is given for the run\(s\) r2, r3"),
        (lambda d: d.drop(index=0), conditions_of((2, 2)), r"1 pair\(s\) .* first r0 and r1 \(0 times\)"),
        (
            lambda d: pd.concat([d, d.rename(columns={"run": "other", "other": "run"}).iloc[[0]]]),
            conditions_of((2, 2)),
            r"first r0 and r1 \(2 times\)",
        ),
        (lambda d: d.assign(other="r0"), conditions_of((2, 2)), "paired with itself"),
        (lambda d: d.assign(distance=np.inf), conditions_of((2, 2)), "infinite"),
        (lambda d: d.drop(columns="distance"), conditions_of((2, 2)), "no column 'distance'"),
        (lambda d: d.iloc[:0], conditions_of((2, 2)), "no rows"),
    ],
)
def test_bad_input(change, conditions, message):
    distances = random_distances([f"r{n}" for n in range(4)], 0)
    with pytest.raises(InputError, match=message):
        same_against_cross(change(distances), conditions, by=[])

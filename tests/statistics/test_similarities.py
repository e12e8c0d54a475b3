"""Similarity by what two runs share: agreement with the statistic by profiles, made-up effects, floors, refusals."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from addends.errors import InputError
from addends.statistics import agreement_by_kind, mean_over_pairs, roles_of_runs, similarity_by_kind

SEEDS = [(f"{i}{j}", i, j, j) for i in range(4) for j in range(4)]
MASKS = [("00-d9", 0, 0, 9), ("11-d8", 1, 1, 8)]
RUNS = pd.DataFrame(SEEDS + MASKS, columns=["run", "init_seed", "order_seed", "dropout_seed"])
ROLES = roles_of_runs(RUNS)


def pairs_of(start=0.0, course=0.0, noise=0.01, seed=0):
    generator = np.random.default_rng(seed)
    rows = []
    for one, two in combinations(RUNS.itertuples(), 2):
        value = 0.5 + start * (one.init_seed == two.init_seed) + course * (one.order_seed == two.order_seed)
        rows.append((one.run, two.run, value + noise * generator.normal()))
    rows += [(run, run, 0.99) for run in RUNS["run"]]
    return pd.DataFrame(rows, columns=["a", "b", "cka"])


def test_it_is_agreement_by_kind_of_the_pairs_own_agreement():
    generator = np.random.default_rng(1)
    sentences = np.arange(12)
    profiles = {run: generator.normal(size=12) + i * 0.5 * np.sin(sentences * (i + 1)) for run, i, _, _ in SEEDS}
    frame = pd.DataFrame(
        [(run, i, j, s, profiles[run][s]) for run, i, j, _ in SEEDS for s in sentences],
        columns=["run", "init_seed", "order_seed", "sentence", "y"],
    )
    expected = agreement_by_kind(frame, "y", permutations=499).query("measure == 'pearson'").reset_index(drop=True)
    rows = [(a, b, np.corrcoef(profiles[a], profiles[b])[0, 1]) for a, b in combinations(profiles, 2)]
    table = pd.DataFrame(rows, columns=["a", "b", "cka"])
    found = similarity_by_kind(table, "cka", ROLES[ROLES["role"] == "factorial"], permutations=499).head(3)
    names = ["shares", "pairs", "mean", "excess", "se", "lower", "upper", "p_least"]
    pd.testing.assert_frame_equal(found[names], expected[names])
    assert (found["p"] - expected["p"]).abs().max() < 0.08  # other draws of the same labellings


def test_what_is_shared_is_found_and_what_is_not_is_not():
    found = similarity_by_kind(pairs_of(start=0.2), "cka", ROLES).set_index("shares")
    assert found["pairs"].to_dict() == {
        "start": 24,
        "course": 24,
        "neither": 72,
        "other masks": 2,
        "checkpoint before": 18,
    }
    assert found.loc["start", "excess"] == pytest.approx(0.2, abs=0.01)
    assert found.loc["start", "lower"] > 0.1
    assert found.loc["start", "p"] < 0.001
    assert found.loc["course", "lower"] < 0 < found.loc["course", "upper"]
    assert found.loc["other masks", "mean"] == pytest.approx(0.7, abs=0.03)
    assert found.loc["checkpoint before", "mean"] == pytest.approx(0.99)


def test_distances_are_closer_where_they_are_smaller_and_order_of_rows_and_of_a_pair_does_not_matter():
    table = pairs_of(course=-0.2)
    found = similarity_by_kind(table, "cka", ROLES, closer="less").set_index("shares")
    assert found.loc["course", "p"] < 0.001
    assert similarity_by_kind(table, "cka", ROLES).set_index("shares").loc["course", "p"] > 0.9
    turned = table.sample(frac=1, random_state=0).rename(columns={"a": "b", "b": "a"})
    pd.testing.assert_frame_equal(
        similarity_by_kind(turned, "cka", ROLES.sample(frac=1, random_state=1), closer="less").set_index("shares"),
        found,
    )


def test_a_run_that_differs_by_more_than_its_masks_is_no_floor():
    """Such as one with the start and the course of another, on fewer sentences: left out."""
    smaller = ROLES[ROLES["run"] == "22"].assign(run="22-small", role="left out")
    table = pd.concat([pairs_of(), pd.DataFrame([("22", "22-small", 0.1)], columns=["a", "b", "cka"])])
    found = similarity_by_kind(table, "cka", pd.concat([ROLES, smaller])).set_index("shares")
    assert found.loc["other masks", "pairs"] == 2
    assert found.loc["other masks", "mean"] > 0.4


def test_groups_are_split():
    table = pd.concat([pairs_of(start=0.2).assign(layer=1), pairs_of().assign(layer=2)])
    found = similarity_by_kind(table, "cka", ROLES, by="layer", permutations=99)
    assert found.columns[0] == "layer"
    assert found.query("shares == 'start'")["excess"].round(1).tolist() == [0.2, 0.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.iloc[1:], "has 0 values"),
        (lambda table: pd.concat([table, table.head(1)]), "has 2 values"),
        (lambda table: table.assign(cka=np.nan), "spaces do not vary"),
        (lambda table: table.drop(columns="a"), "'a'"),
    ],
)
def test_bad_tables(change, message):
    with pytest.raises(InputError, match=message):
        similarity_by_kind(change(pairs_of()), "cka", ROLES)


def test_bad_roles():
    with pytest.raises(InputError, match="one run each"):
        similarity_by_kind(pairs_of(), "cka", ROLES.drop(index=0))
    with pytest.raises(InputError, match="run, start, course, role"):
        similarity_by_kind(pairs_of(), "cka", ROLES.drop(columns="init_seed"))
    with pytest.raises(InputError, match="closer='nearer'"):
        similarity_by_kind(pairs_of(), "cka", ROLES, closer="nearer")


# --- the mean over all pairs ---


def test_the_interval_of_a_mean_over_pairs_holds_the_mean_over_runs():
    """Runs are drawn; pairs are alike by what both runs are: the interval is about new runs."""
    held, errors, means = 0, [], []
    for seed in range(400):
        generator = np.random.default_rng(seed)
        own = generator.normal(size=12)
        rows = [(a, b, 0.5 + own[a] + own[b] + 0.1 * generator.normal()) for a, b in combinations(range(12), 2)]
        found = mean_over_pairs(pd.DataFrame(rows, columns=["a", "b", "cka"]), "cka").iloc[0]
        held += found["lower"] <= 0.5 <= found["upper"]
        errors.append(found["se"])
        means.append(found["mean"])
    assert 0.91 < held / 400 < 0.985
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.12)


def test_ordered_pairs_and_groups():
    rows = [("encoder", a, b, float(a != "x") + 10 * (b == "z")) for a in "xyz" for b in "xyz"]
    table = pd.DataFrame(rows, columns=["place", "encoder", "decoder", "bleu"])
    found = mean_over_pairs(table, "bleu", by="place", one="encoder", two="decoder")
    assert found[["place", "runs", "pairs"]].to_numpy().tolist() == [["encoder", 3, 6]]
    assert found["mean"].item() == pytest.approx(4 / 6 + 20 / 6)


def test_names_of_runs_may_be_categories():
    table = pd.DataFrame({"a": list("aab"), "b": list("bcc"), "cka": [0.5, 0.6, 0.7]})
    categories = table.astype({"a": "category", "b": "category"})  # of the one column others than of the other
    pd.testing.assert_frame_equal(mean_over_pairs(categories, "cka"), mean_over_pairs(table, "cka"))
    pairs = pairs_of()
    categories = pairs.astype({"a": "category", "b": "category"})
    pd.testing.assert_frame_equal(
        similarity_by_kind(categories, "cka", ROLES, permutations=99),
        similarity_by_kind(pairs, "cka", ROLES, permutations=99),
    )


def test_bad_pairs():
    table = pd.DataFrame({"a": list("aab"), "b": list("bcc"), "cka": [0.5, 0.6, 0.7]})
    with pytest.raises(InputError, match="stands twice"):
        mean_over_pairs(pd.concat([table, table]), "cka")
    turned = table.head(1).rename(columns={"a": "b", "b": "a"})
    with pytest.raises(InputError, match=r"1 of 3 pairs stand in both orders.*\['a', 'c'\], in one"):
        mean_over_pairs(pd.concat([table, turned]), "cka")
    with pytest.raises(InputError, match="every pair is one of 'a': without that run no pair is left"):
        mean_over_pairs(table.assign(a="a", b=list("bcd")), "cka")
    with pytest.raises(InputError, match=r"1 row\(s\) have no 'b'"):
        mean_over_pairs(table.assign(b=["b", None, "c"]), "cka")
    with pytest.raises(InputError, match=r"columns \['runs'\] of its own"):
        mean_over_pairs(table.assign(runs=1), "cka", by="runs")
    with pytest.raises(InputError, match="2 runs"):
        mean_over_pairs(table.head(1), "cka")
    with pytest.raises(InputError, match="nothing to compare"):
        mean_over_pairs(table.assign(cka=np.nan), "cka")
    with pytest.raises(InputError, match="every pair is one of 'a'"):
        mean_over_pairs(table.assign(a="a", b=list("bcd")), "cka")

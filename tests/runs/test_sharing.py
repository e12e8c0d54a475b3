"""Runs that share a seed share what it governs and nothing else: of tables made here, and of the committed ones."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest

from addends import tables
from addends.runs.sharing import shared_seeds

DATA = Path(__file__).parents[2] / "data"
SEEDS = {"a": (1, 2, 3), "b": (1, 2, 4), "c": (1, 5, 3), "d": (6, 2, 3)}


@pytest.fixture
def runs() -> pd.DataFrame:
    seeds = pd.DataFrame.from_dict(SEEDS, orient="index", columns=["init_seed", "order_seed", "dropout_seed"])
    return seeds.rename_axis("run").reset_index().assign(condition="ora", pairs=9)


@pytest.fixture
def manifest() -> pd.DataFrame:
    rows = [
        {
            "run": run,
            "checkpoint": step,
            "weights": f"w{init}" if step < 2 else f"w{seeds} at {step}",  # a warm-up's first step changes nothing
            "batches": f"b{order} at {step}" if step else "none",
            "generators": f"g{dropout}" if step == 0 else f"g{seeds} at {step}",
            "model": "m",
            "tokenizer": "t",
        }
        for run, seeds in SEEDS.items()
        for (init, order, dropout) in [seeds]
        for step in (0, 1, 10, 20)
    ]
    return pd.DataFrame(rows)


def complaints(runs: pd.DataFrame, manifest: pd.DataFrame) -> list[str]:
    frame = shared_seeds(runs, manifest)
    assert (frame["words"] == "").equals(frame["holds"])
    return frame.loc[~frame["holds"], "words"].tolist()


# --- identities ---


def test_each_pair_of_runs_is_compared_in_each_thing(runs, manifest):
    frame = shared_seeds(runs, manifest)
    assert frame["holds"].all()
    assert set(zip(frame["a"], frame["b"], strict=True)) == set(combinations("abcd", 2))
    assert frame.groupby("what")["shared"].sum().to_dict() == {"start": 3, "order": 3, "masks": 3, "weights": 0}
    assert frame.groupby("what")["steps"].unique().str[0].to_dict() == {
        "start": 1,
        "order": 3,
        "masks": 1,
        "weights": 2,
    }


@pytest.mark.parametrize("suite", ["european", "toy"])
def test_the_committed_runs_share_what_their_seeds_say_and_differ_in_the_rest(suite):
    runs, manifest = (tables.read_suite(DATA / suite, table) for table in ("runs", "manifest"))
    frame = shared_seeds(runs, manifest)
    assert len(frame) > 0
    assert complaints(runs, manifest) == []


# --- what does not hold ---


@pytest.mark.parametrize(
    ("run", "step", "entry", "value", "expected"),
    [
        ("a", 0, "weights", "w9", "share the init seed, and differ in their weights at step 0"),
        ("d", 0, "weights", "w1", "do not share the init seed, and have the same weights at step 0"),
        ("a", 10, "batches", "b9", "share the order seed, and differ in their batches at step 10"),
        (
            "c",
            20,
            "batches",
            "b2 at 20",
            "do not share the order seed and the pairs, and have the same batches at step 20",
        ),
        ("a", 0, "generators", "g9", "share the dropout seed, and differ in their random generators at step 0"),
        ("b", 0, "generators", "g3", "do not share the dropout seed, and have the same random generators at step 0"),
        ("b", 10, "weights", "w(1, 2, 3) at 10", "a and b are other runs, and have the same weights at step 10"),
    ],
)
def test_what_is_not_as_the_seeds_say_is_told(runs, manifest, run, step, entry, value, expected):
    manifest.loc[(manifest["run"] == run) & (manifest["checkpoint"] == step), entry] = value
    said = complaints(runs, manifest)
    assert said
    assert all(expected in one for one in said)


def test_a_run_of_all_the_same_seeds_must_be_the_same_run(runs, manifest):
    twin = manifest[manifest["run"] == "a"].assign(run="e")
    runs = pd.concat([runs, runs[runs["run"] == "a"].assign(run="e")])
    assert complaints(runs, pd.concat([manifest, twin])) == []
    twin.loc[twin["checkpoint"] == 20, "weights"] = "other"
    (said,) = complaints(runs, pd.concat([manifest, twin]))
    assert said == "a and e share all seeds, and differ in their weights at step 20"


@pytest.mark.parametrize("change", [{"condition": "nar"}, {"pairs": 8}])
def test_an_order_is_shared_where_the_pairs_are_the_same_ones_alone(runs, manifest, change):
    runs = pd.concat([runs[runs["run"] != "b"], runs[runs["run"] == "b"].assign(**change)])
    said = complaints(runs, manifest)
    assert said
    assert all("do not share the order seed and the pairs" in one for one in said)


# --- what is not there ---


def test_digests_of_weights_alone_are_compared_and_a_run_without_rows_is_not(runs, manifest):
    few = manifest[["run", "checkpoint", "weights"]].query("checkpoint >= 10 and run != 'd'")
    frame = shared_seeds(runs, few)
    assert frame["what"].unique().tolist() == ["weights"]
    assert set(frame["a"]) | set(frame["b"]) == {"a", "b", "c"}
    assert len(shared_seeds(runs, few.iloc[:0])) == 0


def test_starts_of_models_of_other_kinds_are_not_compared(runs, manifest):
    manifest.loc[manifest["run"] == "a", "model"] = "wider"
    frame = shared_seeds(runs, manifest).query("what == 'start'")
    assert "a" not in {*frame["a"], *frame["b"]}

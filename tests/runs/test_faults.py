"""Each planted fault is named: which run, which step, what kind; and where all is as it was saved, none is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from addends import tables
from addends.runs.faults import FAULTS, faults
from tests.runs.tiny_suite import (
    STEPS,
    SUITE,
    change_a_weight,
    digest_again,
    edit,
    forge_chain,
    put,
    relabel,
    swap,
    train,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train(folder / "work", folder / "data")
    return folder


@pytest.fixture
def place(trained, tmp_path) -> Path:
    """A copy of all that was trained and written."""
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def found(place: Path, table: bool) -> dict[tuple[str, int], tuple[str, str]]:
    frame = faults(SUITE, place / "work", place / "data" if table else None)
    assert set(frame["fault"]) <= set(FAULTS)
    return {(row.run, row.checkpoint): (row.fault, row.words) for row in frame.itertuples()}


# --- where all is well ---


@pytest.mark.parametrize("table", [False, True])
def test_an_intact_suite_has_no_fault(trained, table):
    assert found(trained, table) == {}


def test_a_run_in_training_lacks_nothing_nor_does_one_without_weights(place):
    for step in (9, 12):
        shutil.rmtree(place / "work" / "tiny" / "a" / f"checkpoint-{step}")
    newest = place / "work" / "tiny" / "a" / "checkpoint-9"
    newest.mkdir()
    (newest / "model.safetensors").write_bytes(b"half")  # it was being written
    shutil.rmtree(place / "work" / "tiny" / "b")
    assert found(place, table=True) == {}


# --- the six faults, and what a forger does to hide them ---


def swapped_starts(a: Path, b: Path) -> None:
    swap(a / "checkpoint-0", b / "checkpoint-0")


def swapped_starts_relabelled(a: Path, b: Path) -> None:
    swapped_starts(a, b)
    relabel(a / "checkpoint-0"), relabel(b / "checkpoint-0")


def swapped_starts_forged(a: Path, b: Path) -> None:
    swapped_starts(a, b)
    forge_chain(a), forge_chain(b)


def doubled(a: Path, b: Path) -> None:
    put(a / "checkpoint-6", a / "checkpoint-9")


def doubled_relabelled(a: Path, b: Path) -> None:
    doubled(a, b)
    relabel(a / "checkpoint-9")
    edit(a / "checkpoint-9" / "trainer_state.json", global_step=9)


def doubled_forged(a: Path, b: Path) -> None:
    doubled(a, b)
    forge_chain(a)


def relabelled(a: Path, b: Path) -> None:
    swap(a / "checkpoint-3", a / "checkpoint-6")


def relabelled_in_the_record(a: Path, b: Path) -> None:
    relabelled(a, b)
    relabel(a / "checkpoint-3"), relabel(a / "checkpoint-6")


def relabelled_last_in_the_record(a: Path, b: Path) -> None:
    swap(a / "checkpoint-9", a / "checkpoint-12")
    relabel(a / "checkpoint-9"), relabel(a / "checkpoint-12")


def relabelled_in_the_trainer_too(a: Path, b: Path) -> None:
    relabelled_in_the_record(a, b)
    for step in (3, 6):
        edit(a / f"checkpoint-{step}" / "trainer_state.json", global_step=step)


def relabelled_forged(a: Path, b: Path) -> None:
    relabelled(a, b)
    forge_chain(a)


def renamed(a: Path, b: Path) -> None:
    (a / "checkpoint-6").rename(a / "checkpoint-7")


def renamed_in_record_and_trainer(a: Path, b: Path) -> None:
    renamed(a, b)
    relabel(a / "checkpoint-7")
    edit(a / "checkpoint-7" / "trainer_state.json", global_step=7)


def of_another_run(a: Path, b: Path) -> None:
    put(b / "checkpoint-9", a / "checkpoint-9")


def of_another_run_relabelled(a: Path, b: Path) -> None:
    of_another_run(a, b)
    relabel(a / "checkpoint-9")


def last_of_another_run_relabelled(a: Path, b: Path) -> None:
    put(b / "checkpoint-12", a / "checkpoint-12")
    relabel(a / "checkpoint-12")


def of_another_run_forged(a: Path, b: Path) -> None:
    of_another_run(a, b)
    forge_chain(a)


def weights_of_another_run(a: Path, b: Path) -> None:
    shutil.copy(b / "checkpoint-9" / "model.safetensors", a / "checkpoint-9")


def changed(a: Path, b: Path) -> None:
    change_a_weight(a / "checkpoint-6")


def changed_with_its_digest(a: Path, b: Path) -> None:
    changed(a, b)
    digest_again(a / "checkpoint-6")


def changed_last_with_its_digest(a: Path, b: Path) -> None:
    change_a_weight(a / "checkpoint-12")
    digest_again(a / "checkpoint-12")


def changed_forged(a: Path, b: Path) -> None:
    changed(a, b)
    forge_chain(a)


def changed_start_forged(a: Path, b: Path) -> None:
    change_a_weight(a / "checkpoint-0")
    forge_chain(a)


def changed_optimizer(a: Path, b: Path) -> None:
    import torch

    file = a / "checkpoint-6" / "optimizer.pt"
    state = torch.load(file, weights_only=False)
    state["state"][0]["exp_avg"][0] += 1e-3
    torch.save(state, file)


def lost_record(a: Path, b: Path) -> None:
    (a / "checkpoint-6" / "lineage.json").unlink()


def missing(step: int) -> Callable[[Path, Path], None]:
    def lost(a: Path, b: Path) -> None:
        shutil.rmtree(a / f"checkpoint-{step}")

    return lost


STARTS = {("a", 0): ("start", "'b'"), ("b", 0): ("start", "'a'")}
DOUBLED = {("a", 9): ("doubled", "its step 6 doubled")}
RELABELLED = {("a", 3): ("relabelled", "its step 6 relabelled"), ("a", 6): ("relabelled", "its step 3 relabelled")}
RENAMED = {("a", 6): ("missing", "step 6"), ("a", 7): ("relabelled", "its step 6 relabelled")}
OTHER = {("a", 9): ("other run", "step 9 of another run, 'b'")}
CHANGED = {("a", 6): ("changed", "was changed")}
TABLE = "the table manifest has another weights"
ALWAYS = [
    (swapped_starts, STARTS),
    (swapped_starts_relabelled, STARTS),
    (doubled, DOUBLED),
    (doubled_relabelled, DOUBLED),
    (doubled_forged, DOUBLED),
    (relabelled, RELABELLED),
    (relabelled_in_the_record, RELABELLED),
    (relabelled_last_in_the_record, {("a", 9): ("relabelled", "its step 12"), ("a", 12): ("relabelled", "its step 9")}),
    (relabelled_in_the_trainer_too, RELABELLED),
    (renamed, RENAMED),
    (renamed_in_record_and_trainer, RENAMED),
    (of_another_run, OTHER),
    (of_another_run_relabelled, OTHER),
    (last_of_another_run_relabelled, {("a", 12): ("other run", "step 12 of another run, 'b'")}),
    (weights_of_another_run, OTHER),
    (changed, CHANGED),
    (changed_optimizer, {("a", 6): ("changed", "its optimizer has the digest")}),
    (changed_start_forged, {("a", 0): ("start", "init seed 1 draws other weights")}),
    (lost_record, CHANGED),
    *((missing(step), {("a", step): ("missing", f"step {step}")}) for step in (0, *STEPS)),
]
# Where all records agree with each other, the table tells which of two it was, or tells it at all.
BY_TABLE = [
    (swapped_starts_forged, {place: ("start", "init seed") for place in STARTS}, STARTS),
    (relabelled_forged, {}, RELABELLED),
    (of_another_run_forged, {("a", 9): ("other run", "'b'"), ("b", 9): ("other run", "'a'")}, OTHER),
    (
        changed_with_its_digest,
        {("a", 6): ("changed", "step 9 does not follow from step 6")},
        {("a", 6): ("changed", TABLE)},
    ),
    (changed_last_with_its_digest, {}, {("a", 12): ("changed", TABLE)}),
    (changed_forged, {}, {("a", 6): ("changed", TABLE)}),
]
CASES = [(plant, expected, table) for plant, expected in ALWAYS for table in (False, True)]
CASES += [(plant, told, table) for plant, *both in BY_TABLE for table, told in enumerate(both)]


@pytest.mark.parametrize(("plant", "expected", "table"), CASES)
def test_a_planted_fault_is_named(place, plant, expected, table):
    plant(*(place / "work" / "tiny" / run for run in "ab"))
    rows = found(place, bool(table))
    assert {where: fault for where, (fault, _) in rows.items()} == {key: fault for key, (fault, _) in expected.items()}
    for where, (_, words) in expected.items():
        assert words in rows[where][1]
        assert f"step {where[1]} of the run {where[0]!r}" in rows[where][1]


def test_the_words_say_what_each_witness_says(place):
    a, b = (place / "work" / "tiny" / run for run in "ab")
    relabelled(a, b), of_another_run(a, b), swapped_starts(a, b)
    words = {where: words for where, (_, words) in found(place, table=True).items()}
    for where, witnesses in {
        ("a", 3): ["its record says step 6 of the run 'a'", "its trainer was at step 6", TABLE],
        ("a", 9): ["its record says step 9 of the run 'b'", "its configuration has the digest", TABLE],
        ("a", 0): ["its record says step 0 of the run 'b'", "init seed 1 draws other weights", TABLE],
    }.items():
        for witness in witnesses:
            assert witness in words[where]


# --- what is no checkpoint's fault ---


def test_a_run_trained_anew_is_one_fault_and_not_one_a_checkpoint(place):
    file = place / "data" / "tiny" / "manifest" / "a.parquet"
    rows = tables.read(file, "manifest")
    other = rows["checkpoint"] > 0
    rows.loc[other, "weights"] = [f"{step:064x}" for step in rows.loc[other, "checkpoint"]]
    tables.write(rows, file, "manifest")
    ((where, (fault, words)),) = found(place, table=True).items()
    assert (where, fault) == (("a", 3), "other table")
    assert "from step 3 to 12" in words
    assert "on the same kind of machine" in words
    tables.write(rows.assign(processor="another"), file, "manifest")
    ((_, words),) = found(place, table=True).values()
    assert "with another processor" in words


@pytest.mark.parametrize(
    ("content", "words"), [('{"init_seed": 7}', "all its records name another"), ("{", "no record")]
)
def test_a_changed_configuration_is_one_fault(place, content, words):
    file = place / "work" / "tiny" / "a" / "run.json"
    file.write_text(content)
    ((where, (fault, said)),) = found(place, table=False).items()
    assert (where, fault) == (("a", 0), "changed")
    assert str(file) in said
    assert words in said


def test_a_table_of_digests_of_weights_alone_is_compared_by_these(place):
    for run in "ab":
        file = place / "data" / "tiny" / "manifest" / f"{run}.parquet"
        rows = tables.read(file, "manifest").query("checkpoint > 0")
        few = ["run", "checkpoint", "weights"]
        rows.loc[:, [name for name in rows if name not in few]] = pd.NA
        tables.write(rows, file, "manifest")
    assert found(place, table=True) == {}
    changed_forged(place / "work" / "tiny" / "a", place)
    assert list(found(place, table=True)) == [("a", 6)]


def test_faults_of_some_runs_alone_know_the_checkpoints_of_the_others(place):
    a, b = (place / "work" / "tiny" / run for run in "ab")
    of_another_run_relabelled(a, b)
    change_a_weight(b / "checkpoint-3")
    frame = faults(SUITE, place / "work", names=["a"])
    assert frame[["run", "checkpoint", "fault"]].to_numpy().tolist() == [["a", 9, "other run"]]


def test_a_record_that_is_no_record_is_named(place):
    file = place / "work" / "tiny" / "a" / "checkpoint-6" / "lineage.json"
    record = json.loads(file.read_text())
    for content in (record | {"checkpoint": "six"}, record | {"weights": [1], "previous": {}}, {"run": 3}):
        file.write_text(json.dumps(content))
        assert list(found(place, table=False)) == [("a", 6)]


def test_folders_beside_the_checkpoints_are_left_alone(place):
    (place / "work" / "tiny" / "a" / "checkpoint-notes").mkdir()
    assert found(place, table=False) == {}

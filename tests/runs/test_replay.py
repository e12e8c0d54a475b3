"""A stretch trained again has the recorded bytes; where a weight or a state was changed, the replay says so."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from addends.errors import DataError, InputError
from addends.runs import lineage, proofs
from addends.runs.replay import ELSEWHERE, kept_states, replay
from tests.runs.tiny_suite import KEPT, SUITE, change_a_weight, digest_again, edit, train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train(folder / "work", folder / "data")
    return folder / "work"


@pytest.fixture
def work(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "work"))


def everything(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.rglob("*") if file.is_file()}


def only_state(work: Path, step: int) -> Path:
    """Leave the run ``a`` one state to draw, and return its checkpoint."""
    for kept in {*KEPT, 12} - {step}:
        (work / "tiny" / "a" / f"checkpoint-{kept}" / "optimizer.pt").unlink()
    return work / "tiny" / "a" / f"checkpoint-{step}"


def elsewhere(work: Path, step: int) -> None:
    """Have a record say that it was written on another kind of machine."""
    edit(work / "tiny" / "a" / f"checkpoint-{step}" / lineage.FILE, instructions="none")


# --- identities ---


def test_a_stretch_trained_again_has_the_recorded_bytes_and_nothing_is_changed(trained):
    before = everything(trained)
    (row,) = replay(SUITE, "a", trained, seed=1, cpu=True).itertuples()
    assert (row.start, row.checkpoint) in {(0, 3), (6, 9)}
    assert (row.here, row.holds, row.differs, row.distance) == (True, True, "", 0)
    # Other masks are nearer than another start: the nearest run stands beside the replay.
    assert row.other == "c"
    assert row.between > 0.01
    assert (
        f"a: trained again from step {row.start} to step {row.checkpoint}, the weights have the same bytes" in row.words
    )
    assert everything(trained) == before


def test_the_seed_draws_among_the_states_that_were_kept(trained):
    assert kept_states(trained / "tiny" / "a") == [0, 6, 12]
    starts = [replay(SUITE, "a", trained, seed, cpu=True)["start"].item() for seed in (0, 1, 2, 3, 3)]
    assert set(starts) == set(KEPT)
    assert starts[-1] == starts[-2] == replay(SUITE, "a", trained, np.random.default_rng(3), cpu=True)["start"].item()


def test_each_checkpoint_passed_is_compared(work):
    only_state(work, 0)
    frame = replay(SUITE, "a", work, until=9, cpu=True)
    assert frame["checkpoint"].tolist() == [3, 6, 9]
    assert frame["holds"].all()


def test_the_distance_is_relative_to_the_way_from_the_start():
    start, first, second = ({"w": torch.tensor(values)} for values in ([1.0, 0.0], [4.0, 4.0], [4.0, 3.0]))
    assert proofs.distance(first, second, start) == 1 / 5
    assert proofs.distance(first, second) == 1 / 32**0.5
    assert proofs.distance(start, start, start) == 0
    assert proofs.distance(start, first, start) == float("inf")


def test_without_another_run_there_is_no_distance_beside(work):
    for run in "bc":
        shutil.rmtree(work / "tiny" / run)
    (row,) = replay(SUITE, "a", work, seed=1, cpu=True).itertuples()
    assert row.holds
    assert np.isnan(row.between)
    assert "no other run has that step" in row.words


# --- what must fail ---


def change_the_optimizer(checkpoint: Path) -> None:
    file = checkpoint / "optimizer.pt"
    state = torch.load(file, weights_only=False)
    state["state"][0]["exp_avg"] += 1e-3
    torch.save(state, file)


@pytest.mark.parametrize("change", [change_a_weight, change_the_optimizer])
def test_a_changed_state_is_refused_and_with_its_digest_written_anew_it_leads_elsewhere(work, change):
    state = only_state(work, 6)
    change(state)
    with pytest.raises(DataError, match="is not the file that was saved at step 6 of the run 'a'"):
        replay(SUITE, "a", work, cpu=True)
    digest_again(state)
    (row,) = replay(SUITE, "a", work, cpu=True).itertuples()
    assert not row.holds
    assert row.distance > 0
    assert "weights" in row.differs
    assert "from step 6 to step 9, on the same kind of machine, weights, optimizer" in row.words


@pytest.mark.parametrize("forged", [False, True])
def test_a_changed_weight_at_the_end_of_the_stretch_does_not_come_out(work, forged):
    only_state(work, 6)
    change_a_weight(work / "tiny" / "a" / "checkpoint-12")
    if forged:  # the last record: no chain shows it
        digest_again(work / "tiny" / "a" / "checkpoint-12")
    nine, twelve = replay(SUITE, "a", work, until=12, cpu=True).itertuples()
    assert (nine.holds, twelve.holds, twelve.differs) == (True, False, "weights")
    assert 0 < twelve.distance < 1e-3


def test_on_another_machine_the_distance_is_weighed_against_that_of_two_runs(work):
    only_state(work, 6)
    elsewhere(work, 9)
    (same,) = replay(SUITE, "a", work, cpu=True).itertuples()  # equal bytes are equal anywhere
    assert (same.here, same.holds, same.distance) == (False, True, 0)
    checkpoint = work / "tiny" / "a" / "checkpoint-9"
    change_a_weight(checkpoint)
    digest_again(checkpoint)
    (near,) = replay(SUITE, "a", work, cpu=True).itertuples()
    assert near.holds
    assert 0 < near.distance < ELSEWHERE * near.between
    assert "on another kind of machine, weights differ" in near.words
    shutil.copy(work / "tiny" / "b" / "checkpoint-9" / "model.safetensors", checkpoint)
    digest_again(checkpoint)
    (far,) = replay(SUITE, "a", work, cpu=True).itertuples()
    assert not far.holds
    assert (far.other, far.between) == ("b", 0)
    for run in "bc":
        shutil.rmtree(work / "tiny" / run)
    assert replay(SUITE, "a", work, cpu=True)["holds"].isna().all()  # nothing to weigh it against


def test_a_file_that_is_not_the_one_recorded_holds_on_no_machine(work):
    only_state(work, 6)
    elsewhere(work, 9)
    change_a_weight(work / "tiny" / "a" / "checkpoint-9")
    (row,) = replay(SUITE, "a", work, cpu=True).itertuples()
    assert (row.holds, row.differs) == (False, "weights")
    assert "is not the file that was recorded" in row.words


# --- bad input ---


def test_what_cannot_be_replayed_is_refused_in_words(work):
    with pytest.raises(InputError, match=r"until=5: .* no such checkpoint recorded. It has \[0, 3, 6, 9, 12\]"):
        replay(SUITE, "a", work, until=5)
    with pytest.raises(InputError, match="run='z'"):
        replay(SUITE, "z", work)
    only_state(work, 6)
    with pytest.raises(InputError, match=r"no state to train on from before step 3: it keeps those of \[6\]"):
        replay(SUITE, "a", work, until=3)
    with pytest.raises(InputError, match="no state to train on"):
        replay(SUITE, "a", work / "nothing")


def test_a_suite_that_says_something_else_than_was_trained_is_refused(work):
    other = replace(SUITE, recipe=replace(SUITE.recipe, peak_learning_rate=2e-2))
    with pytest.raises(DataError, match="other peak_learning_rate"):
        replay(other, "a", work, cpu=True)

"""The chain: it follows from what was trained, holds from step 0 to the end, and names what does not belong."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from addends import provenance
from addends.errors import DataError
from addends.runs import lineage, training
from addends.runs.batching import OrderedBatches
from addends.runs.suite import THREADS, Seeds
from tests.runs.test_training import OFTEN, SEEDS, killed, some_pairs

DIGESTS = ("weights", "optimizer", "scheduler", "generators", "batches", "previous", "configuration", "model")


def trained_in(folder: Path, tokenizer, seeds: Seeds = SEEDS, keep: tuple[int, ...] = (0, 6)) -> Path:
    training.train(folder, OFTEN, seeds, tokenizer, some_pairs(tokenizer), cpu=True, keep_states=keep)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, tokenizer) -> Path:
    return trained_in(tmp_path_factory.mktemp("runs") / "one", tokenizer)


@pytest.fixture(scope="module")
def other(tmp_path_factory, tokenizer) -> Path:
    """A run of the same start and order, with other masks."""
    return trained_in(tmp_path_factory.mktemp("runs") / "two", tokenizer, dataclasses.replace(SEEDS, dropout=4))


@pytest.fixture
def own(tmp_path, run) -> Path:
    return Path(shutil.copytree(run, tmp_path / run.name))


@pytest.fixture(scope="module")
def manifest(run) -> pd.DataFrame:
    return lineage.chain(run, OFTEN.checkpoints)


def faults(folder: Path, manifest: pd.DataFrame) -> list[str]:
    return lineage.broken_links(manifest) + lineage.altered_files(folder, manifest)


# --- identities ---


@pytest.mark.slow
def test_a_chain_holds_from_step_0_to_the_end(run, manifest):
    assert manifest["checkpoint"].tolist() == [0, 3, 6, 9, 12]
    assert manifest["run"].unique().tolist() == ["one"]
    assert faults(run, manifest) == []
    for before, after in zip(manifest.to_dict("records"), manifest.to_dict("records")[1:], strict=False):
        assert after["previous"] == lineage.record_sha256(before)
    assert all(manifest[name].str.fullmatch("[0-9a-f]{64}").all() for name in DIGESTS if name != "previous")


@pytest.mark.slow
def test_the_weights_digest_is_that_of_the_file(run, manifest):
    import hashlib

    for row in manifest.itertuples():
        file = run / f"checkpoint-{row.checkpoint}" / "model.safetensors"
        assert row.weights == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.slow
def test_the_start_is_what_the_init_seed_draws_before_any_update(run, tokenizer):
    from safetensors.torch import load_file

    fresh = training.new_model(OFTEN, tokenizer, SEEDS.init).state_dict()
    saved = load_file(run / "checkpoint-0" / "model.safetensors")
    assert all(torch.equal(weight, fresh[name]) for name, weight in saved.items())
    assert json.loads((run / "checkpoint-0" / "trainer_state.json").read_text())["log_history"] == []


@pytest.mark.slow
def test_the_batches_recorded_are_those_that_the_order_seed_draws(manifest, tokenizer):
    pairs = some_pairs(tokenizer)
    drawn = OrderedBatches(pairs.lengths(), OFTEN.batch_pairs, OFTEN.steps, SEEDS.order)
    expected = lineage.batches_at(drawn, pairs.ids, (0, *OFTEN.checkpoints))
    assert dict(zip(manifest["checkpoint"], manifest["batches"], strict=True)) == expected
    another = OrderedBatches(pairs.lengths(), OFTEN.batch_pairs, OFTEN.steps, SEEDS.order + 1)
    assert lineage.batches_at(another, pairs.ids, (12,))[12] != expected[12]


def test_a_digest_of_batches_depends_on_every_id_and_on_the_order_of_the_batches():
    ids = [f"fra-{number}" for number in range(6)]
    first = lineage.batches_at([[0, 1], [2, 3]], ids, (1, 2))
    assert first[2] == lineage.add_batch(first[1], ["fra-2", "fra-3"])
    assert first[1] == lineage.add_batch(None, ["fra-0", "fra-1"])
    for others in ([[2, 3], [0, 1]], [[0, 1], [3, 2]], [[0], [1, 2, 3]], [[0, 1], [2, 4]]):
        assert lineage.batches_at(others, ids, (2,))[2] != first[2]


@pytest.mark.slow
def test_runs_that_share_start_and_order_share_their_digests_and_differ_in_the_rest(run, other, manifest):
    theirs = lineage.chain(other, OFTEN.checkpoints)
    assert theirs["batches"].tolist() == manifest["batches"].tolist()
    assert (theirs["weights"] == manifest["weights"]).tolist() == [True, False, False, False, False]
    assert (theirs["generators"] != manifest["generators"]).all()


def state() -> dict:
    return {
        "step": 3,
        "lr": [0.1, None, True],
        "moments": {0: torch.arange(3.0), 1: np.arange(4)},
        "python": (3, (1, 2), None),
    }


def test_a_content_digest_depends_on_values_alone_and_on_each_of_them(tmp_path):
    digest = provenance.content_sha256(state())
    backwards = dict(reversed(state().items()))
    torch.save(backwards, tmp_path / "state.pt")
    assert provenance.content_sha256(backwards) == digest
    assert provenance.content_sha256(torch.load(tmp_path / "state.pt", weights_only=False)) == digest
    changes = [
        ("step", 4),
        ("lr", [0.1, None, 1]),
        ("lr", [0.1, True]),
        ("python", (3, (1, 2, None))),
        ("moments", {0: torch.arange(3.0).double(), 1: np.arange(4)}),
        ("moments", {0: torch.arange(3.0)[None], 1: np.arange(4)}),
        ("moments", {0: torch.nextafter(torch.arange(3.0), torch.tensor(9.0)), 1: np.arange(4)}),
    ]
    digests = [provenance.content_sha256(state() | {name: value}) for name, value in changes]
    assert len({digest, *digests}) == 1 + len(changes)


def test_what_has_no_digest_is_refused():
    with pytest.raises(DataError, match="A set cannot be digested"):
        provenance.content_sha256({"ids": {1, 2}})


# --- one core ---


@pytest.mark.slow
def test_training_has_one_thread_says_so_and_gives_the_others_back(manifest, tmp_path, tokenizer):
    assert manifest["threads"].unique().tolist() == [THREADS] == [1]
    assert manifest["interop_threads"].unique().tolist() == [torch.get_num_interop_threads()]
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        again = lineage.chain(trained_in(tmp_path / "one", tokenizer), OFTEN.checkpoints)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    pd.testing.assert_frame_equal(again, manifest)


# --- killed, replayed ---


@pytest.mark.slow
def test_a_run_killed_twice_has_the_records_and_the_log_of_one_that_was_not(tmp_path, tokenizer, run):
    folder, saved = tmp_path / "one", tmp_path / "vocabulary"
    tokenizer.save_pretrained(saved)
    killed(folder, saved, after_step=8)
    killed(folder, saved, writing=9)
    trained_in(folder, tokenizer)
    expected = lineage.chain(run, OFTEN.checkpoints)
    pd.testing.assert_frame_equal(lineage.chain(folder, OFTEN.checkpoints), expected)
    assert faults(folder, expected) == []
    logs = [training.log(place / "checkpoint-12", every=5) for place in (folder, run)]
    pd.testing.assert_frame_equal(*logs)
    assert logs[0]["step"].tolist() == [5, 10, 12]
    assert logs[0].notna().all(axis=None)


@pytest.mark.slow
def test_the_log_has_means_of_the_loss_and_the_steps_own_rate(run):
    every = training.log(run / "checkpoint-12", every=1)
    assert every["step"].tolist() == list(range(1, 13))
    some = training.log(run / "checkpoint-12", every=4)
    assert some["loss"].tolist() == pytest.approx(every["loss"].to_numpy().reshape(3, 4).mean(axis=1))
    for name in ("learning_rate", "gradient_norm"):
        assert some[name].tolist() == every[name].iloc[3::4].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 6])
def test_a_stretch_trained_again_from_a_kept_state_gives_the_same_records(own, tokenizer, manifest, step):
    for later in (0, *OFTEN.checkpoints):
        if later > step:
            shutil.rmtree(own / f"checkpoint-{later}")
    trained_in(own, tokenizer)
    pd.testing.assert_frame_equal(lineage.chain(own, OFTEN.checkpoints), manifest)


@pytest.mark.slow
def test_states_are_kept_where_asked_and_at_the_end(run):
    kept = {
        step: all((run / f"checkpoint-{step}" / file).exists() for file in lineage.STATES.values())
        for step in (0, *OFTEN.checkpoints)
    }
    assert kept == {0: True, 3: False, 6: True, 9: False, 12: True}


# --- what does not belong ---


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "file"), [("weights", "model.safetensors"), *lineage.STATES.items()])
def test_a_file_of_another_run_is_refused_by_name_before_training_goes_on(own, other, tokenizer, entry, file, manifest):
    for step in (9, 12):
        shutil.rmtree(own / f"checkpoint-{step}")
    place = own / "checkpoint-6" / file
    # The scheduler of another run is the same: one of another step stands for it.
    shutil.copy(other / ("checkpoint-0" if entry == "scheduler" else "checkpoint-6") / file, place)
    with pytest.raises(
        DataError, match=rf"checkpoint-6/{file} is not the file .* step 6 of the run 'one': its {entry}"
    ):
        trained_in(own, tokenizer)
    assert any(file in said for said in lineage.altered_files(own, manifest))


@pytest.mark.slow
def test_a_state_that_is_cut_off_is_named(own, tokenizer):
    shutil.rmtree(own / "checkpoint-9"), shutil.rmtree(own / "checkpoint-12")
    file = own / "checkpoint-6" / "optimizer.pt"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"checkpoint-6/optimizer\.pt cannot be read"):
        trained_in(own, tokenizer)


@pytest.mark.slow
def test_a_checkpoint_saved_half_way_is_trained_again(own, tokenizer, manifest):
    (own / "checkpoint-12" / "lineage.json").unlink()
    (own / "checkpoint-9" / "optimizer.pt").unlink(missing_ok=True)
    trained_in(own, tokenizer)
    pd.testing.assert_frame_equal(lineage.chain(own, OFTEN.checkpoints), manifest)


def swap_start(folder: Path, other: Path) -> None:
    shutil.rmtree(folder / "checkpoint-0")
    shutil.copytree(other / "checkpoint-0", folder / "checkpoint-0")


def double_step(folder: Path, other: Path) -> None:
    shutil.rmtree(folder / "checkpoint-9")
    shutil.copytree(folder / "checkpoint-6", folder / "checkpoint-9")


def relabel(folder: Path, other: Path) -> None:
    (folder / "checkpoint-3").rename(folder / "kept")
    (folder / "checkpoint-6").rename(folder / "checkpoint-3")
    (folder / "kept").rename(folder / "checkpoint-6")


def change_a_weight(folder: Path, other: Path) -> None:
    file = folder / "checkpoint-6" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def take_of_another_run(folder: Path, other: Path) -> None:
    shutil.rmtree(folder / "checkpoint-9")
    shutil.copytree(other / "checkpoint-9", folder / "checkpoint-9")


def lose_a_step(folder: Path, other: Path) -> None:
    shutil.rmtree(folder / "checkpoint-9")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "named"),
    [
        (swap_start, "checkpoint-0/"),
        (double_step, "checkpoint-9/"),
        (relabel, "checkpoint-3/"),
        (change_a_weight, "checkpoint-6/model.safetensors"),
        (take_of_another_run, "checkpoint-9/"),
        (lose_a_step, "checkpoint-9/"),
    ],
)
def test_a_planted_fault_is_named(own, other, manifest, plant, named):
    plant(own, other)
    assert any(named in said for said in lineage.altered_files(own, manifest))


@pytest.mark.slow
@pytest.mark.parametrize("row", [0, 1, 2, 3])
@pytest.mark.parametrize("entry", [name for name in DIGESTS if name != "previous"])
def test_a_changed_entry_of_a_record_breaks_the_link_after_it(manifest, row, entry):
    changed = copy.deepcopy(manifest)
    changed.loc[row, entry] = "0" * 64
    steps = changed["checkpoint"]
    assert lineage.broken_links(changed) == [f"step {steps[row + 1]} does not follow from step {steps[row]}"]


@pytest.mark.slow
def test_a_missing_record_breaks_the_chain(manifest):
    assert lineage.broken_links(manifest.drop(2)) == ["step 9 does not follow from step 3"]
    (said,) = lineage.broken_links(manifest.drop(0))
    assert said.startswith("the first record is of step 3")


def edit(file: Path, change) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def another_configuration(checkpoint: Path) -> None:
    (checkpoint.parent / "run.json").write_text('{"init_seed": 7}')


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (lambda at: edit(at / lineage.FILE, lambda said: said.pop("optimizer")), r"lacks the entries \['optimizer'\]"),
        (lambda at: edit(at / lineage.FILE, lambda said: said.pop("batches")), r"lacks the entries \['batches'\]"),
        (lambda at: edit(at / lineage.FILE, lambda said: said.update(batches="0" * 64)), "on other pairs .* order"),
        (lambda at: edit(at / lineage.FILE, lambda said: said.update(previous="0" * 64)), "step 6 does not follow"),
        (
            lambda at: edit(at / "config.json", lambda said: said.update(scale_embedding=False)),
            "config.json is not the",
        ),
        (lambda at: edit(at / "vocab.json", lambda said: said.update(more=1)), "vocab.json is not the file"),
        (lambda at: (at / "vocab.json").write_text("{"), "vocab.json cannot be read"),
        (another_configuration, "run.json is not the file"),
        (lambda at: edit(at / "trainer_state.json", lambda said: said.update(global_step=5)), "is of step 5"),
        (lambda at: edit(at / "trainer_state.json", lambda said: said["log_history"].pop(2)), "losses of 5 steps"),
    ],
)
def test_what_is_not_this_training_is_refused_before_it_goes_on(own, tokenizer, plant, message):
    for step in (9, 12):
        shutil.rmtree(own / f"checkpoint-{step}")
    plant(own / "checkpoint-6")
    with pytest.raises(DataError, match=message):
        trained_in(own, tokenizer)


@pytest.mark.slow
def test_another_order_is_refused_before_training_goes_on(own, tokenizer):
    shutil.rmtree(own / "checkpoint-12"), shutil.rmtree(own / "checkpoint-9")
    with pytest.raises(DataError, match="on other pairs than those given, or in another order"):
        trained_in(own, tokenizer, dataclasses.replace(SEEDS, order=3))

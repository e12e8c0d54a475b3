"""Training: the seeds say all, each its own part, and a training that was killed ends as if it had not been."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import MarianMTModel, MarianTokenizer, TrainerState

from addends.errors import InputError
from addends.runs import training, vocabulary, workfolder
from addends.runs.batching import Collator, OrderedBatches, Pairs
from addends.runs.suite import Recipe, Seeds, as_record, log_spaced
from addends.runs.training import new_model
from tests.conftest import SOURCES, TARGETS

ROOT = Path(__file__).parents[2]
RECIPE = Recipe(
    layers=1,
    dim=16,
    heads=2,
    feed_forward=32,
    batch_pairs=4,
    checkpoints=(12,),
    peak_learning_rate=1e-2,
    warmup_steps=2,
    dropout=0.3,
    positions=40,
)
OFTEN = dataclasses.replace(RECIPE, checkpoints=(3, 6, 9, 12))
SEEDS = Seeds(init=1, order=2, dropout=3)


def some_pairs(tokenizer) -> Pairs:
    """Sixteen pairs: every source with every target."""
    sources = [source for source in SOURCES for _ in TARGETS]
    return Pairs(vocabulary.encode_all(tokenizer, sources), vocabulary.encode_all(tokenizer, TARGETS * len(SOURCES)))


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / "model.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def global_state() -> tuple:
    numpy = np.random.get_state()  # noqa: NPY002 - that it is left alone is what is tested
    return random.getstate(), numpy[1].tolist(), numpy[2], torch.get_rng_state().tolist()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tokenizer):
    """The final weights of a run with the seeds given; its twelve steps are done once for all tests."""
    done = {}

    def train(seeds: Seeds = SEEDS, again: bool = False) -> dict[str, torch.Tensor]:
        if seeds not in done or again:
            folder = tmp_path_factory.mktemp("run")
            done[seeds] = weights(training.train(folder, RECIPE, seeds, tokenizer, some_pairs(tokenizer), cpu=True)[12])
        return done[seeds]

    return train


# --- the model ---


def test_initial_weights_depend_on_their_seed_alone(tokenizer):
    first = new_model(RECIPE, tokenizer, 1).state_dict()
    torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
    torch.manual_seed(99)
    assert same(new_model(RECIPE, tokenizer, 1).state_dict(), first)
    other = new_model(RECIPE, tokenizer, 2).state_dict()
    assert not torch.equal(other["model.shared.weight"], first["model.shared.weight"])


def test_a_new_model_leaves_the_global_generators_alone(tokenizer):
    before = global_state()
    new_model(RECIPE, tokenizer, 1)
    assert global_state() == before


def test_seeded_restores_the_generators_when_an_error_passes_through():
    before = global_state()

    @training.seeded(1)
    def fail():
        torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert global_state() == before


def test_a_new_model_is_the_recipes(tokenizer):
    model = new_model(dataclasses.replace(RECIPE, layers=2), tokenizer, 1)
    assert (len(model.model.encoder.layers), len(model.model.decoder.layers)) == (2, 2)
    assert model.get_input_embeddings().weight.shape == (len(tokenizer), 16)
    assert model.config.decoder_start_token_id == model.config.pad_token_id == tokenizer.pad_token_id
    embedded = model.model.shared.weight * 16**0.5  # scaled, as the decoder reads them
    assert embedded[: tokenizer.pad_token_id].std().item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoints": ()}, r"checkpoints=\(\)"),
        ({"checkpoints": (3, 3)}, "ascending"),
        ({"checkpoints": (6, 3)}, "ascending"),
        ({"checkpoints": (0, 3)}, "at least 1"),
        ({"heads": 3}, "dim=16 is no multiple of heads=3"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(RECIPE, **change)


def test_log_spaced_steps_end_with_the_plateau():
    steps = log_spaced(10, 4000, 30)
    assert steps[0] == 10
    assert steps[-3:] == (3800, 3900, 4000)
    assert 30 <= len(steps) <= 32
    assert list(steps) == sorted(set(steps))
    ratios = np.diff(np.log(steps[:-4]))
    assert ratios == pytest.approx(np.log(400) / 29, rel=0.15)  # rounded to whole steps


def test_a_record_holds_recipe_and_seeds():
    record = as_record(RECIPE, SEEDS)
    assert {name: record.pop(f"{name}_seed") for name in ("init", "order", "dropout")} == dataclasses.asdict(SEEDS)
    assert Recipe(**record) == RECIPE


# --- the order ---


@pytest.fixture
def lengths():
    return np.random.default_rng(0).integers(2, 30, size=103)


def batches_of(lengths, steps=52, order_seed=1, batch_pairs=4, pool=5) -> list[list[int]]:
    return list(OrderedBatches(lengths, batch_pairs, steps, order_seed, pool))


def test_every_pass_holds_every_pair_once(lengths):
    batches = batches_of(lengths, steps=3 * 26)  # 103 pairs are 25 batches of 4 and one of 3
    assert len(batches) == 78
    for start in (0, 26, 52):
        assert sorted(pair for batch in batches[start : start + 26] for pair in batch) == list(range(103))
    assert batches[:26] != batches[26:52]


def test_the_order_depends_on_its_seed_alone(lengths):
    first = batches_of(lengths)
    np.random.seed(5), torch.manual_seed(5)  # noqa: NPY002
    before = global_state()
    assert batches_of(lengths) == first
    assert global_state() == before
    assert batches_of(lengths, order_seed=2) != first


def test_a_longer_training_begins_as_a_shorter_one_and_can_be_entered_anywhere(lengths):
    sampler = OrderedBatches(lengths, 4, 60, order_seed=1, pool=5)
    whole = list(sampler)
    assert len(whole) == len(sampler) == 60
    assert whole[:52] == batches_of(lengths)
    assert list(islice(sampler, 31, None)) == whole[31:]
    assert list(sampler) == whole


def test_pairs_of_a_batch_are_of_similar_length(lengths):
    def spread(batches):
        return np.mean([np.ptp(lengths[batch]) for batch in batches])

    assert spread(batches_of(lengths, 26)) < 0.5 * spread(batches_of(lengths, 26, pool=1))


def test_fewer_pairs_than_a_batch_are_refused(lengths):
    with pytest.raises(InputError, match="3 pairs do not fill one batch of 4"):
        OrderedBatches(lengths[:3], 4, 10, order_seed=1)


# --- the batches ---


def test_the_decoder_reads_the_target_behind_the_start_symbol_and_padding_does_not_count():
    collate = Collator(pad=9, start=8)
    # Ids that are the pad's and the start's own stand in the sentences: lengths decide, not ids.
    batch = collate([(7, np.array([1, 9, 0]), np.array([4, 0])), (2, np.array([3, 0]), np.array([5, 9, 6, 0]))])
    assert batch["input_ids"].tolist() == [[1, 9, 0], [3, 0, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[4, 0, -100, -100], [5, 9, 6, 0]]
    assert batch["decoder_input_ids"].tolist() == [[8, 4, 0, 9], [8, 5, 9, 6]]
    assert batch["pairs"].tolist() == [7, 2]


def test_the_decoder_reads_what_transformers_own_shift_gives(make_marian, tokenizer):
    pairs = some_pairs(tokenizer)
    pad = tokenizer.pad_token_id
    batch = Collator(pad, pad)([pairs[index] for index in (0, 5, 10)])
    assert batch.pop("pairs").tolist() == [0, 5, 10]
    model = make_marian()
    with torch.no_grad():
        ours = model(**batch).loss
        own = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"]).loss
    torch.testing.assert_close(ours, own)


def test_sources_and_targets_come_in_pairs(tokenizer):
    pairs = some_pairs(tokenizer)
    assert len(pairs) == 16
    assert pairs.lengths().tolist() == [
        max(len(source), len(target)) for _, source, target in map(pairs.__getitem__, range(16))
    ]
    with pytest.raises(InputError, match="16 sources, 15 targets and 16 ids"):
        Pairs(pairs.sources, pairs.targets[1:])


# --- the seeds ---


@pytest.mark.slow
def test_the_same_seeds_give_the_same_weights_bit_for_bit(trained):
    first = trained()
    torch.manual_seed(77), np.random.seed(77), random.seed(77)  # noqa: NPY002
    before = global_state()
    assert same(trained(again=True), first)
    assert global_state() == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["init", "order", "dropout"])
def test_each_seed_by_itself_changes_the_weights(trained, name):
    other = trained(dataclasses.replace(SEEDS, **{name: 10}))
    assert not same(other, trained())
    assert all(torch.isfinite(weight).all() for weight in other.values())


def test_order_and_dropout_have_no_part_in_the_initial_weights_nor_init_in_the_order(tmp_path, tokenizer, monkeypatch):
    """What each seed governs is passed to it and to nothing else: seen at the moment training would begin."""
    begun, pairs = [], some_pairs(tokenizer)

    class Stop(Exception):
        pass

    def watch(trainer, **options):
        begun.append((trainer.model.state_dict(), list(trainer.batches), torch.get_rng_state()))
        raise Stop

    monkeypatch.setattr(training._Trainer, "train", watch)
    for change in ({}, {"init": 10}, {"order": 10}, {"dropout": 10}):
        seeds = dataclasses.replace(SEEDS, **change)
        with pytest.raises(Stop):
            training.train(tmp_path / "run", RECIPE, seeds, tokenizer, pairs, cpu=True)
    base, *others = begun
    alike = [
        (same(initial, base[0]), order == base[1], torch.equal(dropout, base[2])) for initial, order, dropout in others
    ]
    assert alike == [(False, True, True), (True, False, True), (True, True, False)]


# --- killed, and gone on with ---


def train_and_die(folder: str, vocabulary_folder: str, after_step: int | None, writing: int | None) -> None:
    """Run in a process of its own: train, and be killed after a step, or while a checkpoint is being written."""

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    step_ended, state_saved = training._SaveAt.on_step_end, TrainerState.save_to_json

    def on_step_end(self, args, state, control, **options):
        if state.global_step == after_step:
            die()
        return step_ended(self, args, state, control, **options)

    def save_to_json(self, path):
        if f"checkpoint-{writing}/" in path:
            die()
        state_saved(self, path)

    training._SaveAt.on_step_end, TrainerState.save_to_json = on_step_end, save_to_json
    tokenizer = MarianTokenizer.from_pretrained(vocabulary_folder)
    training.train(Path(folder), OFTEN, SEEDS, tokenizer, some_pairs(tokenizer), cpu=True)


def killed(folder: Path, vocabulary_folder: Path, after_step: int | None = None, writing: int | None = None) -> None:
    arguments = (str(folder), str(vocabulary_folder), after_step, writing)
    code = f"from tests.runs.test_training import train_and_die; train_and_die(*{arguments!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr


def has(folder: Path, step: int) -> set[str]:
    names = {*training._RESUME_ONLY, "trainer_state.json", "model.safetensors", "lineage.json"}
    return names & {file.name for file in (folder / f"checkpoint-{step}").glob("*")}


KEPT = {"trainer_state.json", "model.safetensors", "lineage.json"}
WHOLE = {*training._RESUME_ONLY, *KEPT}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return training.train(folder, OFTEN, SEEDS, tokenizer, some_pairs(tokenizer), cpu=True)


@pytest.fixture(scope="module")
def vocabulary_folder(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("saved") / "vocabulary"
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_training_killed_twice_ends_with_the_weights_of_one_that_was_not(
    tmp_path, tokenizer, vocabulary_folder, uninterrupted
):
    folder = tmp_path / "run"
    killed(folder, vocabulary_folder, after_step=8)
    assert [has(folder, step) for step in OFTEN.checkpoints] == [KEPT, WHOLE, set(), set()]
    written = {step: (folder / f"checkpoint-{step}" / "model.safetensors").stat().st_mtime_ns for step in (3, 6)}

    killed(folder, vocabulary_folder, writing=9)
    assert has(folder, 9) == WHOLE - {"trainer_state.json", "lineage.json"}  # cut off in the middle of its writing
    assert has(folder, 6) == WHOLE  # so this one is still there to go on from

    checkpoints = training.train(folder, OFTEN, SEEDS, tokenizer, some_pairs(tokenizer), cpu=True)
    for step, checkpoint in uninterrupted.items():
        assert same(weights(checkpoints[step]), weights(checkpoint)), step
    for step, moment in written.items():  # gone on with, not begun anew
        assert (checkpoints[step] / "model.safetensors").stat().st_mtime_ns == moment


@pytest.mark.slow
def test_a_training_stopped_at_a_checkpoint_takes_no_step_more_and_goes_on_from_there(
    tmp_path, tokenizer, uninterrupted, monkeypatch
):
    steps, step = [], training._Trainer.training_step
    monkeypatch.setattr(
        training._Trainer, "training_step", lambda *given, **named: steps.append(1) or step(*given, **named)
    )
    folder, pairs = tmp_path / "run", some_pairs(tokenizer)
    assert list(training.train(folder, OFTEN, SEEDS, tokenizer, pairs, cpu=True, until=6)) == [0, 3, 6]
    assert len(steps) == 6
    checkpoints = training.train(folder, OFTEN, SEEDS, tokenizer, pairs, cpu=True)
    assert len(steps) == 12
    for at, checkpoint in uninterrupted.items():
        assert same(weights(checkpoints[at]), weights(checkpoint)), at


@pytest.mark.slow
def test_only_the_newest_checkpoint_keeps_what_resuming_needs(uninterrupted):
    assert list(uninterrupted) == [0, *OFTEN.checkpoints]
    folder = uninterrupted[12].parent
    assert [has(folder, step) for step in OFTEN.checkpoints] == [KEPT, KEPT, KEPT, WHOLE]
    for checkpoint in uninterrupted.values():
        assert MarianMTModel.from_pretrained(checkpoint).config.d_model == 16


@pytest.fixture
def copy(tmp_path, uninterrupted):
    folder = uninterrupted[12].parent  # its name is the run's
    return Path(shutil.copytree(folder, tmp_path / folder.name))


@pytest.mark.slow
@pytest.mark.parametrize("content", [None, "", '{"global_step": 1'], ids=["absent", "empty", "cut off"])
@pytest.mark.parametrize("file", ["trainer_state.json", "lineage.json"])
def test_a_checkpoint_without_its_whole_state_is_not_complete(copy, content, file):
    state = copy / "checkpoint-9" / file
    assert workfolder.is_complete(state.parent)
    state.unlink()
    if content is not None:
        state.write_text(content)
    assert not workfolder.is_complete(state.parent)


@pytest.mark.slow
def test_a_finished_training_is_left_as_it_is_even_without_its_optimizer(copy, tokenizer, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("nothing is left to train")

    monkeypatch.setattr(training._Trainer, "train", refuse)
    for name in training._RESUME_ONLY:
        (copy / "checkpoint-12" / name).unlink()
    before = {file: file.stat().st_mtime_ns for file in copy.rglob("*")}
    checkpoints = training.train(copy, OFTEN, SEEDS, tokenizer, some_pairs(tokenizer), cpu=True)
    assert list(checkpoints) == [0, *OFTEN.checkpoints]
    assert {file: file.stat().st_mtime_ns for file in copy.rglob("*")} == before


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["checkpoint-12/trainer_state.json", "checkpoint-12/rng_state.pth"])
def test_what_cannot_be_gone_on_from_is_trained_again_and_ends_alike(copy, tokenizer, uninterrupted, lost):
    (copy / lost).unlink()
    shutil.rmtree(copy / "checkpoint-3")  # so that training is not finished
    (copy / "checkpoint-notes").mkdir()  # someone's own
    checkpoints = training.train(copy, OFTEN, SEEDS, tokenizer, some_pairs(tokenizer), cpu=True)
    for step, checkpoint in uninterrupted.items():
        assert same(weights(checkpoints[step]), weights(checkpoint)), step
    assert (copy / "checkpoint-notes").exists()


@pytest.mark.slow
def test_checkpoints_of_a_longer_recipe_are_not_taken_for_this_ones(copy, tokenizer):
    shorter = dataclasses.replace(OFTEN, checkpoints=(5, 10))
    with pytest.raises(InputError, match=r"lacks the checkpoints \[5, 10\].*another recipe"):
        training.train(copy, shorter, SEEDS, tokenizer, some_pairs(tokenizer), cpu=True)


def test_pairs_that_do_not_fit_are_refused_before_training(tmp_path, tokenizer):
    pairs = some_pairs(tokenizer)
    pairs.targets[7] = np.zeros(41, dtype=np.int32)
    with pytest.raises(InputError, match=r"pairs\[7\] has 41 tokens.*positions=40"):
        training.train(tmp_path / "run", RECIPE, SEEDS, tokenizer, pairs, cpu=True)
    few = Pairs(pairs.sources[:3], pairs.targets[:3])
    with pytest.raises(InputError, match="3 pairs do not fill one batch of 4"):
        training.train(tmp_path / "run", RECIPE, SEEDS, tokenizer, few, cpu=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("shown", [True, False])
def test_transformers_own_bars_are_off_inside_a_job_and_as_before_after_it(shown):
    from transformers.utils import logging

    was = logging.is_progress_bar_enabled()
    try:
        (logging.enable_progress_bar if shown else logging.disable_progress_bar)()
        with training.one_bar():
            assert not logging.is_progress_bar_enabled()
        assert logging.is_progress_bar_enabled() == shown
    finally:
        (logging.enable_progress_bar if was else logging.disable_progress_bar)()

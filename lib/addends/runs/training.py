"""Training one run: a Marian model by transformers' own trainer, with separate, recorded seeds, resumable.

Checkpoints (kept on disk, outside version control) are at step 0, before the first update, and at the steps the recipe
names. Each ends with its record (`addends.runs.lineage`). Training that is killed goes on from its last complete
checkpoint and ends with the weights it would have ended with. It has one core: how many threads add up a sum changes
its last bits.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from torch.utils.data import DataLoader
from transformers import (
    MarianConfig,
    MarianMTModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.trainer_callback import ProgressCallback, TrainerControl, TrainerState
from transformers.utils import logging as transformers_logging

from addends.errors import DataError, InputError
from addends.runs import lineage
from addends.runs.batching import Collator, OrderedBatches, Pairs
from addends.runs.suite import THREADS, Recipe, Seeds
from addends.runs.workfolder import STATE, checkpoints, is_complete

if TYPE_CHECKING:
    from transformers import MarianTokenizer

_RESUME_ONLY = tuple(lineage.STATES.values())


def new_model(recipe: Recipe, tokenizer: MarianTokenizer, init_seed: int) -> MarianMTModel:
    """A Marian model with fresh weights drawn by ``init_seed``; torch's global generator is left as it was."""
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    config = MarianConfig(
        vocab_size=len(tokenizer),
        d_model=recipe.dim,
        encoder_layers=recipe.layers,
        decoder_layers=recipe.layers,
        encoder_attention_heads=recipe.heads,
        decoder_attention_heads=recipe.heads,
        encoder_ffn_dim=recipe.feed_forward,
        decoder_ffn_dim=recipe.feed_forward,
        max_position_embeddings=recipe.positions,
        dropout=recipe.dropout,
        activation_function="swish",
        init_std=recipe.dim**-0.5,  # scaled embeddings then have entries of variance 1
        scale_embedding=True,
        pad_token_id=pad,
        eos_token_id=end,
        decoder_start_token_id=pad,
        forced_eos_token_id=None,
        bos_token_id=None,
    )
    with seeded(init_seed):
        model = MarianMTModel(config)
    model.generation_config.bad_words_ids = [[pad]]  # padding starts a translation, and is never part of one
    model.generation_config.max_length = None
    model.generation_config.num_beams = 1
    return model


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed python, numpy and torch inside the block, and restore their global generators after it."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the legacy global state is what is restored
    try:
        with torch.random.fork_rng():
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002 - libraries read the legacy global generator
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Torch with `THREADS` threads inside the block, and with as many as before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def one_bar() -> Iterator[None]:
    """Inside the block transformers draws no bars of its own, for files read and written, across the one there is."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def train(
    folder: Path,
    recipe: Recipe,
    seeds: Seeds,
    tokenizer: MarianTokenizer,
    pairs: Pairs,
    cpu: bool = False,
    keep_states: Sequence[int] = (),
    quiet: bool = False,
    until: int | None = None,
) -> dict[int, Path]:
    """Train one run on one core, or finish it, and return its checkpoints: {step: folder that `from_pretrained` loads}.

    Parameters
    ----------
    folder : Path
        Where checkpoints go (``checkpoint-<step>``, from step 0 on). Complete ones found there are kept and trained on
        from. Its name is the run's.
    recipe, seeds : Recipe, Seeds
        Together with the pairs they determine the run: the same ones on the same machine give the same weights.
    cpu : bool
        Train on the CPU even where there is a GPU.
    keep_states : sequence of int
        Steps whose checkpoints keep the states of optimizer, scheduler and generators, so that the stretch that follows
        can be trained again. Elsewhere they go once the next checkpoint is whole.
    quiet : bool
        Show no progress bar.
    until : int or None
        The checkpoint to stop at, on the course to the recipe's end; None stands for that end.

    Raises
    ------
    InputError
        If a pair is longer than the model's positions, there are fewer pairs than a batch, or the folder holds
        another recipe's checkpoints.
    DataError
        If the checkpoint to go on from holds a file that is not the one saved there, does not follow from those before
        it, or was trained on other pairs or in another order.
    """
    lengths = pairs.lengths()
    if (lengths > recipe.positions).any():
        index = int((lengths > recipe.positions).argmax())
        raise InputError(
            f"pairs[{index}] has {lengths[index]} tokens on its longer side, the recipe positions={recipe.positions}. "
            "Leave such pairs out, or give the recipe more positions."
        )
    batches = OrderedBatches(lengths, recipe.batch_pairs, recipe.steps, seeds.order)
    folder.mkdir(parents=True, exist_ok=True)
    _remove(checkpoint for checkpoint in checkpoints(folder) if not is_complete(checkpoint))
    steps = [step for step in recipe.checkpoints if until is None or step <= until]
    wanted = {step: folder / f"checkpoint-{step}" for step in (0, *steps)}
    if all(path.exists() for path in wanted.values()):
        return wanted
    _remove_not_resumable(folder)
    last = next(iter(checkpoints(folder)), None)
    record = _resumable(last, batches, pairs) if last else None
    with one_core(), seeded(seeds.dropout):
        trainer = _Trainer(
            model=new_model(recipe, tokenizer, seeds.init),
            args=_arguments(folder, recipe, seeds, cpu),
            train_dataset=pairs,
            data_collator=Collator(tokenizer.pad_token_id, tokenizer.pad_token_id),
            processing_class=tokenizer,
            compute_loss_func=_SmoothedLoss(recipe.label_smoothing),
        )
        trainer.batches, trainer.record = batches, record
        trainer.remove_callback(ProgressCallback)
        if not quiet:
            trainer.add_callback(_Progress)
        trainer.add_callback(_SaveAt(trainer, steps, keep_states))
        try:
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        except (OSError, RuntimeError, SafetensorError) as error:
            if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in str(error):
                raise  # no file of torch's
            raise DataError(
                f"A checkpoint of {folder} could not be written ({str(error).splitlines()[0]}). Those that are whole "
                "stay. Make room, or make the folder writable, and call again: training goes on from the last of them."
            ) from error
    missing = [step for step, path in wanted.items() if not path.exists()]
    if missing:
        raise InputError(
            f"{folder} lacks the checkpoints {missing}: it holds later ones, trained by another recipe. "
            "Delete the folder, or name another."
        )
    return wanted


def _resumable(last: Path, batches: OrderedBatches, pairs: Pairs) -> dict:
    """The record of the checkpoint to go on from, once it is known to be one of this training."""
    record, step = lineage.refuse_altered(last), lineage.step_of(last)
    wrong = lineage.broken_links(pd.DataFrame([lineage.read(path) for path in checkpoints(last.parent)]))
    said = json.loads((last / STATE).read_text())
    logged = [entry["step"] for entry in said["log_history"] if "loss" in entry]
    if said["global_step"] != step or logged != list(range(1, step + 1)):
        wrong.append(f"{STATE} is of step {said['global_step']}, and has the losses of {len(logged)} steps")
    drawn = lineage.batches_at(islice(batches, step), pairs.ids, (step,))
    if record["batches"] != drawn.get(step, record["batches"]):  # a shorter recipe draws no batch so late
        wrong.append("it was trained on other pairs than those given, or in another order")
    if wrong:
        raise DataError(
            f"{last} is no checkpoint of this training: {'; '.join(wrong)}. Restore what it was, or delete it: "
            "training then goes on from the checkpoint before it."
        )
    return record


class _Trainer(Seq2SeqTrainer):
    """Seq2SeqTrainer that takes its batches in the order it is given, and notes which pairs it was trained on.

    ``record`` is that of the checkpoint before, or None before the first.
    """

    train_dataset: Pairs
    batches: OrderedBatches
    record: dict | None = None
    seen: str | None = None

    def get_train_dataloader(self) -> DataLoader:
        loader = DataLoader(self.train_dataset, batch_sampler=self.batches, collate_fn=self.data_collator)
        return self.accelerator.prepare(loader)

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        pairs = inputs.pop("pairs").tolist()
        loss = super().training_step(model, inputs, num_items_in_batch)
        before = self.seen or (self.record["batches"] if self.record else None)
        self.seen = lineage.add_batch(before, (self.train_dataset.ids[pair] for pair in pairs))
        return loss


class _Progress(ProgressCallback):
    """The trainer's progress bar without its log, which is kept for every step."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        pass


class _SaveAt(TrainerCallback):
    """Saves before the first update and at the steps named, the last of which ends training; records what it saved."""

    def __init__(self, trainer: _Trainer, steps: Sequence[int], keep_states: Sequence[int]):
        self.trainer, self.steps, self.keep_states = trainer, set(steps), set(keep_states)

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step == 0 and self.trainer.record is None:
            self.trainer._save_checkpoint(kwargs["model"], trial=None)
            self.on_save(args, state, control)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> TrainerControl:
        control.should_save = state.global_step in self.steps
        if state.global_step == max(self.steps):
            control.should_training_stop = True
        return control

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> TrainerControl:
        newest = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        seen = self.trainer.seen or lineage.batches_at((), (), (0,))[0]
        self.trainer.record = lineage.write(newest, seen, self.trainer.record)
        for checkpoint in checkpoints(newest.parent):
            if checkpoint != newest and lineage.step_of(checkpoint) not in self.keep_states:
                for name in _RESUME_ONLY:
                    (checkpoint / name).unlink(missing_ok=True)
        return control


@dataclass
class _SmoothedLoss:
    """Mean label-smoothed cross-entropy over the real labels of a batch, in nats per target token."""

    smoothing: float

    def __call__(
        self, outputs: Seq2SeqLMOutput, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None
    ) -> torch.Tensor:
        logits = outputs["logits"].flatten(0, 1)  # (sentence, position, piece) -> (sentence * position, piece)
        return torch.nn.functional.cross_entropy(logits, labels.flatten(), label_smoothing=self.smoothing)


def _arguments(folder: Path, recipe: Recipe, seeds: Seeds, cpu: bool) -> Seq2SeqTrainingArguments:
    return Seq2SeqTrainingArguments(
        output_dir=str(folder),
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.batch_pairs,
        learning_rate=recipe.peak_learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=recipe.warmup_steps,
        adam_beta2=0.98,
        max_grad_norm=1.0,
        seed=seeds.dropout,
        save_strategy="no",  # the callback says when
        logging_steps=1,  # a mean over more steps would depend on where training was taken up again
        report_to="none",
        use_cpu=cpu,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )


def log(checkpoint: Path, every: int = 100) -> pd.DataFrame:
    """The log of training up to a checkpoint: step, loss, gradient_norm, learning_rate, every so many steps.

    Loss is the mean over the steps since the row before, in nats per target token, label smoothing included; norm (of
    the gradient, before it is clipped) and learning rate are those of the step.
    """
    history = json.loads((checkpoint / STATE).read_text())["log_history"]
    steps = pd.DataFrame([entry for entry in history if "loss" in entry])
    last_of = -(-steps["step"] // every) * every  # rounded up
    rows = steps.groupby(last_of).agg(
        step=("step", "last"), loss=("loss", "mean"), gradient_norm=("grad_norm", "last"),
        learning_rate=("learning_rate", "last"),
    )  # fmt: skip
    return rows.reset_index(drop=True)


def _remove_not_resumable(folder: Path) -> None:
    """Delete the newest checkpoints up to one that training can go on from: what follows is trained again."""
    found = checkpoints(folder)
    ready = [all((checkpoint / name).exists() for name in _RESUME_ONLY) for checkpoint in found]
    _remove(found[: ready.index(True)] if any(ready) else found)


def _remove(checkpoints: Iterable[Path]) -> None:
    for checkpoint in checkpoints:
        shutil.rmtree(checkpoint)

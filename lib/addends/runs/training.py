"""Training one run: a Marian model by transformers' own trainer, with separate, recorded seeds, resumable.

Three seeds make a run: ``init`` draws the initial weights, ``order`` the order of the training pairs, ``dropout`` the
units dropped. Runs that share one seed and differ in another can be told apart by what the seed governs.
Checkpoints (kept on disk, outside version control) are at the steps the recipe names. Training that is killed goes on
from its last complete checkpoint and ends with the weights it would have ended with.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import MarianConfig, MarianMTModel, Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from addends.errors import InputError

if TYPE_CHECKING:
    from transformers import MarianTokenizer

_STATE = "trainer_state.json"
_RESUME_ONLY = ("optimizer.pt", "scheduler.pt", "rng_state.pth")


@dataclass(frozen=True)
class Seeds:
    """The three seeds of a run."""

    init: int
    order: int
    dropout: int


@dataclass(frozen=True)
class Recipe:
    """What the runs of a suite have in common.

    ``checkpoints`` are the steps (updates) whose weights are kept, ascending; the last one is the end of training.
    """

    layers: int
    dim: int
    heads: int
    feed_forward: int
    batch_pairs: int
    checkpoints: tuple[int, ...]
    peak_learning_rate: float = 2e-3
    warmup_steps: int = 300
    dropout: float = 0.1
    label_smoothing: float = 0.1
    positions: int = 256

    def __post_init__(self) -> None:
        if list(self.checkpoints) != sorted(set(self.checkpoints)) or not self.checkpoints or self.checkpoints[0] < 1:
            raise InputError(f"checkpoints={self.checkpoints}: ascending steps, each at least 1, are wanted.")
        if self.dim % self.heads:
            raise InputError(f"dim={self.dim} is no multiple of heads={self.heads}.")

    @property
    def steps(self) -> int:
        return self.checkpoints[-1]


def log_spaced(first: int, last: int, count: int, plateau: Sequence[float] = (0.95, 0.975)) -> tuple[int, ...]:
    """About ``count`` steps from ``first`` to ``last``, evenly spaced in their logarithm, and shares of the last.

    ``plateau`` names shares of ``last`` that are always among them: neighbours of the end, by which one can see how
    much a number moves while quality does not.
    """
    spaced = np.geomspace(first, last, count).round().astype(int)
    return tuple(sorted({*spaced.tolist(), *(round(share * last) for share in plateau), last}))


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


class Pairs(Dataset):
    """Encoded sentence pairs."""

    def __init__(self, sources: Sequence[np.ndarray], targets: Sequence[np.ndarray]):
        if len(sources) != len(targets):
            raise InputError(f"{len(sources)} sources and {len(targets)} targets: as many of each are wanted.")
        self.sources, self.targets = sources, targets

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.sources[index], self.targets[index]

    def lengths(self) -> np.ndarray:
        """Tokens of the longer side of each pair, of shape (pair,)."""
        return np.array([max(len(s), len(t)) for s, t in zip(self.sources, self.targets, strict=True)])


class OrderedBatches(Sampler):
    """The training order, whole: ``steps`` batches of pairs of similar length, drawn by ``order_seed`` alone.

    Every pass over the corpus shuffles the pairs, cuts them into pools of ``pool`` batches, sorts each pool by length
    (so that little is padding) and shuffles the batches. Since the order does not depend on what was trained before,
    training can resume at any step.
    """

    def __init__(self, lengths: np.ndarray, batch_pairs: int, steps: int, order_seed: int, pool: int = 50):
        if len(lengths) < batch_pairs:
            raise InputError(f"{len(lengths)} pairs do not fill one batch of {batch_pairs}.")
        self.lengths, self.batch_pairs, self.steps = lengths, batch_pairs, steps
        self.order_seed, self.pool = order_seed, pool

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng(self.order_seed)
        given = 0
        while True:
            order = generator.permutation(len(self.lengths))
            batches = []
            for start in range(0, len(order), self.batch_pairs * self.pool):
                pool = order[start : start + self.batch_pairs * self.pool]
                pool = pool[np.argsort(self.lengths[pool], kind="stable")]
                batches += [pool[i : i + self.batch_pairs] for i in range(0, len(pool), self.batch_pairs)]
            for index in generator.permutation(len(batches)):
                if given == self.steps:
                    return
                given += 1
                yield batches[index].tolist()


@dataclass
class Collator:
    """Pads a batch; the decoder reads the target shifted right behind the start symbol."""

    pad: int
    start: int
    ignored: int = field(default=-100)

    def __call__(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, torch.Tensor]:
        sources, targets = zip(*pairs, strict=True)
        input_ids = _stack(sources, self.pad)  # (sentence, position)
        labels = _stack(targets, self.ignored)
        decoder_input_ids = torch.full_like(labels, self.pad)
        decoder_input_ids[:, 0] = self.start
        decoder_input_ids[:, 1:] = labels[:, :-1].masked_fill(labels[:, :-1] == self.ignored, self.pad)
        # By length, not by id: the start symbol is the pad symbol, and attention masks must not hide it.
        lengths = torch.tensor([len(source) for source in sources])
        mask = torch.arange(input_ids.shape[1])[None] < lengths[:, None]
        return {
            "input_ids": input_ids,
            "attention_mask": mask.long(),
            "decoder_input_ids": decoder_input_ids,
            "labels": labels,
        }


def train(
    folder: Path, recipe: Recipe, seeds: Seeds, tokenizer: MarianTokenizer, pairs: Pairs, cpu: bool = False
) -> dict[int, Path]:
    """Train one run, or finish it, and return its checkpoints: {step: folder that `from_pretrained` loads}.

    Parameters
    ----------
    folder : Path
        Where checkpoints go (``checkpoint-<step>``). Complete ones found there are kept and trained on from.
    recipe, seeds : Recipe, Seeds
        Together with the pairs they determine the run: the same ones on the same machine give the same weights.
    cpu : bool
        Train on the CPU even where there is a GPU.

    Raises
    ------
    InputError
        If a pair is longer than the model's positions, there are fewer pairs than a batch, or the folder holds
        another recipe's checkpoints.
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
    _remove(checkpoint for checkpoint in _checkpoints(folder) if not is_complete(checkpoint))
    checkpoints = {step: folder / f"checkpoint-{step}" for step in recipe.checkpoints}
    if all(path.exists() for path in checkpoints.values()):
        return checkpoints
    _remove_not_resumable(folder)
    last = get_last_checkpoint(str(folder))
    with seeded(seeds.dropout):
        trainer = _Trainer(
            model=new_model(recipe, tokenizer, seeds.init),
            args=_arguments(folder, recipe, seeds, cpu),
            train_dataset=pairs,
            data_collator=Collator(tokenizer.pad_token_id, tokenizer.pad_token_id),
            processing_class=tokenizer,
            callbacks=[_SaveAt(recipe.checkpoints)],
            compute_loss_func=_SmoothedLoss(recipe.label_smoothing),
        )
        trainer.batches = batches
        trainer.train(resume_from_checkpoint=last)
    missing = [step for step, path in checkpoints.items() if not path.exists()]
    if missing:
        raise InputError(
            f"{folder} lacks the checkpoints {missing}: it holds later ones, trained by another recipe. "
            "Delete the folder, or name another."
        )
    return checkpoints


class _Trainer(Seq2SeqTrainer):
    """Seq2SeqTrainer that takes its batches in the order it is given."""

    batches: OrderedBatches

    def get_train_dataloader(self) -> DataLoader:
        loader = DataLoader(self.train_dataset, batch_sampler=self.batches, collate_fn=self.data_collator)
        return self.accelerator.prepare(loader)


class _SaveAt(TrainerCallback):
    """Saves at the steps named, and drops from all but the newest checkpoint what only resuming needs."""

    def __init__(self, steps: Sequence[int]):
        self.steps = set(steps)

    def on_step_end(self, args, state, control, **kwargs):
        control.should_save = state.global_step in self.steps
        return control

    def on_save(self, args, state, control, **kwargs):
        for checkpoint in Path(args.output_dir).glob("checkpoint-*"):
            if checkpoint.name != f"checkpoint-{state.global_step}":
                for name in _RESUME_ONLY:
                    (checkpoint / name).unlink(missing_ok=True)
        return control


@dataclass
class _SmoothedLoss:
    """Mean label-smoothed cross-entropy over the real labels of a batch, in nats per target token."""

    smoothing: float

    def __call__(self, outputs, labels: torch.Tensor, num_items_in_batch=None) -> torch.Tensor:
        logits = outputs.logits.flatten(0, 1)  # (sentence, position, piece) -> (sentence * position, piece)
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
        logging_steps=100,
        report_to="none",
        use_cpu=cpu,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint was written to its end: the trainer writes its state last."""
    try:
        json.loads((checkpoint / _STATE).read_text())
    except (OSError, ValueError):  # not there, or cut off
        return False
    return True


def _checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")), reverse=True)


def _remove_not_resumable(folder: Path) -> None:
    """Delete the newest checkpoints up to one that training can go on from: what follows is trained again."""
    found = _checkpoints(folder)
    ready = [all((checkpoint / name).exists() for name in _RESUME_ONLY) for checkpoint in found]
    _remove(found[: ready.index(True)] if any(ready) else found)


def _remove(checkpoints: Iterable[Path]) -> None:
    for checkpoint in checkpoints:
        shutil.rmtree(checkpoint)


def _stack(rows: Sequence[np.ndarray], filler: int) -> torch.Tensor:
    longest = max(len(row) for row in rows)
    stacked = torch.full((len(rows), longest), filler, dtype=torch.long)
    for index, row in enumerate(rows):
        stacked[index, : len(row)] = torch.from_numpy(np.asarray(row, dtype=np.int64))
    return stacked


def as_record(recipe: Recipe, seeds: Seeds) -> dict:
    """Recipe and seeds as one flat dictionary, to be written beside the weights."""
    return {**asdict(recipe), **{f"{name}_seed": value for name, value in asdict(seeds).items()}}

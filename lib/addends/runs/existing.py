"""Checkpoints: loading one to be measured, and what can be said of a run that trained elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from addends.decomposition import load
from addends.errors import DataError, InputError
from addends.provenance import file_sha256
from addends.runs import workfolder
from addends.runs.suite import Run, Suite

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_WEIGHTS = ("*.safetensors", "*.bin")
_TOKENIZER = ("*.spm", "*.model", "vocab*", "tokenizer*", "*.txt", "special_tokens_map.json")

FEWEST = 0.5
"""The share of a model's embeddings that its tokenizer knows at least: embeddings are padded, but never doubled."""


def load_to_measure(
    source: str | Path, revision: str | None = None, device: str = "cpu"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """`addends.load`, for an encoder-decoder whose tokenizer is its own.

    Raises
    ------
    InputError
        As `addends.load` does; or if the model does not translate, or its tokenizer is another model's: it knows too
        many or too few tokens, or has other ids for padding and end.
    """
    model, tokenizer = load(str(source), revision=revision, device=device)
    if not model.config.is_encoder_decoder:
        raise InputError(
            f"{str(source)!r} is a {model.config.model_type}, which translates nothing: a suite measures "
            "encoder-decoders on pairs of sentences. For other models there is addends.measure."
        )
    refuse_foreign_tokenizer(model, tokenizer, str(source))
    return model, tokenizer


def load_checkpoint(suite: Suite, name: str, step: int, work: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A run's model and tokenizer at one of its steps, as `load_to_measure` gives them.

    Raises
    ------
    InputError
        As `load_to_measure` does; or if the run has no such checkpoint.
    DataError
        If the work folder does not hold it.
    """
    source, revision = suite.source_of(suite.run(name), step, work)
    if not suite.models and not Path(source).exists():
        raise DataError(f"{source} is missing: train the run first (addends train), or leave it out (--only).")
    return load_to_measure(source, revision)


def refuse_foreign_tokenizer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raise InputError where sizes or special ids say that the tokenizer is another model's.

    Of two vocabularies with the same size and the same special ids nothing in a model tells which one is its own.
    """
    table: Any = model.get_input_embeddings()
    embedded = table.num_embeddings
    known, exact = len(tokenizer), model.config.model_type == "marian"  # whose embeddings are never padded
    if known > embedded or (known < embedded if exact else known < FEWEST * embedded):
        raise InputError(
            f"{name!r}: the tokenizer there knows {known} tokens, the model embeds {embedded}: it is another model's. "
            "Save the model's own tokenizer beside it: tokenizer.save_pretrained(the same folder)."
        )
    for kind in ("pad", "eos"):
        own, given = getattr(tokenizer, f"{kind}_token_id"), getattr(model.config, f"{kind}_token_id")
        allowed = given if isinstance(given, list) else [given]
        if own is not None and given is not None and own not in allowed:
            raise InputError(
                f"{name!r}: {kind}_token_id={own} in the tokenizer there, {given} in the model's config.json: the "
                "tokenizer is another model's. Save the model's own beside it: tokenizer.save_pretrained(the same "
                "folder)."
            )


def runs_row(suite: Suite, run: Run, model: PreTrainedModel, layers: int) -> pd.DataFrame:
    """The run's row of the table ``runs``: seeds, size of the training data and lineage are not known.

    ``parameters`` counts all weights of the checkpoint, fixed ones too.
    """
    said = {
        "pairs": pd.NA,
        "init_seed": pd.NA,
        "order_seed": pd.NA,
        "dropout_seed": pd.NA,
        "layers": layers,
        "dim": model.config.hidden_size,
        "parameters": model.num_parameters(),
        "lineage": "none",
    }
    return pd.DataFrame([workfolder.description(suite, run) | said])


def origin(source: str | Path, revision: str | None) -> dict[str, str]:
    """What says which checkpoint was measured: SHA-256 of a folder's files, or the name and revision on the Hub."""
    folder = Path(source)
    if not folder.is_dir():
        name = f"{source}@{revision or 'main'}"
        return dict.fromkeys(("weights", "configuration", "model", "tokenizer"), name)
    kinds = {"weights": _WEIGHTS, "model": ("config.json",), "tokenizer": _TOKENIZER}
    digests = {kind: hashlib.sha256() for kind in kinds}
    for kind, patterns in kinds.items():
        for file in sorted({file for pattern in patterns for file in folder.glob(pattern)}):
            digests[kind].update(f"{file.name} {file_sha256(file)}\n".encode())
    return {kind: digest.hexdigest() for kind, digest in digests.items()} | {"configuration": ""}

"""Loading a model and its tokenizer so that they can be decomposed: right type, finite weights, no dropout."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from safetensors import SafetensorError
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from addends.checks import check_choice
from addends.decomposition.architectures import architecture_of, how_to_support
from addends.decomposition.batch import embeddings
from addends.errors import InputError, ModelStateError, UnsupportedModelError

DTYPES = ("float32", "float64", "float16", "bfloat16")


def load(
    name_or_folder: str | os.PathLike, revision: str | None = None, dtype: str = "float32", device: str = "cpu"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a supported model and its tokenizer, from a folder or by its name on the Hub.

    Parameters
    ----------
    name_or_folder : str or path
        A folder written by ``save_pretrained``, or a name such as "Helsinki-NLP/opus-mt-fr-en".
    revision : str, optional
        The Hub revision (branch, tag or commit).
    dtype : {"float32", "float64", "float16", "bfloat16"}
        The type of the weights, whatever the checkpoint was saved in.
    device : str
        Where the model goes: "cpu", "cuda", ...

    Returns
    -------
    model, tokenizer
        The model in evaluation mode.

    Raises
    ------
    InputError
        If there is no model there, weights are missing, damaged or of another shape, tokenizer files are missing, the
        type is not allowed, the device is not there, or the tokenizer knows more tokens than the model embeds.
    UnsupportedModelError
        If the architectures table has no row for the model's family, or config.json names no known one.
    ModelStateError
        If a weight is NaN or infinite; the message names the first parameter that holds one.
    """
    check_choice("dtype", dtype, DTYPES)
    name = os.fspath(name_or_folder)
    if Path(name).is_dir() and not (Path(name) / "config.json").exists():
        raise InputError(
            f"The folder {name!r} holds no model: config.json is missing. Name a folder written by save_pretrained."
        )
    config = _config(name, revision)
    row = architecture_of(config)
    model: Any = _model(name, revision, getattr(transformers, row.auto_class), getattr(torch, dtype))
    tokenizer = _tokenizer(name, revision)
    check_vocabulary(model, tokenizer, name)
    check_finite(model)
    try:
        return model.to(device).eval(), tokenizer
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"The model cannot be put on device={device!r} ({_first_line(error)}). Name a device that this torch "
            f"({torch.__version__}) has here, such as 'cpu'."
        ) from error


def _config(name: str, revision: str | None) -> PretrainedConfig:
    try:
        return transformers.AutoConfig.from_pretrained(name, revision=revision)
    except OSError as error:
        raise InputError(_nothing_there(name, error)) from error
    except (ValueError, KeyError) as error:
        raise UnsupportedModelError(
            f"The config.json of {name!r} names no model type that this transformers ({transformers.__version__}) "
            f"knows ({_first_line(error)}). The architectures table has {how_to_support()}"
        ) from error


def _model(name: str, revision: str | None, auto_class: Any, dtype: torch.dtype) -> PreTrainedModel:
    """The model, unless weights are missing, damaged, or of another shape than the configuration says."""
    try:
        # Weights of another shape are let through here, so that they can be named below.
        model, report = auto_class.from_pretrained(
            name, revision=revision, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except OSError as error:
        raise InputError(_nothing_there(name, error)) from error
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError, ValueError) as error:
        raise InputError(
            f"The weights in {name!r} cannot be read ({_first_line(error)}): the file is truncated or damaged. Copy or "
            "download it again."
        ) from error
    # Tied weights, and tables of positions that the class computes, are not in the report. A pooler is never run.
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key.split("."))
    mismatched = sorted(report["mismatched_keys"])
    if mismatched:
        key, saved, wanted = mismatched[0]
        raise InputError(
            f"{name!r} holds {len(mismatched)} weight(s) of another shape than its configuration says, first {key!r}: "
            f"{tuple(saved)} where {tuple(wanted)} is wanted. config.json belongs to another checkpoint."
        )
    if missing:
        raise InputError(
            f"{name!r} lacks {len(missing)} weight(s) of a {type(model).__name__}: {', '.join(missing[:5])}"
            f"{', ...' if len(missing) > 5 else ''}. They would be random. Name a complete checkpoint of this class."
        )
    return model


def _tokenizer(name: str, revision: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer, unless the files of its vocabulary are missing (some classes make an empty one then)."""
    missing = (
        f"{name!r} holds a model but no complete tokenizer{{}}. Save it there too: "
        "tokenizer.save_pretrained(the same folder)."
    )
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, revision=revision)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        raise InputError(missing.format(f" ({_first_line(error)})")) from error
    wanted = sorted({*type(tokenizer).vocab_files_names.values(), "tokenizer.json"})
    if Path(name).is_dir() and len(wanted) > 1 and not any((Path(name) / file).exists() for file in wanted):
        raise InputError(missing.format(f": none of {wanted} is there"))
    return tokenizer


def _nothing_there(name: str, error: Exception) -> str:
    if not Path(name).is_dir() and huggingface_hub.constants.HF_HUB_OFFLINE:
        return (
            f"There is no folder {name!r}, and the environment variable HF_HUB_OFFLINE forbids looking the name up on "
            "the Hub (it is not in the local cache). Unset the variable, or name a folder written by save_pretrained."
        )
    return (
        f"No model could be loaded from {name!r}: neither a folder written by save_pretrained nor a name that the Hub "
        f"answered to ({_first_line(error)})."
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str = "the model") -> None:
    """Raise InputError if the tokenizer can give an id that has no embedding."""
    separate = getattr(tokenizer, "target_encoder", None)  # Marian's, where each side has a vocabulary of its own
    known = (len(tokenizer), len(separate or tokenizer))
    for side, tokens, embedded in zip(("", " for targets"), known, embeddings(model), strict=True):
        if embedded is not None and tokens > embedded:
            raise InputError(
                f"The tokenizer of {name!r} knows {tokens} tokens{side}, its model embeds {embedded}. They do not "
                "belong together: load both from the same folder, or resize the embedding and train it."
            )


def check_finite(model: PreTrainedModel) -> None:
    """Raise ModelStateError if a weight is NaN or infinite, naming the first parameter in the model's own order."""
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            bad = int((~torch.isfinite(weight)).sum())
            raise ModelStateError(
                f"The parameter {name!r} holds {bad} value(s) that are NaN or infinite. The checkpoint is damaged, or "
                "its training diverged, or the dtype is too narrow for it: load another one, or with dtype='float32'."
            )

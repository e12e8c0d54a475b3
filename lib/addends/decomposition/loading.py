"""Loading a model and its tokenizer so that they can be decomposed: right type, finite weights, no dropout."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import transformers

from addends.decomposition.architectures import architecture_of
from addends.errors import InputError, ModelStateError

DTYPES = ("float32", "float64", "float16", "bfloat16")


def load(name_or_folder: str | os.PathLike, revision: str | None = None, dtype: str = "float32", device: str = "cpu"):
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
        If there is no model there, the type is not allowed, or the tokenizer knows more tokens than the model embeds.
    UnsupportedModelError
        If the architectures table has no row for the model's family.
    ModelStateError
        If a weight is NaN or infinite; the message names the first parameter that holds one.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype={dtype!r} is not one of {DTYPES}.")
    name = os.fspath(name_or_folder)
    if Path(name).is_dir() and not (Path(name) / "config.json").exists():
        raise InputError(
            f"The folder {name!r} holds no model: config.json is missing. Name a folder written by save_pretrained."
        )
    try:
        config = transformers.AutoConfig.from_pretrained(name, revision=revision)
        row = architecture_of(config)
        auto_class = getattr(transformers, row.auto_class)
        model = auto_class.from_pretrained(name, revision=revision, dtype=getattr(torch, dtype))
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, revision=revision)
    except OSError as error:
        raise InputError(
            f"No model could be loaded from {name!r}: neither a folder written by save_pretrained nor a name that the "
            f"Hub answered to ({str(error).splitlines()[0]})."
        ) from error
    check_vocabulary(model, tokenizer, name)
    check_finite(model)
    return model.to(device).eval(), tokenizer


def check_vocabulary(model, tokenizer, name: str = "the model") -> None:
    """Raise InputError if the tokenizer can give an id that has no embedding."""
    embedded = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > embedded:
        raise InputError(
            f"The tokenizer of {name!r} knows {len(tokenizer)} tokens, its model embeds {embedded}. They do not belong "
            "together: load both from the same folder, or resize the embedding and train it."
        )


def check_finite(model) -> None:
    """Raise ModelStateError if a weight is NaN or infinite, naming the first parameter in the model's own order."""
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            bad = int((~torch.isfinite(weight)).sum())
            raise ModelStateError(
                f"The parameter {name!r} holds {bad} value(s) that are NaN or infinite. The checkpoint is damaged, or "
                "its training diverged, or the dtype is too narrow for it: load another one, or with dtype='float32'."
            )

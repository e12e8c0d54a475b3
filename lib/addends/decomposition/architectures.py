"""The architectures table: one row a model family says where its layers keep what a decomposition needs.

A row names modules by their path: a stack inside the base model, everything else inside a layer. Nothing else in this
package depends on how a family spells its modules, so supporting another family means registering its row, and seeing
the exactness check pass on its own weights.

Two kinds of layer differ in where they normalise. Post-norm (the original Transformer): e' = norm(e + f(e)).
Pre-norm: e' = e + f(norm(e)), and one final norm after the last layer.

References
----------
Xiong et al. (2020), On layer normalization in the Transformer architecture, ICML.
"""

from __future__ import annotations

import pandas as pd

from addends.decomposition.families import FAMILIES
from addends.decomposition.layouts import Architecture, Attention, FeedForward, Stack
from addends.errors import InputError, UnsupportedModelError

__all__ = ["Architecture", "Attention", "FeedForward", "Stack", "architecture_of", "architectures", "register"]

_TABLE: dict[str, Architecture] = {row.model_type: row for row in FAMILIES}


def architecture_of(config) -> Architecture:
    """The row for a model with this configuration.

    Raises
    ------
    UnsupportedModelError
        If the table has none; the message lists those it has, and says how to try one of them and how to write one. Or
        if the row depends on a setting that the configuration lacks, or names a number of positions that it lacks.
    """
    model_type = getattr(config, "model_type", None)
    if model_type not in _TABLE:
        raise UnsupportedModelError(
            f"No row for model type {model_type!r} in the architectures table. It has {how_to_support(model_type)}"
        )
    row = _TABLE[model_type]
    if row.positions is not None and not hasattr(config, row.positions):
        raise UnsupportedModelError(
            f"The row of {model_type!r} says that the configuration calls its number of positions {row.positions!r}, "
            "which this one lacks. Register the row with its own name for them, or with positions=None where there is "
            "no limit (replace(row, positions=...), addends.register(row, replace_existing=True))."
        )
    if row.variant is None:
        return row
    try:
        return row.variant(row, config)
    except AttributeError as error:
        raise UnsupportedModelError(
            f"The row of {model_type!r} depends on the configuration's {error.name!r}, which a "
            f"{type(config).__name__} lacks: it was written for another family. Give it variant=None "
            "(addends.register(replace(row, variant=None), replace_existing=True)), or a variant of its own."
        ) from error


def how_to_support(model_type: str | None = None) -> str:
    """The families that there are, how to try one's row, and how to write one: the end of an error message."""
    name = model_type if isinstance(model_type, str) else "..."
    return (
        f"{sorted(_TABLE)}. To try the row of one that spells its modules alike, Llama's for instance: "
        "from dataclasses import replace; from addends.decomposition.architectures import architecture_of; "
        f"addends.register(replace(architecture_of(transformers.LlamaConfig()), model_type={name!r})). Or write a row "
        "that names the modules: addends.register(Architecture(...)), see addends.decomposition.architectures. Either "
        "way decompose then checks the row on the model's own weights."
    )


def register(row: Architecture, replace_existing: bool = False) -> None:
    """Add a row to the table, from a user's own code. A row that is there already may be added again.

    Raises
    ------
    InputError
        If ``row`` is no `Architecture`, its stack has no sublayers, or its family has another row that is not to be
        replaced.
    """
    if not isinstance(row, Architecture) or not row.stack.sublayers:
        raise InputError(f"row={row!r}: an Architecture whose stack has at least one sublayer is wanted.")
    if row.stack.norm not in ("pre", "post"):
        raise InputError(f"norm={row.stack.norm!r} is not one of ('pre', 'post').")
    if _TABLE.get(row.model_type, row) != row and not replace_existing:
        raise InputError(
            f"{row.model_type!r} has another row. Pass replace_existing=True to put this one in its place."
        )
    _TABLE[row.model_type] = row


def architectures() -> pd.DataFrame:
    """The table as a frame, one row a family: what it is, where it normalises, and its terms by sublayer."""
    return pd.DataFrame(
        [
            {
                "model_type": row.model_type,
                "kind": row.kind,
                "norm": row.stack.norm,
                "embedding_norm": row.stack.embedding_norm is not None,
                "parallel": row.stack.parallel,
                "gated": any(getattr(sublayer, "gate", None) for sublayer in row.stack.sublayers),
                "depends_on_config": row.variant is not None,
                "terms": "".join(row.terms),
            }
            for row in _TABLE.values()
        ]
    )

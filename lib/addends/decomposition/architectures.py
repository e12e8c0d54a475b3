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
        If the table has none; the message lists those it has and says how to add one. Or if the row names a number of
        positions that the configuration lacks.
    """
    model_type = getattr(config, "model_type", None)
    if model_type not in _TABLE:
        raise UnsupportedModelError(
            f"No row for model type {model_type!r} in the architectures table. It has {how_to_support()}"
        )
    row = _TABLE[model_type]
    if row.positions is not None and not hasattr(config, row.positions):
        raise UnsupportedModelError(
            f"The row of {model_type!r} says that the configuration calls its number of positions {row.positions!r}, "
            "which this one lacks. Register the row with its own name for them, or with positions=None where there is "
            "no limit (replace(row, positions=...), addends.register(row, replace_existing=True))."
        )
    return row.variant(row, config) if row.variant else row


def how_to_support() -> str:
    """The families that there are, and how to add one: the end of an error message."""
    return (
        f"{sorted(_TABLE)}. To support another family, call addends.register(Architecture(...)) with a row that "
        "names its modules (see addends.decomposition.architectures); decompose then checks the sum on the model's own "
        "weights."
    )


def register(row: Architecture, replace_existing: bool = False) -> None:
    """Add a row to the table, from a user's own code.

    Raises
    ------
    InputError
        If ``row`` is no `Architecture`, its stack has no sublayers, or its family has a row that is not to be replaced.
    """
    if not isinstance(row, Architecture) or not row.stack.sublayers:
        raise InputError(f"row={row!r}: an Architecture whose stack has at least one sublayer is wanted.")
    if row.stack.norm not in ("pre", "post"):
        raise InputError(f"norm={row.stack.norm!r} is not one of ('pre', 'post').")
    if row.model_type in _TABLE and not replace_existing:
        raise InputError(f"{row.model_type!r} has a row. Pass replace_existing=True to put this one in its place.")
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

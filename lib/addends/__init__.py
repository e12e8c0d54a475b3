"""addends: Transformer states as exact sums of vectors, and what the sums tell.

    model, tokenizer = addends.load("path/or/name")
    batch = addends.encode(model, tokenizer, ["Il pleut."], ["It is raining."])
    parts = addends.decompose(model, batch, by="sublayer")
    addends.indicators(parts)

Names are looked up when they are first used: importing the package, or its statistics, imports neither torch nor
transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_DECOMPOSITION = (
    "load",
    "encode",
    "translate",
    "Batch",
    "architectures",
    "register",
    "decompose",
    "indicators",
    "logit_shares",
    "measure",
)
_INTERVENTIONS = ("intervene",)
_MODULES = {"mixed": "crossed"}

__all__ = [
    "Batch",
    "architectures",
    "decompose",
    "encode",
    "indicators",
    "intervene",
    "load",
    "logit_shares",
    "measure",
    "mixed",
    "register",
    "translate",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in _DECOMPOSITION:
        return getattr(import_module("addends.decomposition"), name)
    if name in _INTERVENTIONS:
        return getattr(import_module("addends.interventions"), name)
    raise AttributeError(f"module 'addends' has no attribute {name!r}; it has {__all__}.")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

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

_WHERE = {
    "load": "addends.decomposition.loading",
    "encode": "addends.decomposition.encoding",
    "translate": "addends.decomposition.encoding",
    "Batch": "addends.decomposition.batches",
    "architectures": "addends.decomposition.architectures",
    "register": "addends.decomposition.architectures",
    "decompose": "addends.decomposition.parts",
    "indicators": "addends.decomposition.indicators",
    "logit_shares": "addends.decomposition.logits",
    "measure": "addends.decomposition.measure",
}
_MODULES = {"mixed": "crossed"}

__all__ = [
    "Batch",
    "architectures",
    "decompose",
    "encode",
    "indicators",
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
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'addends' has no attribute {name!r}; it has {__all__}.")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

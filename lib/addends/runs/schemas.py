"""The schemas of the six tidy tables.

============  ==========================================================  =====================================
table         key (unique)                                                values
============  ==========================================================  =====================================
runs          run                                                         suite, condition, seeds, size, steps
quality       run, checkpoint, metric                                     score (corpus level)
sentences     sentence                                                    language, lengths in tokens
translations  run, checkpoint, sentence                                   chrf, bleu, nll, tokens, comet
measurements  run, checkpoint, target, sentence, layer, by, term          the four indicators, tokens
trajectories  run, checkpoint, target, layer, by, term                    the four indicators (corpus means)
============  ==========================================================  =====================================

``checkpoint`` is the training step. A number is finite or explicitly missing, never infinite: the cosine of a
zero vector is missing.
"""

from __future__ import annotations

import numpy as np
import pandera.pandas as pa

INDICATORS = ("importance", "cosine", "norm_ratio", "distance")
TARGETS = ("own", "reference")
METHODS = ("sublayer", "token")
METRICS = ("bleu", "chrf", "comet")

_finite = pa.Check(lambda values: np.isfinite(values.astype("float64")), name="finite", error="is infinite")


def _text(*allowed: str) -> pa.Column:
    return pa.Column(str, pa.Check.isin(allowed) if allowed else None, coerce=True)


def _count(nullable: bool = False) -> pa.Column:
    dtype = "Int64" if nullable else "int64"
    return pa.Column(dtype, pa.Check.ge(0), nullable=nullable, coerce=True)


def _number(required: bool = True) -> pa.Column:
    return pa.Column("float32", _finite, nullable=True, coerce=True, required=required)


def _schema(key: tuple[str, ...], columns: dict[str, pa.Column]) -> pa.DataFrameSchema:
    return pa.DataFrameSchema(columns, unique=list(key), strict=True, ordered=False)


_indicators = {name: _number() for name in INDICATORS}

SCHEMAS: dict[str, pa.DataFrameSchema] = {
    "runs": _schema(
        ("run",),
        {
            "run": _text(),
            "suite": _text(),
            "condition": _text(),
            "init_seed": _count(nullable=True),
            "order_seed": _count(nullable=True),
            "dropout_seed": _count(nullable=True),
            "languages": _text(),
            "layers": _count(),
            "dim": _count(nullable=True),
            "parameters": _count(nullable=True),
            "steps": _count(),
        },
    ),
    "quality": _schema(
        ("run", "checkpoint", "metric"),
        {"run": _text(), "checkpoint": _count(), "metric": _text(*METRICS), "score": _number()},
    ),
    "sentences": _schema(
        ("sentence",),
        {
            "sentence": _text(),
            "language": _text(),
            "source_tokens": _count(nullable=True),
            "target_tokens": _count(nullable=True),
        },
    ),
    "translations": _schema(
        ("run", "checkpoint", "sentence"),
        {
            "run": _text(),
            "checkpoint": _count(),
            "sentence": _text(),
            "chrf": _number(),
            "bleu": _number(),
            "nll": _number(),
            "tokens": _count(nullable=True),
            "comet": _number(required=False),
        },
    ),
    "measurements": _schema(
        ("run", "checkpoint", "target", "sentence", "layer", "by", "term"),
        {
            "run": _text(),
            "checkpoint": _count(),
            "target": _text(*TARGETS),
            "sentence": _text(),
            "layer": _count(),
            "by": _text(*METHODS),
            "term": _text(),
            **_indicators,
            "tokens": _count(nullable=True),
        },
    ),
    "trajectories": _schema(
        ("run", "checkpoint", "target", "layer", "by", "term"),
        {
            "run": _text(),
            "checkpoint": _count(),
            "target": _text(*TARGETS),
            "layer": _count(),
            "by": _text(*METHODS),
            "term": _text(),
            **_indicators,
        },
    ),
}

"""The schemas of the tidy tables.

============  ==========================================================  =============================================
table         key (unique)                                                values
============  ==========================================================  =============================================
runs          run                                                         suite, block, condition, pairs, seeds, size,
                                                                          steps, lineage
quality       run, checkpoint, set, metric                                score (corpus level)
sentences     sentence                                                    language, lengths in tokens
translations  run, checkpoint, sentence                                   chrf, bleu, nll, tokens, comet
further       run, checkpoint, sentence                                   the same of the further sentences
measurements  run, checkpoint, target, sentence, layer, by, term          the four indicators, tokens
trajectories  run, checkpoint, target, layer, by, term                    the four indicators (corpus means)
training      run, step                                                   loss, gradient_norm, learning_rate
manifest      run, checkpoint                                             the digests of `addends.runs.lineage`
============  ==========================================================  =============================================

``checkpoint`` is the training step. A number is finite or explicitly missing, never infinite: the cosine of a
zero vector is missing. ``set`` tells the held-out sentences, which everything is measured on, from the further ones,
which serve quality alone. ``lineage`` says what proves where a run's weights come from: a "chain" of records from step
0 on, "hashes" of the weights alone, or "none".
"""

from __future__ import annotations

import numpy as np
import pandera.pandas as pa

INDICATORS = ("importance", "cosine", "norm_ratio", "distance")
TARGETS = ("own", "reference")
METHODS = ("sublayer", "token")
METRICS = ("bleu", "chrf", "comet")
SETS = ("held_out", "further")
LINEAGES = ("chain", "hashes", "none")

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


def _digest(nullable: bool = True) -> pa.Column:
    return pa.Column(str, nullable=nullable, coerce=True)


_indicators = {name: _number() for name in INDICATORS}
_translations = {
    "run": _text(),
    "checkpoint": _count(),
    "sentence": _text(),
    "chrf": _number(),
    "bleu": _number(),
    "nll": _number(),
    "tokens": _count(nullable=True),
    "comet": _number(required=False),
}

SCHEMAS: dict[str, pa.DataFrameSchema] = {
    "runs": _schema(
        ("run",),
        {
            "run": _text(),
            "suite": _text(),
            "block": _text(),
            "condition": _text(),
            "pairs": _count(nullable=True),
            "init_seed": _count(nullable=True),
            "order_seed": _count(nullable=True),
            "dropout_seed": _count(nullable=True),
            "languages": _text(),
            "layers": _count(),
            "dim": _count(nullable=True),
            "parameters": _count(nullable=True),
            "steps": _count(),
            "lineage": _text(*LINEAGES),
        },
    ),
    "quality": _schema(
        ("run", "checkpoint", "set", "metric"),
        {
            "run": _text(),
            "checkpoint": _count(),
            "set": _text(*SETS),
            "metric": _text(*METRICS, "nll"),
            "score": _number(),
        },
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
    "translations": _schema(("run", "checkpoint", "sentence"), _translations),
    "further": _schema(("run", "checkpoint", "sentence"), _translations),
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
    "training": _schema(
        ("run", "step"),
        {
            "run": _text(),
            "step": _count(),
            "loss": _number(),
            "gradient_norm": _number(),
            "learning_rate": _number(),
        },
    ),
    "manifest": _schema(
        ("run", "checkpoint"),
        {
            "run": _text(),
            "checkpoint": _count(),
            "weights": _digest(nullable=False),
            **{
                name: _digest()
                for name in (
                    "optimizer",
                    "scheduler",
                    "generators",
                    "batches",
                    "previous",
                    "configuration",
                    "model",
                    "tokenizer",
                    "processor",
                    "instructions",
                )
            },
            "threads": _count(nullable=True),
            "interop_threads": _count(nullable=True),
            "torch": _digest(),
            "transformers": _digest(),
        },
    ),
}

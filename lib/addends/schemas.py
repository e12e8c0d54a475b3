"""The tidy tables: what columns each has, which of them name a row, and what they may hold.

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
interventions run, sentence, effect, replace, by, layer, term             logprob, logit, tokens; of the part: share,
                                                                          importance, cosine, norm_ratio
token_        run, effect, replace, by, layer, term, said                 rho, permuted, tokens
agreement
attributions  run, method, yardstick, sense, special_tokens               kind, agreement, permuted, rows, sentences
run_pairs     a, b, checkpoint, b_checkpoint, layer, by, term, rows       cka, procrustes, rank agreement of each
                                                                          indicator, kl, standard errors; tokens
stitches      encoder, decoder, place, layer, map, start                  bleu, chrf, nll, explained, penalty
============  ==========================================================  =============================================

``checkpoint`` is the training step. A number is finite or explicitly missing, never infinite: the cosine of a zero
vector is missing. ``set`` tells the held-out sentences, which everything is measured on, from the further ones, which
serve quality alone. ``rows`` says what was done to the rows of two spaces before they were compared; ``by`` and
``term`` are "state" for the sum of all parts. The layer of an intervention is missing where sublayers of all layers are
replaced, that of a stitch where the encoder is read. ``special_tokens`` says whether special source tokens were among
those that a method and a yardstick ranked. ``lineage`` says what proves where a run's weights come from: a
"chain" of records from step 0 on, "hashes" of the weights alone, or "none".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pandera.pandas as pa

from addends.checks import check_choice, repeated
from addends.errors import DataError

INDICATORS = ("importance", "cosine", "norm_ratio", "distance")
TARGETS = ("own", "reference")
METHODS = ("sublayer", "token")
METRICS = ("bleu", "chrf", "comet")
EFFECTS = ("direct", "total")
REPLACEMENTS = ("zero", "mean", "pooled", "sentence")
SETS = ("held_out", "further")
ROWS = ("all", "within types", "permuted")
MAPS = ("own", "none", "random", "rotation", "affine", "trained")
PLACES = ("encoder", "layer")
STARTS = ("run", "untrained")
KINDS = ("attribution", "floor", "removal")
YARDSTICKS = ("mask", "embedding")
SENSES = ("size", "signed")
LINEAGES = ("chain", "hashes", "none")

_finite = pa.Check(lambda values: np.isfinite(values.astype("float64")), name="finite", error="is infinite")


def _text(*allowed: str) -> pa.Column:
    return pa.Column(str, pa.Check.isin(allowed) if allowed else None, coerce=True)


def _count(nullable: bool = False) -> pa.Column:
    dtype = "Int64" if nullable else "int64"
    return pa.Column(dtype, pa.Check.ge(0), nullable=nullable, coerce=True)


def _flag() -> pa.Column:
    return pa.Column("bool", coerce=True)


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
    "token_agreement": _schema(
        ("run", "effect", "replace", "by", "layer", "term", "said"),
        {
            "run": _text(),
            "effect": _text(*EFFECTS),
            "replace": _text(*REPLACEMENTS),
            "by": _text(*METHODS),
            "layer": _count(nullable=True),
            "term": _text(),
            "said": _text("share", *INDICATORS),
            "rho": _number(),
            "permuted": _number(),
            "tokens": _count(),
        },
    ),
    "attributions": _schema(
        ("run", "method", "yardstick", "sense", "special_tokens"),
        {
            "run": _text(),
            "method": _text(),
            "kind": _text(*KINDS),
            "yardstick": _text(*YARDSTICKS),
            "sense": _text(*SENSES),
            "special_tokens": _flag(),
            "agreement": _number(),
            "permuted": _number(),
            "rows": _count(),
            "sentences": _count(),
        },
    ),
    "run_pairs": _schema(
        ("a", "b", "checkpoint", "b_checkpoint", "layer", "by", "term", "rows"),
        {
            "a": _text(),
            "b": _text(),
            "checkpoint": _count(),
            "b_checkpoint": _count(),
            "layer": _count(),
            "by": _text(*METHODS, "state"),
            "term": _text(),
            "rows": _text(*ROWS),
            "tokens": _count(),
            **{
                name: _number() for name in ("cka", "cka_se", "procrustes", "procrustes_se", *INDICATORS, "kl", "kl_se")
            },
        },
    ),
    "stitches": _schema(
        ("encoder", "decoder", "place", "layer", "map", "start"),
        {
            "encoder": _text(),
            "decoder": _text(),
            "place": _text(*PLACES),
            "layer": _count(nullable=True),
            "map": _text(*MAPS),
            "start": _text(*STARTS),
            **{name: _number() for name in ("bleu", "chrf", "nll", "explained", "penalty")},
        },
    ),
    "interventions": _schema(
        ("run", "sentence", "effect", "replace", "by", "layer", "term"),
        {
            "run": _text(),
            "sentence": _text(),
            "effect": _text(*EFFECTS),
            "replace": _text(*REPLACEMENTS),
            "by": _text(*METHODS),
            "layer": _count(nullable=True),
            "term": _text(),
            **{name: _number() for name in ("logprob", "logit", "share", "importance", "cosine", "norm_ratio")},
            "tokens": _count(nullable=True),
        },
    ),
}


def key(table: str) -> list[str]:
    """The columns whose values name one row of ``table``.

    Raises
    ------
    InputError
        If there is no such table.
    """
    return list(schema_of(table).unique)


def validate(
    frame: pd.DataFrame, table: str, origin: str = "the frame", columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """Check ``frame`` against the schema of ``table``; return it with the schema's types and column order.

    Parameters
    ----------
    frame : DataFrame
        Tidy rows.
    table : str
        One of ``SCHEMAS``.
    origin : str
        Where the rows come from, for the error's sake: a file's name.
    columns : sequence of str, or None
        The columns that ``frame`` is to have, where it holds a part of the table. Rows are compared for equal keys only
        where the whole key is among them.

    Raises
    ------
    DataError
        If a column is missing or unknown, a key occurs twice, or a value is outside what the column allows.
    """
    schema = schema_of(table)
    if columns is not None:
        unique = schema.unique if set(schema.unique) <= set(columns) else []
        chosen = {name: column for name, column in schema.columns.items() if name in columns}
        schema = pa.DataFrameSchema(chosen, unique=unique or None, strict=True, ordered=False)
    frame = frame.reset_index(drop=True)  # row labels mean nothing here, and repeated ones would mislead the checks
    absent = [name for name, column in schema.columns.items() if column.required and name not in frame]
    wrong = [f"there is no column {name!r}" for name in absent]
    wrong += [f"the column {name!r} is unknown" for name in frame.columns if name not in schema.columns]
    wrong += [f"the column {name!r} stands twice" for name in frame.columns[frame.columns.duplicated()]]
    wrong = wrong or _altered(frame, schema) or _repeated(frame, schema.unique or [])
    if not wrong:
        try:
            checked = schema.validate(frame, lazy=True)
        except pa.errors.SchemaErrors as error:
            cases = error.failure_cases.drop_duplicates(["column", "check"]).head(5)
            wrong = [
                f"column {case.column!r}: {case.check} (e.g. {case.failure_case!r})" for case in cases.itertuples()
            ]
    if wrong:
        raise DataError(
            f"{origin} does not hold a valid {table!r} table:\n"
            + "\n".join(f"  {line}" for line in wrong)
            + f"\nIts columns are {list(schema.columns)}; its key, unique, is {key(table)}."
        )
    return checked[[name for name in schema.columns if name in checked.columns]]


def _altered(frame: pd.DataFrame, schema: pa.DataFrameSchema) -> list[str]:
    """What is wrong with columns of numbers that a cast would change without a word: 1.5 to 1, a date to a number."""
    found = []
    for name, column in schema.columns.items():
        kind = str(column.dtype).lower()
        if name not in frame or not ("int" in kind or "float" in kind or kind == "bool"):
            continue
        given = frame[name]
        if kind == "bool":
            if given.dtype != bool:
                found.append(f"column {name!r}: True and False are wanted, and not {given.dtype}")
            continue
        wanted = "whole numbers" if "int" in kind else "numbers"
        types = (pd.api.types.is_bool_dtype, pd.api.types.is_complex_dtype, pd.api.types.is_datetime64_any_dtype)
        if any(is_of(given) for is_of in types) or pd.api.types.is_timedelta64_dtype(given):
            found.append(f"column {name!r}: {wanted} are wanted, and not {given.dtype}")
        elif "int" in kind and not pd.api.types.is_integer_dtype(given):
            values = pd.to_numeric(given, errors="coerce").dropna()  # what is no number is the schema's to refuse
            fractions = values[values % 1 != 0]
            if len(fractions):
                found.append(f"column {name!r}: whole numbers are wanted (e.g. {fractions.iloc[0]})")
    return found


def _repeated(frame: pd.DataFrame, columns: list[str]) -> list[str]:
    cases = repeated(frame, columns) if columns else []
    return [f"{len(cases)} row(s) repeat the key of an earlier one (e.g. {cases[0]})"] if cases else []


def schema_of(table: str) -> pa.DataFrameSchema:
    """The schema of ``table``; InputError if there is no such table."""
    check_choice("table", table, tuple(SCHEMAS))
    return SCHEMAS[table]

"""The tidy tables: their schemas, and reading and writing them as parquet, checked and atomically.

A table is either one parquet file or a folder with one file a run.

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
============  ==========================================================  =============================================

``checkpoint`` is the training step. A number is finite or explicitly missing, never infinite: the cosine of a
zero vector is missing. The layer of an intervention is missing where sublayers of all layers are replaced. ``set``
tells the held-out sentences, which everything is measured on, from the further ones, which serve quality alone.
``lineage`` says what proves where a run's weights come from: a "chain" of records from step 0 on, "hashes" of the
weights alone, or "none".
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow.parquet as pq

from addends.checks import check_choice, repeated
from addends.errors import DataError, InputError

INDICATORS = ("importance", "cosine", "norm_ratio", "distance")
TARGETS = ("own", "reference")
METHODS = ("sublayer", "token")
METRICS = ("bleu", "chrf", "comet")
EFFECTS = ("direct", "total")
REPLACEMENTS = ("zero", "mean", "pooled", "sentence")
SETS = ("held_out", "further")
LINEAGES = ("chain", "hashes", "none")
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=", "in", "not in")

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
    return list(_schema_of(table).unique)


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
    schema = _schema_of(table)
    if columns is not None:
        unique = schema.unique if set(schema.unique) <= set(columns) else []
        chosen = {name: column for name, column in schema.columns.items() if name in columns}
        schema = pa.DataFrameSchema(chosen, unique=unique or None, strict=True, ordered=False)
    frame = frame.reset_index(drop=True)  # row labels mean nothing here, and repeated ones would mislead the checks
    absent = [name for name, column in schema.columns.items() if column.required and name not in frame]
    wrong = [f"there is no column {name!r}" for name in absent]
    wrong += [f"the column {name!r} is unknown" for name in frame.columns if name not in schema.columns]
    wrong = wrong or _fractions(frame, schema) or _repeated(frame, schema.unique or [])
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


def write(frame: pd.DataFrame, path: str | os.PathLike, table: str) -> Path:
    """Write ``frame`` to ``path`` as parquet, checked against its schema, and atomically.

    The rows are first written beside ``path`` and then moved over it: a killed process leaves the old file or
    the new one, never half of one.

    Raises
    ------
    DataError
        If the rows break the schema.
    """
    checked = validate(frame, table, origin=f"The frame to be written to {path}")
    return write_parquet(checked, path)


def write_parquet(frame: pd.DataFrame, path: str | os.PathLike) -> Path:
    """Write any ``frame`` to ``path`` as parquet, atomically, making the folders above it."""
    return write_atomically(path, lambda part: frame.to_parquet(part, index=False, compression="zstd"))


def write_atomically(path: str | os.PathLike, write: Callable[[str], object]) -> Path:
    """Have ``write`` write a file beside ``path``, whose name it is given, and move it over ``path`` when it is whole.

    The folders above it are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    try:
        write(temporary)
        os.chmod(temporary, 0o644)  # mkstemp makes files for their owner alone
        flush(temporary)  # on the disk before its name says that it is there
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def flush(path: str | os.PathLike) -> None:
    """Have the operating system write a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(
    path: str | os.PathLike,
    table: str,
    columns: Sequence[str] | None = None,
    filters: Sequence[tuple[str, str, Any]] = (),
) -> pd.DataFrame:
    """Read one table, from a parquet file or from a folder of parquet files (one a run), and check it.

    Parameters
    ----------
    path : path
    table : str
        One of ``SCHEMAS``.
    columns, filters
        As for `read_suite`.

    Raises
    ------
    DataError
        If there is nothing at ``path``, a file is truncated or no parquet, rows break the schema, or two files hold
        the same key; the message names the file or files.
    InputError
        If ``columns`` or ``filters`` name what is no column of the table, or a comparison is none of the allowed.
    """
    wanted = _wanted(table, columns, filters)
    path = Path(path)
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise DataError(f"No {table!r} table at {path}: a parquet file, or a folder of them, is wanted there.")
    frames = [_read_part(file, table, wanted, filters) for file in files]
    if len(frames) == 1:
        return frames[0]
    joined = pd.concat(frames, ignore_index=True)
    if not set(key(table)) <= set(joined.columns):
        return validate(joined, table, str(path), list(joined.columns))
    cases = repeated(joined, key(table))
    if cases:
        shared = joined.duplicated(key(table), keep=False)
        file_of_row = np.repeat([file.name for file in files], [len(frame) for frame in frames])
        holders = sorted(set(file_of_row[shared]))
        raise DataError(
            f"{path}: rows with the same key stand in more than one of its files, {', '.join(holders)} "
            f"({cases[0]}). A key is unique: delete the file that is not wanted."
        )
    return validate(joined, table, str(path), None if wanted is None else list(joined.columns))


def read_suite(
    folder: str | os.PathLike,
    table: str,
    runs: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    filters: Sequence[tuple[str, str, Any]] = (),
) -> pd.DataFrame:
    """Read ``table`` of the suite whose tables lie under ``folder`` (``data/european``, say), or a part of it.

    ::

        read_suite("data/european", "measurements", columns=["run", "sentence", "importance"],
                   filters=[("by", "==", "sublayer"), ("layer", "in", [2, 3]), ("checkpoint", ">=", 2850)])

    Looks for ``folder/<table>.parquet``, then for the folder ``folder/<table>/``. What is left out by ``columns`` or
    ``filters`` takes no memory: the columns are not read, and the rows are dropped while the file is.

    Parameters
    ----------
    folder : path
    table : str
        One of ``SCHEMAS``.
    runs : sequence of str, or None
        The runs whose rows are wanted, in any order. None stands for all; a table without runs is read whole.
    columns : sequence of str, or None
        The columns that are wanted; they come in the schema's order. None stands for all. Where the columns of the key
        are not all among them, equal keys are not looked for.
    filters : sequence of (column, comparison, value)
        Rows must pass all of them. The comparison is one of ==, !=, <, <=, >, >=, in, not in; the column need not be
        among ``columns``.

    Raises
    ------
    DataError
        As `read` does, or if one of ``runs`` is not there.
    InputError
        If ``runs`` or ``columns`` is one string, or as `read` does.
    """
    for name, given in (("runs", runs), ("columns", columns)):
        if isinstance(given, str):
            raise InputError(f"{name}={given!r} is one string. Give a list of names, [{given!r}] for a single one.")
    wanted = _wanted(table, columns, filters)
    single, place = Path(folder) / f"{table}.parquet", Path(folder) / table
    if runs is None or "run" not in key(table):
        return read(single if single.exists() else place, table, columns, filters)
    if single.exists():
        there = sorted(read(single, table, ["run"])["run"].unique())
        of_run = {run: read(single, table, columns, [*filters, ("run", "==", run)]) for run in runs if run in there}
    else:
        there = sorted(file.stem for file in place.glob("*.parquet"))
        of_run = {run: _read_part(place / f"{run}.parquet", table, wanted, filters) for run in runs if run in there}
    absent = [run for run in runs if run not in of_run]
    if absent or not of_run:
        raise DataError(f"{folder} has no table {table!r} of the runs {absent}. It has those of {there}.")
    return pd.concat([of_run[run] for run in dict.fromkeys(runs)], ignore_index=True)


def runs_in(folder: str | os.PathLike, block: str | None = None) -> list[str]:
    """The names of the runs of the suite whose tables lie under ``folder``, in the order of their seeds.

    ::

        runs_in("data/toy", "independent")  # ['ora-i1-o1', 'ora-i2-o2', 'ora-i3-o3']

    They are sorted by the seed of the start, then by that of the order, then by name; a run without seeds comes last.

    Parameters
    ----------
    folder : path
    block : str, or None
        The runs of this block alone. None stands for all runs of the suite. Where ``folder`` has no table of runs, None
        stands for the runs that were measured.

    Raises
    ------
    DataError
        As `read` does.
    InputError
        If no run is in ``block``.
    """
    described = Path(folder, "runs.parquet").exists() or Path(folder, "runs").exists()
    if block is None and not described:
        return sorted(read_suite(folder, "measurements", columns=["run"])["run"].unique())
    columns = ["run", "block", "init_seed", "order_seed"]
    runs = read_suite(folder, "runs", columns=columns).sort_values(["init_seed", "order_seed", "run"])
    if block is None:
        return runs["run"].tolist()
    check_choice("block", block, sorted(runs["block"].unique()), f"runs_in({str(folder)!r})")
    return runs.loc[runs["block"] == block, "run"].tolist()


def read_parquet(
    file: Path, columns: Sequence[str] | None = None, filters: Sequence[tuple[str, str, Any]] = ()
) -> pd.DataFrame:
    """Any table, from one parquet file; these columns of it, and the rows that pass ``filters``.

    Raises
    ------
    DataError
        If the file is missing, truncated or no parquet.
    """
    try:
        return pd.read_parquet(file, columns=None if columns is None else list(columns), filters=list(filters) or None)
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise _unreadable(file, error) from error


def _wanted(table: str, columns: Sequence[str] | None, filters: Sequence[tuple[str, str, Any]]) -> list[str] | None:
    """The columns wanted, in the schema's order; refuses names and comparisons that there are not."""
    known = list(_schema_of(table).columns)
    for where in filters:
        if not isinstance(where, tuple) or len(where) != 3:
            raise InputError(f"filters={list(filters)!r}: triples (column, comparison, value) are wanted.")
        check_choice("the column of a filter", where[0], known)
        check_choice("the comparison of a filter", where[1], COMPARISONS)
    if columns is None:
        return None
    for name in columns:
        check_choice("columns", name, known)
    if not columns:
        raise InputError(f"columns={columns!r} names none. The columns of {table!r} are {known}.")
    return [name for name in known if name in columns]


def _read_part(
    file: Path, table: str, columns: list[str] | None, filters: Sequence[tuple[str, str, Any]]
) -> pd.DataFrame:
    """One file's rows, checked: whole, or the columns and rows that are wanted."""
    if columns is None and not filters:
        return validate(read_parquet(file), table, origin=str(file))
    # The header says whether what is not read belongs to the table too.
    header, schema = _header(file), _schema_of(table)
    odd = [f"the column {name!r} is unknown" for name in header if name not in schema.columns]
    needed = [name for name, column in schema.columns.items() if column.required]
    odd += [f"there is no column {name!r}" for name in needed if name not in header]
    if odd:
        raise DataError(f"{file} does not hold a valid {table!r} table:\n" + "\n".join(f"  {line}" for line in odd))
    present = [name for name in header if columns is None or name in columns]
    there = [one for one in filters if one[0] in header]
    try:
        found = read_parquet(file, present, there)
    except (NotImplementedError, TypeError) as error:  # arrow has no comparison of these types
        raise InputError(f"filters={list(filters)!r} do not fit the columns of {file}: {error}.") from error
    if len(there) < len(filters):  # a column that need not be there is missing in all rows, and passes no comparison
        found = found.iloc[:0]
    return validate(found, table, str(file), present)


def _header(file: Path) -> list[str]:
    """The names of the columns of a parquet file.

    Raises
    ------
    DataError
        As `read_parquet`.
    """
    try:
        return pq.read_schema(file).names
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> DataError:
    return DataError(
        f"{file} cannot be read as parquet ({error}). It may be truncated: restore it from version control, or delete "
        "it and run the command that makes it again."
    )


def _fractions(frame: pd.DataFrame, schema: pa.DataFrameSchema) -> list[str]:
    """What is wrong with columns of counts: casting 1.5 to an integer would cut it to 1 without a word."""
    counts = [name for name, column in schema.columns.items() if "int" in str(column.dtype).lower()]
    found = []
    for name in counts:
        if pd.api.types.is_float_dtype(frame[name]):
            values = frame[name].dropna()
            fractions = values[values % 1 != 0]
            if len(fractions):
                found.append(f"column {name!r}: whole numbers are wanted (e.g. {fractions.iloc[0]})")
    return found


def _repeated(frame: pd.DataFrame, columns: list[str]) -> list[str]:
    cases = repeated(frame, columns) if columns else []
    return [f"{len(cases)} row(s) repeat the key of an earlier one (e.g. {cases[0]})"] if cases else []


def _schema_of(table: str) -> pa.DataFrameSchema:
    check_choice("table", table, tuple(SCHEMAS))
    return SCHEMAS[table]

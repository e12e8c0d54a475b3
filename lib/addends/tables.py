"""Reading and writing the tidy tables as parquet: checked against their schemas, and atomically.

A table is either one parquet file or a folder with one file a run. `addends.schemas` says which tables there are.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from addends.checks import check_choice, repeated
from addends.errors import DataError, InputError
from addends.schemas import (
    EFFECTS,
    INDICATORS,
    KINDS,
    LINEAGES,
    MAPS,
    METHODS,
    METRICS,
    PLACES,
    REPLACEMENTS,
    ROWS,
    SCHEMAS,
    SENSES,
    SETS,
    STARTS,
    TARGETS,
    YARDSTICKS,
    key,
    schema_of,
)
from addends.validation import validate

__all__ = [
    "COMPARISONS",
    "EFFECTS",
    "INDICATORS",
    "KINDS",
    "LINEAGES",
    "MAPS",
    "METHODS",
    "METRICS",
    "PLACES",
    "REPLACEMENTS",
    "ROWS",
    "SCHEMAS",
    "SENSES",
    "SETS",
    "STARTS",
    "TARGETS",
    "YARDSTICKS",
    "flush",
    "key",
    "made_of",
    "read",
    "read_parquet",
    "read_suite",
    "runs_in",
    "validate",
    "write",
    "write_atomically",
    "write_parquet",
]

_MADE_OF = "made_of"
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=", "in", "not in")


def write(frame: pd.DataFrame, path: str | os.PathLike, table: str, made_of: Mapping[str, str] | None = None) -> Path:
    """Write ``frame`` to ``path`` as parquet, checked against its schema, and atomically.

    The rows are first written beside ``path`` and then moved over it: a killed process leaves the old file or
    the new one, never half of one. What the table was made of, where it is said, stands in the file: `made_of`.

    Raises
    ------
    DataError
        If the rows break the schema.
    """
    checked = validate(frame, table, origin=f"The frame to be written to {path}")
    checked.attrs = {} if made_of is None else {_MADE_OF: dict(made_of)}
    return write_parquet(checked, path)


def made_of(path: str | os.PathLike, table: str) -> dict[str, str]:
    """What a table was made of, as it was said to `write`; empty where nothing was.

    Raises
    ------
    DataError
        If the file is missing, truncated, no parquet, or not of this table's columns.
    """
    file = Path(path)
    lacking = [name for name, column in schema_of(table).columns.items() if column.required]
    lacking = sorted(set(lacking) - set(_header(file).names))
    if lacking:
        raise DataError(f"{file} is no {table!r} table: it has no column {lacking[0]!r}. Delete it, and make it again.")
    said = (_header(file).metadata or {}).get(b"PANDAS_ATTRS", b"{}")
    return dict(json.loads(said).get(_MADE_OF, {}))


def write_parquet(frame: pd.DataFrame, path: str | os.PathLike) -> Path:
    """Write any ``frame`` to ``path`` as parquet, atomically, making the folders above it."""
    return write_atomically(path, lambda part: frame.to_parquet(part, index=False, compression="zstd"))


def write_atomically(path: str | os.PathLike, write: Callable[[str], object]) -> Path:
    """Have ``write`` write a file beside ``path``, whose name it is given, and move it over ``path`` when it is whole.

    The folders above it are made.

    Raises
    ------
    OSError
        If the file cannot be written, on a full disk say: the message names it.
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
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            said = f"{path} could not be written ({error.strerror}). Make room, or make the folder writable"
            raise OSError(error.errno, said) from error
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
        of_run = {
            run: _of_one_run(place / f"{run}.parquet", run, table, wanted, filters) for run in runs if run in there
        }
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
    known = list(schema_of(table).columns)
    for where in filters:
        if not isinstance(where, tuple) or len(where) != 3:
            raise InputError(f"filters={list(filters)!r}: triples (column, comparison, value) are wanted.")
        check_choice("the column of a filter", where[0], known)
        check_choice("the comparison of a filter", where[1], COMPARISONS)
        if where[1] in ("in", "not in") and isinstance(where[2], Collection) and len(where[2]) == 0:
            raise InputError(f"filters={list(filters)!r}: {where[0]!r} is to be {where[1]} a list that has no value.")
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
    header, schema = _header(file).names, schema_of(table)
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


def _of_one_run(
    file: Path, run: str, table: str, columns: list[str] | None, filters: Sequence[tuple[str, str, Any]]
) -> pd.DataFrame:
    """The rows of the file named after ``run``, which are to be that run's.

    Raises
    ------
    DataError
        Also if the file holds rows of another run.
    """
    found, about = _read_part(file, table, columns, filters), pq.read_metadata(file)
    parts = [about.row_group(part).column(about.schema.names.index("run")) for part in range(about.num_row_groups)]
    # The first and the last name of each part stand in the file's own summary: no row is read for them.
    ends = [part.statistics for part in parts if part.statistics is not None and part.statistics.has_min_max]
    others = {name for end in ends for name in (end.min, end.max)} - {run}
    if others:
        raise DataError(
            f"{file} holds rows of {sorted(others)}; it is to hold those of the run that it is named after."
        )
    return found


def _header(file: Path) -> pa.Schema:
    """The names of the columns of a parquet file, and what is said of it.

    Raises
    ------
    DataError
        As `read_parquet`.
    """
    try:
        return pq.read_schema(file)
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> DataError:
    return DataError(
        f"{file} cannot be read as parquet ({error}). It may be truncated: restore it from version control, or delete "
        "it and run the command that makes it again."
    )

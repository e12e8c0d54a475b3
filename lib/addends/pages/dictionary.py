"""The data with their words: what each table and column means, and which files of them a reader can take along.

What the columns mean stands in `addends.schemas`, once. What is offered as a file is decided here, once: the page that
links to the files and the build that writes them both ask `offered`.
"""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from addends import tables
from addends.errors import DataError
from addends.schemas import SCHEMAS, key, schema_of

LARGEST_CSV = 20_000
"""Rows: larger tables are offered as parquet alone."""
LARGEST_PARQUET = 2_500_000
"""Bytes: larger tables stay where they are, in the repository."""
FOLDER = "downloads"
"""Of the site, which holds what is offered."""


def describe(table: str) -> pd.DataFrame:
    """The columns of a table: column, meaning, unit, holds (type or allowed values, and whether it may be missing).

    A count is a whole number of 0 or more.

    Raises
    ------
    InputError
        If there is no such table.
    """
    schema = schema_of(table)
    rows = []
    for name, column in schema.columns.items():
        kind = str(column.dtype).lower()
        names = {"int64": "count", "bool": "True, False", "float32": "number"}
        allowed = [
            check.statistics["allowed_values"] for check in column.checks if "allowed_values" in check.statistics
        ]
        holds = ", ".join(map(str, allowed[0])) if allowed else names.get(kind, "text")
        missing = ", or missing" if column.nullable else ""
        absent = "" if column.required else "; not in every file"
        unit = (column.metadata or {}).get("unit", "")
        rows.append((name, column.description, unit, f"{holds}{missing}{absent}"))
    return pd.DataFrame(rows, columns=["column", "meaning", "unit", "holds"])


def offered(data: str | os.PathLike) -> pd.DataFrame:
    """The tables under a folder such as the project's ``data/``, and as what each is offered.

    Returns
    -------
    DataFrame
        One row a table: folder, table, files, rows, bytes (of its parquet files), parquet and csv (where the site has
        them, empty where the table is too large), source (where it lies, relative to ``data``).

    Raises
    ------
    DataError
        If no table is there, or a file is no parquet.
    """
    data, found = Path(data), []
    for folder in sorted(each for each in data.iterdir() if each.is_dir()) if data.is_dir() else []:
        for place in sorted(folder.iterdir()):
            files = sorted(place.glob("*.parquet")) if place.is_dir() else [place] if place.suffix == ".parquet" else []
            if not files:
                continue
            rows, size = sum(_rows(file) for file in files), sum(file.stat().st_size for file in files)
            name = f"{FOLDER}/{folder.name}/{place.stem}"
            row = {"folder": folder.name, "table": place.stem, "files": len(files), "rows": rows, "bytes": size}
            row["parquet"] = f"{name}.parquet" if size <= LARGEST_PARQUET else ""
            row["csv"] = f"{name}.csv" if rows <= LARGEST_CSV and size <= LARGEST_PARQUET else ""
            found.append(row | {"source": place.relative_to(data).as_posix()})
    if not found:
        raise DataError(f"There is no table under {data}. Give the folder that holds folders of parquet files.")
    return pd.DataFrame(found)


def write_offered(data: str | os.PathLike, site: str | os.PathLike) -> list[Path]:
    """Write what is `offered` under the folder of the built site; returns the files."""
    written = []
    for row in offered(data).itertuples():
        if not row.parquet:
            continue
        place = Path(data, row.source)
        files = sorted(place.glob("*.parquet")) if place.is_dir() else [place]
        frame = pd.concat([tables.read_parquet(file) for file in files], ignore_index=True)
        written.append(tables.write_parquet(frame, Path(site, row.parquet)))
        if row.csv:
            written.append(tables.write_atomically(Path(site, row.csv), partial(frame.to_csv, index=False)))
    return written


def where_it_is(table: str, offers: pd.DataFrame, up: str = "../") -> str:
    """A table as HTML, for a page of the book: what a row is, its key, its columns, and where it can be had.

    Parameters
    ----------
    table : str
        One of ``SCHEMAS``.
    offers : DataFrame
        What `offered` gives.
    up : str
        The way from the page to the top of the site.
    """
    columns = describe(table)
    named = ", ".join(f"<code>{name}</code>" for name in key(table))
    shown = []
    for row in columns.itertuples():
        unit = f" ({row.unit})" if row.unit else ""
        shown.append([f"<code>{row.column}</code>", html.escape(f"{row.meaning}{unit}"), html.escape(row.holds)])
    about = html.escape(str(SCHEMAS[table].description))
    caption = f"A row is {about}. Its key: {named}."
    same = [table, "further_sentences"] if table == "sentences" else [table]  # two tables with the same columns
    there = offers[offers["table"].isin(same) & offers["folder"].isin(_suites(offers))]
    return _table(caption, ["column", "in words (unit)", "holds"], shown) + files_of(there, up)


def files_of(offers: pd.DataFrame, up: str = "../") -> str:
    """Rows of `offered` as HTML, with links to the files that the site has."""
    shown = []
    for row in offers.itertuples():
        links = [(kind, getattr(row, kind)) for kind in ("csv", "parquet") if getattr(row, kind)]
        take = [f'<a href="{up}{path}" download>{kind.upper() if kind == "csv" else kind}</a>' for kind, path in links]
        place = f"<code>{row.source}{'/' if row.files > 1 else ''}</code>"
        shown.append([place, f"{row.rows:,}", f"{row.bytes / 1e6:.2f}", ", ".join(take) or "too large"])
    headings = ["in data/", "rows", "MB", "to take along"]
    return (
        _table("Where it lies in the repository, and what can be taken along.", headings, shown)
        if shown
        else "<p>No folder of the repository holds it.</p>"
    )


def _suites(offers: pd.DataFrame) -> set[str]:
    """The folders that hold a table of runs: other folders' tables may have the same names and other columns."""
    return set(offers.loc[offers["table"] == "runs", "folder"])


def _table(caption: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="pst-scrollable-table-container"><table class="table"><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _rows(file: Path) -> int:
    try:
        return pq.read_metadata(file).num_rows
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as parquet ({error}). Restore it from version control.") from error

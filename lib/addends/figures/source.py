"""The line under a figure that says what it was drawn from, and hands out the numbers."""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from pathlib import Path

import pandas as pd

from addends.errors import DataError, InputError
from addends.provenance import file_sha256, hashes

_LARGEST = 200_000  # bytes of a CSV file that travels inside its page


@dataclass(frozen=True)
class SourceLine:
    """One line of HTML: the figure, the files it rests on with their digest, and its numbers as a CSV file.

    Attributes
    ----------
    figure : str
        The figure's name on the page.
    files : tuple of (str, str)
        Each path as it is to be read, and the first 12 digits of its SHA-256 digest. The digest of a folder is that
        of the lines "digest path" of its files, by path. What is no file has none.
    rows : int
        How many rows were drawn.
    csv : str
        The numbers; empty where they are more than a page should carry, which the line then says.

    Examples
    --------
    >>> SourceLine("figure-shares", (("data/runs", "0123456789ab"),), 1, "term,share\\nS,0.8\\n")._repr_html_()
    '<p class="source-line">Drawn from data/runs (sha256 0123456789ab), in 1 row: <a download="figure-shares.csv"...
    """

    figure: str
    files: tuple[tuple[str, str], ...]
    rows: int
    csv: str

    def _repr_html_(self) -> str:
        rows = f"{self.rows:,} row{'s' if self.rows != 1 else ''}"
        files = ", ".join(escape(path) + (f" (sha256 {digest})" if digest else "") for path, digest in self.files)
        if not self.csv:
            return f'<p class="source-line">Drawn from {files}, in {rows}: too many for this page to carry.</p>'
        content = base64.b64encode(self.csv.encode()).decode()
        return (
            f'<p class="source-line">Drawn from {files}, in {rows}: <a download="{self.figure}.csv" '
            f'href="data:text/csv;charset=utf-8;base64,{content}">{self.figure}.csv</a></p>'
        )


def source_line(data: pd.DataFrame, figure: str, *paths: str | os.PathLike, model: str = "") -> SourceLine:
    """What a figure was drawn from. A notebook ends a cell with it, behind the cell that draws.

    Parameters
    ----------
    data : DataFrame
        What was drawn, row by row.
    figure : str
        The figure's name on the page; the CSV file is called so.
    *paths : path
        The files and folders that the numbers rest on, one at least. A table of one file may be named without its end.
    model : str
        The model that was run on the page, where one was: its folder, or its name on the Hub, which has no digest.

    Raises
    ------
    DataError
        If a path does not exist.
    InputError
        If nothing is named.
    """
    if not paths and not model:
        raise InputError(f"source_line: {figure} rests on something. Name its files, or the model that was run.")
    csv = data.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    if model and os.path.exists(model):
        paths, model = (*paths, model), ""
    paths = tuple(path if os.path.exists(path) else f"{path}.parquet" for path in paths)
    files = tuple((_shown(path), _digest(os.path.abspath(path))[:12]) for path in paths)
    if model:
        files = (*files, (model, ""))
    return SourceLine(figure, files, len(data), csv if len(csv) <= _LARGEST else "")


def _shown(path: str | os.PathLike) -> str:
    """The path without the way up from the notebook."""
    return "/".join(part for part in Path(path).as_posix().split("/") if part != "..")


@lru_cache
def _digest(path: str) -> str:
    if os.path.isfile(path):
        return file_sha256(Path(path))
    if not os.path.isdir(path):
        raise DataError(f"There is no {path}. Name a file or a folder that the figure rests on.")
    lines = (f"{row.sha256} {row.file}\n" for row in hashes(path).itertuples())
    return hashlib.sha256("".join(lines).encode()).hexdigest()

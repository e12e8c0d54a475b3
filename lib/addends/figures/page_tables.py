"""A table for the page: a caption, one row of heads, row heads that say what they head, numbers to the right."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from itertools import takewhile

import numpy as np
import pandas as pd
from pandas.api import types

from addends.checks import refuse_repeated
from addends.errors import InputError

MISSING = "–"
_NUMBER = re.compile(r"[-+<]?\s?\d")
_INTERVAL = re.compile(r" ([\[(][^\])]*[\])])$")
_INNER = re.compile(r"([_:])(?=\w)")
_LONG = 30  # characters of a word that may be broken anywhere, such as a digest


@dataclass(frozen=True)
class PageTable:
    """What `captioned` returns: notebooks and pages show its HTML, a terminal its text.

    Parameters
    ----------
    cells : DataFrame
        Texts, as they are shown; the index holds the row heads, and an index without a name is not shown.
    caption : str
        What the table shows.
    """

    cells: pd.DataFrame
    caption: str

    def __repr__(self) -> str:
        return f"{self.caption}\n{self.cells.to_string()}"

    def _repr_html_(self) -> str:
        heads = [str(name) for name in self.cells.index.names if name is not None]
        sides = {name: _side(self.cells[name]) for name in self.cells}
        top = [_cell("th", name, "col", "text") for name in heads]
        top += [_cell("th", name, "col", side) for name, side in sides.items()]
        rows = [
            [_cell("td", text, "", side) for text, side in zip(row, sides.values(), strict=True)]
            for row in self.cells.itertuples(index=False, name=None)
        ]
        if heads:
            rows = [[*head, *row] for head, row in zip(_row_heads(self.cells.index), rows, strict=True)]
        body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
        return (
            f'<table class="captioned">\n<caption><span>{escape(self.caption)}</span></caption>\n'
            f"<thead><tr>{''.join(top)}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
        )


def captioned(frame: pd.DataFrame, caption: str, digits: int | Mapping[str, int] = 2) -> PageTable:
    """A frame as a table of a page.

    Whole numbers are shown whole, with commas at thousands; others with ``digits`` after the point, and one that would
    be rounded to zero with its first digit. What is missing is shown as a dash. Columns of several
    levels get one head, with commas between the levels.

    Parameters
    ----------
    frame : DataFrame
        Its named index levels become the heads of the rows. A plain numbering without a name is left out.
    caption : str
        A sentence that says what the table shows.
    digits : int or dict of column name to int
        Digits after the point; columns that the dict leaves out have two.

    Raises
    ------
    InputError
        If there is no caption, an index level has no name, two columns share one, or ``digits`` names none.

    Examples
    --------
    >>> frame = pd.DataFrame({"runs": [5, 15], "rho": [0.1234, 0.00001]}, index=pd.Index(["S", "T"], name="term"))
    >>> table = captioned(frame, "Rank correlation with quality, by term.")
    >>> table.cells.loc["T"].tolist()
    ['15', '1e-05']
    """
    if not caption.strip():
        raise InputError("captioned: the caption is empty. Give a sentence that says what the table shows.")
    names = list(frame.index.names)
    numbered = names == [None] and isinstance(frame.index, pd.RangeIndex)
    if None in names and not numbered:
        raise InputError(
            f"captioned: an index level has no name: {names}. Say what the rows are: frame.rename_axis(...)."
        )
    columns = [_head(name) for name in frame.columns]
    refuse_repeated(pd.DataFrame({"column": columns}), ("column",), "captioned", "Give each column a name of its own.")
    of = digits if isinstance(digits, Mapping) else dict.fromkeys(columns, digits)
    if unknown := [name for name in of if name not in columns]:
        raise InputError(f"captioned: digits names {unknown}; the columns are {columns}.")
    texts = {name: _texts(frame.iloc[:, at], of.get(name, 2)) for at, name in enumerate(columns)}
    return PageTable(pd.DataFrame(texts, index=frame.index, columns=pd.Index(columns)), caption)


def _head(name: object) -> str:
    parts = name if isinstance(name, tuple) else (name,)
    return ", ".join(str(part) for part in parts if str(part))


def _texts(column: pd.Series, digits: int) -> list[str]:
    """The cells of one column: its numbers alike, whatever its dtype."""
    numbers = [value for value in column if types.is_number(value) and not types.is_bool(value)]
    whole = all(float(number).is_integer() for number in numbers if np.isfinite(number))
    return [_text(value, 0 if whole else digits) for value in column]


def _text(value: object, digits: int) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if not types.is_number(value):
        return MISSING if value is None or value is pd.NA or value == "" else str(value)
    number = float(value)  # type: ignore[arg-type]
    if np.isnan(number):
        return MISSING
    if number and abs(number) < 0.5 * 10.0**-digits:
        return f"{number:.1g}"
    return f"{number:,.{digits}f}"


def _side(column: pd.Series) -> str:
    """Numbers stand to the right, all else to the left; a word that is too long for a line may be broken."""
    shown = [text for text in column if text != MISSING]
    if any(len(word) > _LONG for text in shown for word in text.split()):
        return "long text"
    return "number" if shown and all(_NUMBER.match(text) for text in shown) else "text"


def _cell(tag: str, text: object, scope: str, side: str, rows: int = 1) -> str:
    """One cell. A line may end behind an underscore or a colon and before an interval, and not inside the interval."""
    attributes = (f' scope="{scope}"' if scope else "") + (f' rowspan="{rows}"' if rows > 1 else "")
    words = _INTERVAL.sub(r" <span>\1</span>", _INNER.sub(r"\1<wbr/>", escape(str(text))))
    return f'<{tag}{attributes} class="{side}">{words}</{tag}>'


def _row_heads(index: pd.Index) -> list[list[str]]:
    """The heads of each row, level by level; one that heads several rows stands in the first and spans them."""
    texts = [_texts(index.get_level_values(level).to_series(), 2) for level in range(index.nlevels)]
    keys = list(zip(*texts, strict=True))
    found: list[list[str]] = [[] for _ in keys]
    for level in range(index.nlevels):
        last = level == index.nlevels - 1
        at = 0
        while at < len(keys):
            alike = (key[: level + 1] == keys[at][: level + 1] for key in keys[at:])
            rows = 1 if last else sum(takewhile(bool, alike))
            found[at].append(_cell("th", keys[at][level], "rowgroup" if rows > 1 else "row", "text", rows))
            at += rows
    return found

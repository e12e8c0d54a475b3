"""One interactive picture: its data, a size that a page can carry, and the HTML that draws it, whole in one output."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np

from addends.errors import InputError
from addends.figures import style

LARGEST = 150_000  # bytes of JSON inside one picture

# The book's theme sets outputs of HTML on a light ground in the dark; a picture has the page's.
_GROUND = (
    "html[data-theme] .cell_output .text_html:has(> .addends-widget)"
    "{background:none!important;color:inherit!important;padding:0!important}"
)


@dataclass(frozen=True)
class Widget:
    """An interactive picture. As the last value of a cell it is shown: in JupyterLab, in the book, in any HTML page.

    It needs no network and no kernel, and leaves no name in the page: one element, one script that draws into it,
    and one rule of style for the output around it.

    Attributes
    ----------
    name : str
        Of the picture, and of its file of JavaScript.
    data : dict
        What it shows: title, caption and colours, and what its own function puts there.

    Examples
    --------
    >>> Widget("trend", {"title": "What does trend buy?", "caption": "Nothing.", "colours": {}}).json()
    '{"title":"What does trend buy?","caption":"Nothing.","colours":{}}'
    """

    name: str
    data: Mapping[str, Any]

    def json(self) -> str:
        """The data as the page carries them.

        Raises
        ------
        InputError
            If they are larger than a page should carry.
        """
        text = json.dumps(self.data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
        if size > LARGEST:
            raise InputError(
                f"The picture {self.name!r} would carry {size:,} bytes of data; a page carries {LARGEST:,} for one. "
                "Give it fewer sentences, runs, layers or checkpoints."
            )
        return text

    def _repr_html_(self) -> str:
        common, own = (_file(f"{name}.js") for name in ("common", self.name))
        look = json.dumps(_file("common.css") + _file(f"{self.name}.css"))
        # Inside a script "<" could end it, and two marks of Unicode end lines.
        safe = self.json().replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
        title, caption = (escape(str(self.data[key])) for key in ("title", "caption"))
        return (
            f"<style>{_GROUND}</style>"
            f'<div class="addends-widget" data-picture="{self.name}" data-lm-suppress-shortcuts="true">'
            f"<p><strong>{title}</strong> {caption} (An interactive picture: it is drawn where scripts may run, in "
            "JupyterLab after the cell was run.)</p></div>"
            "<script>(() => {\n'use strict';\nconst host = document.currentScript.previousElementSibling;\n"
            f"const data = {safe};\nconst look = {look};\n{common}\n{own}\n}})();</script>"
        )

    def __repr__(self) -> str:
        return f"Widget({self.name!r}: {self.data['title']} {len(self.json()):,} bytes of data)"


def term_name(term: str, by: str) -> str:
    """The name of a term of a method, without the letter in front of it."""
    return style.TERM_NAMES[by][term].removeprefix(f"{term}: ")


def packed(values: np.ndarray, bits: int) -> str:
    """Numbers of 32 or 64 bits as base64, bit by bit what the tables hold: ranks and ties stay what they are."""
    return base64.b64encode(np.ascontiguousarray(values, dtype={32: "<f4", 64: "<f8"}[bits]).tobytes()).decode()


def _file(name: str) -> str:
    return files("addends.figures.widgets").joinpath(name).read_text(encoding="utf-8")

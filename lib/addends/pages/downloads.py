"""Notebooks as a reader downloads them: executed, with their numbers in the text, as any Jupyter shows them.

The build of the book executes a notebook, keeps its outputs in ``_build/jupyter_execute`` and shows numbers, citations
and titles on the page. The file behind the page's download button is the source, in which all of these are blanks.
`written_out` is the same notebook with both: it opens readable, and it runs where the repository is.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from addends import tables
from addends.checks import optional_module
from addends.errors import DataError
from addends.pages.plain import Known, plain, title_of, values_of, with_captions


def written_out(executed: Mapping[str, Any], known: Known, note: str = "") -> dict[str, Any]:
    """An executed notebook in plain Markdown, its outputs kept, with a note about it on top.

    Parameters
    ----------
    executed : mapping
        A notebook, as JSON.
    known : Known
        What its roles and links stand for.
    note : str
        A paragraph of Markdown.
    """
    cells = with_captions(copy.deepcopy(dict(executed)), known)
    if note:
        cells = [{"cell_type": "markdown", "id": "about-this-copy", "metadata": {}, "source": note}, *cells]
    return {**executed, "cells": cells}


def write_downloads(
    pages: Mapping[str, Path],
    executed: str | os.PathLike,
    site: str | os.PathLike,
    citations: Mapping[str, tuple[str, str]],
    cache: str | os.PathLike | None = None,
    note: str = "",
    address: Callable[[str], str | None] = lambda page: None,
    complain: Callable[[str], object] | None = None,
) -> list[Path]:
    """Write, over the sources that the site's download buttons lead to, each notebook as it was executed.

    Parameters
    ----------
    pages : mapping of str to path
        Every page of the book, by its name ("notebooks/01_read_findings"), and where its source lies.
    executed : path
        The folder of executed notebooks, with what they glued beside each (``*.glue.json``).
    site : path
        The folder of the built site.
    citations : mapping
        As `Known` has them.
    cache : path, optional
        The cache of executed notebooks. myst-nb takes a page's outputs from there where its text has not changed, and
        writes the notebook without them.
    note : str
        Stands on top of each.
    address : callable
        Where a page stands on the web, by its name; None where that is not known: then its title stands for it.
    complain : callable, optional
        Is told what is wrong with a page, which is then left as it is; without it, that is an error.

    Returns
    -------
    list of Path
        The notebooks written.

    Raises
    ------
    DataError
        If a page shows a number that it did not glue (its execution may have failed), and there is no ``complain``.
    """
    written = []
    for name, source in pages.items():
        done = Path(executed, f"{name}.ipynb")
        if source.suffix != ".ipynb" or not done.exists():
            continue
        beside = done.with_suffix(".glue.json")
        outputs = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}
        known = Known(values_of(outputs), citations, _links(name, source, pages, address))
        try:
            notebook = written_out(_with_outputs(done, cache), known, note)
        except DataError as error:
            said = f"{source.name} cannot be offered for download: {error}"
            if complain is None:
                raise DataError(said) from error
            complain(said)
            continue
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        place = Path(site, "_sources", f"{name}.ipynb")
        written.append(tables.write_atomically(place, _writer(text)))
    return written


def _with_outputs(done: Path, cache: str | os.PathLike | None) -> dict[str, Any]:
    """The executed notebook; with what the cache holds of it, where it has no output of its own."""
    text = done.read_text(encoding="utf-8")
    notebook = json.loads(text)
    if cache is None or not Path(cache).exists() or any(cell.get("outputs") for cell in notebook["cells"]):
        return notebook
    nbformat = optional_module("nbformat", "book", "A download")
    cached = optional_module("jupyter_cache", "book", "A download").get_cache(cache)
    with suppress(KeyError):  # it was executed without the cache, or shows nothing
        _, notebook = cached.merge_match_into_notebook(nbformat.reads(text, as_version=4), cell_meta=())
    return json.loads(nbformat.writes(nbformat.from_dict(notebook)))


def _writer(text: str) -> Callable[[str], object]:
    return lambda part: Path(part).write_text(text, encoding="utf-8")


def _links(
    name: str, source: Path, pages: Mapping[str, Path], address: Callable[[str], str | None]
) -> Callable[[str, str], str]:
    """What stands for a link on a page: the other page's address, or its title where there is none."""
    by_path = {os.path.normpath(path): page for page, path in pages.items()}

    def link(target: str, text: str) -> str:
        path, _, place = target.partition("#")
        page = by_path.get(os.path.normpath(source.parent / path)) if path else name
        if page is None:  # a file of the site that is no page, or a place that Jupyter has under another name
            return text
        shown = text or plain(title_of(pages[page]), Known())
        found = address(page)
        if found is None or not path:
            return shown if text or not path else f"*{shown}*"
        return f"[{shown}]({found}{f'#{place}' if place else ''})"

    return link

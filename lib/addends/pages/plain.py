"""MyST as plain Markdown: what a page says, for readers whose program does not know roles and directives.

The build of the book puts numbers, citations, terms and titles where a page has ``{glue:text}`share:.2f```,
``{cite:p}`holm-1979```, ``{term}`runs <run>``` and ``[](02_decompose_one_sentence.ipynb)``. Jupyter and nbconvert show
these as they stand. `plain` puts there what the build would, as text; code is left alone.
"""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from addends.checks import optional_module
from addends.errors import DataError

_BLOCK = re.compile(r"^[ \t]*(`{3,}|~{3,}|:{3,})(.*?)\n(.*?)^[ \t]*\1[ \t]*$", flags=re.MULTILINE | re.DOTALL)
_INLINE = re.compile(
    r"\{(?P<role>[a-zA-Z][\w:.+-]*)\}(?P<ticks>`+)(?P<content>.+?)(?P=ticks)"
    r"|(?<!`)(?P<fence>`+)(?!`).+?(?<!`)(?P=fence)(?!`)"  # code, which stays
    r"|(?<!!)\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s]+)\)",
    flags=re.DOTALL,
)
_LABEL = re.compile(r"^\([\w-]+\)=\n", flags=re.MULTILINE)
_EQUATION = re.compile(r"(?<=\$\$) \([\w-]+\)$", flags=re.MULTILINE)
_TARGETED = re.compile(r"^(.*?)\s*<([^<>]+)>$", flags=re.DOTALL)


@dataclass(frozen=True)
class Known:
    """What the roles and links of a page stand for.

    Parameters
    ----------
    values : mapping
        What the page glued, by name: numbers and texts.
    citations : mapping
        Authors and year of a reference, by its key: ``{"holm-1979": ("Holm", "1979")}``.
    link : callable
        What stands for a link to another page or place of the book, from its target and its text ("" where the text is
        to be the page's title). By default the text alone.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    citations: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    link: Callable[[str, str], str] = lambda target, text: text


def plain(text: str, known: Known) -> str:
    """A cell or page of MyST as Markdown that every program shows.

    ``plain("{glue:text}`n` {term}`runs <run>`", Known({"n": 15}))`` is "15 runs".

    Raises
    ------
    DataError
        If the text shows a value that is not among ``known.values``.
    """
    pieces, end = [], 0
    for block in _BLOCK.finditer(text):
        pieces += [_prose(text[end : block.start()], known), _block(block, known)]
        end = block.end()
    return "".join([*pieces, _prose(text[end:], known)])


def _block(block: re.Match, known: Known) -> str:
    """A fenced block: code as it stands, and of a directive what it holds."""
    directive = re.match(r"\{([\w:-]+)\}\s*(.*)", block[2].strip())
    if directive is None:
        return block[0] if not block[1].startswith(":") else plain(block[3], known)
    body = re.sub(r"\A(?::[\w-]+:.*\n)+\n?", "", block[3]).strip()
    if directive[1] == "math":
        return f"$$\n{body}\n$$"
    if directive[1] in ("note", "tip", "important", "warning", "caution", "admonition", "seealso"):
        title = directive[2] or directive[1].capitalize()
        said = f"**{title}.** {plain(body, known)}".strip()
        return "\n".join(f"> {line}".rstrip() for line in said.split("\n"))
    return plain(body, known)


def _prose(text: str, known: Known) -> str:
    def shown(found: re.Match) -> str:
        if found["role"]:
            return _role(found["role"], found["content"], known)
        return found[0] if found["fence"] else _linked(found["target"], _prose(found["text"], known), known)

    text = _INLINE.sub(shown, text)
    return _EQUATION.sub("", _LABEL.sub("", text))


def _role(name: str, content: str, known: Known) -> str:
    targeted = _TARGETED.match(content)
    shown, target = (targeted[1], targeted[2]) if targeted else (content, content)
    if name.startswith("glue"):
        return _value(content, known)
    if name == "math":
        return f"${content}$"
    if name.startswith("cite"):
        found = [known.citations.get(key.strip(), (key.strip(), "")) for key in content.split(",")]
        if name == "cite:t":
            return ", ".join(f"{authors} ({year})" if year else authors for authors, year in found)
        return f"({'; '.join(', '.join(filter(None, one)) for one in found)})"
    if name in ("doc", "ref", "numref") and not targeted:
        return known.link(target, "") or target
    return shown


def _value(content: str, known: Known) -> str:
    """A glued value in its format, which follows the last colon: ``share:.2f``."""
    name, colon, form = content.strip().rpartition(":")
    if not colon:
        name, form = form, ""
    if name not in known.values:
        raise DataError(f"The page shows {name!r}, which none of its cells has glued.")
    value = known.values[name]
    return format(float(value), form) if form and form != "s" else str(value)


def _linked(target: str, text: str, known: Known) -> str:
    """A link: as it stands where it leads out of the book, else what ``known.link`` makes of it."""
    if re.match(r"[a-z]+:", target):
        return f"[{text}]({target})"
    return known.link(target, text) or text or target


def values_of(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """The values in glued outputs, by name: numbers and texts, read from their text form.

    Parameters
    ----------
    outputs : mapping
        Name to an output of a notebook, as myst-nb writes them to ``*.glue.json``. Figures are left out.
    """
    found = {}
    for name, output in outputs.items():
        texts = [text for kind, text in output["data"].items() if kind.endswith("text/plain")]
        if texts:
            text = "".join(texts[0])
            try:
                found[name] = ast.literal_eval(text)
            except (ValueError, SyntaxError):
                found[name] = text
    return found


def glued(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """What the cells of an executed notebook have glued, by name."""
    outputs = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            if name:
                outputs[name] = output
    return values_of(outputs)


def title_of(page: str | os.PathLike) -> str:
    """The first heading of a page, a notebook or Markdown; the file's name where it has none."""
    page = Path(page)
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
        text = "\n".join("".join(cell["source"]) for cell in cells)
    heading = re.search(r"^# +(.+)$", text, flags=re.MULTILINE)
    return heading[1].strip() if heading else page.stem


def citations_in(bibliography: str | os.PathLike) -> dict[str, tuple[str, str]]:
    """Authors and year of each reference of a BibTeX file, by key, as in "Mickus and Vázquez", "2023".

    Raises
    ------
    ImportError
        If pybtex is not installed.
    """
    pybtex = optional_module("pybtex.database", "book", "A page's citations")
    latex = optional_module("pybtex.richtext", "book", "A page's citations").Text.from_latex
    found = {}
    for key, entry in pybtex.parse_file(str(bibliography)).entries.items():
        people = entry.persons.get("author") or entry.persons.get("editor") or []
        names = [str(latex(" ".join([*one.prelast_names, *one.last_names]))) for one in people]
        several = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
        found[key] = (several if names else key, str(entry.fields.get("year", "n.d.")))
    return found


def with_captions(notebook: Mapping[str, Any], known: Known) -> list[dict]:
    """The cells of an executed notebook in plain Markdown, a figure's caption beneath it and its alt text with it.

    Outputs that were glued, and not shown, are left out.
    """
    cells = []
    for cell in notebook["cells"]:
        cell = dict(cell)
        if cell["cell_type"] == "markdown":
            cell["source"] = plain("".join(cell["source"]), known)
        cells.append(cell)
        if cell["cell_type"] != "code":
            continue
        # myst-nb reads what is glued; with display=False it has a type that no program shows.
        cell["outputs"] = [dict(one) for one in cell["outputs"] if not one.get("metadata", {}).get("scrapbook")]
        about = cell["metadata"].get("mystnb", {})
        pictures = [one for one in cell["outputs"] if any(kind.startswith("image/") for kind in one.get("data", {}))]
        for output in pictures:
            alt = about.get("image", {}).get("alt")
            if alt:
                kinds = [kind for kind in output["data"] if kind.startswith("image/")]
                output["metadata"] = {**output.get("metadata", {}), **{kind: {"alt": alt} for kind in kinds}}
        caption = about.get("figure", {}).get("caption")
        if pictures and caption:
            beneath = {"cell_type": "markdown", "id": f"{cell.get('id', 'cell')}-caption", "metadata": {}}
            cells.append({**beneath, "source": f"*{plain(caption, known).strip()}*"})
    return cells

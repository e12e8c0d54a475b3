"""What Jupyter Book leaves out of its pages: a description in the head, a front page with a title, a way to the index.

What a search engine or a shared link shows of a page is its title and its first paragraph, cut at a sentence; a page's
front matter may have a description of its own (`html_meta`). The front page of the site, which only leads to the first
page of the book, gets the same head. The index, which no toc of Jupyter Book can name, is the last entry of one part.
"""

from __future__ import annotations

import re
from html import escape, unescape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import toctree
from sphinx.application import Sphinx

LONGEST = 300  # characters of a description
GENERATED = {"genindex": "Index", "search": "Search"}  # pages whose title stands in the theme alone
FRONT = """<!DOCTYPE html>
<html lang="{language}">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{title}</title>
<meta http-equiv="refresh" content="0; url={address}"/>
<link rel="canonical" href="{address}"/>
{metas}
</head>
<body><main><h1>{title}</h1><p><a href="{address}">{description}</a></p></main></body>
</html>
"""


def cut(text: str, longest: int = LONGEST) -> str:
    """The sentences of a text that fit, or, where not even the first does, its words.

    >>> cut("One is short. Two is longer. Three.", 30)
    'One is short. Two is longer.'
    >>> cut("a sentence without an end that is near", 20)
    'a sentence without …'
    """
    text = " ".join(text.split())
    if len(text) <= longest:
        return text
    ends = [found.end() for found in re.finditer(r"[.?!](?=\s)", text[: longest + 1])]
    return text[: ends[-1]] if ends else text[: longest - 1].rpartition(" ")[0] + " …"


def first_paragraph(doctree: nodes.document | None) -> str:
    """The text of the first paragraph that is more than a link; empty where the page has none."""
    for paragraph in doctree.findall(nodes.paragraph) if doctree else ():
        text = paragraph.astext()
        if len(text) > 40:
            return text
    return ""


def metas(title: str, description: str, described: bool = False) -> str:
    """The lines of a head; without the description where the page has one already."""
    found = {"og:type": "article", "og:title": title, "og:description": description}
    lines = [f'<meta property="{name}" content="{escape(value)}"/>' for name, value in found.items()]
    return "\n".join(lines if described else [f'<meta name="description" content="{escape(description)}"/>', *lines])


def add(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Write the lines of a page's head, and keep those of the first page for the front page."""
    shown = context.get("title") or context.get("indextitle") or GENERATED.get(pagename) or app.config.html_title
    title = unescape(re.sub(r"<[^>]+>", "", shown))
    own = re.search(r'<meta[^>]*name="description"[^>]*>', context.get("metatags", ""))
    description = cut(first_paragraph(doctree)) or f"{title}: a page of the book {app.config.html_title}."
    if own and (told := re.search(r'content="([^"]*)"', own[0])):
        description = unescape(told[1])
    context["metatags"] = context.get("metatags", "") + metas(title, description, described=bool(own)) + "\n"
    if pagename == app.config.root_doc:
        app.first_page = (title, description)  # type: ignore[attr-defined]


def front(app: Sphinx, exception: Exception | None) -> None:
    """Write the front page, where the book's first page is another."""
    title, description = getattr(app, "first_page", ("", ""))
    if exception or not title or app.builder.format != "html" or app.config.root_doc == "index":
        return
    words = {"title": escape(title), "description": escape(description), "language": app.config.language}
    lines = metas(title, description)
    page = FRONT.format(metas=lines, address=app.builder.get_target_uri(app.config.root_doc), **words)
    Path(app.outdir, "index.html").write_text(page, encoding="utf-8")


def link_the_index(app: Sphinx, doctree: nodes.document) -> None:
    """Put the index at the end of the part that the setting ``index_in_part`` names."""
    for part in doctree.findall(toctree):
        if part.get("caption") == app.config.index_in_part:
            part["entries"].append(("Index", "genindex"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the hooks: the index before the toc is collected, the front page after the redirect of the toc."""
    app.add_config_value("index_in_part", "", "env", str)
    app.connect("doctree-read", link_the_index, priority=100)
    app.connect("html-page-context", add)
    app.connect("build-finished", front, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

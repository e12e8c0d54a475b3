"""The small Sphinx extension of the book, on a book of two pages."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from sphinx.application import Sphinx

FILE = Path(__file__).parents[2] / "book" / "_extensions" / "book_pages.py"
FIRST = """
The "first" page & its title
============================

Short.

What the page is about, in a sentence that is long enough to tell. And a second one.

.. toctree::
   :caption: Reference

   second
"""
SECOND = """
Second
======

.. meta::
   :description: Words of its own.

.. glossary::

   term
      What it means.
"""


@pytest.fixture(scope="module")
def extension():
    spec = importlib.util.spec_from_file_location("book_pages", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    (source / "first.rst").write_text(FIRST, encoding="utf-8")
    (source / "second.rst").write_text(SECOND, encoding="utf-8")
    (source / "conf.py").write_text(
        f"import sys\nsys.path.append({str(FILE.parent)!r})\nextensions = ['book_pages']\nroot_doc = 'first'\n"
        "html_title = 'A book'\nlanguage = 'en'\nindex_in_part = 'Reference'\n",
        encoding="utf-8",
    )
    Sphinx(source, source, out, out / ".doctrees", "html", status=None, warningiserror=True).build()
    return out


def test_the_description_is_the_first_paragraph_that_tells(site):
    page = (site / "first.html").read_text(encoding="utf-8")
    said = "What the page is about, in a sentence that is long enough to tell. And a second one."
    assert f'<meta name="description" content="{said}"/>' in page
    assert f'<meta property="og:description" content="{said}"/>' in page
    assert re.search(r'<meta property="og:title" content="The (“|&quot;)first(”|&quot;) page &amp; its title"/>', page)


def test_a_page_may_have_a_description_of_its_own(site):
    page = (site / "second.html").read_text(encoding="utf-8")
    assert re.findall(r'<meta[^>]*name="description"[^>]*>', page) == [
        '<meta content="Words of its own." name="description" />'
    ]
    assert '<meta property="og:description" content="Words of its own."/>' in page


def test_pages_without_a_source_are_described_too(site):
    assert '<meta name="description" content="Index: a page of the book A book."/>' in (
        site / "genindex.html"
    ).read_text(encoding="utf-8")


def test_the_front_page_leads_to_the_first_and_has_its_head(site):
    page = (site / "index.html").read_text(encoding="utf-8")
    assert 'content="0; url=first.html"' in page
    assert 'content="What the page is about' in page
    assert page.count("<h1>") == 1


def test_the_index_is_the_last_entry_of_its_part(site):
    page = (site / "first.html").read_text(encoding="utf-8")
    entries = re.findall(r'<li class="toctree-l1"><a class="reference internal" href="([^"]+)">', page)
    assert entries[-2:] == ["second.html", "genindex.html"]
    assert "term" in (site / "genindex.html").read_text(encoding="utf-8")


def test_long_descriptions_end_with_a_sentence(extension):
    text = "One sentence stands here. " * 30
    assert extension.cut(text).endswith("here.")
    assert len(extension.cut(text)) <= extension.LONGEST
    assert extension.cut("word " * 100).endswith("word …")

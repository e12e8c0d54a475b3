"""Every page of the built book as a reader meets it: light and dark, wide and narrow, on paper, from a disk."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.book import reading

ROOT = Path(__file__).parents[2]
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
CHAPTERS = [chapter for part in TOC["parts"] for chapter in part["chapters"]]
SECTIONS = [section for chapter in CHAPTERS for section in chapter.get("sections", [])]
OF_THE_TOC = [TOC["root"], *(page["file"] for page in CHAPTERS + SECTIONS)]
PAGES = [*OF_THE_TOC, "genindex", "py-modindex", "search"]
# What depends on colours alone is looked for again in the dark, and what depends on the width on the phone.
COLOURS = ["color-contrast", "link-in-text-block"]
WIDTH = ["scrollable-region-focusable", "target-size"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(site, serve):
    return serve(site)


def in_all_views(tab, site, home, seen):
    """What is wrong with the page that is open, by view; views without a fault are left out."""
    faults = {
        "loading": seen.faults(),
        "head": reading.heads(tab),
        "images": reading.images(tab),
        "captions": reading.tables_without_caption(tab),
        "links": reading.links(tab, site, home),
        "weight": reading.weight(seen, site, home),
    }
    for theme in ("light", "dark"):
        reading.show(tab, reading.WIDE, theme)
        faults[f"{theme}, wide"] = reading.layout(tab, narrow=False)
        faults[f"{theme}, axe"] = reading.accessibility(tab, COLOURS if theme == "dark" else None)
    for theme in ("dark", "light"):
        reading.show(tab, reading.NARROW, theme)
        faults[f"{theme}, narrow"] = reading.layout(tab, narrow=True)
    faults["narrow, axe"] = reading.accessibility(tab, WIDTH)
    reading.show(tab, reading.PAPER, "light", media="print")
    faults["paper"] = reading.paper(tab)
    return {view: found for view, found in faults.items() if found}


@pytest.mark.parametrize("page", PAGES)
def test_page(page, tab, site, home):
    seen = reading.visit(tab, f"{home}{page}.html")
    assert in_all_views(tab, site, home, seen) == {}


@pytest.mark.parametrize("page", PAGES)
def test_page_from_a_disk(page, tab, site):
    address = (site / f"{page}.html").as_uri()
    assert reading.visit(tab, address).faults() == []
    assert reading.images(tab) == []


def test_front_page_has_a_head_and_leads_to_the_first_page(tab, site, home):
    front = (site / "index.html").read_text(encoding="utf-8")
    tab.goto("about:blank")
    tab.set_content(re.sub(r'<meta http-equiv="refresh"[^>]*>', "", front))  # it leads on at once
    assert reading.heads(tab) == []
    tab.goto(f"{home}index.html")
    tab.wait_for_url(f"{home}{TOC['root']}.html")


def results(tab, home, words):
    """The pages that the site's own search finds, best first."""
    tab.goto(f"{home}search.html?q={words.replace(' ', '+')}")
    tab.wait_for_function("document.querySelector('#search-results .search-summary')?.textContent.includes('found')")
    hrefs = tab.eval_on_selector_all("#search-results li a", "links => links.map(one => one.pathname)")
    return [Path(href).stem for href in hrefs]


def test_search_finds_how_to_cite(tab, home):
    assert "cite" in results(tab, home, "how to cite")


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_search_and_index_have_the_terms_of_the_glossary(place, tab, home):
    tab.goto(f"{home}book/glossary.html")
    terms = tab.eval_on_selector_all("dl.glossary > dt[id]", "terms => terms.map(one => one.firstChild.textContent)")
    term = terms[{"first": 0, "middle": len(terms) // 2, "last": -1}[place]].strip()
    assert "glossary" in results(tab, home, term)
    tab.goto(f"{home}genindex.html")
    assert term in tab.inner_text(".bd-article")


def test_the_index_is_linked_from_the_pages(tab, home):
    tab.goto(f"{home}{TOC['root']}.html")
    assert tab.locator(".bd-sidebar-primary a", has_text=re.compile(r"^\s*Index\s*$")).count() == 1

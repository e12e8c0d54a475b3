"""Each check on a page must be able to fail: small pages with one fault each, and one without."""

from __future__ import annotations

import re

import pytest

from tests.book import reading

HEAD = """<meta charset="utf-8"><title>A page</title><meta name="description" content="What it is about.">
<meta property="og:title" content="A page"><meta property="og:description" content="What it is about.">
<style>body { margin: 0; color: #000; background: #fff } html[data-theme=dark] .dark { color: #eee }
.box { overflow-x: auto } .wide { width: 1500px } .middle { width: 600px } pre { margin: 0 }</style>"""
GOOD = """<h1>A page</h1><p>Its <a href="other.html#place">text</a>.</p><img src="dot.svg" alt="a dot" width="10">
<div class="cell_output"><table><caption>What it shows.</caption>
<tr><th scope="col">a</th></tr><tr><td>1</td></tr></table></div>"""
DOT = '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><circle cx="5" cy="5" r="5"/></svg>'


@pytest.fixture(scope="module")
def small(tmp_path_factory, serve, tab):
    """A function from a page's body to the visit, the folder and the address, with the page open."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "dot.svg").write_text(DOT, encoding="utf-8")
    (folder / "other.html").write_text('<p id="place">here</p>', encoding="utf-8")
    home = serve(folder)

    def make(body=GOOD, head=HEAD, lang="en"):
        page = f'<!DOCTYPE html><html lang="{lang}"><head>{head}</head>'
        page += f'<body><main><article class="bd-article">{body}</article></main></body></html>'
        (folder / "page.html").write_text(page, encoding="utf-8")
        return reading.visit(tab, f"{home}page.html"), folder, home

    return make


def faults(tab, seen, folder, home):
    """As `test_browser.in_all_views` has them, in the views of a small page."""
    found = [
        *seen.faults(),
        *reading.heads(tab),
        *reading.images(tab),
        *reading.tables_without_caption(tab),
        *reading.links(tab, folder, home),
        *reading.weight(seen, folder, home),
    ]
    reading.show(tab, reading.WIDE, "light")
    found += [*reading.layout(tab, narrow=False), *reading.accessibility(tab)]
    reading.show(tab, reading.NARROW, "dark")
    found += [*reading.layout(tab, narrow=True), *reading.accessibility(tab, ["color-contrast"])]
    reading.show(tab, reading.PAPER, "light", media="print")
    return found + reading.paper(tab)


def test_a_page_without_a_fault(small, tab):
    assert faults(tab, *small()) == []


IN_THE_BODY = {
    "an error of a script": ("<script>throw new Error('ours')</script>", "console: Error: ours|ours"),
    "an error on the console": ("<script>console.error('said')</script>", "console: said"),
    "a request to another place": ('<img src="https://example.org/x.png" alt="">', "request to another place"),
    "a request that fails": ('<script src="gone.js"></script>', "request failed: .*gone.js"),
    "an image that does not load": ('<img src="gone.png" alt="gone">', "image that does not load"),
    "an image without words": ('<img src="dot.svg">', "image without alternative text"),
    "a link to no file": ('<a href="gone.html">gone</a>', "link to a file that is not there: gone.html"),
    "a link to no place": ('<a href="other.html#gone">gone</a>', "link to a place that is not there: other.html#gone"),
    "a link to no place of its own": ('<a href="#gone">gone</a>', "link to a place that is not there: page.html#gone"),
    "a second heading": ("<h1>Again</h1>", "2 main headings"),
    "a page that scrolls sideways": ('<p class="wide">wide</p>', "the page scrolls sideways"),
    "a table without a caption": (
        '<div class="cell_output"><table><tr><td>1</td></tr></table></div>',
        "table without a caption",
    ),
    "a table beyond its box": (
        '<div class="box"><table class="wide"><tr><td>1</td></tr></table></div>',
        "wider than its box, 1500 in 1280: table",
    ),
    "an equation beyond its box": (
        '<div class="box"><mjx-container style="display: block; width: 1500px">x</mjx-container></div>',
        "wider than its box, 1500 in 1280: mjx-container",
    ),
    "a table that is cut": (
        '<div style="overflow: hidden"><table class="wide"><tr><td>1</td></tr></table></div>',
        "cut: table",
    ),
    "a box out of the keyboard's reach": (
        '<div class="box" tabindex="-1"><table class="middle"><tr><td>1</td></tr></table></div>',
        "cannot be reached by keyboard, 600 in 390",
    ),
    "a box that hides that it scrolls": (
        '<div class="box" tabindex="0"><table class="middle"><tr><td>1</td></tr></table></div>',
        "does not show that it does, 600 in 390",
    ),
    "a box that shows less than half": (
        '<div class="box" tabindex="0"><table style="width: 900px"><tr><td>1</td></tr></table></div>',
        "twice as wide as its box, 900 in 390",
    ),
    "an image beyond the paper": ('<img src="dot.svg" alt="a dot" width="800">', "beyond the paper by .*: img"),
    "code that is cut on paper": (
        f'<pre class="box" tabindex="0">{"long " * 150}</pre>',
        "cut on paper, .* in 718: pre",
    ),
    "a head without words": ("<table><tr><th></th></tr><tr><td>1</td></tr></table>", "empty-table-header"),
    "grey on white": ('<p style="color: #bbb">pale</p>', "color-contrast: p"),
    "a colour for dark pages on white": ('<p class="dark">pale in the dark</p>', "color-contrast: .dark"),
}


@pytest.mark.parametrize("fault", IN_THE_BODY)
def test_a_fault_in_the_body_is_found(fault, small, tab):
    body, said = IN_THE_BODY[fault]
    found = faults(tab, *small(GOOD + body))
    assert any(re.search(said, one) for one in found), found


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("<title>A page</title>", "no title"),
        ('<meta name="description" content="What it is about.">', "no description"),
        ('<meta property="og:title" content="A page">', "no og:title"),
        ('<meta property="og:description" content="What it is about.">', "no og:description"),
    ],
)
def test_a_fault_in_the_head_is_found(gone, said, small, tab):
    small(head=HEAD.replace(gone, ""))
    assert reading.heads(tab) == [said]


def test_a_page_without_language_or_heading_is_found(small, tab):
    small(body="<p>text</p>", lang="")
    assert reading.heads(tab) == ["no language", "0 main headings"]


def test_a_heavy_page_is_found(small, tab):
    seen, folder, home = small(GOOD + f"<!-- {'x' * reading.LARGEST} -->")
    (fault,) = reading.weight(seen, folder, home)
    assert "most of them page.html" in fault


def test_an_error_of_the_theme_is_left_out(small):
    (text,) = reading.ERRORS_OF_THE_THEME
    seen, _, _ = small(GOOD + f'<script>console.error("{text}")</script>')
    assert len(seen.errors) == 1
    assert seen.faults() == []


def test_what_axe_finds_in_the_theme_is_left_out_and_nothing_else(small, tab, monkeypatch):
    small(GOOD + '<div class="theme"><p style="color: #bbb">pale</p></div><p style="color: #bbb">ours</p>')
    monkeypatch.setattr(reading, "AXE_OF_THE_THEME", {("color-contrast", ".theme"): "a reason"})
    (fault,) = reading.accessibility(tab)
    assert "ours" in fault

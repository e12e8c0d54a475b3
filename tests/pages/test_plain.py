"""MyST becomes what the build of the book would show, in plain Markdown; code stays what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from addends.errors import DataError
from addends.pages.plain import Known, citations_in, glued, plain, title_of, values_of

ROOT = Path(__file__).parents[2]
KNOWN = Known(
    {"share": 0.8123, "runs": 17, "name": "S", "error": 1.2e-07},
    {"holm-1979": ("Holm", "1979"), "a-b-2023": ("A and B", "2023")},
    lambda target, text: text or f"the page {target}",
)


@pytest.mark.parametrize(
    ("myst", "shown"),
    [
        ("{glue:text}`share:.2f` of {glue:text}`runs`", "0.81 of 17"),
        ("{glue:text}`name` at {glue:text}`error:.0e`", "S at 1e-07"),
        ("a {term}`run`, two {term}`runs <run>`", "a run, two runs"),
        ("as said {cite:p}`holm-1979,a-b-2023`", "as said (Holm, 1979; A and B, 2023)"),
        ("as {cite:t}`a-b-2023` say", "as A and B (2023) say"),
        ("as {cite:t}`unknown-2000` say", "as unknown-2000 say"),
        ("{math}`x^2`", "$x^2$"),
        ("see [](02_x.ipynb) and [that](#there)", "see the page 02_x.ipynb and that"),
        ("see [{glue:text}`runs` runs](06.ipynb)", "see 17 runs"),
        ("[out](https://example.org/a)", "[out](https://example.org/a)"),
        ("![a picture](x.png)", "![a picture](x.png)"),
        ("`{glue:text}` and ``{term}`run` `` and `[](x.md)`", "`{glue:text}` and ``{term}`run` `` and `[](x.md)`"),
        ("(a-label)=\n## Heading", "## Heading"),
        ("$$\nx\n$$ (equation-x)", "$$\nx\n$$"),
        ("```python\nf'{glue:text}`runs`'\n```", "```python\nf'{glue:text}`runs`'\n```"),
        ("1. a\n\n   ```\n   {term}`run`\n   ```", "1. a\n\n   ```\n   {term}`run`\n   ```"),
        ("```{warning}\n{term}`runs <run>` differ\n```", "> **Warning.** runs differ"),
        (":::{note}\n:class: wide\n\nso\n:::", "> **Note.** so"),
        ("```{math}\n:label: x\na + b\n```", "$$\na + b\n$$"),
    ],
)
def test_a_role_is_what_the_build_shows(myst, shown):
    assert plain(myst, KNOWN) == shown


def test_a_number_that_no_cell_glued_is_named():
    with pytest.raises(DataError, match="'missing', which none of its cells has glued"):
        plain("{glue:text}`missing:.2f`", KNOWN)


def test_glued_values_are_read_as_myst_nb_and_papermill_write_them():
    output = {"data": {"text/plain": "0.25"}}
    stored = {"data": {"application/papermill.record/text/plain": "'yes'"}, "metadata": {"scrapbook": {"name": "said"}}}
    assert values_of({"share": output, "a": {"data": {"image/png": ""}}}) == {"share": 0.25}
    assert glued({"cells": [{"outputs": [stored]}, {}]}) == {"said": "yes"}


def test_the_titles_of_pages_are_found():
    assert title_of(ROOT / "book" / "cite.md") == "How to cite"
    (page,) = ROOT.glob("notebooks/*_bring_your_own_model.ipynb")
    assert title_of(page) == "Bring your own model"


def test_authors_and_years_are_those_of_the_bibliography():
    found = citations_in(ROOT / "book" / "references.bib")
    assert found["mickus-vazquez-2023"] == ("Mickus and Vázquez", "2023")
    assert found["oh-schuler-2023"] == ("Oh and Schuler", "2023")
    assert found["bates-etal-2015"] == ("Bates et al.", "2015")
    assert not [names for names, _ in found.values() if "{" in names or "\\" in names]

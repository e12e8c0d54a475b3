"""Downloaded notebooks have their outputs and their numbers, and hold nothing that only the build understands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from addends.errors import DataError
from addends.pages.downloads import write_downloads, written_out
from addends.pages.plain import Known

ROOT = Path(__file__).parents[2]
SITE = ROOT / "_build" / "html"


def code(source: str, *outputs: dict, **metadata) -> dict:
    return {
        "cell_type": "code",
        "id": f"c-{source[:4].rstrip(chr(40))}",
        "metadata": metadata,
        "source": source,
        "outputs": list(outputs),
    }


def words(source: str) -> dict:
    return {"cell_type": "markdown", "id": "m", "metadata": {}, "source": [source]}


@pytest.fixture
def book(tmp_path) -> dict:
    """Two pages, one of them executed, and where a build would put their copies."""
    pages = {"notebooks/01_one": tmp_path / "notebooks" / "01_one.ipynb", "book/two": tmp_path / "book" / "two.md"}
    figure = {"figure": {"caption": "Of {glue:text}`runs` runs."}, "image": {"alt": "They differ."}}
    shown = {"output_type": "display_data", "data": {"image/png": "AAAA"}, "metadata": {}}
    stored = {
        "output_type": "display_data",
        "data": {"x/text/plain": "17"},
        "metadata": {"scrapbook": {"name": "runs"}},
    }
    text = "# One\n\n{glue:text}`runs` {term}`runs <run>`, [](../book/two.md), {cite:p}`holm-1979`"
    notebook = {"cells": [words(text), code("draw()", shown, mystnb=figure), code("glue()", stored)]}
    notebook |= {"metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    executed = tmp_path / "_build" / "jupyter_execute" / "notebooks"
    for folder in (executed, tmp_path / "notebooks", tmp_path / "book"):
        folder.mkdir(parents=True)
    pages["book/two"].write_text("# The {term}`second` page\n")
    pages["notebooks/01_one"].write_text(json.dumps(notebook | {"cells": [words(text)]}))
    (executed / "01_one.ipynb").write_text(json.dumps(notebook))
    (executed / "01_one.glue.json").write_text(json.dumps({"runs": {"data": {"text/plain": "17"}}}))
    arguments = {"pages": pages, "executed": executed.parent, "site": tmp_path / "site"}
    return arguments | {"citations": {"holm-1979": ("Holm", "1979")}}


def test_a_notebook_has_its_numbers_captions_and_outputs(book):
    (written,) = write_downloads(**book, note="A note.")
    assert written == book["site"] / "_sources" / "notebooks" / "01_one.ipynb"
    notebook = json.loads(written.read_text())
    said = ["".join(cell["source"]) for cell in notebook["cells"]]
    assert said == ["A note.", "# One\n\n17 runs, *The second page*, (Holm, 1979)", "draw()", "*Of 17 runs.*", "glue()"]
    (picture,) = notebook["cells"][2]["outputs"]
    assert picture["data"] == {"image/png": "AAAA"}
    assert picture["metadata"]["image/png"] == {"alt": "They differ."}
    assert notebook["cells"][-1]["outputs"] == []  # what is glued is in the text
    assert len({cell["id"] for cell in notebook["cells"][:3]}) == 3


def test_links_lead_to_the_site_where_its_address_is_known(book):
    (written,) = write_downloads(**book, address=lambda page: f"https://example.org/{page}.html")
    assert "[The second page](https://example.org/book/two.html)" in written.read_text()


def test_a_number_that_was_not_glued_names_the_page(book):
    (book["executed"] / "notebooks" / "01_one.glue.json").unlink()
    with pytest.raises(DataError, match=r"01_one\.ipynb cannot be offered for download: .*'runs'"):
        write_downloads(**book)
    said: list[str] = []
    assert write_downloads(**book, complain=said.append) == []  # a build goes on, and counts a warning
    (line,) = said
    assert line.startswith("01_one.ipynb cannot be offered for download")


def test_outputs_that_are_in_the_cache_alone_are_taken_from_there(book, tmp_path):
    import nbformat
    from jupyter_cache import get_cache
    from jupyter_cache.cache.main import CacheBundleIn

    done = book["executed"] / "notebooks" / "01_one.ipynb"
    whole = nbformat.read(done, as_version=4)
    for cell in whole.cells:
        if cell.cell_type == "code":
            cell["execution_count"] = 1
    cache = get_cache(tmp_path / "cache")
    cache.cache_notebook_bundle(CacheBundleIn(whole, "x"), check_validity=False, overwrite=True)
    bare = json.loads(done.read_text())
    for cell in bare["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    done.write_text(json.dumps(bare))
    (without,) = write_downloads(**book)
    assert "AAAA" not in without.read_text()
    (written,) = write_downloads(**book, cache=tmp_path / "cache")
    assert "AAAA" in written.read_text()
    assert "*Of 17 runs.*" in written.read_text()


def test_the_notebook_that_is_written_out_is_left_as_it_is():
    executed = {"cells": [words("{glue:text}`x`"), code("1", {"output_type": "stream", "name": "stdout", "text": "1"})]}
    before = json.dumps(executed)
    written_out(executed, Known({"x": 1}))
    assert json.dumps(executed) == before


@pytest.mark.parametrize("page", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda page: page.stem)
def test_the_built_site_offers_executed_notebooks_without_blanks(page):
    built = SITE / "_sources" / "notebooks" / page.name
    if not built.exists() or built.stat().st_mtime < page.stat().st_mtime:
        pytest.skip("the book is not built, or an older one is: make book")
    notebook = json.loads(built.read_text(encoding="utf-8"))
    assert [cell for cell in notebook["cells"] if cell.get("outputs")]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            prose = re.sub(r"```.*?```|``.*?``", "", "".join(cell["source"]), flags=re.DOTALL)
            assert not re.search(r"\{[a-z:]+\}`", prose)
            assert "[](" not in prose

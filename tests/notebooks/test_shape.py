"""Every page answers on top, in the same four lines, and takes away five things at most."""

from __future__ import annotations

import re

import nbformat
import pytest

from tests.notebooks.execution import NOTEBOOKS

LINES = ("Question.", "Answer.", "How sure.", "Next.")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def page(request):
    return nbformat.read(request.param, as_version=4).cells


def answer(page):
    box = re.search(r":::\{admonition\} In short\n:class: answer\n(.*?)\n:::", page[0].source, re.DOTALL)
    assert box, "no box on top"
    return dict(re.findall(r"\*\*([^*]+\.)\*\* (.*?)(?=\n\n\*\*|\Z)", box[1], re.DOTALL))


def test_a_box_asks_answers_says_how_sure_and_where_to_go(page):
    said = answer(page)
    assert tuple(said) == LINES
    assert said["Question."].rstrip().endswith("?") or "?" in said["Question."]
    assert "{glue:text}" in said["Answer."], "an answer has a number that the page computes"
    assert "](" in said["Next."]


def test_its_numbers_are_those_of_the_page(page):
    code = "\n".join(cell.source for cell in page if cell.cell_type == "code")
    names = set(re.findall(r"""glue\(\s*f?["']([^"']+)["']""", code))
    patterns = [re.compile(re.sub(r"\\\{[^}]*\\\}", ".+", re.escape(name))) for name in names]
    loose = "glue(name" in code or "glue(label" in code
    for name in re.findall(r"\{glue:text\}`([a-zA-Z_0-9]+)", page[0].source):
        assert loose or any(pattern.fullmatch(name) for pattern in patterns), name


def test_no_digit_is_typed_where_a_number_answers(page):
    for line in (answer(page)["Answer."], answer(page)["How sure."]):
        plain = re.sub(r"\{glue:text\}`[^`]*`|\]\([^)]*\)|\$[^$]*\$|95 %|90 %|with 32 bits|64 bits|with 64", "", line)
        assert not re.search(r"\d", plain), plain


def test_at_most_five_things_are_taken_away(page):
    last = [cell.source for cell in page if "## Take-aways" in cell.source]
    for source in last:
        bullets = re.findall(r"^- ", source.split("## Take-aways")[1], re.MULTILINE)
        assert 1 <= len(bullets) <= 5

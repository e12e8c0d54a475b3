"""The how-to pages: what they tell a reader to type does what they say."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from addends.pages import Known, plain

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "book" / "your_own_mixed_model.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def scores(tmp_path, monkeypatch) -> pd.DataFrame:
    """A CSV as the page describes it, made so that most of its variance is the sentence's."""
    generator = np.random.default_rng(7)
    cells = list(itertools.product([f"seed-{run}" for run in (1, 2, 3, 4)], [f"s{number}" for number in range(30)]))
    data = pd.DataFrame(cells, columns=["run", "sentence"])
    of_run, of_sentence = generator.normal(0, 0.5, 4), generator.normal(0, 2, 30)
    data["value"] = np.add.outer(of_run, of_sentence).ravel() + generator.normal(0, 0.5, len(data))
    data["tokens"] = data["sentence"].str[1:].astype(int) % 9 + 5
    data.to_csv(tmp_path / "scores.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return data


def test_the_mixed_model_of_the_page_is_fitted_to_a_csv(scores, capsys):
    names: dict = {}
    for program in PROGRAMS:
        exec(program, names)
    assert names["fit"].converged
    shares = names["shares"].set_index("component")["share"]
    assert shares["sentence"] > 0.5
    assert shares.sum() == pytest.approx(1)
    table = names["fit"].profile_intervals()
    assert {"lower", "upper"} <= set(table.columns)
    said = capsys.readouterr().out
    assert "4 runs: the SD over runs is known within 0.57 and 3.7" in said


def test_the_page_is_short_and_shows_the_columns_that_its_code_reads():
    lines = [line for program in PROGRAMS for line in program.splitlines() if line.strip()]
    assert len(lines) < 40
    header = re.search(r"```\n(run,.*)\n", PAGE)[1].split(",")
    assert set(header) == {"run", "sentence", "value", "tokens"}


def test_what_the_page_on_changes_shows_of_glue_is_what_comes_out():
    page = (ROOT / "book" / "change_the_book.md").read_text(encoding="utf-8")
    names: dict = {}
    shown: dict = {}
    (program,) = [one for one in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL) if "glue" in one]
    lines = re.sub(r"^ +", "", program, flags=re.MULTILINE).replace("from myst_nb import glue", "")
    exec(lines, names | {"glue": lambda name, value, display: shown.update({name: value})})
    (text,) = re.findall(r"^ *(\{glue:text\}`runs`.*)$", page, flags=re.MULTILINE)
    assert plain(text, Known(shown)) == "17 runs; the sentence's share is 0.81."

"""Every column has its meaning, written once, and what the page of the data offers is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from addends.errors import DataError, InputError
from addends.pages.dictionary import LARGEST_PARQUET, describe, files_of, offered, where_it_is, write_offered
from addends.schemas import SCHEMAS

ROOT = Path(__file__).parents[2]
SITE = ROOT / "_build" / "html"
PAGE = ROOT / "book" / "data.ipynb"


@pytest.mark.parametrize("table", SCHEMAS)
def test_every_column_and_every_table_says_what_it_is(table):
    assert len(SCHEMAS[table].description) > 10
    columns = describe(table)
    assert columns["column"].tolist() == list(SCHEMAS[table].columns)
    for row in columns.itertuples():
        assert isinstance(row.meaning, str), row.column
        assert len(row.meaning) > 10, row.column
        assert not row.meaning.endswith("."), row.column


def test_types_allowed_values_and_missing_ones_are_said():
    columns = describe("measurements").set_index("column")["holds"]
    assert columns["by"] == "sublayer, token"
    assert columns["cosine"] == "number, or missing"
    assert columns["layer"] == "count"
    assert describe("translations").set_index("column").loc["nll", "unit"] == "nats per target token"
    assert describe("translations").set_index("column").loc["comet", "holds"].endswith("not in every file")
    assert describe("attributions").set_index("column").loc["special_tokens", "holds"] == "True, False"
    with pytest.raises(InputError, match="table='latin' is not one of"):
        describe("latin")


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / "data" / "mine"
    (folder / "quality").mkdir(parents=True)
    for run in ("a", "b"):
        pd.DataFrame({"run": [run], "score": [1.5]}).to_parquet(folder / "quality" / f"{run}.parquet")
    pd.DataFrame({"run": ["a", "b"]}).to_parquet(folder / "runs.parquet")
    return tmp_path / "data"


def test_small_tables_are_offered_as_one_file_of_each_kind(data, tmp_path):
    offers = offered(data).set_index("table")
    assert offers.loc["quality", ["files", "rows"]].tolist() == [2, 2]
    written = write_offered(data, tmp_path / "site")
    assert len(written) == 4
    frame = pd.read_csv(tmp_path / "site" / offers.loc["quality", "csv"])
    assert frame.to_dict("list") == {"run": ["a", "b"], "score": [1.5, 1.5]}
    pd.testing.assert_frame_equal(frame, pd.read_parquet(tmp_path / "site" / offers.loc["quality", "parquet"]))


def test_large_tables_stay_in_the_repository(data, monkeypatch):
    monkeypatch.setattr("addends.pages.dictionary.LARGEST_CSV", 1)
    offers = offered(data).set_index("table")
    assert offers.loc["quality", "csv"] == ""
    assert offers.loc["quality", "parquet"] != ""
    monkeypatch.setattr("addends.pages.dictionary.LARGEST_PARQUET", 10)
    offers = offered(data)
    assert set(offers["parquet"]) == {""}
    assert "too large" in files_of(offers)
    assert "<code>mine/quality/</code>" in files_of(offers)


def test_a_folder_without_tables_and_a_broken_file_are_named(tmp_path, data):
    with pytest.raises(DataError, match="There is no table under"):
        offered(tmp_path / "nothing")
    (data / "mine" / "runs.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"runs\.parquet cannot be read as parquet"):
        offered(data)


def test_a_table_as_html_has_its_columns_and_links(data):
    shown = where_it_is("quality", offered(data))
    assert "<caption>A row is one score of a run at a checkpoint" in shown
    assert shown.count("<tr>") == 1 + len(SCHEMAS["quality"].columns) + 2
    assert 'href="../downloads/mine/quality.csv"' in shown
    assert "&lt;x, e&gt;" in where_it_is("measurements", offered(data))
    assert "No folder of the repository holds it" in where_it_is("measurements", offered(data))


def test_the_page_of_the_data_has_a_section_for_each_table():
    source = "\n".join("".join(cell["source"]) for cell in json.loads(PAGE.read_text(encoding="utf-8"))["cells"])
    assert re.findall(r"^## .*`(\w+)`$", source, flags=re.MULTILINE) == list(SCHEMAS)
    assert re.findall(r'^HTML\(where_it_is\("(\w+)"', source, flags=re.MULTILINE) == list(SCHEMAS)


def test_what_the_repository_offers_is_small_enough_for_a_site():
    offers = offered(ROOT / "data")
    assert offers.loc[offers["parquet"] != "", "bytes"].sum() < 15e6
    assert (offers.loc[offers["parquet"] != "", "bytes"] <= LARGEST_PARQUET).all()


def test_the_built_site_holds_what_its_page_links_to():
    built = SITE / "book" / "data.html"
    if not built.exists() or built.stat().st_mtime < PAGE.stat().st_mtime:
        pytest.skip("the book is not built, or an older one is: make book")
    links = re.findall(r'href="\.\./(downloads/[^"]+)"', built.read_text(encoding="utf-8"))
    assert len(links) > 60
    assert [link for link in links if not (SITE / link).exists()] == []

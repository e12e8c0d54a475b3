"""The line under a figure hands out what was drawn, and changes with the files it rests on."""

from __future__ import annotations

import base64
import hashlib
import io
import re

import pandas as pd
import pytest

from addends.errors import DataError, InputError
from addends.figures import source, source_line


@pytest.fixture
def drawn():
    return pd.DataFrame({"term": ["S", "T"], "share": [0.25, 1 / 3]})


@pytest.fixture(autouse=True)
def fresh():
    source._digest.cache_clear()


def test_the_link_gives_the_numbers(drawn, tmp_path):
    (tmp_path / "a.csv").write_text("x")
    html = source_line(drawn, "figure-shares", tmp_path / "a.csv")._repr_html_()
    (content,) = re.findall(r'href="data:text/csv;charset=utf-8;base64,([^"]+)"', html)
    pd.testing.assert_frame_equal(pd.read_csv(io.BytesIO(base64.b64decode(content))), drawn, rtol=1e-5)
    assert 'download="figure-shares.csv"' in html
    assert "in 2 rows" in html


def test_the_digest_is_the_files(drawn, tmp_path):
    (tmp_path / "a.csv").write_text("x")
    digest = hashlib.sha256(b"x").hexdigest()
    of_file = source_line(drawn, "f", tmp_path / "a.csv").files[0][1]
    assert digest.startswith(of_file)
    of_folder = source_line(drawn, "f", tmp_path).files[0][1]
    assert hashlib.sha256(f"{digest} a.csv\n".encode()).hexdigest().startswith(of_folder)
    (tmp_path / "b.csv").write_text("y")
    source._digest.cache_clear()
    assert source_line(drawn, "f", tmp_path).files[0][1] != of_folder


def test_the_way_up_is_not_shown_and_a_name_on_the_hub_has_no_digest(drawn, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("x")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    line = source_line(drawn, "f", "../data", model="Helsinki-NLP/opus-mt-fr-en")
    assert [path for path, _ in line.files] == ["data", "Helsinki-NLP/opus-mt-fr-en"]
    assert "Helsinki-NLP/opus-mt-fr-en, in" in line._repr_html_()
    assert [path for path, digest in source_line(drawn, "f", model="../data").files if digest] == ["data"]


def test_a_table_of_one_file_is_found_by_its_name(drawn, tmp_path):
    (tmp_path / "measurements.parquet").write_text("x")
    ((path, _),) = source_line(drawn, "f", tmp_path / "measurements").files
    assert path.endswith("measurements.parquet")


def test_bad_input(drawn, tmp_path):
    with pytest.raises(DataError, match=r"There is no .*nowhere"):
        source_line(drawn, "f", tmp_path / "nowhere")
    with pytest.raises(InputError, match="rests on something"):
        source_line(drawn, "f")


def test_more_than_a_page_carries_is_said_and_not_carried():
    html = source_line(pd.DataFrame({"x": range(100_000)}), "f", model="a name")._repr_html_()
    assert "in 100,000 rows: too many" in html
    assert "href" not in html

"""The tables of versions and digests against the tools that the rest of the world uses for the same."""

import importlib.metadata
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest
from packaging.requirements import Requirement

from addends import provenance
from addends.errors import DataError, InputError
from addends.provenance import hashes, versions

ROOT = Path(__file__).parents[1]


def test_versions_lists_pyproject_and_nothing_else():
    with (ROOT / "pyproject.toml").open("rb") as stream:
        project = tomllib.load(stream)["project"]
    expected = {("python", "base"), ("addends", "base")}
    expected |= {(Requirement(text).name, "base") for text in project["dependencies"]}
    for extra, texts in project["optional-dependencies"].items():
        expected |= {(Requirement(text).name, extra) for text in texts}
    table = versions()
    assert set(zip(table["package"], table["extra"], strict=True)) == expected
    assert not table.duplicated(["package", "extra"]).any()


def test_versions_are_the_installed_ones():
    table = versions().set_index("package")["version"]
    assert table["python"] == ".".join(map(str, sys.version_info[:3]))
    for package in ("addends", "pandas", "scipy", "statsmodels"):
        assert table[package] == importlib.metadata.version(package)


def test_an_extra_that_is_not_installed_is_missing_not_left_out(monkeypatch):
    installed = importlib.metadata.version

    def version(package):
        if package == "torch":
            raise importlib.metadata.PackageNotFoundError(package)
        return installed(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    table = versions().set_index("package")
    assert pd.isna(table.loc["torch", "version"])
    assert table.loc["torch", "extra"] == "models"
    assert table.loc["pandas", "version"] == installed("pandas")


def test_versions_of_a_distribution_that_is_not_installed():
    with pytest.raises(InputError, match="no-such-distribution"):
        versions("no-such-distribution")


def test_hashes_agree_with_sha256sum(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "table.parquet").write_bytes(bytes(range(256)) * 300)
    (tmp_path / "a name with spaces.txt").write_text("x\n")
    (tmp_path / "empty").touch()
    table = hashes(tmp_path)
    assert table["file"].tolist() == ["a name with spaces.txt", "b/table.parquet", "empty"]
    assert table["bytes"].tolist() == [2, 76800, 0]
    for row in table.itertuples():
        printed = subprocess.run(["sha256sum", row.file], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert printed.stdout.split()[0] == row.sha256


def test_one_changed_byte_changes_one_digest(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"0123456789")
    before = hashes(tmp_path).set_index("file")["sha256"]
    assert before["one"] == before["two"]
    (tmp_path / "two").write_bytes(b"0123456780")
    after = hashes(tmp_path).set_index("file")["sha256"]
    assert after["one"] == before["one"]
    assert after["two"] != before["two"]


@pytest.mark.parametrize("make", [False, True])
def test_hashes_refuses_a_folder_that_is_missing_or_empty(tmp_path, make):
    folder = tmp_path / "data"
    if make:
        folder.mkdir()
    with pytest.raises(DataError, match=str(folder)):
        hashes(folder)


def test_a_figure_is_taken_from_an_executed_notebook_by_its_name(tmp_path):
    picture = '<?xml version="1.0"?>\n<svg width="3pt"><svg id="inner"/></svg>'
    cell = {
        "cell_type": "code",
        "metadata": {"mystnb": {"figure": {"name": "wanted"}}},
        "outputs": [{"data": {"text/plain": "<Axes>"}}, {"data": {"image/svg+xml": [picture]}}],
    }
    other = {"cell_type": "code", "metadata": {}, "outputs": [{"data": {"image/svg+xml": "<svg/>"}}]}
    notebook = tmp_path / "executed.ipynb"
    notebook.write_text(json.dumps({"cells": [other, cell]}))
    saved = provenance.save_figure(notebook, "wanted", tmp_path / "figure.svg").read_text()
    assert saved == picture.replace("<svg width", '<svg style="background: white" width')  # the outer one alone
    with pytest.raises(DataError, match="no picture in a figure named 'unwanted'"):
        provenance.save_figure(notebook, "unwanted", tmp_path / "figure.svg")
    with pytest.raises(DataError, match="Build the book first"):
        provenance.save_figure(tmp_path / "none.ipynb", "wanted", tmp_path / "figure.svg")


def test_the_origin_of_a_report_names_weights_sentences_versions_and_command(make_marian):
    model = make_marian()
    facts = provenance.origin(model, "mine", ["a", "b"], command="addends report mine").set_index("what")["value"]
    assert facts["weights, SHA-256"] == provenance.content_sha256(model.state_dict())
    assert facts["sentences"] == "2, without targets"
    assert facts["command"] == "addends report mine"
    assert "torch " in facts["versions"]
    assert "commit on the Hub" not in facts  # it is from a folder
    others = provenance.origin(make_marian(seed=1), "mine", ["a", "c"], ["x", "y"]).set_index("what")["value"]
    assert others["weights, SHA-256"] != facts["weights, SHA-256"]
    assert others["sentences, SHA-256"] != facts["sentences, SHA-256"]
    assert others["sentences"] == "2, with targets"
    assert "command" not in others

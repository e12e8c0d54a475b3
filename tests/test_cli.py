"""The command: what is done is left alone, what is broken is named, and a wrong call ends with one clear line."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import crossed.coverage
from addends import replication, statistics
from addends.cli import main
from addends.runs import SUITES, european, job, lineage, workfolder
from addends.runs.toy import suite as toy_suite

ROOT = Path(__file__).parents[1]


def call(*arguments: str) -> int:
    """The exit status of ``addends`` with these arguments."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


def fails(capsys, *arguments: str) -> tuple[int, str]:
    return call(*arguments), capsys.readouterr().err


@pytest.mark.parametrize("option", ["--only", "--ship"])
def test_an_unknown_run_ends_the_command_before_it_begins(tmp_path, capsys, option):
    code, message = fails(
        capsys, "train", "toy", option, "ora-i9-o9", "--work", f"{tmp_path}/work", "--data", f"{tmp_path}/data"
    )
    assert code == 1
    assert message.count("\n") == 1
    assert "The suite 'toy': run='ora-i9-o9' is not one of ['ora-i1-o1', 'ora-i2-o2', 'ora-i3-o3']." in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "latin"], "SUITE='latin' is not one of ['european', 'toy']"),
        (["train"], "Missing argument 'SUITE'"),
        (["train", "toy", "--workers", "0"], "Invalid value for '--workers'"),
        (["trian", "toy"], "No such command 'trian'"),
        (["status", "latin"], "SUITE='latin' is not one of ['european', 'toy']"),
        (["coverage", "--simulations", "0"], "Invalid value for '--simulations'"),
        (["coverage", "--draws", "99"], "Invalid value for '--draws'"),
        (["replicate", "toy"], "Got unexpected extra argument"),
    ],
)
def test_a_wrong_call_shows_how_to_call(capsys, arguments, message):
    code, said = fails(capsys, *arguments)
    assert code == 2
    assert said.startswith("Usage: addends")
    assert message in said


@pytest.mark.slow
@pytest.mark.parametrize("value", [None, "/no/such/folder"], ids=["unset", "no folder"])
def test_without_the_data_folder_the_command_ends_with_one_line(tmp_path, value):
    environment = {name: text for name, text in os.environ.items() if name != "ADDENDS_DATA"}
    if value:
        environment["ADDENDS_DATA"] = value
    command = [
        sys.executable,
        "-c",
        "from addends.cli import main; main()",
        "train",
        "european",
        "--work",
        tmp_path / "work",
        "--data",
        tmp_path / "data",
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("addends: ")
    assert "ADDENDS_DATA" in line
    assert "Set it to" in line
    assert list(tmp_path.iterdir()) == []


def test_a_missing_corpus_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ADDENDS_DATA", str(tmp_path))
    european.held_out.cache_clear(), european.further.cache_clear()
    try:
        code, message = fails(capsys, "train", "european", "--work", f"{tmp_path}/work", "--data", f"{tmp_path}/data")
    finally:
        european.held_out.cache_clear(), european.further.cache_clear()
    assert code == 1
    assert "corpora/train/fra-eng.tsv is missing" in message
    assert list(tmp_path.iterdir()) == []


# What is there is left alone.


@pytest.fixture
def done(monkeypatch):
    """The runs that the command would do; none is done, and the toy suite has a tokenizer that trains nothing."""
    names = []
    toy = dataclasses.replace(toy_suite.SUITE, tokenizer=lambda folder: None)
    monkeypatch.setitem(SUITES, "toy", toy)
    monkeypatch.setattr(job, "train_and_measure", lambda suite, name, *rest: names.append(name))
    return names


NAMES = [run.name for run in toy_suite.SUITE.runs]


def test_the_toy_runs_of_the_repository_are_finished(tmp_path, capsys, done):
    call("train", "toy", "--work", f"{tmp_path}/work", "--data", f"{ROOT / 'data'}")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{name} is there: {ROOT / 'data'}/toy/*/{name}.parquet; --again makes it anew" for name in NAMES]
    assert done == []
    assert list(tmp_path.iterdir()) == []


def test_again_does_them_all_the_same(tmp_path, capsys, done):
    call("train", "toy", "--again", "--workers", "1", "--work", f"{tmp_path}/work", "--data", f"{ROOT / 'data'}")
    assert done == NAMES
    assert capsys.readouterr().out == ""


def test_a_run_that_is_not_whole_is_done_and_the_command_says_why(tmp_path, capsys, done):
    data = tmp_path / "data"
    for table in (*workfolder.PER_RUN, *workfolder.OF_TRAINING):
        for name in NAMES[:2]:
            (data / "toy" / table).mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / "data" / "toy" / table / f"{name}.parquet", data / "toy" / table)
    shutil.copy(ROOT / "data" / "toy" / "sentences.parquet", data / "toy")
    (data / "toy" / "quality" / f"{NAMES[1]}.parquet").unlink()
    call("train", "toy", "--workers", "1", "--work", f"{tmp_path}/work", "--data", f"{data}")
    assert done == NAMES[1:]
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{NAMES[0]} is there: ")
    assert second.startswith(f"{NAMES[1]} is not finished: No 'quality' table at ")


def test_shipping_without_weights_says_where_they_would_be(tmp_path, capsys, done):
    trained = tmp_path / "trained"
    arguments = ["train", "toy", "--ship", NAMES[0], "--work", f"{trained}", "--data", f"{ROOT / 'data'}"]
    code, message = fails(capsys, *arguments)
    assert code == 1
    assert f"{trained / 'toy' / NAMES[0] / 'checkpoint-1000'} is no finished checkpoint" in message
    assert "--again" in message
    assert done == []


def test_weights_are_shipped_from_the_work_folder_and_left_alone_without_it(tmp_path, capsys, done, monkeypatch):
    monkeypatch.setattr("addends.runs.workfolder.what_is_missing", lambda *given: None)
    checkpoint = tmp_path / "work" / "toy" / NAMES[0] / "checkpoint-1000"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text("{}")
    (checkpoint / "lineage.json").write_text("{}")
    (checkpoint / "model.safetensors").write_text("weights")
    arguments = ["train", "toy", "--ship", NAMES[0], "--data", f"{tmp_path}/data", "--work"]
    call(*arguments, f"{tmp_path}/work")
    shipped = tmp_path / "data" / "toy" / "checkpoint"
    assert (shipped / "model.safetensors").read_text() == "weights"
    assert f"Shipped {shipped}" in capsys.readouterr().out
    call(*arguments, f"{tmp_path}/elsewhere")
    assert f"toy/checkpoint is there: the last checkpoint of {NAMES[0]}" in capsys.readouterr().out
    assert (shipped / "model.safetensors").read_text() == "weights"
    code, message = fails(capsys, "train", "toy", "--ship", NAMES[1], *arguments[4:], f"{tmp_path}/elsewhere")
    assert code == 1
    assert "is left as it is" in message
    assert (shipped / "model.safetensors").read_text() == "weights"


# How far the runs are, and whether their chains hold.


def test_the_status_of_finished_runs_needs_no_weights(tmp_path, capsys):
    assert call("status", "toy", "--work", f"{tmp_path}", "--data", f"{ROOT / 'data'}") == 0
    assert capsys.readouterr().out.splitlines() == [f"{name}: finished" for name in NAMES]


def test_the_status_says_what_a_run_lacks(tmp_path, capsys):
    assert call("status", "toy", "--only", NAMES[0], "--work", f"{tmp_path}", "--data", f"{tmp_path}") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{NAMES[0]}: No 'runs' table at {tmp_path}")


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A work folder with the records of two toy runs, as the repository's manifests have them; there are no weights."""
    for name in NAMES[:2]:
        for record in pd.read_parquet(ROOT / "data" / "toy" / "manifest" / f"{name}.parquet").to_dict("records"):
            checkpoint = tmp_path / "toy" / name / f"checkpoint-{record['checkpoint']}"
            checkpoint.mkdir(parents=True)
            (checkpoint / "lineage.json").write_text(json.dumps(record))
            (checkpoint / "trainer_state.json").write_text("{}")
    monkeypatch.setattr(lineage, "altered_files", lambda folder, manifest: [])
    return tmp_path


def status(work: Path) -> int:
    return call("status", "toy", "--work", f"{work}", "--data", f"{ROOT / 'data'}")


def test_the_status_verifies_the_chains_of_trained_runs(work, capsys):
    assert status(work) == 0
    held = [f"{name}: 5 records from step 0 to 1000, each follows from the one before" for name in NAMES[:2]]
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{NAMES[0]}: finished", held[0], f"{NAMES[1]}: finished", held[1], f"{NAMES[2]}: finished"]


def test_a_broken_chain_is_named_and_is_exit_status_1(work, capsys):
    file = work / "toy" / NAMES[0] / "checkpoint-250" / "lineage.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"weights": "0" * 64}))
    assert status(work) == 1
    said = capsys.readouterr()
    assert said.err == f"addends: Chains are broken.\n  {NAMES[0]}: step 950 does not follow from step 250\n"
    assert f"{NAMES[1]}: 5 records" in said.out


def test_a_missing_record_does_not_hide_the_other_runs(work, capsys):
    (work / "toy" / NAMES[0] / "checkpoint-60" / "lineage.json").unlink()
    assert status(work) == 1
    said = capsys.readouterr()
    assert "checkpoint-60/lineage.json is no record of a checkpoint" in said.err
    assert f"{NAMES[1]}: 5 records" in said.out
    assert f"{NAMES[2]}: finished" in said.out


def test_altered_weights_are_exit_status_1(work, capsys, monkeypatch):
    monkeypatch.setattr(lineage, "altered_files", lambda folder, manifest: [f"{folder.name} is altered"])
    assert status(work) == 1
    assert f"{NAMES[1]}: {NAMES[1]} is altered" in capsys.readouterr().err


# The tables of two pages.


def test_the_coverage_is_simulated_shown_and_written(tmp_path, capsys, monkeypatch):
    whole, of_suites, given = crossed.coverage.coverage, statistics.design_coverage, {}

    def quick(**arguments):
        given.update(arguments)
        return whole(runs=(3,), shares=(0.1,), **arguments)

    def few(**arguments):
        assert arguments == given
        return of_suites(pilots=[(3, 20)], shares=[(0.1, 0.5)], **arguments)

    monkeypatch.setattr(crossed.coverage, "coverage", quick)
    monkeypatch.setattr(statistics, "design_coverage", few)
    output = tmp_path / "new" / "table.parquet"
    assert call("coverage", "--simulations", "5", "--draws", "100", "--seed", "7", "--output", f"{output}") == 0
    assert given == {"simulations": 5, "draws": 100, "seed": 7}
    written = pd.read_parquet(output)
    assert len(written) == 2 * len(crossed.coverage.METHODS)
    assert (written[["simulations", "draws", "seed"]] == [5, 100, 7]).all(axis=None)
    designs = output.with_name("designs.parquet")
    of_designs = pd.read_parquet(designs)
    assert sorted(of_designs["asked"].unique()) == ["runs needed", "standard error"]
    assert (of_designs[["simulations", "draws", "seed"]] == [5, 100, 7]).all(axis=None)
    said = capsys.readouterr().out
    assert "generalised" in said
    assert f"Written: {output}\n" in said
    assert said.endswith(f"Written: {designs}\n")


def test_the_derived_tables_are_computed_written_and_listed(tmp_path, capsys, monkeypatch):
    facts = pd.DataFrame({"name": ["one", "two"], "value": [1.0, 2.0]})
    monkeypatch.setattr(replication, "compute", lambda *, progress: {"facts": facts})
    assert call("replicate", "--output", f"{tmp_path}") == 0
    file = tmp_path / "facts.parquet"
    pd.testing.assert_frame_equal(pd.read_parquet(file).astype({"value": "float64"}), facts)
    assert capsys.readouterr().out == f"{file}: 2 rows, {file.stat().st_size:,} bytes\n"


def test_a_place_that_cannot_be_written_to_ends_with_one_line(tmp_path, capsys):
    (tmp_path / "taken").write_text("a file, and no folder")
    output = str(tmp_path / "taken" / "table.parquet")
    code, said = fails(capsys, "coverage", "--simulations", "2", "--draws", "100", "--output", output)
    assert code == 1
    assert said.splitlines()[-1].startswith("addends: ")
    assert str(tmp_path / "taken") in said.splitlines()[-1]

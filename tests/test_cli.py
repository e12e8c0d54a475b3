"""The command: what is done is left alone, what is broken is named, and a wrong call ends with one clear line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

import crossed.coverage
from addends import replication, statistics
from addends.cli import main
from addends.runs import corpora, downloads, faults, job, read_suite, sentences, workfolder

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
        (["train", "latin"], "SUITE='latin' is not one of ['european', 'toy', 'toy_factorial'], and no file"),
        (["train"], "Missing argument 'SUITE'"),
        (["train", "toy", "--workers", "0"], "Invalid value for '--workers'"),
        (["trian", "toy"], "No such command 'trian'"),
        (["status", "latin"], "SUITE='latin' is not one of ['european', 'toy', 'toy_factorial'], and no file"),
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
    code, message = fails(capsys, "train", "european", "--work", f"{tmp_path}/work", "--data", f"{tmp_path}/data")
    assert code == 1
    assert "suites/european.yaml, line 10, corpus.train.fra: " in message
    assert "corpora/train/fra-eng.tsv is missing" in message
    assert list(tmp_path.iterdir()) == []


# What is there is left alone.


@pytest.fixture
def done(monkeypatch):
    """The runs that the command would do; none is done, and no vocabulary is trained."""
    names = []
    monkeypatch.setattr(sentences, "tokenizer", lambda suite, folder: None)
    monkeypatch.setattr(job, "train", lambda suite, name, *rest: names.append(name) or "trained")
    return names


NAMES = [run.name for run in read_suite("toy").runs]


def test_the_toy_runs_of_the_repository_are_finished(tmp_path, capsys, done):
    call("train", "toy", "--work", f"{tmp_path}/work", "--data", f"{ROOT / 'data'}")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{name} is there: {ROOT / 'data'}/toy/*/{name}.parquet; --again makes it anew" for name in NAMES]
    assert done == []
    assert list(tmp_path.iterdir()) == []


def test_again_does_them_all_the_same(tmp_path, capsys, done):
    call("train", "toy", "--again", "--workers", "1", "--work", f"{tmp_path}/work", "--data", f"{ROOT / 'data'}")
    assert done == NAMES
    folders = f"--work {tmp_path}/work --data {ROOT}/data"
    assert capsys.readouterr().out == f"Trained: {', '.join(NAMES)}. Next: addends measure toy {folders}\n"
    assert len((tmp_path / "work" / "toy" / "log.txt").read_text().splitlines()) == len(NAMES)


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
    first, second, _ = capsys.readouterr().out.splitlines()
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


def test_the_status_of_finished_runs_needs_no_weights(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("ADDENDS_DATA", raising=False)
    assert call("status", "toy", "--work", f"{tmp_path}", "--data", f"{ROOT / 'data'}") == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split(" MB")[0].rsplit(" ", 1)[0] for line in lines] == [f"{n}  independent: finished;" for n in NAMES]
    assert last == "3 of 3 runs are finished. Time left, on one core: 0:00:00."


def test_the_status_says_what_a_run_lacks(tmp_path, capsys):
    assert call("status", "toy", "--only", NAMES[0], "--work", f"{tmp_path}", "--data", f"{tmp_path}") == 0
    line, last = capsys.readouterr().out.splitlines()
    assert line == f"{NAMES[0]}  independent: trained 0/4, measured 0/4; 0 MB of work, 0.0 MB of tables"
    assert last == "0 of 1 runs are finished. Time left, on one core: unknown before one is trained and measured here."


def test_the_status_says_which_table_of_a_run_is_missing(tmp_path, capsys):
    data = Path(shutil.copytree(ROOT / "data" / "toy", tmp_path / "toy"))
    (data / "quality" / f"{NAMES[1]}.parquet").unlink()
    assert call("status", "toy", "--work", f"{tmp_path / 'work'}", "--data", f"{tmp_path}") == 0
    said = capsys.readouterr().out
    assert f"{NAMES[1]}: No 'quality' table at {data}/quality/{NAMES[1]}.parquet" in said
    assert "2 of 3 runs are finished." in said


def faults_found(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["run", "checkpoint", "fault", "words"])


def test_a_fault_of_a_checkpoint_is_named_and_is_exit_status_1(tmp_path, capsys, monkeypatch):
    row = (NAMES[0], 250, "doubled", "checkpoint-250 has the weights of step 60")
    monkeypatch.setattr(faults, "faults", lambda *given: faults_found(row))
    code = call("status", "toy", "--work", f"{tmp_path}", "--data", f"{ROOT / 'data'}")
    said = capsys.readouterr()
    assert code == 1
    assert said.err == f"addends: 1 fault(s):\n  {NAMES[0]}, step 250 (doubled): {row[-1]}\n"
    assert f"{NAMES[2]}  independent: finished" in said.out


def test_an_altered_shard_is_named_and_is_exit_status_1(tmp_path, capsys):
    shard = tmp_path / "toy" / NAMES[0] / "measured" / "60"
    shard.mkdir(parents=True)
    (shard / "shard.json").write_text("{")
    code, said = fails(capsys, "status", "toy", "--work", f"{tmp_path}", "--data", f"{ROOT / 'data'}")
    assert code == 1
    assert f"{NAMES[0]}, step 60 (altered): run '{NAMES[0]}', step 60: {shard}/shard.json is no record of a" in said


def test_a_half_written_shard_is_named(tmp_path, capsys):
    left = tmp_path / "toy" / NAMES[0] / "measured" / ".60.4242.part"
    left.mkdir(parents=True)
    assert call("status", "toy", "--work", f"{tmp_path}", "--data", f"{ROOT / 'data'}") == 0
    assert f"{NAMES[0]}: step 60 is half written, or being written, in {left}" in capsys.readouterr().out


def test_what_is_not_trained_is_not_measured_and_is_said(tmp_path, capsys):
    code, said = fails(capsys, "measure", "toy", "--work", f"{tmp_path / 'empty'}", "--data", f"{tmp_path / 'data'}")
    assert code == 1
    assert f"Not trained in {tmp_path}/empty/toy: {', '.join(NAMES)}. Train first: addends train toy --work" in said
    assert list(tmp_path.iterdir()) == []


# Downloads and benchmarks.


@pytest.fixture
def release(tmp_path) -> str:
    """A folder that holds what the release of Tatoeba does, as a base address."""
    with zipfile.ZipFile(tmp_path / "en-fr.txt.zip", "w") as archive:
        archive.writestr("Tatoeba.en-fr.en", "".join(f"Sentence {number}.\n" for number in range(20)))
        archive.writestr("Tatoeba.en-fr.fr", "".join(f"Phrase {number}.\n" for number in range(20)))
    return f"file://{tmp_path}/"


def test_pairs_are_fetched_checked_and_written(tmp_path, release, capsys, monkeypatch):
    import pooch

    class FromDisk:
        def __call__(self, url, output_file, pooch):
            shutil.copy(url.removeprefix("file://"), output_file)

    retrieve = pooch.retrieve
    monkeypatch.setattr(
        pooch, "retrieve", lambda *given, progressbar, **named: retrieve(*given, downloader=FromDisk(), **named)
    )
    monkeypatch.setattr(downloads, "BASE_URL", release)
    place = tmp_path / "had"
    assert call("fetch", "tatoeba", "--language", "fra", "--folder", f"{place}") == 0
    train, test = (corpora.read_tsv(place / "corpora" / half / "fra-eng.tsv", "fra") for half in ("train", "test"))
    assert (len(train), len(test)) == (10, 10)
    assert sorted([*train["source"], *test["source"]]) == sorted(f"Phrase {number}." for number in range(20))
    assert train["target"].str.startswith("Sentence").all()
    assert f"Set ADDENDS_DATA={place}" in capsys.readouterr().out
    with zipfile.ZipFile(tmp_path / "en-fr.txt.zip", "a") as archive:
        archive.writestr("more", "a release that has changed")
    code, said = fails(capsys, "fetch", "tatoeba", "--language", "fra", "--folder", f"{place}")
    assert code == 1
    assert "does not match the known hash" in said


def test_an_unknown_language_is_named_before_anything_is_fetched(tmp_path, capsys):
    code, said = fails(capsys, "fetch", "tatoeba", "--language", "lat", "--folder", f"{tmp_path / 'had'}")
    assert code == 1
    assert "language='lat' is not one of ['bul', 'cmn', 'deu', 'fra', 'pol']" in said


def test_benchmarks_are_called_where_they_are(tmp_path, capsys, monkeypatch):
    called = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: called.append(command))
    monkeypatch.chdir(ROOT)
    assert call("bench", "--only", "measure", "--output", f"{tmp_path}") == 0
    assert called == [[sys.executable, "tests/benchmarks/bench_measure.py", "--output", f"{tmp_path}"]]
    assert call("bench", "--only", "speed") == 1
    monkeypatch.chdir(tmp_path)
    code, said = fails(capsys, "bench")
    assert code == 1
    assert "There is no tests/benchmarks here" in said


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

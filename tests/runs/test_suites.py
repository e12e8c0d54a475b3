"""The suites and their command: what they promise holds, and a wrong call ends with one clear line."""

from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from addends.errors import InputError
from addends.runs import european, toy_suite, training, unit
from addends.runs.__main__ import SUITES, main

ROOT = Path(__file__).parents[2]
BOTH = pytest.mark.parametrize("suite", [toy_suite.SUITE, european.SUITE], ids=lambda suite: suite.name)


@BOTH
def test_runs_differ_in_initial_weights_and_in_order(suite):
    assert len(suite.runs) >= 3
    for seed in ("init", "order", "dropout"):
        assert len({getattr(run.seeds, seed) for run in suite.runs}) == len(suite.runs)
    for run in suite.runs:
        assert run.name == f"{run.condition}-i{run.seeds.init}-o{run.seeds.order}"


@BOTH
def test_sentences_are_measured_at_the_end_and_at_neighbours_of_the_end(suite):
    last = suite.recipe.steps
    assert set(suite.sentence_checkpoints) <= set(suite.recipe.checkpoints)
    assert suite.sentence_checkpoints[-1] == last
    assert suite.sentence_checkpoints[-2] >= 0.9 * last
    assert suite.sentence_checkpoints[0] <= last / 4


@BOTH
def test_models_are_small(suite, tokenizer):
    pieces = {"toy": toy_suite.PIECES, "european": european.PIECES}[suite.name]
    model = training.new_model(suite.recipe, tokenizer, 1)
    fixed = model.model.shared.weight.numel()
    parameters = model.num_parameters(only_trainable=True) - fixed + pieces * suite.recipe.dim
    assert parameters < {"toy": 1_000_000, "european": 10_000_000 / 4}[suite.name]  # shipped: under 10 MB of float32


@BOTH
def test_a_suite_can_be_sent_to_another_process(suite):
    again = pickle.loads(pickle.dumps(suite))
    assert again == suite


def test_the_toy_suite_has_three_runs_of_four_checkpoints():
    suite = toy_suite.SUITE
    assert len(suite.runs) == 3
    assert len(suite.recipe.checkpoints) == 4
    assert suite.sentence_checkpoints == suite.recipe.checkpoints


def test_the_european_suite_has_about_forty_checkpoints_three_of_them_at_the_end():
    recipe, steps = european.SUITE.recipe, european.SUITE.sentence_checkpoints
    assert 36 <= len(recipe.checkpoints) <= 44
    assert recipe.checkpoints[-3:] == tuple(round(share * recipe.steps) for share in (0.95, 0.975, 1))
    assert len(steps) == 5
    assert steps[-3:] == recipe.checkpoints[-3:]


def test_the_command_knows_both_suites():
    assert SUITES == {"toy": toy_suite.SUITE, "european": european.SUITE}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sentence_checkpoints": (7,)}, r"sentence_checkpoints=\(7,\): \[7\] are no checkpoints"),
        ({"runs": toy_suite.SUITE.runs[:1] * 2}, "'toy' share a name"),
        ({"own_tokens": 96}, "own_tokens=96: between 1 and 95"),
        ({"own_tokens": 0}, "own_tokens=0"),
    ],
)
def test_suites_that_make_no_sense_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(toy_suite.SUITE, **change)


def fails(capsys, *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize("option", ["--run", "--ship"])
def test_an_unknown_run_ends_the_command_before_it_begins(tmp_path, capsys, option):
    code, message = fails(
        capsys, "toy", option, "ora-i9-o9", "--work", f"{tmp_path}/work", "--data", f"{tmp_path}/data"
    )
    assert code == 1
    assert message.count("\n") == 1
    assert "run='ora-i9-o9' is not one of ['ora-i1-o1', 'ora-i2-o2', 'ora-i3-o3'] of the suite 'toy'." in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["latin"], "invalid choice: 'latin'"), ([], "suite"), (["toy", "--jobs", "0"], "--jobs 0: at least 1")],
)
def test_a_wrong_call_shows_how_to_call(capsys, arguments, message):
    code, said = fails(capsys, *arguments)
    assert code == 2
    assert said.startswith("usage: python -m addends.runs")
    assert message in said


@pytest.mark.slow
@pytest.mark.parametrize("value", [None, "/no/such/folder"], ids=["unset", "no folder"])
def test_without_the_data_folder_the_command_ends_with_one_line(tmp_path, value):
    environment = {name: text for name, text in os.environ.items() if name != "ADDENDS_DATA"}
    if value:
        environment["ADDENDS_DATA"] = value
    command = [
        sys.executable,
        "-m",
        "addends.runs",
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
    assert line.startswith("python -m addends.runs: ")
    assert "ADDENDS_DATA" in line
    assert "Set it to" in line
    assert list(tmp_path.iterdir()) == []


def test_a_missing_corpus_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ADDENDS_DATA", str(tmp_path))
    european.held_out.cache_clear()
    try:
        code, message = fails(capsys, "european", "--work", f"{tmp_path}/work", "--data", f"{tmp_path}/data")
    finally:
        european.held_out.cache_clear()
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
    monkeypatch.setattr(unit, "train_and_measure", lambda suite, name, *rest: names.append(name))
    return names


NAMES = [run.name for run in toy_suite.SUITE.runs]


def test_the_toy_runs_of_the_repository_are_finished(tmp_path, capsys, done):
    main(["toy", "--work", f"{tmp_path}/work", "--data", f"{ROOT / 'data'}"])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{name} is there: {ROOT / 'data'}/toy/*/{name}.parquet; --again makes it anew" for name in NAMES]
    assert done == []
    assert list(tmp_path.iterdir()) == []


def test_again_does_them_all_the_same(tmp_path, capsys, done):
    main(["toy", "--again", "--jobs", "1", "--work", f"{tmp_path}/work", "--data", f"{ROOT / 'data'}"])
    assert done == NAMES
    assert capsys.readouterr().out == ""


def test_a_run_that_is_not_whole_is_done_and_the_command_says_why(tmp_path, capsys, done):
    data = tmp_path / "data"
    for table in ("runs", "quality", "translations", "measurements", "trajectories"):
        for name in NAMES[:2]:
            (data / "toy" / table).mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / "data" / "toy" / table / f"{name}.parquet", data / "toy" / table)
    shutil.copy(ROOT / "data" / "toy" / "sentences.parquet", data / "toy")
    (data / "toy" / "quality" / f"{NAMES[1]}.parquet").unlink()
    main(["toy", "--jobs", "1", "--work", f"{tmp_path}/work", "--data", f"{data}"])
    assert done == NAMES[1:]
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{NAMES[0]} is there: ")
    assert second.startswith(f"{NAMES[1]} is not finished: No 'quality' table at ")


def test_shipping_without_weights_says_where_they_would_be(tmp_path, capsys, done):
    trained = tmp_path / "trained"
    arguments = ["toy", "--ship", NAMES[0], "--work", f"{trained}", "--data", f"{ROOT / 'data'}"]
    code, message = fails(capsys, *arguments)
    assert code == 1
    assert f"{trained / 'toy' / NAMES[0] / 'checkpoint-1000'} is no finished checkpoint" in message
    assert "--again" in message
    assert done == []


def test_weights_are_shipped_from_the_work_folder_and_left_alone_without_it(tmp_path, capsys, done, monkeypatch):
    monkeypatch.setattr("addends.runs.finished.lacks", lambda *given: None)
    checkpoint = tmp_path / "work" / "toy" / NAMES[0] / "checkpoint-1000"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text("{}")
    (checkpoint / "model.safetensors").write_text("weights")
    arguments = ["toy", "--ship", NAMES[0], "--data", f"{tmp_path}/data", "--work"]
    main([*arguments, f"{tmp_path}/work"])
    shipped = tmp_path / "data" / "toy" / "checkpoint"
    assert (shipped / "model.safetensors").read_text() == "weights"
    assert f"Shipped {shipped}" in capsys.readouterr().out
    main([*arguments, f"{tmp_path}/elsewhere"])
    assert f"toy/checkpoint is there: the last checkpoint of {NAMES[0]}" in capsys.readouterr().out
    assert (shipped / "model.safetensors").read_text() == "weights"
    code, message = fails(capsys, "toy", "--ship", NAMES[1], *arguments[3:], f"{tmp_path}/elsewhere")
    assert code == 1
    assert "is left as it is" in message
    assert (shipped / "model.safetensors").read_text() == "weights"

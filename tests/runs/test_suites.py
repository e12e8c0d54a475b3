"""The suites and their command: what they promise holds, and a wrong call ends with one clear line."""

from __future__ import annotations

import dataclasses
import os
import pickle
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import pandas as pd
import pytest

from addends.errors import InputError
from addends.runs import european, finished, training, unit
from addends.runs.__main__ import SUITES, main
from addends.runs.recipe import Seeds
from addends.runs.suite import Block, Condition, Run
from addends.runs.toy import suite as toy_suite

ROOT = Path(__file__).parents[2]
BLOCK = toy_suite.SUITE.blocks[0]
BOTH = pytest.mark.parametrize("suite", [toy_suite.SUITE, european.SUITE], ids=lambda suite: suite.name)


@BOTH
def test_independent_runs_share_no_seed_and_names_give_seeds(suite):
    assert len(suite.runs) >= 3
    for seed in ("init", "order", "dropout"):
        runs = next(block.runs for block in suite.blocks if block.name == "independent")
        assert len({getattr(run.seeds, seed) for run in runs}) == len(runs)
    for run in suite.runs:
        masks = f"-d{run.seeds.dropout}" if run.seeds.dropout != run.seeds.order else ""
        assert run.name == f"{run.condition.name}-i{run.seeds.init}-o{run.seeds.order}{masks}"


@BOTH
def test_sentences_are_measured_at_the_end_and_at_neighbours_of_the_end(suite):
    last = suite.recipe.steps
    for block in suite.blocks:
        assert set(block.sentence_checkpoints) <= set(suite.recipe.checkpoints)
        assert block.sentence_checkpoints[-1] == block.own_checkpoints[-1] == last
        assert block.sentence_checkpoints[-2] >= 0.9 * last
        assert block.sentence_checkpoints[0] <= 0.35 * last


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
    assert suite.blocks[0].sentence_checkpoints == suite.recipe.checkpoints


def test_the_european_suite_has_about_forty_checkpoints_three_of_them_at_the_end():
    recipe, steps = european.SUITE.recipe, european.SUITE.blocks[-1].sentence_checkpoints
    assert 36 <= len(recipe.checkpoints) <= 44
    assert recipe.checkpoints[-3:] == tuple(round(share * recipe.steps) for share in (0.95, 0.975, 1))
    assert len(steps) == 5
    assert steps[-3:] == recipe.checkpoints[-3:]


def test_the_command_knows_both_suites():
    assert SUITES == {"toy": toy_suite.SUITE, "european": european.SUITE}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"blocks": (dataclasses.replace(BLOCK, sentence_checkpoints=(7,), own_checkpoints=()),)},
            r"sentence_checkpoints of 'independent'=\(7,\): \[7\] are no checkpoints",
        ),
        ({"keep_states": (0, 251)}, r"keep_states=\(251,\): \[251\] are no checkpoints"),
        (
            {"blocks": (dataclasses.replace(BLOCK, runs=BLOCK.runs[:1] * 2),)},
            "Two runs of the suite 'toy' share a name",
        ),
        ({"blocks": (BLOCK, dataclasses.replace(BLOCK, runs=()))}, "Two blocks of the suite 'toy' share a name"),
        ({"own_tokens": 96}, "own_tokens=96: between 1 and 95"),
        ({"own_tokens": 0}, "own_tokens=0"),
    ],
)
def test_suites_that_make_no_sense_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(toy_suite.SUITE, **change)


@pytest.mark.parametrize("name", ["a/b", "../a", "", ".", "..", "a b", "a\\b"])
def test_a_name_that_no_file_can_bear_is_refused(name):
    with pytest.raises(InputError, match=f"block={re.escape(repr(name))}: a name of letters"):
        Block(name, (), sentence_checkpoints=())
    with pytest.raises(InputError, match=f"run={re.escape(repr(name))}: a name of letters"):
        Run(name, Condition(("ora",)), Seeds(1, 1, 1))


def test_own_output_is_measured_where_the_reference_is():
    with pytest.raises(InputError, match=r"block='b': own_checkpoints=\(1, 2\) names \[2\]"):
        Block("b", (), sentence_checkpoints=(1,), own_checkpoints=(1, 2))


def test_the_european_blocks_ask_what_they_are_for():
    blocks = {block.name: block.runs for block in european.SUITE.blocks}
    assert list(blocks) == ["factorial", "sizes", "languages", "independent"]
    crossing, masks = blocks["factorial"][:16], blocks["factorial"][16:]
    assert {(run.seeds.init, run.seeds.order) for run in crossing} == set(product(range(21, 25), repeat=2))
    assert all(run.seeds.order == run.seeds.dropout for run in crossing)
    assert [run.name for run in masks] == [f"fra-i{seed}-o{seed}-d{100 + seed}" for seed in range(21, 25)]
    sizes = pd.DataFrame([(run.seeds.init, run.condition.pairs or 0) for run in blocks["sizes"]])
    assert set(sizes.itertuples(index=False, name=None)) == set(product(range(31, 35), (10_000, 40_000, 0)))
    languages = [(len(run.condition.languages), run.seeds.init) for run in blocks["languages"]]
    assert languages == [*((4, seed) for seed in range(41, 46)), *((5, seed) for seed in range(51, 56))]
    assert [run.seeds.init for run in blocks["independent"]] == list(range(1, 21))


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
    european.held_out.cache_clear(), european.further.cache_clear()
    try:
        code, message = fails(capsys, "european", "--work", f"{tmp_path}/work", "--data", f"{tmp_path}/data")
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
    for table in (*finished.PER_RUN, *finished.OF_TRAINING):
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
    (checkpoint / "lineage.json").write_text("{}")
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

"""Intervening in runs: the table is what the library gives; means are kept and belong to their weights; commands."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter

import pandas as pd
import pytest

import addends
from addends import cli, tables
from addends.errors import DataError, InputError
from addends.interventions import (
    Means,
    agreement_means,
    batches_of,
    mean_source_embedding,
    measure_agreement,
    measure_effects,
    weights_sha256,
)
from addends.runs import intervening, sentences
from addends.runs.suite import Sample
from tests.runs import tiny_suite
from tests.runs.tiny_suite import SUITE


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("intervened")
    tiny_suite.train(folder / "work", folder / "trained")
    return folder


@pytest.fixture(scope="module")
def asked(trained):
    files = intervening.intervene(SUITE, ["a", "b"], trained / "work", trained / "data")
    expected = [f"{table}/{run}.parquet" for run in "ab" for table in intervening.TABLES]
    assert [f"{file.parent.name}/{file.name}" for file in files] == expected
    return tables.read_suite(trained / "data" / "tiny", "interventions")


def test_every_question_is_asked_of_every_sentence(asked):
    counts = asked.groupby(["run", "effect", "replace", "by"]).size()
    sentences_read = 6
    for run in "ab":
        for replace in tables.REPLACEMENTS:
            assert counts[run, "direct", replace, "token"] == 3 * sentences_read
            assert counts[run, "direct", replace, "sublayer"] == (5 + 3) * sentences_read  # terms; one layer's kinds
            assert counts[run, "total", replace, "sublayer"] == (3 + 3) * sentences_read  # in the one layer, in all
    assert asked["sentence"].nunique() == sentences_read


def test_a_run_is_asked_as_the_library_asks(asked, trained):
    model, tokenizer = addends.load(trained / "work" / "tiny" / "b" / "checkpoint-12")
    held_out = sentences.held_out(SUITE)
    means = Means.load(trained / "work" / "tiny" / "b" / "means-12-0.safetensors")
    assert means.sentences == len(sentences.training_pairs(SUITE, SUITE.run("b")))  # fewer than are asked for: all
    frame = measure_effects(model, tokenizer, list(held_out["source"]), list(held_out["target"]), means, progress=False)
    frame["sentence"] = frame["sentence"].map(dict(enumerate(held_out["sentence"])))
    key = [name for name in tables.key("interventions") if name != "run"]
    mine = asked[(asked["run"] == "b") & (asked["replace"] == "mean")].set_index(key).sort_index()
    pd.testing.assert_frame_equal(
        mine.drop(columns=["run", "tokens"]),
        tables.validate(frame.assign(run="b"), "interventions").set_index(key).sort_index()[mine.columns[1:-1]],
        rtol=1e-4,
        atol=1e-5,
    )


def test_agreement_over_tokens_is_asked_beside(asked, trained):
    found = tables.read_suite(trained / "data" / "tiny", "token_agreement")
    questions = asked[["run", "effect", "replace", "by", "layer", "term"]].drop_duplicates()
    assert len(found) == 4 * len(questions)
    shares = found.query(
        "effect == 'direct' and replace == 'zero' and said == 'share' and by == 'token' and term == 'S'"
    )
    assert (shares["rho"] > 0.5).all()  # nearly the effect, by construction


def test_source_tokens_are_asked_of_as_the_library_asks(asked, trained):
    model, tokenizer = addends.load(trained / "work" / "tiny" / "b" / "checkpoint-12")
    held_out, pairs = sentences.held_out(SUITE), sentences.training_pairs(SUITE, SUITE.run("b"))
    sources, targets = pairs["source"].tolist(), pairs["target"].tolist()
    frame = measure_agreement(
        model,
        tokenizer,
        held_out["source"].tolist(),
        held_out["target"].tolist(),
        mean_source_embedding(model, batches_of(model, tokenizer, sources, targets, progress=False)),
        Counter(piece for source in sources for piece in tokenizer(source)["input_ids"]),
        progress=False,
    )
    found = tables.read_suite(trained / "data" / "tiny", "attributions")
    key = [name for name in tables.key("attributions") if name != "run"]
    mine = found[found["run"] == "b"].set_index(key).sort_index().drop(index="random").drop(columns="run")
    expected = tables.validate(agreement_means(frame).assign(run="b"), "attributions").set_index(key).sort_index()
    # The training pairs come in another order, and the means differ by rounding: nearly equal ranks may turn round.
    pd.testing.assert_frame_equal(mine, expected.drop(index="random").drop(columns="run"), rtol=0, atol=5e-3)
    assert found["sentences"].eq(6).all()


def test_runs_draw_chance_by_seeds_of_their_own_that_the_seed_moves(trained, asked, tmp_path, monkeypatch):
    row = {"method": "random", "kind": "floor", "yardstick": "mask", "sense": "size", "special_tokens": True}
    rows = pd.DataFrame([{"sentence": 0, **row, "agreement": 0.5, "permuted": 0.25, "rows": 2}])
    seen = []
    monkeypatch.setattr(intervening, "measure_agreement", lambda *_given, seed, **_: seen.append(seed) or rows)
    monkeypatch.setattr(intervening, "TABLES", ("attributions",))
    for seed in (0, 0, 1):
        intervening.intervene(SUITE, ["a", "b"], trained / "work", tmp_path, seed, again=True)
    first, again, other = seen[:2], seen[2:4], seen[4:]
    assert first == again
    assert len({*first, *other}) == 4


def test_a_table_that_is_missing_is_made_and_the_others_are_not(trained, asked, tmp_path, monkeypatch):
    shutil.copytree(trained / "data", tmp_path / "data")
    files = {table: tmp_path / "data" / "tiny" / table / "a.parquet" for table in intervening.TABLES}
    before = {table: file.read_bytes() for table, file in files.items()}

    def fails(*_given, **_options):
        raise AssertionError("asked of what is there")

    for missing, costly in (("attributions", "token_effects"), ("token_agreement", "measure_agreement")):
        files[missing].unlink()
        stamps = {table: file.stat().st_mtime_ns for table, file in files.items() if table != missing}
        with monkeypatch.context() as patched:
            patched.setattr(intervening, costly, fails)
            intervening.intervene(SUITE, ["a"], trained / "work", tmp_path / "data")
        assert files[missing].read_bytes() == before[missing]
        assert {table: files[table].stat().st_mtime_ns for table in stamps} == stamps


def test_what_is_there_stays_and_means_of_other_weights_are_taken_anew(trained, asked, tmp_path):
    file = trained / "data" / "tiny" / "interventions" / "a.parquet"
    before = file.stat().st_mtime_ns
    intervening.intervene(SUITE, ["a"], trained / "work", trained / "data")
    assert file.stat().st_mtime_ns == before
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(trained / "work" / "tiny" / "a" / "means-12-0.safetensors", folder)
    model, tokenizer = addends.load(trained / "work" / "tiny" / "b" / "checkpoint-12")
    means = intervening.means_of(SUITE, SUITE.run("b"), model, tokenizer, folder)
    assert means.model == weights_sha256(model)
    assert Means.load(folder / "means-12-0.safetensors").digest == means.digest


def test_tables_of_other_weights_sentences_or_seed_or_that_are_cut_off_are_not_taken_for_done(trained, asked, tmp_path):
    shutil.copytree(trained / "work", tmp_path / "work")
    shutil.copytree(trained / "data", tmp_path / "data")
    given = (SUITE, ["a"], tmp_path / "work", tmp_path / "data")
    intervening.intervene(*given)
    with pytest.raises(DataError, match=r"is there, and was made otherwise: the seed, then 0, now 5. --again"):
        intervening.intervene(*given, seed=5)
    fewer = dataclasses.replace(SUITE, held_out=Sample("ora", 5))
    with pytest.raises(DataError, match="was made otherwise: the sentences"):
        intervening.intervene(fewer, *given[1:])
    tiny_suite.change_a_weight(tmp_path / "work" / "tiny" / "a" / "checkpoint-12")
    with pytest.raises(DataError, match="was made otherwise: the weights of 'a' at step 12, then"):
        intervening.intervene(*given)
    shutil.rmtree(tmp_path / "work" / "tiny" / "a" / "checkpoint-12")  # nothing says otherwise: left alone
    intervening.intervene(*given)
    file = tmp_path / "data" / "tiny" / "attributions" / "a.parquet"
    tables.write(tables.read(file, "attributions"), file, "attributions")  # as before tables said what they are of
    intervening.intervene(*given, seed=0)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match=r"attributions/a\.parquet cannot be read as parquet"):
        intervening.intervene(*given)


def test_means_that_cannot_be_read_are_taken_anew(trained, asked, tmp_path):
    model, tokenizer = addends.load(trained / "work" / "tiny" / "a" / "checkpoint-12")
    (tmp_path / "means-12-0.safetensors").write_bytes(b"cut off")
    means = intervening.means_of(SUITE, SUITE.run("a"), model, tokenizer, tmp_path)
    assert Means.load(tmp_path / "means-12-0.safetensors").digest == means.digest


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_asked(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(intervening, "_asked", None)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is no folder"):
        intervening.intervene(SUITE, ["a"], trained / "work", tmp_path / "file")


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(DataError, match=r"checkpoint-12 is missing: train"):
        intervening.intervene(SUITE, ["a"], tmp_path, tmp_path)


# --- the commands ---


@pytest.fixture
def suite_is_tiny(monkeypatch):
    monkeypatch.setattr(cli, "read_suite", lambda name: SUITE)


def called(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def test_the_command_asks_the_runs_that_are_trained_and_names_the_others(trained, tmp_path, suite_is_tiny, capsys):
    work = tmp_path / "work"
    shutil.copytree(trained / "work", work)
    shutil.rmtree(work / "tiny" / "c")
    assert called("intervene", "tiny", "--work", work, "--data", tmp_path) == 0
    said = capsys.readouterr().out
    assert "not trained" in said
    assert sorted(file.stem for file in (tmp_path / "tiny" / "interventions").iterdir()) == ["a", "b"]
    assert called("intervene", "tiny", "--only", "c", "--work", work, "--data", tmp_path) == 1
    assert "Not trained" in capsys.readouterr().err


def test_the_command_compares_a_block_at_steps_and_stitches(trained, tmp_path, suite_is_tiny, monkeypatch, capsys):
    from addends.runs import comparing, stitching_runs

    seen = []
    monkeypatch.setattr(comparing, "compare", lambda *given: seen.append(given[1:3] + given[5:6]) or "table")
    monkeypatch.setattr(stitching_runs, "stitch", lambda *given, **_: seen.append(given[1]) or ["table"])
    work = trained / "work"
    steps = ("--checkpoint", 9, "--checkpoint", 12, "--block", "tried", "--stitch")
    assert called("compare", "tiny", "--work", work, "--data", tmp_path, *steps) == 0
    names = ["a", "b", "c"]
    assert seen == [(names, 9, tables.ROWS[:2]), (names, 12, tables.ROWS), names]
    assert called("compare", "tiny", "--work", work, "--data", tmp_path, "--block", "other") == 1
    assert "block='other'" in capsys.readouterr().err


def test_existing_models_have_no_training_sentences(tmp_path, trained):
    from addends.runs.suite import UNKNOWN, ExistingModel

    models = tuple(ExistingModel(run.name, 12, str(tmp_path)) for run in SUITE.runs)
    existing = dataclasses.replace(SUITE, recipe=UNKNOWN, vocabulary=UNKNOWN, keep_states=(), models=models)
    with pytest.raises(InputError, match="no training sentences"):
        intervening.intervene(existing, ["a"], trained / "work", tmp_path)

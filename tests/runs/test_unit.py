"""One unit of work: every cell of every table is there, and a unit that was killed ends with the same tables."""

from __future__ import annotations

import dataclasses
import shutil
from functools import cache
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import addends
from addends.errors import DataError, InputError
from addends.runs import tables, toy, training, unit, vocabulary
from addends.runs.quality import negative_log_likelihood, sentence_scores
from addends.runs.recipe import Recipe, Seeds
from addends.runs.suite import Run, Suite

TERMS = {"sublayer": "ISTFC", "token": "STC"}
STEPS, SENTENCE_STEPS, LAYERS = (4, 8, 12), (8, 12), (0, 1)
TABLES = ("runs", "quality", "translations", "measurements", "trajectories")


@cache
def split() -> tuple[pd.DataFrame, pd.DataFrame]:
    return toy.split("ora", 80, 6, seed=1)


def tokenizer(folder: Path):
    pairs = split()[0]
    return vocabulary.train([*pairs["source"], *pairs["target"]], folder, 80, coverage=1.0, byte_fallback=False)


SUITE = Suite(
    name="tiny",
    recipe=Recipe(
        layers=1,
        dim=16,
        heads=2,
        feed_forward=32,
        batch_pairs=8,
        checkpoints=STEPS,
        peak_learning_rate=1e-2,
        warmup_steps=2,
        positions=96,
    ),
    runs=(Run("ora-a", "ora", ("ora",), Seeds(1, 2, 3)), Run("ora-b", "ora", ("ora",), Seeds(4, 5, 6))),
    sentence_checkpoints=SENTENCE_STEPS,
    own_tokens=10,
    held_out=lambda: split()[1],
    pairs=lambda run: split()[0],
    tokenizer=tokenizer,
)


def files_under(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def read_all(data: Path) -> dict[str, pd.DataFrame]:
    return {table: tables.read_suite(data / "tiny", table) for table in tables.SCHEMAS}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Work and data folder of a suite whose first run is finished."""
    folder = tmp_path_factory.mktemp("finished")
    unit.train_and_measure(SUITE, "ora-a", folder / "work", folder / "data", cpu=True)
    return folder / "work", folder / "data"


@pytest.fixture
def trained(finished, tmp_path):
    """A work folder in which the first run is trained, and nothing is measured yet."""
    work = Path(shutil.copytree(finished[0], tmp_path / "work"))
    shutil.rmtree(work / "tiny" / "ora-a" / "measured")
    return work


@pytest.fixture
def long_ago(finished):
    return read_all(finished[1])


# --- the tables ---


def test_one_file_a_table_and_run(finished):
    expected = [f"tiny/{table}/ora-a.parquet" for table in TABLES]
    assert files_under(finished[1]) == sorted([*expected, "tiny/sentences.parquet"])


def test_measurements_are_fully_crossed(long_ago):
    sentences = split()[1]["sentence"]
    cells = product(SENTENCE_STEPS, ("own", "reference"), sentences, LAYERS, TERMS)
    expected = {(*cell, term) for cell in cells for term in TERMS[cell[-1]]}
    frame = long_ago["measurements"]
    names = ["checkpoint", "target", "sentence", "layer", "by", "term"]
    assert {tuple(row) for row in frame[names].itertuples(index=False)} == expected
    assert len(frame) == len(expected)
    assert frame["run"].unique().tolist() == ["ora-a"]
    assert frame[["importance", "norm_ratio", "distance", "tokens"]].notna().all(axis=None)
    assert (frame["tokens"] >= 1).all()


def test_trajectories_are_the_means_of_the_measurements_at_every_checkpoint(long_ago):
    frame = long_ago["trajectories"]
    assert len(frame) == len(STEPS) * 2 * len(LAYERS) * (5 + 3)
    assert frame["checkpoint"].unique().tolist() == list(STEPS)
    names = tables.key("trajectories")
    means = long_ago["measurements"].groupby(names)[list(tables.INDICATORS)].mean().reset_index()
    both = means.merge(frame, on=names, suffixes=("", "_stored"), validate="one_to_one")
    assert len(both) == len(means)
    for name in tables.INDICATORS:
        pd.testing.assert_series_equal(both[name], both[f"{name}_stored"], check_names=False, rtol=1e-4, atol=1e-6)


def test_quality_and_translations_have_every_cell(long_ago):
    quality, translations = long_ago["quality"], long_ago["translations"]
    assert sorted(zip(quality["checkpoint"], quality["metric"], strict=True)) == sorted(
        product(STEPS, ("bleu", "chrf"))
    )
    cells = set(zip(translations["checkpoint"], translations["sentence"], strict=True))
    assert cells == set(product(SENTENCE_STEPS, split()[1]["sentence"]))
    assert len(translations) == len(cells)
    assert translations[["chrf", "bleu", "nll"]].notna().all(axis=None)
    assert translations["tokens"].between(1, SUITE.own_tokens).all()


def test_what_is_measured_on_the_reference_is_the_reference(finished, long_ago):
    work, _ = finished
    model, own_tokenizer = addends.load(work / "tiny" / "ora-a" / "checkpoint-12")
    held = split()[1]
    direct = addends.measure(model, own_tokenizer, held["source"].tolist(), held["target"].tolist(), progress=False)
    direct["sentence"] = held["sentence"].to_numpy()[direct["sentence"]]
    stored = long_ago["measurements"].query("checkpoint == 12 and target == 'reference'")
    both = direct.merge(stored, on=["sentence", "layer", "by", "term"], suffixes=("", "_stored"), validate="one_to_one")
    assert len(both) == len(direct) == len(stored)
    for name in (*tables.INDICATORS, "tokens"):
        pd.testing.assert_series_equal(
            both[name], both[f"{name}_stored"], check_names=False, check_dtype=False, rtol=1e-4, atol=1e-5
        )


def test_every_translation_is_scored_against_its_own_reference(finished, long_ago):
    model, own_tokenizer = addends.load(finished[0] / "tiny" / "ora-a" / "checkpoint-12")
    stored = long_ago["translations"].query("checkpoint == 12").set_index("sentence")
    for row in split()[1].itertuples():
        said = addends.translate(model, own_tokenizer, [row.source], max_new_tokens=SUITE.own_tokens)
        scores = sentence_scores(said.texts, [row.target])
        read = addends.encode(model, own_tokenizer, [row.source], [row.target])
        expected = [*scores.loc[0, ["chrf", "bleu"]], float(negative_log_likelihood(model, read)), int(said.mask.sum())]
        given = stored.loc[row.sentence, ["chrf", "bleu", "nll", "tokens"]].astype(float)
        assert given.tolist() == pytest.approx(expected, rel=1e-4)


def test_sentences_and_runs_say_what_was_done(finished, long_ago):
    held = split()[1]
    sentences = long_ago["sentences"].set_index("sentence")
    own_tokenizer = tokenizer(finished[0] / "tiny" / "vocabulary")
    for row in held.itertuples():
        assert sentences.loc[row.sentence, "language"] == row.language
        assert sentences.loc[row.sentence, "source_tokens"] == len(own_tokenizer(row.source)["input_ids"])
        assert sentences.loc[row.sentence, "target_tokens"] == len(own_tokenizer(text_target=row.target)["input_ids"])
    (run,) = long_ago["runs"].to_dict("records")
    parameters = run.pop("parameters")
    weights = load_file(finished[0] / "tiny" / "ora-a" / "checkpoint-12" / "model.safetensors")
    learned = {name: weight for name, weight in weights.items() if "embed_positions" not in name}
    learned.pop("final_logits_bias")  # a constant zero, as the sinusoids of the positions are constants
    assert parameters == sum(weight.numel() for weight in learned.values())
    assert run == {
        "run": "ora-a",
        "suite": "tiny",
        "condition": "ora",
        "init_seed": 1,
        "order_seed": 2,
        "dropout_seed": 3,
        "languages": "ora",
        "layers": 1,
        "dim": 16,
        "steps": 12,
    }


@pytest.mark.slow
def test_a_second_run_adds_its_files_and_changes_none(finished, tmp_path):
    work, data = (Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in finished)
    before = {file: (data / file).read_bytes() for file in files_under(data)}
    unit.train_and_measure(SUITE, "ora-b", work, data, cpu=True)
    assert {file: (data / file).read_bytes() for file in before} == before
    both = read_all(data)
    assert both["runs"]["run"].tolist() == ["ora-a", "ora-b"]
    counts = both["measurements"]["run"].value_counts()
    assert counts["ora-a"] == counts["ora-b"]
    nll = both["translations"].pivot(index=["checkpoint", "sentence"], columns="run", values="nll")
    assert (nll["ora-a"] != nll["ora-b"]).all()


# --- killed, and gone on with ---


class Killed(BaseException):
    """Stands for whatever ends a process: nothing in the package may catch it."""


@pytest.mark.slow
def test_a_unit_killed_while_measuring_ends_with_the_same_tables(trained, tmp_path, long_ago, monkeypatch):
    data = tmp_path / "data"
    measure, write, measured = unit.measure_checkpoint, tables.write, []

    def dies_at_eight(suite, run, step, *arguments):
        measured.append(step)
        if step == 8:
            raise Killed
        return measure(suite, run, step, *arguments)

    def dies_between_two_tables(frame, path, table):
        if table == "measurements":
            raise Killed
        return write(frame, path, table)

    with monkeypatch.context() as patch:
        patch.setattr(unit, "measure_checkpoint", dies_at_eight)
        with pytest.raises(Killed):
            unit.train_and_measure(SUITE, "ora-a", trained, data, cpu=True)
    assert measured == [4, 8]
    assert files_under(tmp_path / "data") == []
    with monkeypatch.context() as patch:
        patch.setattr(tables, "write", dies_between_two_tables)
        with pytest.raises(Killed):
            unit.train_and_measure(SUITE, "ora-a", trained, data, cpu=True)
    half = trained / "tiny" / "ora-a" / "measured" / "8"
    assert (half / "quality.parquet").exists()
    assert not (half / "measurements.parquet").exists()
    assert files_under(tmp_path / "data") == []

    measured.clear()
    with monkeypatch.context() as patch:
        patch.setattr(unit, "measure_checkpoint", lambda *given: measured.append(given[2]) or measure(*given))
        unit.train_and_measure(SUITE, "ora-a", trained, data, cpu=True)
    assert measured == [8, 12]  # what was done is not done again
    for table, frame in read_all(data).items():
        pd.testing.assert_frame_equal(frame, long_ago[table])


@pytest.mark.slow
def test_a_unit_killed_while_training_ends_with_the_same_tables(tmp_path, long_ago, monkeypatch):
    step_ended = training._SaveAt.on_step_end

    def dies_after_six(self, args, state, control, **options):
        if state.global_step == 6:
            raise Killed
        return step_ended(self, args, state, control, **options)

    with monkeypatch.context() as patch:
        patch.setattr(training._SaveAt, "on_step_end", dies_after_six)
        with pytest.raises(Killed):
            unit.train_and_measure(SUITE, "ora-a", tmp_path / "work", tmp_path / "data", cpu=True)
    assert files_under(tmp_path / "data") == []
    unit.train_and_measure(SUITE, "ora-a", tmp_path / "work", tmp_path / "data", cpu=True)
    for table, frame in read_all(tmp_path / "data").items():
        pd.testing.assert_frame_equal(frame, long_ago[table])


def test_the_row_that_says_a_run_is_there_is_written_last(trained, tmp_path, monkeypatch):
    data, written, write = tmp_path / "data", [], tables.write

    def watched(frame, path, table):
        if data in path.parents:
            written.append(table)
        return write(frame, path, table)

    monkeypatch.setattr(tables, "write", watched)
    unit.train_and_measure(SUITE, "ora-a", trained, data, cpu=True)
    assert sorted(written) == sorted(tables.SCHEMAS)
    assert written[-1] == "runs"


def test_what_is_finished_is_neither_trained_nor_measured_again(finished, monkeypatch):
    work, data = finished
    before = {file: (data / file).read_bytes() for file in files_under(data)}

    def refuse(*arguments, **options):
        raise AssertionError("nothing is left to do")

    monkeypatch.setattr(unit, "measure_checkpoint", refuse)
    monkeypatch.setattr(training, "train", refuse)
    unit.train_and_measure(SUITE, "ora-a", work, data, cpu=True)
    assert {file: (data / file).read_bytes() for file in files_under(data)} == before


# --- early checkpoints ---


@pytest.mark.parametrize(("bias", "tokens"), [(1e4, 1), (-1e4, SUITE.own_tokens)], ids=["says nothing", "never ends"])
def test_a_checkpoint_with_nothing_to_say_still_has_every_cell(finished, tmp_path, bias, tokens, long_ago):
    checkpoint = Path(shutil.copytree(finished[0] / "tiny" / "ora-a" / "checkpoint-12", tmp_path / "checkpoint"))
    model, _ = addends.load(checkpoint)
    with torch.no_grad():
        model.final_logits_bias[0, model.config.eos_token_id] = bias
    model.save_pretrained(checkpoint)
    pieces = unit.measure_checkpoint(SUITE, SUITE.run("ora-a"), 12, checkpoint, "cpu")
    assert set(pieces) == set(TABLES) - {"runs"}
    assert pieces["translations"]["tokens"].tolist() == [tokens] * 6
    own = pieces["measurements"].query("target == 'own'")
    assert own["tokens"].unique().tolist() == [tokens]
    names = tables.key("measurements")
    expected = long_ago["measurements"].query("checkpoint == 12")[names]
    assert set(pieces["measurements"][names].itertuples(index=False, name=None)) == set(
        expected.itertuples(index=False, name=None)
    )
    assert own[["importance", "norm_ratio", "distance"]].notna().all(axis=None)
    if tokens == 1:
        assert pieces["quality"]["score"].tolist() == [0, 0]
        assert (pieces["translations"][["chrf", "bleu"]] == 0).all(axis=None)


def test_sentences_keep_their_own_numbers_however_they_are_batched(finished, monkeypatch):
    """The held-out sentences are sorted and cut into batches; every number must land on its own sentence."""
    checkpoint = finished[0] / "tiny" / "ora-a" / "checkpoint-12"
    whole = unit.measure_checkpoint(SUITE, SUITE.run("ora-a"), 12, checkpoint, "cpu")
    monkeypatch.setattr(unit, "_BATCH_SIZE", 4)
    backwards = dataclasses.replace(SUITE, held_out=lambda: split()[1].iloc[::-1])
    parted = unit.measure_checkpoint(backwards, SUITE.run("ora-a"), 12, checkpoint, "cpu")
    assert parted["translations"]["nll"].nunique() == 6
    for table, frame in whole.items():
        names = tables.key(table)
        pd.testing.assert_frame_equal(
            parted[table].sort_values(names, ignore_index=True),
            frame.sort_values(names, ignore_index=True),
            rtol=1e-4,
            atol=1e-5,
        )


# --- bad input ---


@pytest.mark.parametrize("name", ["init", "order", "dropout"])
def test_a_work_folder_of_other_seeds_is_refused_by_name(trained, tmp_path, name):
    run = SUITE.runs[0]
    other = dataclasses.replace(run, seeds=dataclasses.replace(run.seeds, **{name: 9}))
    before = files_under(trained)
    with pytest.raises(DataError, match=rf"work/tiny/ora-a holds a run made with other {name}_seed .*Delete"):
        unit.train_and_measure(dataclasses.replace(SUITE, runs=(other,)), "ora-a", trained, tmp_path / "data", cpu=True)
    assert files_under(trained) == before
    assert not (tmp_path / "data").exists()


def test_a_work_folder_of_another_recipe_is_refused_by_name(trained, tmp_path):
    other = dataclasses.replace(SUITE, recipe=dataclasses.replace(SUITE.recipe, dropout=0.2))
    with pytest.raises(DataError, match=r"other dropout \(\{'dropout': 0\.1\}\)"):
        unit.train_and_measure(other, "ora-a", trained, tmp_path / "data", cpu=True)


def test_an_unknown_run_is_refused_before_anything_is_written(tmp_path):
    for call in (unit.train_and_measure, unit.ship):
        with pytest.raises(InputError, match=r"run='ora-z' is not one of \['ora-a', 'ora-b'\]"):
            call(SUITE, "ora-z", tmp_path / "work", tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_held_out_sentences_that_do_not_fit_are_refused_before_training(tmp_path):
    held = split()[1].copy()
    held.loc[2, "target"] = "mo " * 200
    bad = dataclasses.replace(SUITE, held_out=lambda: held)
    with pytest.raises(InputError, match=f"{held['sentence'][2]}' has .* tokens.*positions=96"):
        unit.train_and_measure(bad, "ora-a", tmp_path / "work", tmp_path / "data", cpu=True)
    assert not list((tmp_path / "work").rglob("checkpoint-*"))


# --- shipping ---


def test_what_is_shipped_is_what_loading_needs_and_the_same_model(finished, tmp_path):
    work, _ = finished
    for _ in range(2):  # a second time replaces the first
        folder = unit.ship(SUITE, "ora-a", work, tmp_path / "data")
    assert folder == tmp_path / "data" / "tiny" / "checkpoint"
    assert [path.name for path in folder.parent.iterdir()] == ["checkpoint"]
    assert set(files_under(folder)) == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "source.spm",
        "target.spm",
        "tokenizer_config.json",
        "vocab.json",
    }
    shipped, own_tokenizer = addends.load(folder)
    original, _ = addends.load(work / "tiny" / "ora-a" / "checkpoint-12")
    sources = split()[1]["source"].tolist()
    texts = [addends.translate(model, own_tokenizer, sources, max_new_tokens=9).texts for model in (shipped, original)]
    assert texts[0] == texts[1]
    states = shipped.state_dict()
    assert all(torch.equal(states[name], weight) for name, weight in original.state_dict().items())


def test_an_unfinished_run_is_not_shipped(finished, tmp_path):
    with pytest.raises(DataError, match=r"ora-b/checkpoint-12 is no finished checkpoint.*Train the run 'ora-b' first"):
        unit.ship(SUITE, "ora-b", finished[0], tmp_path / "data")
    assert list(tmp_path.iterdir()) == []

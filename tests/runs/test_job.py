"""One unit of work: every cell of every table is there, and a unit that was killed ends with the same tables."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from functools import cache
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import addends
from addends import tables
from addends.errors import DataError, InputError
from addends.runs import job, measuring, scheduling, sentences, training, workfolder
from addends.runs.quality import negative_log_likelihood, sentence_scores
from addends.runs.suite import Block, Condition, MadeUpCorpus, Recipe, Run, Sample, Seeds, Suite, Vocabulary

TERMS = {"sublayer": "ISTFC", "token": "STC"}
STEPS, SENTENCE_STEPS, OWN_STEPS, LAYERS = (4, 8, 12), (8, 12), (12,), (0, 1)
FURTHER_STEPS = (8, 12)
LATER = (
    "interventions",
    "token_agreement",
    "attributions",
    "run_pairs",
    "stitches",
)  # tables that other commands write
TABLES = tuple(name for name in tables.SCHEMAS if name not in ("sentences", *LATER))


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
    blocks=(
        Block(
            "tried",
            (Run("ora-a", Condition(("ora",)), Seeds(1, 2, 3)), Run("ora-b", Condition(("ora",)), Seeds(4, 5, 6))),
            sentence_checkpoints=SENTENCE_STEPS,
            own_checkpoints=OWN_STEPS,
        ),
    ),
    keep_states=(0, 4),
    own_tokens=10,
    corpus=MadeUpCorpus(("ora",), pairs=80, seed=1),
    held_out=Sample("ora", 6),
    vocabulary=Vocabulary(80, coverage=1.0, byte_fallback=False),
    further=Sample("ora", 4),
    further_checkpoints=FURTHER_STEPS,
)


def whole(suite: Suite, name: str, work: Path, data: Path) -> None:
    """Train a run, measure it, and write its tables: what `addends train` and `addends measure` do."""
    job.train(suite, name, work, cpu=True)
    scheduling.measure(suite, [name], work, data, cpu=True)


@cache
def split() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Training pairs, held-out sentences, further ones."""
    pairs = sentences.training_pairs(SUITE, SUITE.runs[0])
    return pairs, sentences.held_out(SUITE), sentences.further(SUITE)


def tokenizer(folder: Path):
    return sentences.tokenizer(SUITE, folder)


def with_block(**changes) -> Suite:
    """The suite, its one block changed."""
    return dataclasses.replace(SUITE, blocks=(dataclasses.replace(SUITE.blocks[0], **changes),))


def files_under(folder: Path) -> list[str]:
    """All files but the empty ones that stand for claims."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".claim")
    return sorted(str(file.relative_to(folder)) for file in files)


def read_all(data: Path) -> dict[str, pd.DataFrame]:
    return {table: tables.read_suite(data / "tiny", table) for table in (*TABLES, "sentences")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Work and data folder of a suite whose first run is finished."""
    folder = tmp_path_factory.mktemp("finished")
    whole(SUITE, "ora-a", folder / "work", folder / "data")
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
    assert files_under(finished[1]) == sorted([*expected, "tiny/sentences.parquet", "tiny/further_sentences.parquet"])


def test_measurements_are_fully_crossed(long_ago):
    sentences = split()[1]["sentence"]
    when = [*product(SENTENCE_STEPS, ("reference",)), *product(OWN_STEPS, ("own",))]
    cells = [(*moment, *rest) for moment, rest in product(when, product(sentences, LAYERS, TERMS))]
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
    cells = sorted(zip(quality["checkpoint"], quality["set"], quality["metric"], strict=True))
    when = [*product(STEPS, ("held_out",)), *product(FURTHER_STEPS, ("further",))]
    assert cells == sorted((*moment, metric) for moment, metric in product(when, ("bleu", "chrf", "nll")))
    cells = set(zip(translations["checkpoint"], translations["sentence"], strict=True))
    assert cells == set(product(SENTENCE_STEPS, split()[1]["sentence"]))
    assert len(translations) == len(cells)
    assert translations[["chrf", "bleu", "nll"]].notna().all(axis=None)
    assert translations["tokens"].between(1, SUITE.own_tokens).all()


def test_further_sentences_are_translated_and_nothing_else(long_ago):
    further = long_ago["further"]
    cells = set(zip(further["checkpoint"], further["sentence"], strict=True))
    assert cells == set(product(FURTHER_STEPS, split()[2]["sentence"]))
    assert further[["chrf", "bleu", "nll"]].notna().all(axis=None)
    assert not set(further["sentence"]) & set(long_ago["measurements"]["sentence"])


@pytest.mark.parametrize(("table", "of"), [("translations", "held_out"), ("further", "further")])
def test_the_corpus_nll_counts_every_target_token_alike(finished, long_ago, table, of):
    sentences = split()[{"held_out": 1, "further": 2}[of]]
    own_tokenizer = tokenizer(finished[0] / "tiny" / "vocabulary")
    tokens = {row.sentence: len(own_tokenizer(text_target=row.target)["input_ids"]) for row in sentences.itertuples()}
    rows = long_ago[table].query("checkpoint == 12")
    weights = rows["sentence"].map(tokens)
    score = long_ago["quality"].query("checkpoint == 12 and set == @of and metric == 'nll'")["score"].item()
    assert score == pytest.approx((rows["nll"] * weights).sum() / weights.sum(), rel=1e-6)


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
        "block": "tried",
        "condition": "ora",
        "pairs": 80,
        "lineage": "chain",
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
    whole(SUITE, "ora-b", work, data)
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
    measure, write, measured = measuring.measure_checkpoint, tables.write, []

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
        patch.setattr(measuring, "measure_checkpoint", dies_at_eight)
        with pytest.raises(Killed):
            whole(SUITE, "ora-a", trained, data)
    assert measured == [4, 8]
    assert files_under(tmp_path / "data") == []
    with monkeypatch.context() as patch:
        patch.setattr(tables, "write", dies_between_two_tables)
        with pytest.raises(Killed):
            whole(SUITE, "ora-a", trained, data)
    (half,) = (trained / "tiny" / "ora-a" / "measured").glob(".8.*.part")
    assert (half / "quality.parquet").exists()
    assert not (half / "measurements.parquet").exists()
    assert not (half.parent / "8").exists()
    assert files_under(tmp_path / "data") == []

    measured.clear()
    with monkeypatch.context() as patch:
        patch.setattr(measuring, "measure_checkpoint", lambda *given: measured.append(given[2]) or measure(*given))
        whole(SUITE, "ora-a", trained, data)
    assert measured == [8, 12]  # what was done is not done again
    assert not half.exists()
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
            whole(SUITE, "ora-a", tmp_path / "work", tmp_path / "data")
    assert files_under(tmp_path / "data") == []
    whole(SUITE, "ora-a", tmp_path / "work", tmp_path / "data")
    for table, frame in read_all(tmp_path / "data").items():
        pd.testing.assert_frame_equal(frame, long_ago[table])


def test_the_row_that_says_a_run_is_there_is_written_last(trained, tmp_path, monkeypatch):
    data, written, write = tmp_path / "data", [], tables.write

    def watched(frame, path, table):
        if data in path.parents:
            written.append(table)
        return write(frame, path, table)

    monkeypatch.setattr(tables, "write", watched)
    whole(SUITE, "ora-a", trained, data)
    assert sorted(written) == sorted([*TABLES, "sentences", "sentences"])  # the held-out ones, and the further ones
    assert written[-1] == "runs"


def test_what_is_finished_is_neither_trained_nor_measured_again(finished, monkeypatch):
    work, data = finished
    before = {file: (data / file).read_bytes() for file in files_under(data)}

    def refuse(*arguments, **options):
        raise AssertionError("nothing is left to do")

    monkeypatch.setattr(measuring, "measure_checkpoint", refuse)
    monkeypatch.setattr(training, "train", refuse)
    whole(SUITE, "ora-a", work, data)
    assert {file: (data / file).read_bytes() for file in files_under(data)} == before


# --- early checkpoints ---


@pytest.mark.parametrize(("bias", "tokens"), [(1e4, 1), (-1e4, SUITE.own_tokens)], ids=["says nothing", "never ends"])
def test_a_checkpoint_with_nothing_to_say_still_has_every_cell(finished, tmp_path, bias, tokens, long_ago):
    checkpoint = Path(shutil.copytree(finished[0] / "tiny" / "ora-a" / "checkpoint-12", tmp_path / "checkpoint"))
    model, _ = addends.load(checkpoint)
    with torch.no_grad():
        model.final_logits_bias[0, model.config.eos_token_id] = bias
    model.save_pretrained(checkpoint)
    pieces = measuring.measure_checkpoint(SUITE, SUITE.run("ora-a"), 12, *addends.load(checkpoint))
    assert set(pieces) == set(TABLES) - {"runs", "training", "manifest"}
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
        said = pieces["quality"].query("metric != 'nll'")
        assert said["score"].tolist() == [0] * 4  # BLEU and chrF of the held-out and of the further sentences
        assert (pieces["translations"][["chrf", "bleu"]] == 0).all(axis=None)


def test_sentences_keep_their_own_numbers_however_they_are_batched(finished, monkeypatch):
    """The held-out sentences are sorted and cut into batches; every number must land on its own sentence."""
    checkpoint = finished[0] / "tiny" / "ora-a" / "checkpoint-12"
    whole = measuring.measure_checkpoint(SUITE, SUITE.run("ora-a"), 12, *addends.load(checkpoint))
    monkeypatch.setattr(measuring, "_BATCH_SIZE", 4)
    held = split()[1]
    monkeypatch.setattr(sentences, "held_out", lambda suite: held.iloc[::-1])
    parted = measuring.measure_checkpoint(SUITE, SUITE.run("ora-a"), 12, *addends.load(checkpoint))
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
    with pytest.raises(DataError, match=rf"work/tiny/ora-a holds a run trained with other {name}_seed .*another work"):
        whole(with_block(runs=(other,)), "ora-a", trained, tmp_path / "data")
    assert files_under(trained) == before
    assert not (tmp_path / "data").exists()


def test_a_work_folder_of_another_recipe_is_refused_by_name(trained, tmp_path):
    other = dataclasses.replace(SUITE, recipe=dataclasses.replace(SUITE.recipe, dropout=0.2))
    with pytest.raises(DataError, match=r"other dropout \(\{'dropout': 0\.1\}; now \{'dropout': 0\.2\}\)"):
        whole(other, "ora-a", trained, tmp_path / "data")


def test_an_unknown_run_is_refused_before_anything_is_written(tmp_path):
    for call in (whole, job.ship):
        with pytest.raises(InputError, match=r"run='ora-z' is not one of \['ora-a', 'ora-b'\]"):
            call(SUITE, "ora-z", tmp_path / "work", tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_held_out_sentences_that_do_not_fit_are_refused_before_training(tmp_path, monkeypatch):
    held = split()[1].copy()
    held.loc[2, "target"] = "mo " * 200
    monkeypatch.setattr(sentences, "held_out", lambda suite: held)
    with pytest.raises(InputError, match=f"{held['sentence'][2]}' has .* tokens.*positions=96"):
        whole(SUITE, "ora-a", tmp_path / "work", tmp_path / "data")
    assert not list((tmp_path / "work").rglob("checkpoint-*"))


@pytest.mark.parametrize(("which", "name"), [(1, "held-out"), (2, "further")])
def test_a_test_sentence_that_also_stands_in_training_is_refused_before_training(tmp_path, monkeypatch, which, name):
    pairs = split()[0].copy()
    pairs.loc[5, "target"] = split()[which]["target"].iloc[0].upper() + " !"  # the same but for case and punctuation
    monkeypatch.setattr(sentences, "training_pairs", lambda suite, run: pairs)
    with pytest.raises(
        DataError, match=rf"1 training pair.* share a side with the {name} sentences, .*{pairs['sentence'][5]}"
    ):
        whole(SUITE, "ora-a", tmp_path / "work", tmp_path / "data")
    assert not list((tmp_path / "work").rglob("checkpoint-*"))


# --- shipping ---


def test_what_is_shipped_is_what_loading_needs_and_the_same_model(finished, tmp_path):
    work, _ = finished
    for _ in range(2):  # a second time replaces the first
        folder = job.ship(SUITE, "ora-a", work, tmp_path / "data")
    assert folder == tmp_path / "data" / "tiny" / "checkpoint"
    assert [path.name for path in folder.parent.iterdir()] == ["checkpoint"]
    assert set(files_under(folder)) == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "run.json",
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


def test_what_is_shipped_says_whose_it_is(finished, tmp_path):
    assert not job.is_shipped(SUITE, "ora-a", tmp_path / "data")
    job.ship(SUITE, "ora-a", finished[0], tmp_path / "data")
    assert job.is_shipped(SUITE, "ora-a", tmp_path / "data")
    assert not job.is_shipped(SUITE, "ora-b", tmp_path / "data")
    longer = dataclasses.replace(SUITE, recipe=dataclasses.replace(SUITE.recipe, checkpoints=(*STEPS, 16)))
    assert not job.is_shipped(longer, "ora-a", tmp_path / "data")


@pytest.mark.parametrize("work", ["finished", "empty"])
def test_an_unfinished_run_is_not_shipped(finished, tmp_path, work):
    folder = finished[0] if work == "finished" else tmp_path / "work"
    with pytest.raises(DataError, match=r"ora-b/checkpoint-12 is no finished checkpoint.*--work.*--again"):
        job.ship(SUITE, "ora-b", folder, tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


# --- finished, or not ---


def test_a_finished_run_lacks_nothing_and_needs_no_sentences(finished, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("only tables are read")

    for door in ("held_out", "further", "training_pairs", "tokenizer"):
        monkeypatch.setattr(sentences, door, refuse)
    assert workfolder.what_is_missing(SUITE, "ora-a", finished[1]) is None
    assert workfolder.is_begun(SUITE, "ora-a", finished[1])
    assert "No 'runs' table at" in workfolder.what_is_missing(SUITE, "ora-b", finished[1])
    assert not workfolder.is_begun(SUITE, "ora-b", finished[1])


@pytest.mark.parametrize("table", TABLES)
def test_a_run_with_a_table_missing_or_cut_short_is_not_finished(finished, tmp_path, table):
    data = Path(shutil.copytree(finished[1], tmp_path / "data"))
    file = data / "tiny" / table / "ora-a.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    assert f"{file} cannot be read as parquet" in workfolder.what_is_missing(SUITE, "ora-a", data)
    file.unlink()
    assert f"{file}: a parquet file" in workfolder.what_is_missing(SUITE, "ora-a", data)


@pytest.mark.parametrize(
    ("table", "keep", "message"),
    [
        ("quality", "checkpoint != 8", r"lacks the checkpoints \[8\]"),
        ("trajectories", "target == 'own'", r"lacks the checkpoints \[4, 8, 12\]"),
        ("manifest", "checkpoint != 0", r"lacks the checkpoints \[0\]"),
        ("further", "sentence != @further", "has other sentences than the suite's at step 8"),
        (
            "trajectories",
            "not (checkpoint == 4 and target == 'own' and term == 'S')",
            "has .* rows at a checkpoint of target='own', where",
        ),
        ("translations", "checkpoint == 8", r"lacks the checkpoints \[12\]"),
        ("measurements", "sentence != @one", "has other sentences than the suite's at step"),
    ],
)
def test_a_run_with_rows_missing_is_not_finished(finished, tmp_path, long_ago, table, keep, message):
    data = Path(shutil.copytree(finished[1], tmp_path / "data"))
    one = split()[1]["sentence"].iloc[0]
    fewer = long_ago[table].query(keep, local_dict={"one": one, "further": split()[2]["sentence"].iloc[0]})
    assert 0 < len(fewer) < len(long_ago[table])
    tables.write(fewer, data / "tiny" / table / "ora-a.parquet", table)
    assert re.search(message, workfolder.what_is_missing(SUITE, "ora-a", data))


def test_a_run_of_another_recipe_is_not_this_one_finished(finished):
    run = dataclasses.replace(SUITE.runs[0], seeds=Seeds(1, 2, 9))
    assert "says dropout_seed=3, the suite 9" in workfolder.what_is_missing(
        with_block(runs=(run,)), "ora-a", finished[1]
    )
    assert "says block='tried', the suite 'other'" in workfolder.what_is_missing(
        with_block(name="other"), "ora-a", finished[1]
    )
    more = with_block(sentence_checkpoints=STEPS)
    assert "lacks the checkpoints [4]" in workfolder.what_is_missing(more, "ora-a", finished[1])
    fewer = with_block(sentence_checkpoints=(12,))
    assert workfolder.what_is_missing(fewer, "ora-a", finished[1]) is None


# --- what guards weights, and what guards measurements ---


def refuse_training(*arguments, **options):
    raise AssertionError("the weights are there")


@pytest.fixture
def measured(finished, tmp_path, monkeypatch):
    """A work folder in which the first run is trained and measured; training again fails the test."""
    monkeypatch.setattr(training, "train", refuse_training)
    return Path(shutil.copytree(finished[0], tmp_path / "work"))


def test_a_sentence_checkpoint_added_later_is_all_that_is_measured(measured, tmp_path, long_ago, monkeypatch):
    steps, measure = [], measuring.measure_checkpoint
    monkeypatch.setattr(measuring, "measure_checkpoint", lambda *given: steps.append(given[2]) or measure(*given))
    more = with_block(sentence_checkpoints=STEPS)
    whole(more, "ora-a", measured, tmp_path / "data")
    assert steps == [4]
    now = read_all(tmp_path / "data")
    for table in ("translations", "measurements"):
        assert sorted(now[table]["checkpoint"].unique()) == list(STEPS)
        rest = now[table].query("checkpoint > 4").reset_index(drop=True)
        pd.testing.assert_frame_equal(rest, long_ago[table])
    for table in ("runs", "quality", "sentences", "trajectories"):
        pd.testing.assert_frame_equal(now[table], long_ago[table])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"own_tokens": 9}, "own_tokens=10; now 9"),
        ({"held_out": 4}, "held_out_sha256="),
        ({"further": 3}, "further_sha256="),
    ],
    ids=["own_tokens", "held_out", "further"],
)
def test_measured_with_something_else_puts_no_weights_in_question(measured, tmp_path, monkeypatch, change, message):
    other = dataclasses.replace(SUITE, **{name: value for name, value in change.items() if name == "own_tokens"})
    for door, count in change.items() if other == SUITE else ():  # fewer sentences, and the training pairs as before
        fewer = getattr(sentences, door)(SUITE).head(count)
        monkeypatch.setattr(sentences, door, lambda suite, fewer=fewer: fewer)
    before = files_under(measured)
    with pytest.raises(DataError, match=rf"step 4 was measured with {message}.*--again .*checkpoints .* stay"):
        whole(other, "ora-a", measured, tmp_path / "data")
    assert files_under(measured) == before
    assert not (tmp_path / "data").exists()
    scheduling.measure(other, ["ora-a"], measured, tmp_path / "data", cpu=True, again=True)  # as the message says
    assert workfolder.what_is_missing(other, "ora-a", tmp_path / "data") is None


def record() -> dict:
    run = SUITE.runs[0]
    return {
        **dataclasses.asdict(SUITE.recipe),
        **{f"{name}_seed": value for name, value in dataclasses.asdict(run.seeds).items()},
        "condition": "ora",
        "languages": ["ora"],
        "pairs": 80,
        "threads": 1,
        "pairs_sha256": workfolder.sentences_sha256(split()[0]),
        "vocabulary_sha256": "0" * 64,
    }


@pytest.mark.parametrize("entry", ["threads", "pairs_sha256", "init_seed"])
def test_what_a_record_does_not_say_is_not_taken_to_be_equal(measured, tmp_path, entry):
    file = measured / "tiny" / "ora-a" / "run.json"
    said = json.loads(file.read_text())
    del said[entry]
    file.write_text(json.dumps(said))
    with pytest.raises(DataError, match=rf"other {entry} \(\{{'{entry}': 'unknown'\}}"):
        whole(SUITE, "ora-a", measured, tmp_path / "data")


@pytest.mark.parametrize(
    ("entry", "value"),
    [("threads", 2), ("pairs", 40), ("languages", ["ora", "uri"]), ("order_seed", 7), ("dropout_seed", 7)],
)
def test_a_resume_with_anything_else_is_refused_by_name(tmp_path, entry, value):
    workfolder.guard_training(tmp_path, record() | {entry: value}, [])
    with pytest.raises(DataError, match=rf"holds a run trained with other {entry} \(.*left as they are"):
        workfolder.guard_training(tmp_path, record(), [4])


def test_other_training_pairs_are_refused(measured, tmp_path, monkeypatch):
    pairs = split()[0]
    monkeypatch.setattr(sentences, "training_pairs", lambda suite, run: pairs.iloc[::-1])
    with pytest.raises(DataError, match=r"holds a run trained with other pairs_sha256 .*left as they are"):
        whole(SUITE, "ora-a", measured, tmp_path / "data")


def test_another_vocabulary_is_refused(tmp_path):
    workfolder.guard_training(tmp_path, record(), [])
    with pytest.raises(DataError, match="other vocabulary_sha256"):
        workfolder.guard_training(tmp_path, record() | {"vocabulary_sha256": "1" * 64}, [])


def test_a_checkpoint_that_training_has_passed_cannot_be_added(measured, tmp_path):
    recipe = dataclasses.replace(SUITE.recipe, checkpoints=(4, 6, 8, 12))
    before = files_under(measured)
    with pytest.raises(
        DataError, match=r"trained up to step 12, and the weights of step 6 are not in it.*another work"
    ):
        whole(dataclasses.replace(SUITE, recipe=recipe), "ora-a", measured, tmp_path / "data")
    assert files_under(measured) == before


def test_checkpoints_can_be_added_before_training_passes_them_and_dropped_after(tmp_path):
    workfolder.guard_training(tmp_path, record(), [])
    workfolder.guard_training(tmp_path, record() | {"checkpoints": [4, 6, 8, 12]}, [4])
    assert json.loads((tmp_path / "run.json").read_text())["checkpoints"] == [4, 6, 8, 12]
    workfolder.guard_training(tmp_path, record() | {"checkpoints": [8, 12]}, [4, 6, 8, 12])
    with pytest.raises(DataError, match=r"other steps \(\{'steps': 12\}; now \{'steps': 16\}\)"):
        workfolder.guard_training(tmp_path, record() | {"checkpoints": [8, 12, 16]}, [4, 6, 8, 12])


def test_a_spoilt_record_is_named(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run\.json is no record"):
        workfolder.guard_training(tmp_path, record(), [])


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """The work folder of the suite's second run, finished."""
    work = tmp_path_factory.mktemp("stranger")
    whole(SUITE, "ora-b", work, work / "data")
    return work / "tiny" / "ora-b"


def take_weights(folder: Path, other: Path) -> None:
    shutil.copy(other / "checkpoint-8" / "model.safetensors", folder / "checkpoint-8")


def take_all_but_the_name(folder: Path, other: Path) -> None:
    said = (folder / "run.json").read_text()
    shutil.rmtree(folder)
    shutil.copytree(other, folder)
    (folder / "run.json").write_text(said)


def take_measurements(folder: Path, other: Path) -> None:
    shutil.copy(other / "measured" / "8" / "translations.parquet", folder / "measured" / "8")


def say_more(folder: Path, other: Path) -> None:
    said = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(said | {"subwords": "drawn"}))


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (take_weights, r"checkpoint-8/model\.safetensors is not the file"),
        (take_all_but_the_name, r"is the record of run 'ora-b', and stands in .*'ora-a'"),
        (take_measurements, r"step 8: .*translations\.parquet is not the file that was written there"),
        (say_more, r"trained with other subwords \(\{'subwords': 'drawn'\}; now \{'subwords': 'unknown'\}"),
    ],
)
def test_what_is_of_another_run_is_not_measured_as_this_one(finished, stranger, tmp_path, plant, message):
    work = Path(shutil.copytree(finished[0], tmp_path / "work"))
    plant(work / "tiny" / "ora-a", stranger)
    with pytest.raises(DataError, match=message):
        whole(SUITE, "ora-a", work, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("table", [table for table in TABLES if table not in ("sentences", "further_sentences")])
def test_tables_of_another_run_are_not_this_one_finished(finished, tmp_path, long_ago, table):
    data = Path(shutil.copytree(finished[1], tmp_path / "data"))
    tables.write(long_ago[table].assign(run="ora-b"), data / "tiny" / table / "ora-a.parquet", table)
    assert re.search(r"holds rows of \['ora-b'\]|says run='ora-b'", workfolder.what_is_missing(SUITE, "ora-a", data))


def test_a_checkpoint_that_the_recipe_drops_later_stays_a_link_of_the_chain(finished, tmp_path):
    work = Path(shutil.copytree(finished[0], tmp_path / "work"))
    recipe = dataclasses.replace(SUITE.recipe, checkpoints=(8, 12))
    fewer = dataclasses.replace(SUITE, recipe=recipe, keep_states=(0,))
    whole(fewer, "ora-a", work, tmp_path / "data")
    assert workfolder.what_is_missing(fewer, "ora-a", tmp_path / "data") is None

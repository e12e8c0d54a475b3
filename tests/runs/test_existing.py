"""Models that exist: a suite is made of folders or names, and measured as trained runs are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

import addends
from addends import tables
from addends.cli import main
from addends.errors import DataError, InputError
from addends.runs import existing, job, read_suite, scheduling, sentences, vocabulary, workfolder
from tests.conftest import SOURCES, TARGETS

STEPS = (5, 40, 300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_marian, tokenizer) -> Path:
    """Three checkpoints of one run, one model of another run, and a test set."""
    folder = tmp_path_factory.mktemp("models") / "déjà là"
    for seed, place in enumerate([*(f"one/checkpoint-{step}" for step in STEPS), "two"]):
        make_marian(seed=seed).save_pretrained(folder / place)
        tokenizer.save_pretrained(folder / place)
    pairs = zip(SOURCES, TARGETS, strict=True)
    (folder / "test.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in pairs))
    return folder


FILE = """
held_out: {language: fra, file: test.tsv, sentences: 3, seed: 1}
own_tokens: 12
models:
  - run: one
    pattern: one/checkpoint-*
    condition: small
  - run: two
    model: two
    step: 300
"""


def written(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def file(folder) -> Path:
    return written(folder, FILE)


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """The suite, and the work and data folder in which the command has measured it."""
    place, path = tmp_path_factory.mktemp("measured"), written(folder, FILE, "mine.yaml")
    arguments = ["measure", str(path), "--cpu", "--workers", "1", "--work", f"{place}/work", "--data", f"{place}/data"]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    return read_suite(path), place / "work", place / "data"


def test_the_steps_come_from_the_names_of_the_folders(file, folder):
    suite = read_suite(file)
    assert [run.name for run in suite.runs] == ["one", "two"]
    assert [run.condition.name for run in suite.runs] == ["small", "fra"]
    assert [suite.checkpoints_of(run) for run in suite.runs] == [STEPS, (300,)]
    for step in STEPS:
        source = (folder / f"one/checkpoint-{step}", None)
        assert suite.source_of(suite.run("one"), step, Path("work")) == source
    (block,) = suite.blocks
    assert (block.name, block.sentence_checkpoints, block.own_checkpoints) == ("models", STEPS, (300,))


def test_a_name_on_the_hub_has_its_revision_and_blocks_say_what_is_measured(folder):
    text = FILE.replace("model: two\n", "model: Helsinki-NLP/opus-mt-fr-en\n    revision: abc\n    block: hub\n")
    suite = read_suite(
        written(folder, text + "blocks: {models: {sentence_checkpoints: [40, 300], own_checkpoints: []}}")
    )
    assert suite.source_of(suite.run("two"), 300, Path("work")) == ("Helsinki-NLP/opus-mt-fr-en", "abc")
    told = [(block.name, block.sentence_checkpoints, block.own_checkpoints) for block in suite.blocks]
    assert told == [("models", (40, 300), ()), ("hub", (300,), (300,))]


def test_what_exists_is_measured_into_every_table_and_is_then_finished(finished):
    suite, work, data = finished
    for run in suite.runs:
        assert workfolder.what_is_missing(suite, run.name, data) is None
    assert not list(work.rglob("checkpoint-*"))
    runs = tables.read_suite(data / "mine", "runs").set_index("run")
    assert runs["lineage"].tolist() == ["none", "none"]
    assert runs[["layers", "dim", "steps"]].to_numpy().tolist() == [[2, 32, 300]] * 2
    assert runs[["init_seed", "order_seed", "dropout_seed", "pairs"]].isna().all(axis=None)
    measured = tables.read_suite(data / "mine", "measurements")
    cells = measured[["run", "checkpoint", "target"]].drop_duplicates().itertuples(index=False, name=None)
    assert set(cells) == {
        *(("one", step, "reference") for step in STEPS),
        ("two", 300, "reference"),
        ("one", 300, "own"),
        ("two", 300, "own"),
    }
    trajectories = tables.read_suite(data / "mine", "trajectories")
    assert sorted(trajectories.query("run == 'one'")["checkpoint"].unique()) == list(STEPS)


def test_each_number_is_that_of_its_own_model(finished, folder):
    suite, _, data = finished
    stored = tables.read_suite(data / "mine", "measurements").query("target == 'reference'")
    held_out = sentences.held_out(suite)
    assert len(held_out) == 3
    for run, step, place in (("one", 5, "one/checkpoint-5"), ("one", 300, "one/checkpoint-300"), ("two", 300, "two")):
        model, own = addends.load(folder / place)
        direct = addends.measure(model, own, held_out["source"].tolist(), held_out["target"].tolist(), progress=False)
        direct["sentence"] = held_out["sentence"].to_numpy()[direct["sentence"]]
        rows = stored[(stored["run"] == run) & (stored["checkpoint"] == step)]
        both = direct.merge(rows, on=["sentence", "layer", "by", "term"], suffixes=("", "_stored"))
        assert len(both) == len(direct) == len(rows)
        for name in tables.INDICATORS:
            pd.testing.assert_series_equal(
                both[name], both[f"{name}_stored"], check_names=False, check_dtype=False, rtol=1e-4, atol=1e-5
            )


def test_the_lengths_are_counted_by_the_first_models_tokenizer(finished, tokenizer):
    suite, _, data = finished
    stored = tables.read_suite(data / "mine", "sentences").set_index("sentence")
    for row in sentences.held_out(suite).itertuples():
        lengths = (len(tokenizer(row.source)["input_ids"]), len(tokenizer(text_target=row.target)["input_ids"]))
        assert tuple(stored.loc[row.sentence, ["source_tokens", "target_tokens"]]) == lengths


def test_other_models_under_the_same_names_are_refused(finished, folder):
    _, work, data = finished
    swapped = read_suite(written(folder, FILE.replace("model: two", "model: one/checkpoint-5"), "mine.yaml"))
    with pytest.raises(DataError, match=r"step 300 was measured with weights=.* now "):
        scheduling.measure(swapped, ["two"], work, data, cpu=True)


def test_models_that_were_altered_since_are_named_by_the_status(folder, finished, tmp_path, capsys):
    _, work, data = finished
    moved = shutil.copytree(folder, tmp_path / "moved")
    shutil.copy(moved / "two" / "model.safetensors", moved / "one" / "checkpoint-40")
    with pytest.raises(SystemExit) as ended:
        main(["status", str(written(moved, FILE)), "--work", str(work), "--data", str(data)])
    said = capsys.readouterr()
    assert ended.value.code == 1
    assert "1 fault(s)" in said.err
    assert "one, step 40 (stale): run 'one', step 40 was measured with weights=" in said.err


def test_a_folder_above_the_suite_may_read_like_a_pattern(folder, tmp_path, monkeypatch):
    moved = Path(shutil.copytree(folder, tmp_path / "runs [old]"))
    text = FILE.split("  - run: two")[0]
    assert len(read_suite(written(moved, text)).models) == len(STEPS)
    monkeypatch.setenv("ADDENDS_DATA", str(moved))
    assert len(read_suite(written(moved, text.replace("one/", "$ADDENDS_DATA/one/"))).models) == len(STEPS)


def test_there_is_nothing_to_ship(finished):
    suite, work, data = finished
    with pytest.raises(InputError, match="of models that exist: there is none of its own to ship"):
        job.ship(suite, "one", work, data)


@pytest.mark.parametrize(("pieces", "message"), [(40, "knows 40 tokens, the model embeds 45"), (50, "knows 50 tokens")])
def test_a_tokenizer_of_another_size_is_refused(folder, tmp_path, pieces, message):
    place = Path(shutil.copytree(folder, tmp_path / "copy")) / "two"
    other = vocabulary.train([*SOURCES, *TARGETS], tmp_path / "other", pieces, byte_fallback=False)
    other.save_pretrained(place)
    suite = read_suite(written(place.parent, FILE))
    with pytest.raises(InputError, match=message):
        scheduling.measure(suite, ["two"], tmp_path / "work", tmp_path / "data", cpu=True)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("kind", ["pad", "eos"])
def test_a_tokenizer_with_other_special_symbols_is_refused(make_marian, tokenizer, kind):
    model = make_marian(seed=0)
    setattr(model.config, f"{kind}_token_id", 7)
    with pytest.raises(
        InputError, match=rf"'here': {kind}_token_id=\d+ in the tokenizer there, 7 in the model's config"
    ):
        existing.refuse_foreign_tokenizer(model, tokenizer, "here")


WRONG = {
    "neither": ("    model: two\n", "", "models[1]", "one of the keys model .* and pattern"),
    "no folder": ("model: two", "model: ./three", "models[1].model", r"there is no folder './three'"),
    "no match": ("one/checkpoint-*", "one/step-*", "models[0].pattern", "'one/step-\\*' finds no folder"),
    "no number": ("one/checkpoint-*", "tw*", "models[0].pattern", "in whose name there is no number for the step"),
    "revision of a folder": ("model: two", "model: two\n    revision: main", "models[1].revision", "has no revisions"),
    "step of a pattern": ("    condition: small", "    step: 3", "models[0]", "the step comes from each folder's name"),
    "step twice": (
        "run: two",
        "run: one\n    condition: small",
        "models[1]",
        "step 300 of the run 'one' is given twice",
    ),
    "another condition": (
        "run: two",
        "run: one",
        "models[1]",
        "stands above in another block, or under another condition",
    ),
    "block of no model": ("own_tokens", "blocks: {hub: {}}\nown_tokens", "blocks.hub", r"Theirs are \['models'\]"),
    "recipe": ("own_tokens", "recipe: {dim: 3}\nown_tokens", "recipe", "no such key is known"),
    "no file": (" file: test.tsv,", "", "held_out", "the key 'file' is missing"),
    "step": (
        "own_tokens",
        "blocks: {models: {sentence_checkpoints: [7, 300]}}\nown_tokens",
        "blocks.models.sentence_checkpoints[0]",
        "given is 7, which is no checkpoint",
    ),
    "run without": (
        "own_tokens",
        "blocks: {models: {sentence_checkpoints: [40]}}\nown_tokens",
        "blocks.models.sentence_checkpoints",
        "at none of which the run 'two' has a model",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_models_is_named_by_line(folder, case):
    old, new, key, message = WRONG[case]
    assert FILE.count(old) == 1
    path = written(folder, FILE.replace(old, new), "wrong.yaml")
    with pytest.raises(InputError, match=message) as caught:
        read_suite(path)
    assert str(caught.value).startswith(str(path))
    assert f", {key}: " in str(caught.value)


def test_there_is_nothing_to_train(finished):
    suite, work, _ = finished
    with pytest.raises(InputError, match="'mine' is of models that exist: there is nothing to train"):
        scheduling.train(suite, ["one"], work)


def test_finished_tables_of_another_setting_are_not_passed_over(folder, finished, capsys):
    _, work, data = finished
    longer = written(folder, FILE.replace("own_tokens: 12", "own_tokens: 11"))
    with pytest.raises(SystemExit) as ended:
        main(["measure", str(longer), "--work", str(work), "--data", str(data)])
    written(folder, FILE)
    assert ended.value.code == 1
    assert "was measured with own_tokens=12; now 11 (and 3 more). --again measures anew" in capsys.readouterr().err


def test_a_sentence_that_a_model_cannot_read_is_named_with_run_and_step(folder, tmp_path):
    moved = Path(shutil.copytree(folder, tmp_path / "moved"))
    for text, message in (("x", r"own_tokens=12000: "), (f"{SOURCES[0]} " * 3000, r"'test-000001' \(source\) has ")):
        (moved / "test.tsv").write_text(f"{text}\tone\n")
        tokens = "12000" if text == "x" else "12"
        suite = read_suite(
            written(moved, FILE.replace("sentences: 3", "sentences: 1").replace(": 12\n", f": {tokens}\n"))
        )
        with pytest.raises(InputError, match=rf"run 'two', step 300, of the suite 'mine': {message}"):
            job.measure(suite, "two", 300, tmp_path / "work", cpu=True)

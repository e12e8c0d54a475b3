"""Runs two by two: what the table says is what the arrays give; twins, other vocabularies, what is there already."""

from __future__ import annotations

import dataclasses
import errno
import shutil

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from scipy import stats

import addends
from addends import tables
from addends.errors import DataError, InputError
from addends.interventions import STATE, token_vectors
from addends.interventions.spaces import debiased_cka, permuted_within, procrustes_distance, without_type_means
from addends.runs import comparing, sentences, training
from addends.runs.suite import Sample
from tests.conftest import MADE_UP
from tests.runs import tiny_suite
from tests.runs.tiny_suite import SUITE

WIDER = dataclasses.replace(SUITE, held_out=Sample("ora", 40))
"""More sentences than the runs were trained beside: groups of sentences are to have rows."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    tiny_suite.train(folder / "work", folder / "trained")
    return folder


@pytest.fixture(scope="module")
def pairs(trained):
    names = [run.name for run in WIDER.runs]
    return tables.read(comparing.compare(WIDER, names, 12, trained / "work", trained / "data"), "run_pairs")


def vectors_of(trained, name, step=12):
    model, tokenizer = addends.load(trained / "work" / "tiny" / name / f"checkpoint-{step}")
    held_out = sentences.held_out(WIDER)
    return token_vectors(model, tokenizer, list(held_out["source"]), list(held_out["target"]), progress=False)


def test_every_pair_layer_term_and_kind_of_rows_is_there(pairs):
    found = pairs[["a", "b", "b_checkpoint"]].drop_duplicates().to_numpy().tolist()
    assert found == [["a", "b", 12], ["a", "c", 12], ["b", "c", 12], ["a", "a", 9], ["b", "b", 9], ["c", "c", 9]]
    assert len(pairs) == 6 * 2 * 9 * 3
    assert pairs.loc[pairs["kl"].notna(), ["by", "layer", "rows"]].drop_duplicates().to_numpy().tolist() == [
        ["state", 1, "all"]
    ]


def test_a_row_is_what_the_arrays_give(pairs, trained):
    one, two = (vectors_of(trained, name) for name in "ab")
    place, layer = one.names.index(("token", "S")), 1
    x, y = one.vectors[layer, place], two.vectors[layer, place]
    rows = pairs.query("a == 'a' and b == 'b' and layer == 1 and by == 'token' and term == 'S'").set_index("rows")
    order = permuted_within(one.labels, np.random.default_rng(0))
    expected = {
        "all": (x, y),
        "within types": tuple(without_type_means(each, one.labels)[0] for each in (x, y)),
        "permuted": (x, y[order]),
    }
    for kind, both in expected.items():
        assert rows.loc[kind, "cka"] == pytest.approx(debiased_cka(*both), rel=1e-5)
        assert rows.loc[kind, "procrustes"] == pytest.approx(procrustes_distance(*both), rel=1e-5)
    means = []
    for each in (one, two):
        part, state = (each.vectors[layer, where].astype("float64") for where in (place, -1))
        importance = (part * state).sum(axis=1) / np.square(state).sum(axis=1)
        means.append([importance[each.sentences == sentence].mean() for sentence in range(40)])
    assert rows.loc["all", "importance"] == pytest.approx(stats.spearmanr(*means).statistic, abs=1e-3)


def test_a_run_is_nearer_to_its_checkpoint_before_than_to_another_run(pairs):
    last = pairs[(pairs["term"] == STATE) & (pairs["layer"] == 1) & (pairs["rows"] == "all")]
    itself = last["a"] == last["b"]
    assert last.loc[itself, "cka"].min() > last.loc[~itself, "cka"].max()


def test_a_twin_is_the_same_space(trained):
    work = trained / "twins"
    shutil.copytree(trained / "work" / "tiny" / "vocabulary", work / "tiny" / "vocabulary")
    for name in "ab":
        shutil.copytree(trained / "work" / "tiny" / "a", work / "tiny" / name)
    frame = tables.read(
        comparing.compare(WIDER, ["a", "b"], 12, work, trained / "twin_data", rows=["all"]), "run_pairs"
    )
    twins = frame[(frame["a"] == "a") & (frame["b"] == "b")]
    np.testing.assert_allclose(twins["cka"].dropna(), 1, atol=1e-6)
    np.testing.assert_allclose(twins["procrustes"].dropna(), 0, atol=1e-3)
    np.testing.assert_allclose(twins["importance"].dropna(), 1, atol=1e-6)
    assert twins["kl"].max() == 0


def test_a_first_layers_input_agrees_about_no_sentence(pairs):
    """All of it is its input: what differs between sentences is rounding, and no agreement is read from it."""
    first = pairs[(pairs["layer"] == 0) & (pairs["term"] == "I") & (pairs["rows"] == "all")]
    assert first["importance"].isna().all()
    assert first["distance"].isna().all()


def test_what_is_there_is_left_alone_and_other_runs_do_not_replace_it(trained, pairs, capsys):
    file = trained / "data" / "tiny" / "run_pairs" / "12.parquet"
    before = file.stat().st_mtime_ns
    assert comparing.compare(WIDER, ["a", "b"], 12, trained / "work", trained / "data") == file
    assert file.stat().st_mtime_ns == before
    other = dataclasses.replace(
        WIDER,
        blocks=(
            dataclasses.replace(WIDER.blocks[0], runs=(*WIDER.runs, dataclasses.replace(WIDER.runs[0], name="d"))),
        ),
    )
    with pytest.raises(DataError, match="--again"):
        comparing.compare(other, ["a", "d"], 12, trained / "work", trained / "data")
    assert not (trained / "work" / "tiny" / ".compared").exists()


def test_a_table_of_fewer_kinds_of_rows_or_of_other_weights_or_seed_is_not_taken_for_done(trained, tmp_path):
    shutil.copytree(trained / "work", tmp_path / "work")
    given = (WIDER, ["a", "b"], 12, tmp_path / "work", tmp_path / "data")
    comparing.compare(*given, ("all",))
    comparing.compare(*given, ("all",))
    with pytest.raises(DataError, match=r"compares \['all'\], and \['all', 'permuted'\] are asked for. --again"):
        comparing.compare(*given, ("all", "permuted"))
    with pytest.raises(DataError, match="was made otherwise: the seed, then 0, now 7"):
        comparing.compare(*given, ("all",), seed=7)
    tiny_suite.change_a_weight(tmp_path / "work" / "tiny" / "b" / "checkpoint-12")
    with pytest.raises(DataError, match="was made otherwise: the weights of 'b' at step 12"):
        comparing.compare(*given, ("all",))
    comparing.compare(*given, ("all",), again=True)
    comparing.compare(*given, ("all",))


def test_a_block_has_a_table_of_its_own(trained, pairs, tmp_path):
    block = WIDER.blocks[0].name
    given = (WIDER, ["a", "b"], 12, trained / "work", tmp_path, ("all",))
    file = comparing.compare(*given, block=block)
    assert file.name == f"{block}-12.parquet"
    expected = pairs[(pairs["rows"] == "all") & pairs["a"].isin(["a", "b"]) & pairs["b"].isin(["a", "b"])]
    found = tables.read(file, "run_pairs")
    pd.testing.assert_frame_equal(
        found.sort_values(tables.key("run_pairs"), ignore_index=True),
        expected.sort_values(tables.key("run_pairs"), ignore_index=True),
        check_dtype=False,
    )
    with pytest.raises(InputError, match=r"\['a', 'b'\] are not of the block 'other'"):
        comparing.compare(*given, block="other")


def test_pairs_that_a_blocks_table_has_are_not_written_twice(trained, tmp_path):
    given = (WIDER, ["a", "b"], 9, trained / "work", tmp_path, ("all",))
    comparing.compare(*given, block=WIDER.blocks[0].name)
    with pytest.raises(DataError, match=r"tried-9.parquet compares \['a', 'b'\] at step 9 already"):
        comparing.compare(*given)
    tables.read(tmp_path / "tiny" / "run_pairs", "run_pairs")


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_loaded(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(comparing, "_write_vectors", None)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is no folder"):
        comparing.compare(WIDER, ["a", "b"], 12, trained / "work", tmp_path / "file")


def test_what_a_killed_process_left_goes_and_a_living_one_is_not_disturbed(trained, tmp_path):
    left = trained / "work" / "tiny" / ".compared"
    left.mkdir()
    (left / "a@12.npy").write_text("half a file")
    given = (WIDER, ["a", "b"], 12, trained / "work", tmp_path, ("all",))
    with FileLock(left.with_name(".compared.claim")), pytest.raises(DataError, match="another process compares"):
        comparing.compare(*given)
    assert left.exists()
    comparing.compare(*given)
    assert not left.exists()


def test_runs_with_different_vocabularies_are_refused_by_name(trained, tmp_path):
    from addends.runs import vocabulary

    work = tmp_path / "work"
    shutil.copytree(trained / "work" / "tiny", work / "tiny")
    tokenizer = vocabulary.train(MADE_UP, tmp_path / "other", 45, byte_fallback=False)
    with training.seeded(3):
        model = training.new_model(WIDER.recipe, tokenizer, 3)
    model.save_pretrained(work / "tiny" / "b" / "checkpoint-12")
    tokenizer.save_pretrained(work / "tiny" / "b" / "checkpoint-12")
    with pytest.raises(InputError, match="'a' and 'b' have different vocabularies"):
        comparing.compare(WIDER, ["a", "b"], 12, work, tmp_path / "data")


def test_bad_input(trained, tmp_path):
    with pytest.raises(InputError, match="two runs or more"):
        comparing.compare(WIDER, ["a", "a"], 12, trained / "work", tmp_path)
    with pytest.raises(DataError, match="train the run first"):
        comparing.compare(WIDER, ["a", "b"], 12, tmp_path / "empty", tmp_path)
    with pytest.raises(InputError, match="step"):
        comparing.compare(WIDER, ["a", "b"], 13, trained / "work", tmp_path)


def test_a_full_disk_is_said_with_what_it_takes(trained, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(comparing.np, "save", full)
    with pytest.raises(DataError, match=r"a@12.npy could not be written \(No space left on device\): it takes \d+ MiB"):
        comparing.compare(WIDER, ["a", "b"], 12, trained / "work", tmp_path, ("all",))
    assert not (trained / "work" / "tiny" / ".compared").exists()

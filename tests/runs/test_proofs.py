"""What the seeds say of a run is drawn again; another seed, another order or a gap in the chain is told by its step."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from addends import tables
from addends.errors import DataError
from addends.runs import lineage, proofs, sentences
from addends.runs.suite import Suite
from tests.runs.tiny_suite import SUITE, change_a_weight, digest_again, edit, train

pytestmark = pytest.mark.slow
CLAIMS = ["start", "chain", "order"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train(folder / "work", folder / "data")
    return folder


@pytest.fixture(scope="module")
def vocabulary(trained):
    return sentences.tokenizer(SUITE, trained / "work" / "tiny" / "vocabulary")


@pytest.fixture
def manifest(trained) -> pd.DataFrame:
    return tables.read_suite(trained / "data" / "tiny", "manifest", ["a"])


def with_seeds(**seeds: int) -> Suite:
    """The suite, its first run said to have other seeds."""
    (block,) = SUITE.blocks
    first, *others = block.runs
    return replace(SUITE, blocks=(replace(block, runs=(replace(first, seeds=replace(first.seeds, **seeds)), *others)),))


# --- identities ---


def test_every_claim_holds_of_every_run(trained, vocabulary):
    for run in SUITE.runs:
        frame = proofs.prove(SUITE, run.name, trained / "work", vocabulary)
        assert frame["claim"].tolist() == CLAIMS
        assert frame["holds"].all()
        assert frame["checkpoint"].isna().all()


def test_the_table_alone_proves_the_same_where_the_weights_are_gone(tmp_path, vocabulary, manifest):
    frame = proofs.prove(SUITE, "a", tmp_path, vocabulary, manifest)
    assert frame["holds"].all()
    assert "the file has the recorded digest" in frame["words"][0]


def test_the_file_of_a_start_drawn_again_has_the_digest_of_the_trainers(trained, vocabulary, manifest):
    assert proofs.drawn_sha256(SUITE, SUITE.run("a"), vocabulary) == manifest["weights"][0]


# --- what does not hold ---


@pytest.mark.parametrize(("weights", "words"), [(True, "draws other weights"), (False, "another digest")])
def test_another_init_seed_is_told_at_step_0(trained, tmp_path, vocabulary, manifest, weights, words):
    frame = proofs.prove(with_seeds(init=8), "a", trained / "work" if weights else tmp_path, vocabulary, manifest)
    assert frame["holds"].tolist() == [False, True, True]
    assert frame["checkpoint"][0] == 0
    assert words in frame["words"][0]


def test_another_order_seed_is_told_at_the_first_step(trained, vocabulary):
    frame = proofs.prove(with_seeds(order=8), "a", trained / "work", vocabulary)
    assert frame["holds"].tolist() == [True, True, False]
    assert frame["checkpoint"][2] == 3
    assert "order seed 8 draws other batches up to step 3" in frame["words"][2]


def test_the_first_broken_link_is_told(trained, vocabulary, manifest):
    frame = proofs.prove(SUITE, "a", trained / "work", vocabulary, manifest[manifest["checkpoint"] != 6])
    assert frame["holds"].tolist() == [True, False, True]
    assert frame["checkpoint"][1] == 9


def test_one_weight_by_one_bit_is_another_start(trained, tmp_path, vocabulary):
    work = Path(shutil.copytree(trained / "work", tmp_path / "work"))
    change_a_weight(work / "tiny" / "a" / "checkpoint-0")
    digest_again(work / "tiny" / "a" / "checkpoint-0")
    frame = proofs.prove(SUITE, "a", work, vocabulary)
    assert frame["holds"].tolist() == [False, False, True]


def test_a_start_drawn_on_another_machine_may_be_rounded_otherwise(trained, tmp_path, vocabulary, manifest):
    elsewhere = manifest.assign(instructions="none")
    work = Path(shutil.copytree(trained / "work", tmp_path / "work"))
    start = work / "tiny" / "a" / "checkpoint-0"
    change_a_weight(start)  # its last bit alone
    digest_again(start)
    edit(start / "lineage.json", instructions="none")
    frame = proofs.prove(SUITE, "a", work, vocabulary)
    assert frame["holds"][0]
    assert "but for rounding" in frame["words"][0]
    other = proofs.prove(with_seeds(init=8), "a", work, vocabulary)
    assert not other["holds"][0]
    unknown = proofs.prove(with_seeds(init=8), "a", tmp_path / "nothing", vocabulary, elsewhere)
    assert pd.isna(unknown["holds"][0])


# --- bad input ---


def test_digests_of_weights_alone_prove_nothing(trained, vocabulary, manifest):
    with pytest.raises(DataError, match="no chain of records"):
        proofs.prove(SUITE, "a", trained / "work", vocabulary, manifest.assign(previous=pd.NA))
    with pytest.raises(DataError, match="no chain of records"):
        proofs.prove(SUITE, "b", trained / "work", vocabulary, manifest)
    with pytest.raises(DataError, match="is no record"):
        proofs.prove(SUITE, "a", trained / "nothing", vocabulary)


def test_weights_of_other_shapes_are_named(trained, vocabulary):
    wider = replace(SUITE, recipe=replace(SUITE.recipe, dim=32))
    frame = proofs.prove(wider, "a", trained / "work", vocabulary)
    assert "other shapes or names" in frame["words"][0]


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_of_this_process_do_not_make_it_another_machine(monkeypatch, threads):
    """Training has one thread; whoever asks may have any number."""
    record = lineage.machine() | {"threads": 1}
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert proofs.is_here(record)
    assert not proofs.is_here(record | {"torch": "another"})

"""The suites: what they promise holds."""

from __future__ import annotations

import dataclasses
import pickle
import re
from itertools import product
from pathlib import Path

import pandas as pd
import pytest

from addends.errors import InputError
from addends.runs import SUITES, Block, Condition, Run, Seeds, european, training
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

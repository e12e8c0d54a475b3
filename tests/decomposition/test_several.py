"""Several models on the same sentences: each measured as by itself, and models that cannot be compared are named."""

from __future__ import annotations

import re
import shutil

import pandas as pd
import pytest

import addends
from addends.decomposition import measure_models
from addends.errors import InputError
from tests.conftest import SOURCES, TARGETS


@pytest.fixture(scope="module")
def folders(tmp_path_factory, make_marian, tokenizer) -> dict[str, str]:
    place = tmp_path_factory.mktemp("several")
    for name, options in {"one": {"seed": 1}, "two": {"seed": 2}, "deep": {"seed": 1, "layers": 3}}.items():
        make_marian(**options).save_pretrained(place / name)
        tokenizer.save_pretrained(place / name)
    shutil.copytree(place / "one", place / "again")
    return {name: str(place / name) for name in ("one", "two", "deep", "again")}


def test_each_model_is_measured_as_by_itself(folders):
    names = [folders["two"], folders["one"]]
    found = measure_models(names, SOURCES, TARGETS, progress=False)
    assert list(found["model"].unique()) == names
    assert found["weights"].str.fullmatch(r"[0-9a-f]{64}").all()
    for name in names:
        alone = addends.measure(*addends.load(name), SOURCES, TARGETS, progress=False)
        mine = found[found["model"] == name].drop(columns=["model", "weights"]).reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, alone)


def test_one_model_under_two_names_is_named(folders):
    with pytest.raises(InputError, match=r"one' and '.*again' have the same weights"):
        measure_models([folders["one"], folders["two"], folders["again"]], SOURCES, TARGETS, progress=False)


def test_models_of_other_sizes_are_named(folders):
    with pytest.raises(InputError, match=r"one' and '.*deep' differ in kind: 2 and 3 layers"):
        measure_models([folders["one"], folders["deep"]], SOURCES, TARGETS, progress=False)


@pytest.mark.parametrize("names", [[], ["one"], ["one", "one"]])
def test_two_different_models_are_wanted(names):
    with pytest.raises(InputError, match=re.escape(f"names={names}: two different models or more are wanted")):
        measure_models(names, SOURCES, TARGETS)

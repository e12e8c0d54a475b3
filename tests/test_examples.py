"""The examples in the docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

import addends
from addends.decomposition.capture import capture
from tests.test_rooms import FILES, ROOT

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
WITH_EXAMPLES = [name for name, file in FILES.items() if ">>> " in file.read_text(encoding="utf-8")]


@pytest.fixture(scope="module")
def known():
    """What examples of the decomposition take as given: the book's model, and one sentence that it has read."""
    model, tokenizer = addends.load(ROOT / "data" / "european" / "checkpoint")
    batch = addends.encode(model, tokenizer, ["Il pleut."], ["It is raining."])
    return {
        "addends": addends,
        "model": model,
        "tokenizer": tokenizer,
        "batch": batch,
        "record": capture(model, batch),
    }


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module_give_what_they_say(name, known):
    results = doctest.testmod(importlib.import_module(name), extraglobs=known, optionflags=OPTIONS)
    assert results.attempted > 0
    assert results.failed == 0

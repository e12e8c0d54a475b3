"""The pairs are the single tokens' parts of `decompose`, and with the rest of the parts they sum to one."""

from __future__ import annotations

import pytest

import addends
from addends.decomposition import pairs
from addends.decomposition.pairs import state_by_input
from addends.errors import InputError, UnsupportedModelError
from tests.decomposition.small_models import batch_for, make


def of_decompose(model, batch, sentence, **options):
    """The same rows from all parts of all layers, by the places that they have in the padded batch."""
    parts = addends.decompose(model, batch, by="token", tokens="each", **options)
    frame = addends.indicators(parts).query(f"layer == layer.max() and sentence == {sentence}")
    side = parts.terms[0][0]
    places = [f"{side}{place}" for place, real in enumerate(batch.attention_mask[sentence]) if real]
    frame = frame[frame["term"].isin(places)].assign(source=lambda rows: rows["term"].map(places.index))
    frame["position"] = frame["position"].rank(method="dense").astype(int) - 1
    return frame.sort_values(["position", "source"], ignore_index=True)


@pytest.mark.parametrize("sentence", [0, 1])
@pytest.mark.parametrize(("name", "left"), [("marian", False), ("t5", False), ("bert", False), ("llama", True)])
def test_they_are_the_parts_of_single_tokens(name, left, sentence):
    model = make(name)
    batch = batch_for(model, left)
    found, expected = state_by_input(model, batch, sentence), of_decompose(model, batch, sentence)
    assert len(found) == batch.attention_mask[sentence].sum() * batch.mask[sentence].sum()
    for column in ("position", "source"):
        assert (found[column] == expected[column]).all()
    for column in ("importance", "cosine", "norm_ratio", "distance"):
        assert found[column].to_numpy() == pytest.approx(expected[column].to_numpy(), rel=1e-4, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize("name", ["marian", "m2m_100", "roberta", "gpt2"])
def test_they_sum_to_the_grouped_term(name):
    model = make(name)
    batch = batch_for(model)
    parts = addends.decompose(model, batch, by="token")
    grouped = addends.indicators(parts).query(f"layer == layer.max() and sentence == 2 and term == '{parts.terms[0]}'")
    summed = state_by_input(model, batch, 2).groupby("position")["importance"].sum()
    assert summed.to_numpy() == pytest.approx(grouped["importance"].to_numpy(), abs=1e-5)


def test_a_decoder_only_model_has_nothing_from_later_tokens():
    found = state_by_input(make("gpt2"), batch_for(make("gpt2")), 0)
    later = found[found["source"] > found["position"]]
    assert len(later) == 21
    assert (later["importance"] == 0).all()
    assert later["cosine"].isna().all()


def test_through_the_encoder_the_embeddings_are_what_counts():
    model = make("marian")
    batch = batch_for(model)
    through = state_by_input(model, batch, 0, through_encoder=True)
    expected = of_decompose(model, batch, 0, through_encoder=True)
    assert through["importance"].to_numpy() == pytest.approx(expected["importance"].to_numpy(), abs=1e-5)
    assert abs(through["importance"] - state_by_input(model, batch, 0)["importance"]).max() > 0.01


def test_parts_of_inputs_that_are_not_the_rest_of_the_sum_are_refused(monkeypatch):
    model = make("marian")
    inputs = pairs.propagate_inputs
    monkeypatch.setattr(pairs, "propagate_inputs", lambda *a, **k: (each * 1.01 for each in inputs(*a, **k)))
    with pytest.raises(UnsupportedModelError, match="parts of layer 2 do not sum"):
        state_by_input(model, batch_for(model), 0)


def test_the_layers_are_counted_in_a_progress_bar(capsys):
    model = make("marian")
    quiet = state_by_input(model, batch_for(model), 0)
    assert capsys.readouterr().err == ""
    shown = state_by_input(model, batch_for(model), 0, progress=True)
    assert "3/3" in capsys.readouterr().err  # the input of the first layer, and two layers
    assert shown.equals(quiet)


def test_bad_input():
    model = make("bert")
    with pytest.raises(InputError, match="sentence=3: the batch has sentences 0 to 2"):
        state_by_input(model, batch_for(model), 3)
    with pytest.raises(InputError, match="no encoder to go through"):
        state_by_input(model, batch_for(model), 0, through_encoder=True)

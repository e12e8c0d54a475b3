"""BLEU from its parts, the unstable sort, the agreement over training."""

import numpy as np
import pandas as pd
import pytest

from addends.errors import InputError
from addends.replication import checks


def scores(**changes):
    row = {"score": 0.5, "precisions": "0.5 0.5 0.5 0.5", "translation_length": 30, "reference_length": 20}
    return pd.DataFrame([row | changes])


def test_bleu_is_the_geometric_mean_of_precisions_when_the_translation_is_long_enough():
    assert checks.bleu_gap(scores()) == pytest.approx(0)
    assert checks.bleu_gap(scores(precisions="0.8 0.4 0.2 0.1", score=0.0064**0.25)) == pytest.approx(0)
    assert checks.bleu_gap(scores(score=0.4)) == pytest.approx(0.1)


def test_a_short_translation_is_penalised_and_a_precision_of_zero_is_a_score_of_zero():
    assert checks.bleu_gap(scores(translation_length=10, score=0.5 * np.exp(-1))) == pytest.approx(0)
    assert checks.bleu_gap(scores(precisions="0.5 0.5 0.5 0.0", score=0)) == 0


def test_what_the_sort_reverses_is_what_this_machines_sort_reverses():
    order = np.argsort(np.tile(np.arange(7), 2), kind="quicksort")
    expected = [layer for layer in range(7) if order[order % 7 == layer][0] != layer]
    assert checks.reversed_layers(7) == expected
    assert checks.reversed_layers(1) == []
    with pytest.raises(InputError, match="layers=0"):
        checks.reversed_layers(0)


def test_a_stable_sort_reverses_nothing(monkeypatch):
    sort = pd.DataFrame.sort_values
    monkeypatch.setattr(pd.DataFrame, "sort_values", lambda self, by, kind: sort(self, by, kind="stable"))
    assert checks.reversed_layers(7) == []


def test_agreement_is_averaged_over_stretches_that_end_at_their_name():
    frame = pd.DataFrame({"checkpoint": [1000, 50_000, 51_000, 100_000, 1000], "layer": [6, 6, 6, 6, 0]})
    frame = frame.assign(rho=[0.8, 0.6, 0.4, 0.2, 1.0], indicator="cosine", term="S")
    found = checks.agreement_over_training(frame).set_index("until")["rho"]
    assert found.to_dict() == pytest.approx({50_000: 0.7, 100_000: 0.3})

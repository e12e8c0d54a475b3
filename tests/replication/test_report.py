"""The summaries: how close, how many signs, how much is trend; BLEU, the unstable sort, the agreement."""

import numpy as np
import pandas as pd
import pytest

from addends.errors import InputError
from addends.replication import report


def coefficient(run, target, **rhos):
    about = {"run": run, "target": target, "by": "sublayer", "layer": 6, "term": "S", "indicator": "cosine"}
    return about | {"metric": "bleu"} | rhos


def tables():
    rows = [("Russian runs, references", "checkpoint", "S", 2.3), ("Russian runs, own output", "checkpoint", "S", 9.0)]
    rows += [("other runs, own output", "checkpoint", "S", -2.0), ("other runs, own output", "checkpoint", "L1", 1.5)]
    rows += [("sentences", "sentence", "S", t) for t in (0.4, -0.6, 0.5)] + [("sentences", "sentence", "L1", -0.1)]
    levels = ["checkpoint", "sentence"]
    distances = {"targets": ["own", "mixed", "own"], "layer": 6, "gap": [1e-7, 3e-7, np.nan]}
    return {
        "standing": pd.DataFrame(rows, columns=["set", "level", "term", "t"]),
        "pooled": pd.DataFrame({"level": levels, "gap": [2e-16, -3e-16]}),
        "distances": pd.DataFrame(distances | {"pairs": [15, 15, 13], "pairs_released": [15, 14, 0]}),
        "facts": pd.DataFrame({"name": ["bleu_gap", "bleu_scores"], "value": [1e-5, 7.0]}),
    }


def test_every_kind_is_counted_with_its_largest_distance():
    found = report.closeness(tables()).set_index("result")
    assert found["largest"].to_dict() == pytest.approx(
        {
            "checkpoints: single terms": 2.3,  # not the 9 of a target that was not released
            "checkpoints: sum over terms": 1.5,
            "checkpoints: pooled over three runs": 2e-16,
            "sentences: single terms": 0.6,
            "sentences: sum over terms": 0.1,
            "sentences: pooled over three runs": 3e-16,
            "distances, first version": 1e-7,
            "distances, final version": 3e-7,
            "BLEU from its parts": 1e-5,
        }
    )
    assert found["numbers"].tolist() == [2, 1, 1, 3, 1, 1, 15, 14, 7]
    assert found["outside"].dropna().tolist() == [0.5, 0, 0, 0]  # 2.3 is beyond 2.26
    assert found.loc[found["outside"].notna(), "unit"].eq("standard errors").all()
    with_gap = tables()
    with_gap["facts"] = pd.concat([with_gap["facts"], pd.DataFrame({"name": ["normalized_gap"], "value": [1e-6]})])
    row = report.closeness(with_gap).set_index("result").loc["distances, normalised version"]
    assert (row["numbers"], row["largest"]) == (6 * 15, 1e-6)


def test_signs_that_pooling_changes():
    frame = pd.DataFrame({"alone": [0.3, -0.1, -0.2], "as_pooled": [0.3, 0.2, -0.1]})
    assert report.signs_changed_by_pooling(frame).index.tolist() == [1]


def test_trend_counts_own_output_and_signs_on_which_all_runs_agree():
    runs = ("a", "b", "c")
    rows = [coefficient(run, "own", rho_pairs=0.5 + k / 10, rho_late=0.1 - k / 10) for k, run in enumerate(runs)]
    rows += [coefficient("a", "reference", rho_pairs=-0.9, rho_late=-0.9)]
    found = report.trend(pd.DataFrame(rows)).set_index("coefficient")
    assert found["size"].to_dict() == pytest.approx({"rho_pairs": 0.6, "rho_late": 0.1})
    assert found["same_sign"].to_dict() == {"rho_pairs": 1.0, "rho_late": 0.0}


def scores(**changes):
    row = {"score": 0.5, "precisions": "0.5 0.5 0.5 0.5", "translation_length": 30, "reference_length": 20}
    return pd.DataFrame([row | changes])


def test_bleu_is_the_geometric_mean_of_precisions_when_the_translation_is_long_enough():
    assert report.bleu_gap(scores()) == pytest.approx(0)
    assert report.bleu_gap(scores(precisions="0.8 0.4 0.2 0.1", score=0.0064**0.25)) == pytest.approx(0)
    assert report.bleu_gap(scores(score=0.4)) == pytest.approx(0.1)


def test_a_short_translation_is_penalised_and_a_precision_of_zero_is_a_score_of_zero():
    assert report.bleu_gap(scores(translation_length=10, score=0.5 * np.exp(-1))) == pytest.approx(0)
    assert report.bleu_gap(scores(precisions="0.5 0.5 0.5 0.0", score=0)) == 0


def test_what_the_sort_reverses_is_what_this_machines_sort_reverses():
    order = np.argsort(np.tile(np.arange(7), 2), kind="quicksort")
    expected = [layer for layer in range(7) if order[order % 7 == layer][0] != layer]
    assert report.reversed_layers(7) == expected
    assert report.reversed_layers(1) == []
    with pytest.raises(InputError, match="layers=0"):
        report.reversed_layers(0)


def test_a_stable_sort_reverses_nothing(monkeypatch):
    sort = pd.DataFrame.sort_values
    monkeypatch.setattr(pd.DataFrame, "sort_values", lambda self, by, kind: sort(self, by, kind="stable"))
    assert report.reversed_layers(7) == []


def test_agreement_is_averaged_over_stretches_that_end_at_their_name():
    frame = pd.DataFrame({"checkpoint": [1000, 50_000, 51_000, 100_000, 1000], "layer": [6, 6, 6, 6, 0]})
    frame = frame.assign(rho_tokens=[0.8, 0.6, 0.4, 0.2, 1.0], indicator="cosine", term="S")
    found = report.agreement_over_training(frame).set_index("until")["rho_tokens"]
    assert found.to_dict() == pytest.approx({50_000: 0.7, 100_000: 0.3})

"""The summaries: how close, how many signs, how much is trend."""

import numpy as np
import pandas as pd
import pytest

from addends.replication import closeness


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
    found = closeness.closeness(tables()).set_index("result")
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
    row = closeness.closeness(with_gap).set_index("result").loc["distances, normalised version"]
    assert (row["numbers"], row["largest"]) == (6 * 15, 1e-6)


def test_signs_that_pooling_changes():
    frame = pd.DataFrame({"alone": [0.3, -0.1, -0.2], "as_pooled": [0.3, 0.2, -0.1]})
    assert closeness.signs_changed_by_pooling(frame).index.tolist() == [1]


def test_trend_counts_own_output_and_signs_on_which_all_runs_agree():
    runs = ("a", "b", "c")
    rows = [coefficient(run, "own", rho=0.5 + k / 10, rho_late=0.1 - k / 10) for k, run in enumerate(runs)]
    rows += [coefficient("a", "reference", rho=-0.9, rho_late=-0.9)]
    found = closeness.trend(pd.DataFrame(rows)).set_index("coefficient")
    assert found["size"].to_dict() == pytest.approx({"rho": 0.6, "rho_late": 0.1})
    assert found["same_sign"].to_dict() == {"rho": 1.0, "rho_late": 0.0}

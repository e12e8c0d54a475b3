"""Correlation over sentences: pooled over checkpoints and within them."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from addends.errors import InputError
from addends.replication.sentence_level import over_sentences

real = pytest.mark.skipif(
    not (Path(os.environ.get("ADDENDS_DATA") or "/nowhere") / "published").is_dir(),
    reason="ADDENDS_DATA names no folder with published/, the released result files",
)


def items(shift, slope, seed=0, checkpoints=5, sentences=60):
    """Indicator and quality that both move by ``shift`` from checkpoint to checkpoint, and by ``slope`` within one."""
    generator = np.random.default_rng(seed)
    frames = []
    for step in range(checkpoints):
        x = generator.normal(size=sentences)
        q = slope * x + generator.normal(size=sentences)
        about = {"run": "a", "layer": 6, "term": "S", "checkpoint": step, "sentence": np.arange(sentences)}
        frames.append(pd.DataFrame(about | {"importance": x + shift * step, "comet": q + shift * step}))
    return pd.concat(frames, ignore_index=True)


def correlate(data, **arguments):
    return over_sentences(data, "importance", "comet", **arguments)


def test_one_checkpoint_is_pooled_and_within_at_once():
    row = correlate(items(0, 1, checkpoints=1)).iloc[0]
    assert row["rho_within"] == row["rho_pooled"] == row["smallest"] == row["largest"]
    assert np.isnan(row["rho_between"])


def test_what_belongs_to_checkpoints_is_not_taken_for_sentences():
    row = correlate(items(shift=3, slope=0)).iloc[0]
    assert row["rho_pooled"] > 0.8
    assert row["rho_between"] > 0.99
    assert abs(row["rho_within"]) < 0.1


def test_pooling_can_hide_what_is_there_within():
    data = items(shift=3, slope=2)
    data["comet"] -= 2 * 3 * data["checkpoint"]  # now quality falls over checkpoints
    row = correlate(data).iloc[0]
    assert row["rho_within"] > 0.8
    assert row["rho_pooled"] < 0


def test_parity_with_scipy_checkpoint_by_checkpoint():
    data = items(1, 0.5)
    row = correlate(data).iloc[0]
    each = [stats.spearmanr(rows["importance"], rows["comet"]).statistic for _, rows in data.groupby("checkpoint")]
    assert row["rho_within"] == pytest.approx(np.mean(each))
    assert row[["smallest", "largest"]].tolist() == pytest.approx([min(each), max(each)])
    assert row["rho_pooled"] == pytest.approx(stats.spearmanr(data["importance"], data["comet"]).statistic)


def test_rescaling_each_checkpoint_changes_pooled_only():
    data = items(1, 0.5)
    scaled = data.assign(comet=data["comet"] * (1 + data["checkpoint"]) - 100 * data["checkpoint"])
    one, two = correlate(data).iloc[0], correlate(scaled).iloc[0]
    assert one["rho_within"] == pytest.approx(two["rho_within"])
    assert one["rho_pooled"] != pytest.approx(two["rho_pooled"], abs=0.05)


def test_equal_means_are_tied_whatever_order_they_were_added_in():
    x = np.array([[1, 2, 3, 6], [3, 6, 1, 2], [5, 1, 9, 0], [7, 8, 3, 1], [9, 9, 1, 2]])  # two means of 3
    q = np.array([[2, 3, 5, 1], [8, 8, 1, 3], [4, 2, 2, 3], [9, 9, 7, 1], [1, 5, 9, 8]])
    data = items(0, 0, checkpoints=5, sentences=4).assign(importance=x.ravel() / 10, comet=q.ravel() / 10)
    expected = stats.spearmanr(x.sum(axis=1), q.sum(axis=1)).statistic
    assert correlate(data)["rho_between"][0] == pytest.approx(expected, abs=1e-12)


def test_what_is_missing_between_checkpoints_is_said():
    row = correlate(items(1, 0.5, checkpoints=2)).iloc[0]
    assert np.isnan(row["rho_between"])
    assert "rho_between: " in row["note"]
    assert "fewer than 4 checkpoints (2)" in row["note"]
    assert correlate(items(1, 0.5))["note"][0] == ""


def test_undefined_checkpoints_are_counted():
    data = items(1, 0.5)
    data.loc[data["checkpoint"] == 2, "importance"] = 0.3
    data.loc[(data["checkpoint"] == 3) & (data["sentence"] > 2), "comet"] = np.nan
    row = correlate(data).iloc[0]
    assert row["checkpoints"] == 3
    assert row["missing"] == 57
    assert row["note"] == "undefined within 2 of 5 checkpoints"
    empty = correlate(data.assign(importance=1.0)).iloc[0]
    assert empty[["rho_pooled", "rho_within", "rho_between"]].isna().all()


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda d: d.drop(columns="comet"), {}, "no column 'comet'"),
        (lambda d: d.iloc[:0], {}, "no rows"),
        (lambda d: pd.concat([d, d.iloc[[7]]]), {}, "checkpoint=0, sentence=7"),
        (lambda d: d.assign(comet=d["comet"].where(d.index != 9, np.inf)), {}, "from 0: 9"),
        (lambda d: d.assign(sentence=d["sentence"].where(d.index != 9)), {}, "from 0: 9"),
        (lambda d: d, {"by": ["run", "checkpoint"]}, "different columns"),
    ],
)
def test_bad_input(change, arguments, message):
    with pytest.raises(InputError, match=message):
        correlate(change(items(1, 0.5)), **arguments)


@real
def test_the_published_sentence_level_is_confounded_by_checkpoint():
    from addends import replication

    key = ["run", "checkpoint", "sentence"]
    items = replication.measurements().merge(replication.translations()[[*key, "comet"]], on=key)
    chosen = items[(items["by"] == "sublayer") & (items["layer"] == 6) & (items["term"] == "S")]
    found = over_sentences(chosen, "importance", "comet", by="run").set_index("run")
    assert found.loc["rus-eng-s0", "rho_pooled"] == pytest.approx(0.29, abs=0.005)
    assert found.loc["rus-eng-s0", "rho_within"] == pytest.approx(0.08, abs=0.005)
    assert found["rho_within"].abs().max() <= 0.15

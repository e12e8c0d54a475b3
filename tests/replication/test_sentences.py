"""Correlation over sentences: pooled and within checkpoints; over pairs, derived again from a made-up release."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from addends.errors import InputError
from addends.replication import released_tables, sentences
from addends.replication.sentences import correlate_sentences
from tests.replication import miniature
from tests.replication.miniature import real


def drifting(shift, slope, seed=0, checkpoints=5, sentences=60):
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
    return correlate_sentences(data, "importance", "comet", **arguments)


def test_one_checkpoint_is_pooled_and_within_at_once():
    row = correlate(drifting(0, 1, checkpoints=1)).iloc[0]
    assert row["rho_within"] == row["rho_pooled"] == row["smallest"] == row["largest"]
    assert np.isnan(row["rho_between"])


def test_what_belongs_to_checkpoints_is_not_taken_for_sentences():
    row = correlate(drifting(shift=3, slope=0)).iloc[0]
    assert row["rho_pooled"] > 0.8
    assert row["rho_between"] > 0.99
    assert abs(row["rho_within"]) < 0.1


def test_pooling_can_hide_what_is_there_within():
    data = drifting(shift=3, slope=2)
    data["comet"] -= 2 * 3 * data["checkpoint"]  # now quality falls over checkpoints
    row = correlate(data).iloc[0]
    assert row["rho_within"] > 0.8
    assert row["rho_pooled"] < 0


def test_parity_with_scipy_checkpoint_by_checkpoint():
    data = drifting(1, 0.5)
    row = correlate(data).iloc[0]
    each = [stats.spearmanr(rows["importance"], rows["comet"]).statistic for _, rows in data.groupby("checkpoint")]
    assert row["rho_within"] == pytest.approx(np.mean(each))
    assert row[["smallest", "largest"]].tolist() == pytest.approx([min(each), max(each)])
    assert row["rho_pooled"] == pytest.approx(stats.spearmanr(data["importance"], data["comet"]).statistic)


def test_rescaling_each_checkpoint_changes_pooled_only():
    data = drifting(1, 0.5)
    scaled = data.assign(comet=data["comet"] * (1 + data["checkpoint"]) - 100 * data["checkpoint"])
    one, two = correlate(data).iloc[0], correlate(scaled).iloc[0]
    assert one["rho_within"] == pytest.approx(two["rho_within"])
    assert one["rho_pooled"] != pytest.approx(two["rho_pooled"], abs=0.05)


def test_equal_means_are_tied_whatever_order_they_were_added_in():
    x = np.array([[1, 2, 3, 6], [3, 6, 1, 2], [5, 1, 9, 0], [7, 8, 3, 1], [9, 9, 1, 2]])  # two means of 3
    q = np.array([[2, 3, 5, 1], [8, 8, 1, 3], [4, 2, 2, 3], [9, 9, 7, 1], [1, 5, 9, 8]])
    data = drifting(0, 0, checkpoints=5, sentences=4).assign(importance=x.ravel() / 10, comet=q.ravel() / 10)
    expected = stats.spearmanr(x.sum(axis=1), q.sum(axis=1)).statistic
    assert correlate(data)["rho_between"][0] == pytest.approx(expected, abs=1e-12)


def test_what_is_missing_between_checkpoints_is_said():
    row = correlate(drifting(1, 0.5, checkpoints=2)).iloc[0]
    assert np.isnan(row["rho_between"])
    assert "rho_between: " in row["note"]
    assert "fewer than 4 checkpoints (2)" in row["note"]
    assert correlate(drifting(1, 0.5))["note"][0] == ""


def test_undefined_checkpoints_are_counted():
    data = drifting(1, 0.5)
    data.loc[data["checkpoint"] == 2, "importance"] = 0.3
    data.loc[(data["checkpoint"] == 3) & (data["sentence"] > 2), "comet"] = np.nan
    row = correlate(data).iloc[0]
    assert row["checkpoints"] == 3
    assert row["missing"] == 57
    assert row["note"] == "undefined within 2 of 5 checkpoints"
    empty = correlate(data.assign(importance=1.0)).iloc[0]
    assert empty[["rho_pooled", "rho_within", "rho_between"]].isna().all()


# --- the released form, derived again ---


@pytest.fixture(scope="module")
def released():
    return miniature.released()


def test_single_terms_are_derived_with_their_sign_and_in_the_order_of_the_file(released):
    found = sentences.by_term(miniature.items(), released)
    assert len(found) == 3 * 2 * 3 * 4
    theirs = released[released["level"] == "sentence"]
    both = found.merge(theirs, on=sentences.KEY, validate="1:1")
    np.testing.assert_allclose(both["rho_sentence_pairs"], both["mean"], atol=1e-9)
    shuffled = sentences.by_term(miniature.items().sample(frac=1, random_state=0), released)
    pd.testing.assert_frame_equal(found, shuffled)
    other = miniature.items().assign(place=lambda data: (data["place"] * 5) % 12)
    assert (sentences.by_term(other, released)["rho_sentence_pairs"] - found["rho_sentence_pairs"]).abs().max() > 0.02


def test_within_checkpoints_is_that_of_correlate_sentences(released):
    data = miniature.items()
    found = sentences.by_term(data, released).query("indicator == 'cosine'").set_index(["run", "layer", "term"])
    expected = correlate_sentences(data, "cosine", "comet").set_index(["run", "layer", "term"])
    for name in ("rho_pooled", "rho_within", "rho_between"):
        np.testing.assert_allclose(found[name], expected.loc[found.index, name])


def test_without_the_earliest_checkpoint_of_each_run(released):
    data = miniature.items()
    data.loc[data["run"] == "sla-eng", "checkpoint"] += 5000  # its earliest is a late one
    found = sentences.by_term(data, released).query("indicator == 'cosine'").set_index(["run", "layer", "term"])
    first = data["run"].map({"sla-eng": 6000}).fillna(1000)
    rest = correlate_sentences(data[data["checkpoint"] != first], "cosine", "comet").set_index(["run", "layer", "term"])
    np.testing.assert_allclose(found["rho_without_first"], rest.loc[found.index, "rho_pooled"])
    alone = sentences.by_term(data.assign(checkpoint=1000), released)
    assert alone["rho_without_first"].isna().all()


def test_a_file_read_from_its_end_turns_the_signed_sum_alone(released):
    data = miniature.items()
    one = sentences.summed(data, released)
    two = sentences.summed(data.assign(place=11 - data["place"]), released)
    theirs = released[(released["level"] == "sentence") & (released["term"] == "L1")]
    both = one.merge(theirs, on=[name for name in sentences.KEY if name != "term"], validate="1:1")
    np.testing.assert_allclose(both["signed"], both["mean"], atol=1e-9)
    np.testing.assert_allclose(one["signed"], -two["signed"], atol=1e-12)
    np.testing.assert_allclose(one["unsigned"], two["unsigned"], atol=1e-12)
    row = one.query("run == 'sla-eng' and layer == 1 and indicator == 'importance'").iloc[0]
    group = data.query("run == 'sla-eng' and layer == 1").sort_values("place")
    x = group.pivot(index="place", columns="term", values="importance").to_numpy().T
    q = group[group["term"] == "S"]["comet"].to_numpy()
    assert row["unsigned"] == pytest.approx(miniature.by_pairs(x, np.rint(1e4 * q), unsigned=True))


def test_equal_changes_of_comet_tie_also_in_single_precision(released):
    double = miniature.items()
    single = double.astype({"comet": "float32"})
    one, two = (sentences.by_term(data, released)["rho_sentence_pairs"] for data in (double, single))
    np.testing.assert_allclose(one, two, atol=1e-12)


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
        correlate(change(drifting(1, 0.5)), **arguments)


def test_bad_items(released):
    data = miniature.items()
    with pytest.raises(InputError, match="stand more than once: by='token', run='sla-eng', layer=2, term='C', place="):
        sentences.by_term(pd.concat([data, data.iloc[[-1]]]), released)
    with pytest.raises(InputError, match=r"run='rus-eng-s0' has 2 item\(s\); 3 are needed"):
        sentences.summed(data[data["place"] < 2], released)
    with pytest.raises(InputError, match="No released coefficient at sentence level"):
        sentences.summed(data.assign(layer=data["layer"] + 5), released)


@real
def test_the_released_sentence_level_is_confounded_by_checkpoint():
    key = ["run", "checkpoint", "sentence"]
    items = released_tables.measurements().merge(released_tables.translations()[[*key, "comet"]], on=key)
    chosen = items[(items["by"] == "sublayer") & (items["layer"] == 6) & (items["term"] == "S")]
    found = correlate_sentences(chosen, "importance", "comet", by="run").set_index("run")
    assert found.loc["rus-eng-s0", "rho_pooled"] == pytest.approx(0.29, abs=0.005)
    assert found.loc["rus-eng-s0", "rho_within"] == pytest.approx(0.08, abs=0.005)
    assert found["rho_within"].abs().max() <= 0.15

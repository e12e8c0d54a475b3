import numpy as np
import pandas as pd
import pytest

from addends import mixed
from addends.errors import InputError
from addends.statistics.within import split_predictor

PARTS = ["between", "within", "change"]


def crossed(seed=0, sentences=8):
    generator = np.random.default_rng(seed)
    rows = [(r, k, s, t) for t in "ST" for r in "abc" for k in (1, 2) for s in range(sentences)]
    data = pd.DataFrame(rows, columns=["run", "checkpoint", "sentence", "term"])
    data["x"] = generator.normal(size=len(data)) + data["sentence"] * (data["term"] == "S")
    return data.sample(frac=1, random_state=seed)


def test_the_parts_and_the_mean_of_each_run_at_each_checkpoint_are_the_whole():
    data = crossed()
    split = split_predictor(data, "x", by=["term"])
    pd.testing.assert_frame_equal(split[data.columns], data)
    for _, rows in split.groupby("term"):
        spread = rows.groupby("sentence")["x"].mean().std()
        block = rows.groupby(["run", "checkpoint"])["x"].transform("mean")
        np.testing.assert_allclose(spread * rows[PARTS].sum(axis=1) + block, rows["x"], atol=1e-12)
        assert rows.groupby("sentence")["between"].first().std() == pytest.approx(1)
        for part in ("within", "change"):
            for groups in (["sentence"], ["run", "checkpoint"]):
                np.testing.assert_allclose(rows.groupby(groups)[part].mean(), 0, atol=1e-12)
        np.testing.assert_allclose(rows.groupby(["run", "sentence"])["change"].mean(), 0, atol=1e-12)


@pytest.mark.parametrize(("part", "groups"), [("between", ["sentence"]), ("within", ["sentence", "run"])])
def test_a_part_is_one_number_for_each_of_its_cells(part, groups):
    rows = split_predictor(crossed().query("term == 'S'"), "x")
    np.testing.assert_allclose(rows.groupby(groups)[part].transform("first"), rows[part], atol=1e-15)


def test_what_shifts_a_run_or_scales_the_predictor_changes_nothing():
    data = crossed()
    other = data.assign(x=1000 * (data["x"] + 5 * (data["run"] == "b")))
    parts = [split_predictor(each, "x", by=["term"])[PARTS] for each in (data, other)]
    pd.testing.assert_frame_equal(*parts)


def test_what_shifts_a_sentence_changes_between_alone():
    data = crossed()
    data = data[data["term"] == "T"]
    other = data.assign(x=data["x"] + 2 * (data["sentence"] == 3))
    one, two = split_predictor(data, "x"), split_predictor(other, "x")
    ratio = (one["within"] / two["within"]).to_numpy()
    np.testing.assert_allclose(ratio, ratio[0])
    np.testing.assert_allclose(one["change"] / two["change"], ratio[0])
    assert not np.allclose(one["between"], two["between"] * ratio[0])


def test_each_part_finds_its_own_slope():
    """Three different slopes; a model with one slope for two of the parts would report a mixture."""
    data = split_predictor(crossed(seed=3, sentences=60).query("term == 'T'"), "x")
    noise = np.random.default_rng(4).normal(0, 0.1, len(data))
    data["y"] = 3 * data["between"] + 1 * data["within"] - 2 * data["change"] + noise
    fit = mixed.fit("y ~ between + within + change + C(run) + C(checkpoint) + (1|sentence) + (1|run:sentence)", data)
    np.testing.assert_allclose(fit.params[PARTS], [3, 1, -2], atol=0.05)


def test_one_name_is_one_group():
    data = crossed()
    pd.testing.assert_frame_equal(split_predictor(data, "x", by="term"), split_predictor(data, "x", by=["term"]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.iloc[1:], "47 rows are not one for each of 8 levels of 'sentence', 3 of 'run' and 2"),
        (lambda d: pd.concat([d, d.iloc[[1]]]), "49 rows are not"),
        (lambda d: d.assign(x=d["x"].where(d["sentence"] != 2)), "missing or infinite in 12 row"),
        (lambda d: d.assign(x=d["run"].map({"a": 1.0, "b": 2.0, "c": 3.0})), "nothing between them"),
        (lambda d: d[d["checkpoint"] == 1], "each needs two"),
        (lambda d: d.rename(columns={"x": "y"}), "no column 'x'"),
    ],
)
def test_refused(change, words):
    with pytest.raises(InputError, match=words):
        split_predictor(change(crossed()), "x", by=["term"])

import numpy as np
import pandas as pd
import pytest

from addends.errors import InputError
from addends.statistics.within import split_predictor


def crossed(seed=0):
    generator = np.random.default_rng(seed)
    rows = [(r, k, s, t) for t in "ST" for r in "abc" for k in (1, 2) for s in range(8)]
    data = pd.DataFrame(rows, columns=["run", "checkpoint", "sentence", "term"])
    data["x"] = generator.normal(size=len(data)) + data["sentence"] * (data["term"] == "S")
    return data.sample(frac=1, random_state=seed)


def test_the_parts_and_the_blocks_means_are_the_whole():
    data = crossed()
    split = split_predictor(data, "x", by=["term"])
    pd.testing.assert_frame_equal(split[data.columns], data)
    for _, rows in split.groupby("term"):
        spread = rows.groupby("sentence")["x"].mean().std()
        block = rows.groupby(["run", "checkpoint"])["x"].transform("mean")
        np.testing.assert_allclose(spread * (rows["between"] + rows["within"]) + block, rows["x"], atol=1e-12)
        assert rows.groupby("sentence")["between"].first().std() == pytest.approx(1)
        for groups in (["sentence"], ["run", "checkpoint"]):
            np.testing.assert_allclose(rows.groupby(groups)["within"].mean(), 0, atol=1e-12)
        np.testing.assert_array_equal(rows.groupby("sentence")["between"].transform("first"), rows["between"])


def test_what_shifts_a_run_or_scales_the_predictor_changes_nothing():
    data = crossed()
    other = data.assign(x=1000 * (data["x"] + 5 * (data["run"] == "b")))
    parts = [split_predictor(each, "x", by=["term"])[["between", "within"]] for each in (data, other)]
    pd.testing.assert_frame_equal(*parts)


def test_what_shifts_a_sentence_changes_between_alone():
    data = crossed()
    data = data[data["term"] == "T"]
    other = data.assign(x=data["x"] + 2 * (data["sentence"] == 3))
    one, two = split_predictor(data, "x"), split_predictor(other, "x")
    ratio = (one["within"] / two["within"]).to_numpy()
    np.testing.assert_allclose(ratio, ratio[0])
    assert not np.allclose(one["between"], two["between"] * ratio[0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.iloc[1:], "47 rows are not 8 levels of 'sentence' once in each of 6"),
        (lambda d: pd.concat([d, d.iloc[[1]]]), "49 rows are not"),
        (lambda d: d.assign(x=d["x"].where(d["sentence"] != 2)), "missing or infinite in 12 row"),
        (lambda d: d.assign(x=d["run"].map({"a": 1.0, "b": 2.0, "c": 3.0})), "nothing between them"),
        (lambda d: d.rename(columns={"x": "y"}), "no column 'x'"),
    ],
)
def test_refused(change, words):
    with pytest.raises(InputError, match=words):
        split_predictor(change(crossed()), "x", by=["term"])

import numpy as np
import pandas as pd
import pytest

from addends.errors import InputError
from addends.statistics import explained_by_covariate, leave_one_out
from crossed import crossed_shares
from tests.crossed.simulated import crossing


def shares(rows):
    return crossed_shares(rows, "y", "run", "sentence", draws=1000)


def covariate(data, name):
    return explained_by_covariate(data, "y", name).iloc[0]


def test_leaving_a_run_out_is_splitting_the_others():
    data = crossing(5, 20).assign(run=lambda frame: frame["run"].map(dict(enumerate("abcde"))))
    table = leave_one_out(data, shares)
    assert set(table["left_out"]) == set("abcde")
    for level, rows in table.groupby("left_out"):
        others = shares(data[data["run"] != level])
        assert list(rows["share"]) == list(others["share"])
        assert list(rows["component"]) == list(others["component"])
    assert list(table) == ["left_out", *others]


def test_a_run_that_stands_apart_carries_the_share_of_runs():
    data = crossing(4, 30, sds=(0.0, 1.0, 0.7))
    data.loc[data["run"] == 3, "y"] += 5
    by_run = leave_one_out(data, shares).query("component == 'run'").set_index("left_out")["share"]
    assert by_run[3] < 0.1 < 0.8 < by_run[[0, 1, 2]].min()


def test_of_two_runs_none_can_be_spared():
    with pytest.raises(InputError, match=r"'run' has the levels \[0, 1\]"):
        leave_one_out(crossing(2, 9), shares)


def test_a_covariate_that_makes_the_sentences_differ_explains_it_and_another_does_not():
    data = crossing(4, 60, sds=(0.3, 0.0, 0.2), seed=5)
    generator = np.random.default_rng(6)
    length, other = generator.normal(size=(2, 60))
    data = data.assign(length=length[data["sentence"]], other=other[data["sentence"]])
    data["y"] += 2 * data["length"]
    by_length, by_other = (covariate(data, name) for name in ("length", "other"))
    assert by_length["explained"] > 0.99
    assert by_length["lower"] < 2 < by_length["upper"]
    assert abs(by_other["explained"]) < 0.1
    assert by_other["lower"] < 0 < by_other["upper"]


def test_each_group_has_its_own_covariate_and_the_frame_stays_as_it_was():
    data = crossing(4, 20).assign(length=lambda d: d["sentence"] % 7)
    both = pd.concat([data.assign(term="S"), data.assign(term="T", y=data["y"] + data["length"])])
    before = both.copy()
    table = explained_by_covariate(both, "y", "length", by="term")
    assert list(table) == ["term", "slope", "lower", "upper", "explained"]
    for term, row in table.set_index("term").iterrows():
        alone = covariate(both[both["term"] == term], "length")
        assert row["slope"] == alone["slope"]
        assert row["explained"] == alone["explained"]
    pd.testing.assert_frame_equal(both, before)


def test_a_category_of_several_levels_has_no_single_slope():
    data = crossing(4, 20).assign(kind=lambda d: d["sentence"].map(lambda s: "pqr"[s % 3]))
    with pytest.raises(InputError, match=r"makes the parameters \['kind\[q\]', 'kind\[r\]'\]"):
        covariate(data, "kind")
    two = data.assign(kind=data["kind"] == "p", label=np.where(data["kind"] == "p", "yes", "no"))
    one, other = (covariate(two, name) for name in ("kind", "label"))
    assert one["slope"] == pytest.approx(other["slope"], rel=1e-6)

"""The refusals that several rooms share: what passes is returned, what does not is named."""

import numpy as np
import pandas as pd
import pytest

from addends import checks
from addends.errors import InputError


@pytest.fixture
def frame():
    rows = {
        "run": ["a", "a", "b", "b"],
        "checkpoint": [10, 20, 10, 20],
        "x": [1.0, 2.0, np.nan, 4.0],
        "word": list("pqrs"),
    }
    return pd.DataFrame(rows)


def test_the_columns_of_a_table_whose_key_names_each_row_once(frame):
    before = frame.copy()
    found = checks.keyed_numbers(frame, ["run", "checkpoint"], ["x"], "here", steps=["checkpoint"])
    assert list(found) == ["checkpoint", "x"]
    np.testing.assert_array_equal(found["x"], frame["x"])
    np.testing.assert_array_equal(found["checkpoint"], [10.0, 20.0, 10.0, 20.0])
    assert list(checks.keyed_numbers(frame, ["run", "word"], ["x"], "here")) == ["x"]  # a name that is no number
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.drop(columns="x"), "here: the data have no column 'x'"),
        (lambda d: d[:0], "here: the data have no rows"),
        (lambda d: d.assign(x="good"), "'x' holds .*, not numbers"),
        (lambda d: d.assign(x=[1, np.inf, 2, -np.inf]), r"in 2 row\(s\), counted from 0: 1, 3"),
        (lambda d: d.assign(checkpoint=[10, np.nan, 10, 20]), r"in 1 row\(s\), counted from 0: 1"),
        (lambda d: d.assign(checkpoint=[10, np.inf, 10, 20]), r"in 1 row\(s\), counted from 0: 1"),
        (lambda d: d.assign(run=["a", None, "b", "b"]), r"in 1 row\(s\), counted from 0: 1"),
        (lambda d: d.assign(checkpoint=10), "2 stand more than once: run='a', checkpoint=10, run='b', checkpoint=10"),
    ],
)
def test_rows_that_cannot_be_used_are_named(frame, change, message):
    with pytest.raises(InputError, match=message):
        checks.keyed_numbers(change(frame), ["run", "checkpoint"], ["x"], "here", steps=["checkpoint"])


def test_groups_have_a_name_and_columns_one_role():
    assert checks.group_names("run", "here") == ["run"]
    with pytest.raises(InputError, match=r"here: by=\[\] must name a column"):
        checks.group_names([], "here")
    checks.require_distinct(["run", "x"], "here", "by and value")
    with pytest.raises(InputError, match=r"here: by and value must be different columns; given are \['x', 'x'\]"):
        checks.require_distinct(["x", "x"], "here", "by and value")


@pytest.mark.parametrize("value", [0, 1.5, True, "3", None])
def test_what_is_no_count_is_refused(value):
    checks.check_count("draws", np.int64(1), "here")
    checks.check_count("draws", 0, "here", least=0)
    with pytest.raises(InputError, match=r"here: draws=.* is not a whole number of 1 or more"):
        checks.check_count("draws", value, "here")


def test_a_choice_is_one_of_those_allowed():
    checks.check_choice("statistic", "mean", ("mean", "std"), "here")
    with pytest.raises(InputError, match=r"here: statistic='median' is not one of \('mean', 'std'\)"):
        checks.check_choice("statistic", "median", ("mean", "std"), "here")


def test_a_module_that_is_not_installed_is_named_with_the_extra_that_brings_it():
    assert checks.optional_module("pandas.api.types", "tables", "Reading") is pd.api.types
    with pytest.raises(ImportError, match=r"Reading needs no_such_module, .* pip install 'addends\[tables\]'"):
        checks.optional_module("no_such_module.part", "tables", "Reading")
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'pandas\.no_such_part'"):
        checks.optional_module("pandas.no_such_part", "tables", "Reading")


def test_groups_have_all_rows_and_their_names(frame):
    found = list(checks.groups_of(frame.iloc[::-1], "run", ["p"], "here"))
    assert [group for group, _ in found] == [{"run": "b"}, {"run": "a"}]
    assert [group for group, _ in checks.groups_of(frame.iloc[::-1], ["run"], ["p"], "here", sort=True)] == [
        {"run": "a"},
        {"run": "b"},
    ]
    pd.testing.assert_frame_equal(pd.concat(part for _, part in found), frame.iloc[::-1])
    ((group, whole),) = checks.groups_of(frame, (), ["p"], "here")
    assert group == {}
    pd.testing.assert_frame_equal(whole, frame)


@pytest.mark.parametrize(
    ("change", "by", "message"),
    [
        (lambda d: d.assign(run=["a", None, "b", None]), "run", r"2 row\(s\) have no value of \['run'\].*: 1, 3"),
        (lambda d: d[:0], "run", "here: the data have no rows"),
        (lambda d: d[:0], (), "here: the data have no rows"),
        (lambda d: d.assign(p=1), ["run", "p"], r"the result has columns \['p'\] of its own"),
        (lambda d: d, "layer", "no column 'layer'"),
        (lambda d: d, ["run", "run"], "names one of them twice"),
    ],
)
def test_rows_without_a_group_are_not_lost(frame, change, by, message):
    with pytest.raises(InputError, match=message):
        list(checks.groups_of(change(frame), by, ["p"], "here"))

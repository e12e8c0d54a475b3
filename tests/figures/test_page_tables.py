"""Tables of pages: what a screen reader is told, what a number looks like, what is refused."""

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from addends.errors import InputError
from addends.figures import captioned

CAPTION = "Shares by layer & term."


def made_up():
    index = pd.MultiIndex.from_tuples([(1, "S"), (1, "T"), (2, "S")], names=["layer", "term"])
    values = {
        "share": [0.126, 1e-6, np.nan],
        "rows": [12000, 3, 4],
        "holds": [True, False, True],
        "of": ["a", None, ""],
    }
    return pd.DataFrame(values, index=index)


def parsed(table):
    return ElementTree.fromstring(table._repr_html_())


def rows_of(table):
    return [["".join(cell.itertext()) for cell in row] for row in parsed(table).iter("tr")]


def test_one_row_of_heads_none_empty_and_a_caption():
    table = parsed(captioned(made_up(), CAPTION))
    assert "".join(table.find("caption").itertext()) == CAPTION
    (heads,) = table.find("thead")
    assert [cell.text for cell in heads] == ["layer", "term", "share", "rows", "holds", "of"]
    assert {cell.get("scope") for cell in heads} == {"col"}


def test_every_row_has_a_head_that_says_how_many_rows_it_heads():
    body = parsed(captioned(made_up(), CAPTION)).find("tbody")
    heads = [[(cell.text, cell.get("scope"), cell.get("rowspan")) for cell in row.findall("th")] for row in body]
    assert heads == [
        [("1", "rowgroup", "2"), ("S", "row", None)],
        [("T", "row", None)],
        [("2", "row", None), ("S", "row", None)],
    ]


def test_rows_have_as_many_cells_as_heads():
    widths = [0, 0, 0]
    for at, row in enumerate(parsed(captioned(made_up(), CAPTION)).find("tbody")):
        for cell in row:
            for below in range(int(cell.get("rowspan", 1))):
                widths[at + below] += 1
    assert widths == [6, 6, 6]


def test_cells():
    assert [row[-4:] for row in rows_of(captioned(made_up(), CAPTION))[1:]] == [
        ["0.13", "12,000", "yes", "a"],
        ["1e-06", "3", "no", "–"],
        ["–", "4", "yes", "–"],
    ]


@pytest.mark.parametrize(
    ("values", "side"),
    [([1, 2.5], "number"), (["0.1 [0, 1]", "–"], "number"), (["+0.1", "-2"], "number"), (["a", "1"], "text")],
)
def test_numbers_stand_to_the_right(values, side):
    table = parsed(captioned(pd.DataFrame({"value": values}), CAPTION))
    assert {cell.get("class") for tag in ("td", "th") for cell in table.iter(tag)} == {side}


@pytest.mark.parametrize("dtype", ["float32", "Float64", "Int64", "int8", object])
def test_numbers_look_alike_whatever_their_type(dtype):
    frame = pd.DataFrame({"value": pd.Series([1, 2], dtype=dtype)})
    assert rows_of(captioned(frame, CAPTION))[1:] == [["1"], ["2"]]


def test_what_is_missing_is_a_dash_in_every_type():
    for missing in (pd.Series([None, 1.5], dtype="Float64"), pd.Series([np.nan, 1.5]), pd.Series([None, "b"])):
        assert rows_of(captioned(missing.to_frame("value"), CAPTION))[1] == ["–"]


def test_a_line_may_end_before_an_interval_and_behind_an_underscore():
    html = captioned(pd.DataFrame({"share_of": ["0.12 [0.01, 0.30]", "-0.1 (-0.2, 0.0)"]}), CAPTION)._repr_html_()
    assert "share_<wbr/>of" in html
    assert "0.12 <span>[0.01, 0.30]</span>" in html
    assert "-0.1 <span>(-0.2, 0.0)</span>" in html


def test_a_digest_may_be_broken():
    table = parsed(captioned(pd.DataFrame({"sha256": ["a" * 64]}), CAPTION))
    assert {cell.get("class") for cell in table.iter("td")} == {"long text"}


def test_infinity_is_said():
    assert rows_of(captioned(pd.DataFrame({"runs": [np.inf, 2.0]}), CAPTION))[1:] == [["inf"], ["2"]]


def test_digits_by_column():
    table = captioned(pd.DataFrame({"a": [0.12345], "b": [0.12345]}), CAPTION, {"a": 4})
    assert rows_of(table)[1] == ["0.1235", "0.12"]


def test_levels_of_columns_become_one_head():
    columns = pd.MultiIndex.from_tuples([("run", "move"), ("run", "without"), ("all", "")])
    assert rows_of(captioned(pd.DataFrame([[1, 2, 3]], columns=columns), CAPTION))[0] == [
        "run, move",
        "run, without",
        "all",
    ]


def test_the_frame_is_left_alone():
    frame = made_up()
    captioned(frame, CAPTION)
    pd.testing.assert_frame_equal(frame, made_up())


def test_text_for_the_terminal_has_the_caption_and_the_cells():
    shown = repr(captioned(made_up(), CAPTION))
    assert shown.startswith(CAPTION)
    assert "12,000" in shown


@pytest.mark.parametrize(
    ("frame", "caption", "digits", "said"),
    [
        (made_up(), " ", 2, "caption is empty"),
        (made_up().reset_index("term").rename_axis(None), CAPTION, 2, "no name.*rename_axis"),
        (made_up(), CAPTION, {"shares": 3}, r"digits names \['shares'\]"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), CAPTION, 2, "more than once"),
    ],
)
def test_refusals(frame, caption, digits, said):
    with pytest.raises(InputError, match=said):
        captioned(frame, caption, digits)

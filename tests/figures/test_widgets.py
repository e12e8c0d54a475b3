"""Interactive pictures, as Python makes them: the numbers they carry, what they refuse, and that they are whole."""

from __future__ import annotations

import base64
import json
import re
from html import escape

import numpy as np
import pandas as pd
import pytest

import crossed
from addends.errors import InputError
from addends.figures import style, widgets
from addends.figures.widgets import page
from tests.figures import made_up


def split_of(values):
    return crossed.crossed_shares(
        values, "importance", row="run", column="sentence", by=["by", "layer", "term"], draws=1_000
    )


def pictures():
    values = made_up.measured()
    return {
        "apart": widgets.take_apart(*made_up.shares_and_tokens(), "Said <i>here</i>."),
        "split": widgets.run_or_sentence(values, split_of(values), "importance", "Said </script> here."),
        "trend": widgets.trend_buys(made_up.trained(), "cosine", "chrf", "Said here."),
    }


# What they carry.


def test_shares_of_terms_and_words_are_those_of_the_frame():
    shares, tokens = made_up.shares_and_tokens()
    data = json.loads(widgets.take_apart(shares, tokens, "").json())
    assert [one["title"] for one in data["sentences"]] == list(made_up.SOURCES)
    for found in data["sentences"]:
        rows = shares[shares["sentence"] == found["title"]]
        assert found["tokens"]["source"] == list(made_up.SOURCES[found["title"]])
        for ledger in data["ledgers"]:
            letters = [one["term"] for one in ledger["terms"]]
            assert letters == style.in_order(rows[rows["by"] == ledger["by"]]["term"].str[0])
            wide = (
                rows[rows["by"] == ledger["by"]].groupby(["layer", rows["term"].str[0], "position"])["importance"].sum()
            )
            for layer, table in enumerate(found["shares"][ledger["by"]]):
                for letter, line in zip(letters, table, strict=True):
                    assert np.allclose(np.array(line) * data["unit"], wide[layer, letter], atol=0.51 * data["unit"])
        for side, group in (("source", "S"), ("read", "T")):
            for layer, table in enumerate(found["words"][side]):
                for place, line in enumerate(table):
                    here = (rows["by"] == "token") & (rows["layer"] == layer) & (rows["term"] == f"{group}{place}")
                    wanted = rows[here].sort_values("position")["importance"]
                    assert np.allclose(np.array(line) * data["unit"], wanted, atol=0.51 * data["unit"])


def test_mean_squares_are_those_of_the_library_and_lines_those_of_the_sentences():
    values = made_up.measured()
    split = split_of(values)
    data = json.loads(widgets.run_or_sentence(values, split, "importance", "", lines=7).json())
    assert data["sentences"] == 12
    assert len(data["drawn"]) == 7
    assert (data["drawn"][0], data["drawn"][-1]) == ("s000", "s011")
    for group in data["groups"]:
        key = (group["by"], group["layer"], group["term"])
        rows = split.set_index(["by", "layer", "term", "component"]).loc[key]
        assert group["squares"] == rows["mean_square"].tolist()
        here = (
            values.set_index(["by", "layer", "term"])
            .loc[key]
            .pivot(index="sentence", columns="run", values="importance")
        )
        assert np.allclose(np.array(group["lines"]) * group["unit"], here.loc[data["drawn"]], atol=0.51 * group["unit"])
        assert np.allclose(group["means"], here.mean(), rtol=1e-5)


def test_few_lines_are_drawn_where_many_terms_are_to_be_carried():
    values = made_up.measured(runs=40, sentences=300)
    data = json.loads(widgets.run_or_sentence(values, split_of(values), "importance", "", lines=300).json())
    assert len(data["drawn"]) == 22_000 // (40 * 8)


@pytest.mark.parametrize(("dtype", "wire"), [("float32", "<f4"), ("float64", "<f8")])
def test_indicators_travel_bit_by_bit(dtype, wire):
    frame = made_up.trained().astype({"cosine": dtype})
    data = json.loads(widgets.trend_buys(frame, "cosine", "chrf", "").json())
    for group in data["groups"]:
        here = frame[(frame["layer"] == group["layer"]) & (frame["term"] == group["term"])]
        wanted = here.pivot(index="run", columns="checkpoint", values="cosine").to_numpy()
        found = np.frombuffer(base64.b64decode(group["values"]), dtype=wire).reshape(wanted.shape)
        assert np.array_equal(found, wanted, equal_nan=True)
    assert data["quality"][2] == frame[frame["run"] == "r2"].drop_duplicates("checkpoint")["chrf"].tolist()


@pytest.mark.parametrize("name", ["apart", "split", "trend"])
def test_colours_are_those_of_the_book(name):
    for role, colour in pictures()[name].data["colours"].items():
        by, dash, term = role.partition("-")
        assert re.fullmatch("#[0-9A-Fa-f]{6}", colour)
        if dash:
            assert colour == style.term_palette([term], by)[term]


def test_sentences_beyond_what_a_page_carries_are_left_out_and_that_is_said(monkeypatch):
    monkeypatch.setattr("addends.figures.widgets.apart._CARRIED", 1_500)
    data = json.loads(widgets.take_apart(*made_up.shares_and_tokens(), "Said.").json())
    assert [one["title"] for one in data["sentences"]] == ["Il pleut."]
    assert data["caption"] == "Said. 1 of 2 sentences are shown: a page carries no more."


# They are whole.


@pytest.mark.parametrize("name", ["apart", "split", "trend"])
def test_a_picture_is_one_element_and_one_script_and_asks_for_nothing(name):
    picture = pictures()[name]
    html = picture._repr_html_()
    assert len(re.findall("<script", html)) == len(re.findall("</script", html)) == 1
    assert html.endswith("</script>")
    assert escape(picture.data["caption"]) in html  # where scripts do not run
    addresses = set(re.findall(r"https?://[^\s\"']+", html)) - {"http://www.w3.org/2000/svg"}
    assert addresses == set()
    assert re.findall(r"\b(?:fetch|XMLHttpRequest|importScripts|WebSocket|sendBeacon)\b|import\(|\bsrc=", html) == []
    assert len(repr(picture)) < 200


def test_data_that_a_page_should_not_carry_are_refused(monkeypatch):
    monkeypatch.setattr(page, "LARGEST", 1_000)
    with pytest.raises(InputError, match=r"'trend' would carry [\d,]+ bytes of data; a page carries 1,000"):
        pictures()["trend"]._repr_html_()


# What they refuse.


def without(frame, number=0):
    return frame.drop(index=frame.index[number])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda shares, tokens: (shares.drop(columns="layer"), tokens), "no column 'layer'"),
        (lambda shares, tokens: (shares, tokens.drop(columns="side")), "no column 'side'"),
        (lambda shares, tokens: (shares.replace({"by": {"token": "word"}}), tokens), "by='word' is not one of"),
        (lambda shares, tokens: (shares, tokens.replace({"side": {"read": "left"}})), "side='left' is not one of"),
        (lambda shares, tokens: (pd.concat([shares, shares[:1]]), tokens), "stand more than once"),
        (lambda shares, tokens: (shares, pd.concat([tokens, tokens[:1]])), "stand more than once"),
        (lambda shares, tokens: (shares.assign(importance=np.nan), tokens), "missing or infinite"),
        (lambda shares, tokens: (shares[shares["by"] == "token"], tokens), "by sublayer are missing"),
        (lambda shares, tokens: (without(shares), tokens), "not to 1"),
        (lambda shares, tokens: (shares[shares["position"] != 1], tokens), "no share for each layer"),
        (lambda shares, tokens: (shares, without(tokens)), "count from 0 without a gap"),
        (lambda shares, tokens: (shares.replace({"term": {"C": "c"}}), tokens), "'c' is no term"),
    ],
)
def test_sentences_that_cannot_be_taken_apart_are_refused(spoil, said):
    with pytest.raises(InputError, match=said):
        widgets.take_apart(*spoil(*made_up.shares_and_tokens()), "")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda values, split: (values.drop(columns="run"), split), "no column 'run'"),
        (lambda values, split: (values, split.drop(columns="mean_square")), "no column 'mean_square'"),
        (lambda values, split: (pd.concat([values, values[:1]]), split), "stand more than once"),
        (lambda values, split: (values, pd.concat([split, split[:1]])), "stand more than once"),
        (lambda values, split: (values[1:], split), "not every run has every sentence; 1 lack"),
        (lambda values, split: (values.assign(importance=np.inf), split), "missing or infinite"),
        (lambda values, split: (values, split[split["component"] != "run"]), "split has no row"),
        (lambda values, split: (values[values["run"] != "r0"], split), "with 4 runs and 12 sentences"),
    ],
)
def test_values_that_cannot_be_split_are_refused(spoil, said):
    values = made_up.measured()
    with pytest.raises(InputError, match=said):
        widgets.run_or_sentence(*spoil(values, split_of(values)), "importance", "")


@pytest.mark.parametrize("lines", [0, 2.5, True])
def test_no_lines_are_refused(lines):
    values = made_up.measured()
    with pytest.raises(InputError, match="lines="):
        widgets.run_or_sentence(values, split_of(values), "importance", "", lines=lines)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda frame: frame.drop(columns="checkpoint"), "no column 'checkpoint'"),
        (lambda frame: pd.concat([frame, frame[:1]]), "stand more than once"),
        (lambda frame: frame.assign(cosine=np.inf), "infinite"),
        (lambda frame: frame[frame["run"] == "r0"], r"1 run\(s\) and 15 checkpoint\(s\)"),
        (lambda frame: frame[frame["checkpoint"] < 100], r"6 run\(s\) and 3 checkpoint\(s\)"),
        (lambda frame: frame[1:], "89 rows for 6 runs and 15 checkpoints"),
        (lambda frame: frame.assign(chrf=np.arange(len(frame))), "one quality a checkpoint"),
    ],
)
def test_trainings_that_cannot_be_compared_are_refused(spoil, said):
    with pytest.raises(InputError, match=said):
        widgets.trend_buys(spoil(made_up.trained()), "cosine", "chrf", "")

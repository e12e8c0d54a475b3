"""*Take a sentence apart*: layer by layer, who wrote each state of a translation, and which words it came from."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from addends.checks import check_choice, finite_numbers, refuse_repeated, require_columns
from addends.errors import InputError
from addends.figures import style
from addends.figures.widgets.page import Widget, term_name

UNIT = 1e-4
"""Shares travel as whole multiples of this."""

_CARRIED = 140_000  # bytes of all sentences
SIDES = ("source", "read", "predicted")
_WHERE = "take_apart"
_LEDGERS = {"sublayer": "who wrote it (by sublayer)", "token": "where it came from (by token)"}


def take_apart(shares: pd.DataFrame, tokens: pd.DataFrame, caption: str) -> Widget:
    """Sentences to choose, both ledgers, a slider over layers; the words of the chosen state are tinted.

    Parameters
    ----------
    shares : DataFrame
        Tidy, as `addends.indicators` gives it, of both methods: by ("sublayer" or "token"), sentence, layer, term,
        position, importance. By token one part for each token (``tokens="each"``): "S0", "T3", "C".
    tokens : DataFrame
        Tidy: sentence (its text, say: it is the sentence's name in the list), side ("source", "read": what the decoder
        has read; "predicted": what its states predict), place (counted from 0), token. Sentences are shown in the
        order in which they stand here, as many as a page can carry; where some are left out, the caption says so.
    caption : str

    Raises
    ------
    InputError
        If a column, a token or a share is missing or stands twice, shares do not sum to 1, or there is more data than
        a page should carry.

    Examples
    --------
    The first rows of the two frames::

                 by     sentence  layer term  position  importance
        0  sublayer  Il fait bon      0    I         0         1.0
        1  sublayer  Il fait bon      0    I         1         1.0

              sentence    side  place token
        0  Il fait bon  source      0    Il
        1  Il fait bon  source      1  fait
    """
    require_columns(shares, ("by", "sentence", "layer", "term", "position", "importance"), _WHERE)
    require_columns(tokens, ("sentence", "side", "place", "token"), _WHERE)
    for by in shares["by"].unique():
        check_choice("by", by, tuple(_LEDGERS), _WHERE)
    for side in tokens["side"].unique():
        check_choice("side", side, SIDES, _WHERE)
    refuse_repeated(shares, ("by", "sentence", "layer", "term", "position"), _WHERE, "Keep one of them.")
    refuse_repeated(tokens, ("sentence", "side", "place"), _WHERE, "Keep one of them.")
    finite_numbers(shares, "importance", _WHERE, "Leave that sentence out.")
    words = _words(tokens)
    lacking = [by for by in _LEDGERS if by not in set(shares["by"])]
    if lacking:
        raise InputError(f"{_WHERE}: the shares by {lacking[0]} are missing; both methods are wanted.")
    sums = shares.groupby(["by", "sentence", "layer", "position"])["importance"].sum()
    wrong = sums[(sums - 1).abs() > 1e-3]
    if len(wrong):
        raise InputError(
            f"{_WHERE}: the shares of {dict(zip(sums.index.names, wrong.index[0], strict=True))} sum to "
            f"{wrong.iloc[0]:.4f}, not to 1: give every part of each state."
        )
    shares = _in_groups(shares)
    layers = sorted(shares["layer"].unique().tolist())
    terms = {by: style.in_order(rows["group"]) for by, rows in shares.groupby("by")}
    ledgers = [
        {"by": by, "label": label, "terms": [{"term": term, "name": term_name(term, by)} for term in terms[by]]}
        for by, label in _LEDGERS.items()
    ]
    found = [_sentence(shares, number, said, layers, terms) for number, said in words.items()]
    sizes = np.cumsum([len(json.dumps(one, separators=(",", ":"))) for one in found])
    shown = max(1, int((sizes <= _CARRIED).sum()))
    if shown < len(found):
        caption += f" {shown} of {len(found)} sentences are shown: a page carries no more."
    data = {
        "title": "Take a sentence apart",
        "caption": caption,
        "colours": {
            f"{by}-{term}": colour for by in terms for term, colour in style.term_palette(terms[by], by).items()
        },
        "unit": UNIT,
        "layers": layers,
        "ledgers": ledgers,
        "sentences": found[:shown],
    }
    return Widget("apart", data)


def _words(tokens: pd.DataFrame) -> dict:
    """For each sentence, in their order, the tokens of each side."""
    found = {}
    for sentence, rows in tokens.groupby("sentence", sort=False):
        sides = {side: rows[rows["side"] == side].sort_values("place") for side in SIDES}
        for side, part in sides.items():
            if part["place"].tolist() != list(range(len(part))) or part.empty:
                raise InputError(
                    f"{_WHERE}: the places of sentence={sentence!r}, side={side!r} are {part['place'].tolist()}; they "
                    "must count from 0 without a gap."
                )
        found[sentence] = {side: [str(token) for token in part["token"]] for side, part in sides.items()}
    return found


def _in_groups(shares: pd.DataFrame) -> pd.DataFrame:
    """With the term's letter as ``group`` and, of a single token's part, its ``place``."""
    pieces = shares["term"].astype(str).str.extract(r"^([A-Z])(\d*)$")
    if pieces[0].isna().any():
        raise InputError(f"{_WHERE}: {shares['term'][pieces[0].isna().to_numpy()].iloc[0]!r} is no term of one token.")
    return shares.assign(group=pieces[0].to_numpy(), place=pd.to_numeric(pieces[1]).to_numpy())


def _sentence(shares: pd.DataFrame, number: object, said: dict, layers: list, terms: dict) -> dict:
    """One sentence: words, shares of terms (layer, term, position), and of words (layer, place, position)."""
    rows = shares[shares["sentence"] == number]
    states = range(len(said["predicted"]))
    parts: dict[str, list] = {}
    for by, of_method in rows.groupby("by"):
        wide = of_method.pivot_table(index=["layer", "group"], columns="position", values="importance", aggfunc="sum")
        wanted = pd.MultiIndex.from_product([layers, terms[by]])
        parts[str(by)] = _whole(_complete(wide, wanted, states, f"sentence={number!r}, by={by!r}"), layers)
    words = {}
    for side, group in (("source", "S"), ("read", "T")):
        of_side = rows[(rows["by"] == "token") & (rows["group"] == group)]
        wide = of_side.pivot_table(index=["layer", "place"], columns="position", values="importance")
        wanted = pd.MultiIndex.from_product([layers, range(len(said[side]))])
        words[side] = _whole(_complete(wide, wanted, states, f"sentence={number!r}, side={side!r}"), layers)
    return {"title": str(number), "tokens": said, "shares": parts, "words": words}


def _complete(wide: pd.DataFrame, rows: pd.MultiIndex, states: range, what: str) -> pd.DataFrame:
    if set(rows) - set(wide.index) or list(wide.columns) != list(states) or wide.loc[rows].isna().any(axis=None):
        raise InputError(
            f"{_WHERE}: {what}: there is no share for each layer, part and position; {len(states)} positions and "
            f"{len(rows)} pairs of layer and part are wanted, {wide.shape[1]} and {len(wide)} are there."
        )
    return wide.loc[rows]


def _whole(wide: pd.DataFrame, layers: list) -> list:
    values = (wide / UNIT).round().astype(int)
    return [values.loc[layer].to_numpy().tolist() for layer in layers]

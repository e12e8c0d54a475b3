"""Stitches of two runs: how far a map brings another run's encoder, and both orders of a pair as one.

`mean_over_pairs` then gives the mean over ordered pairs with an interval over runs, and `similarity_by_kind` what it
adds that two runs share a start or a course.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from addends.checks import finite_numbers, groups_of, names_of, require_columns
from addends.errors import InputError

PAIR = ["encoder", "decoder"]
_PLACE = ["place", "layer"]
_KEY = [*PAIR, *_PLACE, "map", "start"]


def ways_to_own(frame: pd.DataFrame, value: str) -> pd.DataFrame:
    r"""How much of the way from a random rotation to the decoder's own encoder each map goes.

    With q the quality of an ordered pair by a map::

        way = (q - q by the random rotation) / (q of the decoder's own encoder - q by the random rotation)

    0 is no better than what knows nothing of the decoder's space but its size, 1 is as good as its own encoder. It does
    not matter whether more of the quality is better (bleu) or less (nll). What a map reaches from an untrained run is
    on the way of the same ordered pair.

    Parameters
    ----------
    frame : DataFrame
        Rows of the table ``stitches``: the decoder's own encoder (map "own") and a random rotation belong to each.
    value : str
        A column of it, such as "bleu". It is to be there in every row: inside the decoder there is the nll alone.

    Returns
    -------
    DataFrame
        encoder, decoder, place, layer, map, start, ``value``, way. A row for each row of the frame, in its order.

        >>> maps = {"encoder": list("abb"), "map": ["own", "random", "rotation"], "bleu": [30.0, 2.0, 16.0]}
        >>> stitches = pd.DataFrame(maps).assign(decoder="a", place="encoder", layer=pd.NA, start="run")
        >>> ways_to_own(stitches, "bleu")[["encoder", "map", "way"]]
          encoder       map  way
        0       a       own  1.0
        1       b    random  0.0
        2       b  rotation  0.5

    Raises
    ------
    InputError
        If a column or a value is missing, a row stands twice, a decoder has no row of its own encoder or a pair none of
        a random rotation, or both are of the same quality: there is no way between them then.
    """
    where = f"ways_to_own({value!r})"
    require_columns(frame, _KEY, where)
    finite_numbers(frame, value, where, "Inside the decoder there is the nll alone: choose place == 'encoder'.")
    if frame.duplicated(_KEY).any():
        raise InputError(f"{where}: an encoder, decoder, place, layer, map and start stands twice.")
    rows = frame[[*_KEY, value]].reset_index(drop=True)
    rows["layer"] = rows["layer"].astype("Int64")  # missing matches missing
    own = rows.loc[rows["map"] == "own", ["decoder", value]].rename(columns={value: "own"})
    random = rows.loc[rows["map"] == "random", [*PAIR, *_PLACE, value]].rename(columns={value: "random"})
    found = rows.merge(own, on="decoder", how="left").merge(random, on=[*PAIR, *_PLACE], how="left")
    itself = found["map"] == "own"
    for name, lacking in (("own", found["own"].isna()), ("random", found["random"].isna() & ~itself)):
        if lacking.any():
            encoder, decoder = found.loc[lacking, PAIR].iloc[0]
            raise InputError(
                f"{where}: the encoder {encoder!r} read by the decoder {decoder!r} has no row with the map {name!r}: "
                "the way between own and random needs both."
            )
    length = (found["own"] - found["random"]).to_numpy("float64")
    none = ~itself & (np.abs(length) <= 1e-9 * found["own"].abs())
    if none.any():
        encoder, decoder = found.loc[none, PAIR].iloc[0]
        raise InputError(
            f"{where}: {decoder!r} reads its own encoder and, by a random rotation, {encoder!r} equally well "
            f"({found.loc[none, 'own'].iloc[0]:g}): there is no way between them. Leave such a decoder out."
        )
    with np.errstate(invalid="ignore"):
        way = (found[value] - found["random"]).to_numpy("float64") / length
    return rows.assign(way=np.where(itself, 1.0, way))


def both_orders(frame: pd.DataFrame, value: str, by: str | Sequence[str] = ()) -> pd.DataFrame:
    """The mean of the two orders of each pair of different runs, as `similarity_by_kind` takes pairs.

    Parameters
    ----------
    frame : DataFrame
        encoder, decoder, ``value`` and the columns of ``by``: one row an ordered pair and group. Rows in which encoder
        and decoder are one run are left out.
    value : str
    by : str or sequence of str
        Columns that split the frame, such as "map".

    Returns
    -------
    DataFrame
        The columns of ``by``; a, b (in the order of their names), ``value``.

        >>> ordered = pd.DataFrame({"encoder": ["a", "b"], "decoder": ["b", "a"], "way": [0.4, 0.6]})
        >>> both_orders(ordered, "way")
           a  b  way
        0  a  b  0.5

    Raises
    ------
    InputError
        If a column or a value is missing, or an ordered pair stands twice or in one order alone.
    """
    where = f"both_orders({value!r})"
    by = names_of(by, "by", where)
    require_columns(frame, [*by, *PAIR], where)
    finite_numbers(frame, value, where, "Leave the rows out where there is nothing to compare.")
    tables = []
    for group, part in groups_of(frame[frame["encoder"] != frame["decoder"]], by, ["a", "b", value], where):
        runs = np.sort(part[PAIR].to_numpy(str), axis=1)
        ordered = part.duplicated(PAIR)
        pairs = pd.DataFrame({"a": runs[:, 0], "b": runs[:, 1], value: part[value].to_numpy()}).groupby(["a", "b"])
        if ordered.any() or (pairs.size() != 2).any():
            what = "an ordered pair stands twice" if ordered.any() else "a pair is there in one order alone"
            of = f" of {group}" if group else ""
            raise InputError(f"{where}: {what}{of}. Give every ordered pair once (addends compare --stitch).")
        table = pairs[value].mean().reset_index()
        for place, (name, level) in enumerate(group.items()):
            table.insert(place, name, [level] * len(table))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)

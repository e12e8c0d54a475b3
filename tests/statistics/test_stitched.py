"""The way to one's own encoder: its ends, made-up maps, units that do not matter; both orders of a pair; refusals."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest

from addends.errors import InputError
from addends.statistics import both_orders, mean_over_pairs, roles_of_runs, similarity_by_kind, ways_to_own

RUNS = list("abcd")


def stitches(part=0.4):
    """Decoders of different quality; a rotation goes ``part`` of the way, further between neighbours."""
    own = {"a": 30.0, "b": 25.0, "c": 40.0, "d": 20.0}
    rows = [(run, run, "encoder", pd.NA, "own", "run", own[run]) for run in RUNS]
    for encoder, decoder in permutations(RUNS, 2):
        low = 1.0 + RUNS.index(encoder) + 0.1 * RUNS.index(decoder)
        near = 0.1 * (abs(ord(encoder) - ord(decoder)) == 1)
        rows.append((encoder, decoder, "encoder", pd.NA, "random", "run", low))
        rows.append((encoder, decoder, "encoder", pd.NA, "rotation", "run", low + (part + near) * (own[decoder] - low)))
        for layer in (0, 1):
            rows.append((encoder, decoder, "layer", layer, "random", "run", low - 0.5 * layer))
            reached = low - 0.5 * layer + (0.7 + 0.1 * layer) * (own[decoder] - low + 0.5 * layer)
            rows.append((encoder, decoder, "layer", layer, "affine", "run", reached))
    columns = ["encoder", "decoder", "place", "layer", "map", "start", "bleu"]
    return pd.DataFrame(rows, columns=columns).astype({"layer": "Int64"})


def test_the_way_of_ones_own_encoder_is_1_and_that_of_a_random_rotation_0():
    found = ways_to_own(stitches(), "bleu")
    assert (found.loc[found["map"] == "own", "way"] == 1).all()
    assert (found.loc[found["map"] == "random", "way"] == 0).all()
    assert found[["encoder", "map"]].equals(stitches()[["encoder", "map"]])


def test_the_way_is_that_of_the_pair_and_of_the_layer():
    found = ways_to_own(stitches(), "bleu")
    turned = found[found["map"] == "rotation"]
    near = (turned["encoder"].map(ord) - turned["decoder"].map(ord)).abs() == 1
    np.testing.assert_allclose(turned["way"], np.where(near, 0.5, 0.4))
    inside = found[found["map"] == "affine"]
    np.testing.assert_allclose(inside["way"], 0.7 + 0.1 * inside["layer"].astype(float))


def test_neither_the_unit_nor_the_direction_of_the_quality_matters():
    table = stitches()
    turned = ways_to_own(table.assign(nll=7 - 0.1 * table["bleu"]), "nll")
    np.testing.assert_allclose(turned["way"], ways_to_own(table, "bleu")["way"], atol=1e-12)


def test_an_untrained_encoder_is_on_the_way_of_its_pair():
    extra = pd.DataFrame([("b", "a", "encoder", pd.NA, "trained", "untrained", 2.0 + 0.25 * 28)])
    extra.columns = stitches().columns
    found = ways_to_own(pd.concat([stitches(), extra.astype({"layer": "Int64"})]), "bleu")
    assert found["way"].iloc[-1] == pytest.approx(0.25)


def test_both_orders_are_one_pair_for_the_mean_and_by_what_runs_share():
    ways = ways_to_own(stitches(), "bleu").query("map == 'rotation'")
    pairs = both_orders(ways.sample(frac=1, random_state=0), "way", by=["map"])
    assert pairs[["map", "a", "b"]].to_numpy().tolist()[:2] == [["rotation", "a", "b"], ["rotation", "a", "c"]]
    assert len(pairs) == 6
    ordered = mean_over_pairs(ways, "way", one="encoder", two="decoder")["mean"].item()
    assert mean_over_pairs(pairs, "way")["mean"].item() == pytest.approx(ordered)
    seeds = pd.DataFrame({"run": RUNS, "init_seed": [1, 1, 2, 2], "order_seed": [1, 2, 1, 2]})
    roles = roles_of_runs(seeds.assign(dropout_seed=seeds["order_seed"]))
    kinds = similarity_by_kind(pairs, "way", roles, by="map", permutations=99).set_index("shares")
    assert kinds["mean"].round(9).to_dict()["start"] == 0.5  # a, b and c, d are neighbours
    assert kinds["mean"].round(9).to_dict()["course"] == 0.4


def test_the_two_orders_are_averaged():
    table = pd.DataFrame({"encoder": list("abac"), "decoder": list("baca"), "way": [0.4, 0.8, 0.1, 0.2]})
    assert both_orders(table, "way").to_numpy().tolist() == [
        ["a", "b", pytest.approx(0.6)],
        ["a", "c", pytest.approx(0.15)],
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda table: table[(table["map"] != "own") | (table["decoder"] != "b")],
            "decoder 'b' has no row with the map 'own'",
        ),
        (lambda table: table.drop(index=table.index[table["map"] == "random"][3]), "no row with the map 'random'"),
        (lambda table: pd.concat([table, table.tail(1)]), "stands twice"),
        (lambda table: table.assign(bleu=np.nan), "place == 'encoder'"),
        (lambda table: table.drop(columns="start"), "'start'"),
        (lambda table: table.assign(bleu=3.0), "equally well.*there is no way between them"),
        (
            lambda table: table.assign(
                bleu=table["bleu"].mask((table["map"] == "random") & (table["decoder"] == "c"), 40)
            ),
            "'c' reads its own encoder and, by a random rotation, 'a' equally well",
        ),
    ],
)
def test_bad_ways(change, message):
    with pytest.raises(InputError, match=message):
        ways_to_own(change(stitches()), "bleu")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "b", 0.1)], "one order alone"),
        ([("a", "b", 0.1), ("a", "b", 0.2)], "stands twice"),
        ([("a", "b", 0.1), ("b", "a", np.nan)], "nothing to compare"),
    ],
)
def test_bad_orders(rows, message):
    with pytest.raises(InputError, match=message):
        both_orders(pd.DataFrame(rows, columns=["encoder", "decoder", "way"]), "way")

"""Correlations over pairs of sentences, derived again from a made-up release."""

import numpy as np
import pandas as pd
import pytest

from addends.errors import InputError
from addends.replication import items
from addends.replication.sentence_level import over_sentences
from tests.replication import miniature


@pytest.fixture(scope="module")
def released():
    return miniature.released()


def test_single_terms_are_derived_with_their_sign_and_in_the_order_of_the_file(released):
    found = items.by_term(miniature.items(), released)
    assert len(found) == 3 * 2 * 3 * 4
    theirs = released[released["level"] == "sentence"]
    both = found.merge(theirs, on=items.KEY, validate="1:1")
    np.testing.assert_allclose(both["rho_pairs"], both["mean"], atol=1e-9)
    shuffled = items.by_term(miniature.items().sample(frac=1, random_state=0), released)
    pd.testing.assert_frame_equal(found, shuffled)
    other = miniature.items().assign(place=lambda data: (data["place"] * 5) % 12)
    assert (items.by_term(other, released)["rho_pairs"] - found["rho_pairs"]).abs().max() > 0.02


def test_within_checkpoints_is_that_of_over_sentences(released):
    data = miniature.items()
    found = items.by_term(data, released).query("indicator == 'cosine'").set_index(["run", "layer", "term"])
    expected = over_sentences(data, "cosine", "comet").set_index(["run", "layer", "term"])
    for name in ("rho_pooled", "rho_within", "rho_between"):
        np.testing.assert_allclose(found[name], expected.loc[found.index, name])


def test_without_the_earliest_checkpoint_of_each_run(released):
    data = miniature.items()
    data.loc[data["run"] == "sla-eng", "checkpoint"] += 5000  # its earliest is a late one
    found = items.by_term(data, released).query("indicator == 'cosine'").set_index(["run", "layer", "term"])
    first = data["run"].map({"sla-eng": 6000}).fillna(1000)
    rest = over_sentences(data[data["checkpoint"] != first], "cosine", "comet").set_index(["run", "layer", "term"])
    np.testing.assert_allclose(found["rho_without_first"], rest.loc[found.index, "rho_pooled"])
    alone = items.by_term(data.assign(checkpoint=1000), released)
    assert alone["rho_without_first"].isna().all()


def test_a_file_read_from_its_end_turns_the_signed_sum_alone(released):
    data = miniature.items()
    one = items.summed(data, released)
    two = items.summed(data.assign(place=11 - data["place"]), released)
    theirs = released[(released["level"] == "sentence") & (released["term"] == "L1")]
    both = one.merge(theirs, on=[name for name in items.KEY if name != "term"], validate="1:1")
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
    one, two = (items.by_term(data, released)["rho_pairs"] for data in (double, single))
    np.testing.assert_allclose(one, two, atol=1e-12)


def test_bad_input(released):
    data = miniature.items()
    with pytest.raises(InputError, match="run='sla-eng', by='token', layer=2 has a place and term twice"):
        items.by_term(pd.concat([data, data.iloc[[-1]]]), released)
    with pytest.raises(InputError, match=r"run='rus-eng-s0' has 2 item\(s\); 3 are needed"):
        items.summed(data[data["place"] < 2], released)
    with pytest.raises(InputError, match="No released coefficient at sentence level"):
        items.summed(data.assign(layer=data["layer"] + 5), released)

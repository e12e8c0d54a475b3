"""Correlations over pairs of checkpoints, derived again from a made-up release and from the released files."""

import numpy as np
import pandas as pd
import pytest

from addends.errors import InputError
from addends.replication import coefficients
from addends.replication.released import is_russian, on_released_targets
from tests.replication import miniature

LAGS = {"longest_lag": 3000, "burn_in": 4000}
PAIRS = 12 * 11 // 2


@pytest.fixture(scope="module")
def released():
    return miniature.released()


@pytest.fixture
def paths():
    return miniature.trajectories()


def test_the_released_targets_are_references_for_russian_runs_and_own_output_for_others(paths):
    chosen = on_released_targets(paths)
    targets = chosen.groupby("run")["target"].agg(set).to_dict()
    assert targets == {"rus-eng-s0": {"reference"}, "rus-eng-s1": {"reference"}, "sla-eng": {"own"}}
    assert len(chosen) == len(paths) / 2


def test_single_terms_are_derived_with_the_sign_turned(paths, released):
    found = coefficients.by_term(on_released_targets(paths), miniature.quality(), released, **LAGS)
    assert len(found) == 3 * 2 * 3 * 4 * 2
    both = found.merge(released[released["level"] == "checkpoint"], on=coefficients.KEY[1:], validate="1:1")
    np.testing.assert_allclose(both["rho_pairs"], -both["mean"], atol=1e-9)


def test_another_target_is_off(paths, released):
    own = coefficients.by_term(paths[paths["target"] == "own"], miniature.quality(), released, **LAGS)
    both = own.merge(released[released["level"] == "checkpoint"], on=coefficients.KEY[1:], validate="1:1")
    russian, gap = is_russian(both["run"]), (both["rho_pairs"] + both["mean"]).abs()
    assert gap[russian].median() > 0.1
    np.testing.assert_allclose(gap[~russian], 0, atol=1e-9)


def test_sums_over_terms_are_derived_and_unsigned_ones_agree_with_the_definition(paths, released):
    found = coefficients.summed(on_released_targets(paths), miniature.quality(), released)
    assert len(found) == 3 * 2 * 4 * 2
    theirs = released[(released["level"] == "checkpoint") & (released["term"] == "L1")]
    both = found.merge(theirs, on=[name for name in coefficients.KEY[1:] if name != "term"], validate="1:1")
    np.testing.assert_allclose(both["signed"], both["mean"], atol=1e-9)
    row = found.query("run == 'sla-eng' and layer == 2 and indicator == 'cosine' and metric == 'chrf'").iloc[0]
    group = paths.query("run == 'sla-eng' and layer == 2 and target == 'own'")
    wide = group.pivot(index="checkpoint", columns="term", values="cosine")
    q = miniature.quality().query("run == 'sla-eng' and metric == 'chrf'")["score"].to_numpy()
    z = ((wide - wide.mean()) / wide.std()).to_numpy().T
    assert row["unsigned"] == pytest.approx(miniature.by_pairs(z, q, unsigned=True))


def test_reversing_time_turns_the_signed_sum_and_leaves_the_unsigned_one(paths, released):
    chosen, quality = on_released_targets(paths), miniature.quality()
    turned = [frame.assign(checkpoint=13_000 - frame["checkpoint"]) for frame in (chosen, quality)]
    one, two = coefficients.summed(chosen, quality, released), coefficients.summed(*turned, released)
    np.testing.assert_allclose(one["signed"], -two["signed"], atol=1e-12)
    np.testing.assert_allclose(one["unsigned"], two["unsigned"], atol=1e-12)


def in_released_form(paths, released):
    chosen, quality = on_released_targets(paths), miniature.quality()
    single = coefficients.by_term(chosen, quality, released, **LAGS)
    sums = coefficients.summed(chosen, quality, released)
    frames = [single.assign(as_released=-single["rho_pairs"]), sums.assign(term="L1", as_released=sums["signed"])]
    return pd.concat(frames).assign(level="checkpoint")


def test_pooling_takes_the_sum_into_the_first_term_alone(paths, released):
    found = coefficients.pooled(in_released_form(paths, released), released)
    assert len(found) == 2 * 4 * 4 * 2
    np.testing.assert_allclose(found["gap"], 0, atol=1e-15 * 8)  # sums of six numbers below one
    other = released.assign(mean=released["mean"].where(released["run"] != "rus-eng", released["mean"] + 0.01))
    np.testing.assert_allclose(coefficients.pooled(in_released_form(paths, released), other)["gap"], 0.01, atol=1e-12)
    first = found["term"] == "S"
    np.testing.assert_allclose(found.loc[~first, "alone"], found.loc[~first, "as_pooled"])
    assert (found.loc[first, "alone"] - found.loc[first, "as_pooled"]).abs().min() > 1e-6
    across = ["layer", "indicator", "metric"]
    means = found.set_index([*across, "term"])["alone"].unstack("term")
    as_pooled = found.loc[first].set_index(across)["as_pooled"]
    np.testing.assert_allclose(as_pooled, ((means["S"] + means["L1"]) / 2).loc[as_pooled.index])


# --- the deviation over samples of pairs ---


def drawn(released, paths=None, **arguments):
    paths = on_released_targets(miniature.trajectories()) if paths is None else paths
    return coefficients.over_samples(paths, miniature.quality(), released, **({"pairs": 20} | arguments))


def test_samples_of_all_pairs_do_not_differ(released):
    np.testing.assert_allclose(drawn(released, pairs=PAIRS)["sd_samples"], 0, atol=1e-12)


def test_more_pairs_differ_less_and_the_ratio_is_to_the_released_deviation(released):
    few, many = (drawn(released, pairs=pairs, samples=60) for pairs in (10, 40))
    assert many["sd_samples"].median() < 0.6 * few["sd_samples"].median()
    np.testing.assert_allclose(few["ratio"] * few["sd_samples"], miniature.STD)


def test_a_series_has_the_same_draws_whatever_else_is_computed(released):
    every = drawn(released)
    paths = on_released_targets(miniature.trajectories())
    some = drawn(released, paths[(paths["layer"] == 2) & (paths["term"] != "S")])
    both = some.merge(every, on=coefficients.KEY)
    assert len(both) == len(some) < len(every)
    np.testing.assert_array_equal(both["sd_samples_x"], both["sd_samples_y"])
    pd.testing.assert_frame_equal(every, drawn(released))
    assert not np.allclose(every["sd_samples"], drawn(released, seed=1)["sd_samples"])


def test_two_series_do_not_share_their_draws(released):
    """Were the draws the same, equal curves would have equal deviations."""
    paths = on_released_targets(miniature.trajectories(layers=(1,)))
    found = drawn(released, pd.concat([paths, paths.assign(layer=2)]))
    by_layer = found.pivot(index=[name for name in coefficients.KEY if name != "layer"], columns="layer")["sd_samples"]
    assert (by_layer[1] != by_layer[2]).all()


# --- bad input ---


def test_bad_input(paths, released):
    quality = miniature.quality()
    with pytest.raises(InputError, match=r"No released coefficient at checkpoint level stands beside"):
        coefficients.by_term(paths.assign(layer=paths["layer"] + 7), quality, released, **LAGS)
    with pytest.raises(InputError, match=r"no run is named rus-eng-\.\.\.; the runs are sla-eng"):
        coefficients.pooled(in_released_form(paths, released).query("run == 'sla-eng'"), released)
    with pytest.raises(InputError, match="no column 'score'"):
        coefficients.summed(paths, quality.drop(columns="score"), released)


def test_samples_that_cannot_be_drawn(released):
    with pytest.raises(InputError, match="has 66 pairs of checkpoints, fewer than pairs=67"):
        drawn(released, pairs=67)
    with pytest.raises(InputError, match="samples=1"):
        drawn(released, samples=1)

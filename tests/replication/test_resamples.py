"""The deviation over samples of pairs: seeded, independent of what else is computed, zero when all pairs are drawn."""

import numpy as np
import pandas as pd
import pytest

from addends.errors import InputError
from addends.replication import coefficients
from addends.replication.resamples import spread
from tests.replication import miniature

PAIRS = 12 * 11 // 2


@pytest.fixture(scope="module")
def released():
    return miniature.released()


def drawn(released, paths=None, **arguments):
    paths = coefficients.as_released(miniature.trajectories()) if paths is None else paths
    return spread(paths, miniature.quality(), released, **({"pairs": 20} | arguments))


def test_samples_of_all_pairs_do_not_differ(released):
    np.testing.assert_allclose(drawn(released, pairs=PAIRS)["sd_samples"], 0, atol=1e-12)


def test_more_pairs_differ_less_and_the_ratio_is_to_the_released_deviation(released):
    few, many = (drawn(released, pairs=pairs, samples=60) for pairs in (10, 40))
    assert many["sd_samples"].median() < 0.6 * few["sd_samples"].median()
    np.testing.assert_allclose(few["ratio"] * few["sd_samples"], miniature.STD)


def test_a_series_has_the_same_draws_whatever_else_is_computed(released):
    every = drawn(released)
    paths = coefficients.as_released(miniature.trajectories())
    some = drawn(released, paths[(paths["layer"] == 2) & (paths["term"] != "S")])
    both = some.merge(every, on=coefficients.KEY)
    assert len(both) == len(some) < len(every)
    np.testing.assert_array_equal(both["sd_samples_x"], both["sd_samples_y"])
    pd.testing.assert_frame_equal(every, drawn(released))
    assert not np.allclose(every["sd_samples"], drawn(released, seed=1)["sd_samples"])


def test_two_series_do_not_share_their_draws(released):
    """Were the draws the same, equal curves would have equal deviations."""
    paths = coefficients.as_released(miniature.trajectories(layers=(1,)))
    found = drawn(released, pd.concat([paths, paths.assign(layer=2)]))
    by_layer = found.pivot(index=[name for name in coefficients.KEY if name != "layer"], columns="layer")["sd_samples"]
    assert (by_layer[1] != by_layer[2]).all()


def test_bad_input(released):
    with pytest.raises(InputError, match="has 66 pairs of checkpoints, fewer than pairs=67"):
        drawn(released, pairs=67)
    with pytest.raises(InputError, match="samples=1"):
        drawn(released, samples=1)

"""The block bootstrap over checkpoints: what a replicate is, and how wide its intervals are."""

import numpy as np
import pandas as pd
import pytest

from addends.errors import InputError
from addends.statistics.bootstrap import draw_blocks, over_blocks
from addends.statistics.pairs import COEFFICIENTS, over_pairs

LAGS = {"longest_lag": 3, "burn_in": 10}


def tables(x, q, run="a"):
    steps = np.arange(len(x))
    data = pd.DataFrame({"run": run, "layer": 6, "term": "S", "checkpoint": steps, "importance": x})
    return data, pd.DataFrame({"run": run, "checkpoint": steps, "metric": "bleu", "score": q})


def noise(n, seed, memory=0.0, shared=0.0):
    """Two stationary series with autocorrelation ``memory``, which share a part of their noise."""
    generator = np.random.default_rng(seed)
    both, *own = generator.normal(size=(3, n + 100))
    series = []
    for each in own:
        shocks = shared * both + (1 - shared) * each
        values = np.empty(n + 100)
        values[0] = shocks[0]
        for place in range(1, n + 100):
            values[place] = memory * values[place - 1] + shocks[place]
        series.append(values[100:])
    return series


def resample(data, quality, **arguments):
    settings = {"block_length": 5, "replicates": 50, "seed": 1} | LAGS | arguments
    return over_blocks(data, quality, "importance", **settings)


def test_the_estimate_is_that_of_all_pairs():
    series = tables(*noise(60, 0, memory=0.5, shared=0.5))
    found = resample(*series).set_index("coefficient")["estimate"]
    exact = over_pairs(*series, "importance", **LAGS).iloc[0]
    for name in COEFFICIENTS:
        assert found[name] == pytest.approx(exact[name], abs=1e-12)


def test_ties_are_ranked_in_the_middle_under_weights_too():
    generator = np.random.default_rng(3)
    series = tables(*generator.integers(0, 4, (2, 60)).astype(float))
    found = resample(*series).set_index("coefficient")["estimate"]
    exact = over_pairs(*series, "importance", **LAGS).iloc[0]
    for name in COEFFICIENTS:
        assert found[name] == pytest.approx(exact[name], abs=1e-12)


def test_a_series_that_agrees_with_itself_does_so_in_every_replicate():
    x, _ = noise(60, 1, memory=0.5)
    found = resample(*tables(x, x))
    np.testing.assert_allclose(found[["estimate", "low_blocks", "high_blocks"]], 1)
    np.testing.assert_allclose(found["se_blocks"], 0, atol=1e-9)


def test_a_replicate_is_the_coefficient_of_the_checkpoints_it_drew():
    """Weights are multiplicities: repeating checkpoints in the data gives what weighing them gives."""
    from scipy import stats

    from addends.statistics.bootstrap import _replicates
    from addends.statistics.pairs import selections

    x, q = noise(30, 2, memory=0.5, shared=0.5)
    t = np.arange(30.0)
    weights = draw_blocks(30, 5, "moving", 1, np.random.default_rng(0))
    value = _replicates("rho", selections(t, **LAGS), t, x, q, weights)[0]
    drawn = np.repeat(np.arange(30), weights[0])
    pairs = [(x[j] - x[i], q[j] - q[i]) for i in drawn for j in drawn if i < j]
    assert value == pytest.approx(stats.spearmanr(*np.array(pairs).T).statistic, abs=1e-12)


@pytest.mark.parametrize("kind", ["moving", "stationary"])
@pytest.mark.parametrize(("n", "block"), [(20, 5), (23, 5), (20, 1), (20, 10)])
def test_blocks_hold_as_many_checkpoints_as_there_are_and_are_runs_of_neighbours(kind, n, block):
    weights = draw_blocks(n, block, kind, 200, np.random.default_rng(0))
    assert weights.shape == (200, n)
    assert (weights.sum(axis=1) == n).all()
    assert (weights >= 0).all()
    # Neighbours are drawn together, the more so the longer the block.
    together = np.mean([np.corrcoef(row[:-1], row[1:])[0, 1] for row in weights if row[1:].std() and row[:-1].std()])
    assert together > 0.3 if block >= 5 else together < 0.2
    if kind == "stationary":  # wraps around: every checkpoint is as likely
        assert np.abs(weights.mean(axis=0) - 1).max() < 0.5


def test_seeds_and_only_seeds_decide():
    series = tables(*noise(60, 4, memory=0.5))
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    pd.testing.assert_frame_equal(resample(*series), resample(*series))
    assert not resample(*series)["se_blocks"].equals(resample(*series, seed=2)["se_blocks"])
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("kind", ["moving", "stationary"])
@pytest.mark.parametrize(("memory", "block"), [(0.0, 2), (0.7, 15)])
def test_standard_errors_match_the_scatter_over_independent_stationary_series(kind, memory, block):
    names = ["rho", "rho_short_lag"]
    estimates, errors = [], []
    for seed in range(60):
        found = resample(
            *tables(*noise(150, seed, memory)), block_length=block, kind=kind, replicates=60, coefficients=names
        ).set_index("coefficient")
        estimates.append(found["estimate"])
        errors.append(found["se_blocks"])
    ratio = pd.DataFrame(errors).mean() / pd.DataFrame(estimates).std()
    print(kind, memory, block, ratio.round(2).to_dict())
    assert ratio.between(0.65, 1.4).all()


def test_blocks_of_single_checkpoints_understate_the_error_where_neighbours_resemble_each_other():
    series = tables(*noise(150, 6, memory=0.9))
    short, long = (resample(*series, block_length=b, coefficients=["rho"])["se_blocks"].item() for b in (1, 15))
    assert short < 0.7 * long


def test_few_blocks_are_warned_of():
    with pytest.warns(UserWarning, match=r"5\.0 blocks of 6 checkpoints"):
        resample(*tables(*noise(30, 0)), block_length=6)


def test_constant_series_are_missing():
    found = resample(*tables(np.ones(60), noise(60, 0)[0]))
    assert found["estimate"].isna().all()
    assert (found["defined"] == 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"block_length": 0}, "block_length=0 is not a whole number of 1 or more"),
        ({"block_length": 2.5}, "block_length=2.5"),
        ({"block_length": 40}, "needs 80 checkpoints or more"),
        ({"replicates": 1}, "replicates=1"),
        ({"kind": "circular"}, "'circular' is not one of"),
        ({"level": 95}, "level=95"),
        ({"coefficients": ["tau"]}, "name some of"),
        ({"coefficients": []}, "name some of"),
        ({"longest_lag": -1}, "longest_lag=-1"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        resample(*tables(*noise(60, 0)), **arguments)

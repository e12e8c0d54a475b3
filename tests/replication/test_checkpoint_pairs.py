"""Correlations of changes over all pairs of checkpoints, and detrended."""

import time
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from addends.errors import InputError
from addends.replication import released_analyses, released_tables
from addends.replication.checkpoint_pairs import COEFFICIENTS, correlate_pairs
from addends.statistics import correlate_checkpoints
from tests.replication.miniature import real

LAGS = {"longest_lag": 3000, "burn_in": 10_000}


def tables(x, q, run="a", steps=None):
    """A table of trajectories with one group, and its table of quality."""
    steps = np.arange(1, len(x) + 1) * 1000 if steps is None else steps
    data = pd.DataFrame({"run": run, "layer": 6, "term": "S", "checkpoint": steps, "importance": x})
    return data, pd.DataFrame({"run": run, "checkpoint": steps, "metric": "bleu", "score": q})


@pytest.fixture
def walks():
    """Two runs of thirty checkpoints: an indicator and a quality that both wander upwards."""
    generator = np.random.default_rng(5)
    pairs = [tables(*generator.normal(0.1, 1, (2, 30)).cumsum(axis=1), run=run) for run in ("a", "b")]
    return tuple(pd.concat(frames, ignore_index=True) for frames in zip(*pairs, strict=True))


def correlate(data, quality, **arguments):
    return correlate_pairs(data, quality, "importance", **(LAGS | arguments))


def brute_force(t, x, q, keep):
    """The definition, by two loops and scipy."""
    changes = [
        (x[j] - x[i], q[j] - q[i], t[j] - t[i])
        for i in range(len(t))
        for j in range(i + 1, len(t))
        if keep(i, j, t[i], t[j])
    ]
    dx, dq, dt = np.array(changes).T
    return stats.spearmanr(dx, dq).statistic, dx, dq, dt


def test_a_series_agrees_with_itself_and_opposes_its_negative(walks):
    data, quality = walks
    for sign in (1, -1):
        found = correlate(data, quality.assign(score=sign * data["importance"].to_numpy()))
        np.testing.assert_allclose(found[list(COEFFICIENTS)], sign)


def test_agrees_with_the_definition_pair_by_pair(walks):
    data, quality = walks
    found = correlate(data, quality).set_index("run")
    for run in ("a", "b"):
        t, x = data.loc[data["run"] == run, ["checkpoint", "importance"]].to_numpy().T
        q = quality.loc[quality["run"] == run, "score"].to_numpy()
        kept = {
            "rho_pairs": lambda i, j, s, e: True,
            "rho_late": lambda i, j, s, e: s >= 10_000,
            "rho_short_lag": lambda i, j, s, e: e - s <= 3000,
            "rho_late_short_lag": lambda i, j, s, e: s >= 10_000 and e - s <= 3000,
            "rho_differences": lambda i, j, s, e: j == i + 1,
        }
        for name, keep in kept.items():
            rho, dx, dq, dt = brute_force(t, x, q, keep)
            assert found.loc[run, name] == pytest.approx(rho, abs=1e-12)
            column = {"rho_pairs": "pairs"}.get(name, name.replace("rho", "pairs"))
            if column in found:
                assert found.loc[run, column] == len(dx)
        # A partial correlation is the correlation of what regression on the third variable leaves.
        _, dx, dq, dt = brute_force(t, x, q, kept["rho_pairs"])
        ranks = stats.rankdata(dt)
        left = [stats.rankdata(d) - np.polyval(np.polyfit(ranks, stats.rankdata(d), 1), ranks) for d in (dx, dq)]
        assert found.loc[run, "rho_given_lag"] == pytest.approx(np.corrcoef(*left)[0, 1], abs=1e-9)


def test_neighbours_are_the_first_differences_of_correlate_checkpoints(walks):
    data, quality = walks
    joined = data.merge(quality, on=["run", "checkpoint"])
    expected = correlate_checkpoints(joined, "importance", "score")["rho_differences"]
    np.testing.assert_allclose(correlate(data, quality)["rho_differences"], expected)
    # one step of the grid at most is the same set of pairs
    np.testing.assert_allclose(correlate(data, quality, longest_lag=1000)["rho_short_lag"], expected)


def test_a_lag_longer_than_the_training_and_no_burn_in_keep_all_pairs(walks):
    found = correlate(*walks, longest_lag=1e9, burn_in=0)
    for name in ("rho_late", "rho_short_lag", "rho_late_short_lag"):
        np.testing.assert_array_equal(found[name], found["rho_pairs"])


def test_order_of_rows_units_and_standardising_change_nothing_but_the_released_sign_does(walks):
    data, quality = walks
    moved = data.sample(frac=1, random_state=3)
    moved["importance"] = moved["importance"] * 1e3 + 7
    found = correlate(data, quality)
    pd.testing.assert_frame_equal(found, correlate(moved, quality.sample(frac=1, random_state=4)))
    x = data.groupby("run")["importance"]
    inverted = data.assign(importance=(x.transform("mean") - data["importance"]) / x.transform("std"))
    np.testing.assert_allclose(correlate(inverted, quality)[list(COEFFICIENTS)], -found[list(COEFFICIENTS)])


def test_two_curves_that_only_grow_agree_over_distant_pairs_alone():
    generator = np.random.default_rng(0)
    growth = np.linspace(0, 10, 200)
    found = correlate(*tables(*(growth + generator.normal(0, 0.3, (2, 200))))).iloc[0]
    assert found["rho_pairs"] > 0.9
    assert abs(found["rho_short_lag"]) < 0.2
    assert abs(found["rho_differences"]) < 0.2
    assert abs(found["rho_given_lag"]) < 0.2


def test_samples_of_pairs_scatter_around_the_exact_coefficient(walks):
    data, quality = (frame[frame["run"] == "a"] for frame in walks)
    exact = correlate(data, quality)["rho_pairs"].item()
    i, j = np.triu_indices(30, 1)
    x, q = data["importance"].to_numpy(), quality["score"].to_numpy()
    generator = np.random.default_rng(1)
    sampled = []
    for _ in range(400):
        k = generator.choice(len(i), 100, replace=False)
        sampled.append(stats.spearmanr(x[j[k]] - x[i[k]], q[j[k]] - q[i[k]]).statistic)
    assert abs(np.mean(sampled) - exact) < 4 * np.std(sampled) / np.sqrt(len(sampled)) + 0.005


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_changes_of_rounded_scores_tie(dtype):
    """60.1 - 60.0 and 60.2 - 60.1 differ in floating point; as scores of one decimal they are the same change."""
    generator = np.random.default_rng(2)
    tenths = generator.integers(580, 620, 40)
    data, quality = tables(generator.normal(size=40), tenths / 10)
    whole = quality.assign(score=tenths.astype(float))
    found = correlate(data, quality.astype({"score": dtype}))
    np.testing.assert_array_equal(found["rho_pairs"], correlate(data, whole)["rho_pairs"])
    i, j = np.triu_indices(40, 1)
    x = data["importance"].to_numpy()
    assert found["rho_pairs"].item() == pytest.approx(stats.spearmanr(x[j] - x[i], tenths[j] - tenths[i]).statistic)


def test_several_indicators_and_metrics_share_ranks_without_mixing_them(walks):
    data, quality = walks
    generator = np.random.default_rng(9)
    data = data.assign(cosine=generator.normal(size=len(data)).cumsum())
    other = quality.assign(metric="chrf", score=generator.normal(size=len(quality)).cumsum())
    other.loc[other.index == 3, "score"] = np.nan  # another grid in run a
    both = correlate_pairs(data, pd.concat([quality, other]), ["importance", "cosine"], **LAGS)
    assert len(both) == 8
    for indicator in ("importance", "cosine"):
        for metric, scores in (("bleu", quality), ("chrf", other)):
            alone = correlate_pairs(data, scores, indicator, **LAGS)
            together = both[(both["indicator"] == indicator) & (both["metric"] == metric)].reset_index(drop=True)
            pd.testing.assert_frame_equal(alone, together)
    chrf = both[both["metric"] == "chrf"]
    assert list(chrf.loc[chrf["run"] == "a", "missing"]) == [1, 1]
    assert list(chrf.loc[chrf["run"] == "b", "missing"]) == [0, 0]


def test_checkpoints_without_quality_are_counted_not_dropped_in_silence(walks):
    data, quality = walks
    found = correlate(data, quality.drop(index=[0, 4, 35]))
    assert list(found["missing"]) == [2, 1]
    assert list(found["checkpoints"]) == [28, 29]


def test_undefined_coefficients_are_missing_and_say_why(walks):
    data, quality = walks
    flat = correlate(data.assign(importance=0.1), quality)
    assert flat[list(COEFFICIENTS)].isna().all(axis=None)
    assert set(flat["note"]) == {"importance is constant"}
    line = correlate(data.assign(importance=0.1 * data["checkpoint"]), quality).iloc[0]
    assert np.isnan(line["rho_differences"])
    assert np.isnan(line["rho_given_lag"])
    assert "rho_differences" in line["note"]
    assert "rho_given_lag" in line["note"]
    assert np.isfinite(line["rho_pairs"])
    gone = correlate(data.assign(importance=np.nan), quality)
    assert set(gone["note"]) == {"importance is missing throughout"}


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda d, q: (d.rename(columns={"importance": "importence"}), q), {}, "Did you mean 'importence'"),
        (lambda d, q: (d, q.rename(columns={"score": "value"})), {}, "no column 'score'"),
        (lambda d, q: (d, q[q["run"] == "a"]), {}, "no rows of b"),
        (
            lambda d, q: (d[d["checkpoint"] <= 3000], q),
            {},
            r"in 2 series: run=.a., layer=6, term=.S., importance and bleu \(3\)",
        ),
        (lambda d, q: (pd.concat([d, d.iloc[[2]]]), q), {}, "checkpoint=3000"),
        (lambda d, q: (d, pd.concat([q, q.iloc[[2]]])), {}, "stand more than once: run='a', checkpoint=3000"),
        (lambda d, q: (d.assign(importance=d["importance"].where(d.index != 11, np.inf)), q), {}, "from 0: 11"),
        (lambda d, q: (d.iloc[:0], q), {}, "no rows"),
        (lambda d, q: (d, q), {"by": ["layer", "term"]}, "must name 'run'"),
        (lambda d, q: (d, q), {"longest_lag": 0}, "longest_lag=0 is not a number of steps, more than 0"),
        (lambda d, q: (d, q), {"burn_in": -1}, "burn_in=-1 is not"),
        (lambda d, q: (d, q), {"longest_lag": np.nan}, "longest_lag=nan"),
        (lambda d, q: (d, q), {"longest_lag": 5}, "longest_lag=5 leaves no pair .* neighbours are 1000.0 apart"),
        (lambda d, q: (d, q), {"burn_in": 1e6}, "burn_in=1000000.0 leaves no pair"),
    ],
)
def test_bad_input(walks, change, arguments, message):
    with pytest.raises(InputError, match=message):
        correlate(*change(*walks), **arguments)


# --- the released tables ---


@pytest.fixture(scope="module")
def released_pairs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        quality = released_tables.quality()
    trajectories = released_tables.trajectories()
    last = trajectories[(trajectories["by"] == "sublayer") & (trajectories["layer"] == 6)]
    started = time.perf_counter()
    names = ["run", "target", "layer", "term"]
    found = correlate_pairs(last, quality, by=names, longest_lag=5000, burn_in=100_000)
    print(f"{len(found)} series in {time.perf_counter() - started:.0f} s")
    return found


RUNS = ["rus-eng-s0", "rus-eng-s1", "rus-eng-s2", "sla-eng", "ine-eng", "mul-eng"]


@pytest.mark.slow
@real
def test_released_coefficients_are_samples_of_the_exact_ones_with_the_sign_reversed(released_pairs):
    """As far off as a mean of ten samples, if the Russian runs are those that decompose the references, and only then.

    Of Student's t with 9 degrees of freedom, 5 % are beyond 2.26; `replication.replays` says by how much that varies.
    """
    released = released_analyses.correlations()
    released = released[(released["level"] == "checkpoint") & (released["by"] == "sublayer")]
    key = ["run", "layer", "term", "indicator", "metric"]
    both = released_pairs.merge(released, on=key)
    both["t"] = (-both["mean"] - both["rho_pairs"]) / (both["std"] / np.sqrt(10))
    russian = both["run"].str.startswith("rus")
    as_released = both[both["target"] == np.where(russian, "reference", "own")]
    assert len(as_released) == 6 * 5 * 4 * 3
    outside = both["t"].abs().gt(stats.t.ppf(0.975, 9)).groupby([russian, both["target"]]).mean()
    assert outside[True, "reference"] < 0.06
    assert outside[False, "own"] < 0.06
    assert outside[True, "own"] > 0.12
    assert both["mean"].abs().gt(5 * both["std"]).mean() > 0.5  # most are far from zero, so that a sign can be wrong


@real
def test_released_signs_are_the_reverse_of_the_true_ones(released_pairs):
    own = released_pairs[(released_pairs["target"] == "own") & (released_pairs["term"] == "S")]
    row = own[(own["indicator"] == "importance") & (own["metric"] == "bleu")].set_index("run").loc["rus-eng-s0"]
    assert row["rho_pairs"] == pytest.approx(-0.715, abs=0.001)


@real
def test_released_correlations_of_levels_are_mostly_trend(released_pairs):
    chosen = released_pairs[(released_pairs["target"] == "own") & (released_pairs["term"] == "T")]
    chosen = chosen[(chosen["indicator"] == "norm_ratio") & (chosen["metric"] == "bleu")].set_index("run").loc[RUNS]
    np.testing.assert_allclose(chosen["rho_pairs"], [0.741, 0.798, 0.748, 0.654, 0.750, 0.474], atol=0.001)
    short = [0.187, 0.144, 0.217, 0.118, -0.101, -0.168]
    np.testing.assert_allclose(chosen["rho_late_short_lag"], short, atol=0.001)

"""The replay of the released procedure: it accepts what was released by it, and nothing else."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from addends.errors import InputError
from addends.replication import derived, released_analyses, released_tables, replays
from addends.replication.released import on_released_targets
from tests.replication import miniature
from tests.replication.miniature import real

STEPS = np.arange(1, 31) * 1000
ARGUMENTS = {"pairs": 60, "draws": 60, "most": 3000}
ORDER = ["set", *replays.CLUSTER]


@pytest.fixture(scope="module")
def paths():
    generator = np.random.default_rng(4)
    frames = []
    for run, target, layer, term in itertools.product(miniature.RUNS, ("own", "reference"), (1, 2), miniature.TERMS):
        about = {"run": run, "checkpoint": STEPS, "target": target, "layer": layer, "by": "token", "term": term}
        walks = generator.normal(0.2, 1, (4, len(STEPS))).cumsum(axis=1)
        frames.append(pd.DataFrame(about | dict(zip(miniature.INDICATORS, walks, strict=True))))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def quality():
    generator = np.random.default_rng(5)
    frames = []
    for run, (metric, decimals) in itertools.product(miniature.RUNS, {"bleu": 9, "chrf": 1}.items()):
        score = np.round(generator.normal(0.3, 0.5, len(STEPS)).cumsum() + 20, decimals)
        frames.append(pd.DataFrame({"run": run, "checkpoint": STEPS, "metric": metric, "score": score}))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def released(paths, quality):
    """Ten samples of pairs for each run, indicator and metric, shared by layers, terms and their sum; upside down."""
    generator = np.random.default_rng(6)
    i, j = np.triu_indices(len(STEPS), 1)
    rows = []
    for run, indicator, metric in itertools.product(miniature.RUNS, miniature.INDICATORS, ("bleu", "chrf")):
        samples = [generator.choice(len(i), ARGUMENTS["pairs"], replace=False) for _ in range(10)]
        q = quality[(quality["run"] == run) & (quality["metric"] == metric)]["score"].to_numpy()
        target = "reference" if run.startswith("rus") else "own"
        for layer, group in paths[(paths["run"] == run) & (paths["target"] == target)].groupby("layer"):
            wide = group.pivot(index="checkpoint", columns="term", values=indicator)
            z = (wide.mean() - wide) / wide.std()
            changes = {term: (z[term].to_numpy()[j] - z[term].to_numpy()[i]) for term in z}
            changes["L1"] = np.sum([np.abs(change) for change in changes.values()], axis=0)
            for term, change in changes.items():
                rho = [stats.spearmanr(change[s], (q[j] - q[i])[s]).statistic for s in samples]
                rows.append((metric, run, layer, indicator, term, np.mean(rho), np.std(rho, ddof=1)))
    frame = pd.DataFrame(rows, columns=["metric", "run", "layer", "indicator", "term", "mean", "std"])
    return frame.assign(level="checkpoint", by="token")


def replayed(paths, quality, released, **arguments):
    return replays.replay(replays.checkpoint_clusters(paths, quality, released), **(ARGUMENTS | arguments))


@pytest.fixture(scope="module")
def truth(paths, quality, released):
    return replayed(on_released_targets(paths), quality, released)


def test_distances_are_those_of_the_definition(paths, quality, released):
    found = replays.standing(replays.checkpoint_clusters(on_released_targets(paths), quality, released))
    assert len(found) == len(released)
    both = found.merge(released, on=["level", "by", "run", "layer", "term", "indicator", "metric"], validate="1:1")
    for row in both.iloc[::17].itertuples():
        group = paths.query("run == @row.run and target == @row.target and layer == @row.layer")
        wide = group.pivot(index="checkpoint", columns="term", values=row.indicator)
        x = wide[row.term].to_numpy() if row.term != "L1" else ((wide - wide.mean()) / wide.std()).to_numpy().T
        q = quality.query("run == @row.run and metric == @row.metric")["score"].to_numpy()
        rho = miniature.by_pairs(x, q)
        sign = 1 if row.term == "L1" else -1
        assert row.t == pytest.approx((sign * row.mean - rho) / (row.std / np.sqrt(10)), abs=1e-9)
        assert row.t_as_released == pytest.approx((row.mean - rho) / (row.std / np.sqrt(10)), abs=1e-9)


def test_distances_over_sentences_are_those_of_the_definition():
    released = miniature.released()
    found = replays.standing(replays.sentence_clusters(miniature.items(), released))
    assert len(found) == (released["level"] == "sentence").sum() - 2 * 4 * 4  # all but the pooled rows
    assert set(found["set"]) == {"sentences"}
    assert found.loc[found["term"] != "L1", "t"].abs().max() < 5  # two equal changes of COMET may differ in rounding


def test_what_the_procedure_released_is_not_found_unlikely(truth):
    assert len(truth.clusters) == 3 * 4 * 2
    assert (truth.clusters["cells"] == 2 * (3 + 1)).all()
    totals = truth.totals.set_index("set")
    assert set(totals.index) == {"Russian runs, references", "other runs, own output"}
    assert (totals["p"] > 0.05).all()
    assert (totals["unlikely_p"] > 0.05).all()
    assert (totals["smallest_holm"] > 0.05).all()
    assert ((totals["lower"] <= totals["outside"]) & (totals["outside"] <= totals["upper"])).all()
    share = truth.clusters["expected"].sum() / truth.clusters["cells"].sum()
    assert 0.02 < share < 0.08  # as Student's t has it, but for the skew of coefficients near 1


def wrong_sign(paths, quality, released):
    turned = released.assign(mean=released["mean"].where(released["term"] == "L1", -released["mean"]))
    return on_released_targets(paths), quality, turned


def wrong_indicator(paths, quality, released):
    return (
        on_released_targets(paths).rename(columns={"cosine": "distance", "distance": "cosine"}),
        quality,
        released,
    )


def swapped_target(paths, quality, released):
    return paths[paths["target"] == "own"], quality, released


def shifted_quality(paths, quality, released):
    return (
        on_released_targets(paths),
        quality.assign(score=quality.groupby(["run", "metric"])["score"].shift()),
        released,
    )


@pytest.mark.parametrize("slip", [wrong_sign, wrong_indicator, swapped_target, shifted_quality])
def test_a_slip_in_the_derivation_is_found(slip, paths, quality, released):
    found = replayed(*slip(paths, quality, released), most=ARGUMENTS["draws"])
    totals = found.totals.set_index("set")
    wrong = totals if slip is not swapped_target else totals.loc[["Russian runs, own output"]]
    assert (wrong["p"] == 1 / (ARGUMENTS["draws"] + 1)).all()
    assert (wrong["outside"] > wrong["upper"]).all()
    assert (wrong["unlikely_p"] < 0.05).all()
    if slip is swapped_target:  # the run whose target is right stays as it is
        assert totals.loc["other runs, own output", "p"] > 0.05


def test_one_wrong_cluster_among_many_is_found(paths, quality, released):
    """Replays go on until p is small enough to be a finding by Holm among all of them."""
    one = (released["run"] == "rus-eng-s1") & (released["indicator"] == "importance") & (released["metric"] == "bleu")
    wrong = released.assign(mean=released["mean"].where(~one | (released["term"] == "L1"), -released["mean"]))
    found = replayed(on_released_targets(paths), quality, wrong)
    totals = found.totals.set_index("set")
    assert totals.loc["Russian runs, references", "smallest_holm"] < 0.05
    assert totals.loc["other runs, own output", "smallest_holm"] > 0.05
    first = found.clusters.sort_values("p").iloc[0]
    assert (first["run"], first["indicator"], first["metric"]) == ("rus-eng-s1", "importance", "bleu")
    assert first["draws"] > 1000  # where 60 could not have found it


def test_cells_of_a_cluster_share_their_samples(paths, quality, released):
    """Equal curves in both layers go out together in every replay; each for itself they would not."""
    chosen = on_released_targets(paths)
    twins = chosen[chosen["layer"] == 1]
    twins = pd.concat([twins, twins.assign(layer=2)])
    cluster = next(replays.checkpoint_clusters(twins, quality, released))
    chance = replays._replays(cluster, 30, 60, np.random.default_rng(0))
    cells = cluster.cells.reset_index().pivot(index="term", columns="layer", values="index")
    np.testing.assert_array_equal(chance[:, cells[1]], chance[:, cells[2]])
    assert (np.abs(chance) > replays.T_LIMIT).any()


def test_a_replay_is_spearmans_rho_of_ten_samples_ties_and_all(paths, quality, released):
    """Scores in whole numbers, so that many changes tie; the same pairs, drawn again here."""
    rounded = quality.assign(score=quality["score"].round())
    cluster = next(replays.checkpoint_clusters(on_released_targets(paths), rounded, released))
    chance = replays._replays(cluster, 3, 60, np.random.default_rng(0))
    generator, size = np.random.default_rng(0), len(cluster.quality)
    drawn = [generator.choice(size, 60, replace=False) for _ in range(3 * 10)]
    assert len(np.unique(cluster.quality[drawn[0]])) < 40
    for cell, ranks in enumerate(cluster.ranks):
        rho = np.reshape([stats.spearmanr(ranks[d], cluster.quality[d]).statistic for d in drawn], (3, 10))
        t = (rho.mean(axis=1) - cluster.cells["exact"][cell]) / (rho.std(axis=1, ddof=1) / np.sqrt(10))
        np.testing.assert_allclose(chance[:, cell], t, atol=1e-9)


def test_a_cluster_has_the_same_replays_whatever_else_is_computed(truth, paths, quality, released):
    chosen = on_released_targets(paths)
    some = replayed(chosen[chosen["run"] == "rus-eng-s1"], quality, released).clusters
    both = some.merge(truth.clusters, on=ORDER, suffixes=("", "_all"))
    assert len(both) == len(some) == 8
    for name in ("outside", "expected", "p", "draws"):
        np.testing.assert_array_equal(both[name], both[f"{name}_all"])
    other = replayed(chosen[chosen["run"] == "rus-eng-s1"], quality, released, seed=1).clusters
    assert not np.array_equal(other["expected"], some["expected"])


def test_the_band_holds_most_quantiles_of_what_was_released(truth):
    quantiles = truth.quantiles
    assert (quantiles["lower"] <= quantiles["upper"]).all()
    assert truth.standing["t"].abs().gt(replays.T_LIMIT).sum() == truth.clusters["outside"].sum()
    inside = (quantiles["lower"] <= quantiles["released"]) & (quantiles["released"] <= quantiles["upper"])
    assert inside.mean() > 0.8
    middle = quantiles[quantiles["quantile"].abs() <= 2]
    np.testing.assert_allclose((middle["lower"] + middle["upper"]) / 2, middle["quantile"], atol=0.6)


def test_bad_input(paths, quality, released):
    chosen = on_released_targets(paths)
    with pytest.raises(InputError, match="has 435 pairs; samples of pairs=435 need more"):
        replayed(chosen, quality, released, pairs=435)
    with pytest.raises(InputError, match=r"draws=19, pairs=60: 20 draws or more"):
        replayed(chosen, quality, released, draws=19)
    with pytest.raises(InputError, match="there is no cluster"):
        replays.replay([])
    with pytest.raises(InputError, match="No released coefficient at checkpoint level"):
        replayed(chosen.assign(layer=chosen["layer"] + 7), quality, released)
    short = chosen[(chosen["term"] != "S") | (chosen["checkpoint"] > 1000)]
    with pytest.raises(InputError, match="do not stand at the same checkpoints"):
        replayed(short, quality, released)


@pytest.mark.slow
@real
@pytest.mark.filterwarnings("ignore:Left out 44 released scores")
def test_equal_changes_of_a_score_with_one_decimal_did_not_tie_in_the_release():
    """In whole numbers of the last decimal they do, and several times as many coefficients are outside."""
    paths = released_tables.trajectories().query(
        "run == 'rus-eng-s0' and by == 'sublayer' and target == 'reference' and layer > 0"
    )
    scores, released = (
        released_tables.quality().query("run == 'rus-eng-s0' and metric == 'chrf'"),
        released_analyses.correlations(),
    )
    whole = scores.assign(score=(10 * scores["score"]).round())
    outside = [
        replays.standing(replays.checkpoint_clusters(paths, each, released))["t"].abs().gt(replays.T_LIMIT).sum()
        for each in (scores, whole)
    ]
    assert outside[0] < 6 * 4 * 6 * 0.15
    assert outside[1] > 3 * outside[0]


@pytest.mark.slow
@real
@pytest.mark.filterwarnings("ignore:Left out 44 released scores")
def test_the_stored_replays_are_those_of_the_released_files():
    """One cluster; the command computes all of them."""
    paths = released_tables.trajectories().query(
        "run == 'rus-eng-s0' and by == 'token' and target == 'reference' and layer > 0"
    )
    scores = released_tables.quality().query("run == 'rus-eng-s0' and metric == 'chrf'")
    found = replays.checkpoint_clusters(paths, scores, released_analyses.correlations())
    found = [cluster for cluster in found if cluster.names["indicator"] == "cosine"]
    kept = derived.read(Path(__file__).parents[2] / "data" / "published_results")
    row = replays.replay(found).clusters.merge(kept["clusters"], on=ORDER, suffixes=("", "_stored")).iloc[0]
    for name in ("cells", "outside", "expected", "p", "draws"):
        assert row[name] == pytest.approx(row[f"{name}_stored"], abs=1e-4)

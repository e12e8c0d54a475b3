import numpy as np
import pandas as pd
import pytest
from scipy import stats

from addends.errors import InputError
from addends.replication.checkpoint_pairs import correlate_pairs
from addends.statistics import correlate_checkpoints, with_quality_of_others

COEFFICIENTS = ["rho_levels", "rho_differences", "rho_given_step"]


def trajectory(x, q, run="a", steps=None):
    steps = np.arange(1, len(x) + 1) * 1000 if steps is None else steps
    return pd.DataFrame({"run": run, "layer": 6, "term": "S", "checkpoint": steps, "importance": x, "chrf": q})


def correlate(data, **arguments):
    return correlate_checkpoints(data, "importance", "chrf", **arguments)


@pytest.fixture
def walks():
    """Two runs of thirty checkpoints: an indicator and a quality that both wander."""
    generator = np.random.default_rng(5)
    return pd.concat(
        trajectory(*generator.normal(0.1, 1, (2, 30)).cumsum(axis=1), run=run) for run in ("a", "b")
    ).reset_index(drop=True)


def test_a_series_agrees_with_itself_and_opposes_its_negative(walks):
    same = correlate(walks.assign(chrf=walks["importance"]))
    np.testing.assert_allclose(same[COEFFICIENTS], 1)
    against = correlate(walks.assign(chrf=-walks["importance"]))
    np.testing.assert_allclose(against[COEFFICIENTS], -1)


def test_order_of_rows_and_units_change_nothing(walks):
    shuffled = walks.sample(frac=1, random_state=3)
    shuffled["importance"] *= 1e6
    shuffled["chrf"] = shuffled["chrf"] / 100 + 7
    pd.testing.assert_frame_equal(correlate(walks), correlate(shuffled))


def test_rho_survives_any_monotone_change_and_so_does_the_partial_one(walks):
    changed = walks.assign(importance=np.exp(walks["importance"]), checkpoint=walks["checkpoint"] ** 2)
    columns = ["rho_levels", "rho_given_step"]
    np.testing.assert_allclose(correlate(walks)[columns], correlate(changed)[columns])


def test_parity_with_scipy_and_with_residuals_of_ranks(walks):
    found = correlate(walks).set_index("run")
    for run, rows in walks.groupby("run"):
        x, q, t = (rows[name].to_numpy() for name in ("importance", "chrf", "checkpoint"))
        assert found.loc[run, "rho_levels"] == pytest.approx(stats.spearmanr(x, q).statistic)
        assert found.loc[run, "rho_differences"] == pytest.approx(stats.spearmanr(np.diff(x), np.diff(q)).statistic)
        # A partial correlation is the correlation of what regression on the third variable leaves.
        ranks = stats.rankdata(t)
        left = [stats.rankdata(s) - np.polyval(np.polyfit(ranks, stats.rankdata(s), 1), ranks) for s in (x, q)]
        assert found.loc[run, "rho_given_step"] == pytest.approx(np.corrcoef(*left)[0, 1])
        assert found.loc[run, "checkpoints"] == 30


@pytest.mark.parametrize("unit", [10, 100, 30, 7])
def test_ties_are_those_of_whole_numbers(unit):
    """In floating point 1.4 - 1.3 is not 1.5 - 1.4: differences are counted in their last decimal, or part."""
    x = np.array([12, 14, 13, 15, 14, 15, 17, 19, 20, 22, 24, 25])
    q = np.array([202, 205, 206, 209, 212, 213, 214, 217, 218, 219, 222, 222])
    expected = stats.spearmanr(np.diff(x), np.diff(q)).statistic
    data = trajectory(x / unit, q / unit)
    assert correlate(data)["rho_differences"][0] == pytest.approx(expected, abs=1e-12)
    quality = data[["run", "checkpoint", "chrf"]].rename(columns={"chrf": "score"}).assign(metric="chrf")
    pairs = correlate_pairs(data, quality, "importance", longest_lag=2000, burn_in=0)
    assert pairs["rho_differences"][0] == pytest.approx(expected, abs=1e-12)
    i, j = np.triu_indices(12, 1)
    assert pairs["rho_pairs"][0] == pytest.approx(stats.spearmanr(x[j] - x[i], q[j] - q[i]).statistic, abs=1e-12)


def test_two_curves_that_only_grow_agree_in_levels_alone():
    generator = np.random.default_rng(0)
    growth = np.linspace(0, 10, 200)
    row = correlate(trajectory(growth + generator.normal(0, 0.3, 200), growth + generator.normal(0, 0.3, 200))).iloc[0]
    assert row["rho_levels"] > 0.95
    assert abs(row["rho_differences"]) < 0.2
    assert abs(row["rho_given_step"]) < 0.2


@pytest.mark.parametrize("dtype", ["float32", "float64", "Float32"])
def test_constant_series_are_missing_and_said_so_never_zero(dtype):
    rises = np.array([0.1, 0.5, 0.2, 0.9, 0.4])
    data = pd.concat([trajectory(np.full(5, 0.1), rises, "flat"), trajectory(0.1 * np.arange(1, 6), rises, "straight")])
    rows = correlate(data.astype({"importance": dtype, "chrf": dtype})).set_index("run")
    assert rows.loc["flat", COEFFICIENTS].isna().all()
    assert rows.loc["flat", "note"] == "importance is constant"
    assert rows.loc["straight", "rho_levels"] == pytest.approx(0.5)
    # 0.1, 0.2, ..., 0.5 in floating point: its differences differ by rounding alone
    assert rows.loc["straight", ["rho_differences", "rho_given_step"]].isna().all()
    assert rows.loc["straight", "note"] == "importance changes by a constant; importance is monotone in the step"


def test_missing_values_are_left_out_and_counted(walks):
    gaps = walks.assign(importance=walks["importance"].where(~walks.index.isin([3, 9])))
    expected = correlate(walks.drop(index=[3, 9])).drop(columns=["missing"])
    found = correlate(gaps)
    assert list(found["missing"]) == [2, 0]
    assert list(found["checkpoints"]) == [28, 30]
    pd.testing.assert_frame_equal(found.drop(columns=["missing"]), expected)


def test_a_group_with_nothing_to_correlate_says_so(walks):
    found = correlate(walks.assign(importance=walks["importance"].where(walks["run"] == "b"))).iloc[0]
    assert found[COEFFICIENTS].isna().all()
    assert found["note"] == "importance and chrf are both there at 0 checkpoint(s) only"
    assert found["missing"] == 30


def test_no_p_values(walks):
    columns = list(correlate(walks).columns)
    assert columns == ["run", "layer", "term", *COEFFICIENTS, "checkpoints", "missing", "note"]


def test_by_names_the_groups(walks):
    data = pd.concat([walks.assign(method=method) for method in ("sublayer", "token")])
    assert len(correlate(data, by=["method", "run"])) == 4
    assert len(correlate(walks, by="run")) == 2


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (
            lambda d: d.rename(columns={"importance": "importence"}),
            {},
            "no column 'importance'. Did you mean 'importence'",
        ),
        (lambda d: d[d["checkpoint"] <= 3000], {}, r"fewer than 4 .* 2 group\(s\): run='a', layer=6, term='S' \(3\)"),
        (lambda d: pd.concat([d, d.iloc[[2]]]), {}, "run='a', layer=6, term='S', checkpoint=3000"),
        (lambda d: d, {"by": ["layer", "term"]}, "30 stand more than once"),
        (lambda d: d.assign(chrf=d["chrf"].where(d.index != 11, np.inf)), {}, "counted from 0: 11"),
        (lambda d: d.assign(run=d["run"].where(d.index != 11)), {}, "counted from 0: 11"),
        (lambda d: d.assign(chrf="good"), {}, "'chrf' holds .*, not numbers"),
        (lambda d: d, {"by": []}, "must name a column"),
        (lambda d: d, {"step": "importance"}, "different columns"),
        (lambda d: d.iloc[:0], {}, "no rows"),
    ],
)
def test_bad_input(walks, change, arguments, message):
    with pytest.raises(InputError, match=message):
        correlate(change(walks), **arguments)


# --- the control: another run's quality ---


def trainings(runs, coupling, seed, points=40):
    """Runs whose indicator and quality both saturate over log-spaced steps, with noise that they share by coupling."""
    generator = np.random.default_rng(seed)
    steps = np.unique(np.geomspace(10, 3000, points).round().astype(int))
    frames = []
    for run in range(runs):
        shared, *own = generator.normal(0, 0.02, (3, len(steps)))
        noise = [coupling * shared + (1 - coupling) * each for each in own]
        speeds = generator.uniform(100, 400, 2)
        curves = [1 - np.exp(-steps / speed) + each for speed, each in zip(speeds, noise, strict=True)]
        frames.append(pd.DataFrame({"run": run, "checkpoint": steps, "x": curves[0], "q": curves[1]}))
    return pd.concat(frames, ignore_index=True)


def sizes(data):
    own = correlate_checkpoints(data, "x", "q", by=["run"])
    others = correlate_checkpoints(with_quality_of_others(data, "q"), "x", "q", by=["run", "other"])
    columns = ["rho_levels", "rho_differences", "rho_given_step"]
    return own[columns].mean(), others[columns].mean()


def test_unrelated_curves_correlate_with_another_runs_quality_as_with_their_own():
    own, others = sizes(trainings(8, coupling=0.0, seed=1))
    assert own["rho_levels"] > 0.9  # the trend alone
    assert own["rho_differences"] > 0.3  # and the shape that differences keep
    assert (own - others).abs().max() < 0.15


def test_curves_that_move_together_do_so_with_their_own_quality_only():
    own, others = sizes(trainings(8, coupling=1.0, seed=2))
    assert own["rho_differences"] - others["rho_differences"] > 0.2
    assert own["rho_given_step"] - others["rho_given_step"] > 0.2


def test_the_control_holds_every_other_runs_quality_at_the_same_step():
    data = trainings(3, coupling=0.5, seed=3, points=5).assign(term="S")
    control = with_quality_of_others(data, "q")
    assert len(control) == 2 * len(data)
    assert (control["run"] != control["other"]).all()
    lookup = data.set_index(["run", "checkpoint"])["q"]
    expected = lookup.loc[list(zip(control["other"], control["checkpoint"], strict=True))]
    np.testing.assert_array_equal(control["q"], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[data["run"] == 0], "two or more are needed"),
        (lambda data: data.drop(index=0), "same steps"),
        (lambda data: pd.concat([data, data.assign(q=data["q"] + 1)]), "several values"),
        (lambda data: data.drop(columns="q"), "'q'"),
    ],
)
def test_the_control_refuses_what_it_cannot_pair(change, message):
    with pytest.raises(InputError, match=message):
        with_quality_of_others(change(trainings(2, 0.0, 4, points=5)), "q")

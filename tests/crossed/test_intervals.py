import numpy as np
import pandas as pd
import pytest

from crossed.balanced import crossed_shares, sd_multipliers
from crossed.errors import InputError


def crossed(runs, sentences, sds=(0.5, 1.0, 0.7), replicates=1, seed=0, interaction=0.0):
    """A balanced crossing with known SDs of run, sentence and residual (and of the interaction)."""
    generator = np.random.default_rng(seed)
    run, sentence, repetition = (
        part.ravel() for part in np.meshgrid(range(runs), range(sentences), range(replicates), indexing="ij")
    )
    outcome = (
        5
        + generator.normal(0, sds[0], runs)[run]
        + generator.normal(0, sds[1], sentences)[sentence]
        + generator.normal(0, interaction, (runs, sentences))[run, sentence]
        + generator.normal(0, sds[2], len(run))
    )
    return pd.DataFrame({"run": run, "sentence": sentence, "checkpoint": repetition, "y": outcome})


def test_shares_sum_to_one_and_lie_in_their_intervals():
    table = crossed_shares(crossed(6, 40), "y", draws=5000)
    assert table["share"].sum() == pytest.approx(1, abs=1e-12)
    assert list(table["component"]) == ["run", "sentence", "interaction + residual"]
    assert list(table["levels"]) == [6, 40, 240]
    assert list(table["df"]) == [5, 39, 195]
    for quantity in ("share", "variance"):
        assert (table[f"{quantity}_lower"] < table[quantity]).all()
        assert (table[quantity] < table[f"{quantity}_upper"]).all()
    assert table["share_upper"].max() <= 1


def test_sums_of_squares_add_up_to_the_whole():
    for data, replicate in ((crossed(4, 9), None), (crossed(4, 9, replicates=3), "checkpoint")):
        table = crossed_shares(data, "y", replicate=replicate, draws=1000)
        assert (table["df"] * table["mean_square"]).sum() == pytest.approx(((data["y"] - data["y"].mean()) ** 2).sum())
        assert table["df"].sum() == len(data) - 1


def test_variances_solve_the_expected_mean_squares():
    runs, sentences, replicates = 5, 12, 3
    data = crossed(runs, sentences, replicates=replicates, interaction=0.6)
    table = crossed_shares(data, "y", replicate="checkpoint", draws=1000).set_index("component")
    run, sentence, interaction, residual = table["variance"]
    assert not table["boundary"].any()
    assert table.loc["residual", "mean_square"] == pytest.approx(residual)
    assert table.loc["interaction", "mean_square"] == pytest.approx(residual + replicates * interaction)
    both = residual + replicates * interaction
    assert table.loc["run", "mean_square"] == pytest.approx(both + replicates * sentences * run)
    assert table.loc["sentence", "mean_square"] == pytest.approx(both + replicates * runs * sentence)


def test_one_way_mean_squares_match_the_variance_of_means():
    data = crossed(5, 12)
    table = crossed_shares(data, "y", draws=1000).set_index("component")
    assert table.loc["run", "mean_square"] == pytest.approx(12 * data.groupby("run")["y"].mean().var())
    assert table.loc["sentence", "mean_square"] == pytest.approx(5 * data.groupby("sentence")["y"].mean().var())


def test_rows_may_stand_in_any_order_and_levels_have_any_name():
    data = crossed(4, 20)
    other = data.assign(run=data["run"].map({0: "d", 1: "b", 2: "a", 3: "c"})).sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(crossed_shares(data, "y", draws=1000), crossed_shares(other, "y", draws=1000))


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_scaling_the_outcome_scales_variances_and_keeps_shares(factor):
    data = crossed(4, 20)
    before = crossed_shares(data, "y", draws=1000)
    after = crossed_shares(data.assign(y=factor * (data["y"] + 3)), "y", draws=1000)
    for column in ("variance", "variance_lower", "variance_upper"):
        np.testing.assert_allclose(after[column], factor**2 * before[column], rtol=1e-8)
    for column in ("share", "share_lower", "share_upper"):
        np.testing.assert_allclose(after[column], before[column], rtol=1e-8)


def test_residual_interval_is_the_exact_chi_squared_one():
    table = crossed_shares(crossed(6, 31), "y", draws=200_000)
    residual = table.iloc[-1]
    lower, upper = sd_multipliers(5 * 30 + 1)  # 150 degrees of freedom
    assert residual["variance_lower"] == pytest.approx(residual["variance"] * lower**2, rel=5e-3)
    assert residual["variance_upper"] == pytest.approx(residual["variance"] * upper**2, rel=5e-3)


def test_levels_that_agree_by_chance_have_a_note_and_no_claim():
    data = crossed(2, 12)
    data["y"] -= data.groupby("run")["y"].transform("mean")
    table = crossed_shares(data, "y").set_index("component")
    assert table.loc["run", "variance_upper"] == 0
    assert "does not show that their variance is small" in table.loc["run", "note"]
    assert (table["note"].drop("run") == "").all()
    assert (crossed_shares(crossed(4, 12), "y")["note"] == "").all()


def test_the_seed_decides_the_draws_and_the_global_state_is_left_alone():
    data = crossed(3, 10)
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - read only, to see that nothing changed it
    first, again, other = (crossed_shares(data, "y", draws=1000, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not np.allclose(first["share_upper"], other["share_upper"])
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_a_negative_moment_estimate_is_flagged_and_still_gets_an_upper_bound():
    data = crossed(4, 30, sds=(0.0, 1.0, 1.0))
    data["y"] -= data.groupby("run")["y"].transform("mean")  # run means alike: less spread than chance gives
    run = crossed_shares(data, "y", draws=5000).iloc[0]
    assert run["boundary"]
    assert run["variance"] == run["share"] == run["variance_lower"] == 0
    assert run["mean_square"] < 1e-20
    noisy = crossed(4, 30, sds=(0.0, 1.0, 1.0), seed=9)
    table = crossed_shares(noisy, "y", draws=5000)
    assert table.loc[0, "boundary"]
    assert table.loc[0, "variance_upper"] > 0


@pytest.mark.parametrize("runs", [3, 6])
def test_intervals_of_the_run_share_cover_the_truth(runs):
    """200 simulated designs; at 95 % the binomial standard error is 1.5 %, so .90 is more than three below."""
    sds = (0.5, 1.0, 0.7)
    truth = np.square(sds) / np.square(sds).sum()
    covered = np.zeros(3)
    for seed in range(200):
        table = crossed_shares(crossed(runs, 30, sds, seed=1000 + seed), "y", draws=2000, seed=seed)
        covered += (table["share_lower"] <= truth) & (truth <= table["share_upper"])
    assert covered[0] / 200 >= 0.90
    assert covered[1] / 200 >= 0.90
    assert covered[0] / 200 < 1  # an interval that never misses is no 95 % interval


@pytest.mark.parametrize(
    ("runs", "lower", "upper"), [(3, 0.52, 6.3), (6, 0.62, 2.45), (10, 0.69, 1.8), (20, 0.76, 1.46)]
)
def test_sd_multipliers(runs, lower, upper):
    found = sd_multipliers(runs)
    assert found[0] == pytest.approx(lower, abs=0.005)
    assert found[1] == pytest.approx(upper, abs=0.05 if upper in (6.3, 1.8) else 0.005)


def test_sd_multipliers_of_an_array_narrow_to_one():
    lower, upper = sd_multipliers(np.array([3, 30, 300_000]))
    assert (np.diff(lower) > 0).all()
    assert (np.diff(upper) < 0).all()
    np.testing.assert_allclose([lower[-1], upper[-1]], 1, atol=5e-3)


def without_cell(data):
    return data[~((data["run"] == 2) & (data["sentence"] == 5))]


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (without_cell, {}, r"the cell run=2, sentence=5 is missing \(1 such"),
        (lambda d: pd.concat([d, d.iloc[[7]]]), {}, "run=0, sentence=7 holds more than one value.*replicate="),
        (lambda d: d.rename(columns={"sentence": "sentences"}), {}, "no column 'sentence'. Did you mean 'sentences'"),
        (lambda d: d[d["run"] == 0], {}, "factor 'run' has 1 level"),
        (lambda d: d.assign(y=2.5), {}, "constant"),
        (lambda d: d.assign(y=d["y"].where(d.index != 4)), {}, r"1 row\(s\), counted from 0: 4\."),
        (lambda d: d.assign(y=d["y"].where(d.index != 4, np.inf)), {}, "counted from 0: 4"),
        (lambda d: d.assign(y=d["y"].astype(str)), {}, "not numbers"),
        (lambda d: d, {"level": 95}, "level=95"),
        (lambda d: d, {"draws": 10}, "draws=10"),
        (lambda d: d, {"column": "run"}, "different columns"),
        (lambda d: d.to_dict(), {}, "a pandas DataFrame"),
    ],
)
def test_bad_input(change, arguments, message):
    with pytest.raises(InputError, match=message):
        crossed_shares(change(crossed(4, 10)), "y", **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"), [((1,), "at least 2"), (([3, 1],), "at least 2"), ((3, 1.0), "level")]
)
def test_sd_multipliers_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        sd_multipliers(*arguments)

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import crossed
from crossed.balanced import crossed_shares, replicated_shares
from crossed.errors import InputError
from crossed.pivots import sd_multipliers
from tests.crossed.simulated import crossing


def shares(data, **options):
    return crossed_shares(data, "y", **({"row": "run", "column": "sentence"} | options))


def test_shares_sum_to_one_and_lie_in_their_intervals():
    table = shares(crossing(6, 40), draws=5000)
    assert table["share"].sum() == pytest.approx(1, abs=1e-12)
    assert list(table["component"]) == ["run", "sentence", "interaction + residual"]
    assert list(table["levels"]) == [6, 40, 240]
    assert list(table["df"]) == [5, 39, 195]
    for quantity in ("share", "variance"):
        assert (table[f"{quantity}_lower"] < table[quantity]).all()
        assert (table[quantity] < table[f"{quantity}_upper"]).all()
    assert table["share_upper"].max() <= 1


def test_sums_of_squares_add_up_to_the_whole():
    for data, replicate in ((crossing(4, 9), None), (crossing(4, 9, replicates=3), "checkpoint")):
        table = shares(data, replicate=replicate, draws=1000)
        assert (table["df"] * table["mean_square"]).sum() == pytest.approx(((data["y"] - data["y"].mean()) ** 2).sum())
        assert table["df"].sum() == len(data) - 1


def test_variances_solve_the_expected_mean_squares():
    runs, sentences, replicates = 5, 12, 3
    data = crossing(runs, sentences, replicates=replicates, interaction=0.6)
    table = shares(data, replicate="checkpoint", draws=1000).set_index("component")
    run, sentence, interaction, residual = table["variance"]
    assert not table["boundary"].any()
    assert table.loc["residual", "mean_square"] == pytest.approx(residual)
    assert table.loc["interaction", "mean_square"] == pytest.approx(residual + replicates * interaction)
    both = residual + replicates * interaction
    assert table.loc["run", "mean_square"] == pytest.approx(both + replicates * sentences * run)
    assert table.loc["sentence", "mean_square"] == pytest.approx(both + replicates * runs * sentence)


def test_one_way_mean_squares_match_the_variance_of_means():
    data = crossing(5, 12)
    table = shares(data, draws=1000).set_index("component")
    assert table.loc["run", "mean_square"] == pytest.approx(12 * data.groupby("run")["y"].mean().var())
    assert table.loc["sentence", "mean_square"] == pytest.approx(5 * data.groupby("sentence")["y"].mean().var())


def test_rows_may_stand_in_any_order_and_levels_have_any_name():
    data = crossing(4, 20)
    other = data.assign(run=data["run"].map({0: "d", 1: "b", 2: "a", 3: "c"})).sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(
        shares(data, draws=1000),
        shares(other, draws=1000),
    )


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_scaling_the_outcome_scales_variances_and_keeps_shares(factor):
    data = crossing(4, 20)
    before = shares(data, draws=1000)
    after = shares(data.assign(y=factor * (data["y"] + 3)), draws=1000)
    for column in ("variance", "variance_lower", "variance_upper"):
        np.testing.assert_allclose(after[column], factor**2 * before[column], rtol=1e-8)
    for column in ("share", "share_lower", "share_upper"):
        np.testing.assert_allclose(after[column], before[column], rtol=1e-8)


def test_residual_interval_is_the_exact_chi_squared_one():
    table = shares(crossing(6, 31), draws=200_000)
    residual = table.iloc[-1]
    lower, upper = sd_multipliers(5 * 30 + 1)  # 150 degrees of freedom
    assert residual["variance_lower"] == pytest.approx(residual["variance"] * lower**2, rel=5e-3)
    assert residual["variance_upper"] == pytest.approx(residual["variance"] * upper**2, rel=5e-3)


def test_levels_that_agree_by_chance_have_a_note_and_no_claim():
    data = crossing(2, 12)
    data["y"] -= data.groupby("run")["y"].transform("mean")
    table = shares(data).set_index("component")
    assert table.loc["run", "variance_upper"] == 0
    assert "does not show that their variance is small" in table.loc["run", "note"]
    assert (table["note"].drop("run") == "").all()
    assert (shares(crossing(4, 12))["note"] == "").all()


def test_the_seed_decides_the_draws_and_the_global_state_is_left_alone():
    data = crossing(3, 10)
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - read only, to see that nothing changed it
    first, again, other = (shares(data, draws=1000, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not np.allclose(first["share_upper"], other["share_upper"])
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_a_negative_moment_estimate_is_flagged_and_still_gets_an_upper_bound():
    data = crossing(4, 30, sds=(0.0, 1.0, 1.0))
    data["y"] -= data.groupby("run")["y"].transform("mean")  # run means alike: less spread than chance gives
    run = shares(data, draws=5000).iloc[0]
    assert run["boundary"]
    assert run["variance"] == run["share"] == run["variance_lower"] == 0
    assert run["mean_square"] < 1e-20
    noisy = crossing(4, 30, sds=(0.0, 1.0, 1.0), seed=9)
    table = shares(noisy, draws=5000)
    assert table.loc[0, "boundary"]
    assert table.loc[0, "variance_upper"] > 0


@pytest.mark.parametrize("runs", [3, 6])
def test_intervals_of_the_run_share_cover_the_truth(runs):
    """200 simulated designs; at 95 % the binomial standard error is 1.5 %, so .90 is more than three below."""
    sds = (0.5, 1.0, 0.7)
    truth = np.square(sds) / np.square(sds).sum()
    covered = np.zeros(3)
    for seed in range(200):
        table = shares(crossing(runs, 30, sds, seed=1000 + seed), draws=2000, seed=seed)
        covered += (table["share_lower"] <= truth) & (truth <= table["share_upper"])
    assert covered[0] / 200 >= 0.90
    assert covered[1] / 200 >= 0.90
    assert covered[0] / 200 < 1  # an interval that never misses is no 95 % interval


# With replicates


def replicated(runs=3, sentences=20, checkpoints=3, sds=(0.8, 1.0, 0.6, 0.3, 0.2), beta=0.0, seed=0, fixed=None):
    """SDs of run, sentence, run:sentence, run:checkpoint, residual; slope of the length; effects of fixed runs."""
    generator = np.random.default_rng(seed)
    run, sentence, checkpoint = (
        part.ravel() for part in np.meshgrid(range(runs), range(sentences), range(checkpoints), indexing="ij")
    )
    effects = generator.normal(0, sds[0], runs) if fixed is None else np.asarray(fixed)
    length = generator.integers(3, 30, sentences).astype(float)
    y = 7 + effects[run] + generator.normal(0, sds[1], sentences)[sentence] + 0.4 * checkpoint + beta * length[sentence]
    y += generator.normal(0, sds[2], (runs, sentences))[run, sentence]
    y += generator.normal(0, sds[3], (runs, checkpoints))[run, checkpoint] + generator.normal(0, sds[4], len(run))
    return pd.DataFrame(
        {"run": run, "sentence": sentence, "checkpoint": checkpoint, "length": length[sentence], "y": y}
    )


def divided(data, covariate=None, **options):
    factors = {"row": "run", "column": "sentence", "replicate": "checkpoint"}
    return replicated_shares(data, "y", covariate=covariate, **(factors | options))


def by_component(table):
    return table.set_index("component")


def test_the_sums_of_squares_add_up_to_the_whole():
    data = replicated()
    table = divided(data, draws=1000)
    assert (table["df"] * table["mean_square"]).sum() == pytest.approx(((data["y"] - data["y"].mean()) ** 2).sum())
    assert table["df"].sum() == len(data) - 1
    assert table["share"].sum() == pytest.approx(1)


def test_a_covariate_takes_its_sum_of_squares_from_the_sentence_alone():
    data = replicated(beta=0.1)
    plain, given = (by_component(divided(data, name, draws=1000)) for name in (None, "length"))
    means = data.groupby("sentence")[["y", "length"]].mean()
    left = stats.linregress(means["length"], means["y"])
    rest = means["y"] - left.intercept - left.slope * means["length"]
    assert given.loc["sentence", "df"] == plain.loc["sentence", "df"] - 1
    assert given.loc["sentence", "df"] * given.loc["sentence", "mean_square"] == pytest.approx(9 * (rest**2).sum())
    others = [name for name in plain.index if name != "sentence"]
    pd.testing.assert_frame_equal(plain.loc[others, ["df", "variance"]], given.loc[others, ["df", "variance"]])


def test_where_no_variance_is_at_zero_it_is_reml():
    data = replicated(sentences=40, beta=0.1, seed=3)
    table = by_component(divided(data, "length", rows="any", draws=1000))
    assert not table["boundary"].any()
    fit = crossed.fit(
        "y ~ length + C(checkpoint) + (1|run) + (1|sentence) + (1|run:sentence) + (1|run:checkpoint)", data
    )
    found = fit.vcomp.set_index("group")["variance"].rename({"Residual": "residual"})
    for name in ("run", "sentence", "run:sentence", "run:checkpoint", "residual"):
        assert table.loc[name, "variance"] == pytest.approx(found[name], rel=1e-5)


def test_a_fixed_factor_has_the_same_estimate_and_another_interval():
    data = replicated(sentences=60, sds=(0.8, 1.0, 0.6, 0.05, 0.2), seed=2)
    these, any_ = (by_component(divided(data, rows=rows)) for rows in ("these", "any"))
    pd.testing.assert_series_equal(these["variance"], any_["variance"])
    assert 0 < any_.loc["run", "variance_lower"] < these.loc["run", "variance_lower"]
    assert these.loc["run", "variance_upper"] < any_.loc["run", "variance_upper"] / 3
    same = ["sentence", "run:sentence", "residual"]
    np.testing.assert_allclose(these.loc[same, "variance_upper"], any_.loc[same, "variance_upper"], rtol=1e-12)


def test_a_fixed_factors_interval_is_that_of_the_noncentral_f():
    """The variance over its error's expectation: exact limits where the error has one mean square (no drift: two)."""
    data = replicated(runs=3, sentences=300, sds=(0, 1, 0.6, 0, 0.2), fixed=[-0.05, 0.0, 0.05], seed=5)
    table = by_component(divided(data, rows="these", draws=40_000))
    error = table.loc["run:sentence", "mean_square"]
    f = table.loc["run", "mean_square"] / error
    for limit, probability in (("variance_lower", 0.975), ("variance_upper", 0.025)):
        noncentrality = table.loc["run", limit] * 3 * 300 * 2 / error
        assert stats.ncf.cdf(f, 2, 598, noncentrality) == pytest.approx(probability, abs=0.01)


@pytest.mark.parametrize("rows", ["these", "any"])
def test_intervals_of_the_run_cover_what_they_are_about(rows):
    sds, effects, hits = (0.8, 1.0, 0.6, 0.3, 0.2), np.array([-0.5, 0.1, 0.4]), 0
    truth = effects.var(ddof=1) if rows == "these" else sds[0] ** 2
    for seed in range(120):
        data = replicated(sentences=15, sds=sds, seed=seed, fixed=effects if rows == "these" else None)
        row = by_component(divided(data, rows=rows, draws=1000)).loc["run"]
        hits += row["variance_lower"] <= truth <= row["variance_upper"]
    assert hits >= 0.9 * 120  # nominal 0.95; conservative where the drift of few checkpoints is part of the error
    assert rows == "these" or hits < 120


@pytest.mark.parametrize("size", [1e-9, 1e9])
def test_shares_do_not_depend_on_the_unit(size):
    data = replicated()
    table = divided(data, "length", draws=1000)
    other = replicated_shares(
        data.assign(y=size * data["y"] + size), "y", "run", "sentence", "checkpoint", "length", draws=1000
    )
    np.testing.assert_allclose(other.filter(like="share"), table.filter(like="share"), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(other["variance"], size**2 * table["variance"], rtol=1e-6)


def test_without_drift_interaction_and_residual_are_nearly_those_of_the_two_factor_table():
    data = replicated(sentences=200, sds=(0.8, 1.0, 0.6, 0.0, 0.2), seed=1)
    data["y"] -= 0.4 * data["checkpoint"]
    table = by_component(divided(data, draws=1000))
    two = by_component(shares(data, replicate="checkpoint", draws=1000))
    assert table.loc["run:sentence", "mean_square"] == pytest.approx(two.loc["interaction", "mean_square"])
    assert table.loc["residual", "variance"] == pytest.approx(two.loc["residual", "variance"], rel=0.02)


def test_far_out_the_noncentrality_goes_over_into_its_limit():
    data = replicated(sentences=50, fixed=[0, 1, 5], sds=(0, 1, 0.1, 1e-4, 0.1))
    near = by_component(divided(data, draws=2000)).loc["run"]
    far = by_component(
        replicated_shares(
            data.assign(y=data["y"] + 500 * data["run"]), "y", "run", "sentence", "checkpoint", draws=2000
        )
    ).loc["run"]
    for row in (near, far):
        assert row["variance_lower"] < row["variance"] < row["variance_upper"]
    assert far["variance_upper"] / far["variance_lower"] < near["variance_upper"] / near["variance_lower"] < 1.5


# --- bad input ---


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda d: d, {"rows": "some"}, "rows='some' is not one of"),
        (lambda d: d[d["checkpoint"] == 0], {}, "'checkpoint' has 1 level"),
        (lambda d: d.iloc[1:], {}, "run=0, sentence=0, checkpoint=0 is missing"),
        (lambda d: d.assign(y=2.0), {}, "constant"),
        (lambda d: d.assign(length=4.0), {"covariate": "length"}, "'length' is constant"),
        (
            lambda d: d.assign(length=d["length"] + d["run"]),
            {"covariate": "length"},
            "more than one value for sentence=0",
        ),
        (lambda d: d.assign(length=np.nan), {"covariate": "length"}, "'length' is missing"),
        (lambda d: d, {"covariate": "lenght"}, "Did you mean 'length'"),
        (lambda d: d, {"draws": 10}, "too few"),
        (lambda d: d, {"draws": "10000"}, "no whole number"),
        (lambda d: d, {"level": "0.95"}, "strictly between 0 and 1"),
        (lambda d: d.assign(y=1.7 * d["run"] + d["sentence"] ** 2), {}, "give the outcome exactly"),
        (lambda d: d.assign(y=d.groupby(["run", "sentence"])["y"].transform("mean")), {}, "give the outcome exactly"),
        (lambda d: d, {"level": 95}, "strictly between 0 and 1"),
    ],
)
def test_refused(change, options, words):
    with pytest.raises(InputError, match=words):
        divided(change(replicated()), **options)


# By group


def in_layers():
    layers = [crossing(4, 15, replicates=3, seed=seed, interaction=0.3) for seed in (5, 6)]
    data = pd.concat(
        [rows.assign(layer=7 - n, term="ab"[n], length=rows["sentence"] % 4) for n, rows in enumerate(layers)]
    )
    return data.sample(frac=1, random_state=0)


@pytest.mark.parametrize("by", ["layer", ["term", "layer"]])
def test_each_group_is_divided_as_if_it_were_alone(by):
    """The frame of each group, with the columns of ``by`` first, and the same draws."""
    data = in_layers()
    names = [by] if isinstance(by, str) else by
    for split, options in (
        (shares, {"replicate": "checkpoint", "draws": 1000, "seed": 3}),
        (divided, {"covariate": "length", "rows": "any", "draws": 1000}),
    ):
        found = split(data, by=by, **options)
        assert list(found.columns[: len(names)]) == names
        assert list(found["layer"].unique()) == list(data["layer"].unique())
        for layer, rows in data.groupby("layer"):
            alone = split(rows, **options)
            pd.testing.assert_frame_equal(found[found["layer"] == layer][alone.columns].reset_index(drop=True), alone)


@pytest.mark.parametrize(
    ("change", "by", "message"),
    [
        (lambda d: d, [], "by=\\[\\] names no column"),
        (lambda d: d, "depth", "no column 'depth'"),
        (lambda d: d, ["layer", "layer"], "twice"),
        (lambda d: d.rename(columns={"layer": "share"}), "share", r"columns \['share'\] of its own"),
        (lambda d: d.assign(layer=d["layer"].where(d["layer"] == 6)), "layer", "missing values in"),
        (lambda d: d.iloc[:0], "layer", "no rows"),
        (lambda d: d[(d["layer"] == 7) | (d["run"] > 0) | (d["sentence"] > 0)], "layer", "is missing.*where layer=6"),
    ],
)
def test_groups_that_are_none(change, by, message):
    with pytest.raises(InputError, match=message):
        shares(change(in_layers()), by=by, replicate="checkpoint", draws=1000)


# Bad input


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
def test_tables_that_cannot_be_divided(change, arguments, message):
    with pytest.raises(InputError, match=message):
        crossed_shares(change(crossing(4, 10)), "y", **({"row": "run", "column": "sentence"} | arguments))

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import crossed
from crossed.balanced import crossed_shares
from crossed.errors import InputError
from crossed.replicated import replicated_shares


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


def by_component(table):
    return table.set_index("component")


def test_the_sums_of_squares_add_up_to_the_whole():
    data = replicated()
    table = replicated_shares(data, "y", draws=1000)
    assert (table["df"] * table["mean_square"]).sum() == pytest.approx(((data["y"] - data["y"].mean()) ** 2).sum())
    assert table["df"].sum() == len(data) - 1
    assert table["share"].sum() == pytest.approx(1)


def test_a_covariate_takes_its_sum_of_squares_from_the_sentence_alone():
    data = replicated(beta=0.1)
    plain, given = (by_component(replicated_shares(data, "y", name, draws=1000)) for name in (None, "length"))
    means = data.groupby("sentence")[["y", "length"]].mean()
    left = stats.linregress(means["length"], means["y"])
    rest = means["y"] - left.intercept - left.slope * means["length"]
    assert given.loc["sentence", "df"] == plain.loc["sentence", "df"] - 1
    assert given.loc["sentence", "df"] * given.loc["sentence", "mean_square"] == pytest.approx(9 * (rest**2).sum())
    others = [name for name in plain.index if name != "sentence"]
    pd.testing.assert_frame_equal(plain.loc[others, ["df", "variance"]], given.loc[others, ["df", "variance"]])


def test_where_no_variance_is_at_zero_it_is_reml():
    data = replicated(sentences=40, beta=0.1, seed=3)
    table = by_component(replicated_shares(data, "y", "length", rows="any", draws=1000))
    assert not table["boundary"].any()
    fit = crossed.fit(
        "y ~ length + C(checkpoint) + (1|run) + (1|sentence) + (1|run:sentence) + (1|run:checkpoint)", data
    )
    found = fit.vcomp.set_index("group")["variance"].rename({"Residual": "residual"})
    for name in ("run", "sentence", "run:sentence", "run:checkpoint", "residual"):
        assert table.loc[name, "variance"] == pytest.approx(found[name], rel=1e-5)


def test_a_fixed_factor_has_the_same_estimate_and_another_interval():
    data = replicated(sentences=60, sds=(0.8, 1.0, 0.6, 0.05, 0.2), seed=2)
    these, any_ = (by_component(replicated_shares(data, "y", rows=rows)) for rows in ("these", "any"))
    pd.testing.assert_series_equal(these["variance"], any_["variance"])
    assert 0 < any_.loc["run", "variance_lower"] < these.loc["run", "variance_lower"]
    assert these.loc["run", "variance_upper"] < any_.loc["run", "variance_upper"] / 3
    same = ["sentence", "run:sentence", "residual"]
    np.testing.assert_allclose(these.loc[same, "variance_upper"], any_.loc[same, "variance_upper"], rtol=1e-12)


def test_a_fixed_factors_interval_is_that_of_the_noncentral_f():
    """The variance over its error's expectation: exact limits where the error has one mean square (no drift: two)."""
    data = replicated(runs=3, sentences=300, sds=(0, 1, 0.6, 0, 0.2), fixed=[-0.05, 0.0, 0.05], seed=5)
    table = by_component(replicated_shares(data, "y", rows="these", draws=40_000))
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
        row = by_component(replicated_shares(data, "y", rows=rows, draws=1000)).loc["run"]
        hits += row["variance_lower"] <= truth <= row["variance_upper"]
    assert hits >= 0.9 * 120  # nominal 0.95; conservative where the drift of few checkpoints is part of the error
    assert rows == "these" or hits < 120


@pytest.mark.parametrize("size", [1e-9, 1e9])
def test_shares_do_not_depend_on_the_unit(size):
    data = replicated()
    table = replicated_shares(data, "y", "length", draws=1000)
    other = replicated_shares(data.assign(y=size * data["y"] + size), "y", "length", draws=1000)
    np.testing.assert_allclose(other.filter(like="share"), table.filter(like="share"), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(other["variance"], size**2 * table["variance"], rtol=1e-6)


def test_without_drift_interaction_and_residual_are_nearly_those_of_the_two_factor_table():
    data = replicated(sentences=200, sds=(0.8, 1.0, 0.6, 0.0, 0.2), seed=1)
    data["y"] -= 0.4 * data["checkpoint"]
    table = by_component(replicated_shares(data, "y", draws=1000))
    two = by_component(crossed_shares(data, "y", replicate="checkpoint", draws=1000))
    assert table.loc["run:sentence", "mean_square"] == pytest.approx(two.loc["interaction", "mean_square"])
    assert table.loc["residual", "variance"] == pytest.approx(two.loc["residual", "variance"], rel=0.02)


def test_far_out_the_noncentrality_goes_over_into_its_limit():
    data = replicated(sentences=50, fixed=[0, 1, 5], sds=(0, 1, 0.1, 1e-4, 0.1))
    near = by_component(replicated_shares(data, "y", draws=2000)).loc["run"]
    far = by_component(replicated_shares(data.assign(y=data["y"] + 500 * data["run"]), "y", draws=2000)).loc["run"]
    for row in (near, far):
        assert row["variance_lower"] < row["variance"] < row["variance_upper"]
    assert far["variance_upper"] / far["variance_lower"] < near["variance_upper"] / near["variance_lower"] < 1.5


# --- bad input ---


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda d: d, {"rows": "some"}, "rows='some' is none of"),
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
        replicated_shares(change(replicated()), "y", **options)

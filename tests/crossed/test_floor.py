"""The floor: what pairs of runs say, what stands above them, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from crossed.errors import InputError
from crossed.factorial import factorial_shares
from crossed.floor import above_floor, floor_of_pairs
from tests.crossed.simulated import factorial

SDS = (0.9, 0.8, 0.5, 1.0, 0.6, 0.5, 0.4, 0.3)


def suite(starts=4, courses=4, sentences=30, sds=SDS, mean_sd=0.3, sentence_sd=0.5, pairs=4, seed=0):
    """A factorial whose every run has a mask of its own, and ``pairs`` runs of its diagonal again with other masks."""
    generator = np.random.default_rng(seed)
    made = factorial(starts, courses, sentences, sds, seed=seed)
    again = made[(made["init_seed"] == made["order_seed"]) & (made["init_seed"] < pairs)]
    made, again = made.assign(mask=0), again.assign(mask=1)
    both = pd.concat([made, again], ignore_index=True)
    both["run"] = both[["init_seed", "order_seed", "mask"]].astype(str).agg("-".join, axis=1)
    for keys, sd in ((["run"], mean_sd), (["run", "sentence"], sentence_sd)):
        numbers = both.groupby(keys).ngroup().to_numpy()
        both["y"] += generator.normal(0, sd, numbers.max() + 1)[numbers]
    return both[both["mask"] == 0], both


def test_the_floor_is_half_the_squared_difference_of_the_pairs():
    _, both = suite()
    paired = both[(both["init_seed"] == both["order_seed"])]
    wide = paired.pivot(index=["init_seed", "sentence"], columns="mask", values="y")
    apart = (wide[1] - wide[0]).unstack("sentence").to_numpy()
    means, sentences = floor_of_pairs(both, "y").to_dict("records")
    assert (means["cells"], means["runs"], means["df"], sentences["df"]) == (4, 8, 4, 4 * 29)
    assert means["variance"] == pytest.approx(np.mean(apart.mean(axis=1) ** 2) / 2)
    assert sentences["variance"] == pytest.approx(apart.var(axis=1, ddof=1).mean() / 2)
    assert means["sd"] == pytest.approx(np.sqrt(means["variance"]))


def test_the_intervals_are_those_of_chi_squared():
    for row in floor_of_pairs(suite()[1], "y", level=0.9).itertuples():
        assert stats.chi2.cdf(row.df * row.variance / row.variance_lower, row.df) == pytest.approx(0.95)
        assert stats.chi2.cdf(row.df * row.variance / row.variance_upper, row.df) == pytest.approx(0.05)


def test_a_cell_of_three_runs_has_two_degrees_of_freedom():
    _, both = suite()
    third = both[both["run"] == "1-1-1"]
    third = third.assign(run="third", y=third["y"] + 1)
    table = floor_of_pairs(pd.concat([both, third]), "y")
    assert list(table["df"]) == [5, 5 * 29]
    assert list(table["runs"]) == [9, 9]


def test_above_the_floor_is_the_component_less_the_floor():
    data, both = suite()
    table = above_floor(data, both, "y", draws=1000).set_index("component")
    moments = factorial_shares(data, "y", draws=1000).set_index("component")["moment"].drop("sentence")
    floor = floor_of_pairs(both, "y")["variance"]
    np.testing.assert_allclose(table["moment"], moments)
    np.testing.assert_allclose(table["floor"], [floor[0] - floor[1] / 30] * 3 + [floor[1]] * 3)
    np.testing.assert_allclose(table["difference"], table["moment"] - table["floor"])
    assert ((table["lower"] < table["difference"]) & (table["difference"] < table["upper"])).all()


def test_groups_are_held_against_their_own_floor():
    frames = [suite(seed=seed) for seed in (1, 2)]
    data, both = (pd.concat(part.assign(term=n) for n, part in enumerate(parts)) for parts in zip(*frames, strict=True))
    table = above_floor(data, both, "y", by="term", draws=1000)
    alone = above_floor(*frames[1], "y", draws=1000)
    pd.testing.assert_frame_equal(table[table["term"] == 1].drop(columns="term").reset_index(drop=True), alone)


def test_intervals_hold_the_truth_although_each_pair_shares_a_run_with_the_factorial():
    sds, mean_sd, sentence_sd, tables = (0.3, 0.2, 0.25, 1.0, 0.3, 0.2, 0.3, 0.0), 0.3, 0.5, 100
    squares = np.square(sds)
    # Masks are new in every run: their effects are in what start and course give together.
    truth = np.array([squares[0], squares[1], squares[2] + mean_sd**2, squares[4], squares[5], squares[6]])
    truth[5] += sentence_sd**2
    truth -= np.repeat([mean_sd**2, sentence_sd**2], 3)
    held = np.zeros(6)
    for seed in range(tables):
        found = above_floor(*suite(4, 4, 20, sds, mean_sd, sentence_sd, seed=seed), "y", draws=1000)
        held += ((found["lower"] <= truth) & (truth <= found["upper"])).to_numpy()
    assert (held >= stats.binom.ppf(1e-5, tables, 0.94)).all()


def test_bad_input_is_refused():
    data, both = suite()
    with pytest.raises(InputError, match=r"no two runs share init_seed and order_seed"):
        floor_of_pairs(data, "y")
    with pytest.raises(InputError, match=r"the run 'x' has several levels"):
        floor_of_pairs(data.assign(run="x"), "y")
    with pytest.raises(InputError, match=r"is missing"):
        floor_of_pairs(both.drop(index=0), "y")
    with pytest.raises(InputError, match=r"different levels of 'sentence'"):
        above_floor(data, both[both["sentence"] > 0], "y", draws=1000)
    with pytest.raises(InputError, match=r"different levels of 'sentence'.*term=2"):
        above_floor(data.assign(term=2), both.assign(term=1), "y", by="term", draws=1000)
    first = both["init_seed"].where(~both["run"].str.startswith("0-0"))
    with pytest.raises(InputError, match=r"the run\(s\) 0-0-0, 0-0-1 have no value of .* no cell"):
        floor_of_pairs(both.assign(init_seed=first), "y")

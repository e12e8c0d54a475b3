from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crossed import coverage as module
from crossed.balanced import crossed_shares
from crossed.coverage import METHODS, Crossing, bootstrap, coverage, generalised
from crossed.errors import InputError

STORED = Path(__file__).parents[2] / "data" / "statistics" / "coverage.parquet"


def simulate(runs=5, sentences=12, seed=0):
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(runs, 1)) + generator.normal(size=sentences)
    return values + generator.normal(0, 0.7, (runs, sentences))


def frame(values):
    data = pd.DataFrame(values).rename_axis("run").reset_index()
    return data.melt("run", var_name="sentence", value_name="y")


def sufficient(values):
    """Means of the runs, and W from the centred rows: turning the sentences changes no product."""
    means = values.mean(axis=1)
    centred = values - means[:, None]
    return means, centred @ centred.T


# What stands in for a table


def test_mean_squares_are_those_of_the_table():
    values = simulate()
    found = Crossing(5, 12, 0.3).mean_squares(*sufficient(values))
    table = crossed_shares(frame(values), "y", draws=1000)
    np.testing.assert_allclose(found, table["mean_square"], rtol=1e-10)
    np.testing.assert_allclose((Crossing(5, 12, 0.3).weights @ found).clip(min=0), table["variance"], rtol=1e-10)
    np.testing.assert_array_equal(Crossing(5, 12, 0.3).df, table["df"])


def test_mean_squares_of_drawn_runs_are_those_of_the_drawn_table():
    values = simulate()
    counts = np.array([[2, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 4, 1, 0]])
    found = Crossing(5, 12, 0.3).mean_squares(*sufficient(values), counts)
    for row, count in zip(found, counts, strict=True):
        table = crossed_shares(frame(np.repeat(values, count, axis=0)), "y", draws=1000)
        np.testing.assert_allclose(row, table["mean_square"], rtol=1e-10)


@pytest.mark.parametrize(("runs", "share"), [(3, 0.3), (6, 0.0)])
def test_drawn_mean_squares_have_their_distribution(runs, share):
    """Independent, with mean L and variance 2 L^2 / df, as of chi-squared; each within 4.5 standard errors."""
    crossing, count = Crossing(runs, 20, share), 20_000
    squares = crossing.mean_squares(*crossing.draw(count, np.random.default_rng(3)))
    residual = 1 - share - 0.3
    expected = np.array([residual + 20 * share, residual + runs * 0.3, residual])
    ratio = squares / expected
    np.testing.assert_array_less(np.abs(ratio.mean(axis=0) - 1), 4.5 * np.sqrt(2 / crossing.df / count))
    # Of a sample variance of chi-squared / df: excess kurtosis is 12 / df.
    spread = 2 / crossing.df * np.sqrt((2 + 12 / crossing.df) / count)
    np.testing.assert_array_less(np.abs(ratio.var(axis=0) - 2 / crossing.df), 4.5 * spread)
    apart = np.corrcoef(squares.T)[np.triu_indices(3, 1)]
    np.testing.assert_array_less(np.abs(apart), 4.5 / np.sqrt(count))


# The intervals


def test_generalised_limits_are_those_of_crossed_shares():
    values = simulate()
    crossing, table = Crossing(5, 12, 0.3), crossed_shares(frame(values), "y", draws=2000, seed=4)
    squares = crossing.mean_squares(*sufficient(values))
    found = generalised(crossing, squares, 0.95, 2000, np.random.default_rng(4))
    np.testing.assert_allclose(found["share"], table.loc[0, ["share_lower", "share_upper"]].astype(float))
    np.testing.assert_allclose(found["sd"] ** 2, table.loc[0, ["variance_lower", "variance_upper"]].astype(float))


def test_bootstrap_limits_are_those_of_drawn_tables():
    values = simulate(runs=4)
    found = bootstrap(Crossing(4, 12, 0.3), *sufficient(values), 0.9, 200, np.random.default_rng(6))
    counts = np.random.default_rng(6).multinomial(4, np.full(4, 1 / 4), size=200)
    drawn = [np.repeat(values, count, axis=0) for count in counts]
    shares = [crossed_shares(frame(table), "y", draws=1000).loc[0, "share"] for table in drawn]
    np.testing.assert_allclose(found["share"], np.quantile(shares, [0.05, 0.95]), atol=1e-12)


# The simulation


@pytest.fixture(scope="module")
def small():
    return coverage(runs=(3, 6), shares=(0.05, 0.3), simulations=300, draws=400, seed=1)


def test_each_row_accounts_for_all_its_simulations(small):
    assert len(small) == 2 * 2 * 2 * len(METHODS)
    np.testing.assert_allclose(small["coverage"] + small["below"] + small["above"], 1)
    assert not small.duplicated(["runs", "true_share", "quantity", "method"]).any()
    assert (small["lower"] < small["upper"]).all()
    assert set(small["method"]) == set(METHODS)
    held = small["coverage"]
    np.testing.assert_allclose(small["standard_error"], np.sqrt(held * (1 - held) / 300))


def test_the_bootstrap_over_few_runs_falls_short_and_the_others_do_not(small):
    found = small.pivot_table(index=["runs", "true_share", "quantity"], columns="method", values="coverage")
    assert (found["generalised"] > 0.91).all()  # .95 less three standard errors of .013
    assert (found["REML profile"] > 0.88).all()  # an approximation: about .93
    assert (found["percentile bootstrap over runs"] < 0.8).all()


def test_the_seed_decides_and_the_global_state_is_left_alone():
    arguments = {"runs": (3,), "shares": (0.1,), "simulations": 20, "draws": 100}
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - read only, to see that nothing changed it
    first, again, other = (coverage(**arguments, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not np.allclose(first["upper"], other["upper"])
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_the_stored_table_is_what_the_command_makes(small):
    """The same combinations, simulated with another seed and fewer draws: within 4 joint standard errors."""
    stored = pd.read_parquet(STORED)
    assert sorted(stored["runs"].unique()) == [3, 6, 20]
    assert sorted(stored["true_share"].unique()) == [0, 0.05, 0.3]
    assert (stored["seed"] == 0).all()
    keys = ["runs", "sentences", "true_share", "quantity", "method", "level"]
    both = stored.merge(small, on=keys, suffixes=("", "_small"), validate="one_to_one")
    assert len(both) == len(small)
    error = np.sqrt(both["coverage"] * (1 - both["coverage"]) * (1 / both["simulations"] + 1 / 300))
    # Few draws make a quantile rougher, and an interval of few draws holds the truth a little less often.
    assert (np.abs(both["coverage"] - both["coverage_small"]) < 4 * error + 0.01).all()


def test_the_command_writes_the_table(tmp_path, monkeypatch, capsys):
    calls = {}

    def quick(**arguments):
        calls.update(arguments)
        return coverage(runs=(3,), shares=(0.1,), **(arguments | {"draws": 100}))

    monkeypatch.setattr(module, "coverage", quick)
    module.main(["--simulations", "5", "--seed", "7", "--output", str(tmp_path / "new" / "table.parquet")])
    written = pd.read_parquet(tmp_path / "new" / "table.parquet")
    assert calls["simulations"] == 5
    assert (written["seed"] == 7).all()
    assert len(written) == 2 * len(METHODS)
    assert "generalised" in capsys.readouterr().out


def test_the_command_says_what_is_wrong(capsys):
    with pytest.raises(SystemExit):
        module.main(["--simulations", "0"])
    assert "simulations=0 must be 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runs": (1,)}, "runs=1, sentences=300: two runs or more"),
        ({"runs": (20,), "sentences": 20}, "more sentences than"),
        ({"shares": (0.7,)}, "share=0.7, sentence=0.3"),
        ({"shares": (-0.1,)}, "share=-0.1"),
        ({"level": 95}, "level=95"),
        ({"draws": 10}, "draws=10 must be 100 or more"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        coverage(**({"runs": (3,), "shares": (0.1,), "simulations": 5, "draws": 100} | arguments))

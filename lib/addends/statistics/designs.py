"""How many runs and sentences? The standard errors of designs not yet run, from the variances of one that was.

An indicator y of run r and sentence s has the variances A between runs, B between sentences, and C of the two together
with the residual. R runs and S sentences then give these standard errors::

    mean                     sqrt(A / R + B / S + C / (R S))          over runs and sentences like these
    difference, independent  sqrt(2 (A + C / S) / R)                  of two conditions, R runs each, the same sentences
    difference, paired       sqrt(2 (1 - w) (A + C / S) / R)          where runs of one seed share w of A and of C
    SD of the run            SD of sqrt(max(0, (M_a - M_c) / S))      of the estimate, from its exact distribution

In a difference the sentences cancel, as far as both conditions read the same ones and move them alike. The share w is
an assumption: independent runs do not tell it.

The variances are themselves estimates. Generalised pivotal draws of them (`crossed.pivots`) go through the same
equations, which gives each standard error an interval; `design_coverage` tries out how often it holds the truth.

References
----------
Weerahandi (1993), Journal of the American Statistical Association 88, 899-905 (generalised intervals). Burdick, Borror
and Montgomery (2005), Design and Analysis of Gauge R&R Studies, SIAM, chapter 3 (the crossed design).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from numbers import Real

import numpy as np
import pandas as pd
from scipy import stats
from tqdm.auto import tqdm

from addends.checks import check_count, check_level, finite_numbers, groups_of, require_columns
from addends.errors import InputError
from crossed.pivots import pivotal_quantities

QUANTITIES = ("mean", "difference, independent", "difference, paired", "SD of the run")
MOST_RUNS = 10_000.0
_FOUND = ("runs", "sentences", "quantity", "standard_error", "target", "lower", "upper")

# The standard error of the SD is looked up between these ratios of M_a's expectation to M_c's, in equal steps of log.
_LOG_RATIOS = np.linspace(0, np.log(1e6), 121)
_RUNS = np.geomspace(2, MOST_RUNS, 65)


def design_table(
    variances: pd.DataFrame,
    runs: Sequence[int],
    sentences: Sequence[int],
    by: str | Sequence[str] = (),
    shared: float = 0.5,
    level: float = 0.9,
    draws: int = 4_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Standard errors of ``QUANTITIES`` with so many runs and sentences, and intervals of these standard errors.

    ::

        variances = crossed.crossed_shares(cells, "importance", row="run", column="sentence", by="term")
        design_table(variances, runs=[3, 6, 12, 20], sentences=[100, 300, 1000], by="term")

    Parameters
    ----------
    variances : DataFrame
        As `crossed.crossed_shares` gives it, runs as rows and one value a cell: component, levels, mean_square, with
        the run first, the sentence second, and "interaction + residual" third.
    runs, sentences : sequence of int
        Of the designs: every combination. Two or more of each.
    by : str or sequence of str
        Columns of ``variances`` that name a group.
    shared : float
        The share w of A and of C that two runs of one seed have in common, from 0 to below 1.
    level : float
        Of the intervals.
    draws, seed : int
        Of the pivotal quantities.

    Returns
    -------
    DataFrame
        The columns of ``by``, then runs, sentences, quantity, standard_error (in the indicator's unit), lower, upper.

    Raises
    ------
    InputError
        If ``variances`` is no such table, has no residual, or a number is outside what it may be.
    """
    where = "design_table"
    for name, given in (("runs", runs), ("sentences", sentences)):
        for one in given:
            check_count(name, one, where, least=2)
    _check(shared, level, where)
    rows = []
    for group, best, drawn in _groups(variances, by, draws, seed, where):
        for s in sentences:
            for r in runs:
                found = standard_errors(best, r, s, shared)
                spread = standard_errors(drawn, r, s, shared)
                for name in QUANTITIES:
                    lower, upper = _tails(spread[name], level)
                    places = {"runs": r, "sentences": s, "quantity": name}
                    rows.append(group | places | _limits("standard_error", found[name], lower, upper))
    return pd.DataFrame(rows)


def runs_needed(
    variances: pd.DataFrame,
    targets: dict[str, float],
    sentences: Sequence[int],
    by: str | Sequence[str] = (),
    shared: float = 0.5,
    level: float = 0.9,
    draws: int = 4_000,
    seed: int = 0,
) -> pd.DataFrame:
    """The runs that bring a standard error down to its target: the inverse of `design_table`.

    Parameters
    ----------
    targets : dict
        {quantity: standard error}, in the indicator's unit, of one or more of ``QUANTITIES``.
    variances, sentences, by, shared, level, draws, seed
        As for `design_table`.

    Returns
    -------
    DataFrame
        The columns of ``by``, then sentences, quantity, target, runs, lower, upper. Runs are numbers with decimals, to
        be rounded up, and infinite where no number of runs is enough: the sentences are too few for the mean, or more
        than 10,000 runs are needed for the SD.

    Raises
    ------
    InputError
        As `design_table`; or if a target is no number above 0, or of none of ``QUANTITIES``.
    """
    where = "runs_needed"
    for name, target in targets.items():
        if name not in QUANTITIES or not isinstance(target, Real) or not 0 < target < np.inf:
            raise InputError(f"{where}: targets={targets}: numbers above 0 are wanted, of {QUANTITIES}.")
    for one in sentences:
        check_count("sentences", one, where, least=2)
    _check(shared, level, where)
    rows = []
    for group, best, drawn in _groups(variances, by, draws, seed, where):
        for s in sentences:
            for name, target in targets.items():
                lower, upper = _tails(enough_runs(drawn, name, target, s, shared), level)
                found = enough_runs(best, name, target, s, shared)
                places = {"sentences": s, "quantity": name, "target": target}
                rows.append(group | places | _limits("runs", found, lower, upper))
    return pd.DataFrame(rows)


def standard_errors(variances: np.ndarray, runs: int, sentences: int, shared: float) -> dict[str, np.ndarray]:
    """Each of ``QUANTITIES`` (case,), for variances A, B, C (case, 3): the equations at the top."""
    a, b, c = variances.T
    cell = a + c / sentences
    return {
        "mean": np.sqrt(cell / runs + b / sentences),
        "difference, independent": np.sqrt(2 * cell / runs),
        "difference, paired": np.sqrt(2 * (1 - shared) * cell / runs),
        "SD of the run": np.sqrt(c / sentences)
        * _look_up(_errors_of_sd(float(runs), sentences)[None], 0, a, c, sentences),
    }


def enough_runs(variances: np.ndarray, quantity: str, target: float, sentences: int, shared: float) -> np.ndarray:
    """The runs (case,), with decimals, at which the standard error of ``quantity`` is ``target``."""
    a, b, c = variances.T
    cell = a + c / sentences
    if quantity == "mean":
        left = target**2 - b / sentences
        return np.where(left > 0, cell / np.where(left > 0, left, 1), np.inf)
    if quantity != "SD of the run":
        return 2 * cell / target**2 * (1 - shared if quantity == "difference, paired" else 1)
    table = np.array([_errors_of_sd(runs, sentences) for runs in _RUNS])  # (runs, ratio)
    wanted = target / np.sqrt(c / sentences)
    low, high = np.zeros(len(a), dtype=int), np.full(len(a), len(_RUNS) - 1)
    while (high - low > 1).any():  # the standard error falls with the runs
        middle = (low + high) // 2
        falls = (_look_up(table, middle, a, c, sentences) <= wanted) & (high - low > 1)
        low, high = np.where(falls, low, middle), np.where(falls, middle, high)
    above, below = (np.log(_look_up(table, place, a, c, sentences)) for place in (low, high))
    part = (above - np.log(wanted)) / (above - below)
    found = np.exp(np.log(_RUNS[low]) + part.clip(0, 1) * np.log(_RUNS[high] / _RUNS[low]))
    return np.where(part > 1, np.inf, found)


@lru_cache(maxsize=4_096)
def _errors_of_sd(runs: float, sentences: int) -> np.ndarray:
    """The standard error (ratio,) of sqrt(max(0, ratio U / df_a - V / df_c)), with U and V chi-squared.

    The means over U and V are sums over equally spaced normal quantiles, right to about .2 per cent.
    """
    grids, weights = [], []
    for df, nodes in ((runs - 1, 81), ((runs - 1) * (sentences - 1), 17)):
        z = np.linspace(-7, 7, nodes)
        # The upper half from its own tail, where 1 - p would have no digits left.
        grids.append(np.where(z < 0, stats.chi2.ppf(stats.norm.cdf(z), df), stats.chi2.isf(stats.norm.sf(z), df)) / df)
        density = stats.norm.pdf(z)
        weights.append(density / density.sum())
    values = np.exp(_LOG_RATIOS)[:, None, None] * grids[0][:, None] - grids[1]  # (ratio, U, V)
    squares = values.clip(min=0)
    second = np.einsum("ruv,u,v->r", squares, *weights)
    first = np.einsum("ruv,u,v->r", np.sqrt(squares), *weights)
    return np.sqrt((second - first**2).clip(min=0))


def _look_up(table: np.ndarray, place: int | np.ndarray, a: np.ndarray, c: np.ndarray, sentences: int) -> np.ndarray:
    """The standard error (case,) of the SD in units of sqrt(C / S), from the row ``place`` of ``table``."""
    ratio = 1 + sentences * a / c
    step = np.log(ratio) / (_LOG_RATIOS[1] - _LOG_RATIOS[0])
    left = np.minimum(step.astype(int), len(_LOG_RATIOS) - 2)
    part = np.minimum(step - left, 1.0)
    # Relative to the root of the ratio, which the standard error grows with far out.
    relative = table / np.exp(_LOG_RATIOS / 2)
    return np.sqrt(ratio) * (relative[place, left] * (1 - part) + relative[place, left + 1] * part)


def _groups(
    variances: pd.DataFrame, by: str | Sequence[str], draws: int, seed: int, where: str
) -> list[tuple[dict, np.ndarray, np.ndarray]]:
    """The name of each group; its variances (1, 3), none below 0; and pivotal draws (draw, 3) of them."""
    require_columns(variances, ["component", "levels", "mean_square"], where)
    check_count("draws", draws, where, least=1_000)
    found = []
    for group, part in groups_of(variances, by, _FOUND, where):
        if len(part) != 3 or part["component"].iloc[2] != "interaction + residual":
            raise InputError(
                f"{where}: the components are {part['component'].tolist()}; run, sentence and 'interaction + residual' "
                "are wanted, once. Average repeated values (checkpoints) first, and name the columns of groups in by=."
            )
        squares = finite_numbers(part, "mean_square", where, "Make the table anew.")
        if not squares[2] > 1e-20 * squares.max():
            raise InputError(
                f"{where}: the mean squares of the components are {squares.tolist()}: without interaction and residual "
                "run and sentence give the indicator exactly, and nothing is left that a design could average out."
            )
        df, weights = mean_squares(*part["levels"].iloc[:2])
        drawn, _ = pivotal_quantities(df, squares, weights, draws, np.random.default_rng(seed))
        found.append((group, (weights @ squares).clip(min=0)[None], drawn))
    return found


def mean_squares(runs: int, sentences: int) -> tuple[np.ndarray, np.ndarray]:
    """Of a crossing with one value a cell: the degrees of freedom (3,), and weights (component, mean square).

    A, B and C are estimated by ``weights @ squares``.
    """
    df = np.array([runs - 1, sentences - 1, (runs - 1) * (sentences - 1)])
    return df, np.array([[1.0, 0, -1], [0, 1, -1], [0, 0, 1]]) / np.array([[sentences], [runs], [1]])


def design_coverage(
    pilots: Sequence[tuple[int, int]] = ((3, 300), (6, 40), (17, 300)),
    shares: Sequence[tuple[float, float]] = ((0.02, 0.8), (0.1, 0.5), (0.5, 0.2)),
    design: tuple[int, int] = (12, 300),
    simulations: int = 2_000,
    draws: int = 1_000,
    shared: float = 0.5,
    level: float = 0.9,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """How often intervals of `design_table` and `runs_needed` hold the truth, in simulated suites of known variance.

    A suite of R runs and S sentences is its three mean squares, which are drawn from their exact distribution. The
    truth is what the equations give for the true variances; for the runs needed, the target is the true standard error
    of the design, so that the truth is its number of runs.

    Parameters
    ----------
    pilots : sequence of (runs, sentences)
        The suites that the variances are estimated from.
    shares : sequence of (run, sentence)
        True shares of the variance; the rest is interaction + residual.
    design : (runs, sentences)
        That is asked about.
    simulations, draws, shared, level, seed
        Suites for each case; pivotal draws for each; the others as for `design_table`. Each case has a generator of its
        own, spawned from the seed.

    Returns
    -------
    DataFrame
        pilot_runs, pilot_sentences, run, sentence (true shares), asked ("standard error" or "runs needed"), quantity,
        truth, level, simulations, coverage, standard_error (of the coverage), below and above (how often the truth lay
        below the lower limit or above the upper one), seed.

    Raises
    ------
    InputError
        If a share is outside what it may be, or as `design_table`.
    """
    where = "design_coverage"
    for name, given, least in (("simulations", simulations, 1), ("draws", draws, 100)):
        check_count(name, given, where, least=least)
    _check(shared, level, where)
    if any(min(case) < 0 or sum(case) >= 1 for case in shares):
        raise InputError(f"{where}: shares={list(shares)} must be 0 or more, and leave some of 1 to the residual.")
    cases = [(pilot, share) for pilot in pilots for share in shares]
    generators = [np.random.default_rng(each) for each in np.random.SeedSequence(seed).spawn(len(cases))]
    rows = []
    with tqdm(total=len(cases) * simulations, desc="simulated suites", unit="suite", disable=not progress) as bar:
        for ((r, s), (run, sentence)), generator in zip(cases, generators, strict=True):
            truth = np.array([[run, sentence, 1 - run - sentence]])
            df, weights = mean_squares(r, s)
            expected = np.linalg.solve(weights, truth[0])
            true_errors = {name: float(error[0]) for name, error in standard_errors(truth, *design, shared).items()}
            limits: dict[tuple[str, str], list[np.ndarray]] = {}
            for squares in expected * generator.chisquare(df, size=(simulations, 3)) / df:
                drawn, _ = pivotal_quantities(df, squares, weights, draws, generator)
                for name, error in standard_errors(drawn, *design, shared).items():
                    limits.setdefault(("standard error", name), []).append(_tails(error, level))
                    needed = enough_runs(drawn, name, true_errors[name], design[1], shared)
                    limits.setdefault(("runs needed", name), []).append(_tails(needed, level))
                bar.update()
            places = {"pilot_runs": r, "pilot_sentences": s, "run": run, "sentence": sentence}
            for (asked, name), found in limits.items():
                true = true_errors[name] if asked == "standard error" else float(design[0])
                lower, upper = np.array(found).T
                held = float(np.mean((lower <= true) & (true <= upper)))
                row = {"asked": asked, "quantity": name, "truth": true, "level": level, "simulations": simulations}
                row |= {"coverage": held, "standard_error": np.sqrt(held * (1 - held) / simulations)}
                row |= {"below": np.mean(true < lower), "above": np.mean(true > upper), "seed": seed}
                rows.append(places | row)
    return pd.DataFrame(rows)


def _tails(values: np.ndarray, level: float) -> np.ndarray:
    """The two limits; of values that are there, since the mean of two infinite ones is none."""
    return np.quantile(values, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")


def _limits(name: str, found: np.ndarray, lower: float, upper: float) -> dict[str, float]:
    return {name: float(found[0]), "lower": float(lower), "upper": float(upper)}


def _check(shared: float, level: float, where: str) -> None:
    check_level(level, where)
    if not 0 <= shared < 1:
        raise InputError(f"{where}: shared={shared!r} must be from 0 to below 1.")

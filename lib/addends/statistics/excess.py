"""Does an indicator go with its own run's quality more than with that of other runs? Run by run, and by permutation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from addends.checks import (
    check_choice,
    check_count,
    check_level,
    groups_of,
    is_constant,
    keyed_numbers,
    names_of,
    require_distinct,
    rounding_of,
)
from addends.errors import InputError
from addends.statistics.correlation import FEWEST_CHECKPOINTS, ORDERED, mid_ranks, whole
from addends.statistics.p_values import permutation_p

COEFFICIENTS = ("rho_levels", "rho_differences", "rho_given_step")
FEWEST_RUNS = 3


def excess_over_others(
    frame: pd.DataFrame,
    indicator: str,
    quality: str,
    by: str | Sequence[str] = ("layer", "term"),
    coefficient: str = "rho_differences",
    run: str = "run",
    step: str = "checkpoint",
    level: float = 0.95,
    draws: int = 9_999,
    seed: int = 0,
) -> pd.DataFrame:
    r"""How much more an indicator goes with its own run's quality than with that of other runs, over checkpoints.

    With r_ij the ``coefficient`` (see `addends.statistics.correlate_checkpoints`) of run i's indicator and run j's
    quality at the same steps, the excess of run i, and of all R runs, is::

        e_i = |r_ii| - 1 / (R - 1) sum_{j != i} |r_ij|,        e = 1 / R sum_i e_i

    Runs that share a recipe have nearly the same curve of quality, so ``|r_ii|`` alone would be as large for an
    indicator that knows nothing of its run. Every e_i uses all runs' qualities, so the e_i depend on each other:
    the interval of e is the jackknife's, over runs, by Student's t on R - 1 degrees of freedom. The p-value is by
    permutation: which run's quality goes with which run's indicator is drawn anew, the same for all steps, so that
    steps stay together.

    Parameters
    ----------
    frame : DataFrame
        One row a group, run and checkpoint, in any order; every run at the same steps.
    indicator, quality : str
        Columns of numbers. In a group where a value is missing or a series constant nothing is computed, and the row
        says so.
    by : str or sequence of str
        The columns whose values name a group, the run not among them.
    coefficient : str
        One of `COEFFICIENTS`.
    level : float
        Of the interval, between 0 and 1.
    draws, seed : int
        Permutations, and the seed that draws them. Where all R! are no more than ``draws``, they are all gone through.

    Returns
    -------
    DataFrame
        The columns of ``by``, then runs, checkpoints, own and other (means of ``|r|``), excess, excess_lower,
        excess_upper, smallest and largest (of the e_i), p (of an excess as large or larger among the permutations and
        the runs as they are) and note.

    Raises
    ------
    InputError
        If a column is unknown, there are fewer than 3 runs or 4 checkpoints, or runs have other steps.

    References
    ----------
    Efron and Tibshirani (1993), An introduction to the bootstrap, chapter 11 (jackknife). Phipson and Smyth (2010),
    Permutation p-values should never be zero, Statistical Applications in Genetics and Molecular Biology 9.
    """
    where = "excess_over_others"
    by = names_of(by, "by", where)
    require_distinct([*by, run, step, indicator, quality], where, "by, run, step, indicator and quality")
    check_choice("coefficient", coefficient, COEFFICIENTS, where)
    check_level(level, where)
    check_count("draws", draws, where)
    rows = []
    for group, part in groups_of(frame, by, _FOUND, where, sort=True):
        x, q, steps = _series(part, indicator, quality, run, step, where)
        said = {**group, "runs": len(x), "checkpoints": len(steps)}
        # Table columns are often float32: a change smaller than this is their rounding.
        roundings = rounding_of(frame[indicator]), rounding_of(frame[quality])
        r = np.abs(_coefficients(x, q, steps, coefficient, *roundings))
        rows.append(said | (_excess(r, level, draws, seed) if np.isfinite(r).all() else _NOTHING))
    return pd.DataFrame(rows)


_NUMBERS = ("own", "other", "excess", "excess_lower", "excess_upper", "smallest", "largest", "p")
_FOUND = ("runs", "checkpoints", *_NUMBERS, "note")
_NOTHING = dict.fromkeys(_NUMBERS, np.nan) | {
    "note": "a value is missing, or a series or its changes constant, or monotone in the step that is held fixed"
}


def _series(
    part: pd.DataFrame, indicator: str, quality: str, run: str, step: str, where: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indicator and quality, each of shape (run, step), and the steps."""
    columns = keyed_numbers(part, [run, step], [indicator, quality], where, steps=[step])
    table = pd.DataFrame(columns).assign(**{run: part[run].to_numpy()})
    wide = table.pivot(index=run, columns=step)
    if len(wide) < FEWEST_RUNS or table[step].nunique() < FEWEST_CHECKPOINTS:
        raise InputError(
            f"{where}: {len(wide)} run(s) at {table[step].nunique()} checkpoint(s); {FEWEST_RUNS} runs and "
            f"{FEWEST_CHECKPOINTS} checkpoints are the fewest."
        )
    if len(table) != wide.shape[0] * table[step].nunique():
        raise InputError(f"{where}: the runs were not saved at the same steps; keep those that all of them have.")
    return wide[indicator].to_numpy(), wide[quality].to_numpy(), wide[indicator].columns.to_numpy()


def _coefficients(
    x: np.ndarray, q: np.ndarray, steps: np.ndarray, coefficient: str, x_rounding: float, q_rounding: float
) -> np.ndarray:
    """r_ij of run i's indicator and run j's quality, of shape (run, run)."""
    changes = coefficient == "rho_differences"
    x, q = _standardised(_ranks(x, x_rounding, changes)), _standardised(_ranks(q, q_rounding, changes))
    r = x @ q.T
    if coefficient == "rho_given_step":
        t = _standardised(stats.rankdata(steps)[None])  # (1, step)
        with_x, with_q = x @ t.T, t @ q.T  # (run, 1), (1, run)
        # A series that rises at every step has nothing left once the step is held fixed.
        with_x, with_q = (np.where(np.abs(with_t) > ORDERED, np.nan, with_t) for with_t in (with_x, with_q))
        with np.errstate(invalid="ignore"):
            r = (r - with_x * with_q) / np.sqrt((1 - with_x**2) * (1 - with_q**2))
    return r


def _ranks(values: np.ndarray, rounding: float, changes: bool) -> np.ndarray:
    """Mid-ranks of each run's series, or of its changes, as `correlate_checkpoints` takes them; missing where it does.

    ``values`` is of shape (run, step); what differs by ``rounding`` alone is tied.
    """
    ranks = np.full((len(values), values.shape[1] - changes), np.nan)
    for number, series in enumerate(values):
        if np.isnan(series).any():
            continue
        series = whole(series, rounding)
        even = np.ptp(np.diff(series)) <= 2 * rounding * np.abs(series).max()
        if not is_constant(series, rounding) and not (changes and even):
            ranks[number] = mid_ranks(np.diff(series), series) if changes else stats.rankdata(series)
    return ranks


def _standardised(ranks: np.ndarray) -> np.ndarray:
    """Ranks (run, step), centred, of length 1; missing where they are."""
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def _excess(r: np.ndarray, level: float, draws: int, seed: int) -> dict:
    runs = len(r)

    def of(kept: np.ndarray) -> np.ndarray:
        """The excess of each run among ``kept``."""
        square = r[np.ix_(kept, kept)]
        own = np.diag(square)
        return own - (square.sum(axis=1) - own) / (len(kept) - 1)

    everyone = np.arange(runs)
    each = of(everyone)
    without = np.array([of(np.delete(everyone, left_out)).mean() for left_out in everyone])
    pseudo = runs * each.mean() - (runs - 1) * without
    margin = stats.t.ppf((1 + level) / 2, runs - 1) * pseudo.std(ddof=1) / np.sqrt(runs)
    return {
        "own": np.diag(r).mean(),
        "other": (r.sum() - np.trace(r)) / (runs * (runs - 1)),
        "excess": each.mean(),
        "excess_lower": each.mean() - margin,
        "excess_upper": each.mean() + margin,
        "smallest": each.min(),
        "largest": each.max(),
        # The sum of |r| over all pairs is the same under every permutation, so own |r| alone orders them.
        "p": permutation_p(r, draws, seed),
        "note": "",
    }

"""Quality without time: at one step, do runs that differ in quality differ in an indicator?

Runs may differ by their seeds alone (`across_runs`), or by what they were trained on (`contrast_conditions`). The two
are kept apart, and no slope is drawn over conditions: each pair of conditions is a comparison of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from addends.checks import check_count, check_level, names_of, require_columns
from addends.errors import InputError
from addends.statistics.power import detectable_correlation

FEWEST = 4


def across_runs(
    frame: pd.DataFrame,
    indicator: str,
    quality: str,
    by: str | Sequence[str] = ("layer", "term"),
    reliability: float = 1.0,
    level: float = 0.95,
    draws: int = 9_999,
    seed: int = 0,
) -> pd.DataFrame:
    r"""The correlation over runs of an indicator with quality, at one step, and what the design could have seen.

    Each run counts once. With r the Pearson correlation over R runs, the interval is Fisher's, tanh(atanh(r) ± z /
    sqrt(R - 3)); p is by permutation of runs. Quality is measured on so many sentences, with ``reliability`` rho:
    attenuation makes r at most sqrt(rho) times the correlation with quality itself, so r / sqrt(rho) stands beside it.

    Parameters
    ----------
    frame : DataFrame
        One row a group and run: means over sentences, at one step.
    reliability : float
        Of quality between these runs (`addends.statistics.reliability_between_runs`), above 0 and at most 1.

    Returns
    -------
    DataFrame
        The columns of ``by``, then runs, r, r_lower, r_upper, p, r_disattenuated and detectable: the correlation that
        so many runs find with 80 % power.

    Raises
    ------
    InputError
        If a column is unknown, a group has fewer than 4 runs, a value is missing, or the reliability is out of range.
    """
    where = "across_runs"
    by = names_of(by, "by", where)
    require_columns(frame, [*by, indicator, quality], where)
    check_level(level, where)
    check_count("draws", draws, where)
    if not 0 < reliability <= 1:
        raise InputError(f"{where}: reliability={reliability}: above 0 and at most 1 is possible.")
    rows = []
    for names, part in frame.groupby(by, sort=True, observed=True) if by else [((), frame)]:
        x, q = (part[name].to_numpy(dtype=float) for name in (indicator, quality))
        if len(x) < FEWEST or not np.isfinite(x + q).all():
            raise InputError(
                f"{where}: the group {names} has {len(x)} run(s), {FEWEST} without missing values are wanted."
            )
        x, q = ((values - values.mean()) / np.linalg.norm(values - values.mean()) for values in (x, q))
        r = float(x @ q)
        generator = np.random.default_rng(seed)
        drawn = generator.permuted(np.tile(q, (draws, 1)), axis=1) @ x  # (draw,)
        margin = stats.norm.ppf((1 + level) / 2) / np.sqrt(len(x) - 3)
        rows.append(
            {
                **dict(zip(by, names, strict=True)),
                "runs": len(x),
                "r": r,
                "r_lower": np.tanh(np.arctanh(r) - margin),
                "r_upper": np.tanh(np.arctanh(r) + margin),
                "p": (1 + int((np.abs(drawn) >= abs(r) - 1e-12).sum())) / (1 + draws),
                "r_disattenuated": r / np.sqrt(reliability),
                "detectable": detectable_correlation(len(x)),
            }
        )
    return pd.DataFrame(rows)


def contrast_conditions(
    frame: pd.DataFrame,
    value: str,
    condition: str = "condition",
    pair: str | None = None,
    by: str | Sequence[str] = (),
    level: float = 0.95,
) -> pd.DataFrame:
    r"""Differences between conditions, each pair of them compared over runs: paired within seed, or by Welch's t.

    With ``pair`` (the seed that runs of all conditions share), the mean of the differences within it, on n - 1 degrees
    of freedom. Without it, the difference of means, by Welch's t, which asks for no equal variances.

    Parameters
    ----------
    frame : DataFrame
        One row a group and run: means over sentences, at one step.
    condition : str
        The column that names conditions.
    pair : str or None
        The column that pairs runs, each level once in every condition.

    Returns
    -------
    DataFrame
        The columns of ``by``, then a, b (conditions), runs_a, runs_b, difference (b minus a), lower, upper, df, p and
        p_holm, over all rows.

    Raises
    ------
    InputError
        If a column is unknown, a condition has fewer than 2 runs, or runs have no partner.
    """
    where = "contrast_conditions"
    by = names_of(by, "by", where)
    require_columns(frame, [*by, condition, value, *([pair] if pair else [])], where)
    check_level(level, where)
    rows = []
    for names, part in frame.groupby(by, sort=True, observed=True) if by else [((), frame)]:
        for a, b in combinations(dict.fromkeys(part[condition]), 2):
            one, other = (part[part[condition] == name] for name in (a, b))
            if min(len(one), len(other)) < 2:
                raise InputError(
                    f"{where}: of {a!r} there are {len(one)} run(s), of {b!r} {len(other)}; 2 are the fewest."
                )
            if pair:
                one, other = (rows_of.set_index(pair)[value] for rows_of in (one, other))
                if not one.index.is_unique or set(one.index) != set(other.index):
                    alone = sorted(set(one.index) ^ set(other.index))
                    raise InputError(f"{where}: by {pair!r}, runs of {a!r} and {b!r} are no pairs; alone are {alone}.")
                tested = stats.ttest_rel(other[one.index], one)
                difference = float((other[one.index] - one).mean())
            else:
                tested = stats.ttest_ind(other[value], one[value], equal_var=False)
                difference = float(other[value].mean() - one[value].mean())
            lower, upper = tested.confidence_interval(level)
            rows.append(
                {
                    **dict(zip(by, names, strict=True)),
                    "a": a,
                    "b": b,
                    "runs_a": len(one),
                    "runs_b": len(other),
                    "difference": difference,
                    "lower": float(lower),
                    "upper": float(upper),
                    "df": float(tested.df),
                    "p": float(tested.pvalue),
                }
            )
    table = pd.DataFrame(rows)
    return table.assign(p_holm=multipletests(table["p"], method="holm")[1]) if len(table) else table

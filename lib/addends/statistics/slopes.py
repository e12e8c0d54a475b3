"""Does a slope hold over runs? One slope for each run, how far they spread, and what one run more or less does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import optimize, stats
from tqdm.auto import tqdm

import crossed
from addends.checks import check_level, names_of, require_columns
from addends.errors import InputError
from addends.statistics.sensitivity import each_left_out
from crossed import MixedFit
from crossed.expressions import expression


def each_level(fit: MixedFit, slope: str, factor: str = "run") -> pd.DataFrame:
    """The slopes of a model with one for each level: ``quality ~ C(run) + C(run):within + (1 | sentence)``.

    However the formula says so: of ``C(run) * within`` they are the slope of the first level plus the differences.

    Parameters
    ----------
    fit : MixedFit
    slope : str
        As it stands in the formula: a column, or ``scale(within)``.
    factor : str
        The column of the levels.

    Returns
    -------
    DataFrame
        One row a level: the column ``factor``; estimate, se, df, p, lower, upper (95 %).

    Raises
    ------
    InputError
        If the fit has not one slope for each level, or the slope depends on something else too.
    """
    levels, contrasts = _contrasts(fit, slope, factor)
    table = fit.contrasts(contrasts)
    table.insert(0, factor, levels)
    return table


def over_levels(fit: MixedFit, slope: str, factor: str = "run", level: float = 0.95) -> pd.Series:
    """What the slopes of `each_level` say of other levels: see `heterogeneity`, whose estimates they are."""
    _, contrasts = _contrasts(fit, slope, factor)
    covariance = contrasts @ fit.cov_params.to_numpy() @ contrasts.T
    return heterogeneity(contrasts @ fit.params.to_numpy(), (covariance + covariance.T) / 2, level)


def heterogeneity(estimates: ArrayLike, covariance: ArrayLike, level: float = 0.95) -> pd.Series:
    r"""The mean of R estimates with a t interval, and the standard deviation of what they estimate.

    The estimates b of R runs have known sampling covariance V, and the true slopes a variance tau^2::

        b ~ N(mu 1, V + tau^2 I),    Q(tau^2) = b' P b,    P = W - W 1 (1' W 1)^-1 1' W,    W = (V + tau^2 I)^-1

    Q falls with tau^2, and at the true one is chi-squared on R - 1 degrees of freedom, whatever R. The interval of
    tau holds the values at which Q is between that distribution's quantiles (the Q profile), the estimate the one at
    which Q is its mean, R - 1. The mean and its interval are those of the t-test on R numbers, which takes nothing as
    known.

    Parameters
    ----------
    estimates : array (run,)
    covariance : array (run, run)
    level : float
        Of both intervals.

    Returns
    -------
    Series
        runs, mean, lower, upper, p (of the mean being 0, on R - 1 degrees of freedom), sd (tau), sd_lower, sd_upper,
        p_equal (of all R slopes being equal).

    Raises
    ------
    InputError
        If there are fewer than two estimates, or the covariance is not one of theirs.

    References
    ----------
    Viechtbauer (2007), Statistics in Medicine 26, 37-52 (the Q profile). Paule and Mandel (1982), Journal of Research
    of the National Bureau of Standards 87, 377-385 (the estimate).
    """
    b, v = np.asarray(estimates, dtype=float), np.asarray(covariance, dtype=float)
    if b.ndim != 1 or len(b) < 2 or not np.isfinite(b).all():
        raise InputError(f"heterogeneity: estimates={b!r}: two finite numbers or more are wanted, one a run.")
    square = v.shape == (len(b), len(b)) and np.isfinite(v).all()
    # Products of matrices are symmetric up to their rounding.
    if not square or np.abs(v - v.T).max() > 1e-8 * np.abs(v).max() or np.linalg.eigvalsh(v).min() <= 0:
        raise InputError(
            f"heterogeneity: covariance of shape {v.shape} is no covariance matrix of {len(b)} estimates: square, "
            "symmetric, all its variances positive."
        )
    check_level(level, "heterogeneity")
    df = len(b) - 1

    def q(variance: float) -> float:
        weights = np.linalg.inv(v + variance * np.eye(len(b)))
        mean = weights.sum(axis=0) @ b / weights.sum()
        return (b - mean) @ weights @ (b - mean)

    def spread(target: float) -> float:
        if q(0.0) <= target:
            return 0.0
        far = np.var(b) + np.trace(v)
        while q(far) > target:
            far *= 4
        return float(np.sqrt(optimize.brentq(lambda variance: q(variance) - target, 0.0, far, xtol=1e-14 * far)))

    test = stats.ttest_1samp(b, 0.0)
    interval = test.confidence_interval(level)
    return pd.Series(
        {
            "runs": len(b),
            "mean": b.mean(),
            "lower": interval.low,
            "upper": interval.high,
            "p": test.pvalue,
            "sd": spread(df),
            "sd_lower": spread(stats.chi2.ppf((1 + level) / 2, df)),
            "sd_upper": spread(stats.chi2.ppf((1 - level) / 2, df)),
            "p_equal": stats.chi2.sf(q(0.0), df),
        }
    )


def slopes_each(
    formula: str, data: pd.DataFrame, by: Sequence[str], slope: str, factor: str = "run", progress: bool = True
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`each_level` and `over_levels` of one model a group of rows (a layer and a term, say).

    Returns
    -------
    tuple of two DataFrame
        With the columns of ``by``: the slope of each level; and their mean and spread, one row a group.
    """
    by = names_of(by, "by", "slopes_each")
    require_columns(data, by, "slopes_each")
    each, over = [], []
    groups = data.groupby(by, sort=False, observed=True)
    for key, rows in tqdm(groups, desc="models", disable=not progress):
        fit, group = crossed.fit(formula, rows), dict(zip(by, key, strict=True))
        each.append(each_level(fit, slope, factor).assign(**group))
        over.append(over_levels(fit, slope, factor).to_dict() | group)
    each = pd.concat(each, ignore_index=True)
    return each[[*by, *each.columns.difference(by, sort=False)]], pd.DataFrame(over).set_index(by).reset_index()


def leave_each_out(
    formula: str,
    data: pd.DataFrame,
    by: Sequence[str],
    factor: str = "run",
    prepare: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    **options,
) -> pd.DataFrame:
    """:func:`addends.mixed.fit_each` without each level of ``factor`` in turn: does a slope rest on one run?

    Parameters
    ----------
    formula, data, by, options
        As for `fit_each`.
    factor : str
    prepare : function, optional
        Applied to the rows that remain, before the fit: what is centred or scaled over runs is to be so anew.

    Returns
    -------
    DataFrame
        That of `fit_each`, with the column left_out first; p-values are adjusted within each.

    Raises
    ------
    InputError
        As `fit_each`; or if ``factor`` has fewer than three levels, of which one cannot be spared.
    """
    prepare = prepare or (lambda rows: rows)
    tables = []
    for level, rows in each_left_out(data, factor, "leave_each_out"):
        tables.append(crossed.fit_each(formula, prepare(rows), by, **options))
        tables[-1].insert(0, "left_out", level)
    return pd.concat(tables, ignore_index=True)


def _contrasts(fit: MixedFit, slope: str, factor: str) -> tuple[list[str], np.ndarray]:
    """The levels of ``factor``, and by which weights of the parameters each one's slope is made, (level, parameter)."""
    where = f"The fit of {fit.formula!r}"
    slope = expression(slope, where).text
    fixed, at, levels, parts = fit.design.fixed, 0, None, []
    for block in fixed.blocks:
        here = slice(at, at + len(block.names))
        at = here.stop
        others = [(name, coding) for name, coding in zip(block.factors, block.codings, strict=True) if name != slope]
        if len(others) == len(block.factors):
            uses = {column for name in block.factors for column in fixed.factors[name].read.columns}
            if slope in uses:
                raise InputError(f"{where} has {list(block.names)} too, so that {slope!r} has no slope of its own.")
            continue
        if any(coding is None or fixed.factors[name].read.columns != (factor,) for name, coding in others):
            raise InputError(
                f"{where} has {list(block.names)}: the slope of {slope!r} is not one for each level of {factor!r}, but "
                "depends on something else too."
            )
        parts.append((here, others))
        for name, _ in others:
            levels = fixed.factors[name].levels
    if levels is None:
        raise InputError(
            f"{where} has no slope of {slope!r} for each level of {factor!r}: its parameters are {fit.names}. Write "
            f"C({factor}) + C({factor}):{slope} in its formula."
        )
    contrasts = np.zeros((len(levels), at))
    for row, level in enumerate(levels):
        for here, others in parts:
            weights = np.ones(1)
            for name, coding in others:
                weights = np.kron(weights, coding[fixed.factors[name].levels.index(level)])
            if len(weights) != here.stop - here.start:
                raise InputError(f"{where}: {slope!r} makes several columns, and so has no single slope.")
            contrasts[row, here] = weights
    return [str(level) for level in levels], contrasts

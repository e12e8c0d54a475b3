"""Does a slope hold over runs? A predictor split in three parts, one slope for each run, and how far these spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import optimize, stats
from tqdm.auto import tqdm

import crossed
from addends.checks import check_level, group_names, groups_of, listed, names_of, numbers, require_columns
from addends.errors import InputError

_OF_EACH = ("estimate", "se", "df", "p", "lower", "upper")
_OVER = ("runs", "mean", "lower", "upper", "p", "sd", "sd_lower", "sd_upper", "p_equal")


def split_predictor(
    frame: pd.DataFrame,
    predictor: str,
    by: str | Sequence[str] = (),
    unit: str = "sentence",
    factor: str = "run",
    repeat: str = "checkpoint",
) -> pd.DataFrame:
    r"""Add the columns ``between``, ``within`` and ``change``, three parts of a predictor.

    For unit (sentence) s, level (run) r of the factor and repetition (checkpoint) k, a dot marking a mean::

        between_s   = (x_s.. - x_...) / d
        within_sr   = (x_sr. - x_s.. - x_.r. + x_...) / d
        change_srk  = (x_srk - x_sr. - x_.rk + x_.r.) / d

    with d the standard deviation of x_s.. over units, for all three: their slopes are in one unit, and would be equal
    if it were the same whether x is higher because the sentence is another, because the run is, or because the run has
    moved. Both ``within`` and ``change`` have mean 0 in every unit and in every run at every checkpoint: they say
    nothing of which runs or checkpoints are higher as a whole. A model that holds ``within`` and ``change`` together in
    one slope gives mostly that of ``change``, where the errors are small.

    Parameters
    ----------
    frame : DataFrame
        One row a unit, level of the factor and repetition (and group of ``by``).
    predictor : str
        A column of numbers.
    by : str or sequence of str
        Groups that are split apart, e.g. ["layer", "term"].
    unit, factor, repeat : str
        The three columns of the crossing.

    Returns
    -------
    DataFrame
        A copy of ``frame`` with between, within and change.

    Raises
    ------
    InputError
        If a column is unknown, a value is missing or infinite, a combination is missing or stands twice (the first such
        group is named), there are fewer than two levels of any of the three, or all units have the same mean.
    """
    where = f"split_predictor({predictor!r})"
    by, factors = names_of(by, "by", where), [unit, factor, repeat]
    require_columns(frame, [predictor, *factors, *by], where)
    values = numbers(frame, predictor, where)
    if not np.isfinite(values).all():
        raise InputError(
            f"{where}: missing or infinite in {(~np.isfinite(values)).sum()} row(s), counted from 0: "
            f"{listed(np.flatnonzero(~np.isfinite(values)))}. Leave the whole {unit} out of every {factor}, and say so."
        )
    parts = {name: np.empty(len(frame)) for name in ("between", "within", "change")}
    groups = frame.groupby(by, sort=False, observed=True).indices if by else {(): np.arange(len(frame))}
    for key, rows in groups.items():
        key = key if isinstance(key, tuple) else (key,)
        name = f"in {dict(zip(by, key, strict=True))}, " if by else ""
        codes = tuple(pd.factorize(frame[column].iloc[rows])[0] for column in factors)
        table = np.full([code.max() + 1 for code in codes], np.nan)  # (unit, factor, repeat)
        table[codes] = values[rows]
        if len(rows) != table.size or np.isnan(table).any():
            raise InputError(
                f"{where}: {name}{len(rows)} rows are not one for each of {table.shape[0]} levels of {unit!r}, "
                f"{table.shape[1]} of {factor!r} and {table.shape[2]} of {repeat!r}. Leave a {unit} that is missing "
                "somewhere out everywhere."
            )
        if min(table.shape) < 2:
            raise InputError(f"{where}: {name}{dict(zip(factors, table.shape, strict=True))} levels; each needs two.")
        table = table - table.mean(axis=0)  # less the mean of each run at each checkpoint
        between = table.mean(axis=(1, 2), keepdims=True)
        within = table.mean(axis=2, keepdims=True) - between
        spread = between.std(ddof=1)
        if not spread > 1e-12 * np.abs(values[rows]).max():
            raise InputError(f"{where}: {name}every {unit} has the same mean; there is nothing between them.")
        for part, found in (("between", between), ("within", within), ("change", table - within - between)):
            parts[part][rows] = np.broadcast_to(found / spread, table.shape)[codes]
    return frame.assign(**parts)


def each_level(fit: crossed.MixedFit, slope: str, factor: str = "run") -> pd.DataFrame:
    """The slopes of a model with one for each level: ``quality ~ C(run) + C(run):within + (1 | sentence)``.

    The formula may say so in any way: by ``C(run) * within`` a slope is that of the first level plus a difference.

    Parameters
    ----------
    fit : crossed.MixedFit
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
    weights = fit.slope_weights(slope, factor)
    return fit.contrasts(weights).assign(**{factor: weights.index}).set_index(factor).reset_index()


def over_levels(fit: crossed.MixedFit, slope: str, factor: str = "run") -> pd.Series:
    """What the slopes of `each_level` say of other levels: their `heterogeneity`."""
    contrasts = fit.slope_weights(slope, factor).to_numpy()
    covariance = contrasts @ fit.cov_params.to_numpy() @ contrasts.T
    return heterogeneity(contrasts @ fit.params.to_numpy(), (covariance + covariance.T) / 2)


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


class Slopes(NamedTuple):
    """The slopes of one model a group: `each_level`, one row a group and level, and `over_levels`, one row a group.

    ``each, over = slopes_by_level(...)``. Of one term and three runs::

        each:  term run  estimate    se    df      p  lower  upper
                  S  r1      0.48  0.07  58.1  <.001   0.34   0.62
                  S  r2      0.55  0.07  58.0  <.001   0.41   0.69
                  S  r3      0.21  0.07  57.8   .004   0.07   0.35
        over:  term  runs  mean  lower  upper    p    sd  sd_lower  sd_upper  p_equal
                  S     3  0.41  -0.03   0.86  .06  0.17      0.06      1.13     .001
    """

    each: pd.DataFrame
    over: pd.DataFrame


def slopes_by_level(
    frame: pd.DataFrame,
    formula: str,
    slope: str,
    by: str | Sequence[str],
    factor: str = "run",
    *,
    progress: bool = True,
) -> Slopes:
    """`each_level` and `over_levels` of one model a group of rows (a layer and a term, say).

    Parameters
    ----------
    frame : DataFrame
        Rows of all groups.
    formula : str
        As for `crossed.fit`, with a slope for each level: ``quality ~ C(run) + C(run):within + (1 | sentence)``.
    slope, factor : str
        As for `each_level`.
    by : str or sequence of str
        The columns that name a group.
    progress : bool
        Show a progress bar.

    Raises
    ------
    InputError
        If ``by`` names no column, a row has no group, or as `crossed.fit` and `each_level` do.
    """
    by = group_names(by, "slopes_by_level")
    groups = list(groups_of(frame, by, [factor, *_OF_EACH, *_OVER], "slopes_by_level"))
    each, over = [], []
    for group, rows in tqdm(groups, desc="models", disable=not progress):
        fit = crossed.fit(formula, rows)
        each.append(each_level(fit, slope, factor).assign(**group))
        over.append(group | over_levels(fit, slope, factor).to_dict())
    of_levels = pd.concat(each, ignore_index=True)
    return Slopes(of_levels[[*by, *of_levels.columns.difference(by, sort=False)]], pd.DataFrame(over))

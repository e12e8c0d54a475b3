r"""What may be concluded of fixed effects and of nested models.

Degrees of freedom are those of Satterthwaite, as lmerTest computes them. A contrast l' beta has the estimated variance
``v(psi) = l' C(psi) l``, where psi holds the variance parameters: theta and the log of the residual SD. With A the
covariance of psi's estimate, twice the inverse of the Hessian of -2 log L::

    df = 2 v^2 / (g' A g),    g = dv / dpsi

-2 log L is the restricted one for a REML fit, and not profiled over the residual SD. Entries of theta that are zero are
left out: v has no slope there, and its curvature tells nothing about a variance that was not seen.

References
----------
Satterthwaite (1946), Biometrics Bulletin 2, 110-114. Kuznetsova, Brockhoff and Christensen (2017), lmerTest, Journal of
Statistical Software 82(13), section 3.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from crossed.checks import check_level
from crossed.design import Grouping
from crossed.errors import InputError
from crossed.estimate import Estimate
from crossed.expressions import expression
from crossed.likelihood import Template
from crossed.search import SINGULAR, jacobian
from crossed.threads import one_thread


@one_thread
def degrees(fit: Estimate, contrasts: np.ndarray) -> tuple[np.ndarray, str]:
    """Degrees of freedom of each contrast (contrast, p), in the fixed effects as given, and what they are, in words."""
    likelihood, template = fit.likelihood, fit.likelihood.template
    theta = fit.optimum.theta
    free = np.flatnonzero(~_negligible(template, theta))
    theta = np.where(np.isin(np.arange(len(theta)), free), theta, 0.0)
    log_sigma = np.log(likelihood.solve(template.blocks(theta)).squares / likelihood.degrees) / 2
    rows = contrasts @ fit.scaling.inverse  # contrasts of the standardised fixed effects

    def variances(point: np.ndarray) -> np.ndarray:
        """v / sigma^2 of each contrast."""
        covariance = likelihood.solve(template.blocks(point)).covariance
        return np.einsum("cp,pq,cq->c", rows, covariance, rows)

    def both(point: np.ndarray) -> np.ndarray:
        """Slopes of -2 log L by the free entries of theta and by log sigma, then `variances`."""
        _, parts, by_sigma = likelihood.gradient(template.blocks(point), log_sigma)
        return np.concatenate([template.vector(parts)[free], [by_sigma], variances(point)])

    here, sigma2 = variances(theta), np.exp(2 * log_sigma)
    count = len(free)
    hessian, gradient = np.zeros((count + 1, count + 1)), np.zeros((len(rows), count + 1))
    if count:
        by_theta = jacobian(both, theta, free)  # (free, free + 1 + contrast)
        hessian[:count], gradient[:, :count] = by_theta[:, : count + 1], sigma2 * by_theta[:, count + 1 :].T
    # By the log of sigma: -2 log L is 2 nu log sigma + r^2 / sigma^2, and v goes with sigma^2.
    hessian[count, :count] = hessian[:count, count]
    hessian[count, count] = 4 * likelihood.degrees
    gradient[:, count] = 2 * sigma2 * here
    hessian = (hessian + hessian.T) / 2
    # Scaled first: theta and log sigma may be known to very different precision. A flat direction (two parametrisations
    # of one covariance) has no slope and adds nothing; one that is only nearly flat must not be left out.
    scale = np.sqrt(np.abs(np.diag(hessian)).clip(min=1e-300))
    values, vectors = np.linalg.eigh(hessian / np.outer(scale, scale))
    along = (gradient / scale) @ vectors  # (contrast, direction)
    spread = 2 * np.sum(along**2 / values.clip(min=1e-12), axis=1)
    words = "t with Satterthwaite's degrees of freedom"
    if fit.boundary:
        words += ", computed without the variances at zero (on the boundary), so that p may be too small"
    return 2 * (sigma2 * here) ** 2 / spread, words


def contrasts(fit: Estimate, weights: ArrayLike, level: float = 0.95) -> pd.DataFrame:
    """Linear combinations of the fixed effects, ``weights @ params``, each with its t-test of being 0.

    ::

        fit = crossed.fit("y ~ C(kind) + (1 | run)", data)  # Intercept (of kind a), C(kind)[b], C(kind)[c]
        fit.contrasts([[0, -1, 1]])  # the mean of c less that of b

    Parameters
    ----------
    weights : array (contrast, parameter), or (parameter,)
    level : float
        Of the intervals.

    Returns
    -------
    DataFrame
        One row a contrast: estimate, se, df (Satterthwaite's), p, lower, upper.

    Raises
    ------
    InputError
        If the weights are not one finite number a parameter, or ``level`` is no probability.
    """
    check_level(level, "contrasts")
    rows = np.atleast_2d(np.asarray(weights, dtype=float))
    if rows.shape[1:] != (len(fit.names),) or not np.isfinite(rows).all():
        raise InputError(
            f"contrasts: weights of shape {np.shape(weights)} are not one finite number for each of {fit.names}."
        )
    estimates = rows @ fit.params.to_numpy()
    se = np.sqrt(np.einsum("cp,pq,cq->c", rows, fit.cov_params.to_numpy(), rows))
    df, _ = degrees(fit, rows)
    half = stats.t.ppf((1 + level) / 2, df) * se
    p = 2 * stats.t.sf(np.abs(estimates / se), df)
    values = {"estimate": estimates, "se": se, "df": df, "p": p, "lower": estimates - half, "upper": estimates + half}
    return pd.DataFrame(values)


def slope_weights(fit: Estimate, slope: str, factor: str) -> pd.DataFrame:
    """The weights of the fixed effects that give the slope of each level of a factor.

    ::

        fit = crossed.fit("y ~ C(kind) * x + (1 | run)", data)  # kinds a and b
        weights = fit.slope_weights("x", "kind")  # a: that of x; b: that of x and of the difference C(kind)[b]:x
        fit.contrasts(weights)

    Parameters
    ----------
    slope : str
        As it stands in the formula: a column, or ``scale(x)``.
    factor : str
        The column of the levels.

    Returns
    -------
    DataFrame
        One row a level, in the order of the levels, one column a fixed effect.

    Raises
    ------
    InputError
        If the fit has not one slope for each level, or the slope depends on something else too.
    """
    where = f"The fit of {fit.formula!r}"
    slope = expression(slope, where).text
    fixed, at = fit.design.fixed, 0
    levels: tuple | None = None
    parts: list[tuple[slice, list[np.ndarray]]] = []
    for block in fixed.blocks:
        here = slice(at, at + len(block.names))
        at = here.stop
        others = [(name, coding) for name, coding in zip(block.factors, block.codings, strict=True) if name != slope]
        if len(others) == len(block.factors):
            uses = {column for name in block.factors for column in fixed.factors[name].read.columns}
            if slope in uses:
                raise InputError(f"{where} has {list(block.names)} too, so that {slope!r} has no slope of its own.")
            continue
        codings = [coding for name, coding in others if fixed.factors[name].read.columns == (factor,)]
        coded = [coding for coding in codings if coding is not None]
        if len(coded) < len(others):
            raise InputError(
                f"{where} has {list(block.names)}: the slope of {slope!r} is not one for each level of {factor!r}, but "
                "depends on something else too."
            )
        parts.append((here, coded))
        for name, _ in others:
            levels = fixed.factors[name].levels
    if levels is None:
        raise InputError(
            f"{where} has no slope of {slope!r} for each level of {factor!r}: its parameters are {fit.names}. Write "
            f"C({factor}) + C({factor}):{slope} in its formula."
        )
    rows = np.zeros((len(levels), at))
    for row in range(len(levels)):
        for here, coded in parts:
            weights: np.ndarray = np.ones(1)
            for coding in coded:
                weights = np.kron(weights, coding[row])
            if len(weights) != here.stop - here.start:
                raise InputError(f"{where}: {slope!r} makes several columns, and so has no single slope.")
            rows[row, here] = weights
    return pd.DataFrame(rows, [str(level) for level in levels], fit.names)


def _negligible(template: Template, theta: np.ndarray) -> np.ndarray:
    """Entries at zero: diagonal ones below the bound of singularity, alone or with the column below them."""
    zero = theta == 0
    for number, column in template.columns.items():
        if theta[number] < SINGULAR:
            zero[number] = True
            if np.abs(theta[column]).max() < SINGULAR:
                zero[column] = True
    return zero


def compare(small: Estimate, large: Estimate) -> pd.Series:
    r"""Test whether the larger of two nested models fits better than chance: ``LR = 2 (llf_large - llf_small)``.

    The reference distribution, with d the number of parameters that the larger model has more:

    - fixed effects or correlations only: chi-squared on d degrees of freedom (fixed effects: both fits by maximum
      likelihood; for few runs the t-test of ``large.pvalues`` is the better test);
    - one random effect more, with its variance and the c covariances with the effects of its term: its variance may
      only be positive, so that LR is an even mixture of chi-squared on c and on c + 1 degrees of freedom (Stram and
      Lee 1994); for one variance alone: half of the p-value of chi-squared on 1;
    - anything else: chi-squared on d, which gives too large a p where variances are among what is tested.

    Parameters
    ----------
    small, large : MixedFit
        Of the same rows; every term of ``small`` is in ``large``: its groups are the same levels, however named,
        and its columns combinations of that term's. By REML only if their fixed parts span the same; where they do so
        in other units (``x`` and ``scale(x)``), the restricted likelihood of ``small`` is taken in the units of
        ``large``, from which it differs by a constant.

    Returns
    -------
    Series
        statistic, df (d), p, distribution (in words), llf_small (in the units of ``large``), llf_large.

    Raises
    ------
    InputError
        If the data or the methods differ, REML fits differ in their fixed parts, the models are not nested or are the
        same, or the larger one fits worse (one of them has not converged).

    References
    ----------
    Self and Liang (1987), Journal of the American Statistical Association 82, 605-610. Stram and Lee (1994), Biometrics
    50, 1171-1177.
    """
    for name, fit in (("small", small), ("large", large)):
        if not isinstance(fit, Estimate):
            raise InputError(f"compare: {name} is a {type(fit).__name__}; two results of crossed.fit are wanted.")
    where = f"compare({small.formula!r}, {large.formula!r})"
    if small.nobs != large.nobs or not np.array_equal(small.design.outcome, large.design.outcome):
        raise InputError(
            f"{where}: the models were fitted to different outcomes or rows ({small.nobs} and {large.nobs}); fit both "
            "to the same table, in the same order."
        )
    if small.reml != large.reml:
        raise InputError(f"{where}: one fit is by REML and one is not; fit both alike.")
    d = large.parameters - small.parameters
    fixed = large.design.fixed.columns.shape[1] - small.design.fixed.columns.shape[1]
    if small.reml and (fixed or not _spanned(small.design.fixed.columns, large.design.fixed.columns)):
        raise InputError(
            f"{where}: restricted likelihoods of different fixed parts do not compare; fit both with reml=False."
        )
    if not _spanned(small.design.fixed.columns, large.design.fixed.columns):
        raise InputError(f"{where}: the fixed part of the first is not contained in that of the second: not nested.")
    grown = _grown(small, large, where)
    if d == 0:
        raise InputError(f"{where}: the two models have the same parameters; there is nothing to test.")
    llf_small = small.llf + (_log_volume(small) - _log_volume(large) if small.reml else 0.0)
    statistic = 2 * (large.llf - llf_small)
    if statistic < -1e-6 * max(1, abs(large.llf) * 1e-6):
        raise InputError(
            f"{where}: the larger model fits worse, by {-statistic:.3g}; one of them has not converged: {small!r}, "
            f"{large!r}."
        )
    statistic = max(statistic, 0.0)
    if not sum(grown):
        p, words = stats.chi2.sf(statistic, d), f"chi-squared on {d} degree{'s' if d > 1 else ''} of freedom"
    elif fixed == 0 and sum(grown) == 1:
        covariances = d - 1
        # Chi-squared on 0 degrees of freedom is 0 always.
        lower = stats.chi2.sf(statistic, covariances) if covariances else float(statistic <= 0)
        p = (lower + stats.chi2.sf(statistic, d)) / 2
        words = f"even mixture of chi-squared on {covariances} and {d} degrees of freedom: a variance is tested at zero"
    else:
        p = stats.chi2.sf(statistic, d)
        words = f"chi-squared on {d} degrees of freedom, which is conservative: variances are tested at zero"
    values = {"statistic": statistic, "df": d, "p": float(p), "distribution": words}
    return pd.Series(
        values | {"llf_small": llf_small, "llf_large": large.llf}, name=f"{small.formula} in {large.formula}"
    )


def _spanned(inner: np.ndarray, outer: np.ndarray) -> bool:
    norms = np.linalg.norm(inner, axis=0)
    inner = inner / norms
    outer = outer / np.linalg.norm(outer, axis=0)
    left = inner - outer @ np.linalg.lstsq(outer, inner, rcond=None)[0]
    return bool((np.linalg.norm(left, axis=0) < 1e-8).all())


def _log_volume(fit: Estimate) -> float:
    """log |det| of the triangle of the fixed part: restricted likelihoods of X and X T differ by log |det T|."""
    return float(np.log(np.abs(np.diag(np.linalg.qr(fit.design.fixed.columns, mode="r")))).sum())


def _grown(small: Estimate, large: Estimate, where: str) -> list[int]:
    """How many effects more the larger model has, in each of its random terms that differ from the smaller one's.

    The list is empty if the random parts are the same. A term with one more correlation and no more effect counts 0. A
    term is contained in one of the same levels whose columns span its own: with Z = Z_large T, its covariance is
    T Sigma T'.
    """
    inside: dict[int, list[int]] = {number: [] for number in range(len(large.design.effects))}
    for effects in small.design.effects:
        homes = [
            number
            for number, other in enumerate(large.design.effects)
            if _same(effects.grouping, other.grouping) and _spanned(effects.columns, other.columns)
        ]
        if not homes:
            raise InputError(
                f"{where}: the random term of {effects.grouping.name} with {list(effects.names)} in the first has none "
                "to be contained in, in the second: not nested."
            )
        narrowest = min(homes, key=lambda number: large.design.effects[number].columns.shape[1])
        inside[narrowest].append(effects.columns.shape[1])
    widths = [effects.columns.shape[1] for effects in large.design.effects]
    return [width - sum(inside[number]) for number, width in enumerate(widths) if inside[number] != [width]]


def _same(one: Grouping, other: Grouping) -> bool:
    """Do both group the rows alike, whatever their levels are called?"""
    pairs = len(np.unique(one.codes * np.int64(len(other)) + other.codes))
    return len(one) == len(other) == pairs

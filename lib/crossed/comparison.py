"""The likelihood-ratio test of two nested mixed models, with the reference distribution said in words."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from crossed.errors import InputError
from crossed.results import MixedFit


def compare(small: MixedFit, large: MixedFit) -> pd.Series:
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
        if not isinstance(fit, MixedFit):
            raise InputError(f"compare: {name} is a {type(fit).__name__}; two results of mixed.fit are wanted.")
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


def _log_volume(fit: MixedFit) -> float:
    """log |det| of the triangle of the fixed part: restricted likelihoods of X and X T differ by log |det T|."""
    return float(np.log(np.abs(np.diag(np.linalg.qr(fit.design.fixed.columns, mode="r")))).sum())


def _grown(small: MixedFit, large: MixedFit, where: str) -> list[int]:
    """For each random term of the larger model that is more than the smaller one has: by how many effects.

    Empty if the random parts are the same. A correlation more, with no effect more, counts as 0 effects. A term is
    contained in one of the same levels whose columns span its own: with Z = Z_large T, its covariance is T Sigma T'.
    """
    inside: dict[int, list] = {number: [] for number in range(len(large.design.effects))}
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


def _same(one, other) -> bool:
    """Do both group the rows alike, whatever their levels are called?"""
    pairs = len(np.unique(one.codes * np.int64(len(other)) + other.codes))
    return len(one) == len(other) == pairs

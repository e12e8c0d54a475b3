"""What a design of so many runs would have seen: the effect that a test finds with a given power, beside each null.

A test that finds nothing says little before it is known what it could have found. Every function here gives the
smallest effect that a two-sided test at 1 - ``level`` finds with probability ``power``, from the exact distribution of
its statistic where there is one. For a family of m tests give ``level=1 - 0.05 / m``: what Holm asks of the first.

References
----------
Hotelling (1953), New light on the correlation coefficient and its transforms, Journal of the Royal Statistical Society
B 15, 193-232. Welch (1947), Biometrika 34, 28-35.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import optimize, stats

from addends.checks import check_count, check_level
from addends.errors import InputError


def _quadrature(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of an integral from 0 to 1: a mean over a distribution, at these of its quantiles."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    return (points + 1) / 2, weights / 2


_PROBABILITIES, _WEIGHTS = _quadrature(200)
_FEW_PROBABILITIES, _FEW_WEIGHTS = _quadrature(80)


def detectable_correlation(runs: int, power: float = 0.8, level: float = 0.95) -> float:
    r"""The correlation over runs that the t-test of r finds with ``power``.

    >>> [round(detectable_correlation(runs), 2) for runs in (6, 12, 20)]
    [0.89, 0.71, 0.58]

    Exact for a bivariate normal distribution, in which the runs are drawn with both of their values. Given the
    predictor's sum of squares, R - 1 times its sample variance, the statistic is noncentral t::

        t | V  ~  t(R - 2, rho / sqrt(1 - rho^2) sqrt(V)),     V ~ chi-squared(R - 1)

    and the power is the mean over V. Fisher's z = atanh(r), with a standard error of 1 / sqrt(R - 3), gives tanh((z_a +
    z_b) / sqrt(R - 3)) with the normal quantiles of the level and the power: .59 at 20 runs. A rank
    correlation needs slightly more.

    Parameters
    ----------
    runs : int
        How many, 4 or more.
    power, level : float
        Between 0 and 1; the power above 1 - ``level``, which no effect at all has.

    Raises
    ------
    InputError
        If a number is outside what it may be.
    """
    where = "detectable_correlation"
    check_count("runs", runs, where, least=4)
    _check(power, level, where)
    spread = np.sqrt(stats.chi2.ppf(_PROBABILITIES, runs - 1))

    def reached(z: float) -> float:  # rho / sqrt(1 - rho^2) = sinh(atanh(rho))
        return float(_WEIGHTS @ _two_sided(np.sinh(z) * spread, runs - 2, level))

    return float(np.tanh(_smallest(reached, power)))


def detectable_mean(runs: int, sd: float = 1.0, power: float = 0.8, level: float = 0.95) -> float:
    r"""The mean that the t-test on one number a run finds: slopes run by run, or differences paired within seed.

    Exact for normal numbers: t ~ noncentral t on R - 1 degrees of freedom, with noncentrality mean sqrt(R) / sd.

    Parameters
    ----------
    runs : int
        Two or more.
    sd : float
        Of the numbers over runs. The result is in its unit.
    power, level : float
        As for `detectable_correlation`.

    Raises
    ------
    InputError
        If a number is outside what it may be.
    """
    where = "detectable_mean"
    check_count("runs", runs, where, least=2)
    _check(power, level, where, sd)
    unit = _smallest(lambda shift: float(_two_sided(np.array(shift), runs - 1, level)), power)
    return float(unit * sd / np.sqrt(runs))


def detectable_slope(
    runs: int, residual_sd: float = 1.0, predictor_sd: float = 1.0, power: float = 0.8, level: float = 0.95
) -> float:
    r"""The slope over runs that its t-test finds, the predictor's values being what they are.

    Exact for normal residuals: t ~ noncentral t on R - 2 degrees of freedom, with noncentrality
    slope predictor_sd sqrt(R - 1) / residual_sd.

    Parameters
    ----------
    runs : int
        Three or more.
    residual_sd, predictor_sd : float
        SD of the residuals (in units of the outcome), and of the predictor over these runs.
    power, level : float
        As for `detectable_correlation`.

    Raises
    ------
    InputError
        If a number is outside what it may be.
    """
    where = "detectable_slope"
    check_count("runs", runs, where, least=3)
    _check(power, level, where, residual_sd, predictor_sd)
    unit = _smallest(lambda shift: float(_two_sided(np.array(shift), runs - 2, level)), power)
    return float(unit * residual_sd / (predictor_sd * np.sqrt(runs - 1)))


def detectable_difference(
    runs: tuple[int, int], sd: tuple[float, float] = (1.0, 1.0), power: float = 0.8, level: float = 0.95
) -> float:
    r"""The difference between two conditions' means that Welch's t-test finds, with independent runs in each.

    Exact for normal numbers. With v = s_1^2 / R_1 + s_2^2 / R_2 and its estimate w, which is a sum of two chi-squared
    variables over their degrees of freedom, the difference d is found where, given both::

        |N(d / sqrt(v), 1)| > t(df) sqrt(w / v),    df = w^2 / (w_1^2 / (R_1 - 1) + w_2^2 / (R_2 - 1)),
        w = w_1 + w_2,    w_k = s_k^2 V_k / (R_k (R_k - 1)),    V_k ~ chi-squared(R_k - 1)

    and the power is the mean over V_1 and V_2. (Noncentral t on the df of the true variances would promise too much:
    .80 where three runs against three have .70.) Conditions that share seeds are paired: `detectable_mean` of the
    differences.

    Parameters
    ----------
    runs : tuple of two int
        In each condition, two or more.
    sd : tuple of two float
        Over runs within each condition. The result is in its unit.
    power, level : float
        As for `detectable_correlation`.

    Raises
    ------
    InputError
        If a number is outside what it may be.
    """
    where = "detectable_difference"
    for given in runs:
        check_count("runs", given, where, least=2)
    _check(power, level, where, *sd)
    errors, df = np.square(sd) / runs, np.array(runs) - 1
    drawn = [error * stats.chi2.ppf(_FEW_PROBABILITIES, of) / of for error, of in zip(errors, df, strict=True)]
    first, second = np.meshgrid(*drawn)
    estimated = first + second
    welch = estimated**2 / (first**2 / df[0] + second**2 / df[1])
    limit = stats.t.ppf((1 + level) / 2, welch) * np.sqrt(estimated / errors.sum())

    def reached(shift: float) -> float:
        return float(_FEW_WEIGHTS @ (stats.norm.sf(limit - shift) + stats.norm.cdf(-limit - shift)) @ _FEW_WEIGHTS)

    return _smallest(reached, power) * float(np.sqrt(errors.sum()))


def _two_sided(shift: np.ndarray, df: float, level: float) -> np.ndarray:
    """The chance that a noncentral t is beyond the limits of the two-sided test; ``shift`` is its noncentrality."""
    limit = stats.t.ppf((1 + level) / 2, df)
    return stats.nct.sf(limit, df, shift) + stats.nct.sf(limit, df, -shift)


def _smallest(reached: Callable[[float], float], power: float) -> float:
    """The effect at which ``reached``, which rises from 1 - level to 1, is ``power``."""
    high = 1.0
    while reached(high) < power:
        high *= 2
    return float(optimize.brentq(lambda effect: reached(effect) - power, 0.0, high, xtol=1e-10))


def _check(power: float, level: float, where: str, *sds: float) -> None:
    check_level(level, where)
    if not 1 - level < power < 1:
        raise InputError(f"{where}: power={power!r} must be between {1 - level:.3g}, which no effect has, and 1.")
    for sd in sds:
        if not 0 < sd < np.inf:
            raise InputError(f"{where}: a standard deviation of {sd!r} is no number above 0.")

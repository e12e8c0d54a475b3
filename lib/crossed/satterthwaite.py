r"""Degrees of freedom for contrasts of fixed effects, after Satterthwaite, as lmerTest computes them.

A contrast l' beta has the estimated variance ``v(psi) = l' C(psi) l``, where psi holds the variance parameters: theta
and the log of the residual SD. With A the covariance of psi's estimate, twice the inverse of the Hessian of -2 log L::

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

from crossed.optimum import SINGULAR, Template
from crossed.threads import one_thread


@one_thread
def degrees(fit, contrasts: np.ndarray) -> tuple[np.ndarray, str]:
    """Degrees of freedom of each contrast (contrast, p), in the fixed effects as given, and what they are, in words."""
    likelihood = fit.likelihood
    template = Template([term.width for term in likelihood.terms])
    theta = fit.optimum.theta
    free = np.flatnonzero(~_negligible(template, theta))
    theta = np.where(np.isin(np.arange(len(theta)), free), theta, 0.0)
    log_sigma = np.log(likelihood.solve(template.blocks(theta)).squares / likelihood.degrees) / 2
    inverse = fit.scaling.inverse
    rows = contrasts @ inverse  # contrasts of the standardised fixed effects

    def variances(point: np.ndarray) -> np.ndarray:
        """v / sigma^2 of each contrast."""
        covariance = likelihood.solve(template.blocks(point)).covariance
        return np.einsum("cp,pq,cq->c", rows, covariance, rows)

    def slope(point: np.ndarray) -> np.ndarray:
        _, parts, by_sigma = likelihood.deviance(template.blocks(point), log_sigma, gradient=True)
        return np.append(template.vector(parts)[free], by_sigma)

    here, sigma2 = variances(theta), np.exp(2 * log_sigma)
    count = len(free)
    hessian, gradient = np.zeros((count + 1, count + 1)), np.zeros((len(rows), count + 1))
    for number, place in enumerate(free):
        change = np.zeros(len(theta))
        change[place] = 1e-3 * max(abs(theta[place]), 1e-2)
        ahead, behind, far_ahead, far_behind = (theta + many * change for many in (1, -1, 2, -2))
        step = 12 * change[place]
        hessian[number] = (8 * (slope(ahead) - slope(behind)) - (slope(far_ahead) - slope(far_behind))) / step
        first, second = variances(ahead) - variances(behind), variances(far_ahead) - variances(far_behind)
        gradient[:, number] = sigma2 * (8 * first - second) / step
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


def _negligible(template: Template, theta: np.ndarray) -> np.ndarray:
    """Entries at zero: diagonal ones below the bound of singularity, alone or with the column below them."""
    zero = theta == 0
    for number, column in template.columns.items():
        if theta[number] < SINGULAR:
            zero[number] = True
            if np.abs(theta[column]).max() < SINGULAR:
                zero[column] = True
    return zero

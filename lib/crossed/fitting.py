"""A formula and a table become a fitted mixed model.

The model, for observation i with fixed predictors x_i, in level g(i) of each grouping factor g, with the columns z_i of
its random term::

    y_i = x_i' beta + sum_g z_gi' b_g(i) + e_i,    b_g ~ N(0, Sigma_g),  e ~ N(0, scale), all independent

The way of a fit: the formula is read (`formulas`), resolved against the table (`design`), standardised (`scaling`); the
likelihood is maximised over the variances (`likelihood`, `search`). What a fit can tell: :mod:`crossed.results`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from crossed.checks import check_reml
from crossed.design import design
from crossed.errors import InputError
from crossed.formulas import parse
from crossed.likelihood import Term
from crossed.results import MixedFit
from crossed.scaling import standardise
from crossed.search import UNBOUNDED, analysis_of_variance, maximise
from crossed.threads import one_thread


@one_thread
def fit(formula: str, data: pd.DataFrame, reml: bool = True) -> MixedFit:
    """Fit a linear mixed model: ``y = X beta + Z b + e``, ``b ~ N(0, Sigma)``, ``e ~ N(0, scale)``.

    The outcome and the predictors are standardised inside and the results scaled back, so that outcomes on scales from
    1e-12 to 1e12 are fitted alike; everything returned is in the units given.

    Parameters
    ----------
    formula : str
        As in lme4, e.g. ``"chrf ~ importance + (importance | run) + (1 | sentence)"``; ``(x || run)`` for an
        uncorrelated slope, ``(1 | run:sentence)`` for an interaction, ``(1 | language/sentence)`` for nesting. Names
        that are no plain words stand in backticks. Everything written is used, or refused with its place.
        Intercepts of one many-level factor and of the interactions nested in it cost little, however many levels they
        have: ``(1 | sentence) + (1 | init:sentence) + (1 | order:sentence)`` is worked out sentence by sentence. The
        factor must have an intercept itself. The other random terms are for few levels (2,000 effects in all).

        Left side: arithmetic on columns (``y - x``, ``log(y)``). A Boolean outcome is fitted as 0 and 1, as lme4 does.

        Terms: ``a + b``, ``a:b``, ``a*b``, ``a/b``, ``a %in% b``, ``(a + b + c)^2`` (or ``**``), ``- a``, ``0 +``, by
        the rules of R. ``x^2`` is x itself, with a warning; the square is ``I(x^2)``.

        Functions: ``I()`` holds arithmetic (``I(x**2)``, ``I(x > 3)``, ``I(np.pi*x)``). There ``&`` and ``|`` bind less
        than comparisons, as in R, and ordered categories are compared in their order. log, log2, log10, log1p, exp,
        sqrt, abs, sin and others row by row; ``np.mean(x)`` and its like of the whole column of the fit.
        ``scale(x)`` divides by the standard deviation with n, where R's has n - 1. ``center(x)`` subtracts the mean.
        ``bs(x, df=4)`` is a B-spline basis centred over the rows; it differs from R's, spans the same with the
        intercept, and so has other coefficients and the same fitted values. ``poly(x, 2)``, ``cr(x, df=4)``.

        Categories: text and pandas categories as they are, numbers by ``C(g)``. The first level is the base: the first
        category of a pandas Categorical, ordered or not, and the smallest of all else. ``C(g, levels=['b', 'a'])`` and
        ``T(g, 'b')`` choose the base; ``C(g, Sum)`` and ``S(g)`` have effects that sum to 0, the last level left out.
        Ordered categories get the same differences from the base, not R's polynomials.
    data : DataFrame
        One row an observation; no missing values in the columns used.
    reml : bool
        Restricted maximum likelihood (variances without the bias of estimating the fixed effects), or maximum
        likelihood.

    Returns
    -------
    MixedFit

    Raises
    ------
    InputError
        If the formula cannot be read, or the data cannot carry it: see :func:`crossed.formulas.parse` and
        :func:`crossed.design.design`; or if the model leaves no residual.

    References
    ----------
    Bates, Maechler, Bolker and Walker (2015), Fitting linear mixed-effects models using lme4, Journal of Statistical
    Software 67(1), section 3 (the profiled criteria).
    """
    check_reml(reml, "fit")
    arrays = design(parse(formula), data)
    scaling, likelihood = standardise(arrays, bool(reml))
    residuals = likelihood.y - likelihood.x @ np.linalg.lstsq(likelihood.x, likelihood.y, rcond=None)[0]
    terms = likelihood.terms
    nothing_left = residuals @ residuals <= 1e-20 * len(residuals) or _explained(terms, residuals)
    if not nothing_left:
        template = likelihood.template
        plain = template.vector([np.eye(term.width) for term in terms])  # lme4's own start
        best = maximise(likelihood, [template.vector(analysis_of_variance(terms, residuals)), plain])
        nothing_left = np.abs(best.theta).max() > UNBOUNDED or not np.isfinite(best.deviance)
    if nothing_left:
        raise InputError(
            f"formula={formula!r}: the grouping factors and predictors give {arrays.formula.outcome.text!r} exactly, "
            "so that there is no residual to hold variances against. Is the outcome one of them in other words?"
        )
    return MixedFit(formula, bool(reml), arrays, scaling, likelihood, best)


def _explained(terms: list[Term], residuals: np.ndarray) -> bool:
    """Do the random intercepts leave nothing but rounding? By alternating projections, a few rounds."""
    left = residuals.copy()
    whole = residuals @ residuals
    for _ in range(30):
        before = left @ left
        for term in terms:
            if term.intercept_only:
                means = np.bincount(term.codes, left, term.levels) / np.bincount(term.codes, minlength=term.levels)
                left -= means[term.codes]
        after = left @ left
        if after <= 1e-22 * len(left) or after <= 1e-20 * whole:
            return True
        if after > 0.5 * before:
            return False
    return False

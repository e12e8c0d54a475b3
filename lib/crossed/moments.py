"""Where the search for variances begins: mean squares of the grouping factors, as in an analysis of variance."""

from __future__ import annotations

import numpy as np

from crossed.likelihood import Term


def start(terms: list[Term], residuals: np.ndarray) -> list[np.ndarray]:
    """Blocks of Lambda from one-way analyses of variance of least-squares residuals, one a random intercept.

    For a factor with levels of n_i rows and mean square M, error mean square E: theta^2 = (M - E) / (E n), at least
    0.01 / n, which is the REML estimate itself where the design is balanced, crossed, without predictors, and no
    estimate is at zero. Slopes start at a tenth of the residual SD.
    """
    whole = residuals @ residuals
    squares, df, sizes = [], [], []
    for term in terms:
        counts = np.bincount(term.codes, minlength=term.levels)
        between = np.sum(np.bincount(term.codes, residuals, term.levels) ** 2 / counts)
        squares.append(between)
        df.append(term.levels - 1)
        sizes.append(len(residuals) / term.levels)
    left = [term.intercept_only for term in terms]
    error_df = len(residuals) - 1 - np.sum(np.array(df)[left])
    rest = whole - np.sum(np.array(squares)[left])
    # Where factors overlap their squares do too, and what is left may be nothing: then only somewhere to start from.
    error = rest / error_df if error_df > 0 and rest > 1e-3 * whole else whole / len(residuals) / 10
    blocks = []
    for term, square, freedom, size in zip(terms, squares, df, sizes, strict=True):
        ratio = max((square / freedom - error) / error, 1e-2) / size
        blocks.append(np.diag([np.sqrt(ratio) if term.intercept_only else 0.1] * term.width))
        if not term.intercept_only:
            blocks[-1][0, 0] = np.sqrt(ratio)
    return blocks


def explained(terms: list[Term], residuals: np.ndarray) -> bool:
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

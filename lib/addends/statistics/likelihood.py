"""The likelihood of a crossed mixed model, its closed-form starting point, and the search for its maximum.

The engine behind :func:`addends.statistics.mixed.fit`: statsmodels' MixedLM finds a maximum; the same likelihood,
written out here, polishes it, evaluates what MixedLM cannot (a variance of exactly zero), and checks it.
"""

from __future__ import annotations

import contextlib
import warnings

import numpy as np
from scipy import linalg, optimize

SINGULAR = 1e-4
"""A random effect whose SD is below this fraction of the residual SD counts as zero (lme4's ``isSingular``)."""

UNBOUNDED = 1e5
"""A random effect whose SD is above this multiple of the residual SD: the residual has vanished."""


class Likelihood:
    r"""The log-likelihood of the SDs' ratios to the residual SD (theta), fixed effects and scale profiled out.

    With L = diag(theta) over the columns of Z: V = I + Z L L Z', log det V = log det M and
    inverse(V) = I - Z L inverse(M) L Z' for M = L Z'Z L + I, whose side is the number of levels. Zero is no special
    case.

    Parameters
    ----------
    codes : list of array (row,) of int
        For each grouping factor, the number of the level in which each row stands.
    y : array (row,)
    x : array (row, parameter)
        Both standardised by the caller.
    reml : bool
    """

    def __init__(self, codes: list[np.ndarray], y: np.ndarray, x: np.ndarray, reml: bool):
        counts = [code.max() + 1 for code in codes]
        offsets = np.cumsum([0, *counts])[:-1]
        self.codes = codes
        self.which = np.repeat(np.arange(len(counts)), counts)  # (level,) -> number of its factor
        self.columns = [code + offset for code, offset in zip(codes, offsets, strict=True)]  # (row,) -> column of Z
        self.reml, self.y, self.x = reml, y, x
        self.degrees = len(y) - (x.shape[1] if reml else 0)
        size = sum(counts)
        self.zz = np.zeros((size, size))  # Z'Z: how often two levels meet
        for first in self.columns:
            for second in self.columns:
                np.add.at(self.zz, (first, second), 1)
        self.xy = np.column_stack([x, y])
        self.zxy = self._sums(self.xy)
        self.products = self.xy.T @ self.xy

    def _sums(self, values: np.ndarray) -> np.ndarray:
        """Z' values: (row, k) -> (level, k)."""
        sums = np.zeros((len(self.which), values.shape[1]))
        for column in self.columns:
            np.add.at(sums, column, values)
        return sums

    def _solve(self, theta: np.ndarray):
        spread = np.asarray(theta)[self.which]
        factor = linalg.cholesky(spread[:, None] * self.zz * spread + np.eye(len(spread)), lower=True)
        half = linalg.solve_triangular(factor, spread[:, None] * self.zxy, lower=True)
        gram = self.products - half.T @ half  # [X y]' inverse(V) [X y]
        beta = np.linalg.solve(gram[:-1, :-1], gram[:-1, -1])
        return spread, factor, gram, beta, gram[-1, -1] - gram[:-1, -1] @ beta

    def __call__(self, theta: np.ndarray) -> float:
        try:
            _, factor, gram, _, squares = self._solve(theta)
        except np.linalg.LinAlgError:
            return -np.inf
        if squares <= 0:  # rounding, where theta is so large that nothing is left of the residual
            return -np.inf
        value = -np.log(np.diag(factor)).sum()
        value -= self.degrees / 2 * (1 + np.log(2 * np.pi * squares / self.degrees))
        return value - (np.linalg.slogdet(gram[:-1, :-1])[1] / 2 if self.reml else 0)

    def estimates(self, theta: np.ndarray):
        """Fixed effects, their covariance, the residual variance, and the predicted effects of each factor."""
        spread, factor, gram, beta, squares = self._solve(theta)
        scale = squares / self.degrees
        sums = spread * self._sums((self.y - self.x @ beta)[:, None])[:, 0]
        effects = spread * linalg.cho_solve((factor, True), sums)
        parts = [effects[self.which == number] for number in range(len(self.columns))]
        return beta, scale * np.linalg.inv(gram[:-1, :-1]), scale, parts

    def residuals(self) -> np.ndarray:
        """Of ordinary least squares: where the search for variances begins."""
        return self.y - self.x @ np.linalg.lstsq(self.x, self.y, rcond=None)[0]


class Moments:
    """Mean squares of the grouping factors: the analysis of variance, exact where the design is balanced and crossed.

    Attributes
    ----------
    balanced : bool
        Every level of a factor has as many rows as every other, and meets each level of the other factors as often.
    squares, df, sizes : array (factor,)
        Mean squares, their degrees of freedom, and the rows a level.
    error, error_df : float
        The same of what the factors leave; the error is 0 where they leave nothing but rounding.
    """

    def __init__(self, codes: list[np.ndarray], residuals: np.ndarray):
        totals, squares, df, sizes = residuals.sum(), [], [], []
        self.balanced = True
        for number, code in enumerate(codes):
            counts = np.bincount(code)
            means = np.bincount(code, residuals) / counts
            squares.append(np.sum(counts * (means - totals / len(code)) ** 2))
            df.append(len(counts) - 1)
            sizes.append(len(code) / len(counts))
            self.balanced &= np.ptp(counts) == 0
            for other in codes[:number]:
                table = np.zeros((len(counts), other.max() + 1))
                np.add.at(table, (code, other), 1)
                self.balanced &= np.ptp(table) == 0
        self.balanced = bool(self.balanced)
        self.df, self.sizes = np.array(df), np.array(sizes)
        self.squares = np.array(squares) / self.df
        self.error_df = len(residuals) - 1 - self.df.sum()
        whole = np.sum(residuals**2) - totals**2 / len(residuals)
        rest = whole - np.sum(squares)
        if whole <= 1e-20 * len(residuals):  # of a standardised outcome: the predictors leave nothing
            self.error = 0.0
        elif self.balanced:
            self.error = rest / self.error_df if rest > 1e-12 * whole else 0.0
        else:  # the sums of squares overlap: only somewhere to start from
            self.error = max(rest / max(self.error_df, 1), whole / len(residuals) / 10)

    def start(self) -> np.ndarray:
        """Ratios of SDs to the residual SD; the REML estimate itself if balanced, intercept-only and inside."""
        variances = (self.squares - self.error) / self.sizes
        return np.sqrt((variances / self.error).clip(min=1e-2 / self.sizes))


def maximise(likelihood: Likelihood, start: np.ndarray) -> tuple[np.ndarray, bool]:
    """The theta of the best of three searches, and whether the likelihood says that it is a maximum.

    MixedLM divides its criterion by the number of rows before it compares gradients with a tolerance, and can stop
    early saying that it converged; and it cannot evaluate a variance of exactly zero. So its answer is one candidate,
    a bounded Nelder-Mead search from the best candidate another, and each variance set to zero a third.
    """
    candidates = [start]
    # Its Hessian is singular on the boundary: then the searches below start from the moments alone.
    with contextlib.suppress(np.linalg.LinAlgError, ValueError):
        candidates.append(_statsmodels(likelihood, start))
    best = max((theta for theta in candidates if np.isfinite(theta).all()), key=likelihood)
    factors = np.arange(len(best))
    for _ in range(2):
        search = optimize.minimize(
            lambda theta: -likelihood(theta),
            best.clip(max=10 * UNBOUNDED),
            method="Nelder-Mead",
            bounds=[(0, 10 * UNBOUNDED)] * len(best),
            options={"xatol": 1e-7, "fatol": 1e-10, "maxiter": 200 * len(best)},
        )
        best = max(best, search.x, key=likelihood)
        for number in range(len(best)):
            without = np.where(factors == number, 0.0, best)
            if likelihood(without) >= likelihood(best) - 1e-9:
                best = without
    return best, _is_maximum(likelihood, best)


def _statsmodels(likelihood: Likelihood, start: np.ndarray) -> np.ndarray:
    # Imported here: reading a table's shares back needs no model, and statsmodels is slow to import.
    from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec

    matrices = [np.eye(code.max() + 1)[code] for code in likelihood.codes]
    names = [f"factor {number}" for number in range(len(matrices))]
    labels = [[[f"{name} {level}" for level in range(z.shape[1])]] for name, z in zip(names, matrices, strict=True)]
    # One constant group, and each factor a variance component: crossed. A factor as groups= would nest the others.
    components = VCSpec(names, labels, [[matrix] for matrix in matrices])
    model = MixedLM(likelihood.y, likelihood.x, groups=np.ones(len(likelihood.y)), exog_vc=components)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # what they warn of is checked by _is_maximum
        result = model.fit(start_params=start, reml=likelihood.reml, method=["bfgs", "powell"], gtol=1e-8)
    return np.sqrt(np.asarray(result.vcomp) / result.scale)


def _is_maximum(likelihood: Likelihood, theta: np.ndarray, step: float = 1e-3) -> bool:
    here = likelihood(theta)
    for number, value in enumerate(theta):
        moved = np.tile(theta, (2, 1))
        if value < SINGULAR:
            moved[:, number] = step, 10 * step
            if max(likelihood(point) for point in moved) > here + 1e-9:
                return False
            continue
        if value > UNBOUNDED:  # the residual variance has vanished: nothing bounds the likelihood
            return False
        moved[:, number] *= np.exp([-step, step])
        below, above = (likelihood(point) for point in moved)
        slope, curvature = (above - below) / (2 * step), (above - 2 * here + below) / step**2
        if curvature >= 0 or abs(slope / curvature) > SINGULAR:
            return False
    return True

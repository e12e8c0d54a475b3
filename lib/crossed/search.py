"""The search for the maximum of a mixed model's likelihood, and the proof that it is one.

The start is an analysis of variance. Several starts are followed, each by L-BFGS-B on the analytic gradient; the best
one is polished by Newton steps. Then every diagonal entry of theta is set to zero (the boundary faces), other
correlations are searched from, and whatever has no variance is given some. Nothing is believed from the optimiser:
`Optimum.converged` is asked of the likelihood itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from crossed.likelihood import Likelihood, Template, Term

SINGULAR = 1e-4
"""A random effect whose SD is below this fraction of the residual SD counts as zero (lme4's ``isSingular``)."""

UNBOUNDED = 1e5
"""A random effect whose SD is above this multiple of the residual SD: the residual has vanished."""

_SAME = 1e-9
"""Two deviances that differ by less (and by less than rounding makes of large ones) are the same."""

_DECREMENT = 1e-8
"""A Newton step that promises less deviance than this moves no parameter by a 10,000th of its standard error."""

_PROBES = np.array([2e-4, 1e-3, 1e-2, 1e-1, 1.0])  # how far an entry at zero is moved, to see whether it would leave
_FAR = 30.0  # how much larger, relative to the residual, the effects of a further start are

Slopes = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""A function of a point that gives its value and its gradient."""


@dataclass(frozen=True, eq=False)
class Optimum:
    """The end of a search: for ``(1 | run) + (1 | sentence)``, say, ``Optimum([0.8, 1.3], 212.4, True)``.

    Attributes
    ----------
    theta : array (parameter,)
        See :class:`crossed.likelihood.Template`.
    deviance : float
        -2 log likelihood of the standardised model there, the smallest found.
    converged : bool
        The likelihood says that theta is a maximum: see `is_minimum`.
    """

    theta: np.ndarray
    deviance: float
    converged: bool


class Objective:
    """The deviance of a likelihood, and its derivatives, as functions of theta."""

    def __init__(self, likelihood: Likelihood):
        self.likelihood, self.template = likelihood, likelihood.template

    def __call__(self, theta: np.ndarray) -> float:
        return self.likelihood.deviance(self.template.blocks(theta))

    def gradient(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, slopes, _ = self.likelihood.gradient(self.template.blocks(theta))
        return value, self.template.vector(slopes)

    def hessian(self, theta: np.ndarray, free: np.ndarray) -> np.ndarray:
        """Second derivatives by the ``free`` entries, (free, free); ``free`` is Boolean, (parameter,)."""
        return hessian(lambda point: self.gradient(point)[1][free], theta, np.flatnonzero(free))


def jacobian(function: Callable[[np.ndarray], np.ndarray], point: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Derivatives of a function (value,) of ``point`` by its entries at ``places``, (place, value).

    Central differences of fourth order.
    """
    rows = []
    for place in places:
        change = np.zeros(len(point))
        change[place] = step = 1e-3 * max(abs(point[place]), 1e-2)
        ahead, behind, far_ahead, far_behind = (function(point + many * change) for many in (1, -1, 2, -2))
        rows.append((8 * (ahead - behind) - (far_ahead - far_behind)) / (12 * step))
    return np.array(rows)


def hessian(gradient: Callable[[np.ndarray], np.ndarray], point: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The `jacobian` of a gradient (place,), made symmetric, (place, place)."""
    matrix = jacobian(gradient, point, places)
    return (matrix + matrix.T) / 2


def analysis_of_variance(terms: list[Term], residuals: np.ndarray) -> list[np.ndarray]:
    """Blocks of Lambda from one-way analyses of variance of least-squares residuals, one a random intercept.

    For a factor with levels of n_i rows and mean square M, error mean square E: theta^2 = (M - E) / (E n), at least
    0.01 / n, which is the REML estimate itself where the design is balanced, crossed, without predictors, and no
    estimate is at zero. Slopes start at a tenth of the residual SD.
    """
    whole = residuals @ residuals
    squares, df = np.empty(len(terms)), np.array([term.levels - 1 for term in terms])
    for number, term in enumerate(terms):
        counts = np.bincount(term.codes, minlength=term.levels)
        squares[number] = np.sum(np.bincount(term.codes, residuals, term.levels) ** 2 / counts)
    intercepts = [term.intercept_only for term in terms]
    error_df = len(residuals) - 1 - np.sum(df[intercepts])
    rest = whole - np.sum(squares[intercepts])
    # Where factors overlap their squares do too, and what is left may be nothing: then only somewhere to start from.
    error = rest / error_df if error_df > 0 and rest > 1e-3 * whole else whole / len(residuals) / 10
    blocks = []
    for term, square, freedom in zip(terms, squares, df, strict=True):
        ratio = max((square / freedom - error) / error, 1e-2) / (len(residuals) / term.levels)
        blocks.append(np.diag([np.sqrt(ratio) if term.intercept_only else 0.1] * term.width))
        if not term.intercept_only:
            blocks[-1][0, 0] = np.sqrt(ratio)
    return blocks


def maximise(likelihood: Likelihood, starts: list[np.ndarray]) -> Optimum:
    """The best theta reached from ``starts``, from each boundary face, and from other correlations."""
    objective = Objective(likelihood)
    if any(width > 1 for width in objective.template.widths):  # few rows may be fitted with hardly a residual, or not
        starts = [*starts, *(_FAR * start for start in starts)]
    best = min((_search(objective, start) for start in starts), key=objective)
    best = _polish(objective, best)
    for number, column in objective.template.columns.items():
        if not best[number]:
            continue
        fixed = np.zeros(len(best), dtype=bool)
        fixed[column] = True
        # Other columns start anew if they were large: what one factor loses, another takes up.
        face = _search(objective, np.where(fixed, 0.0, best), fixed)
        if objective(face) <= objective(best) + _same(objective(best)):
            best = face
    for _ in range(4):
        before = objective(best)
        for away in _elsewhere(objective.template, best):
            found = _search_whole(objective, away)
            if objective(found) < objective(best) - _same(objective(best)):
                best = found
        for _ in range(2):
            moved = _off_zero(objective, best)
            if objective(moved) < objective(best) - _same(objective(best)):
                best = _search_whole(objective, moved)
        best = _polish(objective, best)
        if not objective(best) < before - _same(before):
            break
    return Optimum(best, objective(best), is_minimum(objective, best))


def _elsewhere(template: Template, theta: np.ndarray) -> list[np.ndarray]:
    """Other places to search from, where effects may correlate: the likelihood may have several maxima there.

    Correlations of the other sign, none at all, one effect without variance, and, from few levels, effects that are
    perfectly correlated one way or the other.
    """
    blocks = template.blocks(theta)
    found = []
    for number, block in enumerate(blocks):
        width = len(block)
        if width == 1:
            continue
        sds = np.sqrt(np.diag(block @ block.T))
        usual = max(sds.max(), 0.1)
        others = [np.diag(sds.clip(min=0.1 * usual))]
        for effect in range(width):
            sign = np.where(np.arange(width) == effect, -1.0, 1.0)
            if width > 2 or effect:
                others.append(sign[:, None] * block)
                others.append(np.outer(sign * sds.clip(min=0.3 * usual), np.eye(width)[0]))
            others.append(np.diag(np.where(sign < 0, 0.0, sds.clip(min=0.1 * usual))))
        others.append(np.outer(sds.clip(min=0.3 * usual), np.eye(width)[0]))
        found += [template.vector([*blocks[:number], triangle(other), *blocks[number + 1 :]]) for other in others]
    return found


def _off_zero(objective: Objective, theta: np.ndarray) -> np.ndarray:
    """The best of the points that give some variance to a direction that has none, at any distance."""
    blocks = objective.template.blocks(theta)
    best, least = theta, np.inf
    for number, block in enumerate(blocks):
        for direction in _empty(block):
            for size in _PROBES:
                wider = triangle(np.column_stack([block, size * direction]))
                moved = objective.template.vector([*blocks[:number], wider, *blocks[number + 1 :]])
                value = objective(moved)
                if value < least:
                    best, least = moved, value
    return best


def _empty(block: np.ndarray) -> list[np.ndarray]:
    """Directions of the effects that would raise the rank of a covariance: none if it is full.

    The axes, the diagonals between them, and the empty directions themselves.
    """
    left, sds, _ = np.linalg.svd(block)
    if sds.min() >= SINGULAR:
        return []
    axes = np.eye(len(block))
    pairs = [
        (axes[one] + sign * axes[two]) / np.sqrt(2)
        for one in range(len(axes))
        for two in range(one)
        for sign in (1, -1)
    ]
    return [*axes, *pairs, *(left[:, sds < SINGULAR].T if len(axes) > 1 else [])]


def triangle(block: np.ndarray) -> np.ndarray:
    """The lower triangle, its diagonal at least 0, of the same covariance as a factor (effect, any number)."""
    root = np.asarray(np.linalg.qr(block.T, mode="r")).T
    root = root[:, : len(block)] * np.where(np.diag(root) < 0, -1.0, 1.0)
    return np.where(np.abs(root) < 1e-13 * np.abs(root).max(initial=0), 0.0, root)


def _same(value: float) -> float:
    return _SAME + 1e-14 * abs(value)


def descend(
    objective: Slopes,
    start: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    maxiter: int = 500,
    ftol: float = 1e-14,
    gtol: float = 1e-7,
) -> tuple[float, np.ndarray]:
    """The value and the place where L-BFGS-B ends, between bounds; where the objective is infinite it turns back."""

    def finite(point: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = objective(point)
        return (value, slope) if np.isfinite(value) else (1e300, np.zeros(len(point)))

    bounds = list(zip(lower, upper, strict=True))
    options = {"maxiter": maxiter, "ftol": ftol, "gtol": gtol}
    with np.errstate(all="ignore"):
        found = optimize.minimize(finite, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return float(found.fun), found.x


def _search(objective: Objective, start: np.ndarray, fixed: np.ndarray | None = None) -> np.ndarray:
    """The end of a descent in theta; the entries where ``fixed`` is True stay at zero."""
    upper = np.full(len(start), 10 * UNBOUNDED)
    lower = np.where(objective.template.diagonal, 0.0, -upper)
    if fixed is not None:
        lower[fixed] = upper[fixed] = 0.0
    start = np.clip(start, lower, upper)
    if np.array_equal(lower, upper):
        return start
    _, found = descend(objective.gradient, start, lower, upper)
    return found if objective(found) <= objective(start) else start


def _polish(objective: Objective, theta: np.ndarray) -> np.ndarray:
    """Newton steps on the entries that are not at zero, while each one lowers the deviance or leaves it."""
    theta = _snap(objective, theta)
    for _ in range(6):
        free = theta != 0
        if not free.any() or np.abs(theta).max() > UNBOUNDED:
            return theta
        value, slope = objective.gradient(theta)
        step, decrement = _newton(objective.hessian(theta, free), slope[free])
        moved = theta.copy()
        moved[free] -= step
        with np.errstate(all="ignore"):
            bad = (moved[objective.template.diagonal] < 0).any() or not objective(moved) <= value + _same(value)
        if bad or not np.isfinite(decrement):
            return theta
        theta = moved
        if decrement < 1e-16:
            break
    return theta


def _snap(objective: Objective, theta: np.ndarray) -> np.ndarray:
    """Tiny diagonal entries set to zero, with what stands below them, where that costs nothing."""
    for number, column in objective.template.columns.items():
        if 0 < theta[number] < SINGULAR:
            other = theta.copy()
            other[column if np.abs(theta[column]).max() < SINGULAR else number] = 0.0
            if objective(other) <= objective(theta) + _same(objective(theta)):
                theta = other
    return theta


def _newton(hessian: np.ndarray, slope: np.ndarray) -> tuple[np.ndarray, float]:
    """The step, and the fall of the deviance that it promises; infinite where the deviance has no minimum."""
    scale = np.sqrt(np.abs(np.diag(hessian)).clip(min=1e-300))
    values, vectors = np.linalg.eigh(hessian / np.outer(scale, scale))
    if values.min() < -1e-6:
        return np.zeros_like(slope), np.inf
    # A flat direction (two parametrisations of one covariance) is left alone.
    weights = np.where(values > 1e-9, 1 / np.where(values > 1e-9, values, 1), 0)
    along = vectors.T @ (slope / scale)
    return (vectors @ (weights * along)) / scale, float(weights @ along**2)


def _search_whole(objective: Objective, theta: np.ndarray) -> np.ndarray:
    """The end of a descent over whole square factors of the covariances instead of triangles.

    A triangle has its sign fixed by a diagonal that is at least 0, and where the diagonal is 0 a search may be caught
    between two signs. A square factor has neither bounds nor signs. (It has turns that change nothing, which do not
    disturb this search.)
    """
    widths = objective.template.widths
    ends = np.cumsum([0, *(width**2 for width in widths)])

    def blocks(point: np.ndarray) -> list[np.ndarray]:
        places = zip(ends, ends[1:], widths, strict=False)
        return [point[a:b].reshape(width, width) for a, b, width in places]  # (effect, effect) each

    def gradient(point: np.ndarray) -> tuple[float, np.ndarray]:
        value, slopes, _ = objective.likelihood.gradient(blocks(point))
        return value, np.concatenate([slope.ravel() for slope in slopes])

    start = np.concatenate([block.ravel() for block in objective.template.blocks(theta)])
    lower = np.concatenate([np.full(width**2, 0.0 if width == 1 else -np.inf) for width in widths])
    _, found = descend(gradient, start, lower, np.full(len(start), 10 * UNBOUNDED))
    found = objective.template.vector([triangle(block) for block in blocks(found)])
    return found if objective(found) <= objective(theta) else theta


def is_minimum(objective: Objective, theta: np.ndarray) -> bool:
    """Whether no better fit is near. The likelihood is asked, in whole factors of the covariances: these fix no sign.

    In the directions that have variance the slope must be zero (a Newton step would lower the deviance by next to
    nothing) and no curvature negative: a saddle has slope zero too. Giving variance to a direction that has none must
    not lower the deviance, at any of several distances.
    """
    value = objective(theta)
    if not np.isfinite(value) or np.abs(theta).max() > UNBOUNDED:
        return False
    if objective(_off_zero(objective, theta)) < value - 2 * _same(value) - 1e-8:
        return False
    turns = [np.linalg.svd(block)[:2] for block in objective.template.blocks(theta)]
    factors = [left * np.where(sds < 1e-12, 0.0, sds) for left, sds in turns]  # columns: directions with variance
    places = [
        (number, row, column)
        for number, factor in enumerate(factors)
        for row in range(len(factor))
        for column in range(len(factor))
        if factor[:, column].any()
    ]
    if not places:
        return True
    here = np.array([factors[term][row, column] for term, row, column in places])

    def slope(point: np.ndarray) -> np.ndarray:
        moved = [factor.copy() for factor in factors]
        for value, (term, row, column) in zip(point, places, strict=True):
            moved[term][row, column] = value
        _, slopes, _ = objective.likelihood.gradient(moved)
        return np.array([slopes[term][row, column] for term, row, column in places])

    _, decrement = _newton(hessian(slope, here, np.arange(len(here))), slope(here))
    return decrement <= _DECREMENT


def minimise(objective: Slopes, start: np.ndarray, lower: np.ndarray, diagonal: np.ndarray) -> tuple[float, np.ndarray]:
    """The least value of any deviance, and where: descents from ``start``, again until one gains nothing.

    A descent believes in the curvature that it met on its way, and it cannot leave a variance of zero, where every
    slope is zero. So each new descent starts without that curvature, and from the best point off such a zero.

    Parameters
    ----------
    lower : array (parameter,)
        Bounds.
    diagonal : array (parameter,) of bool
        The SDs among the parameters.
    """
    if len(start) == 0:
        return objective(start)[0], start
    upper, best, point, begin = np.full(len(start), 10 * UNBOUNDED), np.inf, start, start
    for _ in range(8):
        value, found = descend(objective, begin, lower, upper, maxiter=300, ftol=1e-13, gtol=1e-6)
        gain = best - value
        if gain > 0:
            best, point = value, found
        if gain < 1e-8:
            break
        begin = _leave_zero(objective, point, lower, diagonal)
    return best, point


def _leave_zero(objective: Slopes, point: np.ndarray, lower: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
    """The best of the point itself and of those that give one SD at zero another size."""
    moved = [point]
    for place in np.flatnonzero(diagonal & (np.abs(point) < 1e-3)):
        for size in (0.03, 0.1, 0.3, -0.03, -0.1, -0.3):
            if size > lower[place]:
                moved.append(point.copy())
                moved[-1][place] = size
    return min(moved, key=lambda other: objective(other)[0])

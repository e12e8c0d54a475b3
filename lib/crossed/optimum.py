"""The search for the maximum of a mixed model's likelihood, and the proof that it is one.

theta is lme4's: the lower triangles, column by column, of the relative covariance factors of the random terms, their
diagonals at least 0. Several starts, each by L-BFGS-B on the analytic gradient; the best one polished by Newton steps;
then every diagonal entry is set to zero (the boundary faces); where effects correlate, other correlations are
searched from; and whatever has no variance is given some. Nothing is believed from the optimiser: `Optimum.converged`
is asked of the likelihood itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize

from crossed.likelihood import Likelihood

SINGULAR = 1e-4
"""A random effect whose SD is below this fraction of the residual SD counts as zero (lme4's ``isSingular``)."""

UNBOUNDED = 1e5
"""A random effect whose SD is above this multiple of the residual SD: the residual has vanished."""

_SAME = 1e-9
"""Two deviances that differ by less (and by less than rounding makes of large ones) are the same."""

_DECREMENT = 1e-8
"""A Newton step that promises less deviance than this moves no parameter by a 10,000th of its standard error."""


_PROBES = np.array([2e-4, 1e-3, 1e-2, 1e-1, 1.0])
"""How far a diagonal entry at zero is moved, to see whether it would leave."""


_FAR = 30.0
"""How much larger, relative to the residual, the effects of a further start are."""


class Template:
    """From theta to the blocks of Lambda, and back: which entry of which block each number of theta is.

    Attributes
    ----------
    diagonal : array (parameter,) of bool
    columns : list of array
        For each diagonal entry, by its place in theta: itself and the entries below it.
    """

    def __init__(self, widths: list[int]):
        self.widths = widths
        self.places = [
            (t, row, column) for t, k in enumerate(widths) for column in range(k) for row in range(column, k)
        ]
        self.diagonal = np.array([row == column for _, row, column in self.places])
        self.columns = {
            number: np.array([n for n, (u, _, c) in enumerate(self.places) if (u, c) == (t, column)])
            for number, (t, row, column) in enumerate(self.places)
            if row == column
        }

    def __len__(self) -> int:
        return len(self.places)

    def blocks(self, theta: np.ndarray) -> list[np.ndarray]:
        blocks = [np.zeros((k, k)) for k in self.widths]
        for value, (term, row, column) in zip(theta, self.places, strict=True):
            blocks[term][row, column] = value
        return blocks

    def vector(self, blocks: list[np.ndarray]) -> np.ndarray:
        return np.array([blocks[term][row, column] for term, row, column in self.places])


@dataclass(frozen=True, eq=False)
class Optimum:
    """theta at the smallest deviance found, the deviance, and whether the likelihood says that it is a maximum."""

    theta: np.ndarray
    deviance: float
    converged: bool


class Objective:
    """The deviance and its gradient as functions of theta; evaluations are counted."""

    def __init__(self, likelihood: Likelihood):
        self.likelihood = likelihood
        self.template = Template([term.width for term in likelihood.terms])
        self.evaluations = 0

    def __call__(self, theta: np.ndarray) -> float:
        self.evaluations += 1
        return self.likelihood.deviance(self.template.blocks(theta))

    def gradient(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        self.evaluations += 1
        value, slopes, _ = self.likelihood.deviance(self.template.blocks(theta), gradient=True)
        return value, self.template.vector(slopes)

    def hessian(self, theta: np.ndarray, free: np.ndarray) -> np.ndarray:
        """Second derivatives by the free entries: central differences of the gradient, of fourth order."""
        places = np.flatnonzero(free)
        matrix = np.empty((len(places), len(places)))
        for number, place in enumerate(places):
            step = 1e-3 * max(abs(theta[place]), 1e-2)
            change = np.zeros(len(theta))
            change[place] = step
            one, two = (
                self.gradient(theta + many * change)[1] - self.gradient(theta - many * change)[1] for many in (1, 2)
            )
            matrix[number] = ((8 * one - two) / (12 * step))[places]
        return (matrix + matrix.T) / 2


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
        covariance = block @ block.T
        sds = np.sqrt(np.diag(covariance))
        usual = max(sds.max(), 0.1)
        others = [np.diag(sds.clip(min=0.1 * usual))]
        for effect in range(width):
            sign = np.where(np.arange(width) == effect, -1.0, 1.0)
            if width > 2 or effect:
                others.append(sign[:, None] * block)
                others.append(np.outer(sign * sds.clip(min=0.3 * usual), np.eye(width)[0]))
            others.append(np.diag(np.where(sign < 0, 0.0, sds.clip(min=0.1 * usual))))
        others.append(np.outer(sds.clip(min=0.3 * usual), np.eye(width)[0]))
        for other in others:
            found.append(template.vector([*blocks[:number], triangle(other), *blocks[number + 1 :]]))
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
    root = np.linalg.qr(block.T, mode="r").T
    root = root[:, : len(block)] * np.where(np.diag(root) < 0, -1.0, 1.0)
    return np.where(np.abs(root) < 1e-13 * np.abs(root).max(initial=0), 0.0, root)


def _same(value: float) -> float:
    return _SAME + 1e-14 * abs(value)


def _search(objective: Objective, start: np.ndarray, fixed: np.ndarray | None = None) -> np.ndarray:
    upper = np.full(len(start), 10 * UNBOUNDED)
    lower = np.where(objective.template.diagonal, 0.0, -upper)
    if fixed is not None:
        lower[fixed] = upper[fixed] = 0.0
    start = np.clip(start, lower, upper)
    if np.array_equal(lower, upper):
        return start

    def finite(theta):
        value, slope = objective.gradient(theta)
        return (value, slope) if np.isfinite(value) else (1e300, np.zeros(len(theta)))

    with np.errstate(all="ignore"):
        found = optimize.minimize(
            finite,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=list(zip(lower, upper, strict=True)),
            options={"maxiter": 500, "ftol": 1e-14, "gtol": 1e-7},
        ).x
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
    """A search over whole square factors of the covariances instead of triangles.

    A triangle has its sign fixed by a diagonal that is at least 0, and where the diagonal is 0 a search may be caught
    between two signs. A square factor has neither bounds nor signs. (It has turns that change nothing, which do not
    disturb this search.)
    """
    shapes = [(width, width) for width in objective.template.widths]
    ends = np.cumsum([0, *(width**2 for width in objective.template.widths)])

    def whole(point):
        return [point[a:b].reshape(shape) for a, b, shape in zip(ends, ends[1:], shapes, strict=False)]

    def finite(point):
        value, slopes, _ = objective.likelihood.deviance(whole(point), gradient=True)
        objective.evaluations += 1
        slope = np.concatenate([slope.ravel() for slope in slopes])
        return (value, slope) if np.isfinite(value) else (1e300, np.zeros(len(point)))

    start = np.concatenate([block.ravel() for block in objective.template.blocks(theta)])
    with np.errstate(all="ignore"):
        found = optimize.minimize(
            finite,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[
                (0.0 if shape == (1, 1) else None, 10 * UNBOUNDED) for shape in shapes for _ in range(shape[0] ** 2)
            ],
            options={"maxiter": 500, "ftol": 1e-14, "gtol": 1e-7},
        ).x
    found = objective.template.vector([triangle(block) for block in whole(found)])
    return found if objective(found) <= objective(theta) else theta


def is_minimum(objective: Objective, theta: np.ndarray) -> bool:
    """Is no better fit near? Asked of the likelihood, in whole factors of the covariances, in which no sign is fixed.

    In the directions that have variance the slope must be zero (a Newton step would lower the deviance by next to
    nothing) and no curvature negative: a saddle has slope zero too. Giving variance to a direction that has none must
    not lower the deviance, at any of several distances.
    """
    value = objective(theta)
    if not np.isfinite(value) or np.abs(theta).max() > UNBOUNDED:
        return False
    moved = _off_zero(objective, theta)
    if objective(moved) < value - 2 * _same(value) - 1e-8:
        return False
    factors = [np.linalg.svd(block)[:2] for block in objective.template.blocks(theta)]
    factors = [left * np.where(sds < 1e-12, 0.0, sds) for left, sds in factors]  # columns: directions with variance
    places = [
        (number, row, column)
        for number, factor in enumerate(factors)
        for row in range(len(factor))
        for column in range(len(factor))
        if factor[:, column].any()
    ]
    if not places:
        return True
    slope = _slope(objective, factors, places)
    hessian = np.empty((len(places), len(places)))
    for number, (term, row, column) in enumerate(places):
        step = 1e-3 * max(abs(factors[term][row, column]), 1e-2)
        ends = []
        for many in (1, -1, 2, -2):
            moved = [factor.copy() for factor in factors]
            moved[term][row, column] += many * step
            ends.append(_slope(objective, moved, places))
        hessian[number] = (8 * (ends[0] - ends[1]) - (ends[2] - ends[3])) / (12 * step)
    _, decrement = _newton((hessian + hessian.T) / 2, slope)
    return decrement <= _DECREMENT


def _slope(objective: Objective, factors: list[np.ndarray], places: list[tuple[int, int, int]]) -> np.ndarray:
    _, slopes, _ = objective.likelihood.deviance(factors, gradient=True)
    return np.array([slopes[term][row, column] for term, row, column in places])

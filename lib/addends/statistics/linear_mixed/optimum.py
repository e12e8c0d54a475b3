"""The search for the maximum of a mixed model's likelihood, and the proof that it is one.

theta is lme4's: the lower triangles, column by column, of the relative covariance factors of the random terms, their
diagonals at least 0. Several starts, each by L-BFGS-B on the analytic gradient; the best one polished by Newton steps;
then every diagonal entry is set to zero (the boundary faces) and, where zero is best, moved off it again. Nothing is
believed from the optimiser: `Optimum.converged` is asked of the likelihood itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize

from addends.statistics.linear_mixed.likelihood import Likelihood

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
    """The best theta reached from ``starts`` and from each boundary face."""
    objective = Objective(likelihood)
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
    for _ in range(2):
        for number in objective.template.columns:
            if best[number]:
                continue
            moved = np.tile(best, (len(_PROBES), 1))
            moved[:, number] = _PROBES
            moved = min(moved, key=objective)
            if objective(moved) < objective(best) - _same(objective(best)):
                best = _search(objective, moved)
    best = _polish(objective, best)
    return Optimum(best, objective(best), is_minimum(objective, best))


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


def is_minimum(objective: Objective, theta: np.ndarray) -> bool:
    """Would a Newton step lower the deviance by next to nothing, and leaving zero not lower it at all?"""
    value = objective(theta)
    if not np.isfinite(value) or np.abs(theta).max() > UNBOUNDED:
        return False
    for number in objective.template.columns:
        if theta[number] < SINGULAR:
            for size in _PROBES:
                moved = theta.copy()
                moved[number] = size
                if objective(moved) < value - 2 * _same(value) - 1e-8:
                    return False
    free = theta != 0
    if not free.any():
        return True
    _, decrement = _newton(objective.hessian(theta, free), objective.gradient(theta)[1][free])
    return decrement <= _DECREMENT

"""The deviance of a mixed model with one SD, or one share of variance, held, and all else at its best."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import optimize

from crossed.optimum import UNBOUNDED, Template
from crossed.results import MixedFit


def _minimise(objective: Callable, start: np.ndarray, lower: np.ndarray, zeros: np.ndarray) -> tuple[float, np.ndarray]:
    if len(start) == 0:
        return objective(start)[0], start

    def finite(point):
        found, slope = objective(point)
        return (found, slope) if np.isfinite(found) else (1e300, np.zeros_like(point))

    bounds = [(low, 10 * UNBOUNDED) for low in lower]
    options = {"maxiter": 300, "ftol": 1e-13, "gtol": 1e-6}
    best, point, start_at = np.inf, start, start
    for _ in range(8):  # each new search forgets the curvature that the last one believed in, and leaves every zero
        with np.errstate(all="ignore"):
            found = optimize.minimize(finite, start_at, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        gain = best - found.fun
        if gain > 0:
            best, point = float(found.fun), found.x
        if gain < 1e-8:
            break
        start_at = _off_zero(objective, point, lower, zeros)
    return best, point


def _off_zero(objective: Callable, point: np.ndarray, lower: np.ndarray, zeros: np.ndarray) -> np.ndarray:
    """The best of the points that leave one zero: zero is stationary, and a search that ends there stays there."""
    moved = [point]
    for place in np.flatnonzero(zeros & (np.abs(point) < 1e-3)):
        for size in (0.03, 0.1, 0.3, -0.03, -0.1, -0.3):
            if size > lower[place]:
                moved.append(point.copy())
                moved[-1][place] = size
    return min(moved, key=lambda other: objective(other)[0])


class Profile:
    """-2 log L with a quantity held, minimised over the rest.

    The searches start from the same places whatever was asked before, so that no answer depends on the order of the
    questions: the estimate, with every variance well off zero (at zero it is a stationary point, and need not stay the
    best when something else is held), and with correlations of other signs. One more starts where the nearest search
    ended. It can only help.
    """

    def __init__(
        self, objective: Callable, estimate: float, starts: list[np.ndarray], lower: np.ndarray, zeros: np.ndarray
    ):
        self.objective, self.starts, self.lower, self.zeros = objective, starts, lower, zeros
        self.points, self.found = {estimate: starts[0]}, {}

    def __call__(self, held: float) -> float:
        if held not in self.found:
            near = self.points[min(self.points, key=lambda other: abs(other - held))]
            searches = [
                _minimise(lambda point: self.objective(held, point), start, self.lower, self.zeros)
                for start in [_clear(near, self.zeros, 1e-2), *self.starts]
            ]
            value, point = min(searches, key=lambda search: search[0])
            if value < 1e299:
                self.points[held] = point
            self.found[held] = value
        return self.found[held]


def _clear(point: np.ndarray, zeros: np.ndarray, least: float) -> np.ndarray:
    """The point with every diagonal entry at least so far from zero."""
    return np.where(zeros, np.maximum(np.abs(point), least) * np.where(point < 0, -1, 1), point)


def sd_profile(fit: MixedFit, place: tuple[int, int] | None) -> Profile:
    """-2 log L of the standardised model, with one SD (in units of the outcome's) held, minimised over the rest."""
    likelihood, template = fit.likelihood, Template([term.width for term in fit.likelihood.terms])
    log_sigma = np.log(fit.scale) / 2 - np.log(fit.scaling.unit)
    turns, length = [np.eye(width) for width in template.widths], 1.0
    if place is not None:
        # The effect held, in the units given, is a direction of the standardised effects: turned, it comes first, and
        # the first entry of the lower triangle is its SD (by the direction's length, relative to the residual's).
        number, column = place
        direction = np.linalg.inv(fit.scaling.effects_back[number])[column]
        length = np.linalg.norm(direction)
        turns[number] = np.linalg.qr(np.column_stack([direction, np.eye(len(direction))]))[0]
    turned = [turn.T @ block for turn, block in zip(turns, fit.blocks, strict=True)]
    roots = [np.linalg.qr(part.T, mode="r").T for part in turned]  # lower triangles of the same covariances
    roots = [root * np.where(np.diag(root) < 0, -1.0, 1.0) for root in roots]
    theta = template.vector(roots)
    held = -1 if place is None else next(n for n, spot in enumerate(template.places) if spot == (place[0], 0, 0))
    free = np.array([n for n in range(len(theta)) if n != held], dtype=int)
    alone = np.array([template.widths[term] == 1 for term, _, _ in template.places])
    # Where effects correlate, no sign is fixed: at a diagonal entry of 0 the search could not change it.
    lower = np.where(alone, 0.0, -10 * UNBOUNDED)[free]
    zeros = template.diagonal[free]
    turns_of = _correlations(template, theta)

    def evaluate(theta, log_sigma):
        blocks = [turn @ block for turn, block in zip(turns, template.blocks(theta), strict=True)]
        found, slopes, by_sigma = likelihood.deviance(blocks, log_sigma, gradient=True)
        return found, template.vector([turn.T @ slope for turn, slope in zip(turns, slopes, strict=True)]), by_sigma

    def residual_held(sd: float, point: np.ndarray):
        return (np.inf, np.zeros(len(point))) if sd <= 0 else evaluate(point, np.log(sd))[:2]

    def component_held(sd: float, point: np.ndarray):
        theta = np.empty(len(template))
        theta[free], theta[held] = point[:-1], sd / length * np.exp(-point[-1])
        found, slopes, by_sigma = evaluate(theta, point[-1])
        return found, np.append(slopes[free], by_sigma - slopes[held] * theta[held])

    if place is None:
        starts = [_clear(other, zeros, least) for other, least in turns_of]
        return Profile(residual_held, np.exp(log_sigma), starts, lower, zeros)
    starts = [np.append(_clear(other[free], zeros, least), log_sigma) for other, least in turns_of]
    lower, zeros = np.append(lower, -30.0), np.append(zeros, False)
    return Profile(component_held, length * theta[held] * np.exp(log_sigma), starts, lower, zeros)


def _correlations(template: Template, theta: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """theta with other correlations, each with how far its diagonal is to be kept from zero."""
    found = [(theta, 1e-2), (theta, 0.5)]
    below = ~template.diagonal
    if below.any():
        found.append((np.where(below, 0.0, theta), 0.1))
        found += [(np.where(below, sign * np.maximum(np.abs(theta), 0.3), theta), 0.1) for sign in (1, -1)]
        rows = np.array([row for _, row, _ in template.places])
        if rows.max() > 1:
            found += [(np.where(below & (rows == row), -theta, theta), 0.1) for row in range(1, rows.max() + 1)]
    return found


def share_profile(fit: MixedFit, place: tuple[int, int] | None) -> Profile:
    """The same with one share of variance held, in models of random intercepts alone."""
    likelihood = fit.likelihood
    theta = np.array([block[0, 0] for block in fit.blocks])
    held = None if place is None else place[0]
    free = np.array([number for number in range(len(theta)) if number != held], dtype=int)

    def evaluate(theta):
        found, slopes, _ = likelihood.deviance([np.array([[value]]) for value in theta], gradient=True)
        return found, np.array([slope[0, 0] for slope in slopes])

    def residual_held(share: float, point: np.ndarray):
        if not 0 < share < 1:
            return np.inf, np.zeros(len(point))
        # Only the direction of the point matters: the pull of its length to 1 costs nothing and keeps it in scale.
        radius, length = np.sqrt(1 / share - 1), np.linalg.norm(point)
        if length < 1e-6:
            return np.inf, np.zeros(len(point))
        found, slopes = evaluate(radius * point / length)
        slopes = radius / length * (slopes - point * (point @ slopes) / length**2)
        return found + (length - 1) ** 2, slopes + 2 * (length - 1) * point / length

    def component_held(share: float, point: np.ndarray):
        if share >= 1:
            return np.inf, np.zeros(len(point))
        odds, whole = share / (1 - share), np.empty(len(theta))
        whole[free], whole[held] = point, np.sqrt(odds * (1 + point @ point))
        found, slopes = evaluate(whole)
        by_held = slopes[held] * odds * point / whole[held] if odds > 0 else 0.0
        return found, slopes[free] + by_held

    shares = np.append(theta**2, 1) / (1 + theta @ theta)
    if held is None:
        direction = theta.clip(min=1e-2 * max(theta.max(), 1e-2))
        starts = [direction.clip(min=least * direction.max()) for least in (1e-2, 0.5)]
        starts = [start / np.linalg.norm(start) for start in starts]
        return Profile(residual_held, shares[-1], starts, np.zeros(len(free)), np.ones(len(free), dtype=bool))
    starts = [theta[free].clip(min=least) for least in (1e-2, 0.5)]
    return Profile(component_held, shares[held], starts, np.zeros(len(free)), np.ones(len(free), dtype=bool))

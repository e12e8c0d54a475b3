"""Units taken out of a design before fitting and put back after: outcomes of scale 1e-12 and 1e12 fit alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossed.design import Design
from crossed.likelihood import Likelihood, Term


@dataclass(frozen=True, eq=False)
class Scaling:
    """``given = standardised @ back`` for the columns of the fixed part and of each random term.

    Of ``y ~ x + (1 | run)``, y of mean 5 and SD 2, x of mean 10 and SD 3: unit 2, centre 5, effects_back ``([[1]],)``
    and::

        back = [[1, 10],
                [0,  3]]

    Attributes
    ----------
    unit, centre : float
        Of the outcome: its SD, and its mean (0 where there is no fixed intercept to take it).
    back : array (p, p)
        So that beta_standardised = back @ beta_given / unit.
    effects_back : tuple of arrays (k, k)
        The same of each random term. Columns are centred only where an intercept correlated with them takes the shift.
    """

    unit: float
    centre: float
    back: np.ndarray
    effects_back: tuple[np.ndarray, ...]

    @property
    def inverse(self) -> np.ndarray:
        """Of ``back``, (p, p)."""
        return np.linalg.inv(self.back)

    def covariances(self, blocks: list[np.ndarray]) -> list[np.ndarray]:
        """The covariance matrix (k, k) of each random term in the units given, divided by the standardised scale."""
        parts = [np.linalg.solve(back, block) for back, block in zip(self.effects_back, blocks, strict=True)]
        return [self.unit**2 * part @ part.T for part in parts]

    def jacobian(self, rows: int, reml: bool) -> float:
        """What -2 log likelihood of the outcome as given has more than that of the standardised one."""
        parameters = len(self.back) if reml else 0
        predictors = 2 * np.linalg.slogdet(self.back)[1] if reml else 0.0
        return 2 * (rows - parameters) * np.log(self.unit) + predictors


def standardise(design: Design, reml: bool) -> tuple[Scaling, Likelihood]:
    """The scaling of a design, and the likelihood of its standardised form."""
    x, back, centred = _columns(design.fixed.columns, design.fixed.names)
    # Divided first: the square of 1e-200 or 1e200 would be out of range.
    large = np.abs(design.outcome).max()
    unit = large * (design.outcome / large).std()
    centre = design.outcome.mean() if centred else 0.0
    terms, backs = [], []
    for effects in design.effects:
        columns, effects_back, _ = _columns(effects.columns, effects.names)
        backs.append(effects_back)
        name = f"({' + '.join(effects.names)} | {effects.grouping.name})"
        terms.append(Term(effects.grouping.codes, columns, len(effects.grouping), effects.intercept_only, name))
    y = (design.outcome - centre) / unit
    return Scaling(unit, centre, back, tuple(backs)), Likelihood(terms, y, x, reml)


def _columns(values: np.ndarray, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, bool]:
    """Standardised columns (row, k), their ``back`` (k, k), and whether an intercept takes the shift."""
    is_intercept = np.array(names) == "Intercept"
    back = np.eye(len(names))
    if names == ("Intercept",):
        return values, back, True
    centred = bool(is_intercept.any())
    shift = np.where(is_intercept, 0.0, values.mean(axis=0) if centred else 0.0)
    moved = values - shift
    width = np.where(is_intercept, 1.0, np.sqrt(np.mean(moved**2, axis=0)))
    width = np.where(width > 0, width, 1.0)
    back = np.diag(width)
    if centred:
        back[np.flatnonzero(is_intercept)[0]] += shift
    return moved / width, back, centred

"""What was fitted: a design, its likelihood, where the search ended, and the numbers that follow from them, frozen."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from crossed.design import Design
from crossed.likelihood import Likelihood, Solution
from crossed.scaling import Scaling
from crossed.search import SINGULAR, Optimum


@dataclass(frozen=True, eq=False, repr=False)
class Estimate:
    """A fitted model as numbers in the units of the data. Inference, profiles and tables are functions of it.

    Of ``crossed.fit("y ~ x + (x | run) + (1 | sentence)", data)``: params has the entries Intercept and x, covariances
    are a (2, 2) and a (1, 1) array, levels is ``{"run": 6, "sentence": 20}``.

    Attributes
    ----------
    formula : str
    reml : bool
    design : Design
        The formula resolved against the data.
    scaling : Scaling
        From the data to the standardised model.
    likelihood : Likelihood
        Of the standardised model.
    optimum : Optimum
        Of that likelihood.
    """

    formula: str
    reml: bool
    design: Design = field(repr=False)
    scaling: Scaling = field(repr=False)
    likelihood: Likelihood = field(repr=False)
    optimum: Optimum = field(repr=False)

    @cached_property
    def blocks(self) -> list[np.ndarray]:
        """The relative covariance factors of the standardised model, (k, k) each."""
        return self.likelihood.template.blocks(self.optimum.theta)

    @cached_property
    def _solution(self) -> Solution:
        return self.likelihood.solve(self.blocks)

    @property
    def names(self) -> list[str]:
        """The fixed effects, in the order of the formula, the intercept first."""
        return list(self.design.fixed.names)

    @property
    def nobs(self) -> int:
        """How many rows were fitted."""
        return len(self.design.outcome)

    @property
    def levels(self) -> dict[str, int]:
        """How many levels each grouping factor has."""
        return {name: len(grouping) for name, grouping in self.design.groupings.items()}

    @property
    def parameters(self) -> int:
        """Fixed effects, variances and covariances, and the residual variance: what `aic` and `bic` count."""
        return len(self.names) + len(self.optimum.theta) + 1

    @property
    def converged(self) -> bool:
        """Is the end of the search a maximum? See :func:`crossed.search.is_minimum`."""
        return self.optimum.converged

    @cached_property
    def boundary(self) -> bool:
        """Has a random term a direction without variance, with a relative SD below `SINGULAR`?"""
        return any(np.linalg.svd(block, compute_uv=False).min() < SINGULAR for block in self.blocks)

    @cached_property
    def llf(self) -> float:
        """The log-likelihood, restricted if ``reml``."""
        return -(self.optimum.deviance + self.scaling.jacobian(self.nobs, self.reml)) / 2

    @cached_property
    def scale(self) -> float:
        """The residual variance."""
        return float(self.scaling.unit**2 * self._solution.squares / self.likelihood.degrees)

    @cached_property
    def params(self) -> pd.Series:
        """The fixed effects."""
        values = self.scaling.unit * self.scaling.inverse @ self._solution.beta
        if "Intercept" in self.names:
            values[self.names.index("Intercept")] += self.scaling.centre
        return pd.Series(values, self.names, name="estimate")

    @cached_property
    def cov_params(self) -> pd.DataFrame:
        """Covariance of the fixed effects, which takes the variances as known."""
        inverse = self.scaling.inverse
        return pd.DataFrame(self.scale * inverse @ self._solution.covariance @ inverse.T, self.names, self.names)

    @cached_property
    def bse(self) -> pd.Series:
        """Standard errors of the fixed effects."""
        return pd.Series(np.sqrt(np.diag(self.cov_params)), self.names, name="se")

    @cached_property
    def covariances(self) -> list[np.ndarray]:
        """The covariance matrix of each random term, (k, k), in the formula's order."""
        ratio = self.scale / self.scaling.unit**2
        return [ratio * part for part in self.scaling.covariances(self.blocks)]

    @cached_property
    def mean_variances(self) -> np.ndarray:
        """Of each random term, ``mean_i z_i' Sigma z_i``; for a random intercept its variance."""
        pairs = zip(self.design.effects, self.covariances, strict=True)
        return np.array([np.mean(np.einsum("rk,kl,rl->r", e.columns, m, e.columns)) for e, m in pairs])

    @cached_property
    def random_effects(self) -> dict[str, pd.DataFrame]:
        """For each grouping factor its predicted effects, one row a level, one column a term."""
        found: dict[str, list[pd.DataFrame]] = {}
        parts = zip(
            self.design.effects, self.scaling.effects_back, self.likelihood.random_effects(self.blocks), strict=True
        )
        for effects, back, values in parts:
            given = self.scaling.unit * np.linalg.solve(back, values.T).T  # (level, k)
            frame = pd.DataFrame(given, effects.grouping.levels, list(effects.names))
            found.setdefault(effects.grouping.name, []).append(frame)
        return {name: frames[0] if len(frames) == 1 else pd.concat(frames, axis=1) for name, frames in found.items()}

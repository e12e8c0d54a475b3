"""What a fitted mixed model can tell: estimates, variances, predictions, and how far each may be believed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import stats

from crossed import variances
from crossed.checks import check_level
from crossed.designs import Design
from crossed.likelihood import Likelihood, Solution
from crossed.optimum import SINGULAR, Optimum, Template
from crossed.scaling import Scaling
from crossed.summaries import Summary


@dataclass(frozen=True, eq=False, repr=False)
class MixedFit:
    """What :func:`addends.mixed.fit` returns. Everything is in the units of the data as given.

    Attributes
    ----------
    formula : str
    reml : bool
    params, bse, df : Series
        Fixed effects in the order of the formula, intercept first; their standard errors, which take the variances as
        known; and the degrees of freedom of the t distribution behind ``pvalues`` and ``conf_int``.
    cov_params : DataFrame
        Covariance of the fixed effects.
    inference : str
        In words, what the degrees of freedom are; also in ``summary()``.
    vcomp : DataFrame
        group, term ("Intercept" or the predictor; missing for the residual), term2 (missing on variance rows),
        variance (or covariance), sd (or correlation). The residual is the group "Residual".
    scale : float
        The residual variance.
    llf : float
        Log-likelihood, restricted if ``reml`` (with lme4's constants: -2 llf is its REML criterion). Restricted ones
        compare only between fits with the same fixed part.
    random_effects : dict of str to DataFrame
        For each grouping factor its predicted effects (best linear unbiased predictions), one row a level, one
        column a term.
    levels : dict of str to int
        How many levels each grouping factor has.
    converged : bool
        True if this is a local maximum: a Newton step would move no parameter by a 10,000th of its standard error, no
        curvature says that it is a saddle, and no direction without variance would raise the likelihood by having some.
        Checked on the likelihood itself, not believed from the optimiser.
    boundary : bool
        True if a random term has a direction without variance: an SD below 1e-4 of the residual SD, or effects that
        are perfectly correlated.
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
        return Template([term.width for term in self.likelihood.terms]).blocks(self.optimum.theta)

    @cached_property
    def _solution(self) -> Solution:
        return self.likelihood.solve(self.blocks)

    @property
    def names(self) -> list[str]:
        return list(self.design.fixed.names)

    @property
    def nobs(self) -> int:
        return len(self.design.outcome)

    observations = nobs

    @property
    def converged(self) -> bool:
        return self.optimum.converged

    @cached_property
    def boundary(self) -> bool:
        return any(_smallest(block) < SINGULAR for block in self.blocks)

    @property
    def levels(self) -> dict[str, int]:
        return {name: len(grouping) for name, grouping in self.design.groupings.items()}

    @cached_property
    def llf(self) -> float:
        return -(self.optimum.deviance + self.scaling.jacobian(self.nobs, self.reml)) / 2

    @property
    def parameters(self) -> int:
        """Fixed effects, variances and covariances, and the residual variance: what `aic` and `bic` count."""
        return len(self.names) + len(self.optimum.theta) + 1

    @property
    def aic(self) -> float:
        """Akaike's criterion ``2 parameters - 2 llf``, as lme4's ``AIC``."""
        return 2 * self.parameters - 2 * self.llf

    @property
    def bic(self) -> float:
        """Schwarz's criterion ``log(nobs) parameters - 2 llf``, as lme4's ``BIC``."""
        return np.log(self.nobs) * self.parameters - 2 * self.llf

    @cached_property
    def scale(self) -> float:
        return float(self.scaling.unit**2 * self._solution.squares / self.likelihood.degrees)

    @cached_property
    def params(self) -> pd.Series:
        values = self.scaling.unit * self.scaling.inverse @ self._solution.beta
        if "Intercept" in self.names:
            values[self.names.index("Intercept")] += self.scaling.centre
        return pd.Series(values, self.names, name="estimate")

    @cached_property
    def cov_params(self) -> pd.DataFrame:
        inverse = self.scaling.inverse
        return pd.DataFrame(self.scale * inverse @ self._solution.covariance @ inverse.T, self.names, self.names)

    @cached_property
    def bse(self) -> pd.Series:
        return pd.Series(np.sqrt(np.diag(self.cov_params)), self.names, name="se")

    @cached_property
    def covariances(self) -> list[np.ndarray]:
        """The covariance matrix of each random term, (k, k), in the formula's order."""
        ratio = self.scale / self.scaling.unit**2
        return [ratio * part for part in self.scaling.covariances(self.blocks)]

    @cached_property
    def vcomp(self) -> pd.DataFrame:
        return variances.components(self)

    @cached_property
    def random_effects(self) -> dict[str, pd.DataFrame]:
        found: dict[str, list[pd.DataFrame]] = {}
        parts = zip(self.design.effects, self.scaling.effects_back, self._effects, strict=True)
        for effects, back, values in parts:
            given = self.scaling.unit * np.linalg.solve(back, values.T).T  # (level, k)
            frame = pd.DataFrame(given, effects.grouping.levels, list(effects.names))
            found.setdefault(effects.grouping.name, []).append(frame)
        return {name: frames[0] if len(frames) == 1 else pd.concat(frames, axis=1) for name, frames in found.items()}

    @cached_property
    def _effects(self) -> list[np.ndarray]:
        return self.likelihood.random_effects(self.blocks)

    @cached_property
    def _inference(self) -> tuple[pd.Series, str]:
        from crossed import satterthwaite

        df, words = satterthwaite.degrees(self, np.eye(len(self.names)))
        return pd.Series(df, self.names, name="df"), words

    @property
    def df(self) -> pd.Series:
        return self._inference[0]

    @property
    def inference(self) -> str:
        return self._inference[1]

    @property
    def tvalues(self) -> pd.Series:
        return (self.params / self.bse).rename("t")

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values of "this fixed effect is 0", by t with Satterthwaite's degrees of freedom."""
        return pd.Series(2 * stats.t.sf(self.tvalues.abs(), self.df), self.names, name="p")

    def conf_int(self, level: float = 0.95) -> pd.DataFrame:
        """Intervals of the fixed effects, columns lower and upper, by the distribution that ``inference`` names.

        Those of the variances: :meth:`profile_intervals`.
        """
        check_level(level, "conf_int")
        half = stats.t.ppf((1 + level) / 2, self.df) * self.bse
        return pd.DataFrame({"lower": self.params - half, "upper": self.params + half})

    def icc(self) -> pd.DataFrame:
        """See :func:`crossed.variances.shares`."""
        return variances.shares(self)

    @cached_property
    def mean_variances(self) -> np.ndarray:
        """Of each random term, ``mean_i z_i' Sigma z_i``; for a random intercept its variance."""
        pairs = zip(self.design.effects, self.covariances, strict=True)
        return np.array([np.mean(np.einsum("rk,kl,rl->r", e.columns, m, e.columns)) for e, m in pairs])

    @cached_property
    def fittedvalues(self) -> np.ndarray:
        """Fixed part and predicted random effects, (row,)."""
        return self.predict()

    @cached_property
    def resid(self) -> np.ndarray:
        """The outcome less `fittedvalues`, (row,)."""
        return self.design.outcome - self.fittedvalues

    def predict(self, newdata: pd.DataFrame | None = None, random: bool = True) -> np.ndarray:
        """See :func:`crossed.prediction.predict`."""
        from crossed import prediction

        return prediction.predict(self, newdata, random)

    def r2(self) -> pd.Series:
        """See :func:`crossed.prediction.r2`."""
        from crossed import prediction

        return prediction.r2(self)

    def profile_intervals(self, level: float = 0.95, method: str = "auto") -> pd.DataFrame:
        """See :func:`crossed.profiles.profile_intervals`."""
        from crossed import profiles

        return profiles.profile_intervals(self, level, method)

    def summary(self) -> Summary:
        """The fit as text, and as tables in a notebook: fixed effects, variances, and what may not be read from them.

        No shares: those are never shown without their intervals, which `profile_intervals` gives.
        """
        return Summary(self)

    def __repr__(self) -> str:
        state = "" if self.converged else ", NOT converged"
        rows = self.vcomp[self.vcomp["term2"].isna()]
        slopes = (" " + rows["term"]).where(~rows["term"].isin(["Intercept", None, np.nan]), "")
        spread = ", ".join(f"{name} {sd:.3g}" for name, sd in zip(rows["group"] + slopes, rows["sd"], strict=True))
        at_zero = ", boundary" if self.boundary else ""
        return f"<MixedFit {self.formula!r}: {self.nobs} observations, SDs: {spread}{at_zero}{state}>"

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def _smallest(block: np.ndarray) -> float:
    """The SD of a term's effects in the direction in which they vary least, relative to the residual's."""
    return float(np.linalg.svd(block, compute_uv=False).min())

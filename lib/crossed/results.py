"""What a fitted mixed model can tell: estimates, variances, predictions, and how far each may be believed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from crossed import inference, profile, tables
from crossed.checks import check_level
from crossed.estimate import Estimate


@dataclass(frozen=True, eq=False, repr=False)
class MixedFit(Estimate):
    """What :func:`crossed.fit` returns. Everything is in the units of the data as given.

    ::

        fit = crossed.fit("y ~ x + (x | run) + (1 | sentence)", data)
        fit.params["x"], fit.bse["x"], fit.pvalues["x"], fit.conf_int().loc["x"]
        fit.vcomp                       # 5 rows: run Intercept, run x, their covariance, sentence Intercept, Residual
        fit.random_effects["run"]       # one row a run: Intercept, x

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

    @property
    def aic(self) -> float:
        """Akaike's criterion ``2 parameters - 2 llf``, as lme4's ``AIC``."""
        return 2 * self.parameters - 2 * self.llf

    @property
    def bic(self) -> float:
        """Schwarz's criterion ``log(nobs) parameters - 2 llf``, as lme4's ``BIC``."""
        return np.log(self.nobs) * self.parameters - 2 * self.llf

    @cached_property
    def vcomp(self) -> pd.DataFrame:
        """See :func:`crossed.tables.components`."""
        return tables.components(self)

    def icc(self) -> pd.DataFrame:
        """See :func:`crossed.tables.shares`."""
        return tables.shares(self)

    @cached_property
    def _degrees(self) -> tuple[pd.Series, str]:
        df, words = inference.degrees(self, np.eye(len(self.names)))
        return pd.Series(df, self.names, name="df"), words

    @property
    def df(self) -> pd.Series:
        return self._degrees[0]

    @property
    def inference(self) -> str:
        return self._degrees[1]

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

    def contrasts(self, weights: ArrayLike, level: float = 0.95) -> pd.DataFrame:
        """See :func:`crossed.inference.contrasts`."""
        return inference.contrasts(self, weights, level)

    def slope_weights(self, slope: str, factor: str) -> pd.DataFrame:
        """See :func:`crossed.inference.slope_weights`."""
        return inference.slope_weights(self, slope, factor)

    def profile_intervals(self, level: float = 0.95, method: str = "auto") -> pd.DataFrame:
        """See :func:`crossed.profile.profile_intervals`."""
        return profile.profile_intervals(self, level, method)

    @cached_property
    def fittedvalues(self) -> np.ndarray:
        """Fixed part and predicted random effects, (row,)."""
        return self.predict()

    @cached_property
    def resid(self) -> np.ndarray:
        """The outcome less `fittedvalues`, (row,)."""
        return self.design.outcome - self.fittedvalues

    def predict(self, newdata: pd.DataFrame | None = None, random: bool = True) -> np.ndarray:
        """See :func:`crossed.tables.predict`."""
        return tables.predict(self, newdata, random)

    def r2(self) -> pd.Series:
        """See :func:`crossed.tables.r2`."""
        return tables.r2(self)

    def summary(self) -> tables.Summary:
        """The fit as text, and as tables in a notebook: fixed effects, variances, and what may not be read from them.

        No shares: those are never shown without their intervals, which `profile_intervals` gives.
        """
        fixed = pd.DataFrame({"estimate": self.params, "se": self.bse, "df": self.df, "p": self.pvalues})
        return tables.summary(self, fixed.join(self.conf_int()), self.inference)

    def __repr__(self) -> str:
        state = "" if self.converged else ", NOT converged"
        rows = self.vcomp[self.vcomp["term2"].isna()]
        slopes = (" " + rows["term"]).where(~rows["term"].isin(["Intercept", None, np.nan]), "")
        spread = ", ".join(f"{name} {sd:.3g}" for name, sd in zip(rows["group"] + slopes, rows["sd"], strict=True))
        at_zero = ", boundary" if self.boundary else ""
        return f"<MixedFit {self.formula!r}: {self.nobs} observations, SDs: {spread}{at_zero}{state}>"

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

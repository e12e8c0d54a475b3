"""Linear mixed models with crossed random effects: is it the run, or the sentence?

The face is :func:`fit` and :class:`MixedFit`. The model, for observation i in level r(i) of the first grouping factor
and s(i) of the second::

    y_i = x_i' beta + a_r(i) + b_s(i) + e_i,    a ~ N(0, A),  b ~ N(0, B),  e ~ N(0, E), all independent

How the variances are found is no concern of this module: see :mod:`addends.statistics.likelihood`.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from addends.errors import InputError
from addends.statistics.formulas import Design, design, parse
from addends.statistics.likelihood import SINGULAR, UNBOUNDED, Likelihood, Moments, maximise


@dataclass(frozen=True, eq=False, repr=False)
class MixedFit:
    """What :func:`fit` returns. Variances are in squared units of the outcome.

    Attributes
    ----------
    formula : str
    reml : bool
    observations : int
    params, bse : Series
        Fixed effects and their standard errors, in the order of the formula, "Intercept" first. The standard errors
        take the variances as known.
    cov_params : DataFrame
        Covariance of the fixed effects.
    df : Series
        Degrees of freedom of the t distribution behind ``pvalues`` and ``conf_int``; infinite where that is normal.
    inference : str
        In words, which of the three it is; also in ``summary()``. Of an intercept-only REML fit of a balanced,
        crossed design: t with Satterthwaite's degrees of freedom or, with a variance on the boundary, t with the
        smallest number of levels less one. Of every other fit: the normal distribution, as in statsmodels, which
        understates p-values and intervals when a grouping factor has few levels (at 6 runs, a nominal 5 % test of
        a predictor that varies by run rejects about 12 % of true hypotheses).
    vcomp : DataFrame
        group, term ("Intercept"; missing for the residual), term2 (missing: covariances come with random slopes),
        variance, sd. The residual is the group "Residual".
    scale : float
        The residual variance.
    llf : float
        Log-likelihood, restricted if ``reml`` (with lme4's constants: -2 llf is its REML criterion), on the scale of
        the data as given. Restricted ones compare only between fits with the same fixed part.
    random_effects : dict of str to DataFrame
        For each grouping factor its predicted effects (best linear unbiased predictions), one row a level, one
        column a term.
    levels : dict of str to int
        How many levels each grouping factor has.
    converged : bool
        True if at the estimate a Newton step would move no SD by more than a part in 10,000, and no variance at zero
        would raise the likelihood by leaving it: checked on the likelihood itself, not believed from the optimiser.
    boundary : bool
        True if a variance is at zero, or its SD below 1e-4 of the residual SD.
    """

    formula: str
    reml: bool
    observations: int
    params: pd.Series
    bse: pd.Series
    cov_params: pd.DataFrame
    df: pd.Series
    inference: str
    vcomp: pd.DataFrame
    scale: float
    llf: float
    random_effects: dict[str, pd.DataFrame]
    levels: dict[str, int]
    converged: bool
    boundary: bool

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values of "this fixed effect is 0"; read ``inference`` for the distribution behind them."""
        statistic = np.abs(self.params / self.bse)
        return pd.Series(2 * stats.t.sf(statistic, self.df), self.params.index, name="p")

    def conf_int(self, level: float = 0.95) -> pd.DataFrame:
        """Intervals of the fixed effects, columns lower and upper, by the distribution that ``inference`` names.

        Variances have none here: for the balanced crossing see :func:`addends.statistics.intervals.crossed_shares`.
        """
        if not 0 < level < 1:
            raise InputError(f"conf_int: level={level!r} must lie strictly between 0 and 1, e.g. 0.95.")
        half = stats.t.ppf((1 + level) / 2, self.df) * self.bse
        return pd.DataFrame({"lower": self.params - half, "upper": self.params + half})

    def icc(self) -> pd.DataFrame:
        """Shares of the variance that the fixed effects leave: ``share_g = variance_g / sum of all variances``.

        One row a group and one for the residual: group, component, share, levels (missing for the residual). The
        shares sum to 1. Two warnings belong beside them wherever they are shown:

        - From R runs the run-level variance is known only within a factor: the 95 % multipliers of its SD are
          .52-6.3 for R = 3, .62-2.45 for 6, .69-1.8 for 10 and .76-1.46 for 20. Never show a share without its
          interval (:func:`addends.statistics.intervals.crossed_shares`).
        - One value per cell cannot separate interaction from residual, and this model has no term for the
          interaction in any case: with two or more groups the last component reads "interaction + residual".
        """
        variances = self.vcomp["variance"].to_numpy()
        last = "interaction + residual" if len(self.levels) > 1 else "residual"
        return pd.DataFrame(
            {
                "group": self.vcomp["group"],
                "component": [*self.levels, last],
                "share": variances / variances.sum(),
                "levels": pd.array([*self.levels.values(), pd.NA], dtype="Int64"),
            }
        )

    def summary(self) -> str:
        """The fit as text: fixed effects, variances, and what may not be read from them.

        No shares: those are never shown without their intervals, which `crossed_shares` gives.
        """
        fixed = pd.DataFrame({"estimate": self.params, "se": self.bse, "df": self.df, "p": self.pvalues})
        fixed = fixed.join(self.conf_int())
        variances = self.vcomp[["group", "variance", "sd"]].assign(levels=[*self.levels.values(), ""])
        groups = ", ".join(f"{count} {group}" for group, count in self.levels.items())
        lines = [
            f"Linear mixed model by {'REML' if self.reml else 'maximum likelihood'}: {self.formula}",
            f"{self.observations} observations; levels: {groups}; log-likelihood {self.llf:.6f}",
            "",
            fixed.to_string(),
            _wrapped(f"p and interval: {self.inference}."),
            "",
            variances.to_string(index=False),
            _wrapped("A variance known from few levels is known only within a factor: crossed_shares gives intervals."),
        ]
        if self.boundary:
            lines.append(
                _wrapped(
                    "A variance is at zero, the boundary: it is too small to be seen here, not shown to be absent."
                )
            )
        if not self.converged:
            lines.append("NOT CONVERGED: a better fit may exist; do not report these numbers.")
        return "\n".join(lines)

    def __repr__(self) -> str:
        state = "" if self.converged else ", NOT converged"
        spread = ", ".join(f"{row.group} {row.sd:.3g}" for row in self.vcomp.itertuples())
        at_zero = ", boundary" if self.boundary else ""
        return f"<MixedFit {self.formula!r}: {self.observations} observations, SDs: {spread}{at_zero}{state}>"


def _wrapped(sentence: str) -> str:
    """A sentence of the summary, no wider than a book's column."""
    return textwrap.fill(sentence, 84)


def fit(formula: str, data: pd.DataFrame, reml: bool = True) -> MixedFit:
    """Fit a linear mixed model: ``y = X beta + Z b + e``, ``b ~ N(0, variances)``, ``e ~ N(0, scale)``.

    The outcome and the predictors are standardised inside and the results scaled back, so that outcomes on scales from
    1e-6 to 1e6 are fitted alike; everything returned is in the units given.

    Parameters
    ----------
    formula : str
        As in lme4, e.g. ``"importance ~ tokens + (1 | run) + (1 | sentence)"``. Grouping factors are crossed (or
        nested, if the data are). Random slopes and interactions are refused for now.
    data : DataFrame
        One row an observation; no missing values in the columns used.
    reml : bool
        Restricted maximum likelihood (variances without the bias of estimating the fixed effects), or maximum
        likelihood.

    Returns
    -------
    MixedFit

    Raises
    ------
    InputError
        If the formula holds what cannot be fitted, or the data cannot carry it: see
        :func:`addends.statistics.formulas.parse` and :func:`addends.statistics.formulas.design`.

    References
    ----------
    Bates, Maechler, Bolker and Walker (2015), Fitting linear mixed-effects models using lme4, Journal of Statistical
    Software 67(1), section 3 (the profiled criteria). Satterthwaite (1946), Biometrics Bulletin 2, 110-114.
    """
    terms = parse(formula)
    arrays = design(terms, data)
    unit = arrays.outcome.std()
    centre = arrays.outcome.mean()
    shift = np.append(0, arrays.fixed[:, 1:].mean(axis=0))
    width = np.append(1, arrays.fixed[:, 1:].std(axis=0))
    codes = list(arrays.codes.values())
    likelihood = Likelihood(codes, (arrays.outcome - centre) / unit, (arrays.fixed - shift) / width, reml)
    moments = Moments(codes, likelihood.residuals())
    if moments.error > 0:
        theta, converged = maximise(likelihood, moments.start())
    if moments.error <= 0 or (theta > UNBOUNDED).any():
        raise InputError(
            f"formula={formula!r}: the grouping factors and predictors give {terms.outcome!r} exactly, so that there "
            "is no residual to hold variances against. Is the outcome one of them in other words?"
        )

    beta, covariance, scale, effects = likelihood.estimates(theta)
    # X_given = X_standardised @ back, so beta_given = inverse(back) @ beta_standardised; the intercept takes the shift.
    back = np.diag(1 / width)
    back[0, 1:] = -shift[1:] / width[1:]
    names = list(arrays.names)
    params = pd.Series(unit * back @ beta, names, name="estimate")
    params.iloc[0] += centre
    covariance = pd.DataFrame(unit**2 * back @ covariance @ back.T, names, names)
    variances = unit**2 * scale * np.append(theta**2, 1)
    parameters = len(names) if reml else 0
    # The Jacobian of standardising: of the outcome, and, in the restricted likelihood, of the predictors.
    jacobian = (len(arrays.outcome) - parameters) * np.log(unit) + (np.log(width).sum() if reml else 0)
    boundary = bool((theta < SINGULAR).any())
    df, inference = _inference(moments, arrays, reml, boundary)
    vcomp = pd.DataFrame(
        {
            "group": [*terms.groups, "Residual"],
            "term": pd.Series(["Intercept"] * len(terms.groups) + [None], dtype="str"),
            "term2": pd.Series([None] * len(variances), dtype="str"),
            "variance": variances,
            "sd": np.sqrt(variances),
        }
    )
    return MixedFit(
        formula=formula,
        reml=reml,
        observations=len(arrays.outcome),
        params=params,
        bse=pd.Series(np.sqrt(np.diag(covariance)), names, name="se"),
        cov_params=covariance,
        df=pd.Series(df, names, name="df"),
        inference=inference,
        vcomp=vcomp,
        scale=float(variances[-1]),
        llf=float(likelihood(theta) - jacobian),
        random_effects={
            group: pd.DataFrame({"Intercept": unit * part}, index=pd.Index(arrays.levels[group], name=group))
            for group, part in zip(terms.groups, effects, strict=True)
        },
        levels={group: len(arrays.levels[group]) for group in terms.groups},
        converged=converged,
        boundary=boundary,
    )


def _inference(moments: Moments, arrays: Design, reml: bool, boundary: bool) -> tuple[float, str]:
    if not (moments.balanced and reml and arrays.fixed.shape[1] == 1):
        return np.inf, (
            "normal (z), as in statsmodels: too narrow, and p too small, where a grouping factor has few levels"
        )
    if boundary:
        return float(moments.df.min()), "t with the smallest number of levels less 1 (a variance is on the boundary)"
    # Var(mean) = (sum of the factors' mean squares - (factors - 1) error mean square) / observations
    extra = len(moments.squares) - 1
    total = moments.squares.sum() - extra * moments.error
    spread = np.sum(moments.squares**2 / moments.df) + (extra * moments.error) ** 2 / moments.error_df
    return float(total**2 / spread), "t with Satterthwaite's degrees of freedom (balanced, crossed, intercept only)"

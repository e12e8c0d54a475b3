"""Mixed models with crossed random effects, as lme4's users write them, at a million rows.

    fit = crossed.fit("chrf ~ importance + (importance | run) + (1 | sentence)", data)
    fit.params, fit.vcomp, fit.icc()

:func:`fit` fits one model, :func:`fit_each` one a group of rows, :func:`compare` tests nested ones;
:func:`crossed_shares` and :func:`replicated_shares` divide a balanced crossing in closed form. The package may import
numpy, scipy, pandas, formulae, joblib, statsmodels, threadpoolctl and tqdm: neither torch nor anything of addends.

The way of a fit: expressions, formulas, factors, matrices, design, scaling, elimination and nested, likelihood, search,
estimate. What an estimate tells: inference, profile, tables, results. Balanced crossings: pivots, balanced, coverage.
"""

from __future__ import annotations

from crossed.balanced import crossed_shares, replicated_shares
from crossed.each import fit_each
from crossed.errors import Error, InputError
from crossed.fitting import fit
from crossed.inference import compare
from crossed.pivots import sd_multipliers
from crossed.results import MixedFit

__all__ = [
    "Error",
    "InputError",
    "MixedFit",
    "compare",
    "crossed_shares",
    "fit",
    "fit_each",
    "replicated_shares",
    "sd_multipliers",
]

"""Mixed models with crossed random effects, as lme4's users write them, at a million rows.

    fit = crossed.fit("chrf ~ importance + (importance | run) + (1 | sentence)", data)
    fit.params, fit.vcomp, fit.icc()

:func:`fit` fits one model, :func:`fit_each` one a group of rows, :func:`compare` tests nested ones;
:func:`crossed_shares` and :func:`replicated_shares` divide a balanced crossing in closed form, :func:`factorial_shares`
that of two factors of the runs, and :func:`above_floor` holds it against runs that differ in their masks alone. The
package may import numpy, scipy, pandas, formulae, joblib, statsmodels, threadpoolctl and tqdm: neither torch nor
anything of addends.

The way of a fit: expressions, formulas, factors, matrices, design, scaling, elimination and nested, likelihood, search,
estimate. What an estimate tells: inference, profile, tables, results. Balanced crossings: pivots, cells, balanced,
factorial, floor, coverage.
"""

from __future__ import annotations

from crossed.balanced import crossed_shares, replicated_shares
from crossed.each import fit_each
from crossed.errors import Error, InputError
from crossed.factorial import complete_rectangle, factorial_contrast, factorial_shares
from crossed.fitting import fit
from crossed.floor import above_floor, floor_of_pairs
from crossed.inference import compare
from crossed.pivots import sd_multipliers
from crossed.results import MixedFit

__all__ = [
    "Error",
    "InputError",
    "MixedFit",
    "above_floor",
    "compare",
    "complete_rectangle",
    "crossed_shares",
    "factorial_contrast",
    "factorial_shares",
    "fit",
    "fit_each",
    "floor_of_pairs",
    "replicated_shares",
    "sd_multipliers",
]

"""The variance components of a fitted mixed model as tidy tables: components, and shares of the whole."""

from __future__ import annotations

import numpy as np
import pandas as pd


def components(fit) -> pd.DataFrame:
    """One row a variance, and a covariance for each pair of effects of one random term.

    Returns
    -------
    DataFrame
        group, term ("Intercept" or the predictor; missing for the residual), term2 (missing on variance rows), variance
        (or covariance), sd (or correlation; missing where an SD is 0). The residual is the last row.
    """
    rows = []
    for effects, matrix in zip(fit.design.effects, fit.covariances, strict=True):
        group, sds = effects.grouping.name, np.sqrt(np.diag(matrix))
        rows += [(group, name, None, sd**2, sd) for name, sd in zip(effects.names, sds, strict=True)]
        for one in range(len(sds)):
            for two in range(one + 1, len(sds)):
                product = sds[one] * sds[two]
                correlation = matrix[one, two] / product if product > 0 else np.nan
                rows.append((group, effects.names[one], effects.names[two], matrix[one, two], correlation))
    rows.append(("Residual", None, None, fit.scale, np.sqrt(fit.scale)))
    table = pd.DataFrame(rows, columns=["group", "term", "term2", "variance", "sd"])
    return table.astype({"group": "str", "term": "str", "term2": "str", "variance": float, "sd": float})


def shares(fit) -> pd.DataFrame:
    """Shares of the variance that the fixed effects leave: ``share = variance / sum of all variances``.

    One row a random term and one for the residual: group, component, share, levels (missing for the residual). A term
    with slopes counts with the mean variance that it gives to an observation, ``mean_i z_i' Sigma z_i`` (Johnson 2014).
    The shares sum to 1. Two warnings belong beside them wherever they are shown:

    - From R runs the run-level variance is known only within a factor: the 95 % multipliers of its SD are .52-6.3 for
      R = 3, .62-2.45 for 6, .69-1.8 for 10 and .76-1.46 for 20. Never show a share without its interval
      (:func:`crossed.profiles.profile_intervals`).
    - One value per cell cannot separate interaction from residual: with two or more crossed factors and no interaction
      among the terms the last component reads "interaction + residual".
    """
    groups = [effects.grouping for effects in fit.design.effects]
    crossed = len(fit.levels) > 1 and not any(len(group.factors) > 1 for group in groups)
    variances = np.append(fit.mean_variances, fit.scale)
    return pd.DataFrame(
        {
            "group": [*(group.name for group in groups), "Residual"],
            "component": [*_names(fit), "interaction + residual" if crossed else "residual"],
            "share": variances / variances.sum(),
            "levels": pd.array([*map(len, groups), pd.NA], dtype="Int64"),
        }
    )


def _names(fit) -> list[str]:
    """A name for each random term: its group, with the slopes where the group has several terms."""
    names = [effects.grouping.name for effects in fit.design.effects]
    return [
        name if names.count(name) == 1 or effects.intercept_only else f"{name}: {', '.join(effects.names)}"
        for name, effects in zip(names, fit.design.effects, strict=True)
    ]

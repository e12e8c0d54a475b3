"""Predictions of a fitted mixed model, and how much of the outcome's variance they carry."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crossed.checks import listed, require_columns
from crossed.errors import InputError
from crossed.refusals import refuse_missing


def predict(fit, newdata: pd.DataFrame | None = None, random: bool = True) -> np.ndarray:
    """The expected outcome of rows: ``x_i' beta``, with ``random`` also ``sum_g z_gi' b_g(i)``.

    Parameters
    ----------
    fit : MixedFit
    newdata : DataFrame, optional
        Rows with the predictors and, with ``random``, the grouping factors; by default the rows of the fit.
    random : bool
        True for the levels that the fit has seen; False for the average level: for new runs or new sentences.

    Returns
    -------
    array (row,)

    Raises
    ------
    InputError
        If a column is unknown, a value is missing or infinite, or, with ``random``, a level was not in the fit.
    """
    design = fit.design
    if newdata is None:
        fixed, columns = design.fixed.columns, [effects.columns for effects in design.effects]
        codes = [effects.grouping.codes for effects in design.effects]
    else:
        used = [name for effects in design.effects for name in (*effects.matrix.variables, *effects.grouping.factors)]
        names = dict.fromkeys([*design.fixed.variables, *(used if random else [])])
        require_columns(newdata, names, "predict")
        for name in names:
            refuse_missing(newdata[name], name, "predict")
        fixed = design.fixed.again(newdata)
        if random:
            columns = [effects.matrix.again(newdata) for effects in design.effects]
            codes = [_codes(effects.grouping, newdata) for effects in design.effects]
    values = fixed @ fit.params.to_numpy()
    if random:
        for effects, matrix, code in zip(design.effects, columns, codes, strict=True):
            found = fit.random_effects[effects.grouping.name][list(effects.names)].to_numpy()
            values = values + np.einsum("rk,rk->r", matrix, found[code])
    return values


def _codes(grouping, newdata: pd.DataFrame) -> np.ndarray:
    given = newdata[list(grouping.factors)]
    given = given.astype({name: "float64" for name in given if given[name].dtype == np.float16})
    wanted = pd.Index(given[grouping.factors[0]]) if len(grouping.factors) == 1 else pd.MultiIndex.from_frame(given)
    codes = grouping.levels.get_indexer(wanted)
    if (codes < 0).any():
        unknown = list(dict.fromkeys(wanted[codes < 0]))
        alike = {str(level) for level in grouping.levels} & {str(level) for level in unknown}
        types = ""
        if alike:
            types = (
                f" The levels of the fit are {_types(grouping.levels)}, those given {_types(wanted)}: give them "
                "the same type."
            )
        raise InputError(
            f"predict: {grouping.name} {listed(unknown)} was not in the data of the fit, so its random effect is not "
            f"known; random=False predicts for the average level.{types}"
        )
    return codes


def _types(levels: pd.Index) -> str:
    parts = [levels.get_level_values(number) for number in range(levels.nlevels)]
    return " and ".join(f"{part.dtype} ({type(part[0]).__name__}, e.g. {part[0]!r})" for part in parts)


def r2(fit) -> pd.Series:
    """Marginal and conditional R2: the shares of variance that the fixed part, and fixed and random parts, carry.

    With F the sample variance of ``x_i' beta`` over rows, T the mean over rows of ``sum_g z_gi' Sigma_g z_gi``, and E
    the residual variance::

        marginal = F / (F + T + E),    conditional = (F + T) / (F + T + E)

    Returns
    -------
    Series
        marginal, conditional.

    References
    ----------
    Nakagawa and Schielzeth (2013), Methods in Ecology and Evolution 4, 133-142, equations 26 and 30; Johnson (2014),
    Methods in Ecology and Evolution 5, 944-946, equation 10 (random slopes).
    """
    fixed = np.var(fit.design.fixed.columns @ fit.params.to_numpy(), ddof=1)
    random = fit.mean_variances.sum()
    total = fixed + random + fit.scale
    return pd.Series({"marginal": fixed / total, "conditional": (fixed + random) / total}, name="R2")

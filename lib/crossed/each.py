"""One mixed model fitted many times, once a group of rows (a layer and a term, say), and its p-values as one family."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from statsmodels.stats.multitest import multipletests
from tqdm.auto import tqdm

from crossed.checks import check_level, check_reml, groups_of, names_of
from crossed.errors import Error, InputError
from crossed.fitting import fit as fit_model
from crossed.formulas import parse

_ESTIMATES = ("parameter", "estimate", "se", "df", "t", "p", "p_holm", "p_bh", "lower", "upper")
_ABOUT = ("nobs", "converged", "boundary", "reason")


def fit_each(
    formula: str,
    data: pd.DataFrame,
    by: str | Sequence[str],
    jobs: int = 1,
    reml: bool = True,
    parameters: str | Sequence[str] | None = None,
    level: float = 0.95,
    progress: bool = True,
) -> pd.DataFrame:
    """Fit ``formula`` to each group of rows, and adjust the p-values over the whole family.

    Parameters
    ----------
    formula : str
        As for :func:`crossed.fit`.
    data : DataFrame
    by : list of str
        The columns whose combinations are the groups, e.g. ["layer", "term"].
    jobs : int
        Processes (joblib); -1 takes every core.
    reml : bool
    parameters : list of str, optional
        The fixed effects that are the declared family of tests: every one of them in every group. By default all but
        the intercept (which alone is taken where there is nothing else).
    level : float
        Of the intervals, which are not adjusted.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DataFrame
        One row a group and parameter of the family, groups in their order of appearance: the columns of ``by``;
        parameter, estimate, se, df, t, p, p_holm (Holm: the chance of any false finding), p_bh (Benjamini and Hochberg:
        the share of false ones among findings), lower, upper; "sd GROUP" for each random intercept, "sd GROUP: SLOPE"
        for each slope, "sd Residual"; nobs, converged, boundary, and reason: why a group could not be fitted (missing
        where it was). Such a group keeps one row, without numbers, and does not count in the family.

    Raises
    ------
    InputError
        If the formula cannot be read, a category has another base in one group than in another, a column is unknown,
        stands twice in ``by`` or is named as one of the result, missing values stand in ``by``, reml, jobs or level are
        none of the allowed, or no group has a parameter of that name.

    References
    ----------
    Holm (1979), Scandinavian Journal of Statistics 6, 65-70. Benjamini and Hochberg (1995), Journal of the Royal
    Statistical Society B 57, 289-300.
    """
    wanted = None if parameters is None else names_of(parameters, "parameters", "fit_each")
    check_level(level, "fit_each")
    check_reml(reml, "fit_each")
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs == 0:
        raise InputError(f"fit_each: jobs={jobs!r} must be a whole number of processes, or -1 for every core.")
    terms = parse(formula)
    spreads = [name for name in data if str(name).startswith("sd ")] if isinstance(data, pd.DataFrame) else []
    by, groups = groups_of(data, by, [*_ESTIMATES, *_ABOUT, *spreads], "fit_each")
    overlap = set(by) & {*terms.outcome.columns, *(factor for term in terms.random for factor in term.factors)}
    if overlap:
        raise InputError(f"fit_each: {sorted(overlap)} cannot be in by and in the formula: constant in every group.")
    work = (delayed(_rows_of)(formula, rows, reml, wanted, level) for _, rows in groups)
    found = Parallel(n_jobs=jobs, return_as="generator")(work)
    found = list(tqdm(found, total=len(groups), desc="models", disable=not progress))
    _refuse_other_bases(groups, found, by)
    tables = []
    for (key, _), table in zip(groups, found, strict=True):
        for place, name in enumerate(by):
            table.insert(place, name, [key[place]] * len(table))
        tables.append(table)
    table = pd.concat([each.dropna(axis="columns", how="all") for each in tables], ignore_index=True)
    table = table.reindex(columns=_order(tables, by))
    if wanted is not None and not set(wanted) <= set(table["parameter"].dropna()):
        absent = sorted(set(wanted) - set(table["parameter"].dropna()))
        reasons = list(table["reason"].dropna().unique()[:1])
        raise InputError(f"fit_each: no group has the parameter(s) {absent}. {' '.join(reasons)}")
    family = table["p"].notna().to_numpy()
    p = table["p"].to_numpy(dtype=float)
    table["p_holm"], table["p_bh"] = np.nan, np.nan
    if family.any():
        for name, method in (("p_holm", "holm"), ("p_bh", "fdr_bh")):
            table.loc[family, name] = multipletests(p[family], method=method)[1]
    return table


def _rows_of(formula: str, rows: pd.DataFrame, reml: bool, wanted: list[str] | None, level: float) -> pd.DataFrame:
    """The part of the table that one group makes; its ``attrs`` hold the base of each category."""
    try:
        fit = fit_model(formula, rows, reml=reml)
        names = wanted if wanted is not None else [name for name in fit.names if name != "Intercept"] or ["Intercept"]
        absent = [name for name in names if name not in fit.names]
        if absent:
            raise InputError(f"no fixed parameter {absent}; there are {fit.names}.")
        table = pd.DataFrame({"estimate": fit.params, "se": fit.bse, "df": fit.df, "t": fit.tvalues, "p": fit.pvalues})
        table = table.join(fit.conf_int(level)).loc[names].rename_axis("parameter").reset_index()
        factors = fit.design.fixed.factors.items()
        bases = ((name, factor.levels) for name, factor in factors if factor.base_is_first)
        table.attrs["bases"] = {name: levels[0] for name, levels in bases if levels}
    except (Error, np.linalg.LinAlgError, FloatingPointError) as error:
        return pd.DataFrame({"nobs": [len(rows)], "reason": [str(error)]})
    for row in fit.vcomp[fit.vcomp["term2"].isna()].itertuples():
        slope = "" if row.group == "Residual" or row.term == "Intercept" else f": {row.term}"
        table[f"sd {row.group}{slope}"] = row.sd
    table["nobs"], table["converged"], table["boundary"], table["reason"] = fit.nobs, fit.converged, fit.boundary, None
    return table


def _refuse_other_bases(groups: list, tables: list[pd.DataFrame], by: list[str]) -> None:
    """One name must mean one thing: "kind[c]" is c minus the base, and the base is the first level that a group has."""
    first: dict[str, tuple] = {}
    for (key, _), table in zip(groups, tables, strict=True):
        for factor, base in table.attrs.pop("bases", {}).items():
            other, before = first.setdefault(factor, (key, base))
            if before != base:
                one, two = (", ".join(map(repr, keys)) for keys in (other, key))
                raise InputError(
                    f"fit_each: the first level of {factor!r} is {before!r} where {by} is {one}, and {base!r} where it "
                    f"is {two}, so that parameters of one name would mean different things. Name a base that all "
                    "groups have, as in T(kind, 'b'), or leave groups out."
                )


def _order(tables: list[pd.DataFrame], by: list[str]) -> list[str]:
    spreads = dict.fromkeys(name for table in tables for name in table if str(name).startswith("sd "))
    return [*by, *_ESTIMATES, *spreads, *_ABOUT]

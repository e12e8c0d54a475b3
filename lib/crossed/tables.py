"""A fitted model as tables and text: variance components, shares of variance, predictions, R2, the summary."""

from __future__ import annotations

import html
import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crossed.checks import listed, refuse_missing, require_columns
from crossed.design import Grouping
from crossed.errors import InputError
from crossed.estimate import Estimate
from crossed.search import SINGULAR


def components(fit: Estimate) -> pd.DataFrame:
    """One row a variance, and a covariance for each pair of effects of one random term.

    Returns
    -------
    DataFrame
        group, term ("Intercept" or the predictor; missing for the residual), term2 (missing on variance rows), variance
        (or covariance), sd (or correlation; missing where an SD is 0). The residual is the last row.
    """
    rows: list[tuple] = []
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


def shares(fit: Estimate) -> pd.DataFrame:
    """Shares of the variance that the fixed effects leave: ``share = variance / sum of all variances``.

    One row a random term and one for the residual: group, component, share, levels (missing for the residual). A term
    with slopes counts with the mean variance that it gives to an observation, ``mean_i z_i' Sigma z_i`` (Johnson 2014).
    The shares sum to 1. Two warnings belong beside them wherever they are shown:

    - From R runs the run-level variance is known only within a factor: the 95 % multipliers of its SD are .52-6.3 for
      R = 3, .62-2.45 for 6, .69-1.8 for 10 and .76-1.46 for 20. Never show a share without its interval
      (:func:`crossed.profile.profile_intervals`).
    - One value per cell cannot separate interaction from residual: with two or more crossed factors and no interaction
      among the terms the last component reads "interaction + residual".
    """
    groups = [effects.grouping for effects in fit.design.effects]
    crossed = len(fit.levels) > 1 and not any(len(group.factors) > 1 for group in groups)
    variances = np.append(fit.mean_variances, fit.scale)
    return pd.DataFrame(
        {
            "group": [*(group.name for group in groups), "Residual"],
            "component": [*_term_names(fit), "interaction + residual" if crossed else "residual"],
            "share": variances / variances.sum(),
            "levels": pd.array([*map(len, groups), pd.NA], dtype="Int64"),
        }
    )


def _term_names(fit: Estimate) -> list[str]:
    """A name for each random term: its group, with the slopes where the group has several terms."""
    names = [effects.grouping.name for effects in fit.design.effects]
    return [
        name if names.count(name) == 1 or effects.intercept_only else f"{name}: {', '.join(effects.names)}"
        for name, effects in zip(names, fit.design.effects, strict=True)
    ]


def predict(fit: Estimate, newdata: pd.DataFrame | None = None, random: bool = True) -> np.ndarray:
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


def _codes(grouping: Grouping, newdata: pd.DataFrame) -> np.ndarray:
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


def r2(fit: Estimate) -> pd.Series:
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


class Summary(str):
    """Text that a notebook renders as tables: ``print(fit.summary())`` and a cell's last line show the same.

    Made by `summary`. ``summary.parts.fixed`` is the table of fixed effects, ``summary.parts.variances`` that of the
    variance components.
    """

    parts: Parts

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        parts, escaped = self.parts, html.escape
        fixed = parts.fixed.rename_axis("effect").reset_index()
        tables = [f"<p><b>{escaped(parts.title)}</b><br>{escaped(parts.counts)}</p>", _html(fixed, "Fixed effects.")]
        tables += [f"<p>{escaped(parts.inference)}</p>", _html(parts.variances, "Variance components.")]
        return "\n".join([*tables, *(f"<p>{escaped(line)}</p>" for line in parts.caution)])


def _html(table: pd.DataFrame, caption: str) -> str:
    """One row of heads, a caption, and digits that fit the column of a page; the text has them all."""
    found = table.to_html(index=False, na_rep="", float_format="{:.5g}".format)
    return found.replace("<thead>", f"<caption>{caption}</caption>\n  <thead>", 1)


@dataclass(frozen=True, eq=False)
class Parts:
    """What a summary says, from its first line to its last.

    title "Linear mixed model by REML: y ~ x + (1 | run)"; counts "120 observations; levels: 6 run; log-likelihood ...";
    fixed, a row a fixed effect: estimate, se, df, p, lower, upper; inference "p and interval: t with ..."; variances, a
    row a component, with the number of levels behind it; caution, sentences on what may not be read from these numbers.
    """

    title: str
    counts: str
    fixed: pd.DataFrame
    inference: str
    variances: pd.DataFrame
    caution: list[str]


def summary(fit: Estimate, fixed: pd.DataFrame, words: str) -> Summary:
    """The fit as text and tables, given the table of its fixed effects and what their degrees of freedom are."""
    groups = ", ".join(f"{count} {group}" for group, count in fit.levels.items())
    parts = Parts(
        f"Linear mixed model by {'REML' if fit.reml else 'maximum likelihood'}: {fit.formula}",
        f"{fit.nobs} observations; levels: {groups}; log-likelihood {fit.llf:.6f}",
        fixed,
        f"p and interval: {words}.",
        _with_levels(fit),
        _caution(fit),
    )
    lines = [parts.title, parts.counts, "", parts.fixed.to_string()]
    lines += [_wrapped(parts.inference), "", parts.variances.to_string(index=False)]
    result = Summary("\n".join([*lines, *map(_wrapped, parts.caution)]))
    result.parts = parts
    return result


def _with_levels(fit: Estimate) -> pd.DataFrame:
    """The variance components with the number of levels behind each; term columns only where there are slopes."""
    table = components(fit)
    table = table.assign(levels=[fit.levels.get(group, "") for group in table["group"]])
    if (table["term"].dropna() == "Intercept").all():
        return table[["group", "variance", "sd", "levels"]]
    if table["term2"].isna().all():
        return table[["group", "term", "variance", "sd", "levels"]].fillna({"term": ""})
    columns = {"variance": "(co)variance", "sd": "sd or correlation"}
    return table.fillna({"term": "", "term2": ""}).rename(columns=columns)


def _caution(fit: Estimate) -> list[str]:
    lines = ["A variance known from few levels is known only within a factor: profile_intervals() gives intervals."]
    if fit.boundary:
        lines.append(
            "A variance is at zero, the boundary (or effects are perfectly correlated): what is at zero is too "
            "small to be seen here, not shown to be absent."
        )
    lines += map(_advice, _constant_within(fit).items())
    if not fit.converged:
        lines.append("NOT CONVERGED: a better fit may exist; do not report these numbers.")
    return lines


def _constant_within(fit: Estimate) -> dict[str, list[str]]:
    """For each group whose variance is at zero, the fixed effects that are constant within its levels."""
    found: dict[str, list[str]] = {}
    for effects, matrix in zip(fit.design.effects, fit.blocks, strict=True):
        if np.linalg.norm(matrix[0]) >= SINGULAR or effects.names[0] != "Intercept":
            continue
        codes, columns = effects.grouping.codes, fit.design.fixed.columns
        first = np.empty((len(effects.grouping), columns.shape[1]))
        first[codes] = columns
        same = np.abs(columns - first[codes]).max(axis=0) <= 1e-12 * np.abs(columns).max(axis=0)
        names = [name for name, here in zip(fit.names, same, strict=True) if here and name != "Intercept"]
        if names:
            found[effects.grouping.name] = names
    return found


def _advice(found: tuple[str, list[str]]) -> str:
    group, names = found
    several = len(names) > 1
    return (
        f"{', '.join(names)} {'are' if several else 'is'} constant within each {group}, and the variance of {group} is "
        f"at zero: the p-value{'s' if several else ''} above count rows as if no two of one {group} were alike, and "
        f"are far too small where that variance only could not be seen (from few levels of {group}, tests at .05 "
        f"reject in .2 of all cases or more). Test means instead, one row a {group}, by a t-test or a regression of "
        f"data.groupby({group.split(':')!r}).mean(numeric_only=True)."
    )


def _wrapped(sentence: str) -> str:
    """A sentence of the summary, no wider than a book's column."""
    return textwrap.fill(sentence, 84)

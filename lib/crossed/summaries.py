"""A fitted mixed model as text for the terminal and as tables for a notebook."""

from __future__ import annotations

import html
import textwrap

import numpy as np
import pandas as pd

from crossed.optimum import SINGULAR


class Summary(str):
    """Text that a notebook renders as tables: ``print(fit.summary())`` and a cell's last line show the same."""

    def __new__(cls, fit):
        parts = _Parts(fit)
        lines = [parts.title, parts.counts, "", parts.fixed.to_string()]
        lines += [_wrapped(f"p and interval: {fit.inference}."), "", parts.variances.to_string(index=False)]
        summary = super().__new__(cls, "\n".join([*lines, *map(_wrapped, parts.caution)]))
        summary.parts = parts
        return summary

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        parts, escaped = self.parts, html.escape
        tables = [f"<p><b>{escaped(parts.title)}</b><br>{escaped(parts.counts)}</p>", parts.fixed.to_html()]
        tables += [f"<p>p and interval: {escaped(parts.fit.inference)}.</p>", parts.variances.to_html(index=False)]
        return "\n".join([*tables, *(f"<p>{escaped(line)}</p>" for line in parts.caution)])


class _Parts:
    def __init__(self, fit):
        self.fit = fit

    @property
    def title(self) -> str:
        return f"Linear mixed model by {'REML' if self.fit.reml else 'maximum likelihood'}: {self.fit.formula}"

    @property
    def counts(self) -> str:
        groups = ", ".join(f"{count} {group}" for group, count in self.fit.levels.items())
        return f"{self.fit.nobs} observations; levels: {groups}; log-likelihood {self.fit.llf:.6f}"

    @property
    def fixed(self) -> pd.DataFrame:
        """estimate, se, df, p, lower and upper of each fixed effect."""
        fit = self.fit
        table = pd.DataFrame({"estimate": fit.params, "se": fit.bse, "df": fit.df, "p": fit.pvalues})
        return table.join(fit.conf_int())

    @property
    def variances(self) -> pd.DataFrame:
        """The variance components with the number of levels behind each; term columns only where there are slopes."""
        table, levels = self.fit.vcomp, self.fit.levels
        table = table.assign(levels=[levels.get(group, "") for group in table["group"]])
        if (table["term"].dropna() == "Intercept").all():
            return table[["group", "variance", "sd", "levels"]]
        if table["term2"].isna().all():
            return table[["group", "term", "variance", "sd", "levels"]].fillna({"term": ""})
        columns = {"variance": "(co)variance", "sd": "sd or correlation"}
        return table.fillna({"term": "", "term2": ""}).rename(columns=columns)

    @property
    def caution(self) -> list[str]:
        lines = ["A variance known from few levels is known only within a factor: profile_intervals() gives intervals."]
        if self.fit.boundary:
            lines.append(
                "A variance is at zero, the boundary (or effects are perfectly correlated): what is at zero is too "
                "small to be seen here, not shown to be absent."
            )
        lines += map(_advice, constant_within(self.fit).items())
        if not self.fit.converged:
            lines.append("NOT CONVERGED: a better fit may exist; do not report these numbers.")
        return lines


def constant_within(fit) -> dict[str, list[str]]:
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

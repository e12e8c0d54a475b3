"""A fitted mixed model as text for the terminal and as tables for a notebook."""

from __future__ import annotations

import html
import textwrap

import pandas as pd


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
        if not self.fit.converged:
            lines.append("NOT CONVERGED: a better fit may exist; do not report these numbers.")
        return lines


def _wrapped(sentence: str) -> str:
    """A sentence of the summary, no wider than a book's column."""
    return textwrap.fill(sentence, 84)

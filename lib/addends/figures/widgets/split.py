"""*Run or sentence?* A line a sentence over runs, the shares of the variance, and what more runs would tell."""

from __future__ import annotations

import numpy as np
import pandas as pd

from addends.checks import check_count, finite_numbers, refuse_repeated, require_columns
from addends.errors import InputError
from addends.figures import style
from addends.figures.widgets.page import Widget, term_name

DRAWS = 100_000
SEED = 14
_CARRIED = 22_000  # numbers of lines, of about five bytes each
_WHERE = "run_or_sentence"
_COMPONENTS = ("run", "sentence", "interaction + residual")


def run_or_sentence(
    values: pd.DataFrame, split: pd.DataFrame, value: str, caption: str, lines: int = 40, level: float = 0.95
) -> Widget:
    """Layer, term and method to choose, a slider for the number of runs, and a place for the reader's own table.

    The variances are made of the mean squares of ``split``. Intervals are computed in the page: exact ones of mean
    squares and of standard deviations of means, by chi-squared, as `crossed.sd_multipliers`; of variances and shares
    generalised ones, as `crossed.crossed_shares`, from draws of the page's own. For another number of runs the
    variances stay as estimated, and degrees of freedom and expected mean squares follow.

    Parameters
    ----------
    values : DataFrame
        Tidy: by, layer, term, run, sentence and the column ``value``; every run with every sentence.
    split : DataFrame
        As ``crossed.crossed_shares(values, value, row="run", column="sentence", by=["by", "layer", "term"])`` gives it.
    value : str
        The column of numbers, an indicator.
    caption : str
    lines : int
        How many sentences are drawn at most, evenly spaced among all; fewer where a page could not carry them. The
        split is that of all.
    level : float
        Of the intervals.

    Raises
    ------
    InputError
        If a column is missing, a cell is missing or stands twice, the two frames do not fit, or there is more data
        than a page should carry.
    """
    key = ["by", "layer", "term"]
    require_columns(values, [*key, "run", "sentence", value], _WHERE)
    require_columns(split, [*key, "component", "levels", "df", "mean_square"], _WHERE)
    check_count("lines", lines, _WHERE)
    refuse_repeated(values, [*key, "run", "sentence"], _WHERE, "Keep one checkpoint and one target.")
    refuse_repeated(split, [*key, "component"], _WHERE, "Keep one of them.")
    finite_numbers(values, value, _WHERE, "Leave that sentence out of every run.")
    finite_numbers(split, "mean_square", _WHERE, "Split these values again.")
    runs, sentences = list(dict.fromkeys(values["run"])), sorted(values["sentence"].unique())
    lines = max(2, min(lines, _CARRIED // (len(runs) * values.groupby(key).ngroups)))
    drawn = [sentences[k] for k in np.unique(np.linspace(0, len(sentences) - 1, lines).round().astype(int))]
    parts = split.set_index([*key, "component"])
    groups = []
    for name, rows in values.groupby(key, sort=False):
        wide = rows.pivot(index="sentence", columns="run", values=value).reindex(index=sentences, columns=runs)
        named = dict(zip(key, name, strict=True))
        if wide.isna().any(axis=None):
            raise InputError(f"{_WHERE}: {named}: not every run has every sentence; {wide.isna().sum().sum()} lack.")
        wanted = [(*name, component) for component in _COMPONENTS]
        there = set(wanted) <= set(parts.index)
        if not there or parts.loc[wanted, "levels"].tolist()[:2] != [len(runs), len(sentences)]:
            raise InputError(
                f"{_WHERE}: {named}: split has no row for each of {_COMPONENTS}, with {len(runs)} runs and "
                f"{len(sentences)} sentences. Split the same values."
            )
        groups.append(_group(named, wide, drawn, parts.loc[wanted, "mean_square"].astype(float).tolist()))
    data = {
        "title": "Run or sentence?",
        "caption": caption,
        "colours": {
            "run": style.COMPONENT_COLOURS["run"],
            "sentence": style.COMPONENT_COLOURS["sentence"],
            "rest": "#767676",
        },
        "label": style.INDICATOR_LABELS.get(value, value),
        "runs": [str(run) for run in runs],
        "sentences": len(sentences),
        "drawn": [str(sentence) for sentence in drawn],
        "groups": groups,
        "level": level,
        "draws": DRAWS,
        "seed": SEED,
    }
    return Widget("split", data)


def _group(named: dict, wide: pd.DataFrame, drawn: list, squares: list[float]) -> dict:
    """One choice of the reader's: mean squares, the runs' means, and lines in whole multiples of a unit."""
    spread = float(np.ptp(wide.to_numpy())) or 1.0
    unit = 10.0 ** (int(np.floor(np.log10(spread))) - 3)
    return {
        "by": str(named["by"]),
        "layer": int(named["layer"]),
        "term": str(named["term"]),
        "name": term_name(named["term"], named["by"]),
        "squares": squares,
        "means": [float(f"{mean:.6g}") for mean in wide.mean()],
        "unit": unit,
        "lines": (wide.loc[drawn] / unit).round().astype(int).to_numpy().tolist(),
    }

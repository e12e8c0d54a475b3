"""How close the derived results come to the released ones, and how much the corrections change."""

from __future__ import annotations

import numpy as np
import pandas as pd

from addends.replication.coefficients import ALL_TERMS, LIMIT
from addends.replication.replays import NOT_RELEASED

STANDARD_ERRORS = "standard errors"


def closeness(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Every kind of released result that was derived again, and the largest distance from the released numbers.

    Parameters
    ----------
    tables : dict of DataFrame
        As `stored.compute` or `stored.read` returns.

    Returns
    -------
    DataFrame
        One row a kind: result, numbers (how many were derived), unit of the distance ("standard errors", "relative", or
        "absolute"), largest, typical (the median), and outside, the share beyond 2.26 standard errors, where chance
        puts 5 % (missing where nothing was sampled).
    """
    rows = []

    def add(result: str, off: pd.Series, unit: str, numbers: int | None = None) -> None:
        size = off.dropna().abs()
        rows.append(
            {
                "result": result,
                "numbers": len(size) if numbers is None else numbers,
                "unit": unit,
                "largest": size.max(),
                "typical": size.median(),
                "outside": (size > LIMIT).mean() if unit == STANDARD_ERRORS else np.nan,
            }
        )

    pooled, standing = tables["pooled"], tables["standing"]
    standing = standing[standing["set"] != NOT_RELEASED]
    summed = standing["term"] == ALL_TERMS
    for level in ("checkpoint", "sentence"):
        of = standing["level"] == level
        add(f"{level}s: single terms", standing.loc[of & ~summed, "t"], STANDARD_ERRORS)
        add(f"{level}s: sum over terms", standing.loc[of & summed, "t"], STANDARD_ERRORS)
        add(f"{level}s: pooled over three runs", pooled.loc[pooled["level"] == level, "gap"], "absolute")
    names = {"own": "distances, first version", "mixed": "distances, final version"}
    for targets, result in names.items():
        rows_of = tables["distances"][tables["distances"]["targets"] == targets]
        add(result, rows_of["gap"], "relative", int(rows_of[["pairs", "pairs_released"]].min(axis=1).sum()))
    facts = tables["facts"].set_index("name")["value"]
    if "normalized_gap" in facts:
        last = tables["distances"][(tables["distances"]["targets"] == "mixed") & (tables["distances"]["layer"] == 6)]
        copies = 6  # it stands in layers 1 to 6 alike
        add("distances, normalised version", facts[["normalized_gap"]], "absolute", copies * int(last["pairs"].sum()))
    add("BLEU from its parts", facts[["bleu_gap"]], "absolute", int(facts["bleu_scores"]))
    return pd.DataFrame(rows)


def signs_changed_by_pooling(pooled: pd.DataFrame) -> pd.DataFrame:
    """The rows whose pooled coefficient has another sign than the mean over runs that it is said to be."""
    return pooled[np.sign(pooled["as_pooled"]) != np.sign(pooled["alone"])]


def trend(coefficients: pd.DataFrame) -> pd.DataFrame:
    """The median size of each coefficient on own output, over all series, and how often all six runs agree on its sign.

    Returns
    -------
    DataFrame
        One row a coefficient: coefficient, size, same_sign (a share of the groups of by, layer, term, indicator and
        metric).
    """
    own = coefficients[coefficients["target"] == "own"]
    groups = own.groupby(["by", "layer", "term", "indicator", "metric"])
    rows = []
    for name in [column for column in own if column.startswith("rho")]:
        low, high = groups[name].min(), groups[name].max()
        rows.append(
            {"coefficient": name, "size": own[name].abs().median(), "same_sign": ((low > 0) | (high < 0)).mean()}
        )
    return pd.DataFrame(rows)

"""What the page on the replication reports: how close derived results come, what corrections change, three checks."""

from __future__ import annotations

import numpy as np
import pandas as pd

from addends.checks import check_count
from addends.replication.released import ALL_TERMS
from addends.replication.replays import NOT_RELEASED, T_LIMIT

STANDARD_ERRORS = "standard errors"
AGREEMENT_WINDOW = 50_000


def closeness(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Every kind of released result that was derived again, and the largest distance from the released numbers.

    Parameters
    ----------
    tables : dict of DataFrame
        As `derived.compute` or `derived.read` returns.

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
                "outside": (size > T_LIMIT).mean() if unit == STANDARD_ERRORS else np.nan,
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


def bleu_gap(scores: pd.DataFrame) -> float:
    """The largest difference of a released BLEU from the one that its own parts give.

    With p_n the released n-gram precisions, c the length of the translation and h that of the reference::

        BLEU = exp(min(0, 1 - h / c)) (p_1 p_2 p_3 p_4)^(1/4)

    Parameters
    ----------
    scores : DataFrame
        The released file of BLEU: score, precisions (four numbers in a text), translation_length, reference_length.

    References
    ----------
    Papineni and others (2002), BLEU: a method for automatic evaluation of machine translation, section 2.3.
    """
    precisions = np.array([[float(number) for number in text.split()] for text in scores["precisions"]])  # (row, n)
    with np.errstate(divide="ignore"):
        geometric = np.exp(np.log(precisions).mean(axis=1))
    shorter = np.minimum(0, 1 - scores["reference_length"] / scores["translation_length"])
    return float((np.exp(shorter) * geometric - scores["score"]).abs().max())


def reversed_layers(layers: int = 7) -> list[int]:
    """The layers whose two checkpoints an unstable sort by layer leaves in reverse, on this machine.

    The released code puts the layers 0, 1, ... of a checkpoint over those of a later one, sorts by layer, and
    subtracts neighbours. Only a stable sort keeps the earlier checkpoint first. The default one is not stable: up to 16
    rows numpy once sorted by insertion, which is; on processors with wide registers current versions do not.

    Returns
    -------
    list of int
        Empty where the default sort happens to keep the order.
    """
    check_count("layers", layers, "reversed_layers")
    rows = pd.DataFrame({"layer": np.tile(np.arange(layers), 2), "checkpoint": np.repeat([0, 1], layers)})
    ordered = rows.sort_values("layer", kind="quicksort")  # the default of pandas
    first = ordered.groupby("layer")["checkpoint"].first()
    return [int(layer) for layer in first.index[first != 0]]


def agreement_over_training(agreement: pd.DataFrame) -> pd.DataFrame:
    """The released agreement of two seeds, token by token, as means over stretches of `AGREEMENT_WINDOW` steps.

    Returns
    -------
    DataFrame
        One row a layer, indicator, term and until (the last step of the stretch): rho_tokens, the mean over its
        checkpoints. Layer 0, where most of it is missing, is left out.
    """
    kept = agreement[agreement["layer"] > 0]
    until = (-(-kept["checkpoint"] // AGREEMENT_WINDOW) * AGREEMENT_WINDOW).rename("until")
    groups = kept.groupby(["layer", "indicator", "term", until])["rho_tokens"]
    return groups.mean().reset_index()

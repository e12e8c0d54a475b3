"""Three smaller things: BLEU from its parts, what an unstable sort does, and how far two seeds agree over training."""

from __future__ import annotations

import numpy as np
import pandas as pd

from addends.errors import InputError

WINDOW = 50_000


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
    if layers < 1:
        raise InputError(f"layers={layers}: 1 or more are needed.")
    rows = pd.DataFrame({"layer": np.tile(np.arange(layers), 2), "checkpoint": np.repeat([0, 1], layers)})
    ordered = rows.sort_values("layer", kind="quicksort")  # the default of pandas
    first = ordered.groupby("layer")["checkpoint"].first()
    return [int(layer) for layer in first.index[first != 0]]


def agreement_over_training(agreement: pd.DataFrame, window: int = WINDOW) -> pd.DataFrame:
    """The released agreement of two seeds, token by token, as means over stretches of training.

    Returns
    -------
    DataFrame
        One row a layer, indicator, term and until (the last step of the stretch): rho, the mean over its checkpoints.
        Layer 0, where most of it is missing, is left out.
    """
    kept = agreement[agreement["layer"] > 0]
    until = (-(-kept["checkpoint"] // window) * window).rename("until")
    groups = kept.groupby(["layer", "indicator", "term", until])["rho"]
    return groups.mean().reset_index()

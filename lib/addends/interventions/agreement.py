"""Does what the decomposition says of a part tell what the part does? Over the tokens of one model.

Both differ between frequent and rare pieces, and between the beginning and the end of a sentence. What these give by
themselves is found by a control: values are permuted over tokens of one class, of like frequency and at like places.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from addends.checks import check_count, require_columns
from addends.errors import InputError
from addends.interventions.intervene import BESIDE
from addends.interventions.spaces import permuted_within

PLACES = (1, 3, 6)  # the first token; the second and third; the next three; the rest
FREQUENCIES = 4
_QUESTION = ["effect", "replace", "by", "layer", "term"]


def classes_of(frame: pd.DataFrame, counts: Mapping[int, int]) -> np.ndarray:
    """The class of each row: in which quarter of the tokens, by how often the label's piece occurs, and at which place.

    >>> tokens = pd.DataFrame({"label": [5, 5, 9, 9], "position": [0, 4, 0, 4]})
    >>> classes_of(tokens, {5: 100, 9: 1}).tolist()
    [8, 10, 4, 6]

    Parameters
    ----------
    frame : DataFrame
        label, position: a frame of `token_effects`.
    counts : mapping of int to int
        How often each piece occurs in some corpus; pieces that it lacks occur 0 times.

    Returns
    -------
    ndarray of int, of shape (row,)
        4 * the quarter (0 the rarest; of equal counts, that of their middle) + the place: 0 for the first token, 1 for
        the next two, 2 for the next three, 3 for all later ones. Pieces of one count are never split.

    Raises
    ------
    InputError
        If a column is missing.
    """
    require_columns(frame, ["label", "position"], "classes_of")
    frequency = frame["label"].map(counts).fillna(0).to_numpy()
    middle = stats.rankdata(frequency) / (len(frequency) + 1)  # ties get the rank in their middle
    quarter = np.minimum((middle * FREQUENCIES).astype(int), FREQUENCIES - 1)
    return quarter * (len(PLACES) + 1) + np.searchsorted(PLACES, frame["position"].to_numpy(), side="right")


def token_agreement(frame: pd.DataFrame, classes: np.ndarray, draws: int = 20, seed: int = 0) -> pd.DataFrame:
    """Rank correlation over tokens of what is said of a part with what its replacement costs.

    ::

        rho      = Spearman(said, -logprob)
        permuted = mean over draws of Spearman(said permuted within classes, -logprob)

    What the indicator tells beyond the classes is rho - permuted.

    Parameters
    ----------
    frame : DataFrame
        Frames of `token_effects`, joined: rows of one model.
    classes : ndarray of int, of shape (row,)
        `classes_of` the rows.
    draws, seed : int
        How many permutations to average over, and their seed.

    Returns
    -------
    DataFrame
        effect, replace, by, layer, term, said ("share", "importance", "cosine", "norm_ratio"), rho, permuted, tokens.
        Missing where a part is zero, or either side does not vary.

    Raises
    ------
    InputError
        If a column is missing, or there is not one class a row.
    """
    check_count("draws", draws, "token_agreement")
    require_columns(frame, [*_QUESTION, "logprob", *BESIDE], "token_agreement")
    if len(classes) != len(frame):
        raise InputError(f"token_agreement: {len(classes)} classes for {len(frame)} rows: one a row is wanted.")
    generator, rows = np.random.default_rng(seed), []
    whole = frame.reset_index(drop=True).assign(class_=classes)
    for question, part in whole.groupby(_QUESTION, dropna=False, sort=False, observed=True):
        codes = part["class_"].to_numpy()
        orders = [permuted_within(codes, generator) for _ in range(draws)]
        for said in BESIDE:
            usable = part[said].notna().all() and np.ptp(part[said]) > 0 and np.ptp(part["logprob"]) > 0
            found = {"rho": np.nan, "permuted": np.nan}
            if usable:
                x, y = stats.rankdata(part[said]), stats.rankdata(-part["logprob"])
                x, y = ((each - each.mean()) / each.std() for each in (x, y))
                found["rho"] = float(x @ y / len(x))
                found["permuted"] = float(np.mean([x[order] @ y for order in orders]) / len(x))
            rows.append(dict(zip(_QUESTION, question, strict=True)) | {"said": said, **found, "tokens": len(part)})
    result = pd.DataFrame(rows, columns=[*_QUESTION, "said", "rho", "permuted", "tokens"])
    return result.astype({"layer": "Int64"})

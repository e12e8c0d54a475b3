"""Copies of the evidence in which something does not hold any more: runs permuted, sentences permuted, signs flipped.

A sentence that would also be asserted of such copies says nothing of the data.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from addends.checks import check_choice
from addends.findings.evidence import CELL, INDICATOR, Evidence


def distorted(evidence: Evidence, distortion: str, seed: int = 0) -> Evidence:
    """The evidence with runs permuted, sentences permuted, or signs flipped.

    Parameters
    ----------
    evidence : Evidence
    distortion : str
        One of `DISTORTIONS`.
    seed : int

    Raises
    ------
    InputError
        If there is no such distortion.
    """
    check_choice("distortion", distortion, tuple(DISTORTIONS), "distorted")
    return DISTORTIONS[distortion](evidence, np.random.default_rng(seed))


def permute_runs(evidence: Evidence, generator: np.random.Generator) -> Evidence:
    """Whose number is whose is drawn anew, in every part by itself: quality, start and course are another run's."""
    return evidence.with_frames(
        paths=_shuffled(evidence.paths, INDICATOR, [*CELL, "checkpoint"], generator),
        plateau=_shuffled(evidence.plateau, INDICATOR, [*CELL, "checkpoint", "sentence"], generator),
        cells=_shuffled(evidence.cells, INDICATOR, [*CELL, "sentence"], generator),
        effects=_shuffled(evidence.effects, "logprob", ["sentence"], generator),
        agreement=_shuffled(evidence.agreement, "rho", ["said"], generator),
        pairs=_shuffled(evidence.pairs, "cka", ["suite", "layer"], generator),
    )


def permute_sentences(evidence: Evidence, generator: np.random.Generator) -> Evidence:
    """Which sentence a number is of is drawn anew, in every run by itself."""
    return evidence.with_frames(
        plateau=_shuffled(evidence.plateau, INDICATOR, [*CELL, "checkpoint", "run"], generator),
        cells=_shuffled(evidence.cells, INDICATOR, [*CELL, "run"], generator),
        effects=_shuffled(evidence.effects, "logprob", ["run"], generator),
    )


def flip_signs(evidence: Evidence, generator: np.random.Generator) -> Evidence:
    """Every correlation, effect and indicator is its opposite; a similarity, which has no sign, is taken from 1."""
    released = {
        name: frame.assign(**{column: -frame[column] for column in frame if column.startswith("rho")})
        for name, frame in evidence.released.items()
    }
    facts = released["facts"]
    return evidence.with_frames(
        paths=evidence.paths.assign(**{INDICATOR: -evidence.paths[INDICATOR]}),
        effects=evidence.effects.assign(logprob=-evidence.effects["logprob"]),
        agreement=evidence.agreement.assign(rho=-evidence.agreement["rho"], permuted=-evidence.agreement["permuted"]),
        pairs=evidence.pairs.assign(cka=1 - evidence.pairs["cka"]),
        released=released | {"facts": facts.assign(value=-facts["value"])},
    )


DISTORTIONS: dict[str, Callable[[Evidence, np.random.Generator], Evidence]] = {
    "runs permuted": permute_runs,
    "sentences permuted": permute_sentences,
    "signs flipped": flip_signs,
}


def _shuffled(frame: pd.DataFrame, column: str, within: list[str], generator: np.random.Generator) -> pd.DataFrame:
    """The frame with the values of a column in another order, within each group."""
    order = np.lexsort((generator.random(len(frame)), frame.groupby(within, observed=True, dropna=False).ngroup()))
    places = np.argsort(frame.groupby(within, observed=True, dropna=False).ngroup().to_numpy(), kind="stable")
    values = frame[column].to_numpy().copy()
    values[places] = frame[column].to_numpy()[order]
    return frame.assign(**{column: values})

"""The released distances between runs by dynamic time warping, and what a permutation of runs says on them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from addends.replication.coefficients import POOLED, as_released, is_russian
from addends.replication.relabelling import same_against_cross
from addends.replication.trajectories import between_runs
from addends.tables import INDICATORS

SETTINGS = {"method": "warping", "scale": "own", "normalisation": "sum", "grid": "common"}
GROUP = ["by", "layer", "term"]
VERSIONS = {"own": "first", "mixed": "final"}
"""Which targets each released version rests on."""


def distances(trajectories: pd.DataFrame, targets: str, *, progress: bool = False) -> pd.DataFrame:
    """The distances of every two runs, with the settings of the released ones.

    Parameters
    ----------
    trajectories : DataFrame
        That table, with both targets.
    targets : {"own", "mixed"}
        "own": every run decomposes its own output, as in the released version "first". "mixed": the Russian runs
        decompose the references and the others their own output, as in "final".

    Returns
    -------
    DataFrame
        As `trajectories.between_runs`: one row a by, layer, term, quantity and pair of runs.
    """
    chosen = as_released(trajectories) if targets == "mixed" else trajectories[trajectories["target"] == "own"]
    return between_runs(chosen, list(INDICATORS), GROUP, **SETTINGS, progress=progress)


def compared(found: pd.DataFrame, released: pd.DataFrame, targets: str) -> pd.DataFrame:
    """Each group's largest relative gap to the released distances, and its test of same against cross.

    Returns
    -------
    DataFrame
        One row a by, layer, term and indicator: targets; pairs and pairs_released, how many of the distances are
        defined (0 where that version was not released for the method); gap, the largest of |d / released - 1| over
        those that are in both; same and cross (mean distances), p and floor of
        `relabelling.same_against_cross`, the Russian runs being of one condition and every other of its own.
    """
    version = released[released["version"] == VERSIONS[targets]].rename(columns={"indicator": "quantity"})
    key = [*GROUP, "quantity", "pair"]
    sides = [frame.assign(pair=_pair(frame))[[*key, "distance"]] for frame in (found, version)]
    both = sides[0].merge(sides[1], on=key, how="left", suffixes=("", "_released"), validate="1:1")
    both["gap"] = (both["distance"] / both["distance_released"] - 1).abs()
    counted = {"pairs": ("distance", "count"), "pairs_released": ("distance_released", "count"), "gap": ("gap", "max")}
    gaps = both.groupby([*GROUP, "quantity"]).agg(**counted).reset_index()
    runs = pd.Series(sorted({*found["run"], *found["other"]}))
    conditions = dict(zip(runs, np.where(is_russian(runs), POOLED, runs), strict=True))
    tests = same_against_cross(found, conditions, by=[*GROUP, "quantity"])
    result = gaps.merge(tests, on=[*GROUP, "quantity"], validate="1:1").assign(targets=targets)
    result = result.rename(columns={"quantity": "indicator"})
    return result[["targets", *GROUP, "indicator", "pairs", "pairs_released", "gap", "same", "cross", "p", "floor"]]


def normalized_gap(found: pd.DataFrame, released: pd.DataFrame) -> float:
    """The largest difference of the released "normalized" distances, of all layers, from those of layer 6 alone.

    With d the distances of layer 6, over all terms and pairs of an indicator: (d - mean) / sd.
    """
    key = ["by", "term", "quantity", "pair"]
    last = found[found["layer"] == 6].assign(pair=lambda frame: _pair(frame))
    groups = last.groupby(["by", "quantity"])["distance"]
    last["z"] = (last["distance"] - groups.transform("mean")) / groups.transform("std")
    version = released[(released["version"] == "normalized") & (released["layer"] > 0)]
    version = version.rename(columns={"indicator": "quantity"}).assign(pair=_pair(version))
    both = last[[*key, "z"]].merge(version[[*key, "distance"]], on=key)
    return float((both["z"] - both["distance"]).abs().max())


def _pair(frame: pd.DataFrame) -> list[str]:
    return [" ".join(sorted(pair)) for pair in zip(frame["run"], frame["other"], strict=True)]

"""The released distances between runs, by dynamic time warping of their curves, and a permutation test on them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from addends.checks import keyed_numbers, listed, names_of, optional_module, require_distinct, rounding_of
from addends.errors import InputError
from addends.replication.relabelling import same_against_cross
from addends.replication.released import EXTRA, POOLED, is_russian, on_released_targets
from addends.replication.series import is_constant
from addends.tables import INDICATORS

GROUP = ["by", "layer", "term"]
VERSIONS = {"own": "first", "mixed": "final"}
"""Which targets each released version rests on."""

FEWEST_CHECKPOINTS = 2


def between_runs(
    frame: pd.DataFrame, values: str | Sequence[str], by: str | Sequence[str] = GROUP, *, progress: bool = False
) -> pd.DataFrame:
    """The distance by dynamic time warping between the curves of every two runs over their checkpoints, in each group.

    With z_a(t) the value of run a at its t-th checkpoint, less the curve's own mean, over its own standard deviation
    (with n - 1)::

        d = the least sum of |z_a(s) - z_b(t)| over paths of (s, t) from (first, first) to (last, last) that go on by
            one checkpoint in s, in t, or in both

    Warping forgives that one run gets somewhere earlier than another. Scaling forgives level and size: a curve that
    hardly moves is blown up to the size of one that does. So the distance compares shapes alone. It is symmetric, and
    counts checkpoints alike, however many steps lie between them. Curves are compared at the checkpoints that all runs
    have; mean and deviation count all checkpoints of a run.

    Parameters
    ----------
    frame : DataFrame
        One row a "run", group and "checkpoint": a table of trajectories.
    values : sequence of str
        The columns whose curves are compared.
    by : sequence of str
        The columns that name a group of comparable curves; "run" is not among them.
    progress : bool
        Show a progress bar; two curves of 600 checkpoints warp in some 10 ms.

    Returns
    -------
    DataFrame
        One row a group, column and pair of runs: ``by``, quantity (the column's name), run, other, distance,
        checkpoints (that all runs have), left_out (further checkpoints of ``run`` and ``other``), note. A distance is
        missing, and ``note`` says why, where a value of either curve is missing or a curve is constant.

    Raises
    ------
    InputError
        If a column is unknown, a value infinite, a name missing, a run, group and checkpoint stand twice; if there is
        one run, a run lacks a group, or fewer than 2 checkpoints are common.
    ImportError
        If dtaidistance is not installed.

    References
    ----------
    Sakoe and Chiba (1978), Dynamic programming algorithm optimization for spoken word recognition, IEEE Transactions on
    Acoustics, Speech, and Signal Processing 26, 43-49. Meert and others, dtaidistance.
    """
    where = "between_runs"
    dtw = optional_module("dtaidistance.dtw", EXTRA, "Dynamic time warping")
    by, values = names_of(by, "by", where), names_of(values, "values", where)
    columns, steps, common = _checked(frame, values, by, where)
    runs = frame["run"].to_numpy()
    groups = frame.groupby(by, sort=True, observed=True).indices if by else {(): np.arange(len(frame))}
    rows = []
    cases = [(group, places, name) for group, places in groups.items() for name in values]
    for group, places, name in tqdm(cases, disable=not progress, unit="group"):
        names = dict(zip(by, group if isinstance(group, tuple) else (group,), strict=True)) | {"quantity": name}
        places = places[np.argsort(steps[places], kind="stable")]
        rounding, curves, notes, left_out = rounding_of(frame[name]), {}, {}, {}
        for run in sorted(pd.unique(runs[places])):
            own = places[runs[places] == run]
            shared = np.isin(steps[own], common)
            scaled, notes[run] = _standardised(columns[name][own], rounding)
            curves[run], left_out[run] = scaled[shared], int((~shared).sum())
        for run, other in combinations(curves, 2):
            note = "; ".join(f"{each}: {notes[each]}" for each in (run, other) if notes[each])
            # dtaidistance calls the absolute difference "euclidean"; by default it takes a root of a sum of squares.
            options = {"inner_dist": "euclidean", "use_c": True}
            distance = np.nan if note else float(dtw.distance(curves[run], curves[other], **options))
            about = {"checkpoints": len(common), "left_out": left_out[run] + left_out[other], "note": note}
            rows.append(names | {"run": run, "other": other, "distance": distance} | about)
    return pd.DataFrame(rows)


def distances(trajectories: pd.DataFrame, targets: str, *, progress: bool = False) -> pd.DataFrame:
    """The distances of every two runs, as `between_runs` gives them: the settings are those of the released ones.

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
        As `between_runs`: one row a by, layer, term, quantity and pair of runs.
    """
    chosen = on_released_targets(trajectories) if targets == "mixed" else trajectories[trajectories["target"] == "own"]
    return between_runs(chosen, INDICATORS, progress=progress)


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


def _standardised(curve: np.ndarray, rounding: float) -> tuple[np.ndarray, str]:
    """A curve less its mean, over its standard deviation; and why it has no distances, empty where it has."""
    if np.isnan(curve).any():
        return curve, f"missing at {int(np.isnan(curve).sum())} checkpoint(s)"
    if is_constant(curve, rounding):
        return curve, "constant, so that there is no standard deviation to divide by"
    return (curve - curve.mean()) / curve.std(ddof=1), ""


def _checked(
    frame: pd.DataFrame, values: list[str], by: list[str], where: str
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The columns of numbers, the steps, and the steps that all runs have."""
    key = ["run", *by, "checkpoint"]
    require_distinct([*key, *values, "quantity"], where, "by, values, 'run', 'checkpoint' and 'quantity'")
    columns = keyed_numbers(frame, key, values, where, steps=["checkpoint"])
    runs = sorted(frame["run"].unique())
    if len(runs) < 2:
        raise InputError(f"{where}: the table has the run(s) {listed(runs)}; two or more are needed for a distance.")
    grids = frame.groupby([*by, "run"], observed=True)["checkpoint"].agg(frozenset)
    if len(grids) < len(runs) * (len(frame[by].drop_duplicates()) if by else 1):
        raise InputError(f"{where}: some run lacks a group of by={by} that another has; compare like with like.")
    common = frozenset.intersection(*grids)
    if len(common) < FEWEST_CHECKPOINTS:
        raise InputError(f"{where}: the curves have {len(common)} checkpoint(s) in common; 2 or more are needed.")
    return columns, columns["checkpoint"], np.sort(np.array(list(common), dtype=float))

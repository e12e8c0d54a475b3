"""How far apart are the curves of two runs, point by point or after warping time?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from dtaidistance import dtw
from tqdm.auto import tqdm

from addends.checks import listed, numbers, rounding_of
from addends.errors import InputError
from addends.replication.series import checked, is_constant

METHODS = ("pointwise", "warping")
SCALES = ("none", "own", "group")
GRIDS = ("same", "common")
NORMALISATIONS = ("sum", "mean")
FEWEST_CHECKPOINTS = 2


def between_runs(
    data: pd.DataFrame,
    values: str | Sequence[str],
    by: str | Sequence[str] = ("layer", "term"),
    *,
    method: str = "pointwise",
    scale: str = "group",
    normalisation: str = "mean",
    window: int | None = None,
    grid: str = "same",
    progress: bool = False,
) -> pd.DataFrame:
    """Distances between the curves of every two runs over their checkpoints, in each group.

    With z_a(t) the value of run a at step t, after scaling, at the n steps of the grid::

        pointwise  d = sum over t of |z_a(t) - z_b(t)|
        warping    d = the least sum of |z_a(s) - z_b(t)| over paths of (s, t) from (first, first) to (last, last) that
                   go on by one checkpoint in s, in t, or in both; at most ``window`` - 1 checkpoints off the diagonal

    Warping forgives that one run gets somewhere earlier than another and tells apart shapes only; with ``window`` = 1
    it is pointwise. It can never exceed the pointwise distance. Both are symmetric; both count checkpoints alike,
    however many steps lie between them.

    Parameters
    ----------
    data : DataFrame
        One row a "run", group and "checkpoint": a table of trajectories.
    values : sequence of str
        The columns whose curves are compared.
    by : sequence of str
        The columns that name a group of comparable curves; "run" is not among them.
    method : {"pointwise", "warping"}
        Which distance.
    scale : {"none", "own", "group"}
        "none" keeps the units. "group" divides by the standard deviation of the group's values, all runs and
        checkpoints together, and so keeps differences in level between runs. "own" takes each curve's own mean off and
        divides by its own standard deviation: a curve that hardly moves is blown up to the size of one that does. Both
        deviations have n - 1 and count all checkpoints that a run has, also those that the grid leaves out.
    normalisation : {"sum", "mean"}
        "mean" divides the sum by the number of checkpoints of the grid (for warping too, not by the path's length).
    window : int, optional
        Warping's band (Sakoe and Chiba), in checkpoints. None: no band.
    grid : {"same", "common"}
        "same" refuses runs with different checkpoints. "common" keeps the checkpoints that all runs of the table have;
        the result counts those left out.
    progress : bool
        Show a progress bar; two curves of 600 checkpoints warp in some 10 ms.

    Returns
    -------
    DataFrame
        One row a group, column and pair of runs: ``by``, quantity (the column's name), run, other, distance, method,
        scale, normalisation, window, checkpoints (of the grid), left_out (checkpoints of ``run`` and ``other`` off the
        grid), note. A distance is missing, and ``note`` says why, where a value of either curve is missing or a curve
        that is to be scaled is constant.

    Raises
    ------
    InputError
        If a column is unknown, a value infinite, a name missing, a run, group and checkpoint stand twice; if there is
        one run; if checkpoints differ under grid="same", or fewer than 2 are common; or an argument is not allowed.

    References
    ----------
    Sakoe and Chiba (1978), Dynamic programming algorithm optimization for spoken word recognition, IEEE Transactions on
    Acoustics, Speech, and Signal Processing 26, 43-49. Meert and others, dtaidistance. The distances that Mickus and
    Vázquez (2023) released are method="warping", scale="own", normalisation="sum", grid="common", window=None; they fed
    the Russian runs the references and the other runs their own output.
    """
    where = "between_runs"
    by, values = ([names] if isinstance(names, str) else list(names) for names in (by, values))
    _check(method, scale, normalisation, window, grid, where)
    columns, steps, kept = _checked(data, values, by, grid, where)
    runs = data["run"].to_numpy()
    groups = data.groupby(by, sort=True, observed=True).indices if by else {(): np.arange(len(data))}
    rows = []
    cases = [(group, places, name) for group, places in groups.items() for name in values]
    for group, places, name in tqdm(cases, disable=not progress, unit="group"):
        names = dict(zip(by, group if isinstance(group, tuple) else (group,), strict=True)) | {"quantity": name}
        places = places[np.argsort(steps[places], kind="stable")]
        column = columns[name][places]
        of_run = {run: (runs[places] == run, steps[places]) for run in pd.unique(runs[places])}
        curves, notes, left_out = {}, {}, {}
        for run, (own, all_steps) in sorted(of_run.items()):
            on_grid = np.isin(all_steps[own], kept)
            scaled, notes[run] = _scaled(column[own], column, scale, rounding_of(data[name]))
            curves[run], left_out[run] = scaled[on_grid], int((~on_grid).sum())
        for run, other in combinations(curves, 2):
            note = "; ".join(f"{each}: {notes[each]}" for each in (run, other) if notes[each])
            distance = np.nan if note else _distance(curves[run], curves[other], method, window)
            distance /= len(kept) if normalisation == "mean" else 1
            about = {"method": method, "scale": scale, "normalisation": normalisation, "window": window}
            about |= {"checkpoints": len(kept), "left_out": left_out[run] + left_out[other], "note": note}
            rows.append(names | {"run": run, "other": other, "distance": distance} | about)
    return pd.DataFrame(rows).astype({"window": "Int64"})


def _distance(one: np.ndarray, two: np.ndarray, method: str, window: int | None) -> float:
    if method == "pointwise":
        return float(np.abs(one - two).sum())
    # dtaidistance calls the absolute difference "euclidean"; its default is the squared one, and a root of the sum.
    one, two = (np.ascontiguousarray(curve).copy() for curve in (one, two))
    return float(dtw.distance(one, two, window=window, inner_dist="euclidean", use_c=True))


def _scaled(curve: np.ndarray, group: np.ndarray, scale: str, rounding: float) -> tuple[np.ndarray, str]:
    """A curve after scaling, and why its distances are undefined (empty if they are not)."""
    if np.isnan(curve).any():
        return curve, f"missing at {int(np.isnan(curve).sum())} checkpoint(s)"
    reference = {"none": None, "own": curve, "group": group[~np.isnan(group)]}[scale]
    if reference is None:
        return curve, ""
    if is_constant(reference, rounding):
        return curve, "constant, so that there is no standard deviation to divide by"
    centre = curve.mean() if scale == "own" else 0.0
    return (curve - centre) / reference.std(ddof=1), ""


def _checked(
    data: pd.DataFrame, values: list[str], by: list[str], grid: str, where: str
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The columns of numbers, the steps, and the steps of the grid."""
    key = ["run", *by, "checkpoint"]
    if not values or {"run", "quantity"} & {*by} or len({*key, *values}) < len(key) + len(values):
        raise InputError(f"{where}: by={by} and values={values} must be different columns, without 'run'.")
    columns = checked(data, key, values, where)
    steps = numbers(data, "checkpoint", where)
    runs = sorted(data["run"].unique())
    if len(runs) < 2:
        raise InputError(f"{where}: the table has the run(s) {listed(runs)}; two or more are needed for a distance.")
    grids = data.groupby([*by, "run"], observed=True)["checkpoint"].agg(frozenset)
    if len(grids) < len(runs) * (len(data[by].drop_duplicates()) if by else 1):
        raise InputError(f"{where}: some run lacks a group of by={by} that another has; compare like with like.")
    common = frozenset.intersection(*grids)
    odd = grids[grids.map(len) > len(common)]
    if grid == "same" and len(odd):
        longest = grids.map(len).max()
        raise InputError(
            f"{where}: the curves do not have the same checkpoints: {len(common)} are common to all, up to {longest} "
            f"in one; more than these have {listed(odd.index, 3)}. Pass grid='common' to keep the common ones."
        )
    if len(common) < FEWEST_CHECKPOINTS:
        raise InputError(f"{where}: the curves have {len(common)} checkpoint(s) in common; 2 or more are needed.")
    return columns, steps, np.sort(np.array(list(common), dtype=float))


def _check(method: str, scale: str, normalisation: str, window: int | None, grid: str, where: str) -> None:
    allowed = {"method": METHODS, "scale": SCALES, "normalisation": NORMALISATIONS, "grid": GRIDS}
    given = {"method": method, "scale": scale, "normalisation": normalisation, "grid": grid}
    for name, value in given.items():
        if value not in allowed[name]:
            raise InputError(f"{where}: {name}={value!r} is not one of {allowed[name]}.")
    if window is not None and (isinstance(window, bool) or not isinstance(window, (int, np.integer)) or window < 1):
        raise InputError(f"{where}: window={window!r} is not a whole number of checkpoints, 1 or more, or None.")
    if window is not None and method == "pointwise":
        raise InputError(f"{where}: window={window!r} needs method='warping'; pointwise distances have no band.")

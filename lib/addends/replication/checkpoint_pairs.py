"""Does a change of an indicator go with a change of quality, over every pair of a run's checkpoints?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from addends.errors import InputError
from addends.replication.series import Series, aligned, is_constant, unit
from addends.statistics.correlation import mid_ranks, partial
from addends.tables import INDICATORS

COEFFICIENTS = ("rho_pairs", "rho_late", "rho_short_lag", "rho_late_short_lag", "rho_differences", "rho_given_lag")


COUNTED = ("", "_late", "_short_lag", "_late_short_lag")


def correlate_pairs(
    frame: pd.DataFrame,
    quality: pd.DataFrame,
    indicators: str | Sequence[str] = INDICATORS,
    by: str | Sequence[str] = ("run", "layer", "term"),
    *,
    longest_lag: float,
    burn_in: float,
    progress: bool = False,
) -> pd.DataFrame:
    """Spearman correlation of the changes of an indicator and of quality over ALL pairs of checkpoints, and detrended.

    With t the step, x the indicator, q the quality, and r the Pearson correlation of mid-ranks over pairs i < j in
    order of t::

        dx = x_j - x_i,  dq = q_j - q_i,  dt = t_j - t_i

        rho_pairs           r(dx, dq) over all n (n - 1) / 2 pairs
        rho_late            the same over pairs with both steps at or after the burn-in
        rho_short_lag       the same over pairs with dt <= longest_lag
        rho_late_short_lag  the same over pairs with both properties
        rho_differences     the same over neighbours, j = i + 1
        rho_given_lag       (r(dx, dq) - r(dx, dt) r(dq, dt)) / sqrt((1 - r(dx, dt)^2) (1 - r(dq, dt)^2)), all pairs

    ``rho_pairs`` is what Mickus and Vázquez (2023) estimate. Their code draws 1,000 of the pairs ten times, without a
    seed, and reports the mean and the standard deviation of the ten, which says how well 1,000 pairs stand for all
    pairs of that one training. With all pairs nothing is left to sample, and no such deviation exists. They standardise
    x as (mean - x) / sd, so that their coefficients have the opposite sign. A pair is taken in order of time, as there,
    and not in both orders, which would make both distributions symmetric and the coefficient another one.

    Most pairs lie far apart, and over a training nearly everything grows or shrinks, so ``rho_pairs`` mostly says that
    both curves have a trend; it is therefore never returned alone. The other five take the trend out, each in its way:
    pairs close in time, pairs after the steep part, neighbours, or all pairs given how far they are apart.

    There are no p-values: n checkpoints make n (n - 1) / 2 pairs, and neither are independent observations. Only the
    spread of a coefficient over runs carries over to other trainings.

    Parameters
    ----------
    frame : DataFrame
        One row a group and "checkpoint", in any order: a table of trajectories.
    quality : DataFrame
        One row a "run", "checkpoint" and "metric", with the "score".
    indicators : sequence of str
        Columns of ``frame``.
    by : sequence of str
        The columns whose values name a group, "run" among them.
    longest_lag, burn_in : float
        In steps, as the column "checkpoint" counts them.
    progress : bool
        Show a progress bar; 200,000 pairs a series take some 50 ms.

    Returns
    -------
    DataFrame
        One row a group, indicator and metric: these names; the six coefficients; how many pairs ``rho_pairs``,
        ``rho_late``, ``rho_short_lag`` and ``rho_late_short_lag`` rest on (pairs, pairs_late, ...); longest_lag,
        burn_in; checkpoints (how many were used), missing (how many lack one of the two numbers) and note. A
        coefficient that is undefined is missing, never 0, and ``note`` says why.

    Raises
    ------
    InputError
        As `series.aligned` does, or if ``longest_lag`` or ``burn_in`` is no number that leaves pairs in some series.

    References
    ----------
    Mickus and Vázquez (2023), section 4. Spearman (1904). Kendall (1942), Partial rank correlation.
    """
    where = "correlate_pairs"
    check_lags(longest_lag, burn_in, where)
    rows, ranks = [], _Ranks(longest_lag, burn_in)
    for series in tqdm(aligned(frame, quality, indicators, by, where), disable=not progress, unit="series"):
        rows.append({**series.names, **ranks.row(series)})
    result = pd.DataFrame(rows)
    arguments = {"pairs_late": f"burn_in={burn_in!r}", "pairs_short_lag": f"longest_lag={longest_lag!r}"}
    for column, argument in arguments.items():
        if result["checkpoints"].any() and not result[column].any():
            raise InputError(
                f"{where}: {argument} leaves no pair in any series. The steps go from {frame['checkpoint'].min()} to "
                f"{frame['checkpoint'].max()}, neighbours are {_nearest(frame)} apart or more; both count steps."
            )
    return result


def check_lags(longest_lag: float, burn_in: float, where: str) -> None:
    """Refuse what is no number of steps."""
    for name, value, least in (("longest_lag", longest_lag, np.finfo(float).tiny), ("burn_in", burn_in, 0)):
        if isinstance(value, bool) or not np.isscalar(value) or isinstance(value, str) or not value >= least:
            allowed = "0 or more" if least == 0 else "more than 0"
            raise InputError(f"{where}: {name}={value!r} is not a number of steps, {allowed}.")


def selections(steps: np.ndarray, longest_lag: float, burn_in: float) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The pairs (i, j), i < j, that each coefficient rests on: a dict from its name to two arrays of positions."""
    i, j = np.triu_indices(len(steps), 1)
    short, late = steps[j] - steps[i] <= longest_lag, steps[i] >= burn_in
    chosen: dict[str, slice | np.ndarray] = {
        "rho_pairs": slice(None),
        "rho_late": late,
        "rho_short_lag": short,
        "rho_late_short_lag": late & short,
        "rho_differences": j == i + 1,
    }
    return {name: (i[which], j[which]) for name, which in chosen.items()}


class _Ranks:
    """Ranks of differences, each made once: those of a quality serve every indicator of the run, and vice versa."""

    def __init__(self, longest_lag: float, burn_in: float) -> None:
        self.about = {"longest_lag": longest_lag, "burn_in": burn_in}
        self.pairs: dict[bytes, dict] = {}
        self.known: dict[tuple, np.ndarray | None] = {}

    def row(self, series: Series) -> dict:
        grid = series.t.tobytes()
        chosen = _remember(self.pairs, grid, lambda: selections(series.t, **self.about), most=4)
        row = dict.fromkeys(COEFFICIENTS, np.nan)
        row |= {f"pairs{suffix}": len(chosen[f"rho{suffix or '_pairs'}"][0]) for suffix in COUNTED}
        row |= self.about | {"checkpoints": len(series.t), "missing": series.missing}
        sides = {"indicator": (series.x, series.x_rounding), "metric": (series.q, series.q_rounding)}
        notes = [f"{series.names[side]} is constant" for side, values in sides.items() if is_constant(*values)]
        if not len(series.t):
            notes = [f"{series.names['indicator']} is missing throughout"]
        if notes:
            return {**row, "note": "; ".join(notes)}

        def ranks(name: str, values: np.ndarray, rounding: float) -> np.ndarray | None:
            i, j = chosen[name]
            key = name, grid, values.tobytes()
            return _remember(self.known, key, lambda: change_ranks(i, j, values, rounding), most=60)

        for name in chosen:
            x, q = (ranks(name, *values) for values in sides.values())
            if x is None or q is None:
                notes.append(f"{name}: fewer than 3 pairs, or all changes are the same")
            else:
                row[name] = float(np.clip(x @ q, -1, 1))
        t, x, q = (ranks("rho_pairs", *values) for values in ((series.t, 0.0), *sides.values()))
        if t is not None and x is not None and q is not None:
            row["rho_given_lag"] = partial(x @ q, x @ t, q @ t)
            if np.isnan(row["rho_given_lag"]):
                notes.append("rho_given_lag: one of the two changes with the distance in steps alone")
        return {**row, "note": "; ".join(notes)}


def change_ranks(i: np.ndarray, j: np.ndarray, values: np.ndarray, rounding: float) -> np.ndarray | None:
    """Mid-ranks of the changes from i to j, centred and of length 1, of shape (pair,); None where there is no order."""
    change = values[j] - values[i]
    if len(change) < 3 or np.ptp(change) <= 2 * rounding * np.abs(values).max():
        return None
    return unit(mid_ranks(change, values))


def _remember(known: dict, key: object, make: Callable[[], Any], most: int) -> Any:
    """What ``make`` returns, kept under ``key``; of more than ``most`` the oldest is forgotten."""
    if key not in known:
        known[key] = make()
        if len(known) > most:
            del known[next(iter(known))]
    return known[key]


def _nearest(frame: pd.DataFrame) -> float:
    return float(np.diff(np.unique(frame["checkpoint"].to_numpy(dtype=float))).min(initial=np.inf))

"""The released correlations over pairs of checkpoints: of single terms, of the sum over terms, pooled over runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats
from tqdm.auto import tqdm

from addends.checks import listed
from addends.errors import InputError
from addends.replication.pairs import COEFFICIENTS, over_pairs
from addends.replication.series import aligned, is_constant
from addends.tables import INDICATORS

KEY = ["target", "by", "run", "layer", "term", "indicator", "metric"]
ALL_TERMS = "L1"
POOLED = "rus-eng"
FIRST_TERM = {"sublayer": "I", "token": "S"}
"""The term whose columns the released pooling mistakes those of the sum over terms for."""

SAMPLES = 10
"""How many samples of pairs a released mean and std are those of."""

LIMIT = float(stats.t.ppf(0.975, SAMPLES - 1))
"""Beyond this size, 2.26, lie 5 % of the mean of ten draws less what it estimates, in its standard errors."""

LONGEST_LAG = 5_000
BURN_IN = 100_000


def is_russian(run: pd.Series) -> pd.Series:
    """Whether a run is one of those that differ in their seeds alone."""
    return run.str.startswith(f"{POOLED}-")


def as_released(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that the released analyses rest on: references for the Russian runs, own output for the others."""
    return frame[frame["target"] == np.where(is_russian(frame["run"]), "reference", "own")]


def single(
    trajectories: pd.DataFrame,
    quality: pd.DataFrame,
    released: pd.DataFrame,
    *,
    longest_lag: float = LONGEST_LAG,
    burn_in: float = BURN_IN,
    progress: bool = False,
) -> pd.DataFrame:
    """The correlations of single terms in single runs, by `pairs.over_pairs`.

    How far the released ones are from these says `replays.standing`. Their sign is turned, for the released code
    standardises with (mean - x) / sd.

    Parameters
    ----------
    trajectories, quality : DataFrame
        Those tables, of any targets, methods, layers and runs.
    released : DataFrame
        What `published.correlations` returns.
    longest_lag, burn_in, progress
        As in `pairs.over_pairs`.

    Returns
    -------
    DataFrame
        One row a target, by, run, layer, term, indicator and metric: the six coefficients.

    Raises
    ------
    InputError
        As `pairs.over_pairs` does, or if a series has no released coefficient.
    """
    by = [name for name in KEY if name not in ("indicator", "metric")]
    found = over_pairs(
        trajectories, quality, INDICATORS, by, longest_lag=longest_lag, burn_in=burn_in, progress=progress
    )
    return beside(found, released, "checkpoint", KEY[1:])[[*KEY, *COEFFICIENTS]]


def summed(
    trajectories: pd.DataFrame, quality: pd.DataFrame, released: pd.DataFrame, *, progress: bool = False
) -> pd.DataFrame:
    """The correlations of changes summed over terms, as released, and with both sides unsigned.

    With z_k the indicator of term k, standardised over the checkpoints of the run, and pairs i < j in order of time::

        signed    r(sum over k of |z_kj - z_ki|,  q_j - q_i)
        unsigned  r(sum over k of |z_kj - z_ki|, |q_j - q_i|)

    ``signed`` is what was released. It sets a size against a change that has a direction: with the checkpoints taken
    from last to first it changes its sign, and nothing else. ``unsigned`` does not depend on any order.

    Returns
    -------
    DataFrame
        One row a target, by, run, layer, indicator and metric: signed, unsigned.
    """
    names = [name for name in KEY if name != "term"]
    by = [name for name in KEY if name not in ("indicator", "metric")]
    groups: dict[tuple, list] = {}
    for series in aligned(trajectories, quality, INDICATORS, by, "summed"):
        if len(series.t) and not is_constant(series.x, series.x_rounding):
            groups.setdefault(tuple(series.names[name] for name in names), []).append(series)
    ranked, rows = {}, []
    for group, terms in tqdm(groups.items(), disable=not progress, unit="sum"):
        t, q = terms[0].t, terms[0].q
        i, j = np.triu_indices(len(t), 1)
        z = np.array([(series.x - series.x.mean()) / series.x.std(ddof=1) for series in terms])  # (term, checkpoint)
        size = _unit(np.abs(z[:, j] - z[:, i]).sum(axis=0))
        key = t.tobytes() + q.tobytes()
        if key not in ranked:
            ranked = {key: (_unit(q[j] - q[i]), _unit(np.abs(q[j] - q[i])))} | dict(list(ranked.items())[:3])
        signed, unsigned = (float(size @ change) for change in ranked[key])
        rows.append({**dict(zip(names, group, strict=True)), "signed": signed, "unsigned": unsigned})
    both = beside(pd.DataFrame(rows).assign(term=ALL_TERMS), released, "checkpoint", KEY[1:])
    return both[[*names, "signed", "unsigned"]]


def pooled(coefficients: pd.DataFrame, released: pd.DataFrame) -> pd.DataFrame:
    """The correlations pooled over the three Russian runs: their mean, and what was released in its place.

    With c_rk the coefficient of term k in run r, in the form in which it was released, and s_r that of the sum over
    terms::

        alone      mean over r of c_rk
        as_pooled  the same;  but for the first term, the mean over r of (c_rk + s_r) / 2

    The released code gathers the columns of a term by the first letters of their names: those of "ISTFC_L1norm" begin
    with I, those of "STC_L1norm" with S.

    Parameters
    ----------
    coefficients : DataFrame
        One row a level, by, run, layer, term ("L1": the sum over terms), indicator and metric: as_released, our
        coefficient in the released form, at checkpoint level with the sign turned. Other runs are left out.

    Returns
    -------
    DataFrame
        One row a level, by, layer, term, indicator and metric: alone; as_pooled; sd_runs (over the three runs); and
        gap, the released pooled mean less the one that the released means of the runs give in the same way. Nothing is
        sampled between these, so that it is zero but for rounding.

    Raises
    ------
    InputError
        If no Russian run is there, or a row has no released coefficient.
    """
    rows = coefficients[is_russian(coefficients["run"])]
    if not len(rows):
        raise InputError(f"pooled: no run is named {POOLED}-...; the runs are {listed(coefficients['run'].unique())}.")
    names = ["level", "by", "layer", "term", "indicator", "metric"]
    result = _over_runs(rows, names, "as_released")
    theirs = _over_runs(released[is_russian(released["run"])], names, "mean")[[*names, "as_pooled"]]
    result = result.merge(theirs.rename(columns={"as_pooled": "theirs"}), on=names, how="left", validate="one_to_one")
    levels = [
        beside(part.assign(run=POOLED), released, str(level), [*names[1:], "run"])
        for level, part in result.groupby("level")
    ]
    both = pd.concat(levels, ignore_index=True)
    both["gap"] = both["mean"] - both["theirs"]
    return both[[*names, "alone", "as_pooled", "sd_runs", "gap"]]


def _over_runs(rows: pd.DataFrame, names: list[str], value: str) -> pd.DataFrame:
    """The mean over runs of each term, the one that is pooled in its place, and the deviation over runs."""
    result = rows.groupby(names)[value].agg(alone="mean", sd_runs="std").reset_index()
    across = [name for name in names if name != "term"]
    of_sum = result.loc[result["term"] == ALL_TERMS, [*across, "alone"]].rename(columns={"alone": "of_sum"})
    result = result.merge(of_sum, on=across, how="left", validate="many_to_one")
    first = result["term"] == result["by"].map(FIRST_TERM)
    result["as_pooled"] = np.where(first, (result["of_sum"] + result["alone"]) / 2, result["alone"])
    return result


def beside(found: pd.DataFrame, released: pd.DataFrame, level: str, key: list[str]) -> pd.DataFrame:
    """``found`` with the released mean and std of each row.

    Raises
    ------
    InputError
        If some row has none.
    """
    chosen = released.loc[released["level"] == level, [*key, "mean", "std"]]
    both = found.merge(chosen, on=key, how="left", validate="many_to_one")
    lacking = both["mean"].isna() | both["std"].isna()
    if lacking.any():
        cases = both.loc[lacking, key].itertuples(index=False, name=None)
        raise InputError(
            f"No released coefficient at {level} level stands beside {lacking.sum()} of {len(both)} series, "
            f"{tuple(key)} = {listed(cases, 3)}. Keep layers above 0, and the runs and terms that were released."
        )
    return both


def _unit(values: np.ndarray) -> np.ndarray:
    """Mid-ranks, centred and of length 1."""
    ranks = stats.rankdata(values)
    ranks -= ranks.mean()
    return ranks / np.linalg.norm(ranks)

"""The released correlations over pairs of checkpoints: by term, summed over terms, pooled; and their "stdv".

All are derived from the released trajectories. A derived correlation is that of all pairs of checkpoints; a released
one is the mean of ten samples of these pairs.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from addends.checks import listed
from addends.errors import InputError
from addends.replication.checkpoint_pairs import COEFFICIENTS, correlate_pairs
from addends.replication.released import ALL_TERMS, PAIRS, POOLED, SAMPLES, TERMS, is_russian
from addends.replication.released_analyses import beside
from addends.replication.series import aligned, is_constant, unit_ranks
from addends.tables import INDICATORS

KEY = ["target", "by", "run", "layer", "term", "indicator", "metric"]
FIRST_TERM = {by: terms[0] for by, terms in TERMS.items()}
"""The first term of each method: the released pooling averages the columns of the sum over terms into its columns."""

SERIES = [name for name in KEY if name not in ("indicator", "metric")]
LONGEST_LAG = 5_000
BURN_IN = 100_000


def by_term(
    trajectories: pd.DataFrame,
    quality: pd.DataFrame,
    released: pd.DataFrame,
    *,
    longest_lag: float = LONGEST_LAG,
    burn_in: float = BURN_IN,
    progress: bool = False,
) -> pd.DataFrame:
    """The correlations of single terms in single runs, by `checkpoint_pairs.correlate_pairs`.

    `replays.standing` says how far the released ones are from these. The released ones have the opposite sign, for the
    released code standardises with (mean - x) / sd.

    Parameters
    ----------
    trajectories, quality : DataFrame
        Those tables, of any targets, methods, layers and runs.
    released : DataFrame
        What `released_analyses.correlations` returns.
    longest_lag, burn_in, progress
        As in `correlate_pairs`.

    Returns
    -------
    DataFrame
        One row a target, by, run, layer, term, indicator and metric: the six coefficients.

    Raises
    ------
    InputError
        As `correlate_pairs` does, or if a series has no released coefficient.
    """
    found = correlate_pairs(
        trajectories, quality, INDICATORS, SERIES, longest_lag=longest_lag, burn_in=burn_in, progress=progress
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
    groups: dict[tuple, list] = {}
    for series in aligned(trajectories, quality, INDICATORS, SERIES, "summed"):
        if len(series.t) and not is_constant(series.x, series.x_rounding):
            groups.setdefault(tuple(series.names[name] for name in names), []).append(series)
    ranked: dict[bytes, tuple] = {}
    rows = []
    for group, terms in tqdm(groups.items(), disable=not progress, unit="sum"):
        t, q = terms[0].t, terms[0].q
        i, j = np.triu_indices(len(t), 1)
        z = np.array([(series.x - series.x.mean()) / series.x.std(ddof=1) for series in terms])  # (term, checkpoint)
        size = unit_ranks(np.abs(z[:, j] - z[:, i]).sum(axis=0))
        key = t.tobytes() + q.tobytes()
        if key not in ranked:
            ranked = {key: (unit_ranks(q[j] - q[i]), unit_ranks(np.abs(q[j] - q[i])))} | dict(list(ranked.items())[:3])
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


def over_samples(
    trajectories: pd.DataFrame,
    quality: pd.DataFrame,
    released: pd.DataFrame,
    *,
    samples: int = SAMPLES,
    pairs: int = PAIRS,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """The deviation of coefficients over random samples of pairs of one run's checkpoints.

    From each series ``samples`` times ``pairs`` different pairs i < j are drawn; with r_s the correlation of changes in
    sample s::

        sd_samples = sqrt(sum (r_s - mean)^2 / (samples - 1))

    This is how well so many pairs stand for all pairs of one training. It would fall to zero with more pairs, and says
    nothing on other trainings. Every series has draws of its own, which ``seed`` and the series' names fix.

    Returns
    -------
    DataFrame
        One row a target, by, run, layer, term, indicator and metric: sd_samples, and ratio, the released std over it.

    Raises
    ------
    InputError
        If ``samples`` is below 2, or a run has fewer than ``pairs`` pairs.
    """
    if samples < 2 or pairs < 3:
        raise InputError(f"over_samples: samples={samples}, pairs={pairs}: 2 samples of 3 pairs or more are needed.")
    rows = []
    every = aligned(trajectories, quality, INDICATORS, SERIES, "over_samples")
    for series in tqdm(every, disable=not progress, unit="series"):
        i, j = np.triu_indices(len(series.t), 1)
        if len(i) < pairs:
            raise InputError(
                f"over_samples: {series.names} has {len(i)} pairs of checkpoints, fewer than pairs={pairs}."
            )
        generator = generator_of(series.names, seed)
        drawn = np.array([generator.choice(len(i), pairs, replace=False) for _ in range(samples)])  # (sample, pair)
        x, q = (unit_ranks(values[j[drawn]] - values[i[drawn]]) for values in (series.x, series.q))  # (sample, pair)
        rho = (x * q).sum(axis=1)  # (sample,)
        rows.append({**series.names, "sd_samples": rho.std(ddof=1)})
    both = beside(pd.DataFrame(rows), released, "checkpoint", KEY[1:])
    both["ratio"] = both["std"] / both["sd_samples"]
    return both[[*KEY, "sd_samples", "ratio"]]


def generator_of(names: Mapping[str, object], seed: int) -> np.random.Generator:
    """The random numbers of one series or cluster: fixed by its names and ``seed``, whatever is computed beside it."""
    name = " ".join(str(value) for value in names.values())
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _over_runs(rows: pd.DataFrame, names: list[str], value: str) -> pd.DataFrame:
    """The mean over runs of each term, the one that is pooled in its place, and the deviation over runs."""
    result = rows.groupby(names)[value].agg(alone="mean", sd_runs="std").reset_index()
    across = [name for name in names if name != "term"]
    of_sum = result.loc[result["term"] == ALL_TERMS, [*across, "alone"]].rename(columns={"alone": "of_sum"})
    result = result.merge(of_sum, on=across, how="left", validate="many_to_one")
    first = result["term"] == result["by"].map(FIRST_TERM)
    result["as_pooled"] = np.where(first, (result["of_sum"] + result["alone"]) / 2, result["alone"])
    return result

"""What the released "stdv" is: the spread over samples of pairs from one training, made again with a stated seed."""

from __future__ import annotations

import zlib

import numpy as np
import pandas as pd
from scipy import stats
from tqdm.auto import tqdm

from addends.errors import InputError
from addends.replication.coefficients import KEY, SAMPLES, beside
from addends.replication.series import aligned
from addends.tables import INDICATORS

PAIRS = 1_000


def spread(
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
        raise InputError(f"spread: samples={samples}, pairs={pairs}: 2 samples of 3 pairs or more are needed.")
    by = [name for name in KEY if name not in ("indicator", "metric")]
    rows = []
    for series in tqdm(aligned(trajectories, quality, INDICATORS, by, "spread"), disable=not progress, unit="series"):
        i, j = np.triu_indices(len(series.t), 1)
        if len(i) < pairs:
            raise InputError(f"spread: {series.names} has {len(i)} pairs of checkpoints, fewer than pairs={pairs}.")
        # A seed of its own for each series, so that those computed along with it do not matter.
        name = " ".join(str(value) for value in series.names.values())
        generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
        drawn = np.array([generator.choice(len(i), pairs, replace=False) for _ in range(samples)])  # (sample, pair)
        ranks = [stats.rankdata(values[j[drawn]] - values[i[drawn]], axis=1) for values in (series.x, series.q)]
        centred = [rank - rank.mean(axis=1, keepdims=True) for rank in ranks]
        unit = [rank / np.linalg.norm(rank, axis=1, keepdims=True) for rank in centred]
        rho = (unit[0] * unit[1]).sum(axis=1)  # (sample,)
        rows.append({**series.names, "sd_samples": rho.std(ddof=1)})
    both = beside(pd.DataFrame(rows), released, "checkpoint", KEY[1:])
    both["ratio"] = both["std"] / both["sd_samples"]
    return both[[*KEY, "sd_samples", "ratio"]]

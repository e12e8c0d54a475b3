"""The released analyses, read as they are: rank correlations with quality, distances between runs, agreement of two."""

from __future__ import annotations

import pandas as pd

from addends.checks import listed, repeated
from addends.errors import DataError, InputError
from addends.replication.released import (
    ALL_TERMS,
    COUNTED_FROM_ONE,
    INDICATOR_NAMES,
    METHOD_NAMES,
    RUNS,
    SPELLINGS,
    fetch,
    run_of,
)
from addends.tables import METRICS


def correlations() -> pd.DataFrame:
    """The released Spearman correlations of differences in quality with differences in an indicator.

    Columns: level ("checkpoint" or "sentence"), metric, by, run, layer, indicator, term; mean and std, over
    repeated random samples of pairs from one and the same trajectory, not over runs. Do not take them at face value:

    - at checkpoint level the signs are reversed, for the released code standardises with (mean - x) / sd;
    - at checkpoint level the Russian runs seem to decompose the references, the others their own output, whose quality
      it is: with these targets as many coefficients are far from the exact ones as chance puts there, with own output
      throughout several times as many (`addends.replication.replays`);
    - ``run`` "rus-eng" pools the three Russian runs, but its row of the first term (I by sublayer, S by token)
      averages the rows of "L1" in; at sentence level too;
    - ``term`` "L1" sums absolute differences over the terms, while the difference in quality keeps its sign.
    """
    frames = []
    for method, by in METHOD_NAMES.items():
        for metric in METRICS:
            wide = pd.read_csv(fetch(f"results/Spearmancorrelations-{metric}_{method}.csv"))
            frames.append(_correlations(wide).assign(level="checkpoint", metric=metric, by=by))
        wide = pd.read_csv(fetch(f"results/sentence-level/Spearmancorrelations-comet_{method}-exp2.csv"))
        frames.append(_correlations(wide).assign(level="sentence", metric="comet", by=by))
    key = ["level", "metric", "by", "run", "layer", "indicator", "term"]
    return _tidy(pd.concat(frames), key, ["mean", "std"])


def distances() -> pd.DataFrame:
    """The released dynamic-time-warping distances between the trajectories of two runs.

    Columns: version, by, run, other, indicator, term, layer; distance. In layer 0 nearly all is missing but the
    indicator "distance". The three versions, as recomputed from the released trajectories with
    `addends.replication.distances.between_runs` (to seven digits, those of the tables' float32):

    - "first", by sublayer only: warping without a band, summed absolute differences of trajectories standardised each
      by its own mean and standard deviation, up to step 585,000; all runs decompose their own output;
    - "final": the same, but the three Russian runs decompose the references and the other three their own output. A
      distance of a Russian run from another thus holds a difference of target beside that of condition, and no
      distance between two Russian runs does;
    - "normalized": the final distances of layer 6, standardised over all pairs of runs and terms of an indicator, and
      written to all six layers.
    """
    sources = {("first", "sublayer"): ""}
    for method, by in METHOD_NAMES.items():
        sources |= {("final", by): f"-{method}", ("normalized", by): f"-{method}_normalized"}
    order = list(RUNS)
    frames = []
    for (version, by), suffix in sources.items():
        wide = pd.read_csv(fetch(f"results/DTWdistances-res-gen_multilingual{suffix}.csv"))
        spellings = SPELLINGS | (COUNTED_FROM_ONE if version == "first" else {})
        pairs = [
            sorted((run_of(one, spellings), run_of(two, spellings)), key=order.index)
            for one, two in zip(wide["model1"], wide["model2"], strict=True)
        ]
        wide[["run", "other"]] = pairs
        wide["indicator"] = wide["metric"].map(INDICATOR_NAMES)
        wide = wide.rename(columns={"component": "term"} | {f"layer{layer}": layer for layer in range(7)})
        long = wide.melt(["run", "other", "indicator", "term"], range(7), var_name="layer", value_name="distance")
        frames.append(long.astype({"layer": "int64"}).assign(version=version, by=by))
    return _tidy(pd.concat(frames), ["version", "by", "run", "other", "indicator", "term", "layer"], ["distance"])


def agreement() -> pd.DataFrame:
    """The released Spearman correlations, over tokens of the references, of one indicator in two runs.

    Columns: run, other, checkpoint, target, by, layer, indicator, term; rho_tokens and pvalue, both missing where an
    indicator is the same for all tokens (in layer 0; the cosine of I is 1 there up to rounding, and rho_tokens noise).
    The file names the runs s1 and s2. It ends at step 595,000, the last of ``rus-eng-s1``, and ``rus-eng-s0`` has
    fewer, so they are ``rus-eng-s1`` and ``rus-eng-s2``.
    """
    frame = pd.read_csv(fetch("results/corr/no-gen/res-no-gen-correl-s1-s2.csv"))
    frame = frame.rename(columns={"layer_idx": "layer", "func": "indicator", "rho": "rho_tokens", "pval": "pvalue"})
    frame["indicator"] = frame["indicator"].map(INDICATOR_NAMES)
    frame = frame.assign(run="rus-eng-s1", other="rus-eng-s2", target="reference", by="sublayer")
    key = ["run", "other", "checkpoint", "target", "by", "layer", "indicator", "term"]
    return _tidy(frame, key, ["rho_tokens", "pvalue"])


def beside(found: pd.DataFrame, released: pd.DataFrame, level: str, key: list[str]) -> pd.DataFrame:
    """The rows of ``found``, each with the released mean and std of its ``key``, columns mean and std.

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


def _correlations(wide: pd.DataFrame) -> pd.DataFrame:
    """One row for each column pair "TERM RUN mean" and "TERM RUN stdv" of a released file."""
    frames = []
    for column in wide.columns:
        if not column.endswith(" mean"):
            continue
        term, run = column.removesuffix(" mean").split(" ", maxsplit=1)
        frame = pd.DataFrame({"layer": wide["layer_idx"], "indicator": wide["func"].map(INDICATOR_NAMES)})
        frame["mean"], frame["std"] = wide[column], wide[f"{term} {run} stdv"]
        frames.append(frame.assign(run=run_of(run), term=ALL_TERMS if term.endswith("_L1norm") else term))
    return pd.concat(frames)


def _tidy(frame: pd.DataFrame, key: list[str], values: list[str]) -> pd.DataFrame:
    frame = frame[[*key, *values]].sort_values(key, kind="stable").reset_index(drop=True)
    cases = repeated(frame, key)
    if cases:
        raise DataError(f"The released files hold {len(cases)} row(s) twice: {listed(cases, 3)}.")
    return frame

"""A made-up release: two Russian runs and one other, few checkpoints, and "released" analyses made by brute force."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

RUNS = ("rus-eng-s0", "rus-eng-s1", "sla-eng")
TERMS = ("S", "T", "C")
INDICATORS = ("importance", "cosine", "norm_ratio", "distance")
STEPS = np.arange(1, 13) * 1000
STD = 0.02

real = pytest.mark.skipif(
    not (Path(os.environ.get("ADDENDS_DATA") or "/nowhere") / "published").is_dir(),
    reason="ADDENDS_DATA names no folder with published/, the released result files",
)
"""Marks a test of the real release."""


def trajectories(layers=(1, 2)) -> pd.DataFrame:
    generator = np.random.default_rng(1)
    frames = []
    for run, target, layer, term in itertools.product(RUNS, ("own", "reference"), layers, TERMS):
        about = {"run": run, "checkpoint": STEPS, "target": target, "layer": layer, "by": "token", "term": term}
        walks = generator.normal(0.2, 1, (4, len(STEPS))).cumsum(axis=1)
        frames.append(pd.DataFrame(about | dict(zip(INDICATORS, walks, strict=True))))
    return pd.concat(frames, ignore_index=True)


def quality() -> pd.DataFrame:
    generator = np.random.default_rng(2)
    frames = []
    for run, metric in itertools.product(RUNS, ("bleu", "chrf")):
        score = generator.normal(0.3, 1, len(STEPS)).cumsum()
        frames.append(pd.DataFrame({"run": run, "checkpoint": STEPS, "metric": metric, "score": score}))
    return pd.concat(frames, ignore_index=True)


def items(layers=(1, 2)) -> pd.DataFrame:
    """Twelve items a run at three checkpoints, their places in the file in no order of checkpoint or sentence."""
    generator = np.random.default_rng(3)
    frames = []
    for run in RUNS:
        places, comet = generator.permutation(12), np.round(generator.uniform(0.2, 0.9, 12), 4)
        for layer, term in itertools.product(layers, TERMS):
            about = {"run": run, "checkpoint": np.repeat([1000, 2000, 3000], 4), "sentence": list("abcdefghijkl")}
            about |= {"place": places, "comet": comet, "layer": layer, "by": "token", "term": term}
            values = dict(zip(INDICATORS, generator.normal(size=(4, 12)), strict=True))
            frames.append(pd.DataFrame(about | values))
    return pd.concat(frames, ignore_index=True)


def by_pairs(x: np.ndarray, q: np.ndarray, unsigned: bool = False) -> float:
    """The definition, pair by pair: x of shape (n,), or (term, n) to sum the sizes of its changes."""
    dx, dq = [], []
    for i in range(len(q)):
        for j in range(i + 1, len(q)):
            dx.append(x[j] - x[i] if x.ndim == 1 else np.abs(x[:, j] - x[:, i]).sum())
            dq.append(abs(q[j] - q[i]) if unsigned else q[j] - q[i])
    return stats.spearmanr(dx, dq).statistic


def released() -> pd.DataFrame:
    """What the released code makes of it, with its slips: turned signs, mixed targets, a wrongly pooled first term."""
    rows = []
    paths, scores, sentences = trajectories(), quality(), items()
    for (run, layer), group in paths.groupby(["run", "layer"]):
        target = "reference" if run.startswith("rus") else "own"
        group = group[group["target"] == target]
        for indicator, metric in itertools.product(INDICATORS, ("bleu", "chrf")):
            wide = group.pivot(index="checkpoint", columns="term", values=indicator)[list(TERMS)]
            z = ((wide.mean() - wide) / wide.std()).to_numpy().T  # (term, checkpoint), upside down
            q = scores[(scores["run"] == run) & (scores["metric"] == metric)]["score"].to_numpy()
            found = dict(zip(TERMS, (by_pairs(x, q) for x in z), strict=True)) | {"L1": by_pairs(z, q)}
            rows += [("checkpoint", metric, run, layer, indicator, term, rho) for term, rho in found.items()]
    for (run, layer), group in sentences.groupby(["run", "layer"]):
        group = group.sort_values("place")
        q = np.rint(1e4 * group[group["term"] == "S"]["comet"].to_numpy())  # equal changes tie
        for indicator in INDICATORS:
            x = group.pivot(index="place", columns="term", values=indicator)[list(TERMS)].to_numpy().T
            found = dict(zip(TERMS, (by_pairs(each, q) for each in x), strict=True)) | {"L1": by_pairs(x, q)}
            rows += [("sentence", "comet", run, layer, indicator, term, rho) for term, rho in found.items()]
    frame = pd.DataFrame(rows, columns=["level", "metric", "run", "layer", "indicator", "term", "mean"])
    pooled = frame[frame["run"].str.startswith("rus")]
    names = ["level", "metric", "layer", "indicator"]
    alone = pooled.groupby([*names, "term"])["mean"].mean().reset_index()
    first = pooled[pooled["term"].isin(["S", "L1"])].groupby(names)["mean"].mean().reset_index()
    alone = pd.concat([alone[alone["term"] != "S"], first.assign(term="S")])
    return pd.concat([frame, alone.assign(run="rus-eng")], ignore_index=True).assign(by="token", std=STD)

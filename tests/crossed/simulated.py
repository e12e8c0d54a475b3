"""Tables for the tests of mixed models, and the likelihood written out again, by the full covariance matrix."""

import numpy as np
import pandas as pd
from scipy import linalg, stats


def simulate(runs=6, sentences=20, sds=(0.8, 1.0, 0.7), seed=0, repeats=1, slope=0.0, interaction=0.0):
    """A full crossing; SDs of run, sentence, residual; of the slope by run; of the interaction."""
    generator = np.random.default_rng(seed)
    grid = np.meshgrid(range(runs), range(sentences), range(repeats), indexing="ij")
    run, sentence, repeat = (part.ravel() for part in grid)
    x = generator.normal(10, 2, len(run))
    y = 3 + 0.2 * x + generator.normal(0, sds[0], runs)[run] + generator.normal(0, sds[1], sentences)[sentence]
    y += generator.normal(0, sds[2], len(run))
    y += generator.normal(0, slope, runs)[run] * (x - 10) if slope else 0
    y += generator.normal(0, interaction, (runs, sentences))[run, sentence] if interaction else 0
    columns = {"run": [f"r{n}" for n in run], "sentence": [f"s{n:03}" for n in sentence], "repeat": repeat}
    return pd.DataFrame(columns | {"x": x, "y": y})


def crossing(runs, sentences, sds=(0.5, 1.0, 0.7), replicates=1, seed=0, interaction=0.0):
    """A balanced crossing with known SDs of run, sentence and residual (and of the interaction)."""
    generator = np.random.default_rng(seed)
    run, sentence, repetition = (
        part.ravel() for part in np.meshgrid(range(runs), range(sentences), range(replicates), indexing="ij")
    )
    outcome = (
        5
        + generator.normal(0, sds[0], runs)[run]
        + generator.normal(0, sds[1], sentences)[sentence]
        + generator.normal(0, interaction, (runs, sentences))[run, sentence]
        + generator.normal(0, sds[2], len(run))
    )
    return pd.DataFrame({"run": run, "sentence": sentence, "checkpoint": repetition, "y": outcome})


def variances(fit):
    return fit.vcomp[fit.vcomp["term2"].isna()].set_index("group")["variance"]


def dense_covariance(vcomp, data):
    """V of the rows of ``data`` from a table of components: each adds covariance * z z2' between rows of one level."""
    v = np.zeros((len(data), len(data)))
    for row in vcomp.itertuples():
        if row.group == "Residual":
            v += row.variance * np.eye(len(data))
            continue
        keys = data[row.group.split(":")].astype(str).agg("\n".join, axis=1).to_numpy()
        together = keys[:, None] == keys
        first, second = (
            np.ones(len(data)) if name == "Intercept" else data[name].to_numpy()
            for name in (row.term, row.term if isinstance(row.term2, float) else row.term2)
        )
        part = row.variance * together * np.outer(first, second)
        v += part if isinstance(row.term2, float) else part + part.T
    return v


def dense_likelihood(vcomp, data, x, reml):
    """The log-likelihood at given components; restricted by error contrasts, with lme4's constant."""
    y, v = data["y"].to_numpy(), dense_covariance(vcomp, data)
    if reml:
        contrasts = linalg.null_space(x.T)
        value = stats.multivariate_normal(cov=contrasts.T @ v @ contrasts).logpdf(contrasts.T @ y)
        return value - np.linalg.slogdet(x.T @ x)[1] / 2  # lme4's criterion leaves this constant out
    beta = np.linalg.solve(x.T @ np.linalg.solve(v, x), x.T @ np.linalg.solve(v, y))
    return stats.multivariate_normal(x @ beta, v).logpdf(y)


def factorial(starts, courses, sentences, sds, replicates=1, seed=0):
    """A factorial with known SDs of start, course, start:course, sentence, these by sentence, and the residual."""
    generator = np.random.default_rng(seed)
    shape = (starts, courses, sentences)
    values = np.full((*shape, replicates), 5.0)
    axes = ((0,), (1,), (0, 1), (2,), (0, 2), (1, 2), (0, 1, 2))
    for sd, own in zip(sds, axes, strict=False):
        sizes = [shape[axis] if axis in own else 1 for axis in range(3)]
        values += generator.normal(0, sd, (*sizes, 1))
    values += generator.normal(0, sds[7], values.shape)
    index = pd.MultiIndex.from_product(
        [range(size) for size in values.shape], names=["init_seed", "order_seed", "sentence", "checkpoint"]
    )
    return pd.DataFrame({"y": values.ravel()}, index=index).reset_index()

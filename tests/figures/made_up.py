"""Small tables for the interactive pictures, made up from seeds."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd

SOURCES = {"Il pleut.": ("Il", "pleut", ".", "</s>"), "Elle </script> dort": ("Elle", "<b>", "dort")}
TARGETS = {"Il pleut.": ("It", "rains", "."), "Elle </script> dort": ("She", "sleeps", ".", "&", "</s>")}


def shares_and_tokens(layers: int = 3, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Shares of two sentences by both methods, which sum to one, and what their tokens are."""
    random = np.random.default_rng(seed)
    shares, tokens = [], []
    for sentence, source in SOURCES.items():
        target = TARGETS[sentence]
        terms = {
            "sublayer": list("ISTFC"),
            "token": [f"S{k}" for k in range(len(source))] + [f"T{k}" for k in range(len(target))] + ["C"],
        }
        for by, layer, position in product(terms, range(layers), range(len(target))):
            values = random.normal(1, 1, len(terms[by]))
            later = [term[0] == "T" and term[1:] != "" and int(term[1:]) > position for term in terms[by]]
            values[later] = 0
            values += (~np.array(later)) * (1 - values.sum()) / np.sum(~np.array(later))
            shares += [(by, sentence, layer, term, position, one) for term, one in zip(terms[by], values, strict=True)]
        for side, of_side in (("source", source), ("read", ("(start)", *target[:-1])), ("predicted", target)):
            tokens += [(sentence, side, place, token) for place, token in enumerate(of_side)]
    return (
        pd.DataFrame(shares, columns=["by", "sentence", "layer", "term", "position", "importance"]),
        pd.DataFrame(tokens, columns=["sentence", "side", "place", "token"]),
    )


def crossing(runs: int, sentences: int, seed: int, sds: tuple[float, float, float] = (0.5, 2.0, 1.0)) -> pd.DataFrame:
    """One value for each run and sentence: run, sentence, value."""
    random = np.random.default_rng(seed)
    run, sentence, rest = (
        random.normal(0, sd, size) for sd, size in zip(sds, (runs, sentences, (runs, sentences)), strict=True)
    )
    values = 3 + run[:, None] + sentence[None, :] + rest
    rows = [(f"r{r}", f"s{s:03}", values[r, s]) for r in range(runs) for s in range(sentences)]
    return pd.DataFrame(rows, columns=["run", "sentence", "value"])


def measured(runs: int = 5, sentences: int = 12) -> pd.DataFrame:
    """Values of two methods, two layers and their terms."""
    keys = [("sublayer", "S"), ("sublayer", "C"), ("token", "S"), ("token", "T")]
    return pd.concat(
        crossing(runs, sentences, seed=10 * layer + k).assign(by=by, layer=layer, term=term)
        for layer in (1, 2)
        for k, (by, term) in enumerate(keys)
    ).rename(columns={"value": "importance"})


def trained(runs: int = 6, steps: int = 15, seed: int = 0) -> pd.DataFrame:
    """Indicators and quality over checkpoints: with ties, a missing value, a constant series and a rising one."""
    random = np.random.default_rng(seed)
    at = np.arange(1, steps + 1) * 25
    frames = []
    for run in range(runs):
        quality = np.round(np.sort(random.uniform(0, 40, steps)) + random.normal(0, 3, steps), 1)
        for layer, term in product((1, 2), "SC"):
            series = np.cumsum(random.normal(0.02, 0.05, steps))
            if (layer, term) == (1, "C"):
                series = np.round(series, 2)  # equal values, equal differences
            if (layer, term, run) == (2, "C", 0):
                series = np.full(steps, 0.25)
            if (layer, term, run) == (2, "C", 1):
                series = np.sort(series)
            if (layer, term, run) == (2, "C", 2):
                series[3] = np.nan
            names = {"run": f"r{run}", "by": "sublayer", "layer": layer, "term": term}
            frames.append(pd.DataFrame({**names, "checkpoint": at, "cosine": series, "chrf": quality}))
    return pd.concat(frames, ignore_index=True).astype({"cosine": "float32"})

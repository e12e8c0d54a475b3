"""The tables that the findings rest on, read once: what is needed of them, and no more."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from addends import replication, tables
from addends.errors import DataError
from addends.statistics import read_claims, roles_of_runs
from addends.statistics.claims import Claims

INDICATOR = "importance"
CELL = ["by", "layer", "term"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Frames of the runs on real text, of those on a made-up language, and of the released tables.

    >>> evidence = read_evidence("data", "book/claims.yaml")
    >>> evidence.paths["run"].nunique() >= 17, sorted(evidence.pairs["suite"].unique())
    (True, ['european', 'toy_factorial'])

    Attributes
    ----------
    claims : Claims
        `read_claims` of the file that was committed before the runs were there.
    runs : DataFrame
        run, suite, block, init_seed, order_seed, role.
    paths : DataFrame
        run, checkpoint, by, layer, term, importance, chrf: corpus means of the independent runs at every checkpoint.
    plateau : DataFrame
        run, checkpoint, sentence, by, layer, term, importance: the independent runs at their last three checkpoints.
    cells : DataFrame
        run, init_seed, order_seed, sentence, by, layer, term, importance: the factorial's runs at the last checkpoint.
    agreement : DataFrame
        run, block, init_seed, term, said, rho, permuted: over tokens, of the total effect in all layers.
    effects : DataFrame
        run, block, sentence, term, logprob: of the same replacements.
    pairs : DataFrame
        suite, a, b, layer, rows, cka, kl: of states, at the last checkpoint.
    released : dict of DataFrame
        `replication.read` of what was derived from the released tables.
    """

    claims: Claims
    runs: pd.DataFrame
    paths: pd.DataFrame
    plateau: pd.DataFrame
    cells: pd.DataFrame
    agreement: pd.DataFrame
    effects: pd.DataFrame
    pairs: pd.DataFrame
    released: dict[str, pd.DataFrame]

    def with_frames(self, **frames: Any) -> Evidence:
        """A copy in which some frames are others."""
        return replace(self, **frames)


def read_evidence(
    data: str | os.PathLike, claims: str | os.PathLike, real: str = "european", made_up: str = "toy_factorial"
) -> Evidence:
    """Read what the findings rest on from a folder of tables.

    Parameters
    ----------
    data : path
        Holds the folders of the two suites, and ``published_results``.
    claims : path
        The file of the claims.
    real, made_up : str
        The suite on real text, and the factorial on a made-up language.

    Raises
    ------
    DataError
        If a table is missing or not valid, or there are no independent runs.
    """
    data = Path(data)
    runs = pd.concat([_runs(data / suite) for suite in (real, made_up)], ignore_index=True)
    here = runs[runs["suite"] == real]
    alone = here.loc[here["block"] == "independent", "run"].tolist()
    inside = here[here["role"] == "factorial"]
    if not alone:
        raise DataError(f"{data / real} has no independent runs: the findings rest on them.")
    last = int(tables.read_suite(data / real, "runs")["steps"].max())
    blocks = here[["run", "block", "init_seed"]]
    total = [("effect", "==", "total"), ("replace", "==", "mean")]
    agreement = tables.read_suite(data / real, "token_agreement", filters=total)
    effects = tables.read_suite(data / real, "interventions", filters=total)
    return Evidence(
        claims=read_claims(claims),
        runs=runs,
        paths=_paths(data / real, alone),
        plateau=_cells(data / real, alone, last, 3),
        cells=_cells(data / real, inside["run"].tolist(), last, 1).merge(inside[["run", "init_seed", "order_seed"]]),
        agreement=agreement[agreement["layer"].isna()].merge(blocks, on="run"),
        effects=effects[effects["layer"].isna()].merge(blocks, on="run"),
        pairs=pd.concat([_pairs(data / suite).assign(suite=suite) for suite in (real, made_up)], ignore_index=True),
        released=replication.read(data / "published_results"),
    )


def _runs(folder: Path) -> pd.DataFrame:
    """The runs of a suite, and what each of a factorial is there for; missing where there is none."""
    runs = tables.read_suite(folder, "runs")
    inside = runs[runs["block"] == "factorial"]
    roles = roles_of_runs(inside)[["run", "role"]] if len(inside) else inside[["run"]].assign(role="")
    columns = ["run", "suite", "block", "init_seed", "order_seed"]
    return runs[columns].merge(roles, on="run", how="left")


def _paths(folder: Path, names: list[str]) -> pd.DataFrame:
    of_corpus = tables.read_suite(
        folder, "trajectories", names, filters=[("target", "==", "reference"), ("layer", ">", 0)]
    )
    quality = tables.read_suite(folder, "quality", names)
    chrf = quality[(quality["metric"] == "chrf") & (quality["set"] == "held_out")]
    chrf = chrf[["run", "checkpoint", "score"]].rename(columns={"score": "chrf"})
    return of_corpus[["run", "checkpoint", *CELL, INDICATOR]].merge(chrf, on=["run", "checkpoint"])


def _cells(folder: Path, names: list[str], last: int, count: int) -> pd.DataFrame:
    """Importance of every part in every sentence, at so many last checkpoints."""
    columns = ["run", "checkpoint", "sentence", *CELL, INDICATOR]
    reference = [("target", "==", "reference"), ("layer", ">", 0)]
    at = tables.read_suite(folder, "measurements", names[:1], ["checkpoint"], filters=reference)["checkpoint"]
    steps = sorted(at.unique())[-count:] if count > 1 else [last]
    return tables.read_suite(
        folder,
        "measurements",
        names,
        columns,
        filters=[*reference, ("checkpoint", "in", [int(step) for step in steps])],
    )


def _pairs(folder: Path) -> pd.DataFrame:
    last = int(tables.read_suite(folder, "runs")["steps"].max())
    pairs = tables.read_suite(folder, "run_pairs", filters=[("by", "==", "state"), ("checkpoint", "==", last)])
    return pairs[["a", "b", "layer", "rows", "cka", "kl"]]

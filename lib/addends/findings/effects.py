"""Each claim's effects, with intervals over runs, and the verdict that the claims file's rule gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pandas as pd
from scipy import stats

import crossed
from addends.checks import check_count
from addends.findings.evidence import CELL, INDICATOR, Evidence
from addends.statistics import (
    apart_from_itself,
    detectable_mean,
    excess_over_others,
    mean_over_runs,
    verdict,
)
from addends.statistics.claims import Claim

NOT_YET = "its runs, or their weights, are not there yet"
OF_RUNS = [
    "init_seed",
    "order_seed",
    "init_seed:order_seed",
    "init_seed:sentence",
    "order_seed:sentence",
    "init_seed:order_seed:sentence + residual",
]
LEVELS = {"rho_levels": "levels", "rho_differences": "changes", "rho_given_step": "given the step"}


def board(evidence: Evidence, draws: int = 9_999, seed: int = 0) -> pd.DataFrame:
    """Claims by analyses: each effect in the claimed direction, its interval, what it rests on, and the verdict.

    Parameters
    ----------
    evidence : Evidence
    draws, seed : int
        Of permutations and of generalised intervals.

    Returns
    -------
    DataFrame
        claim, analysis, primary (whether the claims file names it), causal (whether a part was replaced), estimate,
        lower, upper, unit; runs, sentences; smallest (effect of interest), detectable (what a design like this would
        have found four times in five); verdict; note. An effect whose runs are not there is missing, and its verdict is
        "not decided yet".

    Raises
    ------
    InputError
        As the statistics that it calls.
    """
    check_count("draws", draws, "board", least=1_000)
    rows = []
    for name, claim in evidence.claims.claims.items():
        for effect in EFFECTS[name](evidence, draws, seed):
            smallest = claim.smallest_effect
            said = "not decided yet"
            if pd.notna(effect["estimate"]):
                said = verdict(effect["lower"], effect["estimate"], effect["upper"], smallest)
            rows.append({"claim": name} | effect | {"unit": claim.unit, "smallest": smallest, "verdict": said})
    columns = ["claim", "analysis", "primary", "causal", "estimate", "lower", "upper", "unit", "runs", "sentences"]
    columns += ["smallest", "detectable", "verdict", "note"]
    return pd.DataFrame(rows)[columns].astype({"runs": "Int64", "sentences": "Int64"})


def answers(effects: pd.DataFrame, claims: Mapping[str, Claim]) -> list[str]:
    """One line a claim, in Markdown: the claim, the verdict of its primary cell, the effect with its interval, and n.

    Where the primary cell's runs are not there, the line says so, and gives what other runs say.

    Parameters
    ----------
    effects : DataFrame
        As `board` gives it.
    claims : mapping of str to Claim
        ``read_claims(...).claims``.
    """
    lines = []
    for name, rows in effects.groupby("claim", sort=False):
        primary = rows[rows["primary"]].iloc[0]
        others = rows[~rows["primary"]].dropna(subset=["estimate"])
        head = f"**{name}. {claims[str(name)].claim.rstrip('.')}:"
        if pd.notna(primary["estimate"]):
            lines.append(f"{head} {primary['verdict']}.** {_numbers(primary)}")
        elif len(others):
            lines.append(f"{head} not decided yet,** {primary['note']}. {_numbers(others.iloc[0])}")
        else:
            lines.append(f"{head} not decided yet,** {primary['note']}.")
    return lines


def _numbers(row: pd.Series) -> str:
    counts = f"{row['runs']} runs" + ("" if pd.isna(row["sentences"]) else f", {row['sentences']} sentences")
    said = f"{row['analysis'][0].upper()}{row['analysis'][1:]}: {row['estimate']:.2f}"
    said += f" ({row['lower']:.2f} to {row['upper']:.2f}; {counts})."
    if row["lower"] <= 0 <= row["upper"] and pd.notna(row["detectable"]):
        said += f" An effect of {row['detectable']:.2f} would have been found four times in five."
    return said


def _effect(analysis: str, found: pd.Series, sentences: int, primary: bool = False, causal: bool = False) -> dict:
    """A row of the board, from estimate, lower, upper, df and runs."""
    critical = stats.t.ppf((1 + 0.95) / 2, found["df"])
    sd = (found["upper"] - found["lower"]) / 2 / critical * np.sqrt(found["df"] + 1)
    return {
        "analysis": analysis,
        "primary": primary,
        "causal": causal,
        **{name: float(found[name]) for name in ("estimate", "lower", "upper")},
        "runs": int(found["runs"]),
        "sentences": sentences,
        "detectable": detectable_mean(int(found["df"]) + 1, float(sd)) if sd > 0 else np.nan,
        "note": "",
    }


def _missing(analysis: str, causal: bool = False) -> dict:
    nothing = dict.fromkeys(("estimate", "lower", "upper", "detectable"), np.nan)
    counts = {"runs": pd.NA, "sentences": pd.NA}
    return {"analysis": analysis, "primary": True, "causal": causal, **nothing, **counts, "note": NOT_YET}


def primary_paths(evidence: Evidence) -> pd.DataFrame:
    """The rows of ``evidence.paths`` that are of the cell that decides claim A."""
    primary, paths = evidence.claims.claims["A"].primary, evidence.paths
    here = (paths["by"] == primary.method) & (paths["term"] == primary.term) & (paths["layer"] == primary.layer)
    return paths[here]


def quality(evidence: Evidence, draws: int, seed: int) -> Iterator[dict]:
    """Claim A: does an indicator move with its own run's quality more than with that of other runs?"""
    term, paths = evidence.claims.claims["A"].primary.term, primary_paths(evidence)
    sentences = evidence.plateau["sentence"].nunique()
    for coefficient in ("rho_differences", "rho_levels", "rho_given_step"):
        found = excess_over_others(paths, INDICATOR, "chrf", CELL, coefficient, draws=draws, seed=seed).iloc[0]
        names = {"excess": "estimate", "excess_lower": "lower", "excess_upper": "upper"}
        row = found.rename(names)
        row["df"] = row["runs"] - 1
        yield _effect(
            f"{LEVELS[coefficient]} of {term} with chrF, own run less other runs",
            row,
            sentences,
            primary=coefficient == "rho_differences",
        )


def model_or_sentence(evidence: Evidence, draws: int, seed: int) -> Iterator[dict]:
    """Claim B: is what belongs to runs a larger share of the variance than what belongs to sentences?"""
    primary = evidence.claims.claims["B"].primary
    cells = evidence.cells
    here = cells[(cells["by"] == primary.method) & (cells["term"] == primary.term)].astype({INDICATOR: float})
    if here.empty:
        yield _missing("share of runs less share of sentences")
        return
    of_layers = crossed.factorial_contrast(here, INDICATOR, OF_RUNS, ["sentence"], by="layer", draws=draws, seed=seed)
    for layer in sorted(here["layer"].unique(), reverse=True):
        found = of_layers[of_layers["layer"] == layer].iloc[0]
        yield {
            "analysis": f"{primary.term}, layer {layer}: share of runs less share of sentences",
            "primary": bool(layer == primary.layer),
            "causal": False,
            **{name: float(found[name]) for name in ("estimate", "lower", "upper")},
            "runs": here["run"].nunique(),
            "sentences": here["sentence"].nunique(),
            "detectable": np.nan,
            "note": "",
        }


def spaces(evidence: Evidence, draws: int, seed: int) -> Iterator[dict]:
    """Claim C: are two runs further apart than one run and its own checkpoint before?"""
    primary = evidence.claims.claims["C"].primary
    sentences = evidence.plateau["sentence"].nunique()
    known = evidence.pairs[(evidence.pairs["rows"] == "within types") & evidence.pairs["cka"].notna()]
    real, made_up = evidence.pairs["suite"].unique()
    yield from _apart(evidence, known[known["suite"] == real], real, primary.layer, sentences)
    of_suite = known[known["suite"] == made_up]
    for row in _apart(evidence, of_suite, made_up, int(of_suite["layer"].max()), None):
        yield row | {"primary": False, "analysis": f"a made-up language: {row['analysis']}"}


def _apart(evidence: Evidence, pairs: pd.DataFrame, suite: str, layer: int, sentences: int | None) -> Iterator[dict]:
    roles = evidence.runs[evidence.runs["suite"] == suite]
    compared = set(pairs["a"]) | set(pairs["b"])
    roles = roles[roles["run"].isin(compared) & roles["role"].notna()]
    analysis = f"runs that share their course, layer {layer}, CKA"
    inside = roles[roles["role"] == "factorial"]
    starts, courses = inside["init_seed"].nunique(), inside["order_seed"].nunique()
    if starts < 3 or courses < 2 or len(inside) != starts * courses:
        yield _missing(analysis)
        return
    columns = ["run", "init_seed", "order_seed", "role"]
    found = apart_from_itself(pairs[pairs["layer"] == layer], "cka", roles[columns])
    row = found[found["shares"] == "course"].iloc[0].rename({"apart": "estimate"})
    row["df"], row["runs"] = row["starts"] - 1, len(inside)
    yield _effect(analysis, row, pd.NA if sentences is None else sentences, primary=True)


def what_parts_do(evidence: Evidence, draws: int, seed: int) -> Iterator[dict]:
    """Claim D: has a part of larger importance a larger total effect, beyond frequency and position?"""
    primary = evidence.claims.claims["D"].primary
    agreement = evidence.agreement[evidence.agreement["said"] == primary.indicator].dropna(subset=["rho"])
    agreement = agreement.assign(beyond=agreement["rho"].astype(float) - agreement["permuted"].astype(float))
    sentences = evidence.effects["sentence"].nunique()
    crossed_runs = agreement[(agreement["block"] == primary.block) & (agreement["term"] == primary.term)]
    analysis = f"importance of {primary.term} with the loss without it, beyond the control"
    if crossed_runs["init_seed"].nunique() < 3:
        yield _missing(analysis, causal=True)
    else:
        found = mean_over_runs(crossed_runs, "beyond", run="init_seed").iloc[0].copy()
        found["df"], found["runs"] = found["runs"] - 1, len(crossed_runs)
        yield _effect(analysis, found, sentences, primary=True, causal=True)
    alone = agreement[agreement["block"] == "independent"]
    for term in ("S", "T", "F"):
        found = mean_over_runs(alone[alone["term"] == term], "beyond").iloc[0].copy()
        found["df"] = found["runs"] - 1
        said = f"runs that share nothing: importance of {term} with the loss without it"
        yield _effect(said, found, sentences, causal=True)


EFFECTS: dict[str, Callable[[Evidence, int, int], Iterator[dict]]] = {
    "A": quality,
    "B": model_or_sentence,
    "C": spaces,
    "D": what_parts_do,
}

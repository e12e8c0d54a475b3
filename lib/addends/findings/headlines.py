"""The sentences that the first page opens with: each computes its numbers, and is asserted whenever the book is built.

A headline is a function of the evidence that gives its numbers. What is asserted of them stands beside it, in the same
words as the sentence: a direction, an interval, a rank or a count. When the data no longer say it, the build fails and
names the sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

import crossed
from addends.errors import DataError
from addends.findings.effects import model_or_sentence, primary_paths, spaces, what_parts_do
from addends.findings.evidence import CELL, INDICATOR, Evidence
from addends.statistics import excess_over_others, mean_over_pairs, mean_over_runs, similarity_by_kind

Numbers = dict[str, float]


@dataclass(frozen=True)
class Headline:
    """A sentence, the numbers in it, and what is asserted of them.

    >>> HEADLINES["B2"].claim, HEADLINES["B2"].asserted
    ('B', 'last_wins == cells and first_wins <= cells / 4')

    Attributes
    ----------
    name : str
        Such as "A1".
    claim : str
        Of the paper's claims, the one that the sentence is about.
    sentence : str
        With a field for each number: ``{own:.2f}``.
    asserted : str
        An expression of the numbers, in Python.
    numbers : function
        From the evidence to the numbers.
    """

    name: str
    claim: str
    sentence: str
    asserted: str
    numbers: Callable[[Evidence], Numbers]

    def holds(self, numbers: Numbers) -> bool:
        """Whether what is asserted is true of the numbers; a missing number makes it false."""
        code = compile(self.asserted, f"headline {self.name}", "eval")
        if any(not np.isfinite(numbers[name]) for name in code.co_names):
            return False
        return bool(eval(code, {"__builtins__": {}}, dict(numbers)))


HEADLINES: dict[str, Headline] = {}


def headline(name: str, sentence: str, asserted: str) -> Callable[[Callable[[Evidence], Numbers]], Callable]:
    """Register a function of the evidence as the numbers of a headline."""

    def registered(numbers: Callable[[Evidence], Numbers]) -> Callable[[Evidence], Numbers]:
        HEADLINES[name] = Headline(name, name[0], sentence, asserted, numbers)
        return numbers

    return registered


def checked(evidence: Evidence) -> pd.DataFrame:
    """The headlines with their numbers filled in: name, claim, sentence, asserted, numbers, function (its name).

    Raises
    ------
    DataError
        If the data no longer say one of them; the message names all that do not hold, with their numbers.
    """
    rows, wrong = [], []
    for name, one in HEADLINES.items():
        numbers = one.numbers(evidence)
        if not one.holds(numbers):
            wrong.append(f"{name}: {one.sentence.format(**numbers)!r} is asserted by {one.asserted!r}, of {numbers}")
        rows.append((name, one.claim, one.sentence.format(**numbers), one.asserted, numbers, one.numbers.__name__))
    if wrong:
        raise DataError("\n  ".join(["The data no longer say:", *wrong, "Change the sentence, or find what changed."]))
    return pd.DataFrame(rows, columns=["name", "claim", "sentence", "asserted", "numbers", "function"])


def _signed(evidence: Evidence, term: str) -> pd.Series:
    """Each run's rank correlation with its own quality over checkpoints, of a part by token in the last layer."""
    here = (evidence.paths["by"] == "token") & (evidence.paths["term"] == term)
    paths = evidence.paths[here & (evidence.paths["layer"] == evidence.paths["layer"].max())]
    return paths.groupby("run")[[INDICATOR, "chrf"]].apply(lambda run: run.rank().corr().iloc[0, 1])


@headline(
    "A1",
    "Over a training, geometry moves with quality. By token, the importance of the target's part of the last state "
    "rises with chrF in each of {runs:.0f} runs (a rank correlation of {target:.2f} in the mean), that of the "
    "source's part falls ({source:.2f}).",
    "target_smallest > 0.5 and source_largest < -0.5",
)
def over_a_training(evidence: Evidence) -> Numbers:
    """Levels, over checkpoints."""
    target, source = (_signed(evidence, term) for term in "TS")
    numbers = {"target": target.mean(), "source": source.mean(), "runs": len(target)}
    return numbers | {"target_smallest": target.min(), "source_largest": source.max()}


@headline(
    "A2",
    "That is the trend of training: another run's quality does as well. By sublayer, changes of importance of S from "
    "one checkpoint to the next go with those of chrF by {own:.2f}, with those of another run's by {other:.2f}; the "
    "difference is {excess:.3f} ({lower:.3f} to {upper:.3f}).",
    "own > 0.2 and lower < 0 < upper < smallest_effect",
)
def no_more_than_others(evidence: Evidence) -> Numbers:
    """Changes, own run less other runs."""
    found = excess_over_others(primary_paths(evidence), INDICATOR, "chrf", CELL, draws=99).iloc[0]
    names = {"own": "own", "other": "other", "excess": "excess", "excess_lower": "lower", "excess_upper": "upper"}
    numbers = {new: float(found[old]) for old, new in names.items()}
    return numbers | {"smallest_effect": evidence.claims.claims["A"].smallest_effect}


@headline(
    "A3",
    "In the released tables it is the same: the median correlation over all pairs of checkpoints is "
    "{all_pairs:.2f} in size, over late and close ones {close:.2f}.",
    "all_pairs > 4 * close and signed > 0",
)
def released_trend(evidence: Evidence) -> Numbers:
    """Sizes over all series on own output, and the sign of one of them: norm ratio of T with BLEU, last layer."""
    own = evidence.released["coefficients"].query("target == 'own'")
    one = own.query(
        "by == 'sublayer' and layer == 6 and term == 'T' and indicator == 'norm_ratio' and metric == 'bleu'"
    )
    sizes = own[["rho_pairs", "rho_late_short_lag"]].abs().median()
    return {"all_pairs": sizes["rho_pairs"], "close": sizes["rho_late_short_lag"], "signed": one["rho_pairs"].min()}


@headline(
    "B1",
    "In the last layer, geometry belongs to the sentence: importance of cross-attention has {minus:.0%} of its "
    "variance between sentences and {plus:.0%} in all that differs between runs, a difference of {estimate:.2f} "
    "({lower:.2f} to {upper:.2f}).",
    "upper < 0",
)
def last_layer(evidence: Evidence) -> Numbers:
    """The share of runs less that of sentences, in the factorial."""
    row = next(row for row in model_or_sentence(evidence, 9_999, 0) if row["primary"])
    numbers = {name: row[name] for name in ("estimate", "lower", "upper")}
    # The shares of runs and of sentences add up to one.
    return numbers | {"plus": (1 + numbers["estimate"]) / 2, "minus": (1 - numbers["estimate"]) / 2}


@headline(
    "B2",
    "In the first layer it belongs to the model: the sentence's share is larger than what differs between runs "
    "for {first_wins:.0f} of {cells:.0f} parts in layer {first:.0f}, for {middle_wins:.0f} in layer {middle:.0f}, "
    "and for {last_wins:.0f} in layer {last:.0f}.",
    "last_wins == cells and first_wins <= cells / 4",
)
def layer_by_layer(evidence: Evidence) -> Numbers:
    """Sentence against run and run:sentence together, importance, both methods, the independent runs."""
    frame = evidence.plateau.astype({INDICATOR: float})
    shares = crossed.crossed_shares(frame, INDICATOR, "run", "sentence", "checkpoint", by=CELL, draws=1_000)
    wide = shares.pivot(index=CELL, columns="component", values="share")
    wins = wide["sentence"] > wide["run"] + wide["interaction"]
    by_layer = wins.groupby("layer").agg(["sum", "size"])
    layers = sorted(by_layer.index)
    found = {"cells": by_layer["size"].max()}
    chosen = {"first": layers[0], "middle": layers[len(layers) // 2], "last": layers[-1]}
    for place, layer in chosen.items():
        found |= {place: layer, f"{place}_wins": by_layer.loc[layer, "sum"]}
    return {name: float(value) for name, value in found.items()}


@headline(
    "C1",
    "Two runs do not share a space: on a made-up language the last states of runs that share their course have a "
    "CKA that is lower by {apart:.2f} ({lower:.2f} to {upper:.2f}) than that of one run and its own checkpoint "
    "before, each token type's mean taken off.",
    "lower > smallest_effect",
)
def apart(evidence: Evidence) -> Numbers:
    """The factorial of the made-up language, the jackknife over starts."""
    row = next(row for row in spaces(evidence, 0, 0) if "made-up" in row["analysis"])
    return {"apart": row["estimate"], "lower": row["lower"], "upper": row["upper"]} | {
        "smallest_effect": evidence.claims.claims["C"].smallest_effect
    }


@headline(
    "C2",
    "And still they are alike beyond the identity of tokens: their CKA is {alike:.2f} ({lower:.2f} to "
    "{upper:.2f}), and {permuted:.2f} where tokens of one type are exchanged.",
    "lower > permuted_upper",
)
def alike(evidence: Evidence) -> Numbers:
    """Independent runs, last states."""
    known = evidence.pairs[evidence.pairs["suite"] == evidence.pairs["suite"].iloc[0]]
    alone = set(evidence.runs.loc[evidence.runs["block"] == "independent", "run"])
    known = known[known["a"].isin(alone) & (known["layer"] == known["layer"].max())].dropna(subset=["cka"])
    found = mean_over_pairs(known, "cka", "rows").set_index("rows")
    whole, permuted = found.loc["all"], found.loc["permuted"]
    numbers = {"alike": whole["mean"], "lower": whole["lower"], "upper": whole["upper"]}
    return numbers | {"permuted": permuted["mean"], "permuted_upper": permuted["upper"]}


@headline(
    "C3",
    "On a made-up language it is the start that makes two runs alike, and not the order of the data: the same "
    "start adds {start:.2f} ({start_lower:.2f} to {start_upper:.2f}) to the CKA of two runs, the same course "
    "{course:.3f} ({course_lower:.3f} to {course_upper:.3f}).",
    "start_lower > 0 and course_upper < start_lower / 5",
)
def start_or_course(evidence: Evidence) -> Numbers:
    """The factorial of the made-up language, last states as they are."""
    made_up = evidence.pairs["suite"].unique()[-1]
    pairs = evidence.pairs[(evidence.pairs["suite"] == made_up) & (evidence.pairs["rows"] == "all")].dropna(
        subset=["cka"]
    )
    roles = evidence.runs[evidence.runs["suite"] == made_up][["run", "init_seed", "order_seed", "role"]]
    last = pairs[pairs["layer"] == pairs["layer"].max()]
    found = similarity_by_kind(last, "cka", roles, permutations=99).set_index("shares")
    return {
        f"{kind}{end}": float(found.loc[kind, column])
        for kind in ("start", "course")
        for end, column in (("", "excess"), ("_lower", "lower"), ("_upper", "upper"))
    }


@headline(
    "C4",
    "In the released tables two seeds agree less and less, token by token: {early:.2f} early, {late:.2f} at the "
    "end (cosine of the source's part, last layer).",
    "early > late > 0",
)
def released_agreement(evidence: Evidence) -> Numbers:
    """One pair of runs."""
    facts = evidence.released["facts"].set_index("name")["value"]
    return {"early": float(facts["agreement_10000"]), "late": float(facts["agreement_last"])}


@headline(
    "D1",
    "Parts do something: without attention to the source a label loses {lost:.2f} nats a token ({lower:.2f} to "
    "{upper:.2f}).",
    "lower > 1",
)
def lost(evidence: Evidence) -> Numbers:
    """All cross-attention set to its mean, all layers, independent runs."""
    source = evidence.effects[(evidence.effects["term"] == "S") & (evidence.effects["block"] == "independent")]
    found = mean_over_runs(source.assign(lost=-source["logprob"]), "lost").iloc[0]
    return {"lost": found["estimate"], "lower": found["lower"], "upper": found["upper"]}


@headline(
    "D2",
    "Importance tells what cross-attention does: with the loss without it, it has a rank correlation over tokens "
    "that is {S:.2f} ({S_lower:.2f} to {S_upper:.2f}) above what frequency and position give.",
    "S_lower > smallest_effect",
)
def told(evidence: Evidence) -> Numbers:
    """Total effects, independent runs."""
    found = _told(evidence)
    return found | {"smallest_effect": evidence.claims.claims["D"].smallest_effect}


@headline(
    "D3",
    "Of self-attention and the feed-forwards it tells far less: {T:.2f} and {F:.2f}.",
    "T_upper < S_lower / 2 and F_upper < S_lower / 2",
)
def told_less(evidence: Evidence) -> Numbers:
    """As D2, of the other kinds of sublayer."""
    return _told(evidence)


def _told(evidence: Evidence) -> Numbers:
    found: Numbers = {}
    for row in what_parts_do(evidence, 0, 0):
        if "share nothing" in row["analysis"]:
            term = row["analysis"].split("importance of ")[1][0]
            found |= {term: row["estimate"], f"{term}_lower": row["lower"], f"{term}_upper": row["upper"]}
    return found

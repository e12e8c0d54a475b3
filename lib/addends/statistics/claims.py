"""The claims that the book decides, as written down before the numbers were there, and the rule of the verdicts.

`read_claims` reads ``book/claims.yaml``: for each claim one primary cell, the smallest effect of interest, the family
of tests and its correction. Whatever a page shows beside the primary cells is exploratory.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from addends.checks import listed, named, require_columns
from addends.errors import DataError, InputError
from addends.yaml_lines import Faults, read_yaml

Verdict = Literal["supported", "weakened", "contradicted", "cannot be said"]
Text = Annotated[str, Field(pattern=r"\S")]  # more than spaces
_BY_TOKEN = ("S", "T", "C")
Texts = Annotated[tuple[Text, ...], Field(strict=False)]  # YAML has lists, and a frozen model wants what cannot change


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Primary(_Frozen):
    """The one cell that decides a claim.

    >>> primary = Primary(method="sublayer", layer=3, term="S", indicator="importance", target="reference",
    ...                   metric="chrf", block="independent")
    >>> primary.filters
    [('by', '==', 'sublayer'), ('layer', '==', 3), ('term', '==', 'S'), ('target', '==', 'reference')]

    ``method`` is missing where the cell is of states and not of their parts: ``term`` is then "state".
    """

    method: Literal["sublayer", "token"] | None
    layer: Annotated[int, Field(ge=0)]
    term: Literal["I", "S", "T", "F", "C", "state"]
    indicator: Literal["importance", "cosine", "norm_ratio", "distance", "cka"]
    target: Literal["own", "reference"]
    metric: Literal["bleu", "chrf", "comet", "nll"] | None
    block: Text

    @model_validator(mode="after")
    def _parts_or_states(self) -> Primary:
        of_states = self.method is None, self.term == "state", self.indicator == "cka"
        if len(set(of_states)) > 1:
            raise ValueError(
                f"method {self.method!r}, term {self.term!r} and indicator {self.indicator!r} do not belong together: "
                "a part has a method, a term of it and an indicator; states have method null, term state, indicator cka"
            )
        if self.method == "token" and self.term not in _BY_TOKEN:
            raise ValueError(f"term {self.term!r} is none of the method 'token', whose terms are {listed(_BY_TOKEN)}")
        return self

    @property
    def filters(self) -> list[tuple[str, str, Any]]:
        """What `addends.tables.read_suite` takes to read the rows of this cell alone."""
        places = {"by": self.method, "layer": self.layer, "term": self.term, "target": self.target}
        return [(name, "==", value) for name, value in places.items()]


class Claim(_Frozen):
    """A claim of the paper and what decides it: ``claim.primary``, ``claim.smallest_effect``, ``claim.correction``."""

    claim: Text
    direction: Text
    primary: Primary
    checkpoints: Text
    effect: Text
    interval: Text
    unit: Text
    smallest_effect: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    family: Text
    correction: Literal["holm", "fdr_bh"]
    sensitivity: Texts


class Known(_Frozen):
    """What was known of some runs when the claims were written down."""

    runs: Annotated[int, Field(ge=1)]
    which: Text
    said: Text


class Claims(_Frozen):
    """The whole file: ``claims.claims["A"].primary.layer``."""

    paper: Text
    level: Annotated[float, Field(gt=0, lt=1)]
    rule: dict[Verdict, Text]
    known: Annotated[tuple[Known, ...], Field(strict=False)]
    claims: Annotated[dict[Text, Claim], Field(min_length=1)]

    @model_validator(mode="after")
    def _whole_rule(self) -> Claims:
        missing = [verdict for verdict in get_args(Verdict) if verdict not in self.rule]
        if missing:
            raise ValueError(f"the rule does not say when the verdict is {listed(missing)}")
        return self


def read_claims(path: str | os.PathLike) -> Claims:
    """The claims in a YAML file, checked.

    Raises
    ------
    DataError
        If the file is missing or no YAML, a key is unknown, missing or doubled, or a value is none of the allowed. The
        message names the file and, for everything that is wrong, line and key.
    """
    path = Path(path)
    try:
        data, lines = read_yaml(path, f"Its keys are {listed(list(Claims.model_fields))}.")
    except InputError as error:  # no YAML, or a key that stands twice
        raise DataError(f"{path} does not hold valid claims:\n  {error}") from error
    faults = Faults(path, lines)
    try:
        return Claims.model_validate(data)
    except ValidationError as error:
        wrong = [_complaint(faults, details) for details in error.errors()]
        raise DataError("\n  ".join([f"{path} does not hold valid claims:", *wrong])) from error


def verdict(lower: float, estimate: float, upper: float, smallest_effect: float) -> Verdict:
    """What an effect and its interval say of a claim; the effect counts in the claimed direction, its null is 0.

    >>> verdict(0.02, 0.15, 0.3, smallest_effect=0.1), verdict(-0.2, 0.05, 0.3, smallest_effect=0.1)
    ('supported', 'cannot be said')

    An interval above 0 supports the claim, or weakens it where the estimate is below the smallest effect of interest.
    An interval that is not above 0 contradicts it where it ends below that effect; else nothing can be said.

    Raises
    ------
    InputError
        If a number is missing, the limits are in the wrong order, or the smallest effect is not above 0.
    """
    numbers = (lower, estimate, upper, smallest_effect)
    if any(pd.isna(value) for value in numbers) or lower > upper:
        raise InputError(
            f"verdict: lower={lower}, estimate={estimate}, upper={upper} are no estimate and its interval."
        )
    if not 0 < smallest_effect < math.inf:
        raise InputError(f"verdict: smallest_effect={smallest_effect} is no number above 0.")
    if lower > 0:
        return "supported" if estimate >= smallest_effect else "weakened"
    return "contradicted" if upper < smallest_effect else "cannot be said"


def cell(frame: pd.DataFrame, primary: Primary) -> pd.DataFrame:
    """The rows of a claim's primary cell in a table of indicators: measurements, or trajectories.

    Parameters
    ----------
    frame : DataFrame
        by, layer, term, target, the indicator and, if there are several blocks of runs, block.
    primary : Primary
        Of parts: a cell of states is in no such table.

    Raises
    ------
    InputError
        If the cell is of states, a column is missing, or no row is of the cell; the message says what there is.
    """
    where = f"cell({primary.indicator!r})"
    if primary.method is None:
        raise InputError(f"{where}: the cell is of states, whose similarity is in a table of pairs of runs.")
    wanted = {name: value for name, _, value in primary.filters}
    require_columns(frame, [*wanted, primary.indicator], where)
    if "block" in frame:
        wanted["block"] = primary.block
    chosen = pd.Series(True, index=frame.index)
    for name, value in wanted.items():
        left = chosen & (frame[name] == value)
        if not left.any():
            there = listed(sorted(frame.loc[chosen, name].dropna().unique().tolist()))
            raise InputError(f"{where}: no row with {named(list(wanted), list(wanted.values()))}; {name} is: {there}.")
        chosen = left
    return frame[chosen]


def _complaint(faults: Faults, details: Any) -> str:
    """``line 31, claims.A.primary.layer: what is wrong``: the key's line or, where it is missing, its parent's."""
    place = tuple(step for step in details["loc"] if step != "[key]")
    line, _ = faults.where(place)
    given = "" if details["type"] == "missing" else f" (given: {str(details['input'])[:60]!r})"
    return f"line {line}, {'.'.join(map(str, place)) or 'the file'}: {details['msg']}{given}"

"""The names in the released files, and the one name this project has for each."""

from __future__ import annotations

from addends.errors import DataError

# Every run, with the other spellings of its name. 1989 and 20232 stand in the sentence-level files and look like
# seeds, but nothing released says which generators they seed: the seeds of the runs table stay missing.
RUNS = {
    "rus-eng-s0": ("rus-eng_s0", "rus-eng", "s0-eng", "s0", "rus _s0"),
    "rus-eng-s1": ("rus-eng_s1", "rus-eng_s1989", "s1-eng", "s1", "rus _s1"),
    "rus-eng-s2": ("rus-eng_s2", "rus-eng_s20232", "s2-eng", "s2", "rus _s2"),
    "sla-eng": ("sla",),
    "ine-eng": ("ine",),
    "mul-eng": ("mul",),
}
POOLED = "rus-eng"  # the three Russian runs together, in the released correlations only
ALL_TERMS = "L1"  # the sum over terms of absolute differences, in the released correlations only
INDICATORS = {"spim": "importance", "cosine": "cosine", "norm_ratio": "norm_ratio", "l2": "distance"}
TERMS = {"sublayer": ("I", "S", "T", "F", "C"), "token": ("S", "T", "C")}
METHODS = {"mickus-etal": "sublayer", "oh-schuler": "token"}
SPELLINGS = {spelling: run for run, others in RUNS.items() for spelling in (run, *others)} | {"rus_allseeds": POOLED}
# The oldest file of distances counts the Russian runs from 1. Matched like this with s0, s1, s2, its numbers are those
# that the runs' own output gives, to seven digits; with another match they are not.
COUNTED_FROM_ONE = {f"rus-eng s{number + 1}": f"rus-eng-s{number}" for number in range(3)}


def run_of(name: str, spellings: dict[str, str] = SPELLINGS) -> str:
    """The run that a released file calls ``name``."""
    if name not in spellings:
        raise DataError(f"{name!r} is no known spelling of a run's name; known are {sorted(spellings)}.")
    return spellings[name]

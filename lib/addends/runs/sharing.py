"""Runs that share a seed share what it governs, and differ in the rest: read off the tables ``runs`` and ``manifest``.

============  ====================================================  ================================================
what          digests compared                                      equal exactly when
============  ====================================================  ================================================
start         the weights at step 0                                 the init seeds are equal
order         all batches up to each step that both recorded        order seeds, conditions and pairs are equal
masks         the random generators at step 0                       the dropout seeds are equal
weights       the weights at each later step that both recorded     all of these are equal
============  ====================================================  ================================================

The start of two runs is compared where they have one kind of model and one vocabulary. Steps 0 and 1 do not count as
later ones: a warm-up begins with a learning rate of 0, so that the first update may change nothing.
"""

from __future__ import annotations

from itertools import combinations

import pandas as pd

COLUMNS = ("a", "b", "what", "shared", "steps", "holds", "words")
MOVED = 2
"""The first step at which runs must differ in their weights."""

_SEEDS = {"start": "init_seed", "order": "order_seed", "masks": "dropout_seed"}
_DIGESTS = {"start": "weights", "order": "batches", "masks": "generators", "weights": "weights"}


def shared_seeds(runs: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """A row for each pair of a suite's runs and each thing that a seed governs: should they share it, and do they?

    Nothing but tables is read. A run with digests of the weights alone takes part in the rows "weights"; a run without
    rows in the manifest in none.

    >>> runs = pd.DataFrame({"run": ["a", "b"], "condition": "fra", "pairs": 9, "init_seed": 1, "order_seed": [1, 2],
    ...                      "dropout_seed": [1, 2]})
    >>> digests = {"weights": "x", "batches": "none", "generators": ["g", "h"], "model": "m", "tokenizer": "t"}
    >>> shared_seeds(runs, pd.DataFrame({"run": ["a", "b"], "checkpoint": 0, **digests}))[["what", "shared", "holds"]]
        what  shared  holds
    0  start    True   True
    1  masks   False   True

    Parameters
    ----------
    runs, manifest : DataFrame
        The tables of one suite.

    Returns
    -------
    DataFrame
        The columns a and b, the runs; what; shared, whether it should be equal; steps, at how many it was compared;
        holds; words, which name the first step at fault, and are empty where the row holds.
    """
    of_run = {name: rows.set_index("checkpoint").sort_index() for name, rows in manifest.groupby("run")}
    settings = {row["run"]: row for row in runs.to_dict("records") if row["run"] in of_run}
    digests = {
        name: {what: _digests(rows, what) for what in _DIGESTS} for name, rows in of_run.items() if name in settings
    }
    kinds = {name: _kind(rows) for name, rows in of_run.items()}
    found = []
    for a, b in combinations(sorted(settings), 2):
        same = {what: settings[a][seed] == settings[b][seed] for what, seed in _SEEDS.items()}
        same["order"] &= all(_equal(settings[a][name], settings[b][name]) for name in ("condition", "pairs"))
        same["weights"] = all(same.values())
        for what, shared in same.items():
            if what == "start" and kinds[a] != kinds[b]:
                continue
            mine, theirs = digests[a][what], digests[b][what]
            steps = sorted(mine.keys() & theirs.keys())
            if steps:
                wrong = [step for step in steps if (mine[step] == theirs[step]) != shared]
                found.append((a, b, what, shared, len(steps), not wrong, _words(a, b, what, shared, wrong)))
    return pd.DataFrame(found, columns=list(COLUMNS))


def _digests(rows: pd.DataFrame, what: str) -> dict[int, str]:
    """{step: digest}, of the steps at which the thing shows."""
    steps = rows.index
    chosen = {"start": steps == 0, "masks": steps == 0, "order": steps > 0, "weights": steps >= MOVED}[what]
    return rows.loc[chosen, _DIGESTS[what]].dropna().to_dict() if _DIGESTS[what] in rows else {}


def _kind(rows: pd.DataFrame) -> tuple:
    """The model's configuration and the vocabulary, at step 0."""
    return tuple(rows[name].iloc[0] if name in rows else None for name in ("model", "tokenizer"))


def _equal(first: object, second: object) -> bool:
    return bool(first == second or (pd.isna(first) and pd.isna(second)))


def _words(a: str, b: str, what: str, shared: bool, wrong: list[int]) -> str:
    if not wrong:
        return ""
    things = {"start": "weights", "order": "batches", "masks": "random generators", "weights": "weights"}
    seeds = "all seeds" if what == "weights" else f"the {_SEEDS[what].replace('_', ' ')}"
    if shared:
        return f"{a} and {b} share {seeds}, and differ in their {things[what]} at step {wrong[0]}"
    differ = (
        "are other runs"
        if what == "weights"
        else f"do not share {seeds} and the pairs"
        if what == "order"
        else (f"do not share {seeds}")
    )
    return f"{a} and {b} {differ}, and have the same {things[what]} at step {wrong[0]}"

"""Runs: models trained under one recipe from known seeds, and measured at their checkpoints into tidy tables.

A suite (`suite`) is a file (`suite_file`, ``suites/*.yaml``) that says which runs there are. `sentences` finds their
sentences (`corpora`, `toy`). `training` makes their weights, `lineage` the records of where these come from; `proofs`,
`sharing`, `replay` and `faults` say what the records prove. `measuring`, with `quality` and the decomposition, gives
numbers, which `shards` keeps. `job` does one piece of it, `scheduling` gives the pieces to processes, `workfolder` and
`progress` know what is on disk. The room imports the ground floor and `addends.decomposition`.

It offers `read_suite`, the names of the suites that are shipped (`SUITES`), and what a suite is made of; for pages,
what the table ``manifest`` proves (`broken_links`, `shared_seeds`). Training needs the extra "models"; describing a
suite does not.
"""

from __future__ import annotations

from addends.runs.lineage import broken_links
from addends.runs.sharing import shared_seeds
from addends.runs.suite import Block, Condition, Recipe, Run, Seeds, Suite
from addends.runs.suite_file import SUITES, read_suite

__all__ = [
    "SUITES",
    "Block",
    "Condition",
    "Recipe",
    "Run",
    "Seeds",
    "Suite",
    "broken_links",
    "read_suite",
    "shared_seeds",
]

"""Runs: models trained under one recipe from known seeds, and measured at their checkpoints into tidy tables.

A suite (`suite`) is a file (`suite_file`, ``suites/*.yaml``) that says which runs there are; `sentences` finds their
sentences (`corpora`, `toy`), `training` makes their weights, `lineage` the proof of where these come from, `quality`
and `addends.decomposition.measure` their numbers; `job` does one run, `workfolder` knows what is on disk of it.
The room imports the ground floor and `addends.decomposition`.

It offers `read_suite`, the names of the suites that are shipped (`SUITES`), and what a suite is made of. Training needs
the extra "models"; describing a suite does not.
"""

from __future__ import annotations

from addends.runs.suite import Block, Condition, Recipe, Run, Seeds, Suite
from addends.runs.suite_file import SUITES, read_suite

__all__ = ["SUITES", "Block", "Condition", "Recipe", "Run", "Seeds", "Suite", "read_suite"]

"""Runs: models trained under one recipe from known seeds, and measured at their checkpoints into tidy tables.

A suite (`suite`) says which runs there are; `corpora` and `toy` give their sentences, `training` their weights,
`lineage` the proof of where these come from, `quality` and `addends.decomposition.measure` their numbers; `job` does
one run, `workfolder` knows what is on disk of it. The room imports the ground floor and `addends.decomposition`.

It offers `SUITES`, by name, for the command `addends`, and what a suite of one's own is made of. Training needs the
extra "models"; describing a suite does not.
"""

from __future__ import annotations

from addends.runs import european
from addends.runs.suite import Block, Condition, Recipe, Run, Seeds, Suite
from addends.runs.toy import suite as toy

SUITES = {suite.name: suite for suite in (toy.SUITE, european.SUITE)}

__all__ = ["SUITES", "Block", "Condition", "Recipe", "Run", "Seeds", "Suite"]

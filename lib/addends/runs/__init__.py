"""Runs: models trained under one recipe from known seeds, and measured at their checkpoints into tidy tables.

A suite (`suite`) says which runs there are; `corpora` and `toy` give their sentences, `training` their weights,
`lineage` the records of where these come from, `proofs`, `sharing`, `replay` and `faults` what the records prove,
`quality` and `addends.decomposition.measure` their numbers; `job` does one run, `workfolder` knows what is on disk of
it. The room imports the ground floor and `addends.decomposition`.

It offers `SUITES`, by name, for the command `addends`, and what a suite of one's own is made of; for pages, what the
table ``manifest`` proves (`broken_links`, `shared_seeds`). Training needs the extra "models"; describing a suite does
not.
"""

from __future__ import annotations

from addends.runs import european
from addends.runs.lineage import broken_links
from addends.runs.sharing import shared_seeds
from addends.runs.suite import Block, Condition, Recipe, Run, Seeds, Suite
from addends.runs.toy import suite as toy

SUITES = {suite.name: suite for suite in (toy.SUITE, european.SUITE)}

__all__ = ["SUITES", "Block", "Condition", "Recipe", "Run", "Seeds", "Suite", "broken_links", "shared_seeds"]

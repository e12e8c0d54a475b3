"""From tables to claims: the book's workshop rather than a library, each function made for one question of a page.

Every statistic has one shape, ``f(frame, value, by=...)``: the first argument is a tidy frame, then come the columns
of values, ``by`` names the groups, and the result is a tidy frame whose first columns are those of ``by``.
`leave_one_out` takes such a statistic and repeats it without each run. The room reads frames, whoever made them: it
may import the ground floor (`addends.tables`, `checks`, `errors`) and `crossed`, nothing of decomposition or runs.
"""

from __future__ import annotations

from addends.statistics.correlation import correlate_checkpoints, with_quality_of_others
from addends.statistics.pairs import agreement_by_kind, roles_of_runs
from addends.statistics.reliability import reliability_between_runs
from addends.statistics.sensitivity import explained_by_covariate, leave_one_out
from addends.statistics.slopes import slopes_by_level, split_predictor

__all__ = [
    "agreement_by_kind",
    "correlate_checkpoints",
    "explained_by_covariate",
    "leave_one_out",
    "reliability_between_runs",
    "roles_of_runs",
    "slopes_by_level",
    "split_predictor",
    "with_quality_of_others",
]

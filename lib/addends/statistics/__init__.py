"""From tables to claims: the book's workshop rather than a library, each function made for one question of a page.

Every statistic has one shape, ``f(frame, value, by=...)``: the first argument is a tidy frame, then come the columns
of values, ``by`` names the groups, and the result is a tidy frame whose first columns are those of ``by``.
`leave_one_out` takes such a statistic and repeats it without each run. The room reads frames, whoever made them: it
may import the ground floor (`addends.tables`, `checks`, `errors`) and `crossed`, nothing of decomposition or runs.
"""

from __future__ import annotations

from addends.statistics.beside_itself import apart_from_itself
from addends.statistics.claims import cell, read_claims, verdict
from addends.statistics.conditions import across_runs, contrast_conditions, mean_over_runs
from addends.statistics.correlation import correlate_checkpoints, with_quality_of_others
from addends.statistics.designs import design_coverage, design_table, runs_needed
from addends.statistics.excess import excess_over_others
from addends.statistics.over_training import similarity_over_training
from addends.statistics.p_values import adjusted
from addends.statistics.paired import paired_differences
from addends.statistics.pairs import agreement_by_kind, roles_of_runs
from addends.statistics.power import (
    detectable_correlation,
    detectable_difference,
    detectable_mean,
    detectable_slope,
)
from addends.statistics.reliability import reliability_between_runs
from addends.statistics.run_or_sentence import models_in_words, shares_of_models
from addends.statistics.sensitivity import explained_by_covariate, leave_one_out
from addends.statistics.similarities import mean_over_pairs, similarity_by_kind
from addends.statistics.slopes import slopes_by_level, split_predictor
from addends.statistics.stitched import both_orders, ways_to_own
from addends.statistics.subsets import over_subsets, shares_of_subsets, slopes_of_subsets

__all__ = [
    "across_runs",
    "adjusted",
    "agreement_by_kind",
    "apart_from_itself",
    "both_orders",
    "cell",
    "contrast_conditions",
    "correlate_checkpoints",
    "design_coverage",
    "design_table",
    "detectable_correlation",
    "detectable_difference",
    "detectable_mean",
    "detectable_slope",
    "excess_over_others",
    "explained_by_covariate",
    "leave_one_out",
    "mean_over_pairs",
    "mean_over_runs",
    "models_in_words",
    "over_subsets",
    "paired_differences",
    "read_claims",
    "reliability_between_runs",
    "roles_of_runs",
    "runs_needed",
    "shares_of_models",
    "shares_of_subsets",
    "similarity_by_kind",
    "similarity_over_training",
    "slopes_by_level",
    "slopes_of_subsets",
    "split_predictor",
    "verdict",
    "ways_to_own",
    "with_quality_of_others",
]

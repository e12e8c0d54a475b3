"""Everything that serves the results that Mickus and Vázquez (2023) released with their paper.

Two words for two things. *Released* is what the authors published: measurements (means over a corpus at every
checkpoint, single sentences at ten of them, scores of quality), and analyses of them (correlations, distances).
*Derived* is what this project computes from the released measurements: the same analyses again, and corrected ones.

======================  ==========================================================================
module                  what it holds
======================  ==========================================================================
`released`              the released files and their names: finding, checking, downloading them
`released_tables`       the released measurements, as this project's tables
`released_analyses`     the released correlations and distances, as they are
`series`                an indicator and a quality of one run, checkpoint by checkpoint
`checkpoint_pairs`      correlations of changes over pairs of checkpoints, and detrended ones
`coefficients`          the released ones of these: by term, summed over terms, pooled, their "stdv"
`sentences`             correlations over pairs of single sentences, and within checkpoints
`distances`             distances between runs by dynamic time warping
`relabelling`           a permutation test of runs on distances
`replays`               how far released correlations are from derived ones, and how far chance puts them
`derived`               the tables of all these: computed, written, read, compared
`report`                how close all these come to what was released, and what the corrections change
======================  ==========================================================================

The room may import the ground floor (`addends.tables`, `checks`, `errors`), `crossed` and `addends.statistics`; it
needs no torch. Reading the released files and warping time need the extra: ``pip install 'addends[replication]'``.
``addends replicate`` computes every derived table and writes it under data/published_results. These tables hold this
project's figures, never the released ones: beside a figure stands how far the released one is from it.

References
----------
Mickus and Vázquez (2023), Why Bother with Geometry? On the Relevance of Linear Decompositions of Transformer
Embeddings, BlackboxNLP, https://aclanthology.org/2023.blackboxnlp-1.10
"""

from __future__ import annotations

from addends.replication.coefficients import BURN_IN, FIRST_TERM, LONGEST_LAG
from addends.replication.derived import compare, compute, overlay, read, underivable, write
from addends.replication.released import available, fetch_all
from addends.replication.replays import NOT_RELEASED, T_LIMIT
from addends.replication.report import (
    AGREEMENT_WINDOW,
    STANDARD_ERRORS,
    closeness,
    reversed_layers,
    signs_changed_by_pooling,
    trend,
)

__all__ = [
    "AGREEMENT_WINDOW",
    "BURN_IN",
    "FIRST_TERM",
    "LONGEST_LAG",
    "NOT_RELEASED",
    "STANDARD_ERRORS",
    "T_LIMIT",
    "available",
    "closeness",
    "compare",
    "compute",
    "fetch_all",
    "overlay",
    "read",
    "reversed_layers",
    "signs_changed_by_pooling",
    "trend",
    "underivable",
    "write",
]

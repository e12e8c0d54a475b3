"""The released results of Mickus and Vázquez (2023), derived again from the released measurements, and corrected.

What was released are measurements (means over a corpus at every checkpoint, single sentences at ten of them, scores of
quality) and analyses of them (correlations, distances). The analyses are derived here again from the measurements:

======================  ==========================================================================
module                  derives again
======================  ==========================================================================
`coefficients`          correlations over pairs of checkpoints, by term, summed over terms, pooled
`resamples`             the "stdv" beside each correlation
`replays`               how far the released correlations are from the derived ones, and how far chance puts them
`items`                 correlations over pairs of single sentences
`warped`                distances between runs by dynamic time warping
`checks`                scores of BLEU; the order that an unstable sort leaves; two seeds' agreement
`closeness`             how close all these come to what was released
`stored`                the tables of all these, computed, written, read, compared
======================  ==========================================================================

``python -m addends.replication`` computes every table and writes it under data/published_results. These
tables hold this project's figures, never the released ones: beside a figure stands how far the released one is from it.

References
----------
Mickus and Vázquez (2023), Why Bother with Geometry? On the Relevance of Linear Decompositions of Transformer
Embeddings, BlackboxNLP, https://aclanthology.org/2023.blackboxnlp-1.10
"""

from __future__ import annotations

from addends.replication.analyses import agreement, correlations, distances
from addends.replication.released import fetch, files
from addends.replication.results import (
    measurements,
    places,
    quality,
    runs,
    sentences,
    stray_scores,
    tables,
    trajectories,
    translations,
)
from addends.replication.stored import available, compare, compute, overlay, read, underivable, write

__all__ = [
    "agreement",
    "available",
    "compare",
    "compute",
    "correlations",
    "distances",
    "fetch",
    "files",
    "measurements",
    "overlay",
    "places",
    "quality",
    "read",
    "runs",
    "sentences",
    "stray_scores",
    "tables",
    "trajectories",
    "translations",
    "underivable",
    "write",
]

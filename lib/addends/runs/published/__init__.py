"""The released results of Mickus and Vázquez (2023), as this project's tables.

Six Marian models translate into English, each measured at every 1,000th training step: three runs on Russian that
differ in their seed (``rus-eng-s0``, ``-s1``, ``-s2``), and one run each on Slavic (``sla-eng``), Indo-European
(``ine-eng``) and many (``mul-eng``) source languages. The files spell run names in several ways; here each run has
one. Names are mapped as follows, and values are not changed unless a function's docstring says so:

=====================  ====================  ============================================================
released               here                  meaning
=====================  ====================  ============================================================
spim                   importance            <x,e> / |e|^2
cosine                 cosine                <x,e> / (|x| |e|)
norm_ratio             norm_ratio            |x| / |e|
l2                     distance              |x - e|
decomps, mickus-etal   by "sublayer"         terms I, S, T, F, C
oh-schuler             by "token"            terms S, T, C
gen, no-gen            target "own",         the model's own translation, or the reference, is decomposed
                       target "reference"
=====================  ====================  ============================================================

No key occurs twice in any of the files. The released code tokenizes the target as if it were source text and feeds it
without shifting it: ``addends.encode(..., legacy=True)`` does the same, the default does not.

References
----------
Mickus and Vázquez (2023), Why Bother with Geometry? On the Relevance of Linear Decompositions of Transformer
Embeddings, BlackboxNLP, https://aclanthology.org/2023.blackboxnlp-1.10
"""

from __future__ import annotations

from addends.runs.published.analyses import agreement, correlations, distances
from addends.runs.published.released import fetch, files
from addends.runs.published.results import (
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

__all__ = [
    "agreement",
    "correlations",
    "distances",
    "fetch",
    "files",
    "measurements",
    "places",
    "quality",
    "runs",
    "sentences",
    "stray_scores",
    "tables",
    "trajectories",
    "translations",
]

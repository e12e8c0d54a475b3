"""The interventions: what parts do to what a model says, and in what sense two runs' spaces are the same for it.

Within one model, on the way of the data: means (what is replaced by), reading (a batch, its labels, what its last
states are sums of), replacing (zero, a mean, another sentence's), head (from a change of a state to that of a label's
log-probability), rewriting (a pass in which sublayers write what they are told), intervene, measuring (a corpus), and
agreement (whether an indicator tells the effect, over tokens).
Of single source tokens: mixing (rollout, ALTI), attributions (those, gradients, parts), floors (what ranks tokens
without the model), source_pass (passes with a changed source) and source_effects (the yardstick outside all of them: a
token masked, or made average; and how well each method ranks tokens as it does).
Between two models: vectors (rows of the same tokens), spaces (how alike they are), divergence (of what is said next),
maps (from one space to the other) and stitching (one model's decoder reads the other through a map).

This room imports the decomposition and the ground floor. It needs torch and transformers. Pages and other rooms take
its names from here.
"""

from addends.interventions.agreement import classes_of, token_agreement
from addends.interventions.attributions import source_attributions
from addends.interventions.divergence import divergences
from addends.interventions.floors import source_floors
from addends.interventions.intervene import beside_effects, intervene
from addends.interventions.maps import (
    StateMap,
    explained_variance,
    fit_affine,
    fit_rotation,
    no_map,
    random_rotation,
)
from addends.interventions.means import Means, take_means, weights_sha256
from addends.interventions.measuring import (
    agreement_means,
    batches_of,
    measure_agreement,
    measure_effects,
    sentence_means,
    token_effects,
)
from addends.interventions.source_effects import part_removals, rank_agreement, source_removals
from addends.interventions.source_pass import mean_source_embedding
from addends.interventions.spaces import (
    Space,
    debiased_cka,
    groups_of,
    permuted_within,
    procrustes_distance,
    similarity,
    without_type_means,
)
from addends.interventions.stitching import as_module, encoder_states, going_on, reading, train_map
from addends.interventions.vectors import STATE, TokenVectors, token_vectors

__all__ = [
    "STATE",
    "Means",
    "Space",
    "StateMap",
    "TokenVectors",
    "agreement_means",
    "as_module",
    "batches_of",
    "beside_effects",
    "classes_of",
    "debiased_cka",
    "divergences",
    "encoder_states",
    "explained_variance",
    "fit_affine",
    "fit_rotation",
    "going_on",
    "groups_of",
    "intervene",
    "mean_source_embedding",
    "measure_agreement",
    "measure_effects",
    "no_map",
    "part_removals",
    "permuted_within",
    "procrustes_distance",
    "random_rotation",
    "rank_agreement",
    "reading",
    "sentence_means",
    "similarity",
    "source_attributions",
    "source_floors",
    "source_removals",
    "take_means",
    "token_agreement",
    "token_effects",
    "token_vectors",
    "train_map",
    "weights_sha256",
    "without_type_means",
]

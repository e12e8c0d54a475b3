"""The interventions: what happens to what a model says when one part of its states, or one sublayer, is replaced.

On the way of the data: means (what is replaced by), reading (a batch, its labels, what its last states are sums of),
replacing (zero, a mean, another sentence's), head (from a change of a state to that of a label's log-probability),
rewriting (a pass in which sublayers write what they are told), intervene and measuring (a corpus).

This room imports the decomposition and the ground floor. It needs torch and transformers. Pages and other rooms take
its names from here.
"""

from addends.interventions.intervene import beside_effects, intervene
from addends.interventions.means import Means, take_means, weights_sha256
from addends.interventions.measuring import batches_of, measure_effects

__all__ = [
    "Means",
    "batches_of",
    "beside_effects",
    "intervene",
    "measure_effects",
    "take_means",
    "weights_sha256",
]

"""The decomposition: from a model and sentences to exact sums of vectors, and what each of them contributes.

On the way of the data: architecture and architectures (the families), loading, batch, languages, encoding and
translation; ambient, record and capture (one forward pass); linear (maps), norms and proofs; by_sublayer and
by_token (the two methods); exactness and parts (`decompose`); indicators, attention_map, logits; backward and adjoint
(what single tokens do, without their parts); labels, preflight, measure, several. A module may be called as its main
function: the room offers the function.

This room imports the ground floor alone (schemas, tables, checks, errors). It needs torch and transformers. Pages and
other rooms take its names from here.
"""

from addends.decomposition.adjoint import importance_by_input, token_importance, token_logit_shares
from addends.decomposition.architecture import Architecture, Attention, FeedForward, Stack
from addends.decomposition.architectures import architecture_of, architectures, register
from addends.decomposition.attention_map import cross_attention
from addends.decomposition.batch import Batch
from addends.decomposition.encoding import encode
from addends.decomposition.exactness import cancellation, relative_gap
from addends.decomposition.indicators import indicators, with_places
from addends.decomposition.labels import labels, words
from addends.decomposition.languages import set_languages
from addends.decomposition.loading import load
from addends.decomposition.logits import logit_shares
from addends.decomposition.measure import corpus_means, measure, measure_batch
from addends.decomposition.parts import Parts, decompose
from addends.decomposition.preflight import preflight, require_supported
from addends.decomposition.several import measure_models
from addends.decomposition.translation import encode_or_translate, translate

__all__ = [
    "Architecture",
    "Attention",
    "Batch",
    "FeedForward",
    "Parts",
    "Stack",
    "architecture_of",
    "architectures",
    "cancellation",
    "corpus_means",
    "cross_attention",
    "decompose",
    "encode",
    "encode_or_translate",
    "importance_by_input",
    "indicators",
    "labels",
    "load",
    "logit_shares",
    "measure",
    "measure_batch",
    "measure_models",
    "preflight",
    "register",
    "relative_gap",
    "require_supported",
    "set_languages",
    "token_importance",
    "token_logit_shares",
    "translate",
    "with_places",
    "words",
]

"""The interventions."""

from addends.interventions.divergence import divergences
from addends.interventions.spaces import Space, groups_of, permuted_within, similarity
from addends.interventions.vectors import STATE, TokenVectors, token_vectors

__all__ = [
    "STATE",
    "Space",
    "TokenVectors",
    "divergences",
    "groups_of",
    "permuted_within",
    "similarity",
    "token_vectors",
]

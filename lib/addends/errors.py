"""The errors this package raises: each says what was given, what is allowed, and what to do next.

A table is refused by the same class in both packages, so that no caller has to know which of them checked it:
:class:`AddendsError` and :class:`InputError` are those of :mod:`crossed`.
"""

from crossed.errors import Error as AddendsError
from crossed.errors import InputError

__all__ = ["AddendsError", "DataError", "InputError", "ModelStateError", "UnsupportedModelError"]


class UnsupportedModelError(AddendsError, ValueError):
    """A model of a family that has no row in the architectures table, or that fails its exactness check."""


class ModelStateError(AddendsError, RuntimeError):
    """A supported model in a state that cannot be decomposed: NaN in its weights, dropout switched on."""


class DataError(AddendsError, ValueError):
    """A file that is missing, truncated, altered, or whose contents break the schema of its table."""

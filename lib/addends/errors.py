"""The errors this package raises: each says what was given, what is allowed, and what to do next."""


class AddendsError(Exception):
    """Common base, so that one except clause catches all of this package's own errors."""


class InputError(AddendsError, ValueError):
    """An argument is outside what the function allows."""


class UnsupportedModelError(AddendsError, ValueError):
    """A model of a family that has no row in the architectures table, or that fails its exactness check."""


class ModelStateError(AddendsError, RuntimeError):
    """A supported model in a state that cannot be decomposed: NaN in its weights, dropout switched on."""


class DataError(AddendsError, ValueError):
    """A file that is missing, truncated, altered, or whose contents break the schema of its table."""

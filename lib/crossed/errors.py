"""The errors of this distribution's two packages: each says what was given, what is allowed, and what to do next."""


class Error(Exception):
    """Common base, so that one except clause catches all errors that crossed, or addends, raises itself."""


class InputError(Error, ValueError):
    """An argument is outside what the function allows."""

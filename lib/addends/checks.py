"""What tables and arguments are checked for in every room, refused in words, each refusal written once.

The checks that :mod:`crossed` makes too are its own; they are offered here beside those of this package's tables.
"""

from __future__ import annotations

from collections.abc import Collection

from addends.errors import InputError
from crossed.checks import check_level, listed, named, names_of, numbers, require_columns, rounding_of

__all__ = ["check_choice", "check_level", "listed", "named", "names_of", "numbers", "require_columns", "rounding_of"]


def check_choice(name: str, value: object, allowed: Collection[object]) -> None:
    """Raise InputError unless the argument ``name`` has one of the allowed values."""
    if value not in allowed:
        raise InputError(f"{name}={value!r} is not one of {allowed}.")

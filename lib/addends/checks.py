"""What tables and arguments are checked for in every room, refused in words, each refusal written once.

The checks that :mod:`crossed` makes too are its own; they are offered here beside those of this package's tables.
"""

from __future__ import annotations

from crossed.checks import check_level, listed, named, names_of, numbers, require_columns, rounding_of

__all__ = ["check_level", "listed", "named", "names_of", "numbers", "require_columns", "rounding_of"]

"""One thread for the linear algebra of a fit.

Its matrices have a handful of rows. Threads that share such a product spend their time waiting for each other, many
times the product's own where another process wants the cores too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import ParamSpec, TypeVar

from threadpoolctl import ThreadpoolController

P = ParamSpec("P")
R = TypeVar("R")


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # looks through all loaded libraries: once is enough


def one_thread(function: Callable[P, R]) -> Callable[P, R]:
    """The function with one BLAS thread inside it; as many as before when it has returned."""

    @wraps(function)
    def limited(*arguments: P.args, **options: P.kwargs) -> R:
        with _controller().limit(limits=1, user_api="blas"):
            return function(*arguments, **options)

    return limited

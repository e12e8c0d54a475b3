"""One thread inside, as many as before outside, even when an error passes through."""

import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

from crossed.threads import one_thread


def threads() -> list[int]:
    return [pool["num_threads"] for pool in ThreadpoolController().info() if pool["user_api"] == "blas"]


def test_one_thread_inside_and_as_many_as_before_outside():
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        assert set(one_thread(threads)()) == {1}
        assert threads() == before

        @one_thread
        def fails():
            raise KeyError("seen")

        with pytest.raises(KeyError, match="seen"):
            fails()
        assert threads() == before

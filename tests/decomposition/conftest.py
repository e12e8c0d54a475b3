"""What tests of the decomposition share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from addends.decomposition.architectures import _TABLE


@pytest.fixture
def table() -> Iterator[dict]:
    """The architectures table; whatever a test puts into it is gone afterwards."""
    before = dict(_TABLE)
    yield _TABLE
    _TABLE.clear()
    _TABLE.update(before)

"""The names that the package promises, and no more of them than a reader can keep in mind."""

from __future__ import annotations

import pytest

import addends


def test_at_most_twelve_names_and_each_is_there():
    assert len(addends.__all__) <= 12
    for name in addends.__all__:
        assert getattr(addends, name) is not None
    assert set(addends.__all__) <= set(dir(addends))


def test_mixed_is_the_statistics_module():
    from addends import mixed

    assert mixed.__name__ == "crossed"
    assert callable(mixed.fit)


def test_an_unknown_name_says_which_there_are():
    with pytest.raises(AttributeError, match=r"no attribute 'decompse'; it has .*'decompose'"):
        addends.decompse  # noqa: B018 - looking it up is the test

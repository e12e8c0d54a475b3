"""The room's door: what it offers, and what lies on the way to it."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import addends
from addends import decomposition


@pytest.mark.slow
def test_it_imports_the_ground_floor_alone():
    program = (
        "import sys, addends.decomposition; "
        "print({name.split('.')[1] for name in sys.modules if name.startswith('addends.')})"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert eval(answer.stdout) == {
        "decomposition",
        "errors",
        "checks",
        "provenance",
        "schemas",
        "tables",
        "validation",
    }


def test_the_package_itself_imports_no_torch():
    program = (
        "import sys, addends; print([name for name in ('torch', 'transformers', 'pandas') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("name", decomposition.__all__)
def test_a_name_of_the_door_is_no_module(name):
    """Some modules are called as their main function: the door has the function."""
    assert not isinstance(getattr(decomposition, name), ModuleType)


def test_public_names_are_those_of_the_door():
    for name in set(addends.__all__) - {"mixed", "intervene"}:
        assert getattr(addends, name) is getattr(decomposition, name)

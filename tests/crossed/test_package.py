"""The package stands alone: what it imports, and that it imports in one direction."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import crossed

MODULES = sorted(Path(crossed.__file__).parent.glob("*.py"))
TESTS = sorted(Path(__file__).parent.glob("*.py"))


def imported(tree):
    """Names of the modules that a tree imports, each with its depth in functions."""
    found, waiting = [], [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        if isinstance(node, ast.Import):
            found += [(alias.name, depth) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(f"{node.module}.{alias.name}", depth) for alias in node.names]
        inside = depth + isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        waiting += [(child, inside) for child in ast.iter_child_nodes(node)]
    return found


@pytest.mark.parametrize("module", [*MODULES, *TESTS], ids=lambda path: f"{path.parent.parent.name}/{path.name}")
def test_nothing_of_addends_is_imported(module):
    names = [name.split(".")[0] for name, _ in imported(ast.parse(module.read_text(encoding="utf-8")))]
    assert not {"addends", "torch", "transformers"} & set(names)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_no_import_hides_in_a_function(module):
    assert [name for name, depth in imported(ast.parse(module.read_text(encoding="utf-8"))) if depth] == []


def test_no_module_imports_itself_by_way_of_others():
    stems = {path.stem for path in MODULES} - {"__init__"}
    arrows = {}
    for path in MODULES:
        names = [name.split(".") for name, _ in imported(ast.parse(path.read_text(encoding="utf-8")))]
        arrows[path.stem] = {parts[1] for parts in names if parts[0] == "crossed" and parts[1] in stems}
    left = {name: set(others) for name, others in arrows.items()}
    while left:
        free = [name for name, others in left.items() if not others & left.keys()]
        assert free, f"these import each other in a circle: {sorted(left)}"
        for name in free:
            del left[name]


def test_importing_it_loads_neither_torch_nor_transformers_nor_addends():
    absent = {"torch", "transformers", "addends", "matplotlib"}
    code = f"import sys, crossed; crossed.fit; print(sorted({absent} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_the_door_offers_what_it_says():
    assert set(crossed.__all__) <= set(dir(crossed))
    assert all(getattr(crossed, name).__module__.startswith("crossed.") for name in crossed.__all__)

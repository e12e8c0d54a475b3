"""The rooms: arrows in one direction, no circle, doors that pages take names from, imports that are declared."""

from __future__ import annotations

import ast
import graphlib
import importlib
import json
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LIB = ROOT / "lib"
PAGES = sorted([*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("book/*.ipynb")])

# Which rooms a room may import, besides itself.
GROUND = {"schemas", "validation", "tables", "checks", "errors", "provenance", "yaml_lines"}
ARROWS = {
    "crossed": set(),
    "ground": {"crossed"},
    "decomposition": {"ground"},
    "interventions": {"ground", "decomposition"},
    "runs": {"ground", "decomposition", "interventions"},
    "statistics": {"crossed", "ground"},
    "replication": {"crossed", "ground", "statistics"},
    "findings": {"crossed", "ground", "statistics", "replication"},
    "figures": {"ground"},
    "pages": {"ground"},
    "cli": {
        "crossed",
        "ground",
        "decomposition",
        "interventions",
        "runs",
        "statistics",
        "replication",
        "figures",
        "pages",
    },
    "addends": set(),  # its names are looked up when they are first used
}
ROOMS = ("decomposition", "interventions", "runs", "statistics", "replication", "findings", "figures", "pages")
DOORS = ["crossed", *(f"addends.{room}" for room in ROOMS)]


def name_of(file: Path) -> str:
    parts = file.relative_to(LIB).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(file): file for file in sorted(LIB.rglob("*.py"))}


def room_of(module: str) -> str:
    package, *rest = module.split(".")
    if package == "crossed":
        return "crossed"
    return "addends" if not rest else "ground" if rest[0] in GROUND else rest[0]


def imported(tree: ast.AST) -> set[str]:
    """Every module named by an import of the code, wherever it stands: in functions and for types alone too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide which room is meant"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else node.module for name in full}
    return found


GRAPH = {module: imported(ast.parse(file.read_text(encoding="utf-8"))) for module, file in FILES.items()}


@pytest.mark.parametrize("module", FILES)
def test_a_module_imports_only_rooms_that_stand_before_its_own(module):
    room = room_of(module)
    reached = {name for name in GRAPH[module] if name.split(".")[0] in ("addends", "crossed")}
    against = {name for name in reached if room_of(name) not in ARROWS[room] | {room}}
    assert against == set(), f"the room {room} may import {sorted(ARROWS[room])}"


def test_no_modules_import_each_other_in_a_circle():
    order = graphlib.TopologicalSorter({module: GRAPH[module] & set(FILES) for module in FILES}).static_order()
    assert set(order) == set(FILES)


def test_a_circle_would_be_seen():
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter({"a": {"b"}, "b": {"c"}, "c": {"a"}}).static_order())


@pytest.mark.parametrize("door", DOORS)
def test_a_door_says_what_the_room_is_for_and_offers_what_it_names(door):
    module = importlib.import_module(door)
    assert len(module.__doc__.strip().splitlines()) >= 4
    assert sorted(module.__all__) == sorted(set(module.__all__))
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def code_of(page: Path) -> ast.AST:
    cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return ast.parse(re.sub(r"^[%!].*$", "", code, flags=re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_take_names_from_doors(page):
    allowed = {"addends", *DOORS, *(f"addends.{name}" for name in GROUND)}
    for node in ast.walk(code_of(page)):
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        inside = {name for name in names if name and name.split(".")[0] in ("addends", "crossed")}
        assert inside <= allowed, f"{page.name}: {sorted(inside - allowed)} stand behind a door"
        if isinstance(node, ast.ImportFrom) and node.module in DOORS:
            offered = importlib.import_module(node.module).__all__
            assert {alias.name for alias in node.names} <= set(offered)


def declared(*groups: str) -> set[str]:
    """The distributions that pyproject.toml names in these groups."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][group] for group in groups)]
    return {canonicalize_name(Requirement(line).name) for lines in lists for line in lines}


def undeclared(modules: set[str], allowed: set[str]) -> set[str]:
    """The modules that no distribution among ``allowed`` brings, standard library and own code left out."""
    brings = packages_distributions()
    outside = {name.split(".")[0] for name in modules} - set(sys.stdlib_module_names) - {"addends", "crossed", "tests"}
    return {name for name in outside if not {canonicalize_name(one) for one in brings.get(name, [])} & allowed}


@pytest.mark.parametrize(
    ("rooms", "groups"),
    [
        ({"crossed", "ground", "statistics", "figures", "cli", "addends"}, ()),
        ({"replication"}, ("replication",)),
        ({"pages"}, ("book",)),
        ({"decomposition", "interventions", "runs"}, ("models",)),
    ],
    ids=["the base", "replication", "book", "models"],
)
def test_every_import_is_declared_where_it_is_needed(rooms, groups):
    modules = set().union(*(GRAPH[module] for module in FILES if room_of(module) in rooms))
    assert undeclared(modules, declared(*groups)) == set()


def test_what_tests_and_pages_import_is_declared():
    files = [file for file in (ROOT / "tests").rglob("*.py") if "benchmarks" not in file.parts]
    trees = [*(ast.parse(file.read_text(encoding="utf-8")) for file in files), *(code_of(page) for page in PAGES)]
    modules = set().union(*(imported(tree) for tree in trees))
    assert undeclared(modules, declared("models", "replication", "book", "test")) == set()

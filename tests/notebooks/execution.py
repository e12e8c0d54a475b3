"""Executes a notebook as a reader would who edits its parameters, and reads what it shows."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
SHIPPED = [ROOT / "data" / "european", ROOT / "data" / "toy"]
"""The suites whose independent runs the pages rest on, and are tested with."""
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def notebook(name: str) -> Path:
    """The notebook of this name, whatever its number: a new one moves the others' places."""
    (path,) = [path for path in NOTEBOOKS if path.stem.partition("_")[2] == name]
    return path


def run(path: Path, **parameters) -> nbformat.NotebookNode:
    """Execute a notebook with some of its parameters replaced, as by a reader who edits the first code cell."""
    content = nbformat.read(path, as_version=4)
    cell = next(cell for cell in content.cells if "parameters" in cell.metadata.get("tags", []))
    described = Path(path.parent, parameters.get("data", "")).resolve()
    if described not in SHIPPED and "data" in parameters and "block = " in cell.source:
        parameters = {"block": None, **parameters}  # other tables have other blocks, or none
    for name in parameters:
        assert f"{name} = " in cell.source, f"{path.name} has no parameter {name}"
    cell.source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
    NotebookClient(content, timeout=120, kernel_name="python3", resources={"metadata": {"path": path.parent}}).execute()
    return content


def glued(content: nbformat.NotebookNode) -> dict:
    """What the notebook glued, by name: {name: text}."""
    found = {}
    for cell in content.cells:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            if name:
                bundle = output["data"]
                found[name] = next(value for kind, value in bundle.items() if kind.endswith("text/plain"))
    return found


def values(content: nbformat.NotebookNode) -> dict:
    """What the notebook glued, by name, as Python's values: {name: number or text}."""
    return {name: ast.literal_eval(text) for name, text in glued(content).items()}


def figures(content: nbformat.NotebookNode) -> list:
    """The outputs that are pictures."""
    outputs = [output for cell in content.cells for output in cell.get("outputs", [])]
    return [output for output in outputs if "image/svg+xml" in output.get("data", {})]

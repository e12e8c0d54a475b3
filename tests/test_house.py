"""The facts about the repository that its two commands rest on."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted([*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("book/*.ipynb")])
LARGEST = 12_000_000  # bytes

# What must be importable where neither torch nor transformers is installed.
BASE = ["addends", "addends.errors", "addends.runs.tables", "addends.runs.published"]
BASE_ROOMS = ["addends.statistics", "addends.figures"]


def project() -> dict:
    with (ROOT / "pyproject.toml").open("rb") as stream:
        return tomllib.load(stream)["project"]


def constraints() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def files_of_the_repository() -> list[Path]:
    """Tracked files, and untracked ones that git does not ignore."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


# One list of dependencies.


def test_constraints_pin_exactly_and_once():
    pins = constraints()
    for pin in pins:
        assert re.fullmatch(r"==[0-9][A-Za-z0-9.]*", str(pin.specifier)), f"{pin}: neither ranges nor local versions"
        assert pin.url is None
        assert pin.marker is None
    names = [canonicalize_name(pin.name) for pin in pins]
    assert len(names) == len(set(names))


def test_constraints_pin_every_dependency_within_its_range():
    pinned = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in constraints()}
    metadata = project()
    groups = [metadata["dependencies"], *metadata["optional-dependencies"].values()]
    for dependency in map(Requirement, itertools.chain.from_iterable(groups)):
        version = pinned.get(canonicalize_name(dependency.name))
        assert version is not None, f"constraints.txt does not pin {dependency.name}"
        assert dependency.specifier.contains(version), f"{dependency} does not allow the pinned {version}"


def test_environment_yml_adds_nothing_to_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    metadata = project()
    assert conda == [f"python{metadata['requires-python']}", "pip"]
    extras = ",".join(metadata["optional-dependencies"])
    assert pip == ["-c constraints.txt", f"-e .[{extras}]"]


def test_makefile_installs_the_same_extras():
    extras = ",".join(project()["optional-dependencies"])
    assert f"--editable '.[{extras}]'" in (ROOT / "Makefile").read_text(encoding="utf-8")


# What is in the repository.


@pytest.mark.parametrize(
    "name", ["lib/addends/new.py", "data/new/table.parquet", "data/new/model.safetensors", "notebooks/05_new.ipynb"]
)
def test_gitignore_hides_neither_code_nor_data(name):
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    answer = subprocess.run(["git", "check-ignore", "--quiet", "--no-index", name], cwd=ROOT)
    assert answer.returncode == 1  # 0: ignored; 128: git failed


def test_no_file_is_large():
    large = {file.relative_to(ROOT).as_posix(): file.stat().st_size for file in files_of_the_repository()}
    assert {name: size for name, size in large.items() if size > LARGEST} == {}


def test_data_readme_names_everything_in_data():
    described = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    entries = {
        file.relative_to(ROOT / "data").parts for file in files_of_the_repository() if ROOT / "data" in file.parents
    }
    names = {f"{parts[0]}/" if len(parts) > 1 else parts[0] for parts in entries} - {"README.md"}
    assert {name for name in names if f"`{name}`" not in described} == set()


def test_no_table_or_model_is_a_sentence_file():
    """Sentences have their own licence and stay out: only tables, weights, tokenizers and their settings are data."""
    allowed = {".md", ".parquet", ".json", ".safetensors", ".spm", ".model", ".vocab"}
    files = [file for file in files_of_the_repository() if ROOT / "data" in file.parents]
    assert {file.name for file in files if file.suffix not in allowed} == set()


# The book.


def test_every_page_of_the_toc_exists_and_every_page_is_in_the_toc():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = [toc["root"]] + [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    assert len(listed) == len(set(listed))
    pages = [file for folder in ("book", "notebooks") for file in (ROOT / folder).glob("*")]
    found = {file.relative_to(ROOT).with_suffix("").as_posix() for file in pages if file.suffix in {".md", ".ipynb"}}
    assert set(listed) == found


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.name)
def test_notebook_is_stripped_has_parameters_and_uses_the_environments_kernel(file):
    notebook = json.loads(file.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["outputs"] for cell in cells if cell["outputs"]] == []
    assert [cell["execution_count"] for cell in cells if cell["execution_count"] is not None] == []
    assert ["parameters" in cell["metadata"].get("tags", []) for cell in cells].count(True) == 1
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


def test_figures_shown_by_prose_pages_exist_and_have_alternative_text():
    for page in ROOT.glob("book/*.md"):
        text = page.read_text(encoding="utf-8")
        for name, options in re.findall(r"```\{figure\} (\S+)\n((?::.*\n)*)", text):
            assert (page.parent / name).is_file(), f"{page.name} shows {name}, which does not exist"
            assert re.search(r"^:alt: \S", options, flags=re.MULTILINE), f"{page.name}: {name} has no alternative text"


# The base needs neither torch nor transformers.


def test_the_base_imports_where_torch_and_transformers_are_not_installed():
    program = """
import importlib, pkgutil, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "accelerate", "sentencepiece", "sacrebleu"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
for name in sys.argv[1].split(","):
    importlib.import_module(name)
for room in sys.argv[2].split(","):
    package = importlib.import_module(room)
    for module in pkgutil.walk_packages(package.__path__, prefix=room + "."):
        importlib.import_module(module.name)
import addends
print(addends.mixed.__name__)
"""
    command = [sys.executable, "-c", program, ",".join(BASE), ",".join(BASE_ROOMS)]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "addends.statistics.mixed"


def test_importing_the_package_loads_neither_torch_nor_transformers():
    program = "import sys, addends; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.strip() == "[]"


# The commands.


def test_make_without_a_target_lists_the_targets():
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    answer = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("env", "book", "test", "lab", "lint", "clean"):
        assert f"make {target} " in answer.stdout


def test_an_old_python_is_refused_with_its_version_and_what_to_do(tmp_path):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\nif [ "$1" = --version ]; then echo Python 3.9.1; exit 0; fi\nexit 1\n')
    old.chmod(0o755)
    command = ["make", "env", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode != 0
    assert "3.11 or newer" in answer.stderr
    assert "Python 3.9.1" in answer.stderr
    assert "PYTHON=" in answer.stderr
    assert not (tmp_path / "venv").exists()


def test_ci_runs_the_book_and_then_the_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = [line.strip() for line in script.read_text(encoding="utf-8").splitlines()]
    assert lines.index("set -euo pipefail") < lines.index("make book") < lines.index("make test")

"""Two routes into an environment end in the same packages, and the wheel works where there is nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture
def empty(tmp_path) -> str:
    """The Python of an environment that holds nothing but pip."""
    venv.create(tmp_path / "empty", with_pip=True)
    return str(tmp_path / "empty" / "bin" / "python")


def run(*command: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in requirements}


def test_condas_route_resolved_into_an_empty_environment_takes_pinned_packages_alone(empty, tmp_path):
    """What make installs is what `pip install --constraint constraints.txt` takes for the same extras (test_house)."""
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    (lines,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    (tmp_path / "requirements.txt").write_text("\n".join(lines))
    report = tmp_path / "report.json"
    options = ["--dry-run", "--ignore-installed", "--quiet", "--disable-pip-version-check", f"--report={report}"]
    requirements = [word for line in lines for word in line.split(" ", 1)]
    answer = run(empty, "-m", "pip", "install", *options, *requirements, cwd=ROOT)
    if answer.returncode and any(words in answer.stderr for words in ("Connection", "No matching distribution")):
        pytest.skip(f"no package index can be reached: {answer.stderr.splitlines()[-1]}")
    assert answer.returncode == 0, answer.stderr
    taken = {
        canonicalize_name(entry["metadata"]["name"]): entry["metadata"]["version"].split("+")[0]  # "2.13.0+cpu"
        for entry in json.loads(report.read_text())["install"]
    }
    assert taken.pop("addends")
    pinned = pins()
    assert {name: version for name, version in taken.items() if pinned.get(name) != version} == {}
    if sys.platform == "linux" and sys.version_info[:2] == (3, 11):  # newer Pythons need fewer
        assert set(pinned) - set(taken) == set(), "pins that nothing asks for"


def test_the_wheel_installs_into_an_empty_environment_and_fits_without_torch(empty, tmp_path):
    source = tmp_path / "source"  # setuptools builds in place, and would take along what an earlier build left there
    shutil.copytree(ROOT / "lib", source / "lib", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    built = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, source)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("addends-*.whl")
    answer = run(empty, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel)
    if answer.returncode and any(words in answer.stderr for words in ("Connection", "No matching distribution")):
        pytest.skip(f"no package index can be reached: {answer.stderr.splitlines()[-1]}")
    assert answer.returncode == 0, answer.stderr
    program = """
import importlib.util, itertools, sys
import pandas as pd
import addends, crossed
assert importlib.util.find_spec("torch") is None
assert "site-packages" in crossed.__file__ and "site-packages" in addends.__file__
cells = list(itertools.product(range(6), range(8)))
data = pd.DataFrame(cells, columns=["run", "sentence"])
data["y"] = [(7 * run + 3 * sentence + run * sentence) % 11 for run, sentence in cells]
fit = crossed.fit("y ~ 1 + (1 | run) + (1 | sentence)", data)
assert fit.icc()["share"].sum().round(9) == 1
import addends.replication, addends.statistics, addends.figures, addends.tables
from addends.pages.report import NOTEBOOK
assert NOTEBOOK.is_file() and not NOTEBOOK.is_symlink() and '"cells"' in NOTEBOOK.read_text()
from addends.runs import SUITES, read_suite
print([read_suite(name).name for name in SUITES])
"""
    done = run(empty, "-c", program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['european', 'toy', 'toy_factorial']"
    command = run(Path(empty).parent / "addends", "--help", cwd=tmp_path)
    assert command.returncode == 0, command.stderr
    assert "train" in command.stdout

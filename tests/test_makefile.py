"""What the Makefile promises: nothing it did not make is cleared, and the book fails or is executed anew when it must.

No test here installs or clears anything real: the Makefile is copied to a scratch folder, and Python is a script that
writes down how it was called.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

# Stands for every Python: the one that makes environments, and (copied there by `venv`) the environment's own.
PYTHON = """#!/bin/bash
echo "$0 $* HF_HUB_OFFLINE=${HF_HUB_OFFLINE-unset}" >> "$CALLS"
case "$1 $2" in
  "-m venv")
    folder="${@: -1}"
    if [ "$3" = --clear ]; then rm -rf "$folder"/*; fi
    mkdir -p "$folder/bin"
    touch "$folder/pyvenv.cfg"
    cp "$0" "$folder/bin/python"
    if [ -e "$DIES" ]; then exit 1; fi
    touch "$folder/bin/pip";;
  "-m pip") if [ "$3" = --version ]; then [ -e "$(dirname "$0")/pip" ]; fi;;
esac
"""


@pytest.fixture
def scratch(tmp_path):
    """A copy of the Makefile, what it needs to be read, and the script that stands for Python."""
    repository = tmp_path / "repository"
    repository.mkdir()
    shutil.copy(ROOT / "Makefile", repository)
    (repository / "pyproject.toml").touch()
    (repository / "constraints.txt").touch()
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "home").mkdir()
    return repository


def make(repository: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    folder = repository.parent
    cleaned = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MAKE", "MFLAGS"))}
    cleaned |= {"HOME": f"{folder / 'home'}", "CALLS": f"{folder / 'calls'}", "DIES": f"{folder / 'dies'}"}
    command = ["make", *arguments, f"PYTHON={folder / 'python'}"]
    return subprocess.run(command, cwd=repository, env=cleaned | environment, capture_output=True, text=True)


def calls(repository: Path, program: str = "") -> list[str]:
    file = repository.parent / "calls"
    return [line for line in (file.read_text().splitlines() if file.exists() else []) if program in line]


def files_under(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


# The environment.


def test_a_new_environment_is_made_once_and_never_cleared(scratch):
    assert make(scratch, "env").returncode == 0
    (made,) = calls(scratch, "-m venv")
    assert "-m venv --clear .venv " in made
    (installed,) = calls(scratch, "-m pip install")
    assert installed.startswith(f"{scratch / '.venv/bin/python'} ")
    before = len(calls(scratch))
    assert make(scratch, "env").returncode == 0
    assert len(calls(scratch)) == before  # the stamp is newer than the pins


@pytest.mark.parametrize("dry", [["-n"], []], ids=["-n", ""])
@pytest.mark.parametrize("value", ["", "  ", "a folder", ".", "data/..", "{repository}", "{home}", "{link}", "/"])
def test_no_other_folder_is_taken_for_an_environment(scratch, value, dry):
    link = scratch.parent / "link"
    link.symlink_to(scratch.parent / "home")
    value = value.format(repository=scratch, home=scratch.parent / "home", link=link)
    before = files_under(scratch.parent)
    for target in ("env", "book"):
        answer = make(scratch, *dry, target, f"VENV={value}")
        assert answer.returncode == 2
        assert 'the environment is .venv, or, after `conda activate addends`, VENV="$CONDA_PREFIX"' in answer.stderr
    assert calls(scratch) == []
    assert files_under(scratch.parent) == before


def test_a_folder_of_other_things_is_left_as_it_is(scratch):
    (scratch / ".venv").mkdir()
    (scratch / ".venv" / "chapter.tex").write_text("all my work")
    answer = make(scratch, "env")
    assert answer.returncode == 2
    assert "holds something else than an environment" in answer.stderr
    assert files_under(scratch / ".venv") == ["chapter.tex"]
    assert calls(scratch, "venv ") == []


def test_an_old_python_is_refused_with_its_version_and_what_to_do(scratch):
    python = scratch.parent / "python"
    python.write_text('#!/bin/sh\nif [ "$1" = --version ]; then echo Python 3.9.1; exit 0; fi\nexit 1\n')
    answer = make(scratch, "env")
    assert answer.returncode == 2
    assert "3.11 or newer" in answer.stderr
    assert "Python 3.9.1" in answer.stderr
    assert "PYTHON=python3.11" in answer.stderr
    assert not (scratch / ".venv").exists()


def conda(scratch: Path, *files: str) -> Path:
    place = scratch.parent / "conda"
    (place / "conda-meta").mkdir(parents=True)
    (place / "bin").mkdir()
    shutil.copy(scratch.parent / "python", place / "bin" / "python")
    for name in files:
        (place / name).touch()
    return place


def test_the_active_conda_environment_is_installed_into(scratch):
    place = conda(scratch, "bin/pip")
    assert make(scratch, "env", f"VENV={place}").returncode == 2  # it is not active
    assert make(scratch, "env", f"VENV={place}", CONDA_PREFIX=str(place)).returncode == 0
    assert calls(scratch, "-m venv") == []
    assert len(calls(scratch, f"{place}/bin/python -m pip install")) == 1


def test_a_conda_environment_without_pip_is_never_cleared(scratch):
    place = conda(scratch, "pyvenv.cfg")
    before = files_under(place)
    answer = make(scratch, "env", f"VENV={place}", CONDA_PREFIX=str(place))
    assert answer.returncode == 2
    assert "conda install --prefix" in answer.stderr
    assert files_under(place) == before
    assert calls(scratch, "-m venv") == []


def test_an_environment_whose_making_was_cut_off_is_made_again(scratch):
    (scratch.parent / "dies").touch()
    assert make(scratch, "env").returncode == 2
    assert (scratch / ".venv" / "pyvenv.cfg").exists()
    assert not (scratch / ".venv" / ".addends-installed").exists()
    (scratch.parent / "dies").unlink()
    assert make(scratch, "env").returncode == 0
    assert len(calls(scratch, "-m venv --clear ")) == 2
    assert (scratch / ".venv" / ".addends-installed").exists()


# The Hub.


@pytest.mark.parametrize(
    ("arguments", "environment", "value"),
    [((), {}, "1"), (("HF_HUB_OFFLINE=0",), {}, "0"), ((), {"HF_HUB_OFFLINE": "0"}, "0")],
    ids=["as it is", "on the command line", "in the environment"],
)
def test_no_model_is_fetched_unless_it_is_allowed(scratch, arguments, environment, value):
    for name in ("lib", "data"):
        (scratch / name).mkdir()
    (scratch / "_config.yml").touch()
    for target, program in (("test", "-m pytest"), ("book", "jupyter-book build")):
        assert make(scratch, target, *arguments, **environment).returncode == 0
        (call,) = calls(scratch, program)
        assert call.endswith(f"HF_HUB_OFFLINE={value}")


# The book, with the installed programs. The environment named to make holds only a way to them that refuses pip.

CONFIGURATION = """
title: A small book
only_build_toc_files: true
exclude_patterns: [_build, environment]
execute: {execute_notebooks: cache, timeout: 60}
sphinx: {config: {nb_execution_show_tb: true, nb_execution_raise_on_error: false, myst_heading_anchors: 3}}
"""
PAGE = "# Index\n\n[](numbers.ipynb)\n\n```{nb-exec-table}\n```\n"


@pytest.fixture
def small_book(tmp_path):
    """A book of one page and one notebook of one cell, which reads a file of lib/ and one of data/."""
    programs = Path(sys.executable).parent
    if not (programs / "jupyter-book").exists():
        pytest.skip("jupyter-book is not installed")
    for name in ("lib", "data", "environment/bin"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", tmp_path)
    wrapper = tmp_path / "environment" / "bin" / "python"
    wrapper.write_text(
        f'#!/bin/sh\nif [ "$2" = pip ] && [ "$3" != --version ]; then exit 99; fi\nexec "{sys.executable}" "$@"\n'
    )
    wrapper.chmod(0o755)
    (wrapper.parent / "jupyter-book").symlink_to(programs / "jupyter-book")
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    (tmp_path / "installed").touch()
    (tmp_path / "lib" / "number.py").write_text("1111")
    (tmp_path / "data" / "number.csv").write_text("2222")
    (tmp_path / "_config.yml").write_text(CONFIGURATION)
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: index\nchapters: [{file: numbers}]\n")
    (tmp_path / "index.md").write_text(PAGE)
    write_notebook(tmp_path, "print('sum', *(int(open(name).read()) for name in ('lib/number.py', 'data/number.csv')))")
    return tmp_path


def write_notebook(folder: Path, code: str) -> None:
    cells = [
        {"cell_type": "markdown", "id": "title", "metadata": {}, "source": "# Numbers"},
        {"cell_type": "code", "id": "code", "metadata": {}, "source": code, "outputs": [], "execution_count": None},
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (folder / "numbers.ipynb").write_text(json.dumps(notebook))


def build(folder: Path) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    place = str(folder / "environment")
    command = ["make", "book", f"VENV={place}", f"INSTALLED={folder / 'installed'}"]
    environment |= {"CONDA_PREFIX": place}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def shown(folder: Path, page: str) -> str:
    return re.sub(r"<[^>]*>", " ", (folder / "_build" / "html" / f"{page}.html").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_changed_file_is_seen_and_what_is_wrong_fails_the_book(small_book):
    first = build(small_book)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "file://" in first.stdout
    assert "sum 1111 2222" in shown(small_book, "numbers")
    # The table of execution times: the notebook, when it ran, how, for how many seconds, and that it ended well.
    assert re.search(r"numbers\s+20\d\d-\d\d-\d\d \d\d:\d\d\s+cache\s+\d+\.\d+\s+✅", shown(small_book, "index"))

    (small_book / "lib" / "number.py").write_text("3333")
    (small_book / "data" / "number.csv").write_text("4444")
    assert build(small_book).returncode == 0
    assert "sum 3333 4444" in shown(small_book, "numbers")

    (small_book / "index.md").write_text(PAGE + "\n[a link](nowhere.md)\n")
    for _ in range(2):  # a page that has not changed since the failure is read, and warned about, again
        broken = build(small_book)
        assert broken.returncode != 0
        assert "nowhere.md" in broken.stdout + broken.stderr

    (small_book / "index.md").write_text(PAGE)
    write_notebook(small_book, "raise ValueError('this cell fails')")
    failed = build(small_book)
    assert failed.returncode != 0
    assert "this cell fails" in failed.stdout + failed.stderr

"""The site: one key turns its links to the repository on; version and date are read, not typed; Binder has no torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import venv
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from addends.pages import site

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted([*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("book/*.ipynb")])
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


def test_the_book_loads_the_extension_and_types_no_address():
    assert "addends.pages.site" in CONFIG["sphinx"]["extra_extensions"]
    assert set(CONFIG["repository"]) == {"url", "branch"}
    assert not {"use_repository_button", "use_issues_button", "use_edit_page_button"} & set(CONFIG["html"])


@pytest.mark.parametrize("url", ["", "https://github.com/someone/somewhere"])
def test_buttons_are_there_where_the_address_is(url):
    config = SimpleNamespace(html_theme_options={"repository_url": url, "launch_buttons": {"notebook_interface": "x"}})
    site.repository_buttons(None, config)
    options = config.html_theme_options
    for button in ("use_repository_button", "use_issues_button", "use_edit_page_button"):
        assert options[button] is bool(url)
    assert ("binderhub_url" in options["launch_buttons"]) is bool(url)
    assert options["launch_buttons"]["notebook_interface"] == "x"


@pytest.mark.slow
def test_a_built_page_has_the_buttons_once_the_key_is_set(tmp_path):
    """A book of two notebooks, one of which needs torch, built with an address and without one."""
    cells = {
        "light": "import addends.tables",
        "heavy": "from addends.decomposition import labels",
    }
    for name, source in cells.items():
        code = {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
        words = {"cell_type": "markdown", "metadata": {}, "source": f"# {name}"}
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = {"cells": [words, code], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 4}
        (tmp_path / f"{name}.ipynb").write_text(json.dumps(notebook))
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: light\nchapters: [{file: heavy}, {file: book/cite}]")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "cite.md").write_text("# How to cite\n")
    (tmp_path / "references.bib").write_text("")
    config = {name: CONFIG[name] for name in ("title", "author", "launch_buttons")}
    config |= {"execute": {"execute_notebooks": "off"}, "only_build_toc_files": True}
    config["sphinx"] = {"extra_extensions": ["addends.pages.site"]}
    config["bibtex_bibfiles"] = ["references.bib"]
    builder = Path(sys.executable).with_name("jupyter-book")
    for url in ("https://github.com/someone/somewhere", ""):
        config["repository"] = {"url": url, "branch": "main"}
        (tmp_path / "_config.yml").write_text(yaml.safe_dump(config))
        built = subprocess.run(
            [sys.executable, builder, "build", "--all", tmp_path], capture_output=True, text=True, cwd=tmp_path
        )
        assert built.returncode == 0, built.stderr
        light, heavy = ((tmp_path / "_build" / "html" / f"{name}.html").read_text() for name in cells)
        for page in (light, heavy):
            assert ("https://github.com/someone/somewhere/issues/new" in page) is bool(url)
            assert ("https://github.com/someone/somewhere/edit/main/" in page) is bool(url)
            assert "executablebooks/jupyter-book" not in page
            assert re.search(r'extra_footer">\s*<p>addends [\d.]+, .* <a href="book/cite.html">How to cite</a>', page)
        binder = "https://mybinder.org/v2/gh/someone/somewhere/main?urlpath=lab/tree/light.ipynb"
        assert (binder in light) is bool(url)
        assert "mybinder.org" not in heavy


def test_the_footer_says_version_day_licence_and_how_to_cite():
    said = site.footer("1.2.3", date(2026, 11, 2), "abc1234", "../book/cite.html")
    assert "addends 1.2.3, 2 November 2026 (commit abc1234). BSD 3-Clause" in said
    assert '<a href="../book/cite.html">' in said
    assert "commit" not in site.footer("1.2.3", date(2026, 11, 2), "", "")


def test_the_day_is_that_of_the_last_commit_or_today(tmp_path):
    day, commit = site.last_change(tmp_path)
    assert (type(day), commit) == (date, "")
    if (ROOT / ".git").exists():
        told = subprocess.run(["git", "log", "-1", "--format=%h"], cwd=ROOT, capture_output=True, text=True).stdout
        assert site.last_change(ROOT)[1] == told.strip()


# Binder.


def imports_of(notebook: Path) -> str:
    """The import statements of a notebook, as a program."""
    import ast

    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    tree = ast.parse(re.sub(r"^[%!].*$", "", code, flags=re.MULTILINE))
    return "\n".join(ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))


ABSENT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "sacrebleu", "sentencepiece", "accelerate"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


def test_what_binder_tries_after_its_installation_works_without_torch():
    script = (ROOT / ".binder" / "postBuild").read_text(encoding="utf-8")
    (program,) = re.findall(r'^python -c "(.*)"$', script, flags=re.MULTILINE)
    answer = subprocess.run([sys.executable, "-c", f"{ABSENT}\n{program}"], capture_output=True, text=True, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr


def test_pages_that_binder_offers_import_without_torch():
    light = [page for page in NOTEBOOKS if not site.needs_torch(page)]
    assert 8 <= len(light) < len(NOTEBOOKS)
    program = ABSENT + "\n".join(imports_of(page) for page in light)
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr
    for page in set(NOTEBOOKS) - set(light):
        parameters = page.read_text(encoding="utf-8")
        needed = ("model_name = ", "addends.interventions", "import torch")
        assert any(words in parameters for words in needed), page.name


@pytest.mark.slow
def test_binders_environment_is_pinned_and_has_no_torch(tmp_path):
    venv.create(tmp_path / "empty", with_pip=True)
    report = tmp_path / "report.json"
    command = [tmp_path / "empty" / "bin" / "python", "-m", "pip", "install", "--dry-run", "--ignore-installed"]
    command += ["--quiet", "--disable-pip-version-check", f"--report={report}", "-r", ".binder/requirements.txt"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if answer.returncode and any(words in answer.stderr for words in ("Connection", "No matching distribution")):
        pytest.skip(f"no package index can be reached: {answer.stderr.splitlines()[-1]}")
    assert answer.returncode == 0, answer.stderr
    taken = {canonicalize_name(one["metadata"]["name"]) for one in json.loads(report.read_text())["install"]}
    assert {"addends", "jupyterlab", "myst-nb"} <= taken
    assert not {"torch", "transformers", "accelerate"} & taken
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(Requirement(line).name) for line in lines if line and not line.startswith("#")}
    assert taken - pinned <= {"addends"}


def test_the_workflow_builds_and_publishes_the_folder_that_make_book_writes():
    text = (ROOT / ".github" / "workflows" / "pages.yml").read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    build = workflow["jobs"]["build"]["steps"]
    assert any("make book" in step.get("run", "") for step in build)
    (upload,) = [step for step in build if "upload-pages-artifact" in step.get("uses", "")]
    assert upload["with"]["path"] == "_build/html"
    (cache,) = [step for step in build if "actions/cache" in step.get("uses", "")]
    assert "_build/.jupyter_cache" in cache["with"]["path"]
    assert workflow["jobs"]["publish"]["needs"] == "build"
    assert workflow[True]["push"]["branches"] == ["main"]  # YAML reads `on` as True

"""The facts about the repository that its two commands rest on."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
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
BASE = ["addends", "addends.cli", "addends.tables", "addends.checks", "addends.provenance"]
BASE_ROOMS = ["crossed", "addends.statistics", "addends.replication", "addends.figures", "addends.pages"]


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
    "name", ["lib/addends/new.py", "data/new/table.parquet", "data/new/model.safetensors", "notebooks/10_new.ipynb"]
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
    chapters = [chapter for part in toc["parts"] for chapter in part["chapters"]]
    sections = [section for chapter in chapters for section in chapter.get("sections", [])]
    listed = [toc["root"]] + [page["file"] for page in chapters + sections]
    assert len(listed) == len(set(listed))
    pages = [file for folder in ("book", "notebooks") for file in (ROOT / folder).glob("*")]
    found = {file.relative_to(ROOT).with_suffix("").as_posix() for file in pages if file.suffix in {".md", ".ipynb"}}
    assert set(listed) == found
    numbered = [chapter["file"] for part in toc["parts"] if "numbered" in part for chapter in part["chapters"]]
    assert [int(Path(file).name[:2]) for file in numbered] == list(range(1, len(numbered) + 1)), (
        "a page has its file's number"
    )
    notebooks = [file.removeprefix("notebooks/") for file in listed if file.startswith("notebooks/")]
    assert [name[:2] for name in notebooks] == [f"{place:02}" for place in range(1, len(notebooks) + 1)], (
        "reading order"
    )


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


def test_the_symbols_page_names_every_column_of_the_tables_and_of_the_correlations():
    from addends import replication
    from addends.replication.checkpoint_pairs import COEFFICIENTS
    from addends.tables import METRICS, SCHEMAS

    page = (ROOT / "book" / "symbols.md").read_text(encoding="utf-8")
    described = set(re.findall(r"`([a-z_]+)`", page))
    columns = {
        column
        for table in ("translations", "measurements", "trajectories", "interventions")
        for column in SCHEMAS[table].columns
    }
    assert columns | set(METRICS) | set(COEFFICIENTS) <= described | {"by"}
    for name, frame in replication.read(ROOT / "data" / "published_results").items():
        numbers = {column for column in frame.select_dtypes(["float", "bool"]) if name != "facts"}
        assert numbers <= described | {"pairs", "pairs_released"}, name
    assert '`by="sublayer"`' in page
    assert '`by="token"`' in page


def test_the_tangent_of_the_symbols_page_is_the_one_that_is_computed():
    """The equation's two sides, with numbers: the sum over k and the intercept give what the feed-forward writes."""
    import numpy as np

    page = (ROOT / "book" / "symbols.md").read_text(encoding="utf-8")
    assert r"W_2 \bigl( f(\mathbf{z}) - f'(\mathbf{z}) \odot (\mathbf{z} - \mathbf{b}_1) \bigr) + \mathbf{b}_2" in page
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(7, 4)), generator.normal(size=(4, 7))
    b_1, b_2, terms = generator.normal(size=7), generator.normal(size=4), generator.normal(size=(3, 4))
    z = first @ terms.sum(axis=0) + b_1
    slope = 1 - np.tanh(z) ** 2
    summands = [second @ (slope * (first @ term)) for term in terms]
    rest = second @ (np.tanh(z) - slope * (z - b_1)) + b_2
    np.testing.assert_allclose(sum(summands) + rest, second @ np.tanh(z) + b_2, rtol=1e-12)


# The README.


def readme_programs() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_readme_says_which_notebooks_take_a_model_and_which_take_tables():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    takes = {"model_name =": "take a model", "data =": "take a folder of tables"}
    for parameter, words in takes.items():
        sentence = re.search(rf"Notebooks ((?:\d\d(?:, | and )?)+) {words}", readme)
        assert sentence, f"README.md is to say which notebooks {words}"
        named = set(re.findall(r"\d\d", sentence[1]))
        found = set()
        for file in ROOT.glob("notebooks/*.ipynb"):
            cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
            (parameters,) = ["".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", [])]
            if parameter in parameters:
                found.add(file.name[:2])
        assert found == named


def test_the_readmes_lines_make_tables_of_ones_own_models(tmp_path, monkeypatch, make_marian, tokenizer):
    import crossed
    from addends import tables

    monkeypatch.chdir(tmp_path)
    for seed in (1, 2, 3):
        make_marian(seed=seed).save_pretrained(f"mine-{seed}")
        tokenizer.save_pretrained(f"mine-{seed}")
    (program,) = [program for program in readme_programs() if "tables.write" in program]
    sources = ["la maison est grande", "le chat dort", "il pleut"]
    exec(program, {"sources": sources, "references": ["the house is big", "the cat sleeps", "it rains"]})
    measured = tables.read_suite("runs/mine", "measurements")
    assert sorted(measured["run"].unique()) == ["mine-1", "mine-2", "mine-3"]
    assert sorted(measured["sentence"].unique()) == ["0", "1", "2"]
    chosen = measured[(measured["by"] == "sublayer") & (measured["layer"] == 2) & (measured["term"] == "S")]
    assert len(chosen) == 9
    # What notebook 05 does with them.
    shares = crossed.crossed_shares(chosen, "importance", "run", "sentence")["share"]
    assert shares.sum() == pytest.approx(1)
    fit = crossed.fit("importance ~ 1 + (1 | run) + (1 | sentence)", chosen)
    assert fit.icc()["share"].sum() == pytest.approx(1)


def test_the_readmes_first_lines_name_what_there_is():
    import addends

    (program,) = [program for program in readme_programs() if "decompose" in program]
    names = set(re.findall(r"addends\.([a-z_]+)", program))
    assert {"load", "encode", "decompose", "indicators"} <= names <= set(addends.__all__)
    compile(textwrap.dedent(program), "README.md", "exec")


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
    assert answer.stdout.strip() == "crossed"


def test_importing_the_package_loads_neither_torch_nor_transformers():
    program = "import sys, addends; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.strip() == "[]"


# The commands.


def test_make_without_a_target_lists_the_targets():
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    answer = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("env", "book", "test", "quick", "lab", "lint", "coverage", "replicate", "clean"):
        assert re.search(rf"^make {target} +\S", answer.stdout, flags=re.MULTILINE)


def test_ci_runs_lint_the_book_and_then_the_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = [line.strip() for line in script.read_text(encoding="utf-8").splitlines()]
    assert (
        lines.index("set -euo pipefail")
        < lines.index("make lint")
        < lines.index("make book")
        < lines.index("make test")
    )


def test_the_version_is_one():
    version = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert f"version = {{{version}}}" in (ROOT / "book" / "cite.md").read_text(encoding="utf-8")
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")

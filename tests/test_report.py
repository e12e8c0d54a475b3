"""Reports: the book's notebook on models of a reader's own, as one file that shows nothing raw; clear refusals."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from addends.cli import main
from addends.errors import DataError, InputError
from addends.pages.report import KINDS, NOTEBOOK, as_html, label_of, models_in, reduced, report
from tests.conftest import SOURCES, TARGETS

ROOT = Path(__file__).parents[1]


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    return ended.value.code


def text_of(page: str) -> str:
    """What a reader reads of a page: no tags, no styles."""
    return re.sub(r"\s+", " ", re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_marian, tokenizer) -> Path:
    """Three models that differ in their seeds, a copy of the first, and files of sentences."""
    place = tmp_path_factory.mktemp("models")
    for seed in (1, 2, 10):
        make_marian(seed=seed).save_pretrained(place / "mine" / f"seed-{seed}")
        tokenizer.save_pretrained(place / "mine" / f"seed-{seed}")
    shutil.copytree(place / "mine" / "seed-1", place / "copy")
    (place / "sources.txt").write_text("".join(f"{line}\n" for line in SOURCES), encoding="utf-8")
    (place / "targets.txt").write_text("".join(f"{line}\n" for line in TARGETS), encoding="utf-8")
    return place


# The notebook.


def test_there_is_one_notebook_and_the_package_links_to_it():
    (page,) = ROOT.glob("notebooks/*_bring_your_own_model.ipynb")
    assert NOTEBOOK.is_symlink()
    assert NOTEBOOK.resolve() == page.resolve()


def test_the_report_leaves_out_what_is_about_the_page_and_begins_in_short():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    one, several = ("\n".join("".join(c["source"]) for c in reduced(notebook, s)["cells"]) for s in (False, True))
    for text in (one, several):
        assert text.startswith("## Take-aways")
        assert "## What to change" not in text
        assert "# Bring your own model" not in text
        assert "{cite" not in text  # a wheel has no bibliography
        assert not re.search(r"\$[^$]+\$", text)  # nor MathJax
    assert "run or sentence?" in several
    assert "run or sentence?" not in one
    assert "measure_models" not in one


def test_a_wheel_holds_the_notebook_itself(tmp_path):
    """What setuptools packs, without building: the patterns of pyproject.toml, and a copy that follows the link."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (pattern,) = project["tool"]["setuptools"]["package-data"]["addends.pages"]
    assert NOTEBOOK in list((ROOT / "lib" / "addends" / "pages").glob(pattern))
    copied = shutil.copy(NOTEBOOK, tmp_path)
    assert json.loads(Path(copied).read_text(encoding="utf-8"))["cells"]


def test_without_its_notebook_the_report_says_where_it_would_be(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(sys.modules["addends.pages.report"], "NOTEBOOK", tmp_path / "none.ipynb")
    with pytest.raises(DataError, match=r"The notebook behind the report is not at .*none\.ipynb"):
        report([str(folder / "copy")], SOURCES, output=tmp_path / "x.html")


# One model.


@pytest.mark.slow
def test_a_model_becomes_one_file_that_fetches_nothing_and_shows_nothing_raw(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    files = ["--sources", folder / "sources.txt", "--targets", folder / "targets.txt"]
    assert call("report", folder / "copy", *files) == 0
    assert capsys.readouterr().out == "Written: report-copy.html\n"
    page = (tmp_path / "report-copy.html").read_text(encoding="utf-8")
    said = text_of(page)
    assert "is supported: yes" in said
    assert "error 1.0e-" in said or re.search(r"error \d\.\de-\d\d", said)  # exactness
    assert "x the forward pass" in said  # speed
    assert re.search(r"weights, SHA-256 [0-9a-f]{64}", said)
    assert re.search(r"versions python \S+, addends \S+, torch", said)
    assert re.search(r"executed \d{4}-\d\d-\d\d", said)
    assert f"command addends report {folder}/copy --sources" in said
    assert "Several models" not in said
    assert not re.search(r"\{[a-z:]+\}`|\]\(|\[\]", said)
    assert "addends.load(" not in said  # code is not shown
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "<script" not in page
    pictures = re.findall(r'<figure><img alt="([^"]+)" src="data:image/(?:png|svg\+xml);base64,[^"]{100,}"/?>', page)
    assert len(pictures) == 5
    assert page.count("<figcaption>") == 5
    before = page
    code = call("report", folder / "copy", *files)
    assert code == 1
    assert "report-copy.html is there. Name another file with --output, or replace" in capsys.readouterr().err
    assert (tmp_path / "report-copy.html").read_text(encoding="utf-8") == before
    assert list(tmp_path.iterdir()) == [tmp_path / "report-copy.html"]


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_refused_in_the_notebooks_words(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    broken = Path(shutil.copytree(folder / "copy", tmp_path / "broken"))
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"model_type": "bloom"}))
    assert call("report", "broken", "--sources", folder / "sources.txt") == 1
    said = capsys.readouterr().err
    assert re.search(r"^addends: .*bloom", said, flags=re.MULTILINE)
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == [broken]


@pytest.mark.parametrize(
    ("name", "message", "said"),
    [
        ("InputError", "There is no folder 'x', and the environment", "There is no folder 'x', and the environment"),
        (
            "UnsupportedModelError",
            "The pre-flight check says no: family: ...",
            "The pre-flight check says no: family: ...",
        ),
        (
            "OutOfMemoryError",
            "CUDA",
            "stopped at the cell that begins with 'parts = decompose': OutOfMemoryError: CUDA",
        ),
    ],
)
def test_what_stops_the_notebook_is_said_and_nothing_is_written(tmp_path, monkeypatch, name, message, said):
    import papermill

    def stop(*given, **named):
        raise papermill.PapermillExecutionError(3, 3, "parts = decompose\nmore", name, message, [])

    monkeypatch.setattr(papermill, "execute_notebook", stop)
    with pytest.raises(DataError, match=re.escape(said)):
        report(["a"], SOURCES, output=tmp_path / "x.html")
    assert list(tmp_path.iterdir()) == []


# Several models.


@pytest.mark.slow
def test_a_folder_of_seeds_is_asked_run_or_sentence(folder, tmp_path):
    written = report([str(folder / "mine")], SOURCES, TARGETS, tmp_path / "seeds.html", progress=False)
    said = text_of(written.read_text(encoding="utf-8"))
    assert "Report on seed-1, seed-2, seed-10" in said
    assert "Run or sentence? 3 runs and 4 sentences." in said
    assert "known within the factors 0.52 and 6.3" in said
    assert "one model cannot tell" not in said.lower()
    assert re.search(r"sublayer 2 S \d\.\d\d \[\d\.\d\d, \d\.\d\d\]", said)
    assert len(set(re.findall(r"seed-\d+ ([0-9a-f]{12}) 4", said))) == 3


@pytest.mark.slow
def test_checkpoints_of_one_run_have_no_intervals_and_are_no_runs(folder, tmp_path):
    names = [str(folder / "mine" / f"seed-{seed}") for seed in (1, 2)]
    output = tmp_path / "checkpoints.html"
    said = text_of(report(names, SOURCES, TARGETS, output, are="checkpoints", progress=False).read_text("utf-8"))
    assert "2 checkpoints and 4 sentences." in said
    assert "Checkpoints of one run add no run" in said
    assert "95 % interval" not in said.replace("Lines are 95 % generalised intervals", "")
    assert not re.search(r"sublayer 2 S \d\.\d\d \[", said)


def test_a_folder_stands_for_the_models_in_it_in_their_order(folder):
    names = models_in([str(folder / "mine")])
    assert [Path(name).name for name in names] == ["seed-1", "seed-2", "seed-10"]
    assert models_in(["a/name-on-the-hub"]) == ["a/name-on-the-hub"]
    assert label_of([str(folder / "mine")]) == "mine"
    assert label_of(["org/a name"]) == "a-name"
    assert label_of(["a", "b", "c"]) == "a-and-2-more"


# Refusals before anything is executed.


@pytest.fixture
def untouched(monkeypatch):
    import papermill

    monkeypatch.setattr(papermill, "execute_notebook", lambda *given, **named: pytest.fail("it was executed"))


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("sources", "targets", "message"),
    [
        (b"a\nb\nc\n", b"a\nb\n", r"sources.txt has 3 lines and .*targets.txt has 2"),
        (b"a\n\nc\n \n", None, r"sources.txt, 2 lines are empty .*: lines 2, 4 "),
        (b"a\n\xff\xfe\n", None, r"sources.txt, line 2 is not UTF-8"),
        (b"a\nb\n", b"a\n\n", r"targets.txt, line 2 is empty"),
        (b"", None, r"there is no sentence"),
        (None, None, r"sources.txt is missing, or no file"),
    ],
)
def test_files_that_cannot_be_read_are_named_with_line_and_fault(tmp_path, capsys, folder, sources, targets, message):
    arguments = ["report", folder / "copy", "--sources", tmp_path / "sources.txt"]
    if sources is not None:
        (tmp_path / "sources.txt").write_bytes(sources)
    if targets is not None:
        (tmp_path / "targets.txt").write_bytes(targets)
        arguments += ["--targets", tmp_path / "targets.txt"]
    assert call(*arguments, "--output", tmp_path / "x.html") == 1
    said = capsys.readouterr().err
    assert said.startswith("addends: ")
    assert re.search(message, said)
    assert not (tmp_path / "x.html").exists()


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        (["empty"], {}, "The folder .*empty' holds no model: neither it nor a folder in it"),
        (["checkpoint-1", "checkpoint-20"], {}, "named like checkpoints. Say what they are: --are checkpoints"),
        (["a", "a"], {}, "'a' is named twice"),
        ([], {}, "none is named"),
        (["a", "b"], {"are": "runs"}, r"are='runs' is not one of \('seeds', 'checkpoints'\)"),
        (["a", "b"], {"sources": ["one"]}, "give two of them or more"),
        (["a"], {"targets": ["one"]}, "There are 4 sources and 1 targets"),
    ],
)
def test_models_and_sentences_that_do_not_go_together_are_refused_first(
    tmp_path, monkeypatch, models, options, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        report(models, **{"sources": SOURCES, **options})


@pytest.mark.usefixtures("untouched")
def test_a_report_that_is_there_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report-a.html").write_text("mine")
    with pytest.raises(InputError, match=r"report-a\.html is there\. Name another file with --output"):
        report(["a"], SOURCES)
    assert (tmp_path / "report-a.html").read_text() == "mine"


def test_without_papermill_the_report_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "papermill", None)
    with pytest.raises(ImportError, match=r"A report needs papermill.*pip install 'addends\[book\]'"):
        report(["a"], SOURCES)


def test_without_torch_the_report_says_what_to_install(monkeypatch):
    module = sys.modules["addends.pages.report"]
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(ImportError, match=r"A report needs torch.*pip install 'addends\[models,book\]'"):
        report(["a"], SOURCES)


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_knows_the_same_kinds(kind):
    from addends.cli import Kind

    assert Kind(kind).value == kind


def test_progress_bars_and_removed_cells_are_not_shown():
    cells = [
        {"cell_type": "code", "metadata": {}, "source": "x = 1", "execution_count": 1, "outputs": [
            {"output_type": "stream", "name": "stderr", "text": "50%|##"},
            {"output_type": "stream", "name": "stdout", "text": "shown"},
        ]},
        {"cell_type": "code", "metadata": {"tags": ["remove-cell"]}, "source": "y", "execution_count": 2, "outputs": [
            {"output_type": "stream", "name": "stdout", "text": "hidden"},
        ]},
    ]  # fmt: skip
    page = as_html({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}, "A <title>")
    assert "shown" in page
    assert "hidden" not in page
    assert "50%" not in page
    assert "<title>A &lt;title&gt;</title>" in page
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    assert text_of(as_html(notebook, "A")).count("x = 1") == 0
    assert text_of(as_html(notebook, "A", code=True)).count("x = 1") == 1

"""A report on a model of one's own: the book's notebook, executed on it, as one file that needs nothing else.

    report(["my-model"], sources, targets)                      -> report-my-model.html
    report(["seed-1", "seed-2", "seed-3"], sources, targets)    the same, and: run or sentence?

The notebook is the page "Bring your own model". It stands in the repository's ``notebooks/`` alone; what stands beside
this module is a link to it, and a wheel holds the file itself. Cells tagged ``page-only`` are about the page and not
about a model, and cells tagged ``several-models`` ask of several what one cannot tell: a report leaves them out. Cells
tagged ``in-short`` come first.
"""

from __future__ import annotations

import base64
import copy
import html
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from addends import tables
from addends.checks import check_choice, optional_module
from addends.errors import AddendsError, DataError, InputError
from addends.pages.plain import Known, glued, plain

NOTEBOOK = Path(__file__).parent / "bring_your_own_model.ipynb"
KINDS = ("seeds", "checkpoints")
_STEP = re.compile(r"(?:checkpoint|step)[-_]?\d+", flags=re.IGNORECASE)
_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.55 system-ui, sans-serif; margin: 0; }
main { max-width: 52rem; margin: 0 auto; padding: 1rem; }
h1, h2 { line-height: 1.2; }
h2 { margin-top: 2.5rem; }
figure { margin: 1.5rem 0; }
figure img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figcaption { font-size: .9rem; opacity: .85; }
pre { overflow-x: auto; padding: .6rem; border: 1px solid #8886; border-radius: 4px; font-size: .85rem; }
.output_html, .output_area { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #8884; text-align: left; vertical-align: top; }
.prompt { display: none; }
@media print { main { max-width: none; } pre, figure, tr { break-inside: avoid; } }
"""


def report(
    models: Sequence[str],
    sources: Sequence[str],
    targets: Sequence[str] | None = None,
    output: str | os.PathLike | None = None,
    *,
    are: str | None = None,
    again: bool = False,
    code: bool = False,
    progress: bool = True,
    command: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Path:
    """Execute the notebook on one model or several, and write what it shows to one HTML file, atomically.

    Parameters
    ----------
    models : sequence of str
        Folders written by ``save_pretrained``, names on the Hub, or folders that hold such folders.
    sources, targets : sequence of str
        As for `addends.measure`.
    output : path, optional
        By default ``report-<model>.html`` in the working folder.
    are : {"seeds", "checkpoints"}, optional
        What several models are: runs that were trained apart, or checkpoints of one run. To be said where their names
        look like steps of one run; else they are taken for seeds.
    again : bool
        Whether a file that is there may be replaced.
    code : bool
        Whether the code is shown too.
    progress : bool
        Whether a bar is shown, a step a cell.
    command : str, optional
        What was typed: it stands in the report.
    parameters : mapping, optional
        Other parameters of the notebook: revision, dtype, device, source_language, target_language, generation.

    Raises
    ------
    InputError
        If there is no model, sources and targets differ in number, ``are`` is to be said, or the file is there.
    DataError
        If the notebook is not there; or, with the message of whatever cell stopped, if it cannot be executed. A model
        that the notebook refuses is refused in its words.
    ImportError
        If papermill, nbconvert, torch or transformers is not installed: the message says how to get them.
    """
    papermill = optional_module("papermill", "book", "A report")
    optional_module("nbconvert", "book", "A report")
    lacking = [
        name for name in ("torch", "transformers") if find_spec(name) is None
    ]  # they are the notebook's to import
    if lacking:
        raise ImportError(f"A report needs {lacking[0]}, which is not installed: pip install 'addends[models,book]'.")
    names = models_in(models)
    kind = _kind(names, are)
    _check_sentences(names, sources, targets)
    output = Path(f"report-{label_of(models)}.html" if output is None else output)
    if output.exists() and not again:
        raise InputError(f"{output} is there. Name another file with --output, or replace this one with --again.")
    given = {"model_name": names[0], "models": names if len(names) > 1 else [], "models_are": kind, "shown": 0}
    given |= {"sources": list(sources), "targets": None if targets is None else list(targets), "command": command}
    notebook = reduced(_read_notebook(), several=len(names) > 1)
    with tempfile.TemporaryDirectory(prefix="addends-report-") as folder:
        source, executed = Path(folder, "report.ipynb"), Path(folder, "executed.ipynb")
        source.write_text(json.dumps(notebook), encoding="utf-8")
        try:
            papermill.execute_notebook(
                str(source),
                str(executed),
                parameters=given | dict(parameters or {}),
                kernel_name="python3",
                cwd=str(Path.cwd()),  # where the names of folders that were typed lead somewhere
                progress_bar=progress,
                extra_arguments=["--log-level=ERROR"],  # of the kernel, which warns of what is so on every machine
            )
        except papermill.PapermillExecutionError as error:
            raise _refusal(error) from error
        done = json.loads(executed.read_text(encoding="utf-8"))
    page = as_html(done, f"Report on {', '.join(_short(names))}", code)
    return tables.write_atomically(output, lambda part: Path(part).write_text(page, encoding="utf-8"))


def models_in(given: Sequence[str]) -> list[str]:
    """The models that are named: each by itself, and of a folder that holds model folders all of these, in order.

    Raises
    ------
    InputError
        If none is named, one is named twice, or a folder holds neither a model nor model folders.
    """
    found: list[str] = []
    for name in given:
        folder = Path(name)
        if not folder.is_dir() or (folder / "config.json").exists():
            found.append(name)  # whether it is a name that leads to a model, loading it tells
            continue
        inside = [each for each in folder.iterdir() if (each / "config.json").exists()]
        if not inside:
            raise InputError(
                f"The folder {name!r} holds no model: neither it nor a folder in it has a config.json. Name a folder "
                "written by save_pretrained, or one that holds such folders."
            )
        found += [str(each) for each in sorted(inside, key=_natural)]
    places = [Path(name).resolve() if Path(name).exists() else name for name in found]
    twice = [name for number, name in enumerate(found) if places[number] in places[:number]]
    if not found or twice:
        raise InputError(f"MODEL: {f'{twice[0]!r} is named twice' if twice else 'none is named'}. Name each once.")
    return found


def label_of(models: Sequence[str]) -> str:
    """The models as a part of a file's name."""
    first = re.sub(r"[^\w.+-]+", "-", Path(os.path.abspath(models[0])).name if models[0].strip("/") else "model")
    return first if len(models) == 1 else f"{first}-and-{len(models) - 1}-more"


def reduced(notebook: Mapping[str, Any], several: bool) -> dict[str, Any]:
    """The notebook without the cells that a report leaves out, what it says in short on top."""
    dropped = {"page-only"} if several else {"page-only", "several-models"}
    kept = [cell for cell in notebook["cells"] if not dropped & set(cell["metadata"].get("tags", []))]
    return {**notebook, "cells": sorted(kept, key=lambda cell: "in-short" not in cell["metadata"].get("tags", []))}


def as_html(notebook: Mapping[str, Any], title: str, code: bool = False) -> str:
    """An executed notebook as one HTML page that fetches nothing: numbers in the text, pictures inside."""
    exporter = optional_module("nbconvert", "book", "A report").HTMLExporter(
        template_name="basic",
        exclude_input=not code,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    known = Known(values=glued(notebook))
    cells = [_shown(cell, known) for cell in copy.deepcopy(notebook["cells"])]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "report.ipynb")
        file.write_text(json.dumps({**notebook, "cells": cells}), encoding="utf-8")
        body, _ = exporter.from_filename(str(file))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{html.escape(title)}</h1>\n{body}\n</main>\n</body>\n"
        "</html>\n"
    )


def _shown(cell: dict, known: Known) -> dict:
    """A cell as the report shows it: plain Markdown, pictures with caption and alt text, no progress bars."""
    if cell["cell_type"] == "markdown":
        return cell | {"source": plain("".join(cell["source"]), known)}
    if cell["cell_type"] != "code":
        return cell
    about = cell["metadata"].get("mystnb", {})
    outputs = []
    for output in cell["outputs"]:
        if output.get("metadata", {}).get("scrapbook") or output.get("name") == "stderr":
            continue
        picture = _picture(output.get("data", {}), about, known)
        outputs.append(output if picture is None else output | {"data": {"text/html": picture}, "metadata": {}})
    if "remove-cell" in cell["metadata"].get("tags", []):
        return {"cell_type": "markdown", "metadata": {}, "id": cell.get("id", "removed"), "source": ""}
    return cell | {"outputs": outputs}


def _picture(data: Mapping[str, Any], about: Mapping[str, Any], known: Known) -> str | None:
    """An output that is a picture as HTML, its bytes inside."""
    if "image/png" in data:
        kind, bytes_ = "image/png", "".join(data["image/png"]).replace("\n", "")
    elif "image/svg+xml" in data:
        kind, bytes_ = "image/svg+xml", base64.b64encode("".join(data["image/svg+xml"]).encode()).decode()
    else:
        return None
    caption, alt = (about.get(part, {}).get(name, "") for part, name in (("figure", "caption"), ("image", "alt")))
    beneath = f"<figcaption>{html.escape(plain(caption, known))}</figcaption>" if caption else ""
    return f'<figure><img alt="{html.escape(alt)}" src="data:{kind};base64,{bytes_}">{beneath}</figure>'


def _read_notebook() -> dict[str, Any]:
    try:
        return json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"The notebook behind the report is not at {NOTEBOOK}, or cannot be read there ({error}). It is a link to "
            "notebooks/16_bring_your_own_model.ipynb, where this package is installed from a clone: check the clone "
            "out on a file system that has links, or install a wheel, which holds the notebook itself."
        ) from error


def _kind(names: Sequence[str], are: str | None) -> str:
    """What several models are, where it was said or can be told."""
    if are is not None:
        check_choice("are", are, KINDS, "report")
        return are
    if len(names) > 1 and all(_STEP.fullmatch(Path(name).name) for name in names):
        raise InputError(
            f"The models {Path(names[0]).name!r} to {Path(names[-1]).name!r} are named like checkpoints. Say what they "
            "are: --are checkpoints (of one run: they add no runs), or --are seeds (each of a run of its own)."
        )
    return KINDS[0]


def _check_sentences(names: Sequence[str], sources: Sequence[str], targets: Sequence[str] | None) -> None:
    if not sources:
        raise InputError("sources: there is no sentence. Give one a line.")
    if targets is not None and len(targets) != len(sources):
        raise InputError(
            f"There are {len(sources)} sources and {len(targets)} targets: one target a source is wanted, line by line."
        )
    if len(names) > 1 and len(sources) < 2:
        raise InputError("Several models are compared over sentences: give two of them or more, and better a hundred.")


def _refusal(error: Any) -> AddendsError:
    """What stopped the notebook: in its own words where they are ours, else with the cell and what Python said."""
    ours = ("InputError", "UnsupportedModelError", "ModelStateError", "DataError")
    if error.ename in ours:
        return DataError(error.evalue)
    line = next((line for line in error.source.splitlines() if line.strip()), "")
    return DataError(
        f"The report stopped at the cell that begins with {line!r}: {error.ename}: {error.evalue}. If the notebook "
        "notebooks/16_bring_your_own_model.ipynb stops there too, it shows where, and whose fault it is."
    )


def _natural(path: Path) -> list:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


def _short(names: Sequence[str]) -> list[str]:
    """Names without the folders above them, where that still tells them apart."""
    last = [Path(name).name or name for name in names]
    return last if len(set(last)) == len(last) else list(names)

"""The extension of Sphinx that makes the book a site: downloads that run, data, footer, links to the repository.

``_config.yml`` names it among ``extra_extensions``. The one key that says where the repository is, ``repository: url``,
turns on the buttons (repository, issues, edit) and, on pages that need no torch, Binder; without it there are none.
``html: baseurl`` says where the site is: links of downloaded notebooks lead there.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

from addends.checks import optional_module
from addends.pages.dictionary import write_offered
from addends.pages.downloads import write_downloads
from addends.pages.plain import citations_in

BINDER = "https://mybinder.org"
_NEEDS_TORCH = re.compile(
    r"^(import|from) (torch|transformers|addends\.decomposition|addends\.interventions)\b"
    r"|\baddends\.(load|encode|translate|decompose|intervene|measure)\(",
    re.MULTILINE,
)


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx when it loads the extension."""
    app.connect("config-inited", repository_buttons)
    app.connect("html-page-context", page_context, priority=900)  # the theme's own buttons are there by then
    app.connect("build-finished", write_files)
    return {"version": importlib.metadata.version("addends"), "parallel_read_safe": True, "parallel_write_safe": True}


def repository_buttons(app: Any, config: Any) -> None:
    """Turn the buttons on where the repository's address is known."""
    options = config.html_theme_options
    known = bool(options.get("repository_url"))
    for button in ("use_repository_button", "use_issues_button", "use_edit_page_button"):
        options[button] = known
    if known:
        options["launch_buttons"] = {**options.get("launch_buttons", {}), "binderhub_url": BINDER}


def page_context(app: Any, page: str, template: str, context: dict, doctree: Any) -> None:
    """The footer of a page; and no Binder button where torch, which Binder's environment has not, is needed."""
    context["theme_extra_footer"] = footer(
        importlib.metadata.version("addends"), *last_change(Path(app.srcdir)), context["pathto"]("book/cite")
    )
    source = Path(app.env.doc2path(page)) if page in app.env.found_docs else None
    if source is not None and source.suffix == ".ipynb" and needs_torch(source):
        buttons = context.get("header_buttons", [])
        context["header_buttons"] = [one for one in buttons if one.get("label") != "launch-buttons"]


def needs_torch(notebook: Path) -> bool:
    """Whether a notebook takes a model apart, and so needs more than Binder's environment has."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return any(_NEEDS_TORCH.search("".join(cell["source"])) for cell in cells if cell["cell_type"] == "code")


@cache
def last_change(folder: Path) -> tuple[date, str]:
    """The day of the last commit and its short name; outside of a git checkout, today and nothing."""
    command = ["git", "log", "-1", "--format=%cs %h"]
    try:
        said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.split()
        return date.fromisoformat(said[0]), said[1]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return datetime.now(UTC).date(), ""


def footer(version: str, day: date, commit: str, cite: str) -> str:
    """Version, date, licence and the way to the citation, as HTML."""
    when = f"{day.day} {day.strftime('%B %Y')}"
    return (
        f"<p>addends {version}, {when}{f' (commit {commit})' if commit else ''}. BSD 3-Clause licence. "
        f'<a href="{cite}">How to cite</a>.</p>'
    )


def write_files(app: Any, exception: Exception | None) -> None:
    """After a build: notebooks with their numbers where the download buttons lead, and the tables that are offered."""
    if exception is not None or app.builder.name != "html":
        return
    source, site = Path(app.srcdir), Path(app.outdir)
    version, (day, commit) = importlib.metadata.version("addends"), last_change(source)
    base = (app.config.html_baseurl or "").rstrip("/")
    repository = app.config.html_theme_options.get("repository_url")
    note = (
        f"*As executed with addends {version}, {day.isoformat()}{f', commit {commit}' if commit else ''}. "
        "Its numbers, citations and captions stand in the text as they came out. To run it again, put it into the "
        f"folder `notebooks/` of a clone of {repository or 'the repository'}, after `make env`.*"
    )
    write_downloads(
        {name: Path(app.env.doc2path(name)) for name in sorted(app.env.found_docs)},
        site.parent / "jupyter_execute",
        site,
        {key: value for file in app.config.bibtex_bibfiles for key, value in citations_in(source / file).items()},
        Path(app.config.nb_execution_cache_path or site.parent / ".jupyter_cache"),
        note,
        lambda page: f"{base}/{page}.html" if base else None,
        optional_module("sphinx.util.logging", "book", "The site").getLogger(__name__).warning,
    )
    if (source / "data").is_dir():
        write_offered(source / "data", site)

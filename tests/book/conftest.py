"""The built site, served on a free port, and one headless Chromium for the tests of a module.

Both are looked for, and the tests skip with the reason where one is not there: `make book` builds the site, and any
Chromium or Chrome on the path will do. The browser is closed at the end of each module: while Playwright runs, nothing
else in the process can start an event loop, and the tests of notebooks do.
"""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

SITE = Path(__file__).parents[2] / "_build" / "html"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, without a line in the log for each."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the built site."""
    if not (SITE / "index.html").is_file():
        pytest.skip("no built site in _build/html: make book")
    return SITE


@pytest.fixture(scope="session")
def serve() -> Iterator:
    """A function from a folder to the address at which it is served."""
    servers = []

    def start(folder: Path) -> str:
        handler = functools.partial(_Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """One browser without a window."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser on the path: install Chromium (looked for {', '.join(BROWSERS)})")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def tab(browser):
    """One page of the browser, which the tests of a module use in turn."""
    context = browser.new_context(reduced_motion="reduce")
    yield context.new_page()
    context.close()

"""What is looked for on a page as a browser shows it. Each function returns what it found wrong, in words.

The theme's own faults are listed in `ERRORS_OF_THE_THEME` and `AXE_OF_THE_THEME`, each with its reason, and nowhere
else. What is wrong in a page of the book is mended in the book.
"""

from __future__ import annotations

import functools
import html
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

from axe_playwright_python.sync_playwright import Axe

WIDE, NARROW, PAPER = 1280, 390, 718  # pixels; A4 less margins of one centimetre is 718 wide
LARGEST = 1_000_000  # bytes of a page's own content
CONTENT = ".bd-article"

ERRORS_OF_THE_THEME = {
    "Identifier 'THEBE_JS_URL' has already been declared": "sphinx-thebe writes its settings into each page twice",
}

# Rule of axe and selector of what it names: the reason why it is none of the book's content.
AXE_OF_THE_THEME = {
    ("region", ".logo__title"): "the theme puts the book's name above the page, outside of all landmarks",
    ("summary-name", ".bd-sidenav"): "the theme folds the sections of a chapter behind an arrow without a name",
    ("aria-allowed-role", ".citation"): "docutils gives references a role that axe allows in lists alone",
    ("aria-required-children", ".citation-list"): "docutils makes a list of what it does not call its items",
    ("aria-deprecated-role", ".citation"): "docutils gives references a role that has since been given up",
}


@dataclass
class Visit:
    """What a page asked for and said while it loaded."""

    address: str
    requests: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def faults(self) -> list[str]:
        """Errors of its own, requests that failed, requests to other places than the site."""
        home = f"{urlsplit(self.address).scheme}://{urlsplit(self.address).netloc}/"
        known = tuple(ERRORS_OF_THE_THEME)
        return [
            *(f"console: {text}" for text in self.errors if not any(one in text for one in known)),
            *(f"request failed: {url}" for url in self.failures),
            *(
                f"request to another place: {url}"
                for url in self.requests
                if not url.startswith((home, "data:", "blob:"))
            ),
        ]


def visit(tab, address: str) -> Visit:
    """Load a page, let nothing out of the machine, and wait until its equations are set and its folds are open."""
    seen = Visit(address)
    listeners = {
        "console": lambda said: seen.errors.append(said.text) if said.type == "error" else None,
        "pageerror": lambda error: seen.errors.append(str(error)),
        "request": lambda request: seen.requests.append(request.url),
        "requestfailed": lambda request: seen.failures.append(request.url),
        "response": lambda answer: seen.failures.append(answer.url) if answer.status >= 400 else None,
    }
    for event, listener in listeners.items():
        tab.on(event, listener)
    outside = re.compile(r"^https?://(?!127\.0\.0\.1[:/])")
    tab.route(outside, lambda route: route.abort())
    show(tab, WIDE, "light")  # the theme's script looks at the window when the page loads
    try:
        tab.goto(address, wait_until="load")
        tab.evaluate(_SETTLE)
    finally:
        tab.unroute(outside)
        for event, listener in listeners.items():
            tab.remove_listener(event, listener)
    return seen


_SETTLE = """async () => {
  if (window.MathJax?.startup?.promise) await MathJax.startup.promise;
  await document.fonts.ready;
  const still = document.createElement('style');
  still.textContent = '*, *::before, *::after { transition: none !important; animation: none !important; }';
  document.head.append(still);
  document.querySelectorAll('details').forEach(fold => { fold.open = true; });
  document.querySelectorAll('img[loading=lazy]').forEach(image => { image.loading = 'eager'; });
  await Promise.all([...document.images].map(image => image.decode().catch(() => {})));
}"""


def show(tab, width: int, theme: str, media: str = "screen") -> None:
    """Set the width of the window, the theme, and screen or paper, and let the page answer to them."""
    tab.emulate_media(media=media, color_scheme=theme)
    tab.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
    if tab.viewport_size["width"] != width:
        tab.set_viewport_size({"width": width, "height": 1000})
        if width == NARROW and tab.evaluate("() => document.scripts.length > 0"):
            tab.wait_for_timeout(350)  # the theme's script, which lets the keyboard reach what scrolls, waits for 300


# What is inside the page.


def heads(tab) -> list[str]:
    """One main heading, a title, a language, a description, and what a shared link shows."""
    found = tab.evaluate(
        """() => {
          const content = selector => document.querySelector(selector)?.content?.trim() || '';
          return {
            'title': document.title.trim(),
            'language': document.documentElement.lang,
            'description': content('meta[name=description]'),
            'og:title': content('meta[property="og:title"]'),
            'og:description': content('meta[property="og:description"]'),
            'main headings': [...document.querySelectorAll("h1")].filter(one => one.getClientRects().length).length,
          };
        }"""
    )
    count = found.pop("main headings")
    faults = [f"no {name}" for name, value in found.items() if not value]
    return faults + [f"{count} main headings"] * (count != 1)


def images(tab) -> list[str]:
    """Images that did not load, or that say nothing to who does not see them."""
    broken = "images => images.filter(one => !(one.complete && one.naturalWidth)).map(one => one.src)"
    silent = "images => images.filter(one => !one.hasAttribute('alt')).map(one => one.src)"
    return [
        *(f"image that does not load: {source}" for source in tab.eval_on_selector_all("img", broken)),
        *(f"image without alternative text: {source}" for source in tab.eval_on_selector_all("img", silent)),
    ]


def tables_without_caption(tab) -> list[str]:
    """Tables that a notebook shows, and that do not say what they show."""
    shown = f"{CONTENT} .cell_output table:not([role=presentation])"
    bare = "tables => tables.filter(one => !one.caption?.textContent.trim()).map(one => one.innerText.slice(0, 60))"
    return [f"table without a caption: {text!r}" for text in tab.eval_on_selector_all(shown, bare)]


def links(tab, site: Path, home: str) -> list[str]:
    """Links to files and places of the site that are not there."""
    faults = []
    for address in sorted(set(tab.eval_on_selector_all("a[href]", "links => links.map(one => one.href)"))):
        if not address.startswith(home):
            continue
        page, place = urldefrag(address)
        file = site / unquote(urlsplit(page).path).lstrip("/")
        file = file / "index.html" if file.is_dir() else file
        if not file.is_file():
            faults.append(f"link to a file that is not there: {address.removeprefix(home)}")
        elif place and file.suffix == ".html" and unquote(place) not in anchors(file):
            faults.append(f"link to a place that is not there: {address.removeprefix(home)}")
    return faults


def anchors(file: Path) -> frozenset[str]:
    """The places of a page that a link can name."""
    return _anchors(file, file.stat().st_mtime_ns)


@functools.cache
def _anchors(file: Path, changed: int) -> frozenset[str]:
    found = re.findall(r"""\s(?:id|name)=["']([^"']+)["']""", file.read_text(encoding="utf-8"))
    return frozenset(map(html.unescape, found))


def weight(seen: Visit, site: Path, home: str) -> list[str]:
    """The bytes of a page and of what it brings, the theme's files left out, where they are too many."""
    paths = {unquote(urlsplit(url).path).lstrip("/") for url in [seen.address, *seen.requests] if url.startswith(home)}
    own = [path for path in paths if not path.startswith("_static/") and path != "searchindex.js"]
    sizes = {path: (site / path).stat().st_size for path in own if (site / path).is_file()}
    largest = max(sizes, key=sizes.__getitem__, default="")
    total = sum(sizes.values())
    return [f"{total:,} bytes of its own, most of them {largest}"] * (total > LARGEST)


# How the page lies in the window.

_NAMED = r"""
  const named = element => element.tagName.toLowerCase() + (element.id ? '#' + element.id : '')
    + [...element.classList].slice(0, 2).map(name => '.' + name).join('')
    + ' ' + JSON.stringify((element.innerText || element.alt || '').trim().replace(/\s+/g, ' ').slice(0, 60));
  const shown = element => element.getClientRects().length > 0 && element.getBoundingClientRect().width > 1;
  const content = document.querySelector(CONTENT) || document.body;
  const clips = element => getComputedStyle(element).overflowX !== 'visible';
  const box = element => {
    for (let up = element; up && up !== document.body; up = up.parentElement) if (clips(up)) return up;
    return null;
  };
""".replace("CONTENT", repr(CONTENT))

_LAYOUT = """narrow => {
  NAMED
  const faults = [];
  const page = document.scrollingElement;
  if (page.scrollWidth > page.clientWidth + 1) {
    const beyond = [...document.body.querySelectorAll('*')].filter(
      one => shown(one) && !box(one) && one.getBoundingClientRect().right > page.clientWidth + 1);
    const size = `${page.scrollWidth} in ${page.clientWidth}`;
    faults.push(`the page scrolls sideways, ${size}: ${beyond.slice(0, 2).map(named)}`);
  }
  const edge = content.getBoundingClientRect().right;
  for (const one of content.querySelectorAll('table, mjx-container, img, svg, iframe')) {
    if (!shown(one) || one.closest('mjx-container') && one.tagName !== 'MJX-CONTAINER') continue;
    const around = box(one), right = one.getBoundingClientRect().right;
    if (!around) {
      if (right > edge + 1) faults.push(`beyond the column by ${Math.round(right - edge)}: ${named(one)}`);
    } else if (['hidden', 'clip'].includes(getComputedStyle(around).overflowX)) {
      if (right > around.getBoundingClientRect().right + 1) faults.push(`cut: ${named(one)}`);
    } else if (around.scrollWidth > around.clientWidth + 1) {
      const size = `${around.scrollWidth} in ${around.clientWidth}`;
      if (!narrow) faults.push(`wider than its box, ${size}: ${named(one)}`);
      else if (around.scrollWidth > 2 * around.clientWidth)
        faults.push(`twice as wide as its box, ${size}: ${named(one)}`);
      else if (around.tabIndex < 0) faults.push(`scrolls and cannot be reached by keyboard, ${size}: ${named(one)}`);
      else if (getComputedStyle(around).backgroundImage === 'none')
        faults.push(`scrolls and does not show that it does, ${size}: ${named(one)}`);
    }
  }
  return faults;
}""".replace("NAMED", _NAMED)

_PAPER = """() => {
  NAMED
  const faults = [], width = document.documentElement.clientWidth;
  const blocks = 'table, mjx-container, img, svg, pre, figure, iframe, p, li, dt, dd, h1, h2, h3, h4';
  for (const one of content.querySelectorAll(blocks)) {
    if (!shown(one) || one.closest('mjx-container') && one.tagName !== 'MJX-CONTAINER') continue;
    const right = one.getBoundingClientRect().right;
    if (right > width + 1) faults.push(`beyond the paper by ${Math.round(right - width)}: ${named(one)}`);
  }
  for (const one of content.querySelectorAll('*'))
    if (shown(one) && !one.closest('mjx-container, svg') && clips(one) && one.scrollWidth > one.clientWidth + 1)
      faults.push(`cut on paper, ${one.scrollWidth} in ${one.clientWidth}: ${named(one)}`);
  return faults;
}""".replace("NAMED", _NAMED)


def layout(tab, narrow: bool) -> list[str]:
    """What is wider than its place.

    The page itself never scrolls sideways. In a wide window, every table and every equation fits its box. In a narrow
    one, either may scroll in its box, if the box is reached by keyboard, shows that there is more (by a shadow at its
    end: a background of its own), and half of what is in it is seen at once.
    """
    return tab.evaluate(_LAYOUT, narrow)


def paper(tab) -> list[str]:
    """What a printed page would cut: nothing of the content is wider than the paper, and no box hides a part."""
    return tab.evaluate(_PAPER)


def accessibility(tab, rules: list[str] | None = None) -> list[str]:
    """What axe-core finds, by all rules or by some, less what belongs to the theme.

    The rule on contrast takes most of the time, and asks the same of each word of code. It is asked of one element of
    each kind: a colour of text, on a ground, of a size and a weight.
    """
    if not tab.evaluate("() => Boolean(window.axe)"):
        tab.evaluate(Axe().axe_script)
    found = []
    if rules is None or set(rules) != {CONTRAST}:
        others = {"rules": {CONTRAST: {"enabled": False}}} if rules is None else {"runOnly": _without_contrast(rules)}
        found += tab.evaluate(_AXE, ["html", others])
    if rules is None or CONTRAST in rules:
        tab.evaluate(_ONE_OF_A_KIND, [selector for rule, selector in AXE_OF_THE_THEME if rule == CONTRAST])
        found += tab.evaluate(_AXE, ["[data-one-of-a-kind]", {"runOnly": [CONTRAST]}])
    faults = []
    for violation in found:
        known = [selector for rule, selector in AXE_OF_THE_THEME if rule == violation["id"]]
        for node in violation["nodes"]:
            target = node["target"][-1]
            within = "([target, known]) => known.some(one => document.querySelector(target)?.closest(one))"
            if len(node["target"]) > 1 or not known or not tab.evaluate(within, [target, known]):
                faults.append(f"{violation['id']}: {target} {node['html'][:120]}")
    return faults


CONTRAST = "color-contrast"


def _without_contrast(rules: list[str]) -> list[str]:
    return [rule for rule in rules if rule != CONTRAST]


_AXE = """([of, options]) => axe.run(of, { resultTypes: ['violations'], ...options })
  .then(results => results.violations)"""

_ONE_OF_A_KIND = r"""known => {
  document.querySelectorAll('[data-one-of-a-kind]').forEach(one => one.removeAttribute('data-one-of-a-kind'));
  const ground = element => {
    for (let up = element; up; up = up.parentElement) {
      const style = getComputedStyle(up);
      if (style.backgroundImage !== 'none' || !/^rgba\(.*, 0\)$|^transparent$/.test(style.backgroundColor))
        return style.backgroundColor + style.backgroundImage;
    }
    return '';
  };
  const kinds = new Map();
  for (const one of document.body.querySelectorAll('*')) {
    if (![...one.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim())) continue;
    if (!one.getClientRects().length || one.closest('script, style, svg')) continue;
    const style = getComputedStyle(one);
    const type = [style.fontSize, style.fontWeight, style.opacity];
    const kind = [style.color, ground(one), ...type, known.some(part => one.closest(part))].join();
    const least = kinds.get(kind);
    if (!least || one.childElementCount < least.childElementCount) kinds.set(kind, one);
  }
  kinds.forEach(one => one.setAttribute('data-one-of-a-kind', ''));
}"""

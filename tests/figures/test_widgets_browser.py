"""Interactive pictures, as a browser shows them: keyboard and mouse, numbers, refusals, colours, small screens."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright
from scipy import stats

import crossed
from addends.figures import widgets
from addends.statistics import correlate_checkpoints, with_quality_of_others
from tests.figures import made_up
from tests.figures.test_widgets import pictures, split_of

BROWSERS = ("chromium", "chromium-browser")
LOOK = """
  body { margin: 0 auto; padding: 1rem; max-width: 46rem; font-family: sans-serif; background: #fff; color: #222832; }
  html[data-theme="dark"] body { background: #14181e; color: #ced6dd; }
  button, td, label, p { color: red; letter-spacing: 9px; }
"""  # the last line is what no picture may take over
PAGE = (
    '<!doctype html><html lang="en" data-theme="{theme}"><head><meta charset="utf-8"><title>Pictures</title>'
    '<meta name="viewport" content="width=device-width, initial-scale=1"><style>{look}</style></head>'
    "<body><main><h1>Pictures</h1>{body}</main></body></html>"
)


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser on the path: install Chromium (looked for {', '.join(BROWSERS)})")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def show(browser, tmp_path):
    """A function that opens pictures in a page of their own; what the console says of errors fails the test."""
    faults, opened = [], []

    def start(*shown, theme="light", width=1280, body=None, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        opened.append(context)
        tab = context.new_page()
        tab.set_default_timeout(10_000)
        tab.on("console", lambda line: faults.append(line.text) if line.type in ("error", "warning") else None)
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on(
            "request", lambda one: None if one.url.startswith(("file:", "data:", "blob:")) else faults.append(one.url)
        )
        file = tmp_path / f"page{len(opened)}.html"
        html = "".join(one._repr_html_() for one in shown) if body is None else body
        file.write_text(PAGE.format(theme=theme, look=LOOK, body=html), encoding="utf-8")
        tab.goto(file.as_uri())
        if body is None:
            tab.wait_for_selector("figure summary")
            settled(tab)
        return tab

    yield start
    for context in opened:
        context.close()
    assert faults == []


def settled(tab):
    """Wait until what was asked for is drawn."""
    tab.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def numbers(tab, place):
    """The cells of a table, as numbers: a list of rows under their heads."""
    script = """table => [...table.querySelectorAll('tbody tr')].map(row => [...row.children].map(
        one => one.dataset.value ?? one.textContent))"""
    return [[row[0], *map(as_number, row[1:])] for row in tab.locator(place).first.evaluate(script)]


def as_number(text):
    try:
        return float(text)
    except ValueError:
        return text


def texts(tab, place):
    return " ".join(tab.locator(place).all_inner_texts()).replace("−", "-")


# Take a sentence apart.


@pytest.fixture
def apart():
    return made_up.shares_and_tokens()


def test_layers_by_keyboard_and_the_table_is_the_picture(show, apart):
    shares, tokens = apart
    tab = show(widgets.take_apart(shares, tokens, ""))
    here = shares[(shares["sentence"] == "Il pleut.") & (shares["by"] == "token")]
    tab.locator("input[type=range]").focus()
    for layer, key in ((2, None), (1, "ArrowLeft"), (0, "ArrowLeft"), (1, "ArrowRight")):
        if key:
            tab.keyboard.press(key)
        rows = here[here["layer"] == layer]
        wide = rows.groupby(["position", rows["term"].str[0]])["importance"].sum().unstack()[["S", "T", "C"]]
        found = numbers(tab, "table")
        assert [row[0] for row in found] == ["It", "rains", "."]
        assert np.allclose(np.array([row[1:4] for row in found]), wide, atol=2e-4)
        assert np.allclose([row[4] for row in found], 1, atol=2e-4)
        # The bars of the first row are as long as its shares, in one scale.
        lengths = tab.locator(".row[data-position='0'] rect").evaluate_all(
            "all => all.map(one => parseFloat(one.getAttribute('width')))"
        )
        assert np.allclose(np.array(lengths) / sum(lengths), wide.loc[0].abs() / wide.loc[0].abs().sum(), atol=1e-3)


def test_words_are_those_of_the_row_under_the_mouse_or_chosen_by_keys(show, apart):
    shares, tokens = apart
    tab = show(widgets.take_apart(shares, tokens, ""))

    def of_words(position):
        rows = shares[(shares["sentence"] == "Il pleut.") & (shares["by"] == "token") & (shares["layer"] == 2)]
        rows = rows[rows["position"] == position].set_index("term")["importance"]
        return [*(rows[f"S{k}"] for k in range(4)), *(rows[f"T{k}"] for k in range(position + 1))]

    def found():
        return tab.locator(".word:not(.coming)").evaluate_all("all => all.map(one => Number(one.dataset.value))")

    assert np.allclose(found(), of_words(0), atol=1e-4)
    tab.hover(".row[data-position='2']")
    assert np.allclose(found(), of_words(2), atol=1e-4)
    tab.mouse.move(1, 1)
    assert np.allclose(found(), of_words(0), atol=1e-4)
    tab.locator(".row input").first.focus()
    tab.keyboard.press("ArrowDown")
    assert np.allclose(found(), of_words(1), atol=1e-4)
    assert re.match(
        r"rains: source.* -?\d", tab.locator(".row input:checked").get_attribute("aria-label").replace("−", "-")
    )
    tab.click(".row[data-position='2']")
    assert np.allclose(found(), of_words(2), atol=1e-4)
    shades = tab.locator(".word").evaluate_all("all => all.map(one => one.style.background)")
    assert len(set(shades)) > 3


def test_without_constants_the_picture_says_what_is_missing(show, apart):
    shares, tokens = apart
    tab = show(widgets.take_apart(shares, tokens, ""))
    rows = shares[
        (shares["sentence"] == "Il pleut.")
        & (shares["by"] == "token")
        & (shares["layer"] == 2)
        & (shares["position"] == 0)
    ]
    constant = float(rows.set_index("term")["importance"]["C"])
    assert texts(tab, ".equation .total") == "= 1.00"
    assert "left out" not in texts(tab, ".equation")
    tab.locator("input[type=checkbox]").focus()
    tab.keyboard.press("Space")
    said = re.search(r"= (-?[\d.]+)\s+with .* left out: (-?[\d.]+)\. Together\s+([\d.]+)", texts(tab, ".equation"))
    assert float(said[1]) == pytest.approx(1 - constant, abs=0.006)
    assert float(said[2]) == pytest.approx(constant, abs=0.006)
    assert said[3] == "1.00"
    assert tab.locator(".part.left-out").count() == 3


def test_sentences_and_ledgers_are_chosen(show, apart):
    shares, tokens = apart
    tab = show(widgets.take_apart(shares, tokens, ""))
    tab.select_option("select", "1")
    assert [row[0] for row in numbers(tab, "table")] == ["She", "sleeps", ".", "&", "</s>"]
    tab.get_by_label("who wrote it").check(force=True)
    rows = shares[(shares["sentence"] == "Elle </script> dort") & (shares["by"] == "sublayer") & (shares["layer"] == 2)]
    wide = rows.pivot(index="position", columns="term", values="importance")[list("ISTFC")]
    assert np.allclose(np.array([row[1:6] for row in numbers(tab, "table")]), wide, atol=2e-4)


# Run or sentence?


def csv_of(frame, name="own.csv", **options):
    return {"name": name, "mimeType": "text/csv", "buffer": frame.to_csv(index=False, **options).encode()}


def give(tab, content):
    if isinstance(content, str):
        content = {"name": "own.csv", "mimeType": "text/csv", "buffer": content.encode()}
    tab.locator("input[type=file]").set_input_files(content)
    tab.wait_for_timeout(50)
    settled(tab)


def check_split(tab, frame):
    """The tables of the picture against the library."""
    # With two runs a limit from 100,000 plain draws has a standard error of .006: the library's are taken as a mean.
    seeds = range(5) if frame["run"].nunique() < 10 else [0]
    factors = {"row": "run", "column": "sentence", "draws": 800_000 if len(seeds) > 1 else 400_000}
    limits = [crossed.crossed_shares(frame, "value", **factors, seed=seed) for seed in seeds]
    wanted = limits[0].assign(**pd.concat(limits).groupby(level=0)[["share_lower", "share_upper"]].mean())
    found = np.array([row[1:] for row in numbers(tab, "[data-table=variances]")])
    assert np.allclose(found[:, 0], wanted["variance"], rtol=1e-8, atol=1e-8)
    assert np.allclose(found[:, 3], wanted["share"], rtol=0, atol=1e-8)
    assert np.allclose(found[:, 4:6], wanted[["share_lower", "share_upper"]], rtol=0, atol=0.005)
    squares = np.array([row[1:] for row in numbers(tab, "[data-table=squares]")])
    assert np.allclose(squares[:, :3], wanted[["levels", "df", "mean_square"]], rtol=1e-8)
    for row in squares:
        df, square = row[1:3]
        assert np.allclose(row[3:5], df * square / stats.chi2.ppf([0.975, 0.025], df), rtol=1e-8)
    assert np.allclose(found[2, 1:3], squares[2, 3:5], rtol=0.02)  # simulated and exact: of the last, the same interval
    spread = np.array([row[1:] for row in numbers(tab, "[data-table=deviations]")])
    assert np.allclose(spread[0, 0], frame.groupby("run")["value"].mean().std(), rtol=1e-8)
    assert np.allclose(spread[1, 0], frame.groupby("sentence")["value"].mean().std(), rtol=1e-8)
    assert np.allclose(spread[0, 3:5], np.array(crossed.sd_multipliers(frame["run"].nunique())), rtol=1e-8)


@pytest.mark.parametrize(
    ("runs", "sentences", "sds"),
    [
        (2, 2, (1, 1, 1)),
        (2, 60, (0.5, 2, 1)),
        (3, 40, (3, 0.5, 1)),
        (6, 100, (0, 2, 1)),
        (17, 300, (0.1, 1, 0.4)),
        (30, 8, (1, 1e-3, 1)),
        (5, 30, (1e5, 1e6, 1e5)),
    ],
)
def test_the_readers_own_table_is_split_as_the_library_splits_it(show, runs, sentences, sds):
    values = made_up.measured()
    tab = show(widgets.run_or_sentence(values, split_of(values), "importance", ""))
    frame = made_up.crossing(runs, sentences, 1, sds)
    give(tab, csv_of(frame.sample(frac=1, random_state=0)))
    assert texts(tab, ".refusal") == ""
    assert f"{runs}, as measured" in texts(tab, ".control.grow")
    check_split(tab, frame)


@pytest.mark.parametrize("sep", [",", ";", "\t"])
def test_other_columns_quotes_and_separators_are_read(show, sep):
    values = made_up.measured()
    tab = show(widgets.run_or_sentence(values, split_of(values), "importance", ""))
    frame = made_up.crossing(4, 9, 5)
    frame["run"] = 'the "' + sep + '" of\n' + frame["run"]
    own = frame.assign(note="x").rename(columns={"run": " Run", "value": "VALUE"})
    give(
        tab,
        {
            **csv_of(own, sep=sep),
            "buffer": b"\xef\xbb\xbf" + own.to_csv(index=False, sep=sep, lineterminator="\r\n").encode(),
        },
    )
    assert texts(tab, ".refusal") == ""
    check_split(tab, frame)


def test_the_books_own_values_are_split_in_every_layer_and_term(show):
    values = made_up.measured(runs=12)
    tab = show(widgets.run_or_sentence(values, split_of(values), "importance", ""))
    for by, label in (("token", "by token"), ("sublayer", "by sublayer")):
        tab.get_by_label(label, exact=True).check(force=True)
        for layer in (1, 2):
            tab.get_by_label(str(layer), exact=True).check(force=True)
            for term in values[values["by"] == by]["term"].unique():
                tab.select_option("select", term)
                settled(tab)
                here = values[(values["by"] == by) & (values["layer"] == layer) & (values["term"] == term)]
                check_split(tab, here.rename(columns={"importance": "value"}))


def test_more_runs_shrink_the_intervals_by_the_right_factors(show):
    values = made_up.measured()
    tab = show(widgets.run_or_sentence(values, split_of(values), "importance", ""))
    frame = made_up.crossing(6, 50, 4)
    give(tab, csv_of(frame))
    before = np.array([row[1:] for row in numbers(tab, "[data-table=variances]")])
    tab.locator("input[type=range]").focus()
    for runs in (7, 8):
        tab.keyboard.press("ArrowRight")
        settled(tab)
        found = np.array([row[1:] for row in numbers(tab, "[data-table=variances]")])
        assert np.allclose(found[:, [0, 3]], before[:, [0, 3]], rtol=1e-8)  # the estimates stay
        spread = np.array([row[1:] for row in numbers(tab, "[data-table=deviations]")])
        assert np.allclose(spread[0, 3:5], np.array(crossed.sd_multipliers(runs)), rtol=1e-8)
        assert f"{runs}, were the variances as they are estimated from 6" in texts(tab, ".control.grow")
    tab.keyboard.press("End")
    settled(tab)
    after = np.array([row[1:] for row in numbers(tab, "[data-table=variances]")])
    assert after[0, 5] - after[0, 4] < 0.6 * (before[0, 5] - before[0, 4])
    spread = np.array([row[1:] for row in numbers(tab, "[data-table=deviations]")])
    assert np.allclose(spread[0, 3:5], np.array(crossed.sd_multipliers(60)), rtol=1e-8)


def test_lines_answer_mouse_and_keys_and_the_table_comes_back(show):
    values = made_up.measured()
    tab = show(widgets.run_or_sentence(values, split_of(values), "importance", ""))
    picture = tab.locator(".stage svg").first
    assert tab.locator("path.line").count() == 12
    picture.focus()
    tab.keyboard.press("ArrowUp")
    settled(tab)
    lowest = values[(values["by"] == "sublayer") & (values["layer"] == 2) & (values["term"] == "S")]
    lowest = lowest.groupby("sentence")["importance"].mean().idxmin()
    assert f"Sentence {lowest}" in picture.get_attribute("aria-label")
    box = picture.bounding_box()
    seen = set()
    for height in range(40, 250, 12):
        tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + height)
        settled(tab)
        seen |= {picture.get_attribute("aria-label").rpartition("Sentence ")[2]}
    assert len(seen) > 3
    tab.mouse.move(1, 1)
    settled(tab)
    assert tab.locator("path.one").count() == 0
    at_first = numbers(tab, "[data-table=variances]")
    give(tab, csv_of(made_up.crossing(3, 90, 1)))
    assert tab.locator("path.line").count() == 60
    assert not tab.locator("select").is_visible()
    tab.click("button.back")
    settled(tab)
    assert numbers(tab, "[data-table=variances]") == at_first
    assert tab.locator("select").is_visible()


def lines(*rows):
    return "\n".join(["run,sentence,value", "a,1,0.5", "a,2,0.6", "b,1,0.7", *rows]) + "\n"


REFUSALS = [
    ("", "Line 1: the file is empty"),
    ("a,1,0.5\na,2,0.6\n", "Line 1: the header “a,1,0.5” has no column “run”"),
    ("run,sentence\na,1\n", "Line 1: the header “run,sentence” has no column “value”"),
    ("run,run,sentence,value\na,a,1,2\n", "2 columns “run”"),
    (lines(), "Line 3 has sentence “2” of run “a”, but no line has it of run “b” (1 of 4 pairs"),
    (lines("b,2,"), "Line 5: the value is missing (run “b”, sentence “2”)"),
    (lines("b,2,NA"), "Line 5: the value is missing"),
    (lines("b,,0.5"), "Line 5: the sentence is missing"),
    (lines("", ",2,0.5"), "Line 6: the run is missing"),
    (lines("b,2,0.8", "a,2,0.6"), "Line 6: run “a”, sentence “2” stand here again, after line 3"),
    (lines("b,2,high"), "Line 5: the value “high” is not a number"),
    (lines("b,2,0x10"), "Line 5: the value “0x10” is not a number"),
    (lines("b,2,nan"), "Line 5: the value “nan” is not finite"),
    (lines("b,2,-Inf"), "Line 5: the value “-Inf” is not finite"),
    (lines("b,2,1e999"), "Line 5: the value “1e999” is not finite"),
    (lines("b,2"), "Line 5: 2 field(s), where the header has 3"),
    (lines('"b,2,3'), "Line 5: a quotation mark is opened and never closed"),
    ("run,sentence,value\n", "Line 1, the last: there is no run."),
    ("run,sentence,value\na,1,2\na,2,3\n", "Line 3, the last: there is one run, “a”"),
    ("run,sentence,value\na,1,2\nb,1,3\n", "Line 3, the last: there is one sentence, “1”"),
    ("run,sentence,value\na,1,2\na,2,2\nb,1,2\nb,2,2\n", "Lines 2 to 5: all values are 2"),
    (lines("<img src=x onerror=alert(1)>,2,high"), "Line 5: the value “high” is not a number"),
]


def test_a_table_that_cannot_be_split_is_refused_with_its_line(show):
    values = made_up.measured()
    tab = show(widgets.run_or_sentence(values, split_of(values), "importance", ""))
    before = numbers(tab, "[data-table=variances]")
    assert tab.locator(".refusal").get_attribute("role") == "alert"
    for content, said in REFUSALS:
        give(tab, content)
        assert said in texts(tab, ".refusal")
        assert numbers(tab, "[data-table=variances]") == before  # the picture stays
    give(tab, csv_of(made_up.crossing(3, 4, 0)))
    assert texts(tab, ".refusal") == ""


def test_a_file_can_be_dropped(show):
    values = made_up.measured()
    tab = show(widgets.run_or_sentence(values, split_of(values), "importance", ""))
    frame = made_up.crossing(3, 20, 7)
    drop = """(zone, text) => { const data = new DataTransfer(); data.items.add(new File([text], 'dropped.csv'));
        zone.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })); }"""
    tab.locator(".drop").evaluate(drop, frame.to_csv(index=False))
    tab.wait_for_timeout(50)
    settled(tab)
    assert "dropped.csv" in texts(tab, ".said")
    check_split(tab, frame)


# What does trend buy?


def wanted_rho(frame, layer, term, run, start):
    rows = frame[(frame["layer"] == layer) & (frame["term"] == term) & (frame["checkpoint"] >= start)]
    own = correlate_checkpoints(rows, "cosine", "chrf", by=["run"]).set_index("run").loc[[run]]
    others = with_quality_of_others(rows, "chrf")
    others = correlate_checkpoints(others[others["run"] == run], "cosine", "chrf", by=["run", "other"]).set_index(
        "other"
    )
    names = ["rho_levels", "rho_differences", "rho_given_step"]
    return pd.concat([own, others])[names].sort_index()


@pytest.mark.parametrize("decimals", [None, 1])
def test_rho_is_that_of_the_library_with_ties_and_gaps(show, decimals):
    frame = made_up.trained()
    if decimals:  # many ties, in levels and in differences
        frame = frame.assign(
            cosine=(8 * frame["cosine"]).round(decimals).astype("float32"), chrf=frame["chrf"].round(0)
        )
    tab = show(widgets.trend_buys(frame, "cosine", "chrf", ""))
    steps = sorted(frame["checkpoint"].unique())
    for brushed in range(len(steps) - 3):
        tab.locator("input[type=range]").fill(str(brushed))
        if brushed not in (0, 5, 11):
            continue
        for layer, term in ((1, "S"), (1, "C"), (2, "C")):
            tab.get_by_label(str(layer), exact=True).check(force=True)
            tab.locator("select").nth(0).select_option(term)
            for run in range(3):
                tab.locator("select").nth(1).select_option(str(run))
                settled(tab)
                wanted = wanted_rho(frame, layer, term, f"r{run}", steps[brushed])
                found = numbers(tab, "[data-table=rho]")
                assert [row[0].removesuffix(" (its own)") for row in found] == list(wanted.index)
                found = np.array([row[1:] for row in found], dtype=float)
                assert np.allclose(found, wanted, rtol=0, atol=1e-10, equal_nan=True)


def test_another_runs_quality_and_the_versions_change_what_is_said(show):
    frame = made_up.trained()
    tab = show(widgets.trend_buys(frame, "cosine", "chrf", ""))
    tab.locator("input[type=range]").focus()
    tab.keyboard.press("ArrowRight")
    settled(tab)
    assert tab.locator(".stage svg").first.locator("circle").count() == 14
    assert "step 50 (1 left out)" in texts(tab, ".control.grow")
    tab.keyboard.press("ArrowLeft")
    wanted = wanted_rho(frame, 2, "S", "r0", 0)
    names = {"levels": "rho_levels", "differences": "rho_differences", "given the step": "rho_given_step"}
    for other in (0, 3):
        tab.locator("select").nth(2).select_option(str(other))
        for label, name in names.items():
            tab.get_by_label(label, exact=True).check(force=True)
            settled(tab)
            assert float(tab.locator(".rho").get_attribute("data-value")) == pytest.approx(
                wanted[name][f"r{other}"], abs=1e-10
            )
            swaps = wanted[name].drop("r0")
            said = texts(tab, ".said")
            assert f"{swaps.median():.3f} in the median, from {swaps.min():.3f} to {swaps.max():.3f}" in said
            rank = 1 + int((swaps.abs() >= abs(wanted[name]["r0"])).sum())
            assert f"number {rank} of 6" in said
            points = 14 if label == "differences" else 15
            assert tab.locator(".stage svg").first.locator("circle").count() == points
    assert len(tab.locator(".swap").all()) == 3 * 5
    tab.locator(".version").first.click(position={"x": 300, "y": 10})
    settled(tab)
    assert "levels" in texts(tab, ".rho")


# What holds for all three.


@pytest.mark.parametrize("name", ["apart", "split", "trend"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_can_be_read(show, name, theme):
    tab = show(pictures()[name], theme=theme)
    check_colours(tab, dark=theme == "dark")
    tab.evaluate("theme => document.documentElement.dataset.theme = theme", "light" if theme == "dark" else "dark")
    tab.wait_for_timeout(500)
    check_colours(tab, dark=theme == "light")


def check_colours(tab, dark):
    style = tab.locator(".addends-widget").first.get_attribute("style")
    colours = {
        name: tuple(map(int, value)) for name, *value in re.findall(r"--([\w-]+): rgb\((\d+), (\d+), (\d+)\)", style)
    }
    assert colours["paper"] == ((0x14, 0x18, 0x1E) if dark else (255, 255, 255))
    for name, colour in colours.items():
        if name != "paper":
            least = 3 if name.startswith("mark") else 4.5 if name.startswith(("text", "ink", "muted", "accent")) else 1
            assert contrast(colour, colours["paper"]) >= least, name
    assert contrast(colours["rule"], colours["paper"]) >= 3


def contrast(one, two):
    def luminance(colour):
        channels = np.array(colour) / 255
        return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4) @ [
            0.2126,
            0.7152,
            0.0722,
        ]

    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_that_axe_finds_and_nothing_wider_than_the_screen(show, theme, width):
    tab = show(*pictures().values(), theme=theme, width=width)
    for summary in tab.locator("summary").all():
        summary.click()
    found = Axe().run(tab, options={"resultTypes": ["violations"]}).response["violations"]
    assert [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found] == []
    assert tab.evaluate("document.scrollingElement.scrollWidth") <= width
    reach = "all => Math.max(...all.map(one => one.getBoundingClientRect().right))"
    assert tab.locator("figure svg text").evaluate_all(reach) <= width
    captions = tab.locator("table caption").all_inner_texts()
    assert len(captions) == tab.locator("table").count() > 6
    assert all(captions)


def test_several_on_one_page_do_not_meet_and_leave_no_names(show):
    names = "Object.getOwnPropertyNames(window).sort().join()"
    blank = show(body="").evaluate(names)
    made = pictures()
    tab = show(made["apart"], made["apart"], made["trend"], made["split"], made["split"])
    assert tab.evaluate(names) == blank
    one, two = (tab.locator(".addends-widget").nth(k) for k in (0, 1))
    before = two.locator("table").first.text_content()
    one.locator("input[type=range]").focus()
    tab.keyboard.press("ArrowLeft")
    one.locator(".row[data-position='2']").click()
    assert two.locator("table").first.text_content() == before
    assert one.locator("table").first.text_content() != before
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert ids == []
    spaced = "one => getComputedStyle(one).letterSpacing + getComputedStyle(one).color"
    assert "9px" not in one.locator(".said, td").last.evaluate(spaced)


def test_outputs_as_jupyterlab_inserts_them(show):
    """JupyterLab sets an output's inner HTML, puts a copy in the place of each script, and attaches it afterwards."""
    tab = show(body='<div id="cell"></div>')
    tab.evaluate(
        """html => {
            const output = document.createElement('div');
            output.innerHTML = html;
            for (const script of output.querySelectorAll('script')) {
                const copy = document.createElement('script');
                copy.textContent = script.textContent;
                script.parentNode.replaceChild(copy, script);
            }
            document.getElementById('cell').append(output);
        }""",
        pictures()["trend"]._repr_html_(),
    )
    tab.wait_for_selector("[data-table=rho]", state="attached")
    assert len(numbers(tab, "[data-table=rho]")) == 6


def test_the_books_theme_puts_no_light_ground_under_a_picture_in_the_dark(show):
    """The theme's rule, as it stands in pydata-sphinx-theme."""
    rule = """html[data-theme=dark] .bd-content div.cell_output .text_html:not(:has(table.dataframe)) {
        background-color: #ced6dd; color: #222832; padding: .5rem }"""
    around = f'<style>{rule}</style><div class="bd-content"><div class="cell_output"><div class="output text_html">%s'
    tab = show(theme="dark", body=around % pictures()["trend"]._repr_html_() + "</div></div></div>")
    tab.wait_for_selector("figure summary")
    check_colours(tab, dark=True)


def test_keys_pressed_in_a_picture_are_not_shortcuts_of_the_page(show):
    tab = show(pictures()["trend"])
    tab.evaluate("window.seen = []; document.addEventListener('keydown', event => window.seen.push(event.key))")
    tab.locator("select").first.focus()
    for key in ("ArrowDown", "d", "Control+k"):
        tab.keyboard.press(key)
    assert tab.evaluate("window.seen") == ["Control", "k"]


def test_motion_is_reduced_where_readers_ask_for_it(show):
    duration = "one => getComputedStyle(one).transitionDuration"
    made = pictures()["apart"]
    assert show(made).locator("rect.moving").first.evaluate(duration) != "0s"
    assert show(made, reduced_motion="reduce").locator("rect.moving").first.evaluate(duration) == "0s"


@pytest.mark.parametrize("name", ["apart", "split", "trend"])
def test_on_paper_it_is_a_figure(show, name):
    tab = show(pictures()[name], theme="dark")
    tab.emulate_media(media="print")
    tab.wait_for_timeout(500)
    assert "--paper: rgb(255, 255, 255)" in tab.locator(".addends-widget").get_attribute("style")
    for hidden in tab.locator("select, input[type=range], summary, input[type=file]").all():
        assert not hidden.is_visible()
    for shown in ("figure svg", "figcaption", "#title"):
        assert tab.locator(shown).first.is_visible()

"""One look for every figure, set by one call, and colours that say what a thing is."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import matplotlib as mpl
import pandas as pd
import seaborn as sns

from addends.errors import InputError

# A colour says what a thing is. Each set can be told apart by colour-blind readers and in grey, where its members
# lie at least five steps of lightness apart, and stands out from white paper by at least 3:1; the book's dark pages
# turn lightness round and keep the hue.

# The two methods share letters and nothing else, so each has names and hues of its own.
TERM_COLOURS = {
    "sublayer": {"I": "#1F4E9E", "S": "#C94F00", "T": "#006B58", "F": "#5A1E5E", "C": "#8A8A8A"},
    "token": {"S": "#C2357F", "T": "#0B5A6B", "C": "#8C7F55"},
}
TERM_NAMES = {
    "sublayer": {
        "I": "I: input",
        "S": "S: cross-attention",
        "T": "T: self-attention",
        "F": "F: feed-forward",
        "C": "C: constants",
    },
    "token": {"S": "source", "T": "target", "C": "constant"},
}

# Encoders and decoder-only models have no S: they read their own tokens alone.
SINGLE_STACK_NAMES = {
    "sublayer": {term: name for term, name in TERM_NAMES["sublayer"].items() if term != "S"},
    "token": {"T": "tokens read", "C": "constant"},
}

# Neutral colours, and shapes of marks, for what is told apart within one figure and has no colour of its own.
SERIES_COLOURS = ("#332288", "#C2556A", "#0F7263", "#9E8D24", "#7A1E5A", "#1F5A8F")
SERIES_MARKERS = ("o", "s", "D", "^", "v", "P")

# Single runs, and what stands beside an estimate: theory, means over others.
GREY = "#767676"

# To whom variance belongs.
COMPONENT_COLOURS = {
    "sentence": "#0F7263",
    "run": "#332288",
    "start": "#332288",
    "course": "#C2556A",
}

# What two runs share, and the floors beside it: start, order and masks in the hues of the book, the rest in greys.
KIND_COLOURS = {
    "start": "#332288",
    "course": "#C2556A",
    "neither": "#0F7263",
    "other masks": "#7A1E5A",
    "checkpoint before": "#7F7F7F",
}
KIND_NAMES = {
    "start": "same start",
    "course": "same course",
    "neither": "neither",
    "other masks": "other masks alone",
    "checkpoint before": "one run, the checkpoint before",
}

# A verdict is told by the shape and by its word; the colour only helps.
VERDICT_MARKS = {
    "supported": ("o", "#1B7837"),
    "weakened": ("^", "#8C6D1F"),
    "contradicted": ("X", "#B2182B"),
    "cannot be said": ("s", "#6B6B6B"),
    "not decided yet": ("", "#6B6B6B"),  # its runs are not there: no effect, and no mark
}

# Inches. In letters of 11 points, a figure of this width can be read on a phone.
WIDTH = 5.2

INDICATOR_LABELS = {
    "importance": "importance (share of squared norm)",
    "cosine": "cosine with the state",
    "norm_ratio": "norm ratio |x| / |e|",
    "distance": "distance |x - e| (units of the state)",
}
METRIC_LABELS = {"bleu": "BLEU (0 to 100)", "chrf": "chrF (0 to 100)", "nll": "nll (nats per target token)"}


def use() -> None:
    """Set the look of every figure that is drawn afterwards. The first code cell of each notebook calls it once.

    Figures are vector graphics without a background. They are as wide as a phone can show in letters that one can
    read: panels are stacked, not set side by side.
    """
    sns.set_theme(
        context="notebook",
        style="whitegrid",
        palette=list(SERIES_COLOURS),
        rc={
            "figure.figsize": (WIDTH, 3.4),
            "figure.dpi": 110,
            "figure.facecolor": "none",
            "figure.constrained_layout.use": True,
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "savefig.dpi": 200,
            "savefig.bbox": "tight",
            "axes.titlesize": "medium",
            "axes.titlelocation": "left",
            "axes.labelsize": "medium",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": "#E6E6E6",
            "legend.frameon": False,
            "svg.fonttype": "path",
            "svg.hashsalt": "addends",  # the same figure is the same file
        },
    )
    mpl.rcParams["axes.formatter.useoffset"] = False
    with suppress(ImportError):  # a script has no notebook to set this for
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg", metadata={"Date": None})


def in_order(terms: Iterable[str]) -> list[str]:
    """These terms, each once, in the order in which every figure and table shows them: I, S, T, F, C.

    Raises
    ------
    InputError
        If a term is none of these.
    """
    terms = list(dict.fromkeys(terms))
    order = TERM_COLOURS["sublayer"]
    unknown = [term for term in terms if term not in order]
    if unknown:
        raise InputError(f"terms={terms}: {unknown} have no colour and no place; known are {list(order)}.")
    return [term for term in order if term in terms]


def method_of(data: pd.DataFrame) -> str:
    """The method that a frame's terms are of: what its column ``by`` says, else by token where these are S, T and C.

    Raises
    ------
    InputError
        If the column ``by`` names two methods, or none that is known.
    """
    if "by" in data:
        named = list(dict.fromkeys(data["by"]))
        if len(named) != 1 or named[0] not in TERM_COLOURS:
            raise InputError(
                f"by={named}: the terms of one figure are of one method, one of {list(TERM_COLOURS)}. Choose its rows."
            )
        return named[0]
    return "token" if set(data["term"]) in ({"S", "T", "C"}, {"T", "C"}) else "sublayer"


def term_palette(terms: Iterable[str], by: str = "sublayer") -> dict[str, str]:
    """The colours of these terms of a method, in order. Raises InputError as `in_order` does."""
    return {term: TERM_COLOURS[by][term] for term in in_order(terms)}


def term_names(terms: Iterable[str], by: str = "sublayer") -> dict[str, str]:
    """The full names of these terms of a method, in order; without S they are those of a single stack."""
    terms = in_order(terms)
    names = SINGLE_STACK_NAMES if set(terms) == set(SINGLE_STACK_NAMES[by]) else TERM_NAMES
    return {term: names[by][term] for term in terms}

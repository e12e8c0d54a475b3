"""One look for every figure, set by one call, and colours for the terms that colour-blind readers can tell apart."""

from __future__ import annotations

from collections.abc import Iterable

import matplotlib as mpl
import seaborn as sns

from addends.errors import InputError

# Okabe and Ito's colours, keyed by term; the constant is grey.
TERM_COLOURS = {"I": "#0072B2", "S": "#D55E00", "T": "#009E73", "F": "#E69F00", "C": "#7F7F7F"}

# The two methods share letters and nothing else, so each has names of its own.
TERM_NAMES = {
    "sublayer": {
        "I": "I: input",
        "S": "S: cross-attention",
        "T": "T: self-attention",
        "F": "F: feed-forward",
        "C": "C: constants",
    },
    "token": {"S": "S: source tokens", "T": "T: target tokens", "C": "C: constants"},
}

# Encoders and decoder-only models have no S: they read their own tokens alone.
SINGLE_STACK_NAMES = {
    "sublayer": {term: name for term, name in TERM_NAMES["sublayer"].items() if term != "S"},
    "token": {"T": "T: tokens read", "C": "C: constants"},
}

# Neutral colours for what is no term: runs, components of variance.
SERIES_COLOURS = ("#332288", "#CC6677", "#44AA99", "#DDCC77", "#882255", "#88CCEE")

# What two runs share, and the floors beside it: start, order and masks in the hues of the book, the rest in greys.
KIND_COLOURS = {
    "start": "#332288",
    "course": "#CC6677",
    "neither": "#44AA99",
    "other masks": "#882255",
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
}

INDICATOR_LABELS = {
    "importance": "importance (share of squared norm)",
    "cosine": "cosine with the state",
    "norm_ratio": "norm ratio |x| / |e|",
    "distance": "distance |x - e| (units of the state)",
}
METRIC_LABELS = {"bleu": "BLEU (0 to 100)", "chrf": "chrF (0 to 100)", "nll": "nll (nats per target token)"}


def use() -> None:
    """Set the look of every figure that is drawn afterwards. The first code cell of each notebook calls it once."""
    sns.set_theme(
        context="notebook",
        style="whitegrid",
        palette=list(SERIES_COLOURS),
        rc={
            "figure.figsize": (7.5, 4),
            "figure.dpi": 110,
            "savefig.dpi": 200,
            "savefig.facecolor": "white",
            "savefig.bbox": "tight",
            "axes.titlesize": "medium",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": "#E6E6E6",
            "legend.frameon": False,
            "svg.fonttype": "path",
            "svg.hashsalt": "addends",  # the same figure is the same file
        },
    )
    mpl.rcParams["axes.formatter.useoffset"] = False


def in_order(terms: Iterable[str]) -> list[str]:
    """These terms, each once, in the order in which every figure and table shows them: I, S, T, F, C.

    Raises
    ------
    InputError
        If a term is none of these.
    """
    terms = list(dict.fromkeys(terms))
    unknown = [term for term in terms if term not in TERM_COLOURS]
    if unknown:
        raise InputError(f"terms={terms}: {unknown} have no colour and no place; known are {list(TERM_COLOURS)}.")
    return [term for term in TERM_COLOURS if term in terms]


def term_palette(terms: Iterable[str]) -> dict[str, str]:
    """The colours of these terms, in order. Raises InputError as `in_order` does."""
    return {term: TERM_COLOURS[term] for term in in_order(terms)}

"""Figures: functions that take a tidy frame and an axes, draw, and return the axes; one look and one palette for all.

The room imports the ground floor, and of the rooms before it nothing: a frame is all that it has to know. It offers
`plots` (terms, tokens, steps), `estimates` (dots, bars and crosses with intervals), `of_pairs` (pairs of runs),
`board` (claims and verdicts), `heatmap` (one sentence, source by target), `direct` (names where the reader looks),
`source_line` (what a figure was drawn from), `captioned` (a frame as a table of a page), `widgets` (interactive
pictures) and `style` (colours, labels, and `use`, which every notebook calls once).
"""

from __future__ import annotations

from addends.figures import board, direct, estimates, heatmap, of_pairs, plots, style, widgets
from addends.figures.page_tables import captioned
from addends.figures.source import SourceLine, source_line

__all__ = [
    "SourceLine",
    "board",
    "captioned",
    "direct",
    "estimates",
    "heatmap",
    "of_pairs",
    "plots",
    "source_line",
    "style",
    "widgets",
]

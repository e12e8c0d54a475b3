"""Figures: functions that take a tidy frame and an axes, draw, and return the axes; one look and one palette for all.

The room imports the ground floor, and of the rooms before it nothing: a frame is all that it has to know. It offers
`plots` (the figures of the book), `of_pairs` (pairs of runs), `board` (claims and verdicts), `heatmap` (one sentence,
source by target), `style` (colours, labels, and `use`, which every notebook calls once) and `captioned` (a frame as a
table of a page).
"""

from __future__ import annotations

from addends.figures import board, heatmap, of_pairs, plots, style
from addends.figures.page_tables import captioned

__all__ = ["board", "captioned", "heatmap", "of_pairs", "plots", "style"]

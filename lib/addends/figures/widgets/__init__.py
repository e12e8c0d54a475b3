"""Three interactive pictures, each whole in one output of a cell: no network, no kernel, no name left in the page.

`take_apart` shows one sentence layer by layer, `run_or_sentence` splits a variance (the reader's own table too), and
`trend_buys` sets an indicator beside quality over training. Each takes tidy frames and returns a `Widget`. What they
share in the page is `common.js` and `common.css`; the rest of a picture is its own file of JavaScript.
"""

from __future__ import annotations

from addends.figures.widgets.apart import take_apart
from addends.figures.widgets.page import Widget
from addends.figures.widgets.split import run_or_sentence
from addends.figures.widgets.trend import trend_buys

__all__ = ["Widget", "run_or_sentence", "take_apart", "trend_buys"]

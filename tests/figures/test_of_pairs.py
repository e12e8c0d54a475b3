"""Figures of pairs of runs draw what the frame says, and name each line."""

from __future__ import annotations

from itertools import pairwise

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from addends.errors import InputError
from addends.figures import of_pairs, style

mpl.use("agg")


def test_kinds_are_lines_named_at_their_end_and_no_name_stands_on_another(ax):
    rows = [
        (kind, step, mean - fall, mean - fall - 0.01, mean - fall + 0.01)
        for kind, mean in (("start", 0.9), ("course", 0.61), ("neither", 0.6))
        for step, fall in ((0, 0.0), (60, 0.05), (1000, 0.1))
    ]
    data = pd.DataFrame(rows, columns=["shares", "checkpoint", "mean", "lower", "upper"])
    assert of_pairs.kinds_over_training(data, "CKA", ax=ax) is ax
    drawn = {to_hex(line.get_color()).upper(): line.get_ydata().tolist() for line in ax.lines}
    for kind, part in data.groupby("shares"):
        assert drawn[style.KIND_COLOURS[kind]] == part["mean"].tolist()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "60", "1000"]
    named = {text.get_text(): text.get_position()[1] for text in ax.texts}
    assert set(named) == {"same start", "same course", "neither"}
    low, high = ax.get_ylim()
    assert all(b - a >= (high - low) / 12 for a, b in pairwise(sorted(named.values())))
    with pytest.raises(InputError, match="stand more than once"):
        of_pairs.kinds_over_training(pd.concat([data, data]), "CKA", ax=ax)

"""Histograms of deviations from released results."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from addends.errors import InputError
from addends.figures.deviations import LIMIT, deviations

mpl.use("agg")


@pytest.fixture
def data():
    generator = np.random.default_rng(0)
    off = np.concatenate([generator.normal(0, 0.3, 200), generator.normal(0, 2, 100)])
    return pd.DataFrame({"off": off, "group": np.repeat(["near", "far"], [200, 100])})


def test_each_group_has_an_outline_of_area_one_and_the_limits_are_drawn(ax, data):
    assert deviations(data, ax=ax) is ax
    outlines = [line.get_xydata() for line in ax.lines if len(line.get_xydata()) > 2]
    assert len(outlines) == 2
    for outline in outlines:
        assert outline[:-1, 1].sum() * 0.25 == pytest.approx(1, abs=0.01)
    assert max(outline[:, 1].max() for outline in outlines) > 1  # the near group's
    limits = sorted(line.get_xdata()[0] for line in ax.lines if len(line.get_xydata()) == 2)
    assert limits == [-LIMIT, LIMIT]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["near", "far"]
    assert "released standard deviations" in ax.get_xlabel()


def test_no_deviation_falls_off_the_axis(ax, data):
    data.loc[0, "off"] = -11.5
    deviations(data, ax=ax)
    assert min(line.get_xydata()[:, 0].min() for line in ax.lines) <= -11.5


def test_bad_input(data):
    with pytest.raises(InputError, match=r"lacks \['off'\]"):
        deviations(data.drop(columns="off"))
    with pytest.raises(InputError, match="'group' has 300 levels; at most 6"):
        deviations(data.assign(group=range(300)))

"""Quantiles of the distances from released results."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from addends.errors import InputError
from addends.figures.deviations import deviations

mpl.use("agg")


@pytest.fixture
def data():
    grid = np.arange(-2.0, 3)
    near = pd.DataFrame({"set": "near", "quantile": grid, "released": grid * 1.1, "lower": grid - 1, "upper": grid + 2})
    return pd.concat([near, near.assign(set="far", released=grid * 5, lower=np.nan, upper=np.nan)])


def test_each_set_is_drawn_against_its_quantiles_and_one_that_was_replayed_has_its_band(ax, data):
    assert deviations(data.sample(frac=1, random_state=0).sort_values("set", ascending=False), ax=ax) is ax
    lines = {line.get_label(): line.get_xydata() for line in ax.lines if not line.get_label().startswith("_")}
    assert list(lines) == ["near", "far"]
    np.testing.assert_allclose(lines["near"], np.column_stack([np.arange(-2, 3), 1.1 * np.arange(-2, 3)]))
    np.testing.assert_allclose(lines["far"][:, 1], 5 * np.arange(-2, 3))
    (band,) = ax.collections
    corners = band.get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == (-3, 4)
    assert len({line.get_color() for line in ax.lines}) == 3  # two sets and the diagonal
    assert len({line.get_marker() for line in ax.lines}) == 3
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["near", "far"]
    assert "standard errors" in ax.get_ylabel()


def test_the_diagonal_is_where_released_and_expected_are_equal(ax, data):
    deviations(data, ax=ax)
    (diagonal,) = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert (diagonal.get_xy1(), diagonal.get_slope()) == ((0, 0), 1)


def test_bad_input(data):
    with pytest.raises(InputError, match=r"lacks \['released'\]"):
        deviations(data.drop(columns="released"))
    with pytest.raises(InputError, match="has 10 sets; from 1 to 6"):
        deviations(data.assign(set=[f"{number}" for number in range(10)]))
    with pytest.raises(InputError, match="has 0 sets"):
        deviations(data[:0])

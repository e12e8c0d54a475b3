"""The picture shows each value in its own place, zero where zero belongs, and refuses what it cannot show."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import rgb_to_hsv

from addends.errors import InputError
from addends.figures import heatmap

mpl.use("agg")

SOURCES, TARGETS = ("le", "chat", "dort"), ("cats", "sleep")
VALUES = np.array([[0.1, 0.9, -0.3], [0.0, 0.2, 0.5]])  # (position, source)


def tidy(values, name):
    """A row a pair, in no particular order."""
    rows = [(t, s, values[t, s]) for t in range(values.shape[0]) for s in range(values.shape[1])]
    return pd.DataFrame(rows, columns=["position", "source", name]).sample(frac=1, random_state=0)


def drawn(ax):
    """The values of the cells, of shape (row, column), as they are drawn from the top left."""
    return ax.collections[0].get_array().reshape(len(ax.get_yticks()), len(ax.get_xticks()))


def test_rows_are_targets_from_the_top_and_columns_are_sources(ax):
    assert heatmap.source_by_target(tidy(VALUES, "importance"), "importance", SOURCES, TARGETS, ax=ax) is ax
    np.testing.assert_allclose(drawn(ax), VALUES)
    assert ax.yaxis_inverted()
    assert [label.get_text() for label in ax.get_xticklabels()] == list(SOURCES)
    assert [label.get_text() for label in ax.get_yticklabels()] == list(TARGETS)


def test_many_tokens_keep_all_their_labels(ax):
    values = np.random.default_rng(0).normal(size=(40, 60))
    sources, targets = [f"s{k}" for k in range(60)], [f"t{k}" for k in range(40)]
    heatmap.source_by_target(tidy(values, "importance"), "importance", sources, targets, ax=ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == sources
    assert [label.get_text() for label in ax.get_yticklabels()] == targets
    np.testing.assert_allclose(drawn(ax), values)


@pytest.mark.parametrize("value", [name for name, scale in heatmap.SCALES.items() if scale.signed])
def test_zero_is_the_colourless_middle_of_a_signed_scale(ax, value):
    heatmap.source_by_target(tidy(VALUES, value), value, SOURCES, TARGETS, ax=ax)
    mesh = ax.collections[0]
    assert mesh.get_clim() == (-0.9, 0.9)
    red, _, blue, _ = mesh.to_rgba(0.6)
    assert red > blue
    red, _, blue, _ = mesh.to_rgba(-0.6)
    assert red < blue
    assert rgb_to_hsv(mesh.to_rgba(0.0)[:3])[1] < 0.05


def test_weights_begin_at_zero(ax):
    weights = np.array([[0.2, 0.7, 0.1], [0.3, 0.3, 0.4]])
    heatmap.source_by_target(tidy(weights, "weight"), "weight", SOURCES, TARGETS, ax=ax)
    mesh = ax.collections[0]
    assert mesh.get_clim() == (0.0, 0.7)
    lightness = [sum(mesh.to_rgba(weight)[:3]) for weight in (0.0, 0.2, 0.4, 0.7)]
    assert lightness == sorted(lightness, reverse=True)


def test_two_pictures_can_share_a_scale(ax):
    heatmap.source_by_target(tidy(VALUES / 2, "importance"), "importance", SOURCES, TARGETS, ax=ax, limit=0.9)
    assert ax.collections[0].get_clim() == (-0.9, 0.9)


@pytest.mark.parametrize("value", heatmap.SCALES)
def test_the_colour_bar_says_what_it_shows_and_in_which_unit(ax, value):
    heatmap.source_by_target(tidy(abs(VALUES), value), value, SOURCES, TARGETS, ax=ax)
    assert ax.collections[0].colorbar.ax.get_ylabel() == heatmap.SCALES[value].label
    assert ax.get_xlabel() == "source token"
    assert ax.get_ylabel()


def test_a_missing_value_is_left_grey(ax):
    values = VALUES.copy()
    values[1, 0] = np.nan
    heatmap.source_by_target(tidy(values, "cosine"), "cosine", SOURCES, TARGETS, ax=ax)
    assert np.ma.getmaskarray(drawn(ax)).tolist() == [[False] * 3, [True, False, False]]
    red, green, blue, _ = ax.get_facecolor()
    assert red == green == blue < 0.9


def test_a_picture_of_zeros(ax):
    heatmap.source_by_target(tidy(0 * VALUES, "importance"), "importance", SOURCES, TARGETS, ax=ax)
    low, high = ax.collections[0].get_clim()
    assert low < 0 < high


# --- bad input ---


def test_labels_that_do_not_fit(ax):
    frame = tidy(VALUES, "importance")
    with pytest.raises(InputError, match="2 target and 4 source labels, but the frame lacks position 0, source 3"):
        heatmap.source_by_target(frame, "importance", (*SOURCES, "!"), TARGETS, ax=ax)
    with pytest.raises(InputError, match="1 target and 3 source labels, but the frame also holds position 1, source 0"):
        heatmap.source_by_target(frame, "importance", SOURCES, TARGETS[:1], ax=ax)


def test_several_layers_at_once(ax):
    frame = tidy(VALUES, "importance")
    with pytest.raises(InputError, match=r"more than once.*Choose one layer"):
        heatmap.source_by_target(pd.concat([frame, frame]), "importance", SOURCES, TARGETS, ax=ax)


def test_a_missing_column_and_an_unknown_value_are_named(ax):
    with pytest.raises(InputError, match="no column 'weight'"):
        heatmap.source_by_target(tidy(VALUES, "importance"), "weight", SOURCES, TARGETS, ax=ax)
    with pytest.raises(InputError, match="value='score' is not one of"):
        heatmap.source_by_target(tidy(VALUES, "score"), "score", SOURCES, TARGETS, ax=ax)


def test_a_negative_weight(ax):
    with pytest.raises(InputError, match=r"weight holds -0\.3, but cannot be negative"):
        heatmap.source_by_target(tidy(VALUES, "weight"), "weight", SOURCES, TARGETS, ax=ax)


@pytest.mark.parametrize("limit", [0.5, 0.0, -1.0, float("nan")])
def test_a_limit_that_would_hide_values(ax, limit):
    with pytest.raises(InputError, match=r"reaches 0\.9 in size"):
        heatmap.source_by_target(tidy(VALUES, "importance"), "importance", SOURCES, TARGETS, ax=ax, limit=limit)

"""Colours can be seen: on white, on the book's dark pages, and in grey."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from addends.figures import style

PALETTES = {
    "sublayer": style.TERM_COLOURS["sublayer"].values(),
    "token": style.TERM_COLOURS["token"].values(),
    "series": style.SERIES_COLOURS,
    "kinds": style.KIND_COLOURS.values(),
    "verdicts": [colour for _, colour in style.VERDICT_MARKS.values()],
    "components": style.COMPONENT_COLOURS.values(),
    "grey": [style.GREY],
}
DARK = "#14181e"  # the theme's background


def luminance(colour):
    """Relative luminance, WCAG 2.2."""
    channels = np.asarray(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one, two):
    low, high = sorted([luminance(one), luminance(two)])
    return (high + 0.05) / (low + 0.05)


def turned_round(colour):
    """What CSS makes of a colour by invert(1) hue-rotate(180deg), as addends.css does in the dark."""
    weights = np.array([0.213, 0.715, 0.072])
    return tuple(np.clip((2 * np.outer(np.ones(3), weights) - np.eye(3)) @ (1 - np.asarray(to_rgb(colour))), 0, 1))


@pytest.mark.parametrize("name", PALETTES)
def test_every_colour_stands_out_by_three_to_one_in_light_and_dark(name):
    for colour in PALETTES[name]:
        assert contrast(colour, "white") >= 3, colour
        assert contrast(turned_round(colour), DARK) >= 3, colour


@pytest.mark.parametrize("name", ["sublayer", "token", "series"])
def test_colours_of_one_figure_differ_in_grey(name):
    lightness = sorted(116 * luminance(colour) ** (1 / 3) - 16 for colour in PALETTES[name])
    assert all(b - a >= 5 for a, b in pairwise(lightness)), np.round(lightness)


def test_white_turns_black_and_a_hue_stays():
    np.testing.assert_allclose(turned_round("white"), 0, atol=1e-9)
    red, green, blue = turned_round("#8b0000")
    assert red > green
    assert red > blue


def test_the_methods_share_no_name_and_no_colour():
    of_sublayer, of_token = (set(style.TERM_NAMES[by].values()) for by in ("sublayer", "token"))
    assert of_token == {"source", "target", "constant"}
    assert not of_sublayer & of_token
    assert not set(style.TERM_COLOURS["sublayer"].values()) & set(style.TERM_COLOURS["token"].values())

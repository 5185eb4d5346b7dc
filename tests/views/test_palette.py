"""The colours: even to the eye, also to colour-blind eyes, on light and on dark."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interpwidgets.views.palette import PALETTE, lut, place

colorspacious = pytest.importorskip("colorspacious")

SEQUENTIAL, DIVERGING = ["light", "dark"], ["diverging-light", "diverging-dark"]
KINDS = ["none", "protanomaly", "deuteranomaly", "tritanomaly"]


def seen(name, kind):
    """A palette in CAM02-UCS, as readers with this kind of colour vision see it: `[index, J'a'b']`."""
    rgb = lut(name) / 255
    if kind != "none":
        space = {"name": "sRGB1+CVD", "cvd_type": kind, "severity": 100}
        rgb = np.clip(colorspacious.cspace_convert(rgb, space, "sRGB1"), 0, 1)
    return colorspacious.cspace_convert(rgb, "sRGB1", "CAM02-UCS")


def steps(colours):
    """How far apart neighbours look, over steps of a sixteenth so that rounding to bytes does not count."""
    return np.linalg.norm(np.diff(colours[::15], axis=0), axis=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SEQUENTIAL)
def test_more_attention_is_always_further_from_the_background_in_lightness(name, kind):
    lightness = seen(name, kind)[::15, 0]
    direction = -1 if name == "light" else 1
    assert (direction * np.diff(lightness) > 0).all()
    assert abs(lightness[-1] - lightness[0]) > 70


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DIVERGING)
def test_a_difference_gets_further_from_the_background_on_both_sides(name, kind):
    lightness = seen(name, kind)[:, 0]
    outwards = lightness[127::-15], lightness[128::15]
    direction = -1 if name == "diverging-light" else 1
    for side in outwards:
        assert (direction * np.diff(side) > 0).all()
    assert abs(outwards[0][-1] - outwards[1][-1]) < 12  # neither sign looks stronger


@pytest.mark.parametrize("name", [*SEQUENTIAL, *DIVERGING])
def test_equal_steps_look_equal(name):
    apart = steps(seen(name, "none"))
    assert apart.max() < 2 * apart.min()


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("name", [*SEQUENTIAL, *DIVERGING])
def test_no_step_vanishes_for_colour_blind_readers(name, kind):
    apart = steps(seen(name, kind))
    assert apart.max() < 4 * apart.min()
    assert apart.min() > 1.5  # colours a reader can tell apart side by side


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DIVERGING)
def test_more_and_less_are_told_apart(name, kind):
    colours = seen(name, kind)
    apart = np.linalg.norm(colours[127::-16] - colours[128::16], axis=1)
    assert (apart[2:] > 25).all()  # from a quarter of the scale on: as far apart as two colours of different names


@pytest.mark.parametrize("name", PALETTE)
def test_the_look_up_is_the_stops_joined_by_lines(name):
    table, stops = lut(name), PALETTE[name]
    assert table.shape == (256, 3)
    for end, stop in ((0, stops[0]), (255, stops[-1])):
        assert "#" + bytes(table[end].tolist()).hex() == stop
    for i in range(256):
        at = i / 255 * (len(stops) - 1)
        low = min(int(at), len(stops) - 2)
        a, b = (bytes.fromhex(stops[low + j][1:]) for j in (0, 1))
        expected = [a[c] + (b[c] - a[c]) * (at - low) for c in range(3)]
        np.testing.assert_allclose(table[i], expected, atol=0.5001)


@given(
    value=st.floats(0, 2, width=32),
    scale=st.sampled_from(["linear", "sqrt", "log"]),
    low=st.floats(0, 0.4),
    spread=st.floats(0.01, 2),
    keys=st.integers(1, 10_000),
    sign=st.sampled_from([0, -1, 1]),
)
@settings(deadline=None, max_examples=300)
def test_a_weight_is_placed_as_described(value, scale, low, spread, keys, sign):
    high = low + spread
    start = 0.0 if sign else low
    if scale == "log":
        floor = max(start, 1 / (16 * keys))
        at = np.log(value / floor) / np.log(high / floor) if value > floor and high > floor else 0.0
    else:
        at = min(1.0, max(0.0, (value - start) / (high - start)))
        at = at**0.5 if scale == "sqrt" else at
    at = min(1.0, max(0.0, at))
    expected = 255 * (1 + sign * at) / 2 if sign else 255 * at
    got = place(np.array([sign * value if sign else value], dtype=np.float32), scale, low, high, keys, bool(sign))[0]
    assert 0 <= got <= 255
    assert got == pytest.approx(expected, abs=0.51)

"""A drawing is the same in pixels and in SVG, and its text is text."""

from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interpwidgets.views.drawing import Drawing, text_width
from interpwidgets.views.palette import lut

SVG = "{http://www.w3.org/2000/svg}"


def rgb(drawing, x, y):
    return drawing.image().getpixel((x, y))


def test_shapes_are_where_they_are_put_in_both():
    drawing = Drawing(60, 40)
    drawing.rect((10, 5), (20, 10), fill="#ff0000")
    drawing.rect((40, 20), (10, 10), outline="#00ff00")
    drawing.line([(0, 39), (59, 39)], "#0000ff")
    drawing.area([(2, 20), (12, 20), (12, 30), (2, 30)], "#123456")
    drawing.circle((25, 28), 4, "#654321")
    assert drawing.image().size == (60, 40)
    white, red, green = (255, 255, 255), (255, 0, 0), (0, 255, 0)
    assert [rgb(drawing, x, 10) for x in (9, 10, 29, 30)] == [white, red, red, white]
    assert [rgb(drawing, x, 25) for x in (39, 40, 41, 49, 50)] == [white, green, white, green, white]
    assert rgb(drawing, 30, 39) == (0, 0, 255)
    assert rgb(drawing, 7, 25) == (0x12, 0x34, 0x56)
    assert rgb(drawing, 25, 28) == (0x65, 0x43, 0x21)
    root = ET.fromstring(drawing.svg("two boxes"))
    assert root.find(f"{SVG}title").text == "two boxes"
    boxes = [rect.attrib for rect in root.findall(f"{SVG}rect")][1:]
    assert [(float(box["x"]), float(box["width"])) for box in boxes] == [(10, 20), (40.5, 9)]
    assert len(root.findall(f"{SVG}polyline")) == len(root.findall(f"{SVG}polygon")) == 1


def test_pixels_keep_their_colours():
    colours = np.random.default_rng().integers(0, 256, (3, 5, 3), dtype=np.uint8)
    drawing = Drawing(100, 60)
    drawing.pixels((20, 10), (50, 30), colours)
    shown = np.asarray(drawing.image())[10:40, 20:70]
    assert (shown[5::10, 5::10] == colours).all()
    (image,) = ET.fromstring(drawing.svg()).findall(f"{SVG}image")
    assert image.attrib["href"].startswith("data:image/png;base64,")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
@settings(deadline=None, max_examples=100)
def test_any_text_makes_a_well_formed_svg_that_says_it(text):
    drawing = Drawing(100, 20)
    drawing.text((0, 0), text)
    drawing.image()
    root = ET.fromstring(drawing.svg(text))
    said = root.find(f"{SVG}text").text or ""
    assert len(said) == len(text)
    assert all(a == b or b == "�" for a, b in zip(text, said, strict=True))
    assert [element.tag for element in root.iter()].count(f"{SVG}text") == 1


@pytest.mark.parametrize("anchor", ["start", "middle", "end"])
def test_text_stands_where_it_is_anchored_and_is_cut(anchor):
    drawing = Drawing(300, 40)
    drawing.text((150, 10), "WWWWWWWWWWWWWWWWWWWWWWWWWWWW", 12, anchor=anchor, width=80)
    columns = np.flatnonzero((np.asarray(drawing.image()) < 128).any(axis=(0, 2)))
    left = {"start": 150, "middle": 110, "end": 70}[anchor]
    assert left <= columns[0] < columns[-1] <= left + 80
    (text,) = ET.fromstring(drawing.svg()).findall(f"{SVG}text")
    assert text.text.endswith("…")
    assert text_width(text.text, 12) <= 80


def test_turned_text_reads_downwards():
    drawing = Drawing(60, 120)
    drawing.text((30, 10), "position", 12, turned=True)
    rows, columns = np.nonzero((np.asarray(drawing.image()) < 128).any(axis=2))
    assert np.ptp(rows) > 2 * np.ptp(columns)
    assert rows.min() >= 9


def test_a_colour_bar_has_the_ends_of_its_palette():
    drawing = Drawing(400, 40)
    drawing.colour_bar((10, 10), "0", "1", "weight", "diverging-light")
    assert rgb(drawing, 10, 12) == tuple(lut("diverging-light")[0])
    assert rgb(drawing, 209, 12) == tuple(lut("diverging-light")[-1])

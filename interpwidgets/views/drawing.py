"""A still picture as a list of shapes, written as PNG or as SVG: what a view looks like where no script runs."""

from __future__ import annotations

import math
import unicodedata
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from html import escape
from io import BytesIO
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from interpwidgets.views.palette import lut

__all__ = ["ACCENT", "INK", "LINE", "MUTED", "PAD", "WIDTH", "Drawing"]

WIDTH, PAD = 920, 14  # pixels
INK, MUTED, LINE, ACCENT = "#1b1b1f", "#6b6b74", "#d5d5db", "#d9480f"
_FAMILY = "DejaVu Sans, system-ui, sans-serif"
_SUBSTITUTES = {"␣": "_", "↵": "\\n", "⇥": "\\t", "−": "-", "→": "->", "×": "x", "⟨": "<", "⟩": ">"}

Anchor = Literal["start", "middle", "end"]
Point = tuple[float, float]


class Drawing:
    """Shapes on white, in pixels from the top left; later ones lie on earlier ones.

    >>> drawing = Drawing(200, 60)
    >>> drawing.text((10, 8), "resid_post", 12)
    >>> drawing.svg()[:4]
    '<svg'
    """

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = round(width), round(height)
        self._paint: list[Callable[[Image.Image, ImageDraw.ImageDraw], object]] = []
        self._svg: list[str] = []

    def text(
        self,
        at: Point,
        text: str,
        size: int = 12,
        colour: str = INK,
        *,
        anchor: Anchor = "start",
        width: float | None = None,
        turned: bool = False,
    ) -> None:
        """A line of text with its top left (middle, right) at `at`, cut to `width`; `turned` reads downwards."""
        text = "".join(c if _is_xml(c) else "�" for c in text)
        shown = _drawable(text, size)
        font = _font(size)
        while width is not None and len(shown) > 1 and font.getlength(shown) > width:
            shown, text = shown[:-2] + "…", text[:-2] + "…"
        length = math.ceil(font.getlength(shown))
        shift = {"start": 0.0, "middle": length / 2, "end": float(length)}[anchor]
        x, y = (at[0], at[1] - shift) if turned else (at[0] - shift, at[1])

        def paint(image: Image.Image, draw: ImageDraw.ImageDraw) -> None:
            if not turned:
                draw.text((x, y), shown, fill=colour, font=font)
                return
            strip = Image.new("L", (max(1, length), size + 3), 0)
            ImageDraw.Draw(strip).text((0, 0), shown, fill=255, font=font)
            mask = strip.rotate(-90, expand=True)
            image.paste(Image.new("RGB", mask.size, colour), (round(x), round(y)), mask)

        self._paint.append(paint)
        turn = f' transform="rotate(90 {at[0]:g} {at[1]:g})"' if turned else ""
        base = at[1] - 0.22 * size if turned else at[1] + 0.93 * size
        anchored = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self._svg.append(
            f'<text x="{at[0]:g}" y="{base:g}" font-size="{size}" fill="{colour}"{anchored}{turn} '
            f'xml:space="preserve">{_xml(text)}</text>'
        )

    def rect(
        self, at: Point, size: Point, fill: str | None = None, outline: str | None = None, stroke: int = 1
    ) -> None:
        """A rectangle; its outline lies within it."""
        (x, y), (width, height) = at, size
        if width <= 0 or height <= 0:
            return
        box = (round(x), round(y), max(round(x), round(x + width) - 1), max(round(y), round(y + height) - 1))
        self._paint.append(lambda _, draw: draw.rectangle(box, fill=fill, outline=outline, width=stroke))
        inset = stroke / 2 if outline else 0
        line = f' stroke="{outline}" stroke-width="{stroke}"' if outline else ""
        self._svg.append(
            f'<rect x="{x + inset:g}" y="{y + inset:g}" width="{max(0, width - 2 * inset):g}" '
            f'height="{max(0, height - 2 * inset):g}" fill="{fill or "none"}"{line}/>'
        )

    def line(self, points: Sequence[Point], colour: str = INK, stroke: float = 1) -> None:
        """Straight lines from point to point."""
        if len(points) < 2:
            return
        path = [(float(x), float(y)) for x, y in points]
        self._paint.append(lambda _, draw: draw.line(path, fill=colour, width=max(1, round(stroke)), joint="curve"))
        joined = " ".join(f"{x:g},{y:g}" for x, y in path)
        self._svg.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="{stroke:g}"/>')

    def area(self, points: Sequence[Point], fill: str) -> None:
        """A filled polygon."""
        path = [(float(x), float(y)) for x, y in points]
        if len(path) < 3:
            return
        self._paint.append(lambda _, draw: draw.polygon(path, fill=fill))
        joined = " ".join(f"{x:g},{y:g}" for x, y in path)
        self._svg.append(f'<polygon points="{joined}" fill="{fill}"/>')

    def circle(self, centre: Point, radius: float, fill: str | None = None, outline: str | None = None) -> None:
        """A disc, or a ring."""
        x, y = centre
        box = (x - radius, y - radius, x + radius, y + radius)
        self._paint.append(lambda _, draw: draw.ellipse(box, fill=fill, outline=outline))
        line = f' stroke="{outline}"' if outline else ""
        self._svg.append(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{fill or "none"}"{line}/>')

    def pixels(self, at: Point, size: Point, colours: NDArray[np.uint8], *, smooth: bool = False) -> None:
        """An image [row, column, rgb] stretched over a box; `smooth` takes the mean of what is under a pixel."""
        source = Image.fromarray(np.ascontiguousarray(colours))
        box = max(1, round(size[0])), max(1, round(size[1]))
        how = Image.Resampling.BOX if smooth else Image.Resampling.NEAREST
        place = round(at[0]), round(at[1])
        self._paint.append(lambda image, _: image.paste(source.resize(box, how), place))
        small = source.resize(box, how) if source.width > box[0] or source.height > box[1] else source
        buffer = BytesIO()
        small.save(buffer, "png", optimize=True)
        self._svg.append(
            f'<image x="{place[0]}" y="{place[1]}" width="{box[0]}" height="{box[1]}" preserveAspectRatio="none" '
            f'style="image-rendering:pixelated" href="data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"/>'
        )

    def colour_bar(self, at: Point, low: str, high: str, what: str, palette: str = "light", width: float = 200) -> None:
        """What the colours of a palette stand for."""
        x, y = at
        self.pixels((x, y), (width, 8), lut(palette)[None])
        self.text((x, y + 10), low, 10, MUTED)
        self.text((x + width, y + 10), high, 10, MUTED, anchor="end")
        self.text((x + width + 12, y - 3), what, 10, MUTED)

    def image(self) -> Image.Image:
        """The picture in pixels."""
        canvas = Image.new("RGB", (self.width, self.height), "white")
        draw = ImageDraw.Draw(canvas)
        for paint in self._paint:
            paint(canvas, draw)
        return canvas

    def png(self) -> bytes:
        """The picture as a PNG file."""
        buffer = BytesIO()
        # A palette is a third of the bytes, and these pictures have few colours.
        self.image().quantize(256, method=2).save(buffer, "png")
        return buffer.getvalue()

    def svg(self, description: str = "") -> str:
        """The picture as an SVG file: text stays text, edges stay sharp."""
        title = f"<title>{_xml(description)}</title>" if description else ""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
            f'viewBox="0 0 {self.width} {self.height}" font-family="{_FAMILY}" role="img">{title}'
            f'<rect width="100%" height="100%" fill="white"/>{"".join(self._svg)}</svg>\n'
        )


def text_width(text: str, size: int) -> int:
    """The width of a line of text, in pixels."""
    return math.ceil(_font(size).getlength(_drawable(text, size)))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for name in ("DejaVuSans.ttf", "Arial Unicode.ttf", "segoeui.ttf"):
        with suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)


@cache
def _drawable(text: str, size: int) -> str:
    """The text, in characters that the font has."""
    font = _font(size)
    lacking = bytes(font.getmask("\U0010fffe"))
    return "".join(c if bytes(font.getmask(c)) != lacking else _SUBSTITUTES.get(c, "?") for c in text)


def _xml(text: str) -> str:
    """Escaped, without the control characters that XML has no way to write."""
    return escape("".join(c if _is_xml(c) else "�" for c in text), quote=True)


def _is_xml(character: str) -> bool:
    """Whether it can be written and laid out: no control character, half of a pair, or end of a line."""
    return character not in "\ufffe\uffff" and unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")

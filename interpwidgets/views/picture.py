"""An attention view as a still: what GitHub, e-mail and an untrusted notebook can show, and a table of its edges."""

from __future__ import annotations

import math
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from interpwidgets.tokens import Tokens
from interpwidgets.views import pyramid
from interpwidgets.views.palette import lut, place
from interpwidgets.views.source import AttentionSource, Floats

if TYPE_CHECKING:
    from interpwidgets.views.attention import AttentionView

__all__ = ["attention_picture", "strongest_edges"]

WIDTH, LARGE, PAD = 920, 380, 14  # pixels
LABELS = 76  # for tokens beside the large head
INK, MUTED, LINE, ACCENT = "#1b1b1f", "#6b6b74", "#d5d5db", "#d9480f"
EDGES = 12
_WEIGHTS = 1 << 20  # looked at for the table; a longer head is read on evenly spaced queries
_SUBSTITUTES = {"␣": "_", "↵": "\\n", "⇥": "\\t", "−": "-", "→": "->", "×": "x", "⟨": "<", "⟩": ">"}


def attention_picture(view: AttentionView) -> Image.Image:
    """All heads as thumbnails and the selected one large, with axes and a legend, on white."""
    source = view.shown_source()
    layers, heads, queries, keys = source.shape
    signed = view.minus >= 0
    step = max(1, math.ceil(max(queries, keys) / LARGE))
    whole = slice(0, queries), slice(0, keys)
    budget = max(1, pyramid.IMAGE_WEIGHTS // (LARGE * keys))
    planes = pyramid.pool(source, view.layer, view.head, *whole, step, step, budget, signed)
    plane = int(view.pooling == "mean")
    large = planes[plane]
    atlas = pyramid.decode(view.atlas_tile())  # [layer, head, row, column]
    low, high = view.colour_range or (0.0, float(np.nanmax(np.abs(large), initial=0)) or 1.0)

    def colours(values: Floats, top: float) -> Image.Image:
        at = place(np.nan_to_num(values), view.scale, low, top, keys, signed)
        pixels = lut("diverging-light" if signed else "light")[at]
        if source.causal:
            rows, columns = values.shape
            pixels[np.arange(columns)[None, :] > np.arange(rows)[:, None]] = 255
        return Image.fromarray(pixels)

    left = WIDTH - 3 * PAD - LABELS - LARGE
    pitch = max(2, min(66, (left - 24) // heads))
    side = pitch - (2 if pitch > 6 else 1)
    shape = (queries / max(queries, keys), keys / max(queries, keys))
    box = max(1, int(LARGE * shape[1])), max(1, int(LARGE * shape[0]))
    top = 54
    height = top + max(layers * pitch + 12, box[1] + LABELS + 34)
    canvas = Image.new("RGB", (WIDTH, height), "white")
    draw = ImageDraw.Draw(canvas)
    write = _Writer(draw)
    write((PAD, 8), f"{view.title}: {source.name}", 16)
    write((PAD, 32), f"{layers} layers × {heads} heads", 12, MUTED)
    top_of_all = float(np.nanmax(np.abs(atlas), initial=0)) or 1.0
    shared = view.colour_range[1] if view.colour_range else top_of_all
    for layer in range(layers):
        y = top + layer * pitch
        if side >= 9:
            write((PAD, y + side // 2 - 6), f"L{layer}", 10, MUTED)
        for head in range(heads):
            x = PAD + 24 + head * pitch
            thumb = colours(atlas[layer, head], shared).resize((side, side), Image.Resampling.BOX)
            canvas.paste(thumb, (x, y))
            here = view.aggregate == "none" and (layer, head) == (view.layer, view.head)
            draw.rectangle((x - 1, y - 1, x + side, y + side), outline=ACCENT if here else LINE, width=1)
    x = WIDTH - PAD - LARGE
    write((x, 32), view.shown_name(), 13)
    canvas.paste(colours(large, high).resize(box, Image.Resampling.NEAREST), (x, top))
    draw.rectangle((x - 1, top - 1, x + box[0], top + box[1]), outline=LINE)
    _axis(canvas, write, source.query_tokens, queries, box[1], (x, top), vertical=True)
    _axis(canvas, write, source.key_tokens, keys, box[0], (x, top + box[1]), vertical=False)
    write((x - LABELS, top + box[1] + 6), "query ↑ key →", 10, MUTED)
    _legend(canvas, write, (x, height - 34), view.scale, -high if signed else low, high, signed)
    return canvas


def _axis(
    canvas: Image.Image, write: _Writer, tokens: Tokens, size: int, length: int, at: tuple[int, int], vertical: bool
) -> None:
    cell = length / size
    step = 1 if cell >= 10 else 10 ** math.ceil(math.log10(30 / cell))
    for i in range(0, size, step):
        text = str(tokens[i]) if step == 1 else f"{i:,}"
        label = write.label(text, LABELS - 6)
        middle = (i + 0.5) * cell
        if vertical:
            canvas.paste(label, (at[0] - 5 - label.width, int(at[1] + middle - label.height / 2)))
        else:
            turned = label.rotate(-90, expand=True, fillcolor="white")
            canvas.paste(turned, (int(at[0] + middle - turned.width / 2), at[1] + 4))


def _legend(
    canvas: Image.Image, write: _Writer, at: tuple[int, int], scale: str, low: float, high: float, signed: bool
) -> None:
    ramp = np.repeat(lut("diverging-light" if signed else "light")[None], 8, axis=0)
    canvas.paste(Image.fromarray(ramp).resize((200, 8)), at)
    x, y = at
    write((x, y + 10), f"{low:.3g}", 10, MUTED)
    write((x + 176, y + 10), f"{high:.3g}", 10, MUTED)
    write((x + 212, y - 3), f"{'difference of weights' if signed else 'attention weight'}, {scale}", 10, MUTED)


class _Writer:
    """Text in whatever font there is; characters it lacks are spelt with ones it has."""

    def __init__(self, draw: ImageDraw.ImageDraw) -> None:
        self._draw = draw

    def __call__(self, at: tuple[int, int], text: str, size: int, colour: str = INK) -> None:
        self._draw.text(at, _drawable(text, size), fill=colour, font=_font(size))

    def label(self, text: str, width: int) -> Image.Image:
        """A token on a strip of white, cut to `width`."""
        font, text = _font(10), _drawable(text, 10)
        while len(text) > 1 and font.getlength(text) > width:
            text = text[:-2] + "…"
        image = Image.new("RGB", (max(1, math.ceil(font.getlength(text))), 12), "white")
        ImageDraw.Draw(image).text((0, 0), text, fill=MUTED, font=font)
        return image


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for name in ("DejaVuSans.ttf", "Arial Unicode.ttf", "segoeui.ttf"):
        with suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)


@cache
def _drawable(text: str, size: int) -> str:
    font = _font(size)
    lacking = bytes(font.getmask("\U0010fffe"))
    return "".join(c if bytes(font.getmask(c)) != lacking else _SUBSTITUTES.get(c, "?") for c in text)


def strongest_edges(view: AttentionView) -> tuple[list[str], list[list[str]]]:
    """The strongest weights of the head shown, as rows of text: query, key, weight."""
    source = view.shown_source()
    _, _, queries, keys = source.shape
    rows = np.unique(np.linspace(0, queries - 1, min(queries, max(1, _WEIGHTS // keys))).astype(np.int64))
    block = np.nan_to_num(source.block(view.layer, view.head, rows, slice(0, keys)))
    count = min(EDGES, block.size)
    flat = np.argpartition(np.abs(block), -count, axis=None)[-count:]
    order = sorted((i for i in flat.tolist() if block.flat[i]), key=lambda i: -abs(float(block.flat[i])))
    looked = "" if len(rows) == queries else f" (of {len(rows):,} of {queries:,} queries)"
    return [f"query{looked}", "key", "weight"], [_row(source, rows, block, divmod(i, keys)) for i in order]


def _row(source: AttentionSource, rows: np.ndarray, block: Floats, cell: tuple[int, int]) -> list[str]:
    row, key = cell
    query = int(rows[row])
    return [f"{query}: {source.query_tokens[query]}", f"{key}: {source.key_tokens[key]}", f"{block[row, key]:.4f}"]

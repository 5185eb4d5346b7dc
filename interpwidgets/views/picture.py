"""An attention view as a still: what GitHub, e-mail and an untrusted notebook can show, and a table of its edges."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from interpwidgets.tokens import Tokens
from interpwidgets.views import pyramid
from interpwidgets.views.drawing import ACCENT, LINE, MUTED, PAD, WIDTH, Drawing
from interpwidgets.views.palette import lut, place
from interpwidgets.views.source import AttentionSource, Floats

if TYPE_CHECKING:
    from interpwidgets.views.attention import AttentionView

__all__ = ["attention_picture", "strongest_edges"]

LARGE = 380  # pixels
LABELS = 76  # for tokens beside the large head
EDGES = 12
_WEIGHTS = 1 << 20  # looked at for the table; a longer head is read on evenly spaced queries


def attention_picture(view: AttentionView) -> Drawing:
    """All heads as thumbnails and the selected one large, with axes and a legend, on white."""
    source = view.shown_source()
    layers, heads, queries, keys = source.shape
    signed = view.signed
    step = max(1, math.ceil(max(queries, keys) / LARGE))
    whole = slice(0, queries), slice(0, keys)
    budget = max(1, pyramid.IMAGE_WEIGHTS // (LARGE * keys))
    planes = pyramid.pool(source, view.layer, view.head, *whole, step, step, budget, signed)
    plane = int(view.pooling == "mean")
    large = planes[plane]
    atlas = pyramid.decode(view.atlas_tile())  # [layer, head, row, column]
    low, high = view.colour_range or (0.0, float(np.nanmax(np.abs(large), initial=0)) or 1.0)

    def colours(values: Floats, top: float) -> NDArray[np.uint8]:
        at = place(np.nan_to_num(values), view.scale, low, top, keys, signed)
        pixels = lut("diverging-light" if signed else "light")[at]
        if source.causal:
            rows, columns = values.shape
            pixels[np.arange(columns)[None, :] > np.arange(rows)[:, None]] = 255
        return pixels

    left = WIDTH - 3 * PAD - LABELS - LARGE
    pitch = max(2, min(66, (left - 24) // heads))
    side = pitch - (2 if pitch > 6 else 1)
    shape = (queries / max(queries, keys), keys / max(queries, keys))
    box = max(1, int(LARGE * shape[1])), max(1, int(LARGE * shape[0]))
    top = 54
    height = top + max(layers * pitch + 12, box[1] + LABELS + 34)
    drawing = Drawing(WIDTH, height)
    drawing.text((PAD, 8), f"{view.title}: {source.name}", 16)
    drawing.text((PAD, 32), f"{layers} layers × {heads} heads", 12, MUTED)
    top_of_all = float(np.nanmax(np.abs(atlas), initial=0)) or 1.0
    shared = view.colour_range[1] if view.colour_range else top_of_all
    for layer in range(layers):
        y = top + layer * pitch
        if side >= 9:
            drawing.text((PAD, y + side // 2 - 6), f"L{layer}", 10, MUTED)
        for head in range(heads):
            x = PAD + 24 + head * pitch
            drawing.pixels((x, y), (side, side), colours(atlas[layer, head], shared), smooth=True)
            here = view.aggregate == "none" and (layer, head) == (view.layer, view.head)
            drawing.rect((x - 1, y - 1), (side + 2, side + 2), outline=ACCENT if here else LINE)
    x = WIDTH - PAD - LARGE
    drawing.text((x, 32), view.shown_name(), 13)
    drawing.pixels((x, top), box, colours(large, high))
    drawing.rect((x - 1, top - 1), (box[0] + 2, box[1] + 2), outline=LINE)
    _axis(drawing, source.query_tokens, queries, box[1], (x, top), vertical=True)
    _axis(drawing, source.key_tokens, keys, box[0], (x, top + box[1]), vertical=False)
    drawing.text((x - LABELS, top + box[1] + 6), "query ↑ key →", 10, MUTED)
    what = f"{view.shown_unit()}, {view.scale}"
    palette = "diverging-light" if signed else "light"
    drawing.colour_bar((x, height - 34), f"{-high if signed else low:.3g}", f"{high:.3g}", what, palette)
    return drawing


def _axis(drawing: Drawing, tokens: Tokens, size: int, length: int, at: tuple[int, int], vertical: bool) -> None:
    cell = length / size
    step = 1 if cell >= 10 else 10 ** math.ceil(math.log10(30 / cell))
    for i in range(0, size, step):
        text = str(tokens[i]) if step == 1 else f"{i:,}"
        middle = (i + 0.5) * cell
        if vertical:
            drawing.text((at[0] - 5, at[1] + middle - 6), text, 10, MUTED, anchor="end", width=LABELS - 6)
        else:
            drawing.text((at[0] + middle - 6, at[1] + 4), text, 10, MUTED, width=LABELS - 6, turned=True)


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

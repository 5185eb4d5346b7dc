"""A still of a logit lens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from interpwidgets.views.drawing import MUTED, PAD, WIDTH, Drawing
from interpwidgets.views.grid_picture import Colours, draw_grid
from interpwidgets.views.logit_lens_tiles import LensTiles

if TYPE_CHECKING:
    from interpwidgets.views.logit_lens import LogitLensView

_LABELS, _ROW, _LEAST = 40, 20, 46  # pixels: of row labels, of a row, and of a column at least
FLOORS = {"entropy": 1e-2, "kl": 1e-3, "token_rank": 0.5}  # where a log scale ends; as in js/views/logit_lens.tsx


def lens_picture(view: LogitLensView, tiles: LensTiles) -> Drawing:
    """As many positions as have room for a word, the selected one among them."""
    from interpwidgets.views.logit_lens import MEASURES

    source = tiles.sources[view.prompt]
    room = WIDTH - 2 * PAD - _LABELS
    count = min(len(source.tokens), room // _LEAST)
    first = max(0, min(view.position - count + 3, len(source.tokens) - count))
    tops, numbers = tiles.numbers(view.prompt, first, first + count)
    if view.measure.startswith("token_") and view.token:
        token = tiles.find(view.prompt, view.token)
        values = tiles.standing(view.prompt, first, first + count, token, view.measure.removeprefix("token_"))
    else:
        values = numbers[{"entropy": 1, "kl": 2}.get(view.measure, 0)]
    vocabulary = tiles.vocabulary(view.prompt)
    most = {"entropy": math.log(vocabulary), "kl": math.log(vocabulary), "token_rank": float(vocabulary)}
    low, high = view.colour_range or (0.0, most.get(view.measure, 1.0))
    layers = source.layers[::-1]
    drawing = Drawing(WIDTH, 46 + _ROW * len(layers) + 18 + 60)
    drawing.text((PAD, 8), view.title, 15)
    drawing.text((PAD, 28), f"{view.prompts[view.prompt]['name']}: the likeliest token after each layer", 11, MUTED)
    selected = (layers.index(view.layer), view.position - first)
    colours = Colours(low, high, view.scale, FLOORS.get(view.measure, 1e-4))
    height = draw_grid(
        drawing,
        (PAD + _LABELS, 48),
        (room / max(count, 8), _ROW),
        values[::-1],
        colours,
        rows=[str(layer) for layer in layers],
        columns=source.tokens[first : first + count],
        texts=tops[::-1],
        selected=selected,
        labels=_LABELS,
    )
    drawing.text((PAD, 48 + height - 14), "layer ↑", 10, MUTED)
    what = MEASURES[view.measure] + (f" {view.token}" if view.measure.startswith("token_") else "")
    if count < len(source.tokens):
        what += f"; positions {first} to {first + count - 1} of {len(source.tokens):,}"
    drawing.colour_bar((PAD + _LABELS, 48 + height + 12), f"{low:.3g}", f"{high:.3g}", f"{what}, {view.scale}")
    return drawing

"""A feature as a still: how often it is active, which logits it moves, and its strongest examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from interpwidgets.tokens import show
from interpwidgets.views.drawing import ACCENT, INK, MUTED, PAD, WIDTH, Drawing, text_width
from interpwidgets.views.flow import _ink
from interpwidgets.views.palette import lut
from interpwidgets.views.plotting import Axes, Bar, bars

if TYPE_CHECKING:
    from interpwidgets.views.feature import FeatureView

__all__ = ["feature_picture"]

_LINE = 19  # pixels of an example
_MIDDLE = 430  # where the tokens that examples are of begin
_TOP, _OF_EACH = 6, 2  # examples drawn, of the strongest and of each group


def feature_picture(view: FeatureView) -> Drawing:
    """Histogram and logits side by side, then examples with the token they are of in one column."""
    feature = view.selection
    said = view.store.label_of(view.feature)
    groups = [("top", feature.examples("top")[:_TOP])]
    groups += [(each.name, feature.examples(each.name)[:_OF_EACH]) for each in reversed(feature.groups)]
    groups = [(name, some) for name, some in groups if some]
    height = 268 + sum(22 + _LINE * len(some) for _, some in groups) + 40
    drawing = Drawing(WIDTH, height)
    drawing.text((PAD, 8), f"{view.title}: feature {view.feature:,}", 16)
    drawing.text((PAD, 32), view.describe(), 12, MUTED, width=WIDTH - 2 * PAD)
    if said:
        score = "" if said.score is None else f", score {said.score:.2f}"
        interval = "" if said.low is None or said.high is None else f" [{said.low:.2f}, {said.high:.2f}]"
        by = f", by {said.by}" if said.by else ""
        drawing.text((PAD, 50), f"“{said.text}”{score}{interval}{by}", 13, INK, width=WIDTH - 2 * PAD)
    _histogram(drawing, feature, (PAD + 44, 96, 420, 226))
    ends = [*feature.top_logits[:5], *reversed(feature.bottom_logits[:4])]
    if ends:
        bars(drawing, (470, 70), 430, [Bar(show(token), value) for token, value in ends], "logit of one unit", 110)
    y = 268.0
    for name, some in groups:
        drawing.text((PAD, y), "strongest" if name == "top" else name, 11, MUTED)
        y += 20
        for example in some:
            _example(drawing, example, y, feature.max)
            y += _LINE
        y += 2
    drawing.colour_bar((PAD, y + 10), "0", f"{feature.max:.4g}", "activation")
    return drawing


def _histogram(drawing: Drawing, feature: Any, box: tuple[float, float, float, float]) -> None:
    edges, counts = feature.histogram
    if not len(counts):
        drawing.text((box[0], box[1] + 40), "never active", 12, MUTED)
        return
    low = edges[0] or edges[1] / 1.1
    logs = np.log10(np.maximum(counts, 0.8))
    axes = Axes(
        drawing, box, (float(low), float(edges[-1])), (float(np.log10(0.8)), float(logs.max()) + 0.1), float(low)
    )
    axes.frame("activation", "log₁₀ of tokens")
    for left, right, log, count in zip(edges[:-1], edges[1:], logs, counts, strict=True):
        x, y = axes.at(max(float(left), float(low)), float(log))
        if count:
            drawing.rect((x, y), (axes.across(float(right)) - x - 1, box[3] - y), MUTED)
    for group in feature.groups[1:]:
        if group.count and group.low >= low:
            x = axes.across(group.low)
            drawing.line([(x, box[3] - 5), (x, box[3] + 3)], ACCENT)


def _example(drawing: Drawing, example: Any, y: float, most: float) -> None:
    """A line of tokens, as far as there is room to either side of the one in the middle."""
    tokens, values = list(example.tokens), example.activations
    drawing.text((PAD + 46, y + 1), f"{example.value:.3g}", 11, MUTED, anchor="end")
    x = float(_MIDDLE)
    for i in range(example.position, len(tokens)):
        width = text_width(tokens[i], 12) + 5
        if x + width > WIDTH - PAD:
            break
        _token(drawing, (x, y), width, tokens[i], values[i] / most, i == example.position)
        x += width
    x = float(_MIDDLE)
    for i in reversed(range(example.position)):
        width = text_width(tokens[i], 12) + 5
        if x - width < PAD + 54:
            break
        x -= width
        _token(drawing, (x, y), width, tokens[i], values[i] / most, False)


def _token(drawing: Drawing, at: tuple[float, float], width: float, text: str, share: float, here: bool) -> None:
    colour = None
    if share > 0:
        colour = "#" + bytes(lut("light")[round(255 * min(1.0, share))].tolist()).hex()
        drawing.rect(at, (width - 1, _LINE - 2), colour)
    if here:
        drawing.rect(at, (width - 1, _LINE - 2), outline=ACCENT)
    drawing.text((at[0] + 2, at[1] + 1), text, 12, _ink(colour), width=width)

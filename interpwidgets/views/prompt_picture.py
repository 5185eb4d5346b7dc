"""A prompt as a still: its tokens on the colours of their surprise, what was changed, and what comes next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interpwidgets.views.drawing import ACCENT, INK, LINE, MUTED, PAD, WIDTH, Drawing
from interpwidgets.views.flow import TextStill

if TYPE_CHECKING:
    from interpwidgets.views.prompt import PromptView

__all__ = ["prompt_picture"]

_ROW, _BAR = 20, 190  # pixels


def prompt_picture(view: PromptView) -> Drawing:
    """Text, legend, interventions, and the next token's probabilities as bars."""
    found, changes = view.outcome(), view.interventions
    text = TextStill(list(view.tokens), view.surprise())
    shown = range(min(8, len(found.tokens)))
    below = 60 + text.height + 34
    drawing = Drawing(WIDTH, below + 26 + 16 * len(changes) + _ROW * len(shown) + PAD)
    drawing.text((PAD, 8), f"{view.title}: {view.model.name} reads {view.size} tokens", 16)
    drawing.text((PAD, 34), "Each token is on the colour of its surprise: −log₂ of the probability it had.", 11, MUTED)
    text.draw(drawing, 60, found.position, [])
    text.legend(drawing, below - 26, "surprise in bits")
    for change in changes:
        drawing.text((PAD, below), repr(change), 11, ACCENT, width=WIDTH - 2 * PAD)
        below += 16
    names = ("as it is", "with the changes") if changes else ("",)
    after = f"The token after position {found.position}"
    drawing.text((PAD, below + 4), f"{after}: probability {' and '.join(filter(None, names))}", 12, INK)
    most = max(found.before.max(), found.after.max())
    for row in shown:
        y = below + 26 + _ROW * row
        drawing.text((PAD, y), found.tokens[row], 12, width=150)
        for column, values in enumerate((found.before, found.after)[: len(names)]):
            x = PAD + 160 + column * (_BAR + 70)
            drawing.rect((x, y + 2), (_BAR * values[row] / most, 12), ACCENT if column else LINE)
            drawing.text((x + _BAR + 6, y), f"{values[row]:.1%}", 11, MUTED)
    return drawing

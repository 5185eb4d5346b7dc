"""A still of tables of effects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from interpwidgets.views.drawing import MUTED, PAD, WIDTH, Drawing
from interpwidgets.views.grid_picture import Colours, draw_grid, extent
from interpwidgets.views.patching_tiles import PatchingTiles

if TYPE_CHECKING:
    from interpwidgets.views.patching import PatchingView

_LABELS = 56


def patching_picture(view: PatchingView, tiles: PatchingTiles) -> Drawing:
    """The tables below each other, on one scale."""
    if not tiles.panels:
        drawing = Drawing(WIDTH, 60)
        drawing.text((PAD, 10), view.title, 15)
        drawing.text((PAD, 32), "Nothing has been run yet.", 12, MUTED)
        return drawing
    scale = colours(view, tiles)
    drawn = []
    height = 34.0
    for number, panel in enumerate(tiles.panels):
        row, column, _ = panel.sides(view.held)
        shape = panel.effects.shape
        cell = extent(1 if row < 0 else shape[row], shape[column], WIDTH - 2 * PAD - _LABELS)
        drawn.append((number, height, cell))
        height += 36 + cell[1] * (1 if row < 0 else shape[row]) + 78
    drawing = Drawing(WIDTH, height + 44)
    drawing.text((PAD, 8), view.title, 15)
    for number, top, cell in drawn:
        _panel(drawing, view, tiles, number, top, cell, scale)
    what = f"{view.measure} on {tiles.panels[0].effects.metric}"
    low = -scale.high if scale.signed else scale.low
    drawing.colour_bar((PAD, height + 4), f"{low:.3g}", f"{scale.high:.3g}", what, scale.palette)
    drawing.text((PAD, height + 28), "A dot: the 95 % interval includes no effect. Hatched: not run.", 10, MUTED)
    return drawing


def colours(view: PatchingView, tiles: PatchingTiles) -> Colours:
    """One scale for all tables; as in js/views/patching.tsx."""
    facts = [tiles.facts(number) for number in range(len(tiles.panels))]
    if view.measure == "value":
        least, most = min(each["range"][0] for each in facts), max(each["range"][1] for each in facts)
        low, high = view.colour_range or (least, most if most > least else least + 1)
        return Colours(low, high)
    by = [abs(each["gap"] or np.nan) if view.measure == "recovered" else 1.0 for each in facts]
    most = np.nanmax([each["most"] / gap for each, gap in zip(facts, by, strict=True)] + [0.0])
    low, high = view.colour_range or (0.0, float(most) or 1.0)
    return Colours(low, high, signed=True)


def _panel(
    drawing: Drawing, view: PatchingView, tiles: PatchingTiles, number: int, top: float, cell: Any, scale: Colours
) -> None:
    panel = tiles.panels[number]
    effects, (row, column, kept) = panel.effects, panel.sides(view.held)
    at = view.cell[kept] if 0 <= kept < len(view.cell) else 0
    measured = {"effect": effects.effect, "value": effects.mean, "recovered": effects.effect / effects.gap}[
        view.measure
    ]
    low, high = (panel.plane(bound, view.held, at) for bound in effects.interval())
    plane = panel.plane(measured, view.held, at)
    layers = row >= 0 and effects.axes[row].name == "layer"
    rows = [""] if row < 0 else [str(label) for label in effects.axes[row].labels]
    flip = slice(None, None, -1 if layers else 1)
    prompts = tiles.corrupted or tiles.clean or ()
    words = list(prompts[view.prompt]) if prompts and effects.axes[column].name == "pos" else []
    labels = effects.axes[column].labels
    names = [words[i] if words and isinstance(i, int) else str(i) for i in labels]
    selected = None
    if number == view.panel and view.cell:
        place = 0 if row < 0 else view.cell[row]
        selected = (len(rows) - 1 - place if layers else place, view.cell[column])
    name = f"{panel.name}: " if panel.name else ""
    drawing.text((PAD, top), f"{name}{effects.how}", 11, MUTED, width=WIDTH - 2 * PAD)
    clean = "" if effects.clean is None else f", clean {effects.clean.mean():.3g}"
    about = f"{effects.metric}: corrupted {effects.corrupted.mean():.3g}{clean}; {effects.n} prompts"
    held = "" if kept < 0 else f"; {effects.axes[kept].name} {effects.axes[kept].labels[at]}"
    drawing.text((PAD, top + 15), about + held, 11, MUTED)
    height = draw_grid(
        drawing,
        (PAD + _LABELS, top + 36),
        cell,
        plane[flip],
        scale,
        rows=rows[flip],
        columns=names,
        dotted=((low <= 0) & (high >= 0))[flip],
        selected=selected,
        labels=_LABELS,
    )
    sides = ("" if row < 0 else f"{effects.axes[row].name} ↑ ") + f"{effects.axes[column].name} →"
    drawing.text((PAD, top + 36 + height), sides, 10, MUTED)

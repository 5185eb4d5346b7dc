"""A training view as a still, and as a table."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from interpwidgets.views.drawing import ACCENT, MUTED, PAD, WIDTH, Drawing
from interpwidgets.views.plotting import Axes, extent, number, series

if TYPE_CHECKING:
    from interpwidgets.views.training import TrainingView

__all__ = ["training_picture", "training_table"]

_HEIGHT = 210  # pixels a panel, with its legend
_DRAWN = 2_000  # checkpoints


def training_picture(view: TrainingView) -> Drawing:
    """Every panel, with lines, bands, legend and cursor."""
    columns = min(2, len(view.panels)) or 1
    width = (WIDTH - PAD * (columns + 1)) / columns
    rows = math.ceil(len(view.panels) / columns)
    drawing = Drawing(WIDTH, 56 + rows * (_HEIGHT + 20) + 4)
    drawing.text((PAD, 8), view.title, 16, width=WIDTH - 2 * PAD)
    banded = f"; bands: {view.banded}" if view.banded else ""
    drawing.text((PAD, 32), f"upright line: {view.axis} {view.step_value:,}{banded}", 12, MUTED, width=WIDTH - 2 * PAD)
    some = np.unique(np.linspace(0, len(view.steps) - 1, min(_DRAWN, len(view.steps))).astype(int))
    steps = view.steps[some]
    above = view.steps[view.steps > 0]
    for i, panel in enumerate(view.panels):
        left = PAD + (i % columns) * (width + PAD)
        top = 56 + (i // columns) * (_HEIGHT + 20)
        bands = [view.metrics[name] for name in panel]
        edges = [edge for band in bands for edge in (band.value, band.low, band.high) if edge is not None]
        box = (left + 46, top + 18 + 16 * len(panel), left + width - 8, top + _HEIGHT - 32)
        first = float(above[0]) if view.x_scale == "log" and len(above) and view.steps[0] >= 0 else None
        axes = Axes(drawing, box, (float(view.steps[0]), float(view.steps[-1])), extent(*edges), first)
        axes.frame(view.axis, "")
        for n, (name, band) in enumerate(zip(panel, bands, strict=True)):
            low, high = (None if edge is None else edge[some] for edge in (band.low, band.high))
            axes.line(steps, band.value[some], series(n), low, high)
            y = top + 2 + 16 * n
            drawing.line([(left + 46, y + 7), (left + 64, y + 7)], series(n), 3)
            text = f"{name}: {number(float(band.value[view.step]))}"
            drawing.text((left + 70, y), text, 11, width=width - 80)
        x = axes.across(float(view.steps[view.step]))
        drawing.line([(x, box[1]), (x, box[3])], ACCENT, 1)
    return drawing


def training_table(view: TrainingView) -> tuple[list[str], list[list[str]]]:
    """Each metric at the cursor, at the first checkpoint and at the last."""
    ends = f"{view.axis} {view.steps[0]:,.10g}", f"{view.axis} {view.steps[-1]:,.10g}"
    headings = ["metric", f"{view.axis} {view.step_value:,} (cursor)", "band", *ends]
    rows = []
    for name, band in view.metrics.items():
        low, high = (None if edge is None else float(edge[view.step]) for edge in (band.low, band.high))
        between = "" if low is None or high is None or math.isnan(low) else f"{number(low)} … {number(high)}"
        at = (number(float(band.value[i])) for i in (view.step, 0, -1))
        here, first, last = at
        rows.append([name, here, between, first, last])
    return headings, rows

"""A heat map in a still: cells, their labels, and what is selected. The page draws the same (js/parts/grid.tsx)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from interpwidgets.views.drawing import ACCENT, INK, LINE, MUTED, Drawing, Point
from interpwidgets.views.palette import lut

__all__ = ["Colours", "draw_grid", "extent"]

Floats = NDArray[np.float32]

TURNED = 64  # pixels of labels that read downwards
_FLAT = 40  # pixels of a column from which its label is written across


class Colours(NamedTuple):
    """From a value to a colour, as the page's `Scale`."""

    low: float
    high: float
    kind: str = "linear"
    floor: float = 1e-3  # where a log scale ends
    signed: bool = False

    @property
    def palette(self) -> str:
        """Its name."""
        return "diverging-light" if self.signed else "light"

    def of(self, values: Floats) -> NDArray[np.uint8]:
        """[…] → [… , rgb]; a missing value is white."""
        low = 0.0 if self.signed else self.low
        size = np.abs(values) if self.signed else values
        with np.errstate(invalid="ignore"):
            if self.kind == "log":
                floor = max(low, self.floor)
                at = np.log(np.maximum(size, floor) / floor) / max(1e-9, math.log(self.high / floor))
            else:
                at = np.clip((size - low) / (self.high - low), 0, 1)
                at = np.sqrt(at) if self.kind == "sqrt" else at
            at = np.clip(at, 0, 1)
            at = (1 + np.copysign(at, values)) / 2 if self.signed else at
        missing = np.isnan(values)
        found: NDArray[np.uint8] = lut(self.palette)[np.rint(255 * np.where(missing, 0, at)).astype(np.intp)]
        found[missing] = 255
        return found


def extent(rows: int, columns: int, width: float) -> tuple[float, float]:
    """The size of a cell in a grid of at most that width, in pixels: (across, down)."""
    across = min(26.0, width / columns)
    return across, min(20.0, max(across, 10.0), max(3.0, 420 / rows))


def draw_grid(
    drawing: Drawing,
    at: Point,
    cell: Point,
    values: Floats,
    colours: Colours,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    texts: Sequence[Sequence[str]] | None = None,
    dotted: NDArray[np.bool_] | None = None,
    differs: Sequence[int] = (),
    selected: tuple[int, int] | None = None,
    labels: float = 48,
) -> float:
    """Draw `values` [row, column] with its top left at `at`, row labels left of it; the height, with labels below."""
    (x, y), (across, down) = at, cell
    n_rows, n_columns = values.shape
    painted = colours.of(values)
    drawing.pixels((x, y), (across * n_columns, down * n_rows), painted)
    for row, column in np.argwhere(np.isnan(values)).tolist() if values.size < 4000 else ():
        left, top = x + column * across, y + row * down
        drawing.line([(left, top + down), (left + across, top)], LINE)
    if across >= 8 and down >= 8:
        for column in range(1, n_columns):
            drawing.line([(x + column * across, y), (x + column * across, y + n_rows * down)], "#ffffff")
        for row in range(1, n_rows):
            drawing.line([(x, y + row * down), (x + n_columns * across, y + row * down)], "#ffffff")
    for row, column in np.ndindex(*values.shape) if texts is not None or dotted is not None else ():
        ink = INK if _light(painted[row, column]) else "#ffffff"
        if texts is not None:
            place = x + column * across + 3, y + (row + 0.5) * down - 7
            drawing.text(place, texts[row][column], 10, ink, width=across - 5)
        if dotted is not None and dotted[row, column] and min(cell) >= 4:
            ink = MUTED if ink == INK else ink
            drawing.circle((x + (column + 0.5) * across, y + (row + 0.5) * down), 1.3, fill=ink)
    drawing.rect((x - 1, y - 1), (across * n_columns + 2, down * n_rows + 2), outline=LINE)
    for row in range(0, n_rows, max(1, math.ceil(11 / down))):
        drawing.text((x - 5, y + (row + 0.5) * down - 6), rows[row], 10, MUTED, anchor="end", width=labels - 6)
    below = _column_labels(drawing, (x, y + n_rows * down + 3), across, columns, differs)
    if selected is not None:
        row, column = selected
        drawing.rect((x + column * across - 1, y + row * down - 1), (across + 2, down + 2), outline=ACCENT, stroke=2)
    return float(n_rows * down + below)


def _column_labels(drawing: Drawing, at: Point, across: float, columns: Sequence[str], differs: Sequence[int]) -> int:
    """Labels below columns, turned where they do not fit; their height."""
    turned = across < _FLAT and any(len(label) * 6 > across for label in columns)
    for column in range(0, len(columns), max(1, math.ceil(11 / across))):
        colour = ACCENT if column in differs else MUTED
        middle = at[0] + (column + 0.5) * across
        if turned:
            drawing.text((middle - 6, at[1]), columns[column], 10, colour, width=TURNED - 4, turned=True)
        else:
            drawing.text((middle, at[1]), columns[column], 10, colour, anchor="middle", width=across - 2)
    return TURNED if turned else 18


def _light(colour: NDArray[np.uint8]) -> bool:
    """Whether dark text reads better on it."""
    r, g, b = ((colour / 255.0) ** 2.2).tolist()
    return bool(0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18)

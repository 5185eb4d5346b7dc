"""A geometry view as a still, and as a table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from interpwidgets.views import directions
from interpwidgets.views.drawing import ACCENT, LINE, MUTED, PAD, WIDTH, Drawing
from interpwidgets.views.grid_picture import Colours, draw_grid
from interpwidgets.views.grid_picture import extent as cell_of
from interpwidgets.views.palette import lut
from interpwidgets.views.plotting import Axes, Bar, bars, series

if TYPE_CHECKING:
    from interpwidgets.views.geometry import GeometryView

__all__ = ["geometry_picture", "geometry_table", "projected"]

_SIDE = 460  # pixels of the plane
_ROWS = 24  # bars, and items of a matrix of cosines
_POINTS = 20_000  # drawn at most: more are one blot
_FEW = 64
_PALEST = 39  # of the palette: a point must be seen on white


def geometry_picture(view: GeometryView) -> Drawing:
    """The vectors as they are read, and their dimensionality or the neighbours of the one selected."""
    count, items, dim = view.shape
    rows = _bars(view)
    drawing = Drawing(WIDTH, 64 + max(_SIDE + 84, 50 + 18 * len(rows[1])))
    at = f" · {view.steps[view.step]}" if count > 1 else ""
    drawing.text((PAD, 8), f"{view.title}{at}", 16, width=WIDTH - 2 * PAD)
    axes = 3 if view.reading == "3d" else 2
    shown = "cosines" if view.reading == "cosine" else view.explained(axes)
    drawing.text((PAD, 32), f"{items:,} vectors of {dim:,} dimensions; shown: {shown}", 12, MUTED)
    (_cosines if view.reading == "cosine" else _points)(view, drawing)
    x = PAD + _SIDE + 70
    bars(drawing, (x, 56), WIDTH - PAD - x, rows[1], rows[0], labels=100)
    return drawing


def geometry_table(view: GeometryView) -> tuple[list[str], list[list[str]]]:
    """Length and dimensionality of the first items; or, with one selected, of its nearest and their angles to it."""
    facts = view.facts(view.step)

    def row(item: int) -> list[str]:
        return [view.labels[item], f"{facts[item, 0]:.4f}", f"{facts[item, 1]:.4f}"]

    if view.feature is None:
        return ["item", "length", "dimensionality"], [row(item) for item in range(min(_ROWS, view.shape[1]))]
    own = [*row(view.feature), "1.0000", "0.0°"]
    near = [
        [*row(i), f"{c:.4f}".replace("-", "−"), f"{_degrees(c):.1f}°"] for i, c in view.near(view.step, view.feature)
    ]
    return ["item", "length", "dimensionality", f"cosine with {view.labels[view.feature]}", "angle"], [own, *near]


def projected(points: NDArray[np.float32], turn: float, tilt: float) -> NDArray[np.float32]:
    """Points in space as seen after a turn about the upright axis and a tilt, in degrees: [item, (x, y, depth)]."""
    a, b = math.radians(turn), math.radians(tilt)
    x, y, z = points.T
    across, away = x * math.cos(a) + z * math.sin(a), z * math.cos(a) - x * math.sin(a)
    found = np.stack([across, y * math.cos(b) - away * math.sin(b), away * math.cos(b) + y * math.sin(b)], axis=-1)
    return found.astype(np.float32)


def _plane(view: GeometryView, drawing: Drawing) -> tuple[NDArray[np.float32], Axes, tuple[float, float]]:
    """An empty frame; the points as they lie in it, [item, (x, y) or (x, y, depth)], and the origin."""
    flat = view.reading == "2d"
    points = view.points(view.step, 2 if flat else 3)
    bounds = np.array(view.bounds[: points.shape[1]], dtype=np.float32)
    left, top, right, bottom = box = (PAD + 44, 64, PAD + 44 + _SIDE, 64 + _SIDE)
    middle, half = bounds.mean(1), 0.56 * max(float(np.ptp(bounds, axis=1).max()), 1e-6)
    origin = np.zeros_like(middle)
    if not flat:
        points, (origin,) = (projected(each - middle, *view.rotation) for each in (points, origin[None]))
        middle, half = np.zeros(2, dtype=np.float32), 1.5 * half
    x, y = ((float(m) - half, float(m) + half) for m in middle[:2])
    axes = Axes(drawing, box, x, y)
    if flat:
        axes.frame(*(f"component {i + 1}" if view.variance else f"dimension {i}" for i in range(2)))
    else:
        drawing.rect((left, top), (right - left, bottom - top), outline=LINE)
        drawing.text((left + 6, bottom - 18), "seen without perspective", 10, MUTED)
    return points, axes, (float(origin[0]), float(origin[1]))


def _ring(axes: Axes) -> None:
    """Where vectors of length 1 end."""
    left, top, right, bottom = axes.box
    ring = [axes.at(math.cos(angle), math.sin(angle)) for angle in np.linspace(0, 2 * math.pi, 121)]
    for dash in zip(ring[:-1:2], ring[1::2], strict=True):
        if all(left <= x <= right and top <= y <= bottom for x, y in dash):
            axes.drawing.line(dash, LINE)


def _points(view: GeometryView, drawing: Drawing) -> None:
    points, axes, centre = _plane(view, drawing)
    flat, few = points.shape[1] == 2, view.shape[1] <= _FEW
    origin, box = axes.at(*centre), axes.box
    if few and flat and view.shape[2] == 2:
        _ring(axes)
    colour = _colours(view)
    some = np.arange(len(points))
    if len(some) > _POINTS:
        some = np.random.default_rng(0).choice(len(points), _POINTS, replace=False)
        drawing.text((box[0] + 6, box[1] + 4), f"{_POINTS:,} of {len(points):,} are drawn", 10, MUTED)
    order = some if flat else some[np.argsort(-points[some, 2], kind="stable")]
    radius = 5.0 if few else 2.0 if len(points) <= 5_000 else 1.0
    for i in order.tolist():
        at = axes.at(float(points[i, 0]), float(points[i, 1]))
        if few:
            drawing.line([origin, at], colour(i), 1)
            if i != view.feature:
                drawing.text((at[0] + 7, at[1] - 7), view.labels[i], 11, MUTED, width=90)
        drawing.circle(at, radius, colour(i))
    if view.feature is not None:
        at = axes.at(float(points[view.feature, 0]), float(points[view.feature, 1]))
        drawing.circle(at, radius + 3, None, ACCENT)
        drawing.text((at[0] + 8, at[1] - 8), view.labels[view.feature], 12, ACCENT, width=120)
    _legend(view, drawing)


def _legend(view: GeometryView, drawing: Drawing) -> None:
    y = 64 + _SIDE + 36
    if view.values is not None and view.value_range:
        low, high = view.value_range
        signed = low < 0
        ends = (-max(-low, high), max(-low, high)) if signed else (low, high)
        colours = lut("diverging-light") if signed else lut("light")[_PALEST:]
        drawing.pixels((PAD + 44, y - 4), (200, 8), colours[None])
        drawing.text((PAD + 44, y + 6), f"{ends[0]:.3g}", 10, MUTED)
        drawing.text((PAD + 244, y + 6), f"{ends[1]:.3g}", 10, MUTED, anchor="end")
        drawing.text((PAD + 256, y - 8), view.valued, 10, MUTED)
        return
    x = PAD + 44.0
    for i, name in enumerate(view.group_names[:6]):
        drawing.circle((x + 4, y), 4, series(i))
        drawing.text((x + 12, y - 7), name, 11, MUTED, width=80)
        x += 96


def _colours(view: GeometryView) -> Callable[[int], str]:
    values, groups = view.values, view.groups
    if values is not None and view.value_range:
        low, high = view.value_range
        most = max(-low, high) or 1.0
        colours = lut("diverging-light") if low < 0 else lut("light")[_PALEST:]

        def by_value(i: int) -> str:
            value = float(values[i])
            if math.isnan(value):
                return LINE
            at = (value / most + 1) / 2 if low < 0 else (value - low) / ((high - low) or 1)
            return "#{:02x}{:02x}{:02x}".format(*colours[round((len(colours) - 1) * at)])

        return by_value
    if groups is not None:
        return lambda i: series(int(groups[i]))
    return lambda _: series(0)


def _cosines(view: GeometryView, drawing: Drawing) -> None:
    items = view.compared(view.step, view.feature)[:_ROWS]
    matrix = directions.cosines(view.vectors[view.step], items).astype(np.float32)
    names = [view.labels[i] for i in items]
    cell = cell_of(len(items), len(items), _SIDE - 40)
    chosen = [int(i) for i in np.flatnonzero(items == view.feature)]
    selected = (chosen[0], chosen[0]) if chosen else None
    colours = Colours(-1, 1, signed=True)
    at = PAD + 70, 70
    below = draw_grid(drawing, at, cell, matrix, colours, rows=names, columns=names, selected=selected, labels=64)
    kept = "" if len(items) == view.shape[1] else f", {len(items)} of {view.shape[1]:,} items"
    drawing.colour_bar((at[0], at[1] + below + 8), "-1", "1", f"cosine{kept}", "diverging-light")


def _bars(view: GeometryView) -> tuple[str, list[Bar]]:
    if view.feature is not None:
        near = view.near(view.step, view.feature)
        return f"cosine with {view.labels[view.feature]}", [Bar(view.labels[i], value) for i, value in near]
    room = view.facts(view.step)[:, 1]
    shown = range(min(_ROWS, len(room)))
    return "feature dimensionality (share of a dimension)", [Bar(view.labels[i], float(room[i])) for i in shown]


def _degrees(cosine: float) -> float:
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))

"""Axes on a `Drawing`: what the stills of plots share, as js/parts/plot.tsx is what their pages share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interpwidgets.views.drawing import LINE, MUTED, Drawing, Point
from interpwidgets.views.palette import PALETTE

__all__ = ["ABOVE", "BELOW", "Axes", "Bar", "bars", "extent", "number", "series", "signed", "ticks"]

Numbers = NDArray[Any]

ABOVE, BELOW = PALETTE["diverging-light"][12], PALETTE["diverging-light"][4]  # of signed bars
_ZERO = 0.08  # of a log axis, between its zero and its first value


def series(index: int) -> str:
    """The colour of a line, by its number in its panel."""
    colours = PALETTE["series-light"]
    return colours[index % len(colours)]


def number(value: float) -> str:
    """A number as the page writes it: four digits after the point, or scientific below a thousandth."""
    if math.isnan(value):
        return "not measured"
    shown = "0" if value == 0 else f"{value:.4f}" if abs(value) >= 1e-3 else f"{value:.2e}"
    return shown.replace("-", "−")


def signed(value: float, digits: int = 4) -> str:
    """A contribution: with its sign, unless it is nothing to so many digits."""
    text = f"{abs(value):.{digits}f}"
    return text if not float(text) else f"{'+' if value > 0 else '−'}{text}"


def extent(*values: Any, zero: bool = False, air: float = 0.05) -> tuple[float, float]:
    """The smallest and the largest number, with a little air; 0 among them where `zero`."""
    every = np.concatenate([np.ravel(np.asarray(each, dtype=float)) for each in values])
    every = every[np.isfinite(every)]
    if zero:
        every = np.append(every, 0.0)
    if not every.size:
        return 0.0, 1.0
    low, high = float(every.min()), float(every.max())
    more = (high - low) * air if high > low else abs(low) * air or 1.0
    return low if zero and low == 0 else low - more, high if zero and high == 0 else high + more


def ticks(low: float, high: float, about: int = 6) -> list[tuple[float, str]]:
    """Round numbers from low to high: multiples of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [(low, f"{low:g}")]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next((multiple for multiple in (1, 2, 5) if multiple * power >= raw), 10)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    found = np.arange(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1) * step
    return [(float(at), f"{at + 0.0:,.{digits}f}".replace("-", "−")) for at in found]


@dataclass
class Axes:
    """A box with two axes; values go to pixels through `at`."""

    drawing: Drawing
    box: tuple[float, float, float, float]  # left, top, right, bottom
    x: tuple[float, float]
    y: tuple[float, float]
    first: float | None = None  # x is logarithmic from here on, with a zero before it where x begins below

    def across(self, x: float) -> float:
        """The pixel of an x."""
        left, _, right, _ = self.box
        low, high = self.x
        if self.first is None:
            return left + (x - low) / ((high - low) or 1) * (right - left)
        start = left + _ZERO * (right - left) if low < self.first else left
        if x < self.first:
            return left + x / self.first * (start - left)
        return start + math.log(x / self.first) / (math.log(high / self.first) or 1) * (right - start)

    def at(self, x: float, y: float) -> Point:
        """The pixel of a point."""
        _, top, _, bottom = self.box
        low, high = self.y
        return self.across(x), bottom - (y - low) / ((high - low) or 1) * (bottom - top)

    def frame(self, x_name: str, y_name: str) -> None:
        """Both axes, their ticks and names."""
        left, top, right, bottom = self.box
        for value, text in ticks(*self.y, max(2, int((bottom - top) / 36))):
            y = self.at(self.x[1], value)[1]
            self.drawing.line([(left, y), (right, y)], "#ececf0")
            self.drawing.text((left - 5, y - 6), text, 10, MUTED, anchor="end")
        for value, text in self._x_ticks():
            x = self.across(value)
            self.drawing.line([(x, bottom), (x, bottom + 4)], LINE)
            self.drawing.text((x, bottom + 5), text, 10, MUTED, anchor="middle")
        self.drawing.line([(left, top), (left, bottom), (right, bottom)], MUTED)
        self.drawing.text((right, bottom + 18), x_name, 10, MUTED, anchor="end")
        self.drawing.text((left - 40, top - 15), y_name, 10, MUTED)

    def line(
        self, x: Numbers, y: Numbers, colour: str, low: Numbers | None = None, high: Numbers | None = None
    ) -> None:
        """A line, and the band around it; broken where a value is missing."""
        for part in _stretches(np.isfinite(y)):
            if low is not None and high is not None:
                there = [i for i in part if math.isfinite(low[i]) and math.isfinite(high[i])]
                up = [self.at(float(x[i]), float(high[i])) for i in there]
                down = [self.at(float(x[i]), float(low[i])) for i in reversed(there)]
                self.drawing.area([*up, *down], _faint(colour))
            self.drawing.line([self.at(float(x[i]), float(y[i])) for i in part], colour, 2)

    def _x_ticks(self) -> list[tuple[float, str]]:
        left, _, right, _ = self.box
        if self.first is None:
            return ticks(*self.x, max(2, int((right - left) / 80)))
        powers = range(math.ceil(math.log10(self.first) - 1e-9), math.floor(math.log10(self.x[1]) + 1e-9) + 1)
        found = [(10.0**power, f"{10.0**power:,g}") for power in powers]
        if len(found) < 3:
            found = [(at, text) for at, text in ticks(*self.x, max(2, int((right - left) / 110))) if at >= self.first]
        return [(0.0, "0"), *found] if self.x[0] < self.first else found


@dataclass(frozen=True)
class Bar:
    """One of several horizontal bars."""

    label: str
    value: float  # NaN: there is no such part
    start: float = 0.0  # where it begins: in a waterfall, where the last one ended
    low: float = math.nan  # an interval of the value
    high: float = math.nan
    strong: bool = False


def bars(drawing: Drawing, at: Point, width: float, every: Sequence[Bar], axis: str, labels: float = 84) -> float:
    """Horizontal bars below an axis, with labels before and numbers after them; tells where they end."""
    x, y = at
    room = width - labels - 62
    reach = [end for bar in every for end in (bar.start, *(bar.start + v for v in (bar.value, bar.low, bar.high)))]
    low, high = extent(reach, zero=True, air=0.03)

    def across(value: float) -> float:
        return x + labels + (value - low) / (high - low) * room

    drawing.text((x + labels, y), axis, 10, MUTED)
    for value, text in ticks(low, high, max(2, int(room / 70))):
        drawing.text((across(value), y + 14), text, 10, MUTED, anchor="middle")
        drawing.line([(across(value), y + 28), (across(value), y + 28 + 18 * len(every))], "#ececf0")
    drawing.line([(across(0), y + 28), (across(0), y + 28 + 18 * len(every))], MUTED)
    for i, bar in enumerate(every):
        top = y + 28 + 18 * i
        drawing.text((x + labels - 6, top + 2), bar.label, 11, anchor="end", width=labels - 6)
        if math.isnan(bar.value):
            drawing.text((across(0) + 4, top + 2), "none", 10, MUTED)
            continue
        begin, end = sorted((across(bar.start), across(bar.start + bar.value)))
        colour = MUTED if bar.strong else ABOVE if bar.value >= 0 else BELOW
        drawing.rect((begin, top + 3), (max(1, end - begin), 12), colour)
        if math.isfinite(bar.low) and math.isfinite(bar.high):
            ends = [across(bar.start + bar.low), across(bar.start + bar.high)]
            drawing.line([(ends[0], top + 9), (ends[1], top + 9)], stroke=1)
        drawing.text((x + width, top + 2), signed(bar.value, 3), 11, anchor="end")
    return y + 28 + 18 * len(every)


def _stretches(there: NDArray[np.bool_]) -> list[list[int]]:
    """The runs of indices where something is there."""
    places = np.flatnonzero(there)
    if not places.size:
        return []
    cuts = np.flatnonzero(np.diff(places) > 1) + 1
    return [part.tolist() for part in np.split(places, cuts)]


def _faint(colour: str) -> str:
    """A colour at a fifth of its strength, on white."""
    return "#" + "".join(f"{round(255 - 0.2 * (255 - int(colour[i : i + 2], 16))):02x}" for i in (1, 3, 5))

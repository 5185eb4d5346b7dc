"""The colours of weights, the same in Python's pictures and on the page.

Sequential from the background (nothing) to a strong accent, and diverging through the background for differences;
one of each for light and for dark. Stops are equally spaced, and perceived lightness changes evenly between them
(a test measures both, also as colour-blind readers see them).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["PALETTE", "lut", "place"]

PALETTE: dict[str, list[str]] = json.loads((Path(__file__).parent.parent / "static" / "palette.json").read_text())


@cache
def lut(name: str) -> NDArray[np.uint8]:
    """256 colours, `[index, rgb]`, of one of the palettes (`light`, `dark`, `diverging-light`, `diverging-dark`)."""
    stops = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in PALETTE[name]], dtype=float)
    at = np.linspace(0, len(stops) - 1, 256)
    channels = [np.interp(at, np.arange(len(stops)), stops[:, channel]) for channel in range(3)]
    colours: NDArray[np.uint8] = np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    return colours


def place(
    values: NDArray[np.float32], scale: str, low: float, high: float, keys: float, signed: bool
) -> NDArray[np.intp]:
    """The index into a `lut` of each weight, on a `linear`, `sqrt` or `log` scale; the page does the same."""
    low = 0.0 if signed else low
    magnitude = np.abs(values) if signed else values
    if scale == "log":
        floor = max(low, 1 / (16 * keys))  # a sixteenth of uniform attention
        at = np.log(np.maximum(magnitude, floor) / floor) / np.log(high / floor) if high > floor else magnitude * 0
    else:
        at = np.clip((magnitude - low) / (high - low), 0, 1)
        at = np.sqrt(at) if scale == "sqrt" else at
    at = np.clip(at, 0, 1)
    at = (1 + np.copysign(at, values)) / 2 if signed else at
    return np.rint(255 * at).astype(np.intp)

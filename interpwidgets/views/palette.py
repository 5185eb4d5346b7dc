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

__all__ = ["PALETTE", "lut"]

PALETTE: dict[str, list[str]] = json.loads((Path(__file__).parent.parent / "static" / "palette.json").read_text())


@cache
def lut(name: str) -> NDArray[np.uint8]:
    """256 colours, `[index, rgb]`, of one of the palettes (`light`, `dark`, `diverging-light`, `diverging-dark`)."""
    stops = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in PALETTE[name]], dtype=float)
    at = np.linspace(0, len(stops) - 1, 256)
    channels = [np.interp(at, np.arange(len(stops)), stops[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)

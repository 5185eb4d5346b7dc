"""The range of colours, from the two numbers that CircuitsVis takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["colour_range"]


def colour_range(values: NDArray[np.float32], low: float | None, high: float | None) -> list[float]:
    """[low, high] for a view, or [] for automatic; as far below 0 as above, where values are negative."""
    if low is None and high is None:
        return []
    least, most = float(np.nanmin(values)), float(np.nanmax(values))
    low, high = least if low is None else low, most if high is None else high
    if least < 0:
        return [0.0, max(abs(low), abs(high))]
    return [max(0.0, low), high] if max(0.0, low) < high else []

"""How sure a mean is: bootstrap intervals."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interpwidgets.errors import InputError

__all__ = ["interval"]

_RESAMPLES = 4_000
_NUMBERS = 2_000_000  # resampled at a time: a few arrays of this size stay under 100 MB


def interval(values: Any, level: float = 0.95, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(low, high) of the mean over the last axis: [..., n] → two arrays [...].

    Bootstrap, bias-corrected and accelerated (BCa: Efron 1987), or percentiles where that is undefined. With the
    same seed, all means see the same resamples, so that the interval of one depends on none of the others. One value
    says nothing of its mean: NaN, as where a value is NaN or infinite. From few values the interval is too narrow: at
    95 %, it covers the mean of normal values in 71 % of cases for 3 of them, 84 % for 5, 90 % for 10, 93 % for 30.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 0:
        raise InputError("An interval needs values along an axis; got one number.")
    if not 0 < level < 1:
        raise InputError(f"level is a share between 0 and 1, such as 0.95; got {level!r}.")
    *shape, n = values.shape
    rows = values.reshape(math.prod(shape), n)
    bounds = np.full((2, len(rows)), np.nan)  # [low and high, row]
    if n > 1:
        constant = (rows == rows[:, :1]).all(1)
        bounds[:, constant] = rows[constant, 0]
        (varied,) = np.nonzero(~constant & np.isfinite(rows).all(1))
        batch = min(_RESAMPLES, max(1, _NUMBERS // n))
        step = max(1, _NUMBERS // max(batch * n, _RESAMPLES))
        for first in range(0, len(varied), step):
            part = varied[first : first + step]
            bounds[:, part] = _bootstrap(rows[part], level, seed, batch)
    return bounds[0].reshape(shape), bounds[1].reshape(shape)


def _bootstrap(rows: NDArray[np.float64], level: float, seed: int, batch: int) -> NDArray[np.float64]:
    """Rows of different values, [row, n] → [low and high, row]."""
    from scipy import stats

    bounds = np.full((2, len(rows)), np.nan)
    for method in ("BCa", "percentile"):
        missing = np.isnan(bounds).any(0)
        if not missing.any():
            break
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # BCa says where it is undefined by a warning, and by NaN
            found = stats.bootstrap(
                (rows[missing],),
                _mean,
                axis=-1,
                vectorized=True,
                n_resamples=_RESAMPLES,
                batch=batch,
                confidence_level=level,
                method=method,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        bounds[:, missing] = found.low, found.high
    return bounds


def _mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Summed in one order, whatever the layout: else rounding would tell a row alone from a row among others."""
    mean: NDArray[np.float64] = np.ascontiguousarray(values).mean(axis)
    return mean

"""Numbers from whatever people have them in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interpwidgets.errors import InputError

__all__ = ["array_of", "numbers"]

Floats = NDArray[np.float32]


def array_of(data: Any, what: str) -> NDArray[Any]:
    """NumPy from NumPy, torch on any device and in any float type, pandas, or nested lists.

    Raises:
        InputError: `data` is ragged, or holds no numbers; `what` names it.
    """
    if hasattr(data, "detach"):  # a torch tensor, without importing torch
        data = data.detach().cpu()
        data = data.float() if data.is_floating_point() and str(data.dtype) != "torch.float64" else data
        data = data.numpy()
    try:
        array = np.asarray(data)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{what} must be a regular array of numbers: {error}.") from None
    if array.dtype.kind == "O" and array.ndim:  # pandas with missing values
        try:
            array = array.astype(np.float64)
        except (ValueError, TypeError):
            raise InputError(f"{what} must be numbers; got {type(data).__name__} of {data!r:.60}.") from None
    if array.dtype.kind not in "fiub":
        raise InputError(f"{what} must be numbers; got {type(data).__name__} of {array.dtype}.")
    return array


def numbers(
    data: Any, what: str, axes: Sequence[str], sizes: Sequence[int | None] | None = None, *, missing: bool = False
) -> Floats:
    """An array with one axis for each of `axes`, of `sizes` where those are not None; finite, unless `missing` may be.

    Raises:
        InputError: another number of axes, another size, nothing at all, infinite, or NaN where none may be `missing`.
    """
    array = array_of(data, what)
    named = f"[{', '.join(axes)}]"
    if array.ndim != len(axes):
        raise InputError(f"{what} must be {named}; got an array of shape {list(array.shape)}.")
    if 0 in array.shape:
        raise InputError(f"{what} must not be empty; got an array of shape {list(array.shape)}, {named}.")
    for axis, size, wanted in zip(axes, array.shape, sizes or [None] * len(axes), strict=True):
        if wanted is not None and size != wanted:
            raise InputError(f"{what} must be {named} with {axis} = {wanted}; got shape {list(array.shape)}.")
    values: Floats = np.asarray(array, dtype=np.float32)
    bad = np.isinf(values) if missing else ~np.isfinite(values)
    if bad.any():
        place = np.argwhere(bad)[0]
        at = ", ".join(f"{axis} {index}" for axis, index in zip(axes, place.tolist(), strict=True))
        raise InputError(f"{what} must be finite numbers; at {at} it is {values[tuple(place)]}.")
    return values

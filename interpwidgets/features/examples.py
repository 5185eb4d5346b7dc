"""A state's examples as a record has them: the top ones, then each group's, the strongest of a group first."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from interpwidgets.features.state import BEFORE, WINDOW, State, values_of

__all__ = ["Examples", "examples"]


class Examples(NamedTuple):
    """The examples of some features; those of a feature are where its entries are not 0."""

    sizes: NDArray[np.uint8]  # [feature, 1 + groups], of "top", then of each group from the weakest on
    entries: NDArray[np.uint64]  # [feature, n]
    windows: NDArray[np.uint8]  # [feature, n, WINDOW]
    bounds: NDArray[np.float32]  # [feature, groups − 1], NaN of a feature that is never active
    grouped: NDArray[np.uint32]  # [feature, groups], activations in each
    known: NDArray[np.bool_]  # [feature], whether `grouped` was counted; else it is shares of the total


def examples(state: State, first: int, last: int) -> Examples:
    """Examples of the features from `first` to before `last`."""
    n, groups = last - first, state.grouped.shape[1]
    entries = state.groups.entries[first * groups : last * groups]
    windows = state.groups.windows[first * groups : last * groups]
    strongest = np.argsort(~entries, axis=1, kind="stable")
    entries = np.take_along_axis(entries, strongest, axis=1).reshape(n, -1)
    windows = np.take_along_axis(windows, strongest[..., None], axis=1).reshape(n, -1, WINDOW)
    sizes = (entries > 0).reshape(n, groups, -1).sum(2)
    bounds, grouped = state.bounds[first:last].copy(), state.grouped[first:last].copy()
    known = ~np.isnan(bounds[:, 0])
    rare = np.flatnonzero(~known)
    sizes[rare], entries[rare], windows[rare], bounds[rare], grouped[rare] = _cut(state, first + rare)
    top = state.top.entries[first:last]
    entries = np.concatenate([top, entries], axis=1)
    windows = np.concatenate([state.top.windows[first:last], windows], axis=1)
    windows[..., BEFORE] = 0  # the entry itself says it exactly
    sizes = np.concatenate([(top > 0).sum(1)[:, None], sizes], axis=1)
    return Examples(sizes.astype(np.uint8), entries, windows, bounds, grouped, known)


def _cut(state: State, features: NDArray[np.int64]) -> tuple[NDArray[np.generic], ...]:
    """Rare features' samples, one each, as quantile groups, and how many of the activations each stands for.

    (sizes, entries, windows, bounds, grouped), as in `Examples`.
    """
    groups = state.grouped.shape[1]
    sample, windows = state.one.entries[features], state.one.windows[features]
    n = (sample > 0).sum(1)[:, None]
    edges = n * np.arange(groups + 1) // groups  # [feature, groups + 1], where groups begin, from the weakest on
    place = np.arange(sample.shape[1])[None]
    group = np.minimum(((place + 1) * groups - 1) // np.maximum(n, 1), groups - 1)
    low, high = (np.take_along_axis(edges, group + end, axis=1) for end in (0, 1))
    weakest = sample.shape[1] - n  # those before it are none
    source = np.where(place < n, weakest + low + high - 1 - place, place - n)  # each group from its strongest on
    ascending = np.argsort(sample, axis=1, kind="stable")
    order = np.take_along_axis(ascending, source, axis=1)
    begin = np.minimum(weakest + np.minimum(edges[:, 1:-1], n - 1), sample.shape[1] - 1)
    bounds = values_of(np.take_along_axis(sample, np.take_along_axis(ascending, begin, axis=1), axis=1))
    bounds[n[:, 0] == 0] = np.nan
    return (
        np.diff(edges),
        np.take_along_axis(sample, order, axis=1),
        np.take_along_axis(windows, order[..., None], axis=1),
        bounds,
        np.diff(state.count[features][:, None] * edges // np.maximum(n, 1)),
    )

"""What there is to say of a set of directions: their lengths and angles, the room each has, the plane they vary in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["cosines", "dimensionality", "lengths", "nearest", "principal"]

Floats = NDArray[np.float64]

_EXACT = 1024  # numbers of rows or columns up to which all axes are computed at once
_ROUNDS = 60  # of the iteration that finds the first few of more


def lengths(vectors: NDArray[np.float32]) -> Floats:
    """The length of each vector [item]."""
    found: Floats = np.sqrt(np.einsum("id,id->i", vectors, vectors, dtype=np.float64))
    return found


def dimensionality(vectors: NDArray[np.float32]) -> Floats:
    """The share of a dimension that each vector has to itself [item]: ‖w_i‖² / Σ_j (ŵ_i · w_j)².

    1 for a vector orthogonal to all others, 1/2 for one of a pair of opposites, 2/5 in a regular pentagon, 0 for a
    vector of length zero. The sum over j is ŵ_iᵀ (Σ_j w_j w_jᵀ) ŵ_i, so many items cost no more than a product with
    [dim, dim].

    Elhage et al. 2022, "Toy models of superposition", "Feature dimensionality".
    """
    w = vectors.astype(np.float64)
    squared = (w**2).sum(-1)
    shared = ((w @ (w.T @ w)) * w).sum(-1)  # ‖w_i‖² Σ_j (ŵ_i · w_j)²
    found: Floats = np.divide(squared**2, shared, out=np.zeros(len(w)), where=shared > 0)
    return found


def cosines(vectors: NDArray[np.float32], items: NDArray[np.intp] | None = None, of: int | None = None) -> Floats:
    """Cosines between items [item, item], or of one with every other [item]; NaN with a vector of length zero."""
    w = vectors if items is None else vectors[items]
    size = lengths(w)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = w / size[:, None]
    found: Floats = unit @ unit.T if of is None else unit @ unit[of]
    return np.clip(found, -1, 1)


def nearest(cosine: Floats, item: int, count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The items with the largest cosines with this one, and those with the smallest, each from the largest down."""
    order = np.argsort(-cosine, kind="stable")
    order = order[(order != item) & ~np.isnan(cosine[order])]
    few = count // 3
    if len(order) <= count + few:
        return order, order[:0]
    return order[:count], order[-few:]


def principal(vectors: NDArray[np.float32], count: int) -> tuple[Floats, Floats]:
    """The axes along which vectors [item, dim] vary most, [dim, count], and the share of the variance along each.

    Each axis points to where its largest entry is positive. The shares are those along the axes given, whatever the
    axes: exact also where these were found by iteration.
    """
    centred = vectors.astype(np.float64)
    centred -= centred.mean(0)
    items, dim = centred.shape
    if dim <= _EXACT:
        _, every = np.linalg.eigh(centred.T @ centred)
        axes = every[:, ::-1][:, :count]
    elif items <= _EXACT:
        values, every = np.linalg.eigh(centred @ centred.T)
        axes = centred.T @ (every[:, ::-1][:, :count] / np.sqrt(np.maximum(values[::-1][:count], 1e-300)))
    else:
        axes = np.random.default_rng(0).normal(size=(dim, count + 5))
        for _ in range(_ROUNDS):
            axes = np.linalg.qr(centred.T @ (centred @ axes))[0]
        _, turn = np.linalg.eigh((shadow := centred @ axes).T @ shadow)
        axes = axes @ turn[:, ::-1][:, :count]
    axes = np.linalg.qr(axes)[0] if axes.size else axes
    largest = axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])]
    axes = axes * np.where(largest < 0, -1.0, 1.0)
    total = float((centred**2).sum())
    along = ((centred @ axes) ** 2).sum(0)
    return axes, along / total if total > 0 else np.zeros(axes.shape[1])

"""Pictures of attention at any length: pooled to what a screen can show, coded in one byte a pixel.

A pixel of a picture stands for `step × step` weights, as their maximum (no spike is lost) or their mean (what they
carry). Where a picture would need more weights than can be computed at once, each row of pixels looks at some of
its queries only, spread evenly and the same every time, and the tile says how many.

The code is logarithmic, since attention is: a linear byte turns most weights of a long context into zero. Code 0 is
zero, codes 1…255 divide the octaves below `high`; the floor is far below uniform attention, so diffuse heads stay
visible. Between neighbouring codes lies a factor of `2^(octaves/254)`: at most 3.4 % error (4.5 % signed).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from interpwidgets.views.source import AttentionSource, Floats, Ints
from interpwidgets.views.tile import Tile

__all__ = ["ATLAS_PIXELS", "TILE_PIXELS", "atlas", "decode", "encode", "image"]

TILE_PIXELS = 256  # a side of an image tile
ATLAS_PIXELS = 600_000  # of one plane, all heads together
ATLAS_WEIGHTS = 1 << 28  # computed for an atlas at most: all of 12 × 12 heads up to T = 1,024 and a little more
IMAGE_WEIGHTS = 1 << 24  # computed for an image tile at most, but one query a pixel row always
_STRIP = 256  # queries asked for at a time: a causal source computes half as much
_POOLED = 1 << 20  # … or, of a source that pools by itself, as many weights

Planes = tuple[Floats, Floats]  # maximum (of largest magnitude, if signed) and mean, [row, column]


def atlas(source: AttentionSource, signed: bool = False) -> tuple[Tile, Tile]:
    """All heads as thumbnails, `[layer, head, row, column]`: one tile of maxima, one of means."""
    layers, heads, queries, keys = source.shape
    side = int(min(64, (ATLAS_PIXELS / (layers * heads)) ** 0.5))
    steps = _step(queries, side), _step(keys, side)
    rows, columns = -(-queries // steps[0]), -(-keys // steps[1])
    planes = np.zeros((2, layers, heads, rows, columns), dtype=np.float32)
    budget = ATLAS_WEIGHTS // (layers * heads * rows * keys)
    for layer in range(layers):
        for head in range(heads):
            region = (slice(0, queries), slice(0, keys))
            planes[:, layer, head] = pool(source, layer, head, *region, *steps, max(1, budget), signed)
    tiles = encode(planes[0], keys, signed), encode(planes[1], keys, signed)
    for tile in tiles:
        tile.meta |= {"step": list(steps), **_sampled(budget, steps[0])}
    return tiles


def image(
    source: AttentionSource,
    layer: int,
    head: int,
    level: int,
    row: int,
    column: int,
    mean: bool = False,
    signed: bool = False,
) -> Tile:
    """One square of a head's picture, `[row, column]`: `TILE_PIXELS` a side, each of `2^level` weights a side."""
    _, _, n_queries, n_keys = source.shape
    step = 2**level
    queries = slice(row * step * TILE_PIXELS, min((row + 1) * step * TILE_PIXELS, n_queries))
    keys = slice(column * step * TILE_PIXELS, min((column + 1) * step * TILE_PIXELS, n_keys))
    if queries.start >= queries.stop or keys.start >= keys.stop:
        raise IndexError(f"no tile in row {row}, column {column} at level {level} of {n_queries} × {n_keys} weights")
    budget = IMAGE_WEIGHTS // (TILE_PIXELS * n_keys)
    planes = pool(source, layer, head, queries, keys, step, step, max(1, budget), signed)
    tile = encode(planes[1 if mean else 0], n_keys, signed)
    tile.meta |= {"step": [step, step], **_sampled(budget, step)}
    return tile


def _step(size: int, pixels: int) -> int:
    return max(1, -(-size // pixels))


def _sampled(budget: int, step: int) -> dict[str, list[int]]:
    return {} if budget >= step else {"sampled": [max(1, budget), step]}


def pool(
    source: AttentionSource,
    layer: int,
    head: int,
    queries: slice,
    keys: slice,
    row_step: int,
    column_step: int,
    per_row: int,
    signed: bool = False,
) -> Planes:
    """The weights of a region pooled to pixels of `row_step × column_step`: their maximum and their mean.

    Each row of pixels looks at `per_row` of its queries, or at all.
    """
    rows = -(-(queries.stop - queries.start) // row_step)
    columns = -(-(keys.stop - keys.start) // column_step)
    top = np.zeros((rows, columns), dtype=np.float32)
    mean = np.zeros((rows, columns), dtype=np.float32)
    pools = hasattr(source, "pooled")
    at_once = max(_STRIP, _POOLED // (keys.stop - keys.start)) if pools else _STRIP
    for pixels, chosen in _strips(queries, row_step, per_row, at_once):
        stop = min(keys.stop, int(chosen[-1]) + 1) if source.causal else keys.stop
        width = -(-(stop - keys.start) // column_step)
        if width <= 0:  # wholly above the diagonal: zero
            continue
        seen = slice(keys.start, stop)
        if row_step == column_step == 1:
            top[pixels, :width] = mean[pixels, :width] = source.block(layer, head, chosen, seen)
            continue
        per_pixel = len(chosen) // (pixels.stop - pixels.start)
        starts = np.arange(0, stop - keys.start, column_step)
        most, total, *least = _down(source, layer, head, chosen, seen, per_pixel, signed)
        highest = np.maximum.reduceat(most, starts, axis=1)
        if least:
            lowest = np.minimum.reduceat(least[0], starts, axis=1)
            highest = np.where(highest >= -lowest, highest, lowest)
        top[pixels, :width] = highest
        area = np.full(width, per_pixel * column_step, dtype=np.float32)
        area[-1] = per_pixel * min(column_step, keys.stop - keys.start - (width - 1) * column_step)
        mean[pixels, :width] = np.add.reduceat(total, starts, axis=1) / area
    return top, mean


def _down(
    source: AttentionSource, layer: int, head: int, queries: Ints, keys: slice, run: int, signed: bool
) -> Iterable[Floats]:
    """Maximum, sum and, if signed, minimum of every `run` queries: `[run of queries, key]` each."""
    if hasattr(source, "pooled"):  # its weights are none below zero
        pooled: Floats = source.pooled(layer, head, queries, keys, run)
        return pooled
    block = source.block(layer, head, queries, keys)
    if signed:  # where there is nothing to compare with, there is no difference to pool
        block = np.nan_to_num(block, nan=0.0)
    runs = block.reshape(-1, run, block.shape[1])
    return [by.reduce(runs, axis=1) for by in (np.maximum, np.add, np.minimum)[: 3 if signed else 2]]


def _strips(queries: slice, step: int, per_row: int, at_once: int) -> Iterator[tuple[slice, Ints]]:
    """Runs of pixel rows with the queries they look at, some `at_once` a run; each row of a run looks at as many."""
    size = queries.stop - queries.start
    full, rest = divmod(size, step)
    take = min(per_row, step)
    # Spread over the step, one query in each of `take` parts, at a place that differs from row to row: a text that
    # repeats with the step's period would fool a fixed one. Seeded by place, so neighbouring tiles agree.
    offsets = np.arange(step) if take == step else None
    run = max(1, at_once // take)
    for row in range(0, full, run):
        stop = min(row + run, full)
        starts = queries.start + np.arange(row, stop)[:, None] * step
        if offsets is not None:
            chosen = starts + offsets
        else:
            parts = np.arange(take + 1) * step // take
            jitter = np.stack([np.random.default_rng((step, int(s))).random(take) for s in starts[:, 0]])
            chosen = starts + parts[:-1] + (jitter * np.diff(parts)).astype(np.int64)
        yield slice(row, stop), chosen.reshape(-1)
    if rest:
        last = np.unique(np.linspace(0, rest - 1, min(take, rest)).astype(np.int64))
        yield slice(full, full + 1), queries.start + full * step + last


def encode(values: Floats, keys: int, signed: bool = False) -> Tile:
    """Weights as one byte each: `uint8`, or `int8` with −128 for NaN if `signed`. See the module for the code."""
    magnitude = np.abs(values)
    high = float(np.nanmax(magnitude, initial=0)) or 1.0
    octaves = int(np.clip(np.ceil(np.log2(256 * keys * high)), 16, 24))
    codes = 126 if signed else 254
    if signed:
        octaves = min(octaves, 16)
    with np.errstate(divide="ignore", invalid="ignore"):
        place = 1 + codes * (1 + np.log2(magnitude / np.float32(high)) / octaves)  # 1 at the floor, codes + 1 at high
        code = np.where(place >= 0.5, np.clip(np.rint(place), 1, codes + 1), 0)
    meta = {"high": high, "octaves": octaves}
    if not signed:
        return Tile(code.astype(np.uint8), meta)
    code = np.where(np.isnan(values), -128, np.copysign(code, values))
    return Tile(code.astype(np.int8), meta)


def decode(tile: Tile) -> Floats:
    """The weights that a tile's codes stand for; the page does the same."""
    codes = tile.array.astype(np.float32)
    top = 127 if tile.array.dtype == np.int8 else 255
    power = float(tile.meta["octaves"]) * ((np.abs(codes) - 1) / (top - 1) - 1)
    values = np.where(codes == 0, 0, np.sign(codes) * float(tile.meta["high"]) * np.exp2(power))
    if top == 127:
        values = np.where(codes == -128, np.nan, values)
    result: NDArray[np.float32] = values.astype(np.float32)
    return result

"""Activations of neurons over text, from whatever people have them in; and which neurons are worth a look."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interpwidgets.errors import InputError
from interpwidgets.frames import is_frame, text_of
from interpwidgets.tokens import Tokens
from interpwidgets.views.flow import prompts_of
from interpwidgets.views.numbers import array_of, numbers

__all__ = ["SORTS", "Activations", "Summary", "activations"]

Floats = NDArray[np.float32]
Ints = NDArray[np.intp]

SORTS = ("max", "mean", "position", "share", "index")
_SLAB = 1 << 22  # numbers looked at at a time


class Summary(NamedTuple):
    """What each neuron of a layer does on a prompt, [neuron] each."""

    max: Floats
    mean: Floats
    share: Floats  # of the positions where it is above 0
    where: Ints  # the position of its maximum
    low: float  # the least value of the layer
    high: float  # and the largest


class Activations:
    """The activations of one prompt, a layer at a time. What was asked for last is kept."""

    def __init__(self, tokens: Tokens, layers: Sequence[str], read: Callable[[int], Floats]) -> None:
        self.tokens = tokens
        self.layers = tuple(layers)  # what they are called
        self.layer = lru_cache(4)(read)  # the number of a layer -> [pos, neuron]
        self.summary = lru_cache(16)(self._summary)
        self.order = lru_cache(16)(self._order)

    def _summary(self, layer: int) -> Summary:
        values = self.layer(layer)
        size, count = values.shape
        step = max(1, _SLAB // size)
        slabs = [values[:, start : start + step] for start in range(0, count, step)]
        return Summary(
            np.concatenate([slab.max(axis=0) for slab in slabs]),
            np.concatenate([slab.mean(axis=0, dtype=np.float64) for slab in slabs]).astype(np.float32),
            np.concatenate([(slab > 0).mean(axis=0) for slab in slabs]).astype(np.float32),
            np.concatenate([slab.argmax(axis=0) for slab in slabs]),
            min(float(slab.min()) for slab in slabs),
            max(float(slab.max()) for slab in slabs),
        )

    def _order(self, layer: int, sort_by: str, position: int | None, wanted: str) -> Ints:
        """The neurons that pass a filter, in order: the largest first, or by index."""
        summary = self.summary(layer)
        kept = np.flatnonzero(_passes(wanted, summary))
        if sort_by == "index":
            return kept
        at = sort_by == "position" and position is not None
        by = self.layer(layer)[position] if at else getattr(summary, "max" if sort_by == "position" else sort_by)
        return kept[np.argsort(-by[kept], kind="stable")]

    def rows(self, layer: int, neurons: Ints, position: int | None, cells: int) -> Floats:
        """What a table shows of neurons: index, max, mean, share, where, value at the position, then up to `cells`
        values along the text, each that of largest magnitude of those it stands for: [neuron, 6 + cell].
        """
        summary, values = self.summary(layer), self.layer(layer)[:, neurons]  # [pos, neuron]
        edges = np.linspace(0, len(values), min(cells, len(values)) + 1).astype(int)[:-1]
        high, low = np.maximum.reduceat(values, edges), np.minimum.reduceat(values, edges)
        strip = np.where(-low > high, low, high)  # [cell, neuron]
        at = np.full(len(neurons), np.nan) if position is None else values[position]
        facts = [neurons, *(part[neurons] for part in summary[:4]), at]
        return np.concatenate([np.array(facts, dtype=np.float32), strip]).T

    def strongest(self, layer: int, position: int, count: int) -> Ints:
        """The neurons of largest value at a position, in order."""
        values = self.layer(layer)[position]
        top = np.argpartition(values, -min(count, len(values)))[-count:]
        return top[np.argsort(-values[top], kind="stable")]


def activations(
    data: Any, tokens: Any = None, site: str = "mlp_post", names: Sequence[str] | None = None
) -> list[Activations]:
    """Of each prompt of a Recording; of arrays [pos, neuron], [pos, layer, neuron] or {layer: [pos, neuron]}; of a
    DataFrame, a column a neuron and perhaps one of tokens, `token`; or of a function from a layer's number to
    [pos, neuron], of as many layers as there are `names`.

    Raises:
        InputError: it is none of these, or does not fit the tokens.
    """
    if hasattr(data, "tokens") and hasattr(data, "sites"):  # a Recording
        if tokens is not None:
            raise InputError("A recording brings its own tokens: leave tokens= out.")
        return [_recorded(data, prompt, site, names) for prompt in range(len(data))]
    prompts = [None] if tokens is None else prompts_of(tokens)
    each = [data] if len(prompts) == 1 else data
    if len(prompts) > 1 and (not isinstance(data, (list, tuple)) or len(data) != len(prompts)):
        raise InputError(f"{len(prompts)} prompts need a list of {len(prompts)} activations.")
    found = [_given(part, own, names) for part, own in zip(each, prompts, strict=True)]
    sizes = [[each.layer(layer).shape[1] for layer in range(len(each.layers))] for each in found]
    if any(size != sizes[0] for size in sizes):
        raise InputError(f"All prompts need the same layers and neurons; got {sizes[0]} and others.")
    return found


def _recorded(recording: Any, prompt: int, site: str, names: Sequence[str] | None) -> Activations:
    numbered = [layer for layer in recording.layers if (site, layer) in recording.values]
    if not numbered:
        raise InputError(f"{recording!r} holds no {site!r}. Record it: record(model, prompts, sites=[{site!r}]).")
    if getattr(recording, "positions", None) is not None:
        raise InputError("This recording holds some positions only; record all of them: leave positions= out.")
    tokens: Tokens = recording.tokens[prompt]

    def read(layer: int) -> Floats:
        values = array_of(recording[site, numbered[layer]][prompt, : len(tokens)], site)
        return np.asarray(values.reshape(len(tokens), -1), dtype=np.float32)

    return Activations(tokens, _named(names, [str(layer) for layer in numbered]), read)


def _given(data: Any, tokens: Tokens | None, names: Sequence[str] | None) -> Activations:
    if is_frame(data):
        text, columns = text_of(data)
        tokens = Tokens.of(text) if tokens is None and text else tokens
        data = np.stack([*columns.values()], axis=1) if columns else data
    size = None if tokens is None else len(tokens)
    if isinstance(data, Mapping):
        arrays = [
            numbers(part, f"activations[{name!r}]", ["pos", "neuron"], [size, None]) for name, part in data.items()
        ]
        own = [str(name) for name in data]
        if len({len(array) for array in arrays}) != 1:
            raise InputError(f"All layers need the same positions; got {sorted({len(a) for a in arrays})}.")
    elif callable(data) and not hasattr(data, "shape"):
        own = [str(name) for name in names or ["0"]]
        length = size or len(_called(data, 0, None))
        found = Tokens.numbered(length) if tokens is None else tokens
        return Activations(found, own, lambda layer: _called(data, layer, length))
    else:
        array = array_of(data, "activations")
        axes = ["pos", "layer", "neuron"] if array.ndim == 3 else ["pos", "neuron"]
        values = numbers(array, "activations", axes, [size, *[None] * (len(axes) - 1)])
        arrays = [values[:, layer] for layer in range(values.shape[1])] if values.ndim == 3 else [values]
        own = [str(layer) for layer in range(len(arrays))]
    found = Tokens.numbered(len(arrays[0])) if tokens is None else tokens
    return Activations(found, _named(names, own), lambda layer: arrays[layer])


def _called(source: Callable[[int], Any], layer: int, size: int | None) -> Floats:
    return numbers(source(layer), f"activations of layer {layer}", ["pos", "neuron"], [size, None])


def _named(names: Sequence[str] | None, own: Sequence[str]) -> tuple[str, ...]:
    if names is not None and len(names) != len(own):
        raise InputError(f"{len(own)} layers need {len(own)} names; got {len(names)}.")
    return tuple(map(str, names or own))


_CONDITION = re.compile(r"(max|mean|share)\s*(<=|>=|<|>)\s*(-?\d+(?:\.\d+)?(?:e-?\d+)?)")


def _passes(wanted: str, summary: Summary) -> NDArray[np.bool_]:
    """Which neurons pass a filter such as `max > 2, share < 0.1`, or `31, 47`."""
    passes = np.ones(len(summary.max), dtype=bool)
    indices = []
    for part in filter(None, map(str.strip, wanted.split(","))):
        if part.isdecimal():
            indices.append(int(part))
        elif found := _CONDITION.fullmatch(part):
            values, limit = getattr(summary, found[1]), np.float32(found[3])
            above, equal = values > limit, values == limit
            passes &= {"<": ~above & ~equal, "<=": ~above, ">": above, ">=": above | equal}[found[2]]
        else:
            raise InputError(f"A filter is a neuron's index, or max, mean or share < or > a number; got {part!r:.40}.")
    if indices:
        passes &= np.isin(np.arange(len(passes)), indices)
    return passes

"""A feature's record: bytes that hold everything shown of it, and the objects that they are read as.

Examples are pointers into the token file with activations around them; no text is repeated. Each record is a zstd
frame with a checksum of its own, so that one is read, and a damaged one found, without looking at the others.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interpwidgets.errors import InputError
from interpwidgets.features.state import WINDOW, Scale, tokens_of, values_of
from interpwidgets.tokens import Tokens

__all__ = ["Example", "Feature", "Group", "Neighbour", "Record", "group_names", "pack", "unpack"]

_HEAD = struct.Struct("<QdfBBBBBBBB")  # count, mean, max; top, groups, bins, first bin, logits, near, together, flags
_EFFECTS, _KNOWN = 1, 2  # flags


@dataclass(frozen=True, eq=False)
class Record:
    """What is kept of a feature."""

    count: int
    mean: float
    max: float
    first_bin: int
    histogram: NDArray[np.uint32]  # [bin], from `first_bin` on
    bounds: NDArray[np.float32]  # [groups − 1], NaN if it is too rare
    grouped: NDArray[np.uint32]  # [groups], activations in each
    sizes: NDArray[np.uint8]  # [1 + groups], examples of "top", then of each group from the weakest on
    entries: NDArray[np.uint64]  # [example]
    windows: NDArray[np.uint8]  # [example, WINDOW]
    logit_tokens: NDArray[np.uint32]  # [2, n], of the largest and of the smallest
    logits: NDArray[np.float16]  # [2, n]
    near: NDArray[np.uint32]  # [n], features whose decoder directions are closest
    cosines: NDArray[np.float16]  # [n]
    together: NDArray[np.uint32]  # [n], features that are active at the same tokens
    jaccard: NDArray[np.float16]  # [n]
    effects: NDArray[np.float16] | None  # [top example, WINDOW], change of log-probabilities by ablation
    known: bool = True  # whether `grouped` was counted


def pack(record: Record) -> bytes:
    """Write a record, before compression."""
    flags = (_EFFECTS if record.effects is not None else 0) | (_KNOWN if record.known else 0)
    head = _HEAD.pack(
        record.count, record.mean, record.max, record.sizes[0], len(record.grouped), len(record.histogram),
        record.first_bin, record.logit_tokens.shape[1], len(record.near), len(record.together), flags,
    )  # fmt: skip
    parts: list[NDArray[Any]] = [
        record.sizes,
        record.windows,
        record.histogram,
        record.bounds,
        record.grouped,
        record.entries,
    ]
    parts += [record.logit_tokens, record.logits, record.near, record.cosines, record.together, record.jaccard]
    parts += [] if record.effects is None else [record.effects]
    return head + b"".join(_planes(part) for part in parts)


def _planes(array: NDArray[Any]) -> bytes:
    """The first bytes of all numbers, then the second ones, …: they compress better apart."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).reshape(-1, flat.itemsize).T.tobytes()


def unpack(data: bytes) -> Record:
    """Read a record."""
    count, mean, largest, _, groups, bins, first_bin, logits, near, together, flags = _HEAD.unpack_from(data)
    at = _HEAD.size

    def take(dtype: Any, *shape: int) -> NDArray[Any]:
        nonlocal at
        kind = np.dtype(dtype)
        size = int(np.prod(shape)) * kind.itemsize
        planes = np.frombuffer(data, np.uint8, size, at).reshape(kind.itemsize, -1)
        at += size
        found: NDArray[Any] = np.ascontiguousarray(planes.T).reshape(-1).view(kind).reshape(shape)
        return found

    sizes = take("u1", 1 + groups)
    n = int(sizes.sum())
    return Record(
        count,
        mean,
        largest,
        first_bin,
        windows=take("u1", n, WINDOW),
        sizes=sizes,
        histogram=take("<u4", bins),
        bounds=take("<f4", groups - 1),
        grouped=take("<u4", groups),
        entries=take("<u8", n),
        logit_tokens=take("<u4", 2, logits),
        logits=take("<f2", 2, logits),
        near=take("<u4", near),
        cosines=take("<f2", near),
        together=take("<u4", together),
        jaccard=take("<f2", together),
        effects=take("<f2", int(sizes[0]), WINDOW) if flags & _EFFECTS else None,
        known=bool(flags & _KNOWN),
    )


class Neighbour(NamedTuple):
    """Another feature, and how near it is: a cosine, or the share of tokens that both are active at."""

    index: int  # type: ignore[assignment]  # a tuple's own is of no use here
    value: float


@dataclass(frozen=True)
class Group:
    """One of the quantile groups: an equal share of a feature's activations, by strength."""

    name: str
    low: float  # the weakest activation in it
    high: float  # the strongest
    count: int  # tokens
    exact: bool  # whether `count` was counted; else it is a share of the total, and bounds are those of a sample


@dataclass(frozen=True, eq=False)
class Example:
    """Tokens around an activation, and what the feature does at each of them."""

    tokens: Tokens
    activations: NDArray[np.float32]  # [pos], within 1/32 of the value; that at `position` is exact
    position: int  # in `tokens`, of the activation that it is an example of
    context: int  # the number of its context: `store.context(number)` gives all of its tokens
    start: int  # where `tokens` start in the context
    effects: NDArray[np.float32] | None = None  # [pos], change of the token's log-probability without the feature

    @property
    def value(self) -> float:
        """The activation that it is an example of."""
        return float(self.activations[self.position])

    def __repr__(self) -> str:
        token = self.tokens[self.position]
        return f"<Example: {token} {self.value:.3g} in context {self.context}, {len(self.tokens)} tokens>"


@dataclass(frozen=True, eq=False)
class Feature:
    """Everything that a store holds of one feature.

    `mean` and the histogram are over the tokens at which it is active, `density` over all that were counted.
    """

    index: int
    count: int  # tokens at which it is active
    n_tokens: int  # tokens counted
    mean: float
    max: float
    histogram: tuple[NDArray[np.float32], NDArray[np.uint32]]  # edges [bin + 1], counts [bin]; 8 bins an octave
    top_logits: list[tuple[str | bytes, float]]  # what its direction adds to logits, the largest first
    bottom_logits: list[tuple[str | bytes, float]]  # the smallest first
    neighbours: list[Neighbour]  # by the cosine of decoder directions
    co_firing: list[Neighbour]  # by the tokens at which both are active, of all at which either is (Jaccard)
    groups: list[Group]  # from the weakest on
    _record: Record = field(repr=False)
    _example: Callable[[int, float, NDArray[np.float32], NDArray[np.float16] | None], Example] = field(repr=False)
    _scale: Scale = field(repr=False)

    @property
    def density(self) -> float:
        """The share of tokens at which it is active."""
        return self.count / self.n_tokens

    def examples(self, group: str | int = "top") -> list[Example]:
        """The examples of a group, the strongest first: "top", a number from the weakest on, or a name of `groups`."""
        names = [each.name for each in self.groups]
        if group == "top":
            which = 0
        elif isinstance(group, int) and -len(names) <= group < len(names):
            which = 1 + group % len(names)
        elif group in names:
            which = 1 + names.index(str(group))
        else:
            raise InputError(
                f"There is no group {group!r}; there are 'top', 0 (the weakest) to {len(names) - 1}, and "
                f"{', '.join(names)}."
            )
        sizes = self._record.sizes.astype(int)
        first = int(sizes[:which].sum())
        some = slice(first, first + int(sizes[which]))
        entries, windows = self._record.entries[some], self._scale.values(self._record.windows[some])
        effects = [*self._record.effects] if which == 0 and self._record.effects is not None else [None] * len(entries)
        return [*map(self._example, tokens_of(entries).tolist(), values_of(entries).tolist(), windows, effects)]

    def __repr__(self) -> str:
        top = ", ".join(repr(text) for text, _ in self.top_logits[:3])
        return f"<Feature {self.index}: active at {self.density:.3%} of tokens, max {self.max:.3g}; logits {top}>"


def group_names(groups: int) -> list[str]:
    """Names of quantile groups, from the weakest on."""
    return [f"{100 * i / groups:.3g}–{100 * (i + 1) / groups:.3g} %" for i in range(groups)]

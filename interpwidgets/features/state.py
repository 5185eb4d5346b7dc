"""What is known of every feature after some shards of a corpus: exact, and the same in whatever order they come.

Everything here is merged by adding integers or by keeping the k lowest of a set, so that merging is associative and
commutative to the last bit. That is what lets shards be computed anywhere, and a build go on where it was killed.

An *entry* is an activation and where it is, in one integer: the bits of the float32 above those of the complement of
the token's number. Entries are ordered as activations are, and of two equal ones that of the earlier token is larger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from interpwidgets.features.files import whole

__all__ = ["AFTER", "BEFORE", "BINS", "WINDOW", "Active", "Kept", "Scale", "State", "tokens_of", "values_of"]

BEFORE, AFTER = 20, 11  # tokens kept around an activation
WINDOW = BEFORE + 1 + AFTER
BINS = 128  # of a histogram: 8 an octave
_FINE, _COARSE = 2.0**-20, 2.0**-52  # units of the two integers that a sum is kept in
_ROWS = 1 << 15  # merged at a time
_EMPTY = np.uint64(0xFFFF_FFFF_FFFF_FFFF)

U64 = NDArray[np.uint64]
Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class Active(NamedTuple):
    """Activations above zero of some contexts, by feature and then by token."""

    feature: NDArray[np.int32]  # [n]
    token: Ints  # [n], numbers in the token file
    context: Ints  # [n]
    value: Floats  # [n]

    def entries(self) -> U64:
        """Each as an entry."""
        return (self.value.view(np.uint32).astype(np.uint64) << np.uint64(32)) | (
            np.uint64(0xFFFF_FFFF) - self.token.astype(np.uint64)
        )

    def windows(self, which: Ints, scale: Scale) -> Bytes:
        """What the same feature does around activations: codes [n, WINDOW], 0 beyond the context."""
        found = np.zeros((len(which), WINDOW), dtype=np.uint8)
        found[:, BEFORE] = scale.codes(self.value[which])
        for way, reach in ((-1, BEFORE), (1, AFTER)):
            rows = np.arange(len(which))
            for step in range(1, reach + 1):  # from one activation to the next, while there is one in the window
                here = which[rows]
                there = np.clip(here + way * step, 0, len(self.token) - 1)
                place = self.token[there] - self.token[here]
                inside = (self.feature[there] == self.feature[here]) & (self.context[there] == self.context[here])
                inside &= (way * place > 0) & (way * place <= reach)
                rows = rows[inside]
                if not len(rows):
                    break
                found[rows, place[inside] + BEFORE] = scale.codes(self.value[there[inside]])
        return found


@dataclass(frozen=True)
class Scale:
    """Codes of activations on one logarithmic scale of 16 octaves, below 2 ** `top`.

    A code is cut out of the float's bits: 16 an octave, 1 to 255, and 0 for what is not active. Its middle is within
    1/32 of the value. What is below the scale gets code 1, what is above it code 255.
    """

    top: int

    @classmethod
    def of(cls, largest: float) -> Scale:
        """A scale with room for four times the largest activation seen."""
        return cls(int(np.frexp(max(largest, 1e-30))[1]) + 2)

    def codes(self, values: Floats) -> Bytes:
        """Codes of values above zero."""
        steps = (values.view(np.uint32) >> np.uint32(19)).astype(np.int64) - self._first
        return np.clip(steps, 1, 255).astype(np.uint8)

    def bins(self, values: Floats) -> Ints:
        """Which bin of a histogram each value is in; the first and the last are open."""
        steps = (values.view(np.uint32) >> np.uint32(20)).astype(np.int64) - (self._first >> 1)
        return np.clip(steps, 0, BINS - 1)

    def values(self, codes: Bytes) -> Floats:
        """The middle of what has a code."""
        bits = (codes.astype(np.int64) + self._first).astype(np.uint32) << np.uint32(19)
        return np.where(codes > 0, (bits | np.uint32(1 << 18)).view(np.float32), np.float32(0))

    @property
    def edges(self) -> Floats:
        """Edges of the bins of a histogram: [BINS + 1]."""
        bits = (np.arange(BINS + 1) + (self._first >> 1)).astype(np.uint32) << np.uint32(20)
        return bits.view(np.float32)

    @property
    def _first(self) -> int:
        """The step that has code 0."""
        return (self.top - 16 + 127) * 16


def tokens_of(entries: U64) -> Ints:
    """Where entries are: numbers in the token file."""
    return (np.uint64(0xFFFF_FFFF) - (entries & np.uint64(0xFFFF_FFFF))).astype(np.int64)


def values_of(entries: U64) -> Floats:
    """The activations of entries; 0 where there is none."""
    return (entries >> np.uint64(32)).astype(np.uint32).view(np.float32)


Order = Callable[[Ints, U64], U64]  # rows [n] or [n, 1] and entries [n] or [n, k] -> what is kept lowest first


def strongest(_: Ints, entries: U64) -> U64:
    """The order of a top k: the largest activation first."""
    return ~entries


def drawn(seed: int, groups: int) -> Order:
    """An order that is as good as random: a hash of the seed, the feature and the token (splitmix64, Steele 2014).

    Keeping the k lowest is a sample without replacement in which every set of k is as likely as any other, as that of
    Algorithm R (Vitter 1985); but it needs no count of what came before, so that samples of parts can be merged.
    """

    def order(rows: Ints, entries: U64) -> U64:
        feature = (rows // groups).astype(np.uint64)
        mixed = _mix(_mix(feature + np.uint64(seed & 0xFFFF_FFFF_FFFF_FFFF)) ^ (entries & np.uint64(0xFFFF_FFFF)))
        return np.where(entries == 0, _EMPTY, mixed)

    return order


def _mix(x: U64) -> U64:
    x = x + np.uint64(0x9E37_79B9_7F4A_7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return x ^ (x >> np.uint64(31))


class Kept(NamedTuple):
    """For each row the k entries that come first in an order, in that order; 0 where there are fewer."""

    entries: U64  # [row, k]
    windows: Bytes  # [row, k, WINDOW]

    @classmethod
    def none(cls, rows: int, k: int) -> Kept:
        """Room for k entries a row."""
        return cls(np.zeros((rows, k), dtype=np.uint64), np.zeros((rows, k, WINDOW), dtype=np.uint8))

    def offer(self, rows: Ints, entries: U64, windows: Callable[[Ints], Bytes], order: Order) -> None:
        """Take in those of the entries [n] that come before what is there."""
        k = self.entries.shape[1]
        key = order(rows, entries)
        (near,) = np.nonzero(key < self._last(rows, order))
        near, touched, count = _by_row(near, rows, key, len(self.entries))
        place = np.repeat(np.arange(len(touched)), count)
        rank = np.arange(len(near)) - np.repeat(np.cumsum(count) - count, count)
        near, place, rank = near[rank < k], place[rank < k], rank[rank < k]
        for start in range(0, len(touched), _ROWS):
            part = slice(*np.searchsorted(place, [start, start + _ROWS]))
            new = Kept.none(len(touched[start : start + _ROWS]), k)
            new.entries[place[part] - start, rank[part]] = entries[near[part]]
            new.windows[place[part] - start, rank[part]] = windows(near[part])
            self._first(touched[start : start + _ROWS], new, order)

    def _last(self, rows: Ints, order: Order) -> U64:
        """For each row what has to be come before: its last entry's place in the order."""
        last = self.entries[:, -1]
        if len(last) < len(rows):
            return order(np.arange(len(last)), last)[rows]
        return order(rows, last[rows])

    def merge(self, rows: Ints, other: Kept, order: Order) -> None:
        """Take in what another set of shards has kept in some rows."""
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            self._first(some, Kept(other.entries[some], other.windows[some]), order)

    def _first(self, rows: Ints, new: Kept, order: Order) -> None:
        """Of what is in some rows and what is new there, keep what comes first."""
        k = self.entries.shape[1]
        entries = np.concatenate([self.entries[rows], new.entries], axis=1)
        windows = np.concatenate([self.windows[rows], new.windows], axis=1)
        best = np.argsort(order(rows[:, None], entries), axis=1, kind="stable")[:, :k]
        self.entries[rows] = np.take_along_axis(entries, best, axis=1)
        self.windows[rows] = np.take_along_axis(windows, best[..., None], axis=1)


@dataclass(eq=False)
class State:
    """What some shards say of every feature. `bounds` and `scale` are those of the whole build."""

    scale: Scale
    seed: int
    bounds: Floats  # [feature, groups − 1], activations at which the next group starts; NaN: too rare to know
    done: NDArray[np.bool_]  # [shard]
    count: Ints  # [feature], tokens at which it is active
    sums: Ints  # [2, feature], of activations, in units of 2 ** −20 and 2 ** −52
    histogram: NDArray[np.uint32]  # [feature, BINS]
    grouped: NDArray[np.uint32]  # [feature, groups], activations in each group
    top: Kept  # [feature, top], one a context
    groups: Kept  # [feature × groups, per group]; of a feature without bounds, all rows are one sample

    @classmethod
    def new(cls, scale: Scale, seed: int, bounds: Floats, shards: int, top: int, per_group: int) -> State:
        """Nothing seen yet."""
        n, groups = bounds.shape[0], bounds.shape[1] + 1
        return cls(
            scale,
            seed,
            bounds,
            np.zeros(shards, dtype=bool),
            np.zeros(n, dtype=np.int64),
            np.zeros((2, n), dtype=np.int64),
            np.zeros((n, BINS), dtype=np.uint32),
            np.zeros((n, groups), dtype=np.uint32),
            Kept.none(n, top),
            Kept.none(n * groups, per_group),
        )

    def empty(self) -> State:
        """A state of the same build that has seen nothing."""
        return State.new(
            self.scale, self.seed, self.bounds, len(self.done), self.top.entries.shape[1], self.groups.entries.shape[1]
        )

    def add(self, shard: int, active: Active) -> None:
        """Take in a shard."""
        assert not self.done[shard]
        self.done[shard] = True
        feature, value, entries = active.feature.astype(np.int64), active.value, active.entries()
        if not len(feature):
            return
        starts = np.flatnonzero(np.diff(feature, prepend=-1))
        here = feature[starts]
        self.count[here] += np.diff(starts, append=len(feature))
        for total, part in zip(self.sums, _units(value), strict=True):
            total[here] += np.add.reduceat(part, starts)
        _tally(self.histogram, feature * BINS + self.scale.bins(value))

        best = _best_of_context(active, entries)
        self.top.offer(feature[best], entries[best], self._windows(active, best), strongest)

        groups = self.grouped.shape[1]
        group = np.zeros(len(value), dtype=np.int64)
        for bound in self.bounds.T:
            group += value >= bound[feature]  # nothing is, where it is NaN
        _tally(self.grouped, feature * groups + group)
        known = ~np.isnan(self.bounds[:, 0])[feature]
        for whose, kept, row, each in (
            (np.flatnonzero(known), self.groups, feature * groups + group, groups),
            (np.flatnonzero(~known), self.one, feature, 1),
        ):
            if len(whose):
                kept.offer(row[whose], entries[whose], self._windows(active, whose), drawn(self.seed, each))

    @property
    def one(self) -> Kept:
        """All groups of a feature as one sample: the same memory."""
        n = len(self.grouped)
        return Kept(self.groups.entries.reshape(n, -1), self.groups.windows.reshape(n, -1, WINDOW))

    def merge(self, other: State) -> None:
        """Take in what other shards say."""
        assert not (self.done & other.done).any()
        assert (self.scale, self.seed) == (other.scale, other.seed)
        for name in ("done", "count", "sums", "histogram", "grouped"):
            mine = getattr(self, name)
            np.add(mine, getattr(other, name), out=mine)
        n, groups = self.grouped.shape
        self.top.merge(np.arange(n), other.top, strongest)
        known = np.isfinite(self.bounds[:, 0])
        rows = (np.flatnonzero(known)[:, None] * groups + np.arange(groups)).ravel()
        self.groups.merge(rows, other.groups, drawn(self.seed, groups))
        self.one.merge(np.flatnonzero(~known), other.one, drawn(self.seed, 1))

    def mean(self) -> NDArray[np.float64]:
        """Means of the activations above zero: [feature], 0 where there are none."""
        fine, coarse = self.sums
        found: NDArray[np.float64] = (fine * _FINE + coarse * _COARSE) / np.maximum(self.count, 1)
        return found

    def largest(self) -> Floats:
        """The largest activation: [feature]."""
        return values_of(self.top.entries[:, 0])

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        arrays: dict[str, Any] = dict(self._arrays())
        whole(path, lambda file: np.savez(file, **arrays))

    @classmethod
    def open(cls, path: Path) -> State:
        """Read what `save` has written."""
        with np.load(path, allow_pickle=False) as found:
            given: dict[str, Any] = {name: found[name] for name in found.files}
        for name in ("top", "groups"):
            given[name] = Kept(given.pop(f"{name}.entries"), given.pop(f"{name}.windows"))
        given |= {"scale": Scale(int(given["scale"])), "seed": int(given["seed"])}
        return cls(**given)

    def _arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Kept):
                yield f"{each.name}.entries", value.entries
                yield f"{each.name}.windows", value.windows
            else:
                yield each.name, np.asarray(value.top if isinstance(value, Scale) else value)

    def _windows(self, active: Active, which: Ints) -> Callable[[Ints], Bytes]:
        return lambda some: active.windows(which[some], self.scale)


def _units(values: Floats) -> tuple[Ints, Ints]:
    """Activations as two integers, in units of 2 ** −20 and of 2 ** −52: exact from 2 ** −28 up."""
    exact = values.astype(np.float64)
    fine = np.floor(exact / _FINE)
    return fine.astype(np.int64), np.rint((exact - fine * _FINE) / _COARSE).astype(np.int64)


def _tally(counts: NDArray[np.uint32], cells: Ints) -> None:
    """Count cells, by their numbers in the flattened counts."""
    np.add.at(counts.reshape(-1), cells, counts.dtype.type(1))  # of the counts' own type, or it is fifty times slower


def _by_row(which: Ints, rows: Ints, key: U64, n_rows: int) -> tuple[Ints, Ints, Ints]:
    """`which` by row and then by key; the rows there are, and how many of each."""
    which = which[np.argsort(key[which])]
    each = sparse.csr_matrix((which, rows[which], np.arange(len(which) + 1)), shape=(len(which), n_rows)).tocsc()
    count = np.diff(each.indptr)  # transposing is a counting sort, and stable
    (touched,) = np.nonzero(count)
    return each.data, touched, count[touched].astype(np.int64)


def _best_of_context(active: Active, entries: U64) -> Ints:
    """Of each feature and context the largest activation, the earliest if there are several."""
    starts = np.flatnonzero((np.diff(active.feature, prepend=-1) != 0) | (np.diff(active.context, prepend=-1) != 0))
    largest = np.maximum.reduceat(entries, starts)
    whose = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(entries)))
    return np.flatnonzero(entries == largest[whose])

"""Where examples come from: contexts of tokens, what features do in them, and where to look for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interpwidgets.errors import InputError
from interpwidgets.features import FeatureStore
from interpwidgets.features.shard import Shard, active_in
from interpwidgets.tokens import Tokens

__all__ = ["POOL", "OfStore", "Sampled", "Source", "shard_of"]

POOL = 512  # contexts that text at random is drawn from
_KEPT = 2048  # contexts whose activations are kept in memory
_TOP, _QUANTILES = 20, 50  # places kept of a feature, as a store does
_BATCH = 4096  # tokens run at a time

Place = tuple[int, int]  # a context, and a position in it


class Source(ABC):
    """Contexts, and what some features do in them. `pool` are the contexts that text at random is drawn from."""

    pool: NDArray[np.int64]

    @abstractmethod
    def tokens(self, context: int) -> Tokens:
        """All tokens of a context."""

    @abstractmethod
    def values(self, feature: int, contexts: Sequence[int]) -> list[NDArray[np.float32]]:
        """How active a feature is in contexts: [pos] each."""

    @abstractmethod
    def places(self, feature: int) -> list[Place]:
        """Some places where a feature is active, strong and weak."""

    def near(self, feature: int) -> list[int]:
        """Features that are like this one: text that activates them is hard to tell from text that activates it."""
        return []


class OfStore(Source):
    """The features of a store, run by its model; raises InputError if it has none."""

    def __init__(self, store: FeatureStore, seed: int = 0) -> None:
        if store.bound is None:
            raise InputError("Labels are scored on text run anew, and the store has no model: store.bind(model, …).")
        self.store = store
        self.model, self.dictionary = store.bound
        count = int(store.about["corpus"]["contexts"])
        drawn = np.random.default_rng(seed).permutation(count)[:POOL] if count > POOL else np.arange(count)
        self.pool = np.sort(drawn)
        self._kept: OrderedDict[int, tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float32], int]]
        self._kept = OrderedDict()  # a context's (feature, position, value), by feature, and its length
        self._tokens = lru_cache(_KEPT)(store.context)

    def tokens(self, context: int) -> Tokens:
        """All tokens of a context."""
        return self._tokens(context)

    def values(self, feature: int, contexts: Sequence[int]) -> list[NDArray[np.float32]]:
        """How active a feature is in contexts: [pos] each."""
        found = []
        missing = [context for context in dict.fromkeys(contexts) if context not in self._kept]
        self._run(missing)
        for context in contexts:
            if context not in self._kept:  # more at once than are kept
                self._run([context])
            features, position, value, length = self._kept[context]
            part = slice(*np.searchsorted(features, [feature, feature + 1]))
            row = np.zeros(length, dtype=np.float32)
            row[position[part]] = value[part]
            found.append(row)
        return found

    def _run(self, contexts: list[int]) -> None:
        """Compute what all features do in contexts."""
        for group in _batches(contexts, [len(self.tokens(context)) for context in contexts]):
            shard = shard_of(self.store, group)
            active = active_in(self.model, self.dictionary, shard, len(group))
            order = np.argsort(active.context, kind="stable")  # of one context, still by feature
            edges = np.searchsorted(active.context[order], np.arange(len(group) + 1))
            for number, (context, (start, end)) in enumerate(zip(group, pairwise(edges), strict=True)):
                rows = order[start:end]
                self._kept[context] = (
                    active.feature[rows],
                    active.token[rows] - shard.starts[number],
                    active.value[rows],
                    int(shard.starts[number + 1] - shard.starts[number]),
                )
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    def places(self, feature: int) -> list[Place]:
        """Where the store's examples are, of all groups."""
        one = self.store[feature]
        examples = [example for name in self.store.groups for example in one.examples(name)]
        return list(dict.fromkeys((example.context, example.start + example.position) for example in examples))

    def near(self, feature: int) -> list[int]:
        """Those with the closest directions, and those that are active at the same tokens."""
        one = self.store[feature]
        return [each.index for each in (*one.neighbours[:4], *one.co_firing[:4])]


class Sampled(Source):
    """Features computed on some contexts of a store: `dense` [token, feature], one context after another."""

    def __init__(self, store: FeatureStore, contexts: Sequence[int], dense: NDArray[np.float32], seed: int = 0) -> None:
        self.store, self.dense, self.seed = store, dense, seed
        self.pool = np.asarray(contexts, dtype=np.int64)
        self._tokens = lru_cache(None)(store.context)
        lengths = [len(self.tokens(int(context))) for context in contexts]
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        self._number = {int(context): number for number, context in enumerate(contexts)}
        assert len(dense) == self._starts[-1]

    def tokens(self, context: int) -> Tokens:
        """All tokens of a context."""
        return self._tokens(context)

    def values(self, feature: int, contexts: Sequence[int]) -> list[NDArray[np.float32]]:
        """How active a feature is in contexts: [pos] each."""
        rows = [self._number[context] for context in contexts]
        return [self.dense[self._starts[row] : self._starts[row + 1], feature] for row in rows]

    def places(self, feature: int) -> list[Place]:
        """The strongest, one a context, and a sample at random, as in a store."""
        values = self.dense[:, feature]
        (where,) = np.nonzero(values > 0)
        rng = np.random.default_rng([self.seed, feature])
        strongest = where[np.argsort(-values[where], kind="stable")]
        row = np.searchsorted(self._starts, strongest, side="right") - 1
        _, first = np.unique(row, return_index=True)
        chosen = [*strongest[np.sort(first)[:_TOP]], *rng.permutation(where)[:_QUANTILES]]
        rows = np.searchsorted(self._starts, chosen, side="right") - 1
        return list(
            dict.fromkeys(
                (int(self.pool[row]), int(token - self._starts[row])) for row, token in zip(rows, chosen, strict=True)
            )
        )

    def near(self, feature: int) -> list[int]:
        """Those that are active in most of the contexts in which it is, beside what is expected by chance."""
        on = np.maximum.reduceat(self.dense > 0, self._starts[:-1], axis=0).astype(np.float32)  # [context, feature]
        centred = on - on.mean(0)
        alike = centred.T @ centred[:, feature] / np.maximum(np.linalg.norm(centred, axis=0), 1e-9)
        alike[feature] = -np.inf
        return [int(each) for each in np.argsort(-alike, kind="stable")[:4] if np.isfinite(alike[each])]


def shard_of(store: FeatureStore, contexts: Sequence[int]) -> Shard:
    """Contexts of a store as something to run."""
    ids: list[Any] = [store.context(int(context)).ids for context in contexts]
    starts = np.concatenate([[0], np.cumsum([len(each) for each in ids])]).astype(np.int64)
    return Shard(0, np.concatenate(ids).astype(np.uint32), starts, 0, store.about["corpus"]["bos"])


def _batches(contexts: list[int], lengths: list[int]) -> list[list[int]]:
    """Contexts in groups of so many tokens."""
    groups: list[list[int]] = []
    size = 0
    for context, length in zip(contexts, lengths, strict=True):
        if not groups or size + length > _BATCH:
            groups.append([])
            size = 0
        groups[-1].append(context)
        size += length
    return groups

"""Sources made of sources: heads taken together, layers rolled out, one prompt or model minus another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import SequenceMatcher

import numpy as np

from interpwidgets.errors import InputError
from interpwidgets.tokens import Tokens
from interpwidgets.views.source import AttentionSource, Floats, Ints

__all__ = ["Difference", "OverHeads", "Rollout", "Weighted"]

ROLLOUT_LIMIT = 2048  # tokens: a rollout is a dense [query, key] product a layer
ALIGN_LIMIT = 4096  # tokens: aligning two prompts compares every pair in the worst case


@dataclass(frozen=True)
class _Derived:
    """What a derived source takes over from the one it is made of."""

    source: AttentionSource

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.source.shape

    @property
    def query_tokens(self) -> Tokens:
        return self.source.query_tokens

    @property
    def key_tokens(self) -> Tokens:
        return self.source.key_tokens

    @property
    def causal(self) -> bool:
        return self.source.causal


@dataclass(frozen=True)
class OverHeads(_Derived):
    """The mean, or the largest, weight over all heads of a layer."""

    how: str = "mean"

    def block(self, layer: int, head: int, queries: Ints, keys: slice) -> Floats:
        """The weights of the heads of `layer` together, `[query, key]`; `head` is ignored."""
        del head
        heads = range(self.shape[1])
        total = self.source.block(layer, 0, queries, keys).copy()
        combine = np.maximum if self.how == "max" else np.add
        for other in heads[1:]:
            combine(total, self.source.block(layer, other, queries, keys), out=total)
        return total if self.how == "max" else total / np.float32(len(heads))


@dataclass(frozen=True)
class Weighted(_Derived):
    """Each weight times what it carries: signed where that is."""

    factor: Callable[[int, int, Ints, slice], Floats] = field(kw_only=True)

    def block(self, layer: int, head: int, queries: Ints, keys: slice) -> Floats:
        """The weights times their factors, `[query, key]`."""
        return self.source.block(layer, head, queries, keys) * self.factor(layer, head, queries, keys)


@dataclass(frozen=True)
class Rollout(_Derived):
    """Attention followed down through the layers (Abnar & Zuidema 2020, §3).

    Layer by layer `R = (½ A + ½ I) R`, with `A` the mean over heads and the identity for the residual stream. It
    multiplies patterns only: what the values carry, and what the MLPs do, is not in it.
    """

    _layers: list[Floats] = field(default_factory=list, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __post_init__(self) -> None:
        _, _, queries, keys = self.shape
        if queries != keys:
            raise InputError(f"A rollout needs self-attention; here {queries} queries attend to {keys} keys.")
        if keys > ROLLOUT_LIMIT:
            raise InputError(
                f"A rollout multiplies whole [query, key] matrices: up to {ROLLOUT_LIMIT:,} tokens, here {keys:,}. "
                "Show the mean over heads instead, or a shorter prompt."
            )

    def block(self, layer: int, head: int, queries: Ints, keys: slice) -> Floats:
        """The rollout from the embedding up to and with `layer`, `[query, key]`; `head` is ignored."""
        del head
        with self._lock:
            mean, size = OverHeads(self.source), self.shape[3]
            while len(self._layers) <= layer:
                step = mean.block(len(self._layers), 0, np.arange(size), slice(0, size))
                step *= 0.5
                step[np.diag_indices(size)] += 0.5
                self._layers.append(step @ self._layers[-1] if self._layers else step)
        return self._layers[layer][queries][:, keys]


@dataclass(frozen=True)
class Difference(_Derived):
    """`source − minus`, weight by weight, signed. Prompts of other lengths are aligned token by token first.

    Where a token has no counterpart the difference is NaN: nothing is compared with nothing.
    """

    minus: AttentionSource = field(kw_only=True)
    _queries: Ints | None = field(init=False, repr=False, compare=False, default=None)  # [query] -> in `minus`, or −1
    _keys: Ints | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if self.source.shape[:2] != self.minus.shape[:2]:
            (a_layers, a_heads), (b_layers, b_heads) = self.source.shape[:2], self.minus.shape[:2]
            raise InputError(
                f"A difference needs the same heads on both sides: {self.source.name!r} has {a_layers} layers × "
                f"{a_heads} heads, {self.minus.name!r} has {b_layers} × {b_heads}. Show them side by side instead."
            )
        if self.source.shape != self.minus.shape:
            object.__setattr__(self, "_queries", _align(self.source.query_tokens, self.minus.query_tokens))
            object.__setattr__(self, "_keys", _align(self.source.key_tokens, self.minus.key_tokens))

    @property
    def name(self) -> str:  # noqa: D102
        return f"{self.source.name} − {self.minus.name}"

    @property
    def causal(self) -> bool:  # noqa: D102
        return self.source.causal and self.minus.causal

    def block(self, layer: int, head: int, queries: Ints, keys: slice) -> Floats:
        """The differences of those weights, `[query, key]`; NaN where there is no counterpart."""
        own = self.source.block(layer, head, queries, keys)
        if self._queries is None or self._keys is None:
            return own - self.minus.block(layer, head, queries, keys)
        rows, columns = self._queries[queries], self._keys[keys]
        there = columns[columns >= 0]
        result = np.full(own.shape, np.nan, dtype=np.float32)
        if len(there) and (rows >= 0).any():
            span = slice(int(there.min()), int(there.max()) + 1)
            other = self.minus.block(layer, head, rows[rows >= 0], span)[:, there - span.start]
            both = np.ix_(rows >= 0, columns >= 0)
            result[both] = own[both] - other
        return result


def _align(ours: Tokens, theirs: Tokens) -> Ints:
    """For each of our tokens, its counterpart's position among theirs, or −1 (longest matching blocks)."""
    if max(len(ours), len(theirs)) > ALIGN_LIMIT:
        raise InputError(
            f"Prompts of different lengths are aligned up to {ALIGN_LIMIT:,} tokens; these have {len(ours):,} and "
            f"{len(theirs):,}. Show them side by side instead."
        )
    counterpart = np.full(len(ours), -1, dtype=np.int64)
    matcher = SequenceMatcher(None, ours.text, theirs.text, autojunk=False)
    for a, b, size in matcher.get_matching_blocks():
        counterpart[a : a + size] = np.arange(b, b + size)
    return counterpart

"""The attention of one prompt, in the form that views ask for: any block of any head's pattern."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from interpwidgets.errors import InputError
from interpwidgets.models.mask import Mask, Rows
from interpwidgets.models.pattern import LayerAttention
from interpwidgets.tokens import Tokens

__all__ = ["RecordedAttention", "StoredAttention"]


@dataclass(frozen=True, eq=False)
class StoredAttention:
    """The patterns of a layer that could not be had as q and k: whole, as the model computed them."""

    pattern: Tensor  # [batch, query, head, key]

    @cached_property
    def mask(self) -> Mask:
        """Whether no weight is on a later key."""
        return Mask(causal=not bool(self.pattern.transpose(1, 2).nan_to_num().triu(1).any()))

    @property
    def heads(self) -> int:
        """How many there are."""
        return int(self.pattern.shape[2])

    def block(self, prompt: int, head: int, length: int, queries: Rows, start: int, stop: int) -> NDArray[np.float32]:
        """The weights of these queries on the keys from `start` to `stop`: [query, key]."""
        rows = self.pattern[prompt, :length, head, start:stop].detach().float().cpu().numpy()
        block: NDArray[np.float32] = rows[queries]
        return block

    def pooled(
        self, prompt: int, head: int, length: int, queries: Rows, start: int, stop: int, run: int
    ) -> NDArray[np.float32]:
        """Maximum and sum of the weights of every `run` queries on each key: [2, run of queries, key]."""
        block = self.block(prompt, head, length, queries, start, stop)
        rows = np.arange(0, len(block), run)
        return np.stack([by.reduceat(block, rows, axis=0) for by in (np.maximum, np.add)])


@dataclass(frozen=True, eq=False)
class RecordedAttention:
    """Patterns of one prompt, computed block by block; the same question has the same answer, on any thread."""

    name: str
    tokens: Tokens
    layers: tuple[int, ...]  # the model's numbers of the layers that have attention and were recorded
    attention: Sequence[LayerAttention | StoredAttention]  # one per layer
    prompt: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[layer, head, query, key]"""
        return len(self.layers), self.attention[0].heads, len(self.tokens), len(self.tokens)

    @property
    def query_tokens(self) -> Tokens:
        """The tokens that attend."""
        return self.tokens

    @property
    def key_tokens(self) -> Tokens:
        """The tokens attended to: the same."""
        return self.tokens

    @property
    def causal(self) -> bool:
        """Whether no query attends to a later key, in any layer."""
        return all(layer.mask.causal for layer in self.attention)

    def block(self, layer: int, head: int, queries: NDArray[np.int64], keys: slice) -> NDArray[np.float32]:
        """The weights of some queries on a run of keys: [query, key]."""
        layer, question = self._question(layer, head, queries, keys)
        return self.attention[layer].block(self.prompt, *question)

    def pooled(self, layer: int, head: int, queries: NDArray[np.int64], keys: slice, run: int) -> NDArray[np.float32]:
        """Maximum and sum of the weights of every `run` queries on each key: [2, run of queries, key]."""
        layer, question = self._question(layer, head, queries, keys)
        return self.attention[layer].pooled(self.prompt, *question, run)

    def _question(
        self, layer: int, head: int, queries: NDArray[np.int64], keys: slice
    ) -> tuple[int, tuple[int, int, Rows, int, int]]:
        """The layer, and what to ask it: head, length, queries, first and past the last key."""
        layers, heads, size, _ = self.shape
        layer, head = _place("layer", layer, layers), _place("head", head, heads)
        rows: Rows = np.asarray(queries, dtype=np.int64)
        if rows.ndim != 1 or (rows.size and not (-size <= rows.min() and rows.max() < size)):
            raise InputError(f"queries are a list of positions from 0 to {size - 1}; got {queries!r:.80}.")
        rows = np.where(rows < 0, rows + size, rows)
        start, stop, step = keys.indices(size)
        if step != 1:
            raise InputError(f"keys are a run of positions, slice(start, stop); got {keys}.")
        return layer, (head, size, rows, start, max(start, stop))


def _place(what: str, given: int, count: int) -> int:
    """An index from the front, from one that may count from the end."""
    if not -count <= given < count:
        raise InputError(f"There is no {what} {given}; there are {count}, numbered from 0.")
    return given % count

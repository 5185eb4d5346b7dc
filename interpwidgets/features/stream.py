"""Activations of a corpus in an order drawn from a seed: batch number n is the same whenever it is asked for.

Contexts are shuffled anew in every epoch and read some at a time into a buffer, whose tokens are shuffled again: a
batch then holds tokens of many contexts. What does not fill a batch at the end of a buffer is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interpwidgets.errors import InputError
from interpwidgets.features.contexts import contexts_of, flat
from interpwidgets.features.corpus import Corpus
from interpwidgets.models.model import Model
from interpwidgets.models.sites import Site

__all__ = ["Stream"]

_CONTEXTS = 16  # in one forward pass


class _Epoch(NamedTuple):
    order: NDArray[np.int64]  # [context]
    first: NDArray[np.int64]  # [buffer + 1], where each buffer starts in `order`
    batches: NDArray[np.int64]  # [buffer], how many it holds


class Stream:
    """Batches of what a model has at some sites, [token, d] each, without padding and `<bos>`.

    Raises InputError if the contexts `which` do not fill one batch.
    """

    def __init__(
        self,
        model: Model,
        corpus: Corpus,
        sites: Sequence[Site],
        *,
        batch: int,
        buffer: int,
        seed: int,
        which: NDArray[np.int64],
    ) -> None:
        self.model, self.corpus, self.sites = model, corpus, list(dict.fromkeys(sites))
        self.batch, self.buffer, self.seed, self.which = batch, max(buffer, batch), seed, which
        starts = corpus.starts[:-1]
        first = corpus.tokens[starts] == corpus.bos if corpus.bos is not None else np.zeros(len(starts), bool)
        self.counted = np.diff(corpus.starts) - first  # tokens of each context
        self._epochs: dict[int, _Epoch] = {}
        self._held: tuple[int, int] | None = None
        self._tokens: dict[Site, Tensor] = {}
        if not (most := self._epoch(0).batches.sum()):
            tokens = int(self.counted[which].sum())
            raise InputError(f"The corpus has {tokens:,} tokens to train on, and a batch takes {batch:,}: give more.")
        self.per_epoch = int(most)

    def __call__(self, number: int) -> dict[Site, Tensor]:
        """Batch `number`, from 0."""
        for epoch in count():
            _, _, batches = self._epoch(epoch)
            if number < batches.sum():
                break
            number -= int(batches.sum())
        place = int(np.searchsorted(np.cumsum(batches), number, side="right"))
        if self._held != (epoch, place):
            self._tokens, self._held = self._read(epoch, place), (epoch, place)
        first = (number - int(batches[:place].sum())) * self.batch
        return {site: values[first : first + self.batch] for site, values in self._tokens.items()}

    def _epoch(self, epoch: int) -> _Epoch:
        if epoch not in self._epochs:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.which)
            tokens = np.cumsum(self.counted[order])
            buffer = np.maximum(tokens - 1, 0) // self.buffer  # which buffer each context is in
            first = np.searchsorted(buffer, np.arange(buffer[-1] + 2)) if len(order) else np.zeros(1, np.int64)
            filled = np.add.reduceat(self.counted[order], first[:-1]) if len(order) else np.zeros(0, np.int64)
            filled[np.diff(first) == 0] = 0
            self._epochs = {epoch: _Epoch(order, first, filled // self.batch)} | (
                {0: self._epochs[0]} if 0 in self._epochs else {}
            )
        return self._epochs[epoch]

    def _read(self, epoch: int, place: int) -> dict[Site, Tensor]:
        """Fill the buffer, and shuffle its tokens."""
        order, first, _ = self._epoch(epoch)
        contexts = order[first[place] : first[place + 1]]
        parts = [
            flat(self.model, contexts_of(self.corpus, contexts[at : at + _CONTEXTS], self.model.device), self.sites)
            for at in range(0, len(contexts), _CONTEXTS)
        ]
        tokens = sum(len(part[self.sites[0]]) for part in parts)
        shuffled = torch.from_numpy(np.random.default_rng([self.seed, epoch, place]).permutation(tokens))
        return {site: torch.cat([part[site] for part in parts])[shuffled.to(self.model.device)] for site in self.sites}

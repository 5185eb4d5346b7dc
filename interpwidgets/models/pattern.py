"""Attention patterns, computed from q and k when somebody looks at them.

A pattern of T tokens has T² weights per head; its q and k have T·d_head numbers each. `LayerAttention` keeps the
latter and answers for any block of the former in memory of that block: the softmax of its rows where the block
spans them, else `exp(score - lse)` with the row's log-sum-exp, which is found when a row is first looked at, and kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interpwidgets.models.mask import Mask

__all__ = ["LayerAttention", "Rows"]

Rows = NDArray[np.int64]

_STRIP = 1 << 17  # scores at a time: they stay in a core's cache, and short strips waste little above the diagonal
_FEWEST_ROWS = 32  # … but a strip of fewer rows would read all of k for little work


@dataclass(eq=False)
class LayerAttention:
    """What the attention of one layer was computed from, and any part of its patterns.

    `length` is the number of keys of the prompt asked about: positions from there on are padding.
    """

    q: Tensor  # [batch, head, query, d_head], as handed to the attention function (after rotary embedding)
    k: Tensor  # [batch, kv_head, key, d_head]
    scaling: float
    mask: Mask
    _lse: NDArray[np.float32] | None = field(default=None, repr=False)

    @property
    def heads(self) -> int:
        return int(self.q.shape[1])

    @property
    def known_lse(self) -> NDArray[np.float32]:
        """Log-sum-exps of the rows looked at so far, NaN elsewhere: [batch, head, query].

        Threads that fill the same row at once write the same number.
        """
        if self._lse is None:
            self._lse = np.full(self.q.shape[:3], np.nan, dtype=np.float32)
        return self._lse

    def lse(self, prompt: int, head: int, length: int, queries: Rows) -> NDArray[np.float32]:
        """The log-sum-exp of the scores of each of these rows: [query]."""
        known = self.known_lse[prompt, head]  # [query]
        unknown = queries[np.isnan(known[queries])]
        with torch.inference_mode():  # entered here: grad mode belongs to a thread, and any thread may ask
            for strip in self._strips(prompt, head, length, unknown):
                known[strip.rows] = torch.logsumexp(strip.scores(0, strip.past), dim=-1).cpu().numpy()
        return known[queries]

    def block(self, prompt: int, head: int, length: int, queries: Rows, start: int, stop: int) -> NDArray[np.float32]:
        """The weights of these queries on the keys from `start` to `stop`: [query, key]."""
        known = self.known_lse[prompt, head]  # [query]
        with torch.inference_mode():
            pattern = torch.empty(len(queries), stop - start, device=self.q.device)
            done = 0
            for strip in self._strips(prompt, head, length, queries):
                end = max(min(stop, strip.past), start)  # keys from here on have no weight in these rows
                if start == 0 and end == strip.past and np.isnan(known[strip.rows]).any():
                    weights, known[strip.rows] = strip.softmax()
                else:
                    lse = torch.from_numpy(self.lse(prompt, head, length, strip.rows)).to(pattern.device)
                    weights = strip.scores(start, end).sub_(lse[:, None]).exp_()
                rows = pattern[done : done + len(strip.rows)]
                rows[:, : end - start] = weights
                rows[:, end - start :] = 0.0
                done += len(strip.rows)
        numpy: NDArray[np.float32] = pattern.cpu().numpy()
        return numpy

    def _strips(self, prompt: int, head: int, length: int, queries: Rows) -> Iterator[_Strip]:
        rows_at_once = max(_FEWEST_ROWS, _STRIP // length)
        k = self.k[prompt, head * self.k.shape[1] // self.heads, :length]  # [key, d_head]
        for first in range(0, len(queries), rows_at_once):
            rows = queries[first : first + rows_at_once]
            index = torch.from_numpy(rows).to(self.q.device)
            q = self.q[prompt, head].index_select(0, index).float().mul_(self.scaling)  # [query, d_head]
            yield _Strip(rows, index, q, k, prompt, head, self.mask)


@dataclass(eq=False)
class _Strip:
    """A few rows of one head, ready to be multiplied with keys."""

    rows: Rows
    index: Tensor  # the rows again, where q is
    q: Tensor  # [query, d_head], scaled
    k: Tensor  # [key, d_head]
    prompt: int
    head: int
    mask: Mask

    @property
    def past(self) -> int:
        """How many keys any of the rows can see."""
        return int(self.rows.max()) + 1 if self.mask.causal else len(self.k)

    def scores(self, start: int, stop: int) -> Tensor:
        """q · k of the keys from `start` to `stop`, minus infinity where masked: [query, key]."""
        scores = self.q @ self.k[start:stop].float().T
        self.mask.forbid(scores, self.prompt, self.head, self.index, start)
        return scores

    def softmax(self) -> tuple[Tensor, NDArray[np.float32]]:
        """The weights on all keys that the rows can see, [query, key], and the rows' log-sum-exps, [query]."""
        scores = self.scores(0, self.past)
        top = scores.amax(dim=-1)
        torch.softmax(scores, dim=-1, out=scores)
        # The largest weight is exp(top - lse): two cheap maxima, where logsumexp would take every exponential again.
        return scores, (top - scores.amax(dim=-1).log_()).cpu().numpy()

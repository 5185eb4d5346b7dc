"""Attention patterns, computed from q and k when somebody looks at them.

A pattern of T tokens has T² weights per head; its q and k have T·d_head numbers each. `LayerAttention` keeps the
latter and answers for any block of the former in memory of that block: the softmax of its rows where the block
spans them, else `exp(score - lse)` with the row's log-sum-exp, which is found when a row is first looked at, and kept.

Inside, scores are in base 2: `exp2` takes half the time of `exp`, and the factor log₂(e) goes into the scaling.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interpwidgets.models.mask import Mask, Rows

__all__ = ["LayerAttention"]

_STRIP = 1 << 18  # scores at a time: a megabyte stays in cache, and short strips waste little above the diagonal
_FEWEST_ROWS = 64  # … but a strip of fewer rows would read all of k for little work
_LN2 = log(2.0)


@dataclass(eq=False)
class LayerAttention:
    """What the attention of one layer was computed from, and any part of its patterns.

    `length` is the number of keys of the prompt asked about: positions from there on are padding.
    """

    q: Tensor  # [batch, head, query, d_head], as handed to the attention function (after rotary embedding)
    k: Tensor  # [batch, kv_head, key, d_head]
    scaling: float
    mask: Mask
    softcap: float | None = None  # scores are softcap · tanh(q · k · scaling / softcap)
    sinks: Tensor | None = None  # [head], scores of a key that is not there
    bias: Tensor | None = None  # [1 or batch, head, query, key], added to the scores
    _lse: NDArray[np.float64] | None = field(default=None, repr=False)

    @property
    def heads(self) -> int:
        """How many query heads there are; keys may be shared by groups of them."""
        return int(self.q.shape[1])

    @property
    def known_lse(self) -> NDArray[np.float64]:
        """Log-sum-exps in base 2 of the rows looked at so far, NaN elsewhere: [batch, head, query].

        In float64, since float32 would round that of large scores by as much as a weight may be wrong. Threads that
        fill the same row at once write the same number, but for rounding.
        """
        if self._lse is None:
            self._lse = np.full(self.q.shape[:3], np.nan)
        return self._lse

    def lse(self, prompt: int, head: int, length: int, queries: Rows) -> NDArray[np.float32]:
        """The natural log-sum-exp of the scores of each of these rows: [query]."""
        return (self._lse2(prompt, head, length, queries) * _LN2).astype(np.float32)

    def _lse2(self, prompt: int, head: int, length: int, queries: Rows) -> NDArray[np.float64]:
        known: NDArray[np.float64] = self.known_lse[prompt, head]  # [query]
        unknown = queries[np.isnan(known[queries])]
        with torch.inference_mode():  # entered here: grad mode belongs to a thread, and any thread may ask
            for strip in self._strips(prompt, head, length, unknown):
                known[strip.rows] = strip.exponentials()[2]
        return known[queries]

    def scores(self, prompt: int, head: int, length: int, queries: Rows) -> NDArray[np.float32]:
        """The scores of these queries before the softmax, minus infinity where masked: [query, key]."""
        found = np.full((len(queries), length), -np.inf, dtype=np.float32)
        done = 0
        with torch.inference_mode():
            for strip in self._strips(prompt, head, length, queries):
                part = strip.scores(0, strip.past).mul_(_LN2)
                found[done : done + len(part), : part.shape[1]] = part.cpu().numpy()
                done += len(part)
        return found

    def block(self, prompt: int, head: int, length: int, queries: Rows, start: int, stop: int) -> NDArray[np.float32]:
        """The weights of these queries on the keys from `start` to `stop`: [query, key]."""
        with torch.inference_mode():
            pattern = torch.empty(len(queries), stop - start, device=self.q.device)
            for here, weights in self._weights(prompt, head, length, queries, start, stop):
                pattern[here, : weights.shape[1]] = weights
                pattern[here, weights.shape[1] :] = 0.0
        numpy: NDArray[np.float32] = pattern.cpu().numpy()
        return numpy

    def pooled(
        self, prompt: int, head: int, length: int, queries: Rows, start: int, stop: int, run: int
    ) -> NDArray[np.float32]:
        """Maximum and sum of the weights of every `run` queries on each key: [2, run of queries, key]."""
        with torch.inference_mode():
            planes = torch.zeros(2, len(queries) // run, stop - start, device=self.q.device)
            for here, weights in self._weights(prompt, head, length, queries, start, stop, run):
                runs = weights.view(len(weights) // run, run, weights.shape[1])
                top, total = planes[:, here.start // run : here.stop // run, : weights.shape[1]]
                torch.amax(runs, 1, out=top)
                torch.sum(runs, 1, out=total)
        numpy: NDArray[np.float32] = planes.cpu().numpy()
        return numpy

    def _weights(
        self, prompt: int, head: int, length: int, queries: Rows, start: int, stop: int, run: int = 1
    ) -> Iterator[tuple[slice, Tensor]]:
        """Which of the queries, whole runs of them, and their weights from `start` as far as they see: [query, key]."""
        known = self.known_lse[prompt, head]  # [query]
        last = int(queries.max(initial=-1)) if self.mask.causal else length - 1  # key that any of the queries can see
        # Whole rows never use the log-sum-exps that are known: the same question shall have the same answer to the bit.
        softmax = start == 0 and stop > last
        lse = None if softmax else self._lse2(prompt, head, length, queries)[:, None]  # [query, 1]
        done = 0
        for strip in self._strips(prompt, head, length, queries, run):
            here = slice(done, done := done + len(strip.rows))
            if lse is None:
                weights, total, known[strip.rows] = strip.exponentials()
                yield here, weights.mul_(total.reciprocal_())
                continue
            coarse = lse[here].astype(np.float32)
            fine = (lse[here] - coarse).astype(np.float32)
            scores = strip.scores(start, max(min(stop, strip.past), start))
            for part in (coarse, fine):
                scores -= torch.from_numpy(part).to(scores.device)
            yield here, scores.exp2_()

    def _strips(self, prompt: int, head: int, length: int, queries: Rows, run: int = 1) -> Iterator[_Strip]:
        """The queries in groups of a size that is good to compute with, each of whole runs."""
        if not len(queries):
            return
        consecutive = bool((np.diff(queries) == 1).all())
        q = self.q[prompt, head]  # [query, d_head]
        # A run of rows is cut out: indexing would take a tenth of the time of everything.
        q = q[int(queries[0]) : int(queries[-1]) + 1] if consecutive else q[torch.from_numpy(queries).to(q.device)]
        q = q.float() * (self.scaling / _LN2)
        k = self.k[prompt, head * self.k.shape[1] // self.heads, :length]  # [key, d_head]
        rows_at_once = max(_FEWEST_ROWS, _STRIP // length)
        rows_at_once = max(run, rows_at_once - rows_at_once % run)
        for first in range(0, len(queries), rows_at_once):
            some = slice(first, first + rows_at_once)
            yield _Strip(queries[some], consecutive, q[some], k, prompt, head, self)


@dataclass(eq=False)
class _Strip:
    """A few rows of one head, ready to be multiplied with keys."""

    rows: Rows
    run: bool  # whether the rows follow one another
    q: Tensor  # [query, d_head], scaled to scores in base 2
    k: Tensor  # [key, d_head]
    prompt: int
    head: int
    layer: LayerAttention

    @property
    def past(self) -> int:
        """How many keys any of the rows can see."""
        if not self.layer.mask.causal:
            return len(self.k)
        return int(self.rows[-1] if self.run else self.rows.max()) + 1

    def scores(self, start: int, stop: int) -> Tensor:
        """Scores in base 2 of the keys from `start` to `stop`, minus infinity where masked: [query, key]."""
        scores = self.q @ self.k[start:stop].float().T
        of = self.layer
        if of.softcap is not None:
            cap = of.softcap / _LN2
            scores.div_(cap).tanh_().mul_(cap)
        if of.bias is not None:
            sheet = of.bias[self.prompt % of.bias.shape[0], self.head % of.bias.shape[1]]  # [query, key]
            scores += sheet[torch.from_numpy(self.rows).to(sheet.device), start:stop].float() / _LN2
        of.mask.forbid(scores, self.prompt, self.head, self.rows, self.run, start)
        return scores

    def exponentials(self) -> tuple[Tensor, Tensor, NDArray[np.float64]]:
        """Numerator [query, key] and denominator [query, 1] of the softmax, and the log-sum-exps [query] in base 2."""
        scores = self.scores(0, self.past)
        top = scores.amax(dim=-1, keepdim=True)  # [query, 1]
        sinks = self.layer.sinks
        if sinks is not None:
            sink = sinks[self.head].float() / _LN2
            top = top.maximum(sink)
        total = scores.sub_(top).exp2_().sum(dim=-1, keepdim=True)  # [query, 1]
        if sinks is not None:
            total += (sink - top).exp2()  # the share that goes nowhere
        lse: NDArray[np.float64] = top.cpu().double().add_(total.log2().cpu())[:, 0].numpy()
        return scores, total, lse

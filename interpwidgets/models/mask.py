"""Who may attend to whom, described in a few words instead of a [query, key] array.

Almost every mask is "everything" or "nothing later than the query". transformers hands the attention function a
boolean tensor as soon as prompts of different length share a batch; `Mask.of` looks at what that tensor says about
the real tokens, and keeps the tensor only where neither description fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interpwidgets.errors import InputError

__all__ = ["Mask", "Rows"]

Rows = NDArray[np.int64]  # positions of queries

_ROWS = 1024  # a mask is read in strips, so that describing it takes no second array of its size
_LARGEST = 1 << 30  # bytes of a mask that no description fits


@dataclass(frozen=True, eq=False)
class Mask:
    """Which keys a query may see: all of them, none after itself (`causal`), or what `allowed` says."""

    causal: bool
    allowed: Tensor | None = None  # [1 or batch, 1 or head, query, key], bool; on top of `causal`

    @classmethod
    def of(cls, mask: Tensor, *, lengths: list[int], heads: int) -> Mask:
        """The shortest description of a mask tensor, boolean (True: may attend) or additive (0: may attend).

        What it says about padding, positions from a prompt's length on, is left out.
        """
        if mask.ndim != 4 or mask.shape[1] not in (1, heads) or mask.shape[0] not in (1, len(lengths)):
            shape = tuple(mask.shape)
            raise InputError(f"The model masks attention with shape {shape}; expected [batch, 1 or head, query, key].")
        strips = [
            _compare(_allowed(mask[row % mask.shape[0], :, start : min(start + _ROWS, length), :length]), start)
            for row, length in enumerate(lengths)
            for start in range(0, length, _ROWS)
        ]
        all_full, all_triangle, all_within = (all(column) for column in zip(*strips, strict=True))
        if all_full or all_triangle:
            return cls(causal=all_triangle)
        if mask.numel() > _LARGEST:
            raise InputError(
                f"The attention mask of this model fits no short description and has {mask.numel():,} entries; "
                f"at most {_LARGEST:,} are kept. Record fewer or shorter prompts at a time."
            )
        return cls(causal=all_within, allowed=_allowed(mask).clone())

    def forbid(self, scores: Tensor, prompt: int, head: int, rows: Rows, run: bool, start: int) -> None:
        """Set those of the scores [query, key] that are ruled out to minus infinity.

        Keys count from `start`; `run` says that the rows follow one another.
        """
        stop = start + scores.shape[1]
        if self.causal and run:
            first, last = int(rows[0]), min(int(rows[-1]) + 1, stop)  # keys before and after: all seen, none seen
            if (begin := max(first, start)) < last:
                triangle = _future(len(rows), scores.device)[:, begin - first : last - first]
                scores[:, begin - start : last - start].add_(triangle)
            if (begin := max(last, start)) < stop:
                scores[:, begin - start :] = -torch.inf
        elif self.causal:
            for i, row in enumerate(rows.tolist()):
                scores[i, max(row + 1 - start, 0) :] = -torch.inf
        if self.allowed is not None:
            sheet = self.allowed[prompt % self.allowed.shape[0], head % self.allowed.shape[1]]  # [query, key]
            scores.masked_fill_(~sheet[torch.from_numpy(rows).to(sheet.device), start:stop], -torch.inf)


@lru_cache(maxsize=4)
def _future(size: int, device: torch.device) -> Tensor:
    """What to add to the scores of consecutive rows against their own positions: [size, size]."""
    return torch.full((size, size), -torch.inf, device=device).triu_(1)


def _allowed(mask: Tensor) -> Tensor:
    """A mask as booleans. An additive one says no with its dtype's lowest number, and with nothing else."""
    if mask.dtype == torch.bool:
        return mask
    lowest = torch.finfo(mask.dtype).min
    if not bool(((mask == 0) | (mask <= lowest / 2)).all()):
        raise InputError("The model adds a bias to its scores (ALiBi, relative positions); not supported yet.")
    return mask == 0


def _compare(strip: Tensor, start: int) -> tuple[bool, bool, bool]:
    """Whether a strip [head, query, key] of a mask allows everything, exactly the past, nothing but the past."""
    past = torch.ones(strip.shape[-2:], dtype=torch.bool, device=strip.device).tril_(start)
    return bool(strip.all()), bool((strip == past).all()), not bool((strip & ~past).any())

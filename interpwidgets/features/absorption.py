"""Pairs of features that look like absorption: one is silent where a special case of it has taken its direction over.

Chanin et al. 2024 ("A is for Absorption") find it with labels: the feature "starts with S" is not active on "short",
because the feature of "short" writes "starts with S" as well. Nobody has labels for all features, so this looks for
the trace that it leaves in any dictionary: a parent and a child such that

- their directions point the same way, by a cosine of `COSINE` or more
- the parent is the more frequent one
- where the child is active, the parent is silent more often than not, and more often than elsewhere
- there, the activation reaches nearly as far along the parent's direction as on average where the parent is active

It is a reason to look, not a finding: two features that split one concept between them leave the same trace, and
absorption by features that point elsewhere leaves none.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from interpwidgets.models.dictionary import Dictionary

__all__ = ["COSINE", "Absorbed", "Pairs"]

COSINE = 0.3
_PAIRS = 4096  # looked at: those with the largest cosines
_NEARLY = 0.9  # as far along the parent's direction
_ENOUGH = 10  # tokens at which the child is active
_ROWS = 2048  # features whose cosines are computed at a time


class Absorbed(NamedTuple):
    """A feature that may have lost tokens to another."""

    parent: int
    child: int
    cosine: float  # of their directions
    silent: float  # the share of the child's tokens at which the parent is not active
    tokens: int  # at which the child is active

    def __repr__(self) -> str:
        return (
            f"<feature {self.parent} is silent at {self.silent:.0%} of the {self.tokens} tokens of feature "
            f"{self.child}, cosine {self.cosine:.2f}>"
        )


class Pairs:
    """Counts, over a corpus, what tells of absorption between features that point the same way."""

    def __init__(self, one: Dictionary) -> None:
        self.first, self.second, self.cosine = _near(one.W_dec)
        self.features = torch.unique(torch.cat([self.first, self.second]))
        place = torch.full((one.d_dict,), -1).to(self.features).index_copy(
            0, self.features, torch.arange(len(self.features)).to(self.features)
        )  # fmt: skip
        self.a, self.b = place[self.first], place[self.second]
        self.directions = torch.nn.functional.normalize(one.W_dec[self.features].float(), dim=1)
        self.bias = one.b_dec.float() if hasattr(one, "b_dec") else torch.zeros(one.d_out)
        n, pairs = len(self.features), len(self.first)
        self.count = torch.zeros(n, dtype=torch.float64)
        self.reach = torch.zeros(n, dtype=torch.float64)  # sum along its direction where a feature is active
        self.alone = torch.zeros(2, pairs, dtype=torch.float64)  # tokens at which the second, or first, is alone
        self.alone_reach = torch.zeros(2, pairs, dtype=torch.float64)  # along the direction of the silent one

    def add(self, features: Tensor, y: Tensor) -> None:
        """Take in tokens: features [token, d_dict], and what is reconstructed [token, d_out]."""
        if not len(self.first):
            return
        active = features[:, self.features] > 0  # [token, n]
        along = (y - self.bias.to(y)) @ self.directions.to(y).T  # [token, n]
        self.count += active.sum(0).cpu()
        self.reach += (along * active).sum(0).double().cpu()
        for way, (silent, other) in enumerate(((self.a, self.b), (self.b, self.a))):
            alone = active[:, other] & ~active[:, silent]  # [token, pair]
            self.alone[way] += alone.sum(0).cpu()
            self.alone_reach[way] += (along[:, silent] * alone).sum(0).double().cpu()

    def found(self, n_tokens: int) -> list[Absorbed]:
        """The pairs that look like absorption, those of the most tokens first."""
        found: list[Absorbed] = []
        for way, (parent, child) in enumerate(((self.a, self.b), (self.b, self.a))):
            count, of = self.count[parent.cpu()], self.count[child.cpu()]
            silent = self.alone[way] / of.clamp(min=1)
            usual = 1 - count / n_tokens
            there = self.alone_reach[way] / self.alone[way].clamp(min=1)
            usually = self.reach[parent.cpu()] / count.clamp(min=1)
            reaches = there >= _NEARLY * usually
            looks = (of >= _ENOUGH) & (count > of) & (silent > 0.5) & (silent > usual) & reaches
            for pair in looks.nonzero().flatten().tolist():
                ends = int(self.features[parent[pair]]), int(self.features[child[pair]])
                found.append(Absorbed(*ends, float(self.cosine[pair]), float(silent[pair]), int(of[pair])))
        return sorted(found, key=lambda each: (-each.tokens * each.silent, each.parent, each.child))


def _near(directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of features [pair], [pair] whose directions are near, and their cosines: the nearest `_PAIRS` of them."""
    unit = torch.nn.functional.normalize(directions.detach().float(), dim=1)
    first, second, cosine = [], [], []
    for start in range(0, len(unit), _ROWS):
        all_of_them = unit[start : start + _ROWS] @ unit.T
        all_of_them = all_of_them.triu(start + 1)
        row, column = (all_of_them >= COSINE).nonzero(as_tuple=True)
        values = all_of_them[row, column]
        best = values.topk(min(_PAIRS, len(values))).indices
        first.append(row[best] + start)
        second.append(column[best])
        cosine.append(values[best])
    every = torch.cat(cosine)
    best = every.topk(min(_PAIRS, len(every))).indices
    return torch.cat(first)[best], torch.cat(second)[best], every[best]

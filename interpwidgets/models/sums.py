"""Which modules' outputs add up to a tensor."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interpwidgets.models.probe import Call

__all__ = ["Ruler", "Sum", "add_up", "same"]


@dataclass(frozen=True, eq=False)
class Sum:
    """Outputs of modules, each times its scale."""

    calls: tuple[Call, ...]
    scales: tuple[float, ...]

    def added_to(self, start: Tensor) -> Tensor:
        """What the stream is after these have been added, one by one, in the model's own precision."""
        for call, scale in zip(self.calls, self.scales, strict=True):
            assert call.out is not None
            out = call.out.reshape(start.shape)
            start = start + (out if scale == 1 else out * scale)
        return start


class Ruler:
    """Distances between streams. Where a stream is huge its rounding drowns what is added: such places count less."""

    def __init__(self, pre: Tensor, post: Tensor) -> None:
        eps = torch.finfo(pre.dtype).eps
        self.tolerance = max(1e-3, 4 * eps)  # of a relative error
        added = post.double() - pre.double()
        noise = eps * torch.maximum(pre.abs(), post.abs()).double()
        self._weight = 1 / (noise + 1e-3 * added.square().mean().sqrt() + 1e-30).reshape(-1)

    def of(self, stream: Tensor) -> Tensor:
        """The stream as this ruler sees it, flat."""
        return stream.double().reshape(-1) * self._weight

    def gap(self, a: Tensor, b: Tensor, start: Tensor) -> float:
        """How far two sums are from each other, relative to what was added to `start`."""
        size = float((self.of(b) - self.of(start)).norm())
        gap = float((self.of(a) - self.of(b)).norm())
        return gap / size if size > 0 else gap


def same(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether these are the same numbers, up to a change of shape."""
    return a is not None and b is not None and a.numel() == b.numel() and torch.equal(a.reshape(-1), b.reshape(-1))


def add_up(ruler: Ruler, start: Tensor, end: Tensor, calls: Sequence[Call], sizes: Sequence[int]) -> Sum | None:
    """The fewest calls whose outputs make `end` out of `start`: as they are if possible, else with fitted scales.

    Where several would do, the last ones: what others only pass on is changed by changing the last of them.
    """
    outputs = [call.out for call in calls if call.out is not None]
    goal = ruler.of(end) - ruler.of(start)
    size = float(goal.norm())
    if not outputs:
        return None
    if size == 0:
        zeros = [call for call in calls if call.out is not None and not call.out.any()]
        return Sum((zeros[-1],), (1.0,)) if zeros else None
    rows = torch.stack([ruler.of(output) for output in outputs]) / size
    gram, dots = rows @ rows.T, rows @ goal / size
    for fitted, number in itertools.product((False, True), sizes):
        if number > len(calls):
            continue
        chosen = torch.combinations(torch.arange(len(calls)), number)  # [choice, number]
        g, c = gram[chosen[:, :, None], chosen[:, None, :]], dots[chosen]
        scales = _fit(g, c) if fitted else torch.ones_like(c)
        squared = 1 - 2 * (scales * c).sum(-1) + torch.einsum("ni,nij,nj->n", scales, g, scales)
        errors = squared.clamp(min=0).sqrt()
        errors[~((scales > 0.01) & (scales < 100)).all(-1) | errors.isnan()] = torch.inf
        if len(errors) and float(errors.min()) < ruler.tolerance:
            best = int((errors <= errors.min() + 1e-6).nonzero().max())
            return Sum(tuple(calls[int(i)] for i in chosen[best]), tuple(_tidy(float(s)) for s in scales[best]))
    return None


def _fit(gram: Tensor, dots: Tensor) -> Tensor:
    """Least squares: the scales [choice, number] that bring a choice closest to the goal."""
    ridge = 1e-12 * torch.eye(gram.shape[-1], dtype=gram.dtype)
    scales: Tensor = torch.linalg.solve(gram + ridge, dots[..., None])[..., 0]
    return scales


def _tidy(scale: float) -> float:
    """A fitted scale without the noise of fitting it."""
    return float(f"{scale:.6g}")

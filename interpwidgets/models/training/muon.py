"""Muon: momentum whose direction is made orthogonal, for the weight matrices of a small transformer.

Gradient descent moves a matrix mostly along its few largest singular directions. Muon (Jordan et al. 2024) replaces
the step by the nearest matrix whose singular values are all about one, found by a Newton–Schulz iteration, so that
the small directions are learnt too. Everything stays in float32: these matrices are small, and on a CPU bfloat16 is
slower and less exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

__all__ = ["Muon", "orthogonalised"]

# p(s) = 3.4445 s − 4.7750 s³ + 2.0315 s⁵ takes any singular value in (0, 1] to about one in five rounds. The
# coefficients give up exactness at one (values end in 0.7 … 1.2) for speed near zero.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5


def orthogonalised(matrices: Tensor) -> Tensor:
    """Bring all singular values of each matrix [matrix, row, column] to about one, keeping its singular vectors."""
    a, b, c = _COEFFICIENTS
    x: Tensor = matrices / torch.linalg.matrix_norm(matrices, keepdim=True).clamp_min(1e-7)
    for _ in range(_ROUNDS):
        gram = x @ x.mT  # [matrix, row, row]
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class Muon:
    """Muon over square blocks, all of one size: a [d, 3d] matrix of q, k and v counts as three, for they are."""

    def __init__(self, weights: Iterable[Tensor], momentum: float = 0.95) -> None:
        self.weights = list(weights)
        self.momentum = momentum
        self.velocity = [torch.zeros_like(weight) for weight in self.weights]  # one per weight, same shape

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move every weight by `rate` along its orthogonalised Nesterov momentum."""
        directions = []
        for weight, velocity in zip(self.weights, self.velocity, strict=True):
            if weight.grad is None:
                raise RuntimeError("a weight has no gradient: call loss.backward() before step()")
            velocity.lerp_(weight.grad, 1 - self.momentum)
            directions.append(weight.grad.lerp(velocity, self.momentum))
        squares = [torch.stack(torch.split(d, min(d.shape), dim=_long(d))) for d in directions]  # [block, d, d] each
        moved = torch.split(orthogonalised(torch.cat(squares)), [len(square) for square in squares])
        for weight, blocks in zip(self.weights, moved, strict=True):
            weight.sub_(torch.cat(list(blocks), dim=_long(weight)), alpha=rate)


def _long(matrix: Tensor) -> int:
    return int(matrix.shape[0] <= matrix.shape[1])

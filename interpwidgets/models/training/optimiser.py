"""Move a model's weights on one schedule that knows steps and no clock, and keep the optimiser's state on disk."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from interpwidgets.models.training.muon import Muon

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["Optimiser"]


class Optimiser:
    """Muon for the matrices that `is_matrix` names, AdamW for every other weight that is trained.

    Both rates rise over `warm_up` steps and fall as a cosine to zero at `steps`; `floor` is the share that they keep.
    """

    def __init__(
        self,
        model: Any,
        steps: int,
        *,
        rate: float,
        matrix_rate: float = 0.0,
        is_matrix: Callable[[str, Tensor], bool] = lambda _name, _weight: False,
        warm_up: int = 0,
        floor: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
    ) -> None:
        trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.matrices = {name: weight for name, weight in trained.items() if is_matrix(name, weight)}
        self.others = {name: weight for name, weight in trained.items() if name not in self.matrices}
        self.rate, self.matrix_rate = rate, matrix_rate
        self.steps, self.warm_up, self.floor = steps, warm_up, floor
        self.muon = Muon(self.matrices.values())
        self.adam = torch.optim.AdamW(self.others.values(), lr=rate, betas=betas, weight_decay=weight_decay)

    def step(self, number: int) -> None:
        """Move every weight by its gradient, at the rates of step `number`."""
        fall = 0.5 * (1 + math.cos(math.pi * number / self.steps))
        share = min(1.0, (number + 1) / max(1, self.warm_up)) * (self.floor + (1 - self.floor) * fall)
        self.adam.param_groups[0]["lr"] = self.rate * share
        if self.matrices:
            self.muon.step(self.matrix_rate * share)
        self.adam.step()

    def state(self) -> dict[str, Tensor]:
        """Give everything that the next step depends on besides weights and gradients."""
        state = {f"muon.{n}": v for n, v in zip(self.matrices, self.muon.velocity, strict=True)}
        for name, weight in self.others.items():
            state |= {f"adam.{key}.{name}": value for key, value in self.adam.state[weight].items()}
        return state

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        for name, velocity in zip(self.matrices, self.muon.velocity, strict=True):
            velocity.copy_(state[f"muon.{name}"])
        for name, weight in self.others.items():
            keys = ("step", "exp_avg", "exp_avg_sq")
            kept = {key: state[f"adam.{key}.{name}"] for key in keys if f"adam.{key}.{name}" in state}
            if kept:  # before the first step there is none
                self.adam.state[weight] = kept

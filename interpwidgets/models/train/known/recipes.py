"""Say by which settings each known system is trained."""

from __future__ import annotations

from dataclasses import dataclass

from interpwidgets.models.train.known.siit import Recipe

__all__ = ["RECIPES", "BracketsRecipe", "FactsRecipe", "IOIRecipe"]


@dataclass(frozen=True)
class IOIRecipe(Recipe):
    """Of `ioi-known`."""

    steps: int = 2400
    first: int = 350
    silent: float = 0.7
    apart: bool = True
    matched: tuple[tuple[int, int], ...] = ((0, 1),)
    matrix_rate: float = 0.007
    other_rate: float = 0.002


@dataclass(frozen=True)
class FactsRecipe(Recipe):
    """Of `facts-known`."""

    steps: int = 3000
    first: int = 350
    width: int = 128
    silent: float = 0.5
    apart: bool = True
    matrix_rate: float = 0.004
    other_rate: float = 0.0015


@dataclass(frozen=True)
class BracketsRecipe(Recipe):
    """Of `brackets-known`."""

    steps: int = 800
    layers: int = 2
    first: int = 120


RECIPES: dict[str, type[Recipe]] = {
    "ioi-known": IOIRecipe,
    "facts-known": FactsRecipe,
    "brackets-known": BracketsRecipe,
}

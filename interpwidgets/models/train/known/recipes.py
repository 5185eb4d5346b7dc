"""Say by which settings each known system is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from interpwidgets.models.train.known.siit import Recipe

__all__ = ["RECIPES", "BracketsRecipe", "FactsRecipe", "IOIRecipe"]


@dataclass(frozen=True)
class IOIRecipe(Recipe):
    """Of `ioi-known`."""

    apart: ClassVar[bool] = True
    steps: int = 1000
    first: int = 150


@dataclass(frozen=True)
class FactsRecipe(Recipe):
    """Of `facts-known`."""

    apart: ClassVar[bool] = True
    steps: int = 1200


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

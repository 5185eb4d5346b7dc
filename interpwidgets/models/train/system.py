"""What there is to a model system: how it is made, what is measured on it, and how its card tells of it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interpwidgets.errors import InputError
from interpwidgets.models.load import SYSTEMS as SHIPPED
from interpwidgets.models.load import load

if TYPE_CHECKING:
    from interpwidgets.models.training.loop import Task
    from interpwidgets.models.training.runs import Run

__all__ = ["SYSTEMS", "System", "system"]


@dataclass(frozen=True)
class System:
    """A model system, trained by a recipe (`recipe`, `task`) or built without training (`build`)."""

    name: str
    measures: Mapping[str, str]
    """What `measure` gives, by name, each with a sentence that says what the number is."""
    measure: Callable[[Any, int], dict[str, float]]
    """Measures what `load` gave, on fresh prompts drawn from a number."""
    text: Callable[[dict[str, Any]], str]
    """Puts `card.json` into words."""
    recipe: type | None = None
    """A frozen dataclass with at least `seed` and `steps`, each with a default."""
    task: Callable[[Any], Task] | None = None
    """A recipe at work."""
    build: Callable[[Path], None] | None = None
    """Writes the weights, config and tokenizer of a system that is not trained."""
    assemble: Callable[[Run, Path], None] | None = None
    """Writes the folder of a finished run as it is shipped, where that is more than its last checkpoint."""
    load: Callable[[Path], Any] = field(default=load)
    """Reads from a folder what `measure` measures."""
    more: Callable[[dict[str, Path], dict[str, Run], str], dict[str, Any]] = field(default=lambda *_: {})
    """More of `card.json`, from each seed's folder (as it would be shipped), each seed's run, and the seed shipped."""
    checkpoints: Callable[[list[dict[str, Any]]], list[int]] = field(default=lambda _: [])
    """Which steps of a run's log are shipped beside the last one."""
    samples: int = 24
    """How many samples the spread of a measure is taken from."""

    @property
    def folder(self) -> Path:
        """Where the system is shipped."""
        return SHIPPED / self.name


SYSTEMS: dict[str, str] = {
    "induction-2l": "cards.induction",
    "storyteller-4l": "cards.storyteller",
    "storyteller-4l-sae": "cards.dictionaries",
    **dict.fromkeys(
        [f"compiled-{name}" for name in ("frequency", "induction", "parentheses", "reverse", "sort")], "compiled"
    ),
    "ioi-known": "known.cards",
    "facts-known": "known.cards",
    "brackets-known": "known.cards",
    "grok-add": "cards.grokking",
    "toy-superposition": "cards.superposition",
}
"""The module of `interpwidgets.models.train` whose `SYSTEM`, or `SYSTEMS[name]`, describes it, by name."""


def system(name: str) -> System:
    """Find a system by its name."""
    if name not in SYSTEMS:
        raise InputError(f"There is no recipe for {name!r}; there are {', '.join(SYSTEMS)}.")
    home = importlib.import_module(f"interpwidgets.models.train.{SYSTEMS[name]}")
    found: System = home.SYSTEMS[name] if hasattr(home, "SYSTEMS") else home.SYSTEM
    return found

"""Kinds of settings that several views have."""

from __future__ import annotations

from typing import Any

import traitlets

__all__ = ["Range"]


class Range(traitlets.List):  # type: ignore[type-arg]
    """[low, high], low below high; or empty, which is for the view to choose."""

    def __init__(self) -> None:
        super().__init__(traitlets.Float(), help="[low, high]; empty: automatic")
        self.tag(sync=True)

    def validate(self, obj: Any, value: Any) -> list[float]:
        """The range, if it is one."""
        found: list[float] = super().validate(obj, value) or []
        if found and not (len(found) == 2 and found[0] < found[1]):
            raise traitlets.TraitError(f"{self.name} must be [low, high], low below high, or empty; got {list(found)}.")
        return found

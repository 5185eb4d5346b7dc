"""Pieces of text: what a labeler is asked about, and what it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from interpwidgets.tokens import Tokens

__all__ = ["Snippet", "Text", "mark"]


@dataclass(frozen=True, eq=False)
class Text:
    """Some tokens in a row, without what any feature does there: all that a prediction may see."""

    tokens: Tokens
    start: int = 0  # where they start in their context; 0: at its first token

    @cached_property
    def words(self) -> list[str]:
        """The tokens as shown."""
        return list(self.tokens)

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"<Text: {' '.join(self.words)}>"


@dataclass(frozen=True, eq=False)
class Snippet:
    """A text, and how active a feature is at each of its tokens."""

    text: Text
    activations: NDArray[np.float32]  # [pos]
    context: int  # that it is from
    kind: str = "active"  # or why it is there: "random", "hard"

    @property
    def active(self) -> NDArray[np.bool_]:
        """Where the feature is active: [pos]."""
        found: NDArray[np.bool_] = self.activations > 0
        return found

    @property
    def positive(self) -> bool:
        """Whether it is active anywhere."""
        return bool(self.active.any())

    def marked(self, where: NDArray[np.bool_] | None = None, left: str = "«", right: str = "»") -> str:
        """The text in one line, with some tokens marked; those at which the feature is active unless others are."""
        where = self.active if where is None else where
        return mark(self.text, where, left, right)

    def __repr__(self) -> str:
        return f"<Snippet, {self.kind}, of context {self.context}: {self.marked()}>"


def mark(text: Text, where: NDArray[np.bool_], left: str = "«", right: str = "»") -> str:
    """A text in one line, with some tokens marked."""
    return " ".join(f"{left}{word}{right}" if on else word for word, on in zip(text.words, where, strict=True))

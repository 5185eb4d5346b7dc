"""What a labeler is: something that says what a feature is, and says where what was said would be active."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from interpwidgets.autointerp.texts import Snippet, Text

__all__ = ["Judge", "Labeler", "judged"]

Floats = NDArray[np.float64]
Where = NDArray[np.bool_]


@runtime_checkable
class Labeler(Protocol):
    """Makes labels of examples, and predictions of labels.

    `name` is kept with every label. A prediction is made from a label and a text alone: it never sees activations.
    """

    name: str

    def label(self, examples: Sequence[Snippet]) -> list[str]:
        """Say what a feature may be, the best first; nothing if there is nothing to say."""
        ...

    def predict(self, label: str, texts: Sequence[Text]) -> list[Floats]:
        """How likely a feature of this label is active at each token, from 0 to 1: [pos] for each text."""
        ...


@runtime_checkable
class Judge(Protocol):
    """A labeler that can be asked about a whole text, which takes a language model fewer words."""

    def judge(self, label: str, texts: Sequence[Text], marks: Sequence[Where] | None = None) -> Floats:
        """How likely each text activates the feature; with marks [pos], how likely these are the active tokens."""
        ...


def judged(labeler: Labeler, label: str, texts: Sequence[Text], marks: Sequence[Where] | None = None) -> Floats:
    """What a labeler says of whole texts; if it says only something of tokens, the most of it, or the mean of marks."""
    if isinstance(labeler, Judge):
        return np.asarray(labeler.judge(label, texts, marks), dtype=np.float64)
    rows = labeler.predict(label, texts)
    if marks is None:
        return np.array([row.max(initial=0.0) for row in rows], dtype=np.float64)
    return np.array([row[where].mean() if where.any() else 0.0 for row, where in zip(rows, marks, strict=True)])

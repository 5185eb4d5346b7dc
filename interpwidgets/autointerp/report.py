"""Labels of many features with what they are worth, and controls in the same table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from interpwidgets.autointerp.kinds import Kinds
from interpwidgets.autointerp.markdown import escaped, table
from interpwidgets.autointerp.scores import SCORES
from interpwidgets.models.scorecard import Score
from interpwidgets.stats import interval

__all__ = ["Labelled", "Report"]

_HEADS = {
    "detection": "detection",
    "detection_auc": "AUC",
    "fuzzing": "fuzzing",
    "fuzzing_auc": "AUC",
    "correlation": "simulation",
    "explained_variance": "explained",
}
_FALSE = 0.05  # the share of those called two that may be wrong


@dataclass(frozen=True)
class Labelled:
    """A feature's label, and what it is worth."""

    feature: int
    label: str
    scores: dict[str, Score]
    kinds: Kinds | None = None

    def __repr__(self) -> str:
        return f"<Feature {self.feature}: {self.label!r}; {self.scores['detection']}>"


@dataclass(frozen=True)
class Report:
    """What `store.label` found. `features` and every control hold the same scores; `missing` says what has no label.

    In the table, a score is the mean over features with its interval, and *above* the share of the features whose
    detection is above that of 95 % of the control's.
    """

    by: str
    features: list[Labelled]
    controls: dict[str, list[Labelled]] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)
    stopped: str = ""  # why it ended early, if it did

    @property
    def two(self) -> list[int]:
        """Features that are two things: of those, 5 % may be wrong (Benjamini and Hochberg 1995)."""
        tested = sorted((each.kinds.p, each.feature) for each in self.features if each.kinds and each.kinds.n)
        bound = max((p for rank, (p, _) in enumerate(tested, 1) if p <= _FALSE * rank / len(tested)), default=0.0)
        return sorted(f.feature for f in self.features if f.kinds and f.kinds.p <= bound and f.kinds.low > 0)

    def mean(self, score: str, control: str | None = None) -> tuple[float, float, float]:
        """The mean of a score over the features, or those of a control, and its interval."""
        values = _values(self.features if control is None else self.controls[control], score)
        if not len(values):
            return math.nan, math.nan, math.nan
        low, high = interval(values)
        return float(values.mean()), float(low), float(high)

    def above(self, control: str) -> float:
        """The share of features whose detection is above that of 95 % of a control's."""
        ours, theirs = (_values(some, "detection") for some in (self.features, self.controls[control]))
        return float((ours > np.quantile(theirs, 0.95)).mean()) if len(ours) and len(theirs) else math.nan

    def rows(self) -> list[list[str]]:
        """The table: a row of heads, one of chance, one of the features, and one for each control."""
        heads = ["", "n", *_HEADS.values(), "above"]
        chance = ["chance", "", *(f"{SCORES[name]:g}" for name in _HEADS), ""]
        found = [heads, chance]
        for control in (None, *self.controls):
            some = self.features if control is None else self.controls[control]
            cells = [_cell(*self.mean(name, control)) for name in _HEADS]
            above = "" if control is None else f"{self.above(control):.0%}" if some else "–"
            found.append([control or "features", str(len(_values(some, "detection"))), *cells, above])
        return found

    def _said(self) -> list[str]:
        """What stands below the table."""
        said = [f"Labels by {self.by}: {len(self.features):,}. Scores are of text that no label was made from."]
        if any(each.kinds for each in self.features):
            said.append(f"Two kinds of examples: {', '.join(map(str, self.two)) or 'no feature'}.")
        if self.missing:
            some = "; ".join(f"{index}: {why}" for index, why in list(self.missing.items())[:3])
            said.append(f"Without a label or a score: {len(self.missing):,} ({some}{'; …' * (len(self.missing) > 3)}).")
        return [*said, *([f"Stopped early: {self.stopped}"] if self.stopped else [])]

    def __repr__(self) -> str:
        rows = self.rows()
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, *self._said()])

    def _repr_markdown_(self) -> str:
        return f"{table(self.rows())}\n\n" + "\n\n".join(escaped(line) for line in self._said())


def _values(some: Sequence[Labelled], score: str) -> NDArray[np.float64]:
    values = np.array([each.scores[score].value for each in some], dtype=np.float64)
    return values[np.isfinite(values)]


def _cell(mean: float, low: float, high: float) -> str:
    if math.isnan(mean):
        return "–"
    return f"{mean:.2f}" if math.isnan(low) else f"{mean:.2f} [{low:.2f}, {high:.2f}]"

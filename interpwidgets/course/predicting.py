"""Predictions: given before the result is shown, settled at the module's end."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from interpwidgets.course.library import lesson
from interpwidgets.course.progress import standing, standings
from interpwidgets.course.questions import Confident
from interpwidgets.course.verdict import Verdict

__all__ = ["Predictions", "predictions"]

LEFT = "text-align: left; vertical-align: top; max-width: 34em"


@dataclass(frozen=True, repr=False)
class Predictions:
    """What was predicted, and what came of it."""

    rows: tuple[tuple[str, Verdict | None], ...]  # what was said, and the verdict; None: no prediction was given

    @property
    def score(self) -> float | None:
        """The mean Brier score; None without predictions."""
        scores = [verdict.score for _, verdict in self.rows if verdict is not None and verdict.score is not None]
        return sum(scores) / len(scores) if scores else None

    def __repr__(self) -> str:
        lines = [f"{said}\n  {'' if verdict is None else verdict.said}".rstrip() for said, verdict in self.rows]
        if self.score is not None:
            lines.append(f"Mean Brier score {self.score:.2f}; always saying “50 % sure” gives 0.25.")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr>{_cell(said)}{_cell('–' if verdict is None else verdict.said)}</tr>" for said, verdict in self.rows
        )
        mean = (
            "" if self.score is None else f"<p>Mean Brier score {self.score:.2f}; “50 % sure” each time gives 0.25.</p>"
        )
        head = "".join(f'<th style="{LEFT}">{text}</th>' for text in ("what you predicted", "what came of it"))
        return f"<table><tr>{head}</tr>{rows}</table>{mean}"


def predictions(module: str) -> Predictions:
    """What you predicted in a module, beside what came of it."""
    known = standings()
    rows: list[tuple[str, Verdict | None]] = []
    for each in lesson(module).exercises:
        if not isinstance(each, Confident) or not each.later:
            continue
        now = standing(each, known)
        if now.confidence is None:
            rows.append((f"{each.title} – No prediction was given.", None))
            continue
        said = f"{each.title} – You said {now.answer}, {100 * now.confidence:.0f} % sure."
        rows.append((said, each.settled(now.answer, now.confidence)))
    return Predictions(tuple(rows))


def _cell(text: str) -> str:
    return f'<td style="{LEFT}">{escape(text)}</td>'
